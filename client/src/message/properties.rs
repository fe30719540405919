//! Properties: application data beside the body, and the views JMS gives of header fields under `JMS` names.

use std::sync::{Arc, OnceLock};

use super::{Message, malformed};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::{Destination, DestinationKind, Value, ValueMap, decode_map};

/// Words of the selector language, which no property may be named.
const RESERVED: [&str; 11] = [
    "NULL", "TRUE", "FALSE", "NOT", "AND", "OR", "BETWEEN", "LIKE", "IN", "IS", "ESCAPE",
];

impl Message {
    /// A property (`getObjectProperty`), `None` if there is none of that name.
    ///
    /// Header fields have names of their own: `JMSXDeliveryCount`, `JMSXGroupID`, `JMSXGroupSeq`,
    /// `JMSXGroupFirstForConsumer`, `JMSXUserID`, `JMSXProducerTXID`, `JMSRedelivered`, `JMSMessageID`,
    /// `JMSCorrelationID`, `JMSDestination` (the original one of a moved message), `JMSReplyTo`, `JMSType`,
    /// `JMSDeliveryMode` (`PERSISTENT` or `NON_PERSISTENT`), `JMSPriority`, `JMSTimestamp`, `JMSExpiration`,
    /// `JMSActiveMQBrokerInTime` and `JMSActiveMQBrokerOutTime`.
    ///
    /// # Errors
    ///
    /// [`is_message_format`](Error::is_message_format) if the properties of a received message are malformed.
    pub fn property(&self, name: &str) -> Result<Option<Value>> {
        Ok(match self.header_property(name) {
            Some(value) => value.or(match name {
                "JMSXUserID" => self.properties()?.get(name).cloned(),
                _ => None,
            }),
            None => self.properties()?.get(name).cloned(),
        })
    }

    /// True if there is a property of that name, be it null (`propertyExists`).
    ///
    /// # Errors
    ///
    /// As [`property`](Self::property).
    pub fn has_property(&self, name: &str) -> Result<bool> {
        Ok(self.property(name)?.is_some())
    }

    /// The properties, without the views of header fields.
    ///
    /// # Errors
    ///
    /// As [`property`](Self::property).
    pub fn properties(&self) -> Result<&ValueMap> {
        self.property_map().map(|map| &**map)
    }

    /// The names of the properties (`getPropertyNames`): those of [`properties`](Self::properties), and those
    /// of the `JMSX` header fields that are set.
    ///
    /// # Errors
    ///
    /// As [`property`](Self::property).
    pub fn property_names(&self) -> Result<Vec<String>> {
        let mut names: Vec<_> = self
            .properties()?
            .iter()
            .map(|(name, _)| name.to_owned())
            .collect();
        let mut add = |condition: bool, name: &str| {
            if condition && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        };
        add(self.wire.redelivery_counter != 0, "JMSXDeliveryCount");
        add(self.wire.group_id.is_some(), "JMSXGroupID");
        add(self.wire.group_id.is_some(), "JMSXGroupSeq");
        add(self.wire.user_id.is_some(), "JMSXUserID");
        Ok(names)
    }

    /// Sets a property (`setObjectProperty` and its typed kin).
    ///
    /// As in ActiveMQ the names `JMSXDeliveryCount`, `JMSXGroupID`, `JMSXGroupSeq`, `JMSCorrelationID`,
    /// `JMSDeliveryMode`, `JMSExpiration`, `JMSPriority`, `JMSRedelivered`, `JMSReplyTo`, `JMSTimestamp` and
    /// `JMSType` set the header field (some of which sending sets again), and `AMQ_SCHEDULED_DELAY`,
    /// `AMQ_SCHEDULED_PERIOD` and `AMQ_SCHEDULED_REPEAT` convert to the number types the broker wants. Null
    /// clears a header field that holds text.
    ///
    /// Names keep the rules of JMS, which ActiveMQ's own client does not check: a name that breaks them
    /// could not stand in a selector. A received message may have any.
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) for a name that is no identifier (a letter, `_` or `$`, then also
    /// digits), that is a word of the selector language, or that shows a header field which cannot be set.
    /// [`is_message_format`](Error::is_message_format) for a byte array, or a value that the header field
    /// cannot hold.
    pub fn set_property(&mut self, name: &str, value: impl Into<Value>) -> Result<()> {
        check_name(name)?;
        let value = value.into();
        if matches!(value, Value::Bytes(_)) {
            return Err(Error::new(
                ErrorKind::MessageFormat,
                format!("a byte array cannot be a property ({name})"),
            ));
        }
        if self.set_header_property(name, &value)? {
            return Ok(());
        }
        let value = match name {
            "AMQ_SCHEDULED_DELAY" | "AMQ_SCHEDULED_PERIOD" => Value::Long(value.i64()?),
            "AMQ_SCHEDULED_REPEAT" => Value::Int(value.i32()?),
            _ => value,
        };
        self.properties_mut()?.insert(name, value);
        Ok(())
    }

    /// Removes a property and returns it (`ActiveMQMessage.removeProperty`).
    ///
    /// # Errors
    ///
    /// As [`property`](Self::property).
    pub fn remove_property(&mut self, name: &str) -> Result<Option<Value>> {
        if self.properties()?.get(name).is_none() {
            return Ok(None);
        }
        Ok(self.properties_mut()?.remove(name))
    }

    /// Removes all properties; header fields stay (`clearProperties`).
    pub fn clear_properties(&mut self) {
        self.wire_mut().marshalled_properties = None;
        self.properties = OnceLock::new();
    }

    fn property_map(&self) -> Result<&Arc<ValueMap>> {
        if let Some(map) = self.properties.get() {
            return Ok(map);
        }
        let map = match &self.wire.marshalled_properties {
            Some(bytes) => decode_map(bytes.clone()).map_err(malformed)?,
            None => ValueMap::new(),
        };
        Ok(self.properties.get_or_init(|| Arc::new(map)))
    }

    fn properties_mut(&mut self) -> Result<&mut ValueMap> {
        let map = self.property_map()?.clone();
        self.wire_mut().marshalled_properties = None;
        self.properties = OnceLock::from(map);
        let map = self.properties.get_mut().expect("was set just above");
        Ok(Arc::make_mut(map))
    }

    /// The view of a header field: `None` for a name that is none, `Some(None)` for a field that is not set.
    fn header_property(&self, name: &str) -> Option<Option<Value>> {
        let text = |text: Option<&str>| text.map(Value::from);
        let qualified = |destination: &Destination| Value::from(destination.qualified_name());
        Some(match name {
            "JMSXDeliveryCount" => Some(self.delivery_count().into()),
            "JMSXGroupID" => text(self.group_id()),
            "JMSXGroupSeq" => Some(self.group_sequence().into()),
            "JMSXGroupFirstForConsumer" => Some(self.is_group_first_for_consumer().into()),
            "JMSXUserID" => text(self.user_id()),
            "JMSXProducerTXID" => self.producer_transaction_id().map(Value::from),
            "JMSRedelivered" => Some(self.redelivered().into()),
            "JMSMessageID" => self.message_id().map(Value::from),
            "JMSCorrelationID" => text(self.correlation_id()),
            "JMSDestination" => self
                .original_destination()
                .or_else(|| self.destination())
                .map(qualified),
            "JMSReplyTo" => self.reply_to().map(qualified),
            "JMSType" => text(self.message_type()),
            "JMSDeliveryMode" if self.wire.persistent => Some("PERSISTENT".into()),
            "JMSDeliveryMode" => Some("NON_PERSISTENT".into()),
            "JMSPriority" => Some(i32::from(self.priority()).into()),
            "JMSTimestamp" => Some(self.timestamp().into()),
            "JMSExpiration" => Some(self.expiration().into()),
            "JMSActiveMQBrokerInTime" => Some(self.broker_in_time().into()),
            "JMSActiveMQBrokerOutTime" => Some(self.broker_out_time().into()),
            _ => return None,
        })
    }

    /// Sets the header field behind a name. False if there is none, or it is kept as a property.
    fn set_header_property(&mut self, name: &str, value: &Value) -> Result<bool> {
        match name {
            "JMSXDeliveryCount" => {
                let count = value.i32()?;
                self.wire_mut().redelivery_counter = count.saturating_sub(1);
            }
            "JMSXGroupID" => {
                let id = value.string()?;
                self.wire_mut().group_id = id;
            }
            "JMSXGroupSeq" => {
                let sequence = value.i32()?;
                self.wire_mut().group_sequence = sequence;
            }
            "JMSCorrelationID" => {
                let id = value.string()?;
                self.wire_mut().correlation_id = id;
            }
            "JMSDeliveryMode" => {
                let persistent = delivery_mode(value)?;
                self.wire_mut().persistent = persistent;
            }
            "JMSExpiration" => {
                let millis = value.i64()?;
                self.wire_mut().expiration = millis;
            }
            "JMSPriority" => {
                let priority = i8::try_from(value.i32()?)
                    .ok()
                    .filter(|priority| (0..=9).contains(priority))
                    .ok_or_else(|| Error::new(ErrorKind::MessageFormat, "a priority is 0 to 9"))?;
                self.wire_mut().priority = priority;
            }
            "JMSRedelivered" => {
                let counter = match (value.bool()?, self.wire.redelivery_counter) {
                    (true, counter) => counter.max(1),
                    (false, _) => 0,
                };
                self.wire_mut().redelivery_counter = counter;
            }
            "JMSReplyTo" => {
                let destination = match value {
                    Value::Null => None,
                    Value::String(name) => Some(Destination::parse(name, DestinationKind::Queue)),
                    _ => return Err(Error::new(ErrorKind::MessageFormat, "a JMSReplyTo is a string")),
                };
                self.wire_mut().reply_to = destination;
            }
            "JMSTimestamp" => {
                let millis = value.i64()?;
                self.wire_mut().timestamp = millis;
            }
            "JMSType" => {
                let name = value.string()?;
                self.wire_mut().message_type = name;
            }
            // Shown in place of the property where the broker sets it.
            "JMSXUserID" => return Ok(false),
            _ if self.header_property(name).is_some() => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("{name} shows a header field that cannot be set"),
                ));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// `PERSISTENT`, `NON_PERSISTENT`, the numbers 2 and 1, or a boolean.
fn delivery_mode(value: &Value) -> Result<bool> {
    match value {
        Value::String(text) if text.eq_ignore_ascii_case("PERSISTENT") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("NON_PERSISTENT") => Ok(false),
        Value::Bool(persistent) => Ok(*persistent),
        value => match value.i32()? {
            1 => Ok(false),
            2 => Ok(true),
            mode => Err(Error::new(
                ErrorKind::MessageFormat,
                format!("{mode} is no delivery mode"),
            )),
        },
    }
}

fn check_name(name: &str) -> Result<()> {
    let mut chars = name.chars();
    let starts = |c: char| c.is_alphabetic() || c == '_' || c == '$';
    let fault = if !chars.next().is_some_and(starts) || !chars.all(|c| starts(c) || c.is_numeric()) {
        "is no identifier"
    } else if RESERVED.iter().any(|word| word.eq_ignore_ascii_case(name)) {
        "is a word of the selector language"
    } else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::Invalid,
        format!("the property name {name:?} {fault}"),
    ))
}
