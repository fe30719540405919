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
    // Of the decimals of that length Java takes the nearest, the even one of two; and where one digit would
    // do, the nearest of two digits (4.9E-324, not 5.0E-324).
    let fraction_digits = text
        .split('e')
        .next()
        .and_then(|mantissa| mantissa.split_once('.'));
    let precision = fraction_digits.map_or(1, |(_, digits)| digits.len());
    let nearest = format!("{value:.precision$e}");
    if nearest.parse().is_ok_and(|read: T| read == value) {
        text = nearest;
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

    /// What `Double.toString` gives.
    #[test]
    fn doubles_read_as_java_prints_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (100.0, "100.0"),
            (10.5, "10.5"),
            (123456.7, "123456.7"),
            (1234567.0, "1234567.0"),
            (9999999.0, "9999999.0"),
            (9999999.999999998, "9999999.999999998"),
            (1e7, "1.0E7"),
            (12345678.9, "1.23456789E7"),
            (1e10, "1.0E10"),
            (0.001, "0.001"),
            (0.00999, "0.00999"),
            (0.05, "0.05"),
            (0.1, "0.1"),
            (0.000999, "9.99E-4"),
            (0.0009999999999999998, "9.999999999999998E-4"),
            (1e-300, "1.0E-300"),
            (1e300, "1.0E300"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
            (f64::from_bits(1), "4.9E-324"),
            (f64::from_bits(3), "1.5E-323"),
            (1.0 / 3.0, "0.3333333333333333"),
            // Half-way between two of 16 digits: the even one.
            (f64::from_bits(0x4307_B408_4396_3382), "8.339840063750242E14"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double_text(value), text);
        }
    }

    /// What `Float.toString` gives; before Java 19 it had a digit too many in some, as in the smallest normal one.
    #[test]
    fn floats_read_as_java_prints_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (0.001, "0.001"),
            (9814.978, "9814.978"),
            (16777216.0, "1.6777216E7"),
            (f32::MAX, "3.4028235E38"),
            (f32::MIN_POSITIVE, "1.1754944E-38"),
            (f32::from_bits(1), "1.4E-45"),
            (f32::NAN, "NaN"),
            (f32::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(float_text(value), text);
        }
    }

    /// What `Double.valueOf` reads and refuses, but for hexadecimal numbers.
    #[test]
    fn texts_read_as_java_reads_them() {
        for (text, value) in [
            ("1", 1.0),
            ("+1", 1.0),
            (" 1", 1.0),
            ("1\0", 1.0),
            ("1.", 1.0),
            ("  .5\t", 0.5),
            ("+.5", 0.5),
            ("-1.d", -1.0),
            ("1E+5", 1e5),
            ("1e5f", 1e5),
            ("2D", 2.0),
            ("00012", 12.0),
            ("Infinity", f64::INFINITY),
            ("+Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e400", f64::INFINITY),
            ("1e-400", 0.0),
        ] {
            assert_eq!(parse_float(text), Some(value), "{text:?}");
        }
        for text in ["NaN", "+NaN", "-NaN", " NaN "] {
            assert!(parse_float(text).is_some_and(f64::is_nan), "{text:?}");
        }
        for text in [
            "", "+", "-", "--1", ".", "1e", "e5", "1e+", "1e5.5", "1..2", "1fd", "1,5", "1_000", "1L", "nan",
            "inf", "infinity", "INFINITY", "+inf", "0x10", "\u{a0}1", "true", "f", "\u{661}",
        ] {
            assert_eq!(parse_float::<f64>(text), None, "{text:?}");
        }
        assert_eq!(parse_float::<f32>("3.4028236e38"), Some(f32::INFINITY));
        assert_eq!(parse_float::<f32>("2147483648"), Some(2147483648.0));
    }
}
