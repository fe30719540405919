//! Values as selectors know them: how they compare, add up, and look as text.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::{self, Write};

use openwire_client::wire::ValueRef;

use super::EvaluationError;

/// A value of a message, or one that was computed from it, with its Java type.
#[derive(Debug, Clone, Default)]
pub enum Operand<'a> {
    /// Java's null: nothing is known.
    #[default]
    Null,
    /// `Boolean`.
    Bool(bool),
    /// `Byte`.
    Byte(i8),
    /// `Short`.
    Short(i16),
    /// `Integer`.
    Int(i32),
    /// `Long`.
    Long(i64),
    /// `Float`.
    Float(f32),
    /// `Double`.
    Double(f64),
    /// `Character`: one UTF-16 unit.
    Char(u16),
    /// `String`.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Self>),
    /// A map or bytes: there, but good for nothing else. What it holds is only compared.
    Opaque(&'a [u8]),
}

impl<'a> From<ValueRef<'a>> for Operand<'a> {
    /// Lists become opaque: only [`Properties`](super::Properties) can read one.
    fn from(value: ValueRef<'a>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Bool(value) => Self::Bool(value),
            ValueRef::Byte(value) => Self::Byte(value),
            ValueRef::Char(value) => Self::Char(value),
            ValueRef::Short(value) => Self::Short(value),
            ValueRef::Int(value) => Self::Int(value),
            ValueRef::Long(value) => Self::Long(value),
            ValueRef::Double(value) => Self::Double(value),
            ValueRef::Float(value) => Self::Float(value),
            ValueRef::String(value) => Self::Text(value),
            ValueRef::Other(tagged) => Self::Opaque(tagged),
        }
    }
}

impl<'a> From<&'a str> for Operand<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

/// Text longer than this is not built: a selector could multiply what a message holds.
pub(super) const MAX_TEXT: usize = 1024 * 1024;

/// What arithmetic is done in.
#[derive(Debug, Clone, Copy)]
enum Number {
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
}

impl Number {
    fn to_long(self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(value.into()),
            Self::Long(value) => Some(value),
            Self::Float(_) | Self::Double(_) => None,
        }
    }

    fn to_float(self) -> f32 {
        match self {
            Self::Int(value) => value as f32,
            Self::Long(value) => value as f32,
            Self::Float(value) => value,
            Self::Double(value) => value as f32,
        }
    }

    fn to_double(self) -> f64 {
        match self {
            Self::Int(value) => value.into(),
            Self::Long(value) => value as f64,
            Self::Float(value) => value.into(),
            Self::Double(value) => value,
        }
    }

    /// Compares in the wider of both types. ActiveMQ knows only some of the pairs, depending on which stands
    /// left; here all are known.
    fn order(self, other: Self) -> Ordering {
        if let (Some(left), Some(right)) = (self.to_long(), other.to_long()) {
            return left.cmp(&right);
        }
        if matches!(self, Self::Double(_)) || matches!(other, Self::Double(_)) {
            return java_order(self.to_double(), other.to_double());
        }
        java_order(self.to_float().into(), other.to_float().into())
    }
}

/// `Double.compare`: -0 is less than 0, NaN is equal to itself and greater than all.
fn java_order(left: f64, right: f64) -> Ordering {
    if left.is_nan() || right.is_nan() {
        return left.is_nan().cmp(&right.is_nan());
    }
    left.total_cmp(&right)
}

/// The arithmetic operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Plus,
    Minus,
    Times,
    Divide,
    Remainder,
}

impl<'a> Operand<'a> {
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    fn number(&self) -> Option<Number> {
        Some(match self {
            Self::Byte(value) => Number::Int((*value).into()),
            Self::Short(value) => Number::Int((*value).into()),
            Self::Int(value) => Number::Int(*value),
            Self::Long(value) => Number::Long(*value),
            Self::Float(value) => Number::Float(*value),
            Self::Double(value) => Number::Double(*value),
            _ => return None,
        })
    }

    /// True if both are of the same type and equal (`Object.equals`).
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(left), Self::List(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left.is_same(right))
            }
            (Self::Opaque(left), Self::Opaque(right)) => left == right,
            (Self::Text(left), Self::Text(right)) => left == right,
            (Self::Null, Self::Null) => true,
            _ => {
                std::mem::discriminant(self) == std::mem::discriminant(other)
                    && self.order(other, false) == Some(Ordering::Equal)
            }
        }
    }

    /// How both compare; none if they do not. `convert` makes a text a number or a boolean where the other
    /// side is one.
    pub(super) fn order(&self, other: &Self, convert: bool) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => Some(left.encode_utf16().cmp(right.encode_utf16())),
            (Self::Bool(left), Self::Bool(right)) => Some(left.cmp(right)),
            (Self::Char(left), Self::Char(right)) => Some(left.cmp(right)),
            (Self::Text(left), right) if convert => right.like(left)?.order(right, false),
            (left, Self::Text(right)) if convert => left.order(&left.like(right)?, false),
            (left, right) => Some(left.number()?.order(right.number()?)),
        }
    }

    /// The text as a value of this value's type, as Java's `valueOf` reads it.
    fn like(&self, text: &str) -> Option<Operand<'static>> {
        Some(match self {
            Self::Bool(_) => Operand::Bool(text.eq_ignore_ascii_case("true")),
            Self::Byte(_) => Operand::Byte(text.parse().ok()?),
            Self::Short(_) => Operand::Short(text.parse().ok()?),
            Self::Int(_) => Operand::Int(text.parse().ok()?),
            Self::Long(_) => Operand::Long(text.parse().ok()?),
            Self::Float(_) => Operand::Float(java_float(text)?.parse().ok()?),
            Self::Double(_) => Operand::Double(java_float(text)?.parse().ok()?),
            _ => return None,
        })
    }

    pub(super) fn negate(self) -> Result<Self, EvaluationError> {
        Ok(match self {
            Self::Int(value) => Self::Int(value.wrapping_neg()),
            Self::Long(value) => Self::Long(value.wrapping_neg()),
            Self::Float(value) => Self::Float(-value),
            Self::Double(value) => Self::Double(-value),
            Self::Byte(_) | Self::Short(_) => {
                return Err(EvaluationError::Operand("a Byte or a Short has no negative"));
            }
            _ => Self::Null,
        })
    }

    /// Neither side is null.
    pub(super) fn combine(self, operator: Arithmetic, other: &Self) -> Result<Self, EvaluationError> {
        if operator == Arithmetic::Plus
            && let Self::Text(mut text) = self
        {
            write!(Bounded(text.to_mut()), "{other}").map_err(|_| EvaluationError::TooMuch)?;
            return Ok(Self::Text(text));
        }
        let (Some(left), Some(right)) = (self.number(), other.number()) else {
            return Err(EvaluationError::Operand("arithmetic on what is not a number"));
        };
        Ok(match (left, right, operator) {
            (_, _, Arithmetic::Divide) => Self::Double(left.to_double() / right.to_double()),
            (_, _, Arithmetic::Remainder) => Self::Double(left.to_double() % right.to_double()),
            (Number::Int(left), Number::Int(right), _) => Self::Int(match operator {
                Arithmetic::Plus => left.wrapping_add(right),
                Arithmetic::Minus => left.wrapping_sub(right),
                _ => left.wrapping_mul(right),
            }),
            _ => match (left.to_long(), right.to_long()) {
                (Some(left), Some(right)) => Self::Long(match operator {
                    Arithmetic::Plus => left.wrapping_add(right),
                    Arithmetic::Minus => left.wrapping_sub(right),
                    _ => left.wrapping_mul(right),
                }),
                _ => {
                    let (left, right) = (left.to_double(), right.to_double());
                    Self::Double(match operator {
                        Arithmetic::Plus => left + right,
                        Arithmetic::Minus => left - right,
                        _ => left * right,
                    })
                }
            },
        })
    }
}

/// What Java's `Float.valueOf` and `Double.valueOf` take, in a form that `parse` takes. Hexadecimal forms are
/// left out.
fn java_float(text: &str) -> Option<&str> {
    let text = text.trim_matches(|c| c <= ' ');
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(bare, "NaN" | "Infinity") {
        return Some(text);
    }
    bare.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        .then(|| text.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(text))
}

/// Takes text up to the limit.
pub(super) struct Bounded<'a>(pub(super) &'a mut String);

impl Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_TEXT {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// As Java's `Double.toString` and `Float.toString` show a number.
fn java_text(
    f: &mut fmt::Formatter<'_>,
    size: f64,
    value: &(impl fmt::Display + fmt::LowerExp),
) -> fmt::Result {
    if size.is_nan() {
        return f.write_str("NaN");
    }
    if size.is_infinite() {
        return f.write_str(if size > 0.0 { "Infinity" } else { "-Infinity" });
    }
    if size == 0.0 || (1e-3..1e7).contains(&size.abs()) {
        let point = if size.fract() == 0.0 { ".0" } else { "" };
        return write!(f, "{value}{point}");
    }
    let text = format!("{value:e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    let point = if digits.contains('.') { "" } else { ".0" };
    write!(f, "{digits}{point}E{power}")
}

/// As Java's `toString` shows the value.
impl fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Byte(value) => value.fmt(f),
            Self::Short(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Long(value) => value.fmt(f),
            Self::Float(value) => java_text(f, (*value).into(), value),
            Self::Double(value) => java_text(f, *value, value),
            Self::Char(unit) => {
                f.write_char(char::from_u32((*unit).into()).unwrap_or(char::REPLACEMENT_CHARACTER))
            }
            Self::Text(text) => f.write_str(text),
            Self::List(list) => {
                f.write_char('[')?;
                for (at, item) in list.iter().enumerate() {
                    if at > 0 {
                        f.write_str(", ")?;
                    }
                    item.fmt(f)?;
                }
                f.write_char(']')
            }
            Self::Opaque(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_as_in_java() {
        for (value, text) in [
            (Operand::Double(5.0), "5.0"),
            (Operand::Double(-0.0), "-0.0"),
            (Operand::Double(0.001), "0.001"),
            (Operand::Double(0.000_15), "1.5E-4"),
            (Operand::Double(9_999_999.0), "9999999.0"),
            (Operand::Double(1e7), "1.0E7"),
            (Operand::Double(-1.25e300), "-1.25E300"),
            (Operand::Double(f64::NEG_INFINITY), "-Infinity"),
            (Operand::Float(0.1), "0.1"),
            (Operand::Float(3.4e38), "3.4E38"),
            (Operand::Float(f32::NAN), "NaN"),
            (Operand::List(vec!["a".into(), Operand::Null]), "[a, null]"),
        ] {
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn numbers_of_any_two_types_compare() {
        let fives = [
            Operand::Byte(5),
            Operand::Short(5),
            Operand::Int(5),
            Operand::Long(5),
            Operand::Float(5.0),
            Operand::Double(5.0),
        ];
        for left in &fives {
            for right in &fives {
                assert_eq!(
                    left.order(right, false),
                    Some(Ordering::Equal),
                    "{left:?} {right:?}"
                );
            }
            assert_eq!(
                left.order(&Operand::Double(f64::NAN), false),
                Some(Ordering::Less)
            );
            assert_eq!(left.order(&"5".into(), false), None);
            assert_eq!(left.order(&"5".into(), true), Some(Ordering::Equal));
            assert_eq!(Operand::from("6").order(left, true), Some(Ordering::Greater));
            assert_eq!(left.order(&"five".into(), true), None);
        }
        // Widened, a Float is what it is, not what was written.
        assert_eq!(
            Operand::Float(0.1).order(&Operand::Double(0.1), false),
            Some(Ordering::Greater)
        );
        assert_eq!(
            Operand::Double(0.0).order(&Operand::Double(-0.0), false),
            Some(Ordering::Greater)
        );
    }

    #[test]
    fn texts_become_numbers_as_in_java() {
        let double = |text: &str| Operand::Double(0.0).like(text).map(|value| value.to_string());
        assert_eq!(double(" 1.5f "), Some("1.5".into()));
        assert_eq!(double("-Infinity"), Some("-Infinity".into()));
        assert_eq!(double("inf"), None);
        assert_eq!(double("nan"), None);
        assert_eq!(double(""), None);
        assert_eq!(Operand::Int(0).like(" 5").map(|value| value.to_string()), None);
    }

    #[test]
    fn a_text_does_not_grow_past_the_limit() {
        let long = "x".repeat(MAX_TEXT);
        let sum = Operand::from(&*long).combine(Arithmetic::Plus, &Operand::Int(1));
        assert!(matches!(sum, Err(EvaluationError::TooMuch)));
    }
}
