//! What a selector says of a message, in three-valued logic: true, false, unknown.

use std::cmp::Ordering;

use super::expression::{Condition, Field, Relation, Value};
use super::xpath::Document;
use super::{EvaluationError, Operand, Properties, function};

/// One message under one selector.
pub(super) struct Evaluation<'a, 'd, P> {
    pub(super) message: &'a P,
    /// Texts become numbers or booleans where they are compared with such.
    pub(super) convert: bool,
    /// Its body as XML, parsed when it is first asked for.
    pub(super) document: &'a Document<'d>,
}

type Truth = Result<Option<bool>, EvaluationError>;

impl<'a, P: Properties> Evaluation<'a, '_, P> {
    /// True if the condition is. Stops as soon as that is decided, where [`Self::truth`] would go on to
    /// tell false from unknown: the rest is not evaluated, so it cannot fail.
    pub(super) fn matches(&self, condition: &'a Condition) -> Result<bool, EvaluationError> {
        match condition {
            Condition::And(parts) => {
                for part in parts {
                    if !self.matches(part)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Condition::Or(parts) => {
                for part in parts {
                    if self.matches(part)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Condition::Between {
                negated: false,
                operands,
            } => {
                let (value, low, high) = &**operands;
                let value = self.value(value)?;
                Ok(self.order(Relation::GreaterOrEqual, &value, low)? == Some(true)
                    && self.order(Relation::LessOrEqual, &value, high)? == Some(true))
            }
            other => Ok(self.truth(other)? == Some(true)),
        }
    }

    fn truth(&self, condition: &'a Condition) -> Truth {
        Ok(match condition {
            Condition::Constant(truth) => *truth,
            Condition::Field(field) => match self.field(field)? {
                Operand::Null => None,
                Operand::Bool(truth) => Some(truth),
                _ => Some(false),
            },
            Condition::Not(part) => self.truth(part)?.map(|truth| !truth),
            Condition::And(parts) => self.decide(parts, false)?,
            Condition::Or(parts) => self.decide(parts, true)?,
            Condition::Equal(operands) => {
                let (left, right) = (self.value(&operands.0)?, self.value(&operands.1)?);
                self.equal(&left, &right)
            }
            Condition::Order(relation, operands) => {
                let left = self.value(&operands.0)?;
                self.order(*relation, &left, &operands.1)?
            }
            Condition::Between { negated, operands } => {
                let (value, low, high) = &**operands;
                let value = self.value(value)?;
                // Outside of the bounds decides: it makes BETWEEN false and NOT BETWEEN true.
                let outside = |relation, inside: Relation, bound| {
                    let relation = if *negated { relation } else { inside };
                    self.order(relation, &value, bound)
                };
                let below = outside(Relation::Less, Relation::GreaterOrEqual, low)?;
                if below == Some(*negated) {
                    return Ok(below);
                }
                let above = outside(Relation::Greater, Relation::LessOrEqual, high)?;
                if above == Some(*negated) {
                    return Ok(above);
                }
                below.and(above)
            }
            Condition::Like(operands) => match self.value(&operands.0)? {
                Operand::Null => None,
                Operand::Text(text) => Some(operands.1.matches(&text)?),
                _ => Some(false),
            },
            Condition::In { negated, field, list } => match self.field(field)? {
                Operand::Text(text) => {
                    let found = list.binary_search_by(|item| (**item).cmp(&*text)).is_ok();
                    Some(found != *negated)
                }
                _ => None,
            },
            Condition::IsNull(value) => Some(self.value(value)?.is_null()),
            Condition::Find(operands) => Some(function::find(&operands.0, &self.value(&operands.1)?)?),
            Condition::InList(operands) => {
                let Operand::List(list) = self.value(&operands.0)? else {
                    return Err(EvaluationError::Operand("INLIST looks into lists only"));
                };
                let value = self.value(&operands.1)?;
                for item in &list {
                    if item.is_null() {
                        return Err(EvaluationError::Operand("a null in the list of INLIST"));
                    }
                    if item.is_same(&value) {
                        return Ok(Some(true));
                    }
                }
                Some(false)
            }
            Condition::XPath(xpath) => Some(xpath.matches(self.document)?),
        })
    }

    /// AND (false decides) and OR (true decides).
    fn decide(&self, parts: &'a [Condition], decisive: bool) -> Truth {
        let mut result = Some(!decisive);
        for part in parts {
            match self.truth(part)? {
                Some(truth) if truth == decisive => return Ok(Some(decisive)),
                Some(_) => {}
                None => result = None,
            }
        }
        Ok(result)
    }

    /// Two values that are not there are equal. One that is there is not equal to one that is not, but if the
    /// missing one stands left, nothing is known.
    fn equal(&self, left: &Operand<'_>, right: &Operand<'_>) -> Option<bool> {
        match (left, right) {
            (Operand::Null, Operand::Null) => Some(true),
            (Operand::Null, _) => None,
            (_, Operand::Null) => Some(false),
            (Operand::Text(left), Operand::Text(right)) => Some(left == right),
            (left, right) => {
                Some(left.is_same(right) || left.order(right, self.convert) == Some(Ordering::Equal))
            }
        }
    }

    fn order(&self, relation: Relation, left: &Operand<'_>, right: &'a Value) -> Truth {
        if left.is_null() {
            return Ok(None);
        }
        check_comparable(left)?;
        let right = self.value(right)?;
        if right.is_null() {
            return Ok(None);
        }
        check_comparable(&right)?;
        let order = left.order(&right, self.convert);
        Ok(Some(order.is_some_and(|order| relation.holds(order))))
    }

    fn field(&self, field: &'a Field) -> Result<Operand<'a>, EvaluationError> {
        match field {
            Field::Header(header) => self.message.header(*header),
            Field::Property(name) => self.message.property(name),
        }
    }

    fn value(&self, value: &'a Value) -> Result<Operand<'a>, EvaluationError> {
        Ok(match value {
            Value::Int(value) => Operand::Int(*value),
            Value::Long(value) => Operand::Long(*value),
            Value::Double(value) => Operand::Double(*value),
            Value::Text(text) => (&**text).into(),
            Value::Field(field) => self.field(field)?,
            Value::Condition(condition) => self.truth(condition)?.map_or(Operand::Null, Operand::Bool),
            Value::Negative(value) => self.value(value)?.negate()?,
            Value::Arithmetic(first, rest) => {
                let mut result = self.value(first)?;
                for (operator, value) in rest {
                    if result.is_null() {
                        break;
                    }
                    let value = self.value(value)?;
                    if value.is_null() {
                        return Ok(Operand::Null);
                    }
                    result = result.combine(*operator, &value)?;
                }
                result
            }
            Value::Replace(call) => {
                let (text, replacement) = (self.value(&call.text)?, self.value(&call.replacement)?);
                function::replace(&text, &call.pattern, &replacement)?
            }
            Value::Split(call) => {
                let text = self.value(&call.text)?;
                let limit = match &call.limit {
                    Some(limit) => self.value(limit)?,
                    None => Operand::Int(0),
                };
                function::split(text, &call.pattern, &limit)?
            }
            Value::MakeList(items) => Operand::List(
                items
                    .iter()
                    .map(|item| self.value(item))
                    .collect::<Result<_, _>>()?,
            ),
        })
    }
}

fn check_comparable(value: &Operand<'_>) -> Result<(), EvaluationError> {
    match value {
        Operand::List(_) | Operand::Opaque(_) => Err(EvaluationError::Operand(
            "a list or a map is neither more nor less than anything",
        )),
        _ => Ok(()),
    }
}
