//! Floating-point numbers as Java writes and reads them.

use std::fmt::LowerExp;
use std::str::FromStr;

/// `Double.toString`.
pub(super) fn double_text(value: f64) -> String {
    special(value).map_or_else(|| plain_or_scientific(value), Into::into)
}

/// `Float.toString`.
pub(super) fn float_text(value: f32) -> String {
    special(value.into()).map_or_else(|| plain_or_scientific(value), Into::into)
}

fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value == f64::INFINITY {
        Some("Infinity")
    } else if value == f64::NEG_INFINITY {
        Some("-Infinity")
    } else {
        None
    }
}

/// The shortest digits that read back as the same number, but two at least: plain from 10^-3 up to 10^7,
/// with an exponent elsewhere.
fn plain_or_scientific<T: Copy + LowerExp + FromStr + PartialEq>(value: T) -> String {
    let mut text = format!("{value:e}");
    if !text.contains('.') {
        // Where one digit would do, Java takes the two that are nearest (4.9E-324, not 5.0E-324).
        let two = format!("{value:.1e}");
        if two.parse().is_ok_and(|read: T| read == value) {
            text = two;
        }
    }
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => ("-", text),
        None => ("", &*text),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    match exponent.parse::<i32>().unwrap_or_default() {
        0 => format!("{sign}{whole}.{fraction}"),
        exponent @ 1..7 => {
            let point = exponent.unsigned_abs() as usize;
            let fraction = format!("{fraction:0<point$}");
            let (moved, rest) = fraction.split_at(point);
            format!(
                "{sign}{whole}{moved}.{}",
                if rest.is_empty() { "0" } else { rest }
            )
        }
        exponent @ -3..0 => {
            let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
            let digits = format!("{whole}{fraction}");
            let digits = digits.trim_end_matches('0');
            format!("{sign}0.{zeros}{}", if digits.is_empty() { "0" } else { digits })
        }
        exponent => format!("{sign}{whole}.{fraction}E{exponent}"),
    }
}

/// `Double.valueOf` and `Float.valueOf`, but for hexadecimal numbers.
pub(super) fn parse_float<T: FromStr>(text: &str) -> Option<T> {
    // Java's `String.trim`: everything up to the blank.
    let text = text.trim_matches(|c| c <= ' ');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned {
        "NaN" | "Infinity" => text.parse().ok(),
        // Rust's own words for these must not pass.
        _ if unsigned.starts_with(|c: char| c == '.' || c.is_ascii_digit()) => text
            .strip_suffix(['f', 'F', 'd', 'D'])
            .unwrap_or(text)
            .parse()
            .ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Java 17 prints.
    #[test]
    fn numbers_read_as_java_prints_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (100.0, "100.0"),
            (123456.7, "123456.7"),
            (9999999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (12345678.9, "1.23456789E7"),
            (1e10, "1.0E10"),
            (0.001, "0.001"),
            (0.00999, "0.00999"),
            (0.1, "0.1"),
            (0.000999, "9.99E-4"),
            (1e-300, "1.0E-300"),
            (1e300, "1.0E300"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
            (5e-324, "4.9E-324"),
            (1e-323, "9.9E-324"),
            (1.0 / 3.0, "0.3333333333333333"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double_text(value), text);
        }
    }
}
