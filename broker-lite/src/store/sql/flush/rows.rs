//! What is in the rows of the tables, and which rows are meant.

use openwire_client::wire::ProducerId;

use super::super::super::{Committed, MessageKey, StoredDestination};
use super::super::changes::{AckKey, Content, Row, Source};
use super::super::index::{Acks, Index};
use super::super::producers::{ProducerRow, Producers};
use super::super::schema::{MESSAGES, OWN_MESSAGES};
use super::super::statements::{self, Session, Value};
use super::{FlushError, Header};

pub(super) const MESSAGE_COLUMNS: &str = "ID, CONTAINER, MSGID_PROD, MSGID_SEQ, EXPIRATION, PRIORITY, MSG";
pub(super) const OWN_COLUMNS: &str = "DEST, ID, MSGID_PROD, MSGID_SEQ, EXPIRATION, PRIORITY, MSG";
pub(super) const NOTE_COLUMNS: &str = "DEST, SEQ, ID, MARK, REDELIVERED, AT_FIRST, DUE, FIRED";
pub(super) const PRODUCER_COLUMNS: &str = "ID, CONNECTION_ID, SESSION_ID, PRODUCER, SEQ, SEEN";
pub(super) const OUTCOME_COLUMNS: &str = "ID, CONNECTION_ID, TX, AT_TIME";

/// What the row of the store says after this transaction.
pub(super) fn of_store(index: &Index, header: &Header) -> [(&'static str, i64); 5] {
    [
        ("COMMITS", header.commits + 1),
        ("CLEAN", header.clean.into()),
        ("NEXT_SEQUENCE", index.state.next_sequence as i64),
        ("NEXT_DEST", index.state.next_destination.into()),
        ("FORGOTTEN", index.state.outcomes.forgotten()),
    ]
}

/// What is in a row, if it is no copy of one that is not `read`.
pub(super) fn row_of(row: Row, content: &Content, read: Option<[Value; 5]>) -> Option<Vec<Value>> {
    let values = match (&content.source, read) {
        (Source::New(body), _) => [
            Value::Text(body.producer.clone()),
            Value::Int(body.sequence),
            Value::Int(body.expiration),
            Value::Int(content.priority.unwrap_or(body.priority)),
            Value::Bytes(body.bytes.clone()),
        ],
        (Source::Copy(_), Some(values)) => values,
        (Source::Copy(_), None) => return None,
    };
    let mut of_row = place_of(row, content);
    of_row.extend(values);
    Some(of_row)
}

/// The columns that say where a row stands.
pub(super) fn place_of(row: Row, content: &Content) -> Vec<Value> {
    match row {
        Row::Message(id) => {
            let container = content.container.clone().unwrap_or_default();
            vec![Value::id(id), Value::Text(container)]
        }
        Row::Own(key) => vec![Value::Int(key.destination.0.into()), Value::id(key.sequence)],
    }
}

/// Which row is meant, with its values.
pub(super) fn condition(row: Row) -> (&'static str, &'static str, Vec<Value>) {
    match row {
        Row::Message(id) => (MESSAGES, "ID=?", vec![Value::id(id)]),
        Row::Own(key) => (
            OWN_MESSAGES,
            "DEST=? AND ID=?",
            vec![Value::Int(key.destination.0.into()), Value::id(key.sequence)],
        ),
    }
}

pub(super) async fn read_row(session: &mut Session<'_>, row: Row) -> Result<[Value; 5], FlushError> {
    let (table, condition, key) = condition(row);
    let text =
        format!("SELECT MSGID_PROD, MSGID_SEQ, EXPIRATION, PRIORITY, MSG FROM {table} WHERE {condition}");
    let found = session.rows(&text, &key).await?;
    let Some(found) = found.first() else {
        return Err(missing(row));
    };
    let number = |column| -> Result<Value, sqlx::Error> {
        Ok(statements::number(found, column)?.map_or(Value::NoInt, Value::Int))
    };
    Ok([
        statements::text(found, 0)?.map_or(Value::NoText, Value::Text),
        number(1)?,
        number(2)?,
        number(3)?,
        statements::bytes(found, 4)?.map_or(Value::NoBytes, Value::Bytes),
    ])
}

pub(super) fn missing(row: Row) -> FlushError {
    FlushError::Unreadable(format!("a message is not where it was written: {row:?}"))
}

pub(super) fn note(index: &Index, key: MessageKey) -> Option<Vec<Value>> {
    let at = index.state.get(key)?;
    let counter = index.state.counter(key);
    let due = index.state.due(key);
    let row = match at.row {
        Row::Message(id) => id,
        Row::Own(key) => key.sequence,
    };
    Some(vec![
        Value::Int(key.destination.0.into()),
        Value::id(key.sequence),
        Value::id(row),
        Value::Int(at.mark.into()),
        Value::Int(counter.now.into()),
        Value::Int(counter.initial.into()),
        due.map_or(Value::NoInt, |(at, _)| Value::Int(at)),
        due.map_or(Value::NoInt, |(_, times)| Value::Int(times.into())),
    ])
}

/// Up to where a subscription has acknowledged on a topic, and what the topic, the client and the subscription are called.
pub(super) fn ack<'i>(
    index: &'i Index,
    (destination, topic): &AckKey,
) -> Option<(&'i Acks, Value, [Value; 3])> {
    let acks = index.acks.get(destination)?.get(topic)?;
    let StoredDestination::Subscription(subscription) = index.state.destination(*destination)? else {
        return None;
    };
    let names = [
        Value::Text(index.topics.name(*topic)),
        Value::Text(subscription.client_id.clone()),
        Value::Text(subscription.name.clone()),
    ];
    Some((acks, Value::Int(acks.last()), names))
}

/// What is to be known of a producer.
pub(super) struct Sender {
    pub(super) row: ProducerRow,
    /// The number of its last message.
    pub(super) sequence: i64,
    pub(super) seen: i64,
}

impl Sender {
    pub(super) fn of(index: &Index, producers: &Producers, producer: &ProducerId) -> Option<Self> {
        let (sequence, seen) = index.state.audit.get(producer)?;
        Some(Self {
            row: producers.row(producer)?,
            sequence,
            seen: producers.seen(seen),
        })
    }

    pub(super) fn values(&self, producer: &ProducerId) -> Vec<Value> {
        vec![
            Value::Int(self.row.id),
            Value::text(producer.connection_id.as_deref().unwrap_or_default()),
            Value::Int(producer.session_id),
            Value::Int(producer.value),
            Value::Int(self.sequence),
            Value::Int(self.seen),
        ]
    }
}

/// The rows of the transactions that were committed, and need be known yet.
pub(super) fn outcomes(index: &Index, producers: &Producers) -> Vec<Vec<Value>> {
    let forgotten = index.state.outcomes.forgotten();
    let outcomes = index.changes.outcomes.iter().zip(producers.outcomes..);
    let outcomes = outcomes.filter(|(outcome, _)| outcome.at > forgotten);
    let row = |(outcome, id): (&Committed, i64)| {
        vec![
            Value::Int(id),
            Value::Text(outcome.connection.clone()),
            Value::Int(outcome.transaction),
            Value::Int(outcome.at),
        ]
    };
    outcomes.map(row).collect()
}
