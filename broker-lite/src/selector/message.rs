//! What a wire message says to a selector.

use std::borrow::Cow;

use bytes::Bytes;
use openwire_client::wire::{Message, Value, ValueRef, find_value, read_value};

use super::{EvaluationError, Header, Operand, Properties};

impl Properties for Message {
    fn header(&self, header: Header) -> Result<Operand<'_>, EvaluationError> {
        Ok(match header {
            Header::Destination => built(self.original_destination.as_ref().or(self.destination.as_ref())),
            Header::ReplyTo => built(self.reply_to.as_ref()),
            Header::Type => text(self.message_type.as_deref()),
            Header::DeliveryMode => match self.persistent {
                true => "PERSISTENT".into(),
                false => "NON_PERSISTENT".into(),
            },
            Header::Priority => Operand::Int(self.priority.into()),
            Header::MessageId => built(self.message_id.as_ref()),
            Header::Timestamp => Operand::Long(self.timestamp),
            Header::CorrelationId => text(self.correlation_id.as_deref()),
            Header::Expiration => Operand::Long(self.expiration),
            Header::Redelivered => Operand::Bool(self.redelivery_counter > 0),
            Header::DeliveryCount => Operand::Int(self.redelivery_counter.wrapping_add(1)),
            Header::GroupId => text(self.group_id.as_deref()),
            Header::GroupSequence => Operand::Int(self.group_sequence),
            Header::GroupFirstForConsumer => Operand::Bool(self.jmsx_group_first_for_consumer),
            Header::UserId => match &self.user_id {
                Some(user) => (&**user).into(),
                None => self.property("JMSXUserID")?,
            },
            Header::ProducerTransactionId => built(
                self.original_transaction_id
                    .as_ref()
                    .or(self.transaction_id.as_ref()),
            ),
            Header::BrokerInTime => Operand::Long(self.broker_in_time),
            Header::BrokerOutTime => Operand::Long(self.broker_out_time),
            Header::BrokerPath => Operand::Text(Cow::Owned(self.broker_path.as_ref().map_or_else(
                || "null".into(),
                |path| {
                    let brokers = path.iter().map(|broker| match broker {
                        Some(broker) => text(broker.value.as_deref()),
                        None => Operand::Null,
                    });
                    Operand::List(brokers.collect()).to_string()
                },
            ))),
        })
    }

    fn property(&self, name: &str) -> Result<Operand<'_>, EvaluationError> {
        let Some(properties) = &self.marshalled_properties else {
            return Ok(Operand::Null);
        };
        match find_value(properties, name).map_err(EvaluationError::Properties)? {
            None => Ok(Operand::Null),
            Some(ValueRef::Other(tagged)) => other(tagged),
            Some(value) => Ok(value.into()),
        }
    }

    fn message(&self) -> Option<&Message> {
        Some(self)
    }
}

/// A message that a queue has taken back this often: the count stands beside the message there, not in it.
#[derive(Debug, Clone, Copy)]
pub struct Redelivered<'a> {
    /// The message.
    pub message: &'a Message,
    /// How often delivery failed.
    pub count: u32,
}

impl Properties for Redelivered<'_> {
    fn header(&self, header: Header) -> Result<Operand<'_>, EvaluationError> {
        match header {
            Header::Redelivered => Ok(Operand::Bool(self.count > 0)),
            Header::DeliveryCount => Ok(Operand::Int((self.count as i32).wrapping_add(1))),
            header => self.message.header(header),
        }
    }

    fn property(&self, name: &str) -> Result<Operand<'_>, EvaluationError> {
        self.message.property(name)
    }

    fn message(&self) -> Option<&Message> {
        Some(self.message)
    }
}

fn text(text: Option<&str>) -> Operand<'_> {
    text.map_or(Operand::Null, Operand::from)
}

fn built<'a>(value: Option<impl ToString>) -> Operand<'a> {
    value.map_or(Operand::Null, |value| {
        Operand::Text(Cow::Owned(value.to_string()))
    })
}

/// A list, so that functions can look into it; maps and bytes stay as they are.
fn other(tagged: &[u8]) -> Result<Operand<'_>, EvaluationError> {
    const LIST: u8 = 12;
    if tagged.first() != Some(&LIST) {
        return Ok(Operand::Opaque(tagged));
    }
    let value = read_value(&mut Bytes::copy_from_slice(tagged)).map_err(EvaluationError::Properties)?;
    Ok(list(value))
}

fn list<'a>(value: Value) -> Operand<'a> {
    match value {
        Value::Null => Operand::Null,
        Value::Bool(value) => Operand::Bool(value),
        Value::Byte(value) => Operand::Byte(value),
        Value::Char(value) => Operand::Char(value),
        Value::Short(value) => Operand::Short(value),
        Value::Int(value) => Operand::Int(value),
        Value::Long(value) => Operand::Long(value),
        Value::Double(value) => Operand::Double(value),
        Value::Float(value) => Operand::Float(value),
        Value::String(text) => Operand::Text(Cow::Owned(text.as_ref().into())),
        Value::List(items) => Operand::List(items.into_iter().map(list).collect()),
        // Within a list nothing is known of them but that they are there.
        Value::Bytes(_) | Value::Map(_) => Operand::Opaque(&[]),
    }
}
