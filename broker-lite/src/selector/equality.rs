//! What a selector asks a field to be, at least: by that, consumers of one queue that wait for an answer each are
//! found without asking all of them.

use std::borrow::Cow;

use super::expression::{Condition, Field, Value};
use super::{Operand, Properties, Selector};

/// A field, and the values of which it has one in every message that the selector selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Equality {
    pub(crate) field: Field,
    /// At least one.
    pub(crate) values: Vec<Constant>,
}

/// A value that stands in a selector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Constant {
    Text(Box<str>),
    Whole(i64),
}

/// What a field of a message is, as far as constants can tell.
#[derive(Debug, PartialEq)]
pub(crate) enum Given<'a> {
    Text(Cow<'a, str>),
    Whole(i64),
    /// It equals no constant.
    Nothing,
    /// It may equal any.
    Unclear,
}

/// Whole numbers up to this are exact as a `double`.
const EXACT_DOUBLE: u64 = 1 << 53;

/// Whole numbers below this are exact as a `float`, in which a `float` is compared with a whole number; this one is what
/// the next is taken for.
const EXACT_FLOAT: f32 = 16_777_216.0;

impl Selector {
    /// What it asks of single fields, all of which has to hold. Not all that it asks.
    pub(crate) fn equalities(&self) -> Vec<Equality> {
        // There a text equals a number.
        if self.convert {
            return Vec::new();
        }
        match &self.condition {
            Condition::And(parts) => parts.iter().filter_map(equality).collect(),
            one => equality(one).into_iter().collect(),
        }
    }
}

fn equality(condition: &Condition) -> Option<Equality> {
    match condition {
        Condition::Equal(sides) => {
            let ((Value::Field(field), value) | (value, Value::Field(field))) = &**sides else {
                return None;
            };
            Some(Equality {
                field: field.clone(),
                values: vec![constant(value)?],
            })
        }
        Condition::In {
            negated: false,
            field,
            list,
        } => Some(Equality {
            field: field.clone(),
            values: list.iter().cloned().map(Constant::Text).collect(),
        }),
        _ => None,
    }
}

fn constant(value: &Value) -> Option<Constant> {
    let whole = match value {
        Value::Text(text) => return Some(Constant::Text(text.clone())),
        Value::Int(value) => i64::from(*value),
        Value::Long(value) => *value,
        _ => return None,
    };
    (whole.unsigned_abs() <= EXACT_DOUBLE).then_some(Constant::Whole(whole))
}

impl Field {
    /// What this field of a message is.
    pub(crate) fn given<'a>(&'a self, message: &'a impl Properties) -> Given<'a> {
        let value = match self {
            Self::Header(header) => message.header(*header),
            Self::Property(name) => message.property(name),
        };
        match value {
            // A selector that fails does not select.
            Err(_) | Ok(Operand::Null) => Given::Nothing,
            Ok(Operand::Text(text)) => Given::Text(text),
            Ok(Operand::Byte(value)) => Given::Whole(value.into()),
            Ok(Operand::Short(value)) => Given::Whole(value.into()),
            Ok(Operand::Int(value)) => Given::Whole(value.into()),
            Ok(Operand::Long(value)) => Given::Whole(value),
            Ok(Operand::Double(value)) => match value.fract() == 0.0 && value.abs() <= EXACT_DOUBLE as f64 {
                true => Given::Whole(value as i64),
                false => Given::Nothing,
            },
            Ok(Operand::Float(value)) if value.abs() < EXACT_FLOAT => match value.fract() == 0.0 {
                true => Given::Whole(value as i64),
                false => Given::Nothing,
            },
            Ok(_) => Given::Unclear,
        }
    }
}

#[cfg(test)]
mod tests {
    use openwire_client::wire::{Message, Value as V, ValueMap, encode_map};

    use super::*;

    fn equalities(selector: &str) -> Vec<Equality> {
        Selector::parse(selector).expect("a selector").equalities()
    }

    fn message(properties: &[(&str, V)]) -> Message {
        let map: ValueMap = properties
            .iter()
            .map(|(name, value)| (*name, value.clone()))
            .collect();
        let mut marshalled = bytes::BytesMut::new();
        encode_map(&map, &mut marshalled).expect("a small map");
        Message {
            marshalled_properties: Some(marshalled.freeze()),
            ..Message::default()
        }
    }

    #[test]
    fn only_what_always_holds_is_an_equality() {
        assert_eq!(equalities("id = 'a'").len(), 1);
        assert_eq!(equalities("'a' = id AND n = 7 AND x > 1").len(), 2);
        assert_eq!(equalities("id IN ('a', 'b')")[0].values.len(), 2);
        for none in [
            "id = 'a' OR n = 7",
            "NOT (id = 'a')",
            "id <> 'a'",
            "id NOT IN ('a')",
            "id = other",
            "id = 1.5",
            "id = TRUE",
            "convert_string_expressions:id = 'a'",
            "id = 9007199254740993",
        ] {
            assert_eq!(equalities(none), [], "{none}");
        }
    }

    /// Whatever a selector selects must be found by what it asks its field to be.
    #[test]
    fn what_is_selected_is_what_was_asked_for() {
        let values = [
            V::Null,
            V::Bool(true),
            V::Byte(7),
            V::Char(u16::from(b'7')),
            V::Short(7),
            V::Int(7),
            V::Int(-1),
            V::Long(7),
            V::Long(16_777_217),
            V::Float(7.0),
            V::Float(7.5),
            V::Float(16_777_216.0),
            V::Double(7.0),
            V::Double(-0.0),
            V::Double(f64::NAN),
            V::Double(16_777_217.0),
            V::String("7".into()),
            V::String("a".into()),
        ];
        let selectors = [
            "p = 7",
            "p = '7'",
            "p = -1",
            "p = 0",
            "p = 16777217",
            "p IN ('a', 'b')",
        ];
        let mut selected = 0;
        for text in selectors {
            let selector = Selector::parse(text).expect("a selector");
            for value in &values {
                let message = message(&[("p", value.clone())]);
                if !selector.matches(&message).expect("a result") {
                    continue;
                }
                selected += 1;
                for asked in selector.equalities() {
                    let found = match asked.field.given(&message) {
                        Given::Text(text) => asked.values.contains(&Constant::Text(text.into())),
                        Given::Whole(value) => asked.values.contains(&Constant::Whole(value)),
                        Given::Nothing => false,
                        Given::Unclear => true,
                    };
                    assert!(found, "{text} selects {value:?}");
                }
            }
        }
        assert!(selected > 10, "{selected}");
    }
}
