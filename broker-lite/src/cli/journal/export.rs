//! `broker-lite journal export`.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use bytes::BytesMut;
use openwire_client::wire::{Message, Value, decode_map, marshal};
use serde_json::Value as Json;

use super::line::{Base64, Described, FORMAT, Line};
use super::{Failure, Outcome};
use crate::store::journal::inspect::{Group, Inspection};
use crate::store::{MessageKey, StoredDestination};

/// Messages that are in memory at a time.
const AT_ONCE: usize = 64;

/// What is kept beside messages.
#[derive(Default)]
struct Beside {
    redelivered: HashMap<MessageKey, u32>,
    due: HashMap<MessageKey, (i64, u32)>,
}

/// Writes everything that an import can take.
pub(super) fn export(journal: &Inspection, out: &mut impl Write) -> Outcome {
    write(&Line::Journal { format: FORMAT }, out)?;
    let mut beside = Beside::default();
    for found in &journal.recovered().destinations {
        let line = Line::Destination {
            key: found.key.0,
            dispatched: found.dispatched,
            is: described(&found.destination),
        };
        write(&line, out)?;
        let key = |sequence| MessageKey {
            destination: found.key,
            sequence,
        };
        let counted = found.messages.iter().filter(|message| message.redelivered > 0);
        beside
            .redelivered
            .extend(counted.map(|message| (key(message.sequence), message.redelivered)));
        let due = found.due.iter();
        beside
            .due
            .extend(due.map(|&(sequence, at, times)| (key(sequence), (at, times))));
    }
    for groups in journal.groups().chunks(AT_ONCE) {
        let keys: Vec<_> = groups.iter().map(|group| group.first).collect();
        for (group, (key, message)) in groups.iter().zip(journal.load(&keys)?) {
            let message =
                message.ok_or_else(|| Failure::Content(format!("message {} is gone", key.sequence)))?;
            write(&message_line(key, &message, &beside)?, out)?;
            shares(group, &beside).try_for_each(|line| write(&line, out))?;
        }
    }
    for found in &journal.recovered().destinations {
        let Some(prepared) = &found.prepared else {
            continue;
        };
        let acknowledged = prepared.acknowledged.iter();
        let line = Line::Prepared {
            destination: found.key.0,
            format_id: prepared.xid.format_id,
            global_transaction_id: Base64(prepared.xid.global.to_vec()),
            branch_qualifier: Base64(prepared.xid.branch.to_vec()),
            acknowledged: acknowledged
                .map(|key| (key.destination.0, key.sequence))
                .collect(),
        };
        write(&line, out)?;
    }
    Ok(())
}

fn write(line: &Line, out: &mut impl Write) -> Outcome {
    serde_json::to_writer(&mut *out, line).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

fn described(destination: &StoredDestination) -> Described {
    match destination {
        StoredDestination::Queue(name) => Described::Queue(name.to_string()),
        StoredDestination::Subscription(subscription) => Described::DurableSubscription {
            client_id: subscription.client_id.to_string(),
            name: subscription.name.to_string(),
            destination: subscription.destination.to_string(),
            selector: subscription.selector.as_ref().map(ToString::to_string),
            no_local: subscription.no_local,
        },
        StoredDestination::Transaction => Described::Transaction,
        StoredDestination::Schedule => Described::Schedule,
        StoredDestination::Retained(name) => Described::Retained(name.to_string()),
    }
}

fn shares(group: &Group, beside: &Beside) -> impl Iterator<Item = Line> {
    let of = (group.first.destination.0, group.first.sequence);
    group.others.iter().map(move |key| Line::Share {
        destination: key.destination.0,
        sequence: key.sequence,
        redelivered: beside.redelivered.get(key).copied().unwrap_or(0),
        due: beside.due.get(key).copied(),
        of,
    })
}

fn message_line(key: MessageKey, message: &Message, beside: &Beside) -> Result<Line, Failure> {
    let unreadable = |error| Failure::Content(format!("message {}: {error}", key.sequence));
    let mut bare = message.clone();
    let body = bare.content.take();
    let mut openwire = BytesMut::new();
    marshal(&bare, &mut openwire).map_err(unreadable)?;
    let mut properties = BTreeMap::new();
    if let Some(marshalled) = &message.marshalled_properties {
        let decoded = decode_map(marshalled.clone()).map_err(unreadable)?;
        properties.extend(
            decoded
                .iter()
                .map(|(name, value)| (name.to_string(), json(value))),
        );
    }
    Ok(Line::Message {
        destination: key.destination.0,
        sequence: key.sequence,
        redelivered: beside.redelivered.get(&key).copied().unwrap_or(0),
        due: beside.due.get(&key).copied(),
        headers: headers(message),
        properties,
        body: body.map(|body| Base64(body.to_vec())),
        openwire: Base64(openwire.to_vec()),
    })
}

/// The header fields by their JMS names.
fn headers(message: &Message) -> BTreeMap<String, Json> {
    let text = |text: Option<String>| text.map(Json::from);
    let fields = [
        (
            "JMSMessageID",
            text(message.message_id.as_ref().map(ToString::to_string)),
        ),
        (
            "JMSDestination",
            text(message.destination.as_ref().map(ToString::to_string)),
        ),
        (
            "JMSReplyTo",
            text(message.reply_to.as_ref().map(ToString::to_string)),
        ),
        (
            "JMSCorrelationID",
            text(message.correlation_id.as_ref().map(ToString::to_string)),
        ),
        (
            "JMSType",
            text(message.message_type.as_ref().map(ToString::to_string)),
        ),
        (
            "JMSXGroupID",
            text(message.group_id.as_ref().map(ToString::to_string)),
        ),
        (
            "JMSXUserID",
            text(message.user_id.as_ref().map(ToString::to_string)),
        ),
        ("JMSPriority", Some(message.priority.into())),
        ("JMSTimestamp", Some(message.timestamp.into())),
        ("JMSExpiration", Some(message.expiration.into())),
    ];
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// A property, as near as JSON comes.
fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Byte(value) => (*value).into(),
        Value::Short(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Long(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Double(value) => (*value).into(),
        Value::String(value) => value.to_string().into(),
        other => format!("{other:?}").into(),
    }
}
