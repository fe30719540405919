//! Writes the changes of a group into the tables, in one transaction.
//!
//! The index already says what holds after it. Nothing of the index changes here, so a transaction that failed can be
//! tried again.

use std::fmt;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::super::{MessageKey, StoredDestination};
use super::body::with_counter;
use super::changes::{Content, Row, Source};
use super::index::Index;
use super::producers::Producers;
use super::schema::{
    ACKS, DESTINATIONS, HELD, LOCK, MESSAGES, NOTES, OUTCOMES, OWN_MESSAGES, PRODUCERS, STORE, kind_of,
};
use super::statements::{self, Session, Value, id};

const MESSAGE_COLUMNS: &str = "ID, CONTAINER, MSGID_PROD, MSGID_SEQ, EXPIRATION, PRIORITY, MSG";
const OWN_COLUMNS: &str = "DEST, ID, MSGID_PROD, MSGID_SEQ, EXPIRATION, PRIORITY, MSG";

/// How many bodies are in memory at a time while counters are written into them.
const COUNTED_AT_ONCE: usize = 16;

/// Says which of the openers of the tables writes, and which of its transactions this is.
#[derive(Debug, Clone)]
pub(super) struct Header {
    /// Nobody else opened the tables since. Digits only.
    pub(super) opener: String,
    /// How many transactions were committed before.
    pub(super) commits: i64,
    /// The store is closed in order with it.
    pub(super) clean: bool,
    /// Who has to have the lease in the database, if there is one.
    pub(super) lease: Option<String>,
}

/// Why a transaction failed. It had no effect, unless the connection broke while it was committed.
#[derive(Debug)]
pub(super) enum FlushError {
    Database(sqlx::Error),
    /// Somebody else has opened the tables.
    Fenced,
    /// Somebody else has the lease.
    Unleased,
    /// A row cannot be read.
    Unreadable(String),
}

impl From<sqlx::Error> for FlushError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => write!(f, "{error}"),
            Self::Fenced => f.write_str("another broker has opened the store"),
            Self::Unleased => f.write_str("another broker has the lease of the database"),
            Self::Unreadable(why) => f.write_str(why),
        }
    }
}

/// How many producers one statement brings up to date. It is as long as this, and looks at each row as often.
const PRODUCERS_AT_ONCE: usize = 32;

/// Writes everything that changed and commits.
///
/// What it costs is mostly the trips to the database and back, of which each statement with values is one. So what has numbers
/// only goes with the statements that begin and end the transaction.
pub(super) async fn flush(
    session: &mut Session<'_>,
    index: &Index,
    producers: &Producers,
    header: &Header,
) -> Result<(), FlushError> {
    begin(session, index, header).await?;
    rows(session, index).await?;
    counters(session, index).await?;
    notes(session, index).await?;
    destinations(session, index).await?;
    acks(session, index).await?;
    held(session, index).await?;
    let last = recent(session, index, producers).await?;
    // As late as can be, because it keeps the lease from being renewed.
    hold_lease(session, header).await?;
    session.command(&format!("{last}COMMIT")).await?;
    Ok(())
}

/// Begins a transaction and tells which it is. Of two openers the later one gets on, and the earlier one finds no row: what it
/// writes after another took over is rolled back.
async fn begin(session: &mut Session<'_>, index: &Index, header: &Header) -> Result<(), FlushError> {
    let text = format!(
        "{}; UPDATE {STORE} SET COMMITS={}, CLEAN={}, NEXT_SEQUENCE={}, NEXT_DEST={}, FORGOTTEN={} \
         WHERE ID=1 AND OPENER='{}' AND COMMITS={}",
        session.dialect.begin(),
        header.commits + 1,
        i64::from(header.clean),
        index.state.next_sequence as i64,
        index.state.next_destination,
        index.state.outcomes.forgotten(),
        header.opener,
        header.commits,
    );
    if session.command(&text).await? != 1 {
        return Err(FlushError::Fenced);
    }
    Ok(())
}

/// Makes sure of the lease. Until the commit nobody takes it, so what is written is written by the master.
async fn hold_lease(session: &mut Session<'_>, header: &Header) -> Result<(), FlushError> {
    let Some(holder) = &header.lease else {
        return Ok(());
    };
    let query = format!("SELECT BROKER_NAME FROM {LOCK} WHERE ID=? FOR UPDATE");
    let rows = session.rows(&query, &[Value::Int(1)]).await?;
    let found = rows.first().map(|row| statements::text(row, 0)).transpose()?;
    match found.flatten() {
        Some(found) if *found == **holder => Ok(()),
        _ => Err(FlushError::Unleased),
    }
}

async fn rows(session: &mut Session<'_>, index: &Index) -> Result<(), FlushError> {
    let mut changed: Vec<_> = index.changes.rows.iter().collect();
    changed.sort_unstable_by_key(|(row, _)| **row);
    // First what is taken from other rows, as those may go. A row that is there is in its own way: what is to be in it
    // is read.
    let mut read = FxHashMap::default();
    for (row, change) in &changed {
        if let Some(content) = &change.content
            && let Source::Copy(from) = content.source
        {
            if change.existed {
                read.insert(**row, read_row(session, from).await?);
            } else {
                copy(session, **row, content, from).await?;
            }
        }
    }
    for key in &index.changes.emptied {
        for table in [OWN_MESSAGES, NOTES, HELD] {
            let text = format!("DELETE FROM {table} WHERE DEST=?");
            session.execute(&text, &[Value::Int(key.0.into())]).await?;
        }
    }
    let gone = changed.iter().filter(|(_, change)| change.existed);
    let mut messages = Vec::new();
    let mut own: FxHashMap<_, Vec<u64>> = FxHashMap::default();
    for (row, _) in gone {
        match **row {
            Row::Message(id) => messages.push(id),
            Row::Own(key) => own.entry(key.destination).or_default().push(key.sequence),
        }
    }
    session
        .for_ids(&format!("DELETE FROM {MESSAGES} WHERE ID IN"), &[], &messages)
        .await?;
    for (destination, ids) in own {
        let head = format!("DELETE FROM {OWN_MESSAGES} WHERE DEST=? AND ID IN");
        session
            .for_ids(&head, &[Value::Int(destination.0.into())], &ids)
            .await?;
    }
    let (mut messages, mut own) = (Vec::new(), Vec::new());
    for (row, change) in &changed {
        let Some(content) = &change.content else {
            continue;
        };
        let values = match (&content.source, read.remove(*row)) {
            (Source::New(body), _) => [
                Value::Text(body.producer.clone()),
                Value::Int(body.sequence),
                Value::Int(body.expiration),
                Value::Int(content.priority.unwrap_or(body.priority)),
                Value::Bytes(body.bytes.clone()),
            ],
            (Source::Copy(_), Some(values)) => values,
            (Source::Copy(_), None) => continue,
        };
        let mut of_row = place_of(**row, content);
        of_row.extend(values);
        match row {
            Row::Message(_) => messages.push(of_row),
            Row::Own(_) => own.push(of_row),
        }
    }
    session.insert(MESSAGES, MESSAGE_COLUMNS, &messages).await?;
    session.insert(OWN_MESSAGES, OWN_COLUMNS, &own).await?;
    Ok(())
}

/// The columns that say where a row stands.
fn place_of(row: Row, content: &Content) -> Vec<Value> {
    match row {
        Row::Message(id) => {
            let container = content.container.clone().unwrap_or_default();
            vec![Value::id(id), Value::Text(container)]
        }
        Row::Own(key) => vec![Value::Int(key.destination.0.into()), Value::id(key.sequence)],
    }
}

/// Which row is meant, with its values.
fn condition(row: Row) -> (&'static str, &'static str, Vec<Value>) {
    match row {
        Row::Message(id) => (MESSAGES, "ID=?", vec![Value::id(id)]),
        Row::Own(key) => (
            OWN_MESSAGES,
            "DEST=? AND ID=?",
            vec![Value::Int(key.destination.0.into()), Value::id(key.sequence)],
        ),
    }
}

/// Copies a row within the database, so that the body does not travel.
async fn copy(session: &mut Session<'_>, to: Row, content: &Content, from: Row) -> Result<(), FlushError> {
    let (table, columns, places) = match to {
        Row::Message(_) => (MESSAGES, MESSAGE_COLUMNS, "CAST(? AS {int}), CAST(? AS {text})"),
        Row::Own(_) => (OWN_MESSAGES, OWN_COLUMNS, "CAST(? AS {int}), CAST(? AS {int})"),
    };
    let (source, condition, key) = condition(from);
    // A database that is given nothing but parameters does not know what they are.
    let places = session.dialect.typed(places);
    let mut values = place_of(to, content);
    let priority = match content.priority {
        Some(priority) => {
            values.push(Value::Int(priority));
            session.dialect.typed("CAST(? AS {int})")
        }
        None => "PRIORITY".to_owned(),
    };
    values.extend(key);
    let text = format!(
        "INSERT INTO {table} ({columns}) SELECT {places}, MSGID_PROD, MSGID_SEQ, EXPIRATION, {priority}, MSG \
         FROM {source} WHERE {condition}"
    );
    match session.execute(&text, &values).await? {
        1 => Ok(()),
        _ => Err(missing(from)),
    }
}

async fn read_row(session: &mut Session<'_>, row: Row) -> Result<[Value; 5], FlushError> {
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

fn missing(row: Row) -> FlushError {
    FlushError::Unreadable(format!("a message is not where it was written: {row:?}"))
}

/// Writes redelivery counters into the messages, where ActiveMQ finds them.
async fn counters(session: &mut Session<'_>, index: &Index) -> Result<(), FlushError> {
    let changed = index.changes.notes.keys();
    let mut counters: Vec<_> = changed.filter_map(|&key| index.miscounted(key)).collect();
    counters.sort_unstable();
    // Subscriptions share rows.
    counters.dedup();
    let mut messages = Vec::new();
    for (row, counter) in counters {
        match row {
            Row::Message(id) => messages.push((id, counter)),
            Row::Own(_) => {
                let [.., body] = read_row(session, row).await?;
                if let Value::Bytes(body) = body {
                    count(session, row, body, counter).await?;
                }
            }
        }
    }
    for some in messages.chunks(COUNTED_AT_ONCE) {
        let ids: Vec<_> = some.iter().map(|(id, _)| *id).collect();
        let head = format!("SELECT ID, MSG FROM {MESSAGES} WHERE ID IN");
        for row in session.rows_for_ids(&head, &[], &ids).await? {
            let found = id(&row, 0)?;
            let counter = some.iter().find(|(id, _)| *id == found);
            if let (Some((_, counter)), Some(body)) = (counter, statements::bytes(&row, 1)?) {
                count(session, Row::Message(found), body, *counter).await?;
            }
        }
    }
    Ok(())
}

async fn count(session: &mut Session<'_>, row: Row, body: Bytes, counter: u32) -> Result<(), FlushError> {
    let body = with_counter(body, counter)
        .map_err(|error| FlushError::Unreadable(format!("a message cannot be read: {row:?}: {error}")))?;
    let (table, condition, key) = condition(row);
    let text = format!("UPDATE {table} SET MSG=? WHERE {condition}");
    let values: Vec<_> = std::iter::once(Value::Bytes(body)).chain(key).collect();
    session.execute(&text, &values).await?;
    Ok(())
}

async fn notes(session: &mut Session<'_>, index: &Index) -> Result<(), FlushError> {
    let mut gone: FxHashMap<_, Vec<u64>> = FxHashMap::default();
    let mut noted = Vec::new();
    for (key, existed) in &index.changes.notes {
        if *existed {
            gone.entry(key.destination).or_default().push(key.sequence);
        }
        if index.is_noted(*key) {
            noted.push(*key);
        }
    }
    for (destination, sequences) in gone {
        let head = format!("DELETE FROM {NOTES} WHERE DEST=? AND SEQ IN");
        session
            .for_ids(&head, &[Value::Int(destination.0.into())], &sequences)
            .await?;
    }
    noted.sort_unstable();
    let noted: Vec<_> = noted.into_iter().filter_map(|key| note(index, key)).collect();
    let columns = "DEST, SEQ, ID, MARK, REDELIVERED, AT_FIRST, DUE, FIRED";
    session.insert(NOTES, columns, &noted).await?;
    Ok(())
}

fn note(index: &Index, key: MessageKey) -> Option<Vec<Value>> {
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

async fn destinations(session: &mut Session<'_>, index: &Index) -> Result<(), FlushError> {
    let mut gone = Vec::new();
    let mut new = Vec::new();
    for (&key, &existed) in &index.changes.destinations {
        let Some(stored) = index.state.stored(key) else {
            if existed {
                gone.push(u64::from(key.0));
            }
            continue;
        };
        let subscription = match &stored.destination {
            StoredDestination::Subscription(subscription) => Some(subscription),
            _ => None,
        };
        let name = match &stored.destination {
            StoredDestination::Queue(name) | StoredDestination::Retained(name) => Some(&**name),
            StoredDestination::Subscription(subscription) => Some(&*subscription.destination),
            StoredDestination::Transaction | StoredDestination::Schedule => None,
        };
        let xid = stored.prepared.as_ref().map(|prepared| &prepared.xid);
        let acked = index.acks.get(&key).is_some_and(|acks| !acks.is_empty());
        let values = vec![
            Value::Int(kind_of(&stored.destination)),
            Value::optional_text(name),
            Value::optional_text(subscription.map(|of| &*of.client_id)),
            Value::optional_text(subscription.map(|of| &*of.name)),
            Value::optional_text(subscription.and_then(|of| of.selector.as_deref())),
            Value::Int(subscription.is_some_and(|of| of.no_local).into()),
            Value::Int(acked.into()),
            Value::id(stored.dispatched),
            xid.map_or(Value::NoInt, |xid| Value::Int(xid.format_id.into())),
            xid.map_or(Value::NoBytes, |xid| Value::Bytes(xid.global.clone())),
            xid.map_or(Value::NoBytes, |xid| Value::Bytes(xid.branch.clone())),
            Value::Int(key.0.into()),
        ];
        if existed {
            let text = format!(
                "UPDATE {DESTINATIONS} SET KIND=?, NAME=?, CLIENT_ID=?, SUB_NAME=?, SELECTOR=?, NO_LOCAL=?, \
                 ACKS=?, DISPATCHED=?, XID_FORMAT=?, XID_GLOBAL=?, XID_BRANCH=? WHERE DEST=?"
            );
            session.execute(&text, &values).await?;
        } else {
            new.push(values);
        }
    }
    let head = format!("DELETE FROM {DESTINATIONS} WHERE DEST IN");
    session.for_ids(&head, &[], &gone).await?;
    let columns = "KIND, NAME, CLIENT_ID, SUB_NAME, SELECTOR, NO_LOCAL, ACKS, DISPATCHED, XID_FORMAT, \
                   XID_GLOBAL, XID_BRANCH, DEST";
    session.insert(DESTINATIONS, columns, &new).await?;
    Ok(())
}

async fn acks(session: &mut Session<'_>, index: &Index) -> Result<(), FlushError> {
    for (name, container) in &index.changes.unsubscribed {
        let text = format!("DELETE FROM {ACKS} WHERE CONTAINER=? AND CLIENT_ID=? AND SUB_NAME=?");
        let values = [
            Value::Text(container.clone()),
            Value::Text(name.client_id.clone()),
            Value::Text(name.name.clone()),
        ];
        session.execute(&text, &values).await?;
    }
    let mut new = Vec::new();
    for (destination, topic) in &index.changes.acks {
        let acks = index.acks.get(destination).and_then(|acks| acks.get(topic));
        let (Some(acks), Some(StoredDestination::Subscription(subscription))) =
            (acks, index.state.destination(*destination))
        else {
            continue;
        };
        let (last, container) = (Value::Int(acks.last()), index.topics.name(*topic));
        let names = [
            Value::Text(container),
            Value::Text(subscription.client_id.clone()),
            Value::Text(subscription.name.clone()),
        ];
        if acks.written.is_none() {
            let [container, client_id, name] = names;
            new.push(vec![
                container,
                Value::Text(subscription.destination.clone()),
                client_id,
                name,
                Value::optional_text(subscription.selector.as_deref()),
                last,
                // Where priorities do not count, ActiveMQ has one row, with this one.
                Value::Int(0),
            ]);
        } else if acks.written != Some(acks.last()) {
            let text =
                format!("UPDATE {ACKS} SET LAST_ACKED_ID=? WHERE CONTAINER=? AND CLIENT_ID=? AND SUB_NAME=?");
            let values: Vec<_> = std::iter::once(last).chain(names).collect();
            session.execute(&text, &values).await?;
        }
    }
    let columns = "CONTAINER, SUB_DEST, CLIENT_ID, SUB_NAME, SELECTOR, LAST_ACKED_ID, PRIORITY";
    session.insert(ACKS, columns, &new).await?;
    for destination in &index.changes.reselected {
        let Some(StoredDestination::Subscription(subscription)) = index.state.destination(*destination)
        else {
            continue;
        };
        let text = format!("UPDATE {ACKS} SET SELECTOR=?, SUB_DEST=? WHERE CLIENT_ID=? AND SUB_NAME=?");
        let values = [
            Value::optional_text(subscription.selector.as_deref()),
            Value::Text(subscription.destination.clone()),
            Value::Text(subscription.client_id.clone()),
            Value::Text(subscription.name.clone()),
        ];
        session.execute(&text, &values).await?;
    }
    Ok(())
}

async fn held(session: &mut Session<'_>, index: &Index) -> Result<(), FlushError> {
    for key in &index.changes.prepared {
        let Some(stored) = index.state.stored(*key) else {
            continue;
        };
        let destination = Value::Int(key.0.into());
        let text = format!("DELETE FROM {HELD} WHERE DEST=?");
        session.execute(&text, std::slice::from_ref(&destination)).await?;
        let acknowledged = stored.prepared.iter().flat_map(|prepared| &prepared.acknowledged);
        let held: Vec<_> = acknowledged
            .map(|held| {
                let mark = index.state.get(*held).map_or(0, |at| at.mark);
                vec![
                    destination.clone(),
                    Value::Int(held.destination.0.into()),
                    Value::id(held.sequence),
                    Value::Int(mark.into()),
                ]
            })
            .collect();
        session
            .insert(HELD, "DEST, HELD_DEST, HELD_SEQ, MARK", &held)
            .await?;
    }
    Ok(())
}

/// Writes who sent and what was committed. Gives back statements that are still to be run, each with its end.
async fn recent(
    session: &mut Session<'_>,
    index: &Index,
    producers: &Producers,
) -> Result<String, FlushError> {
    let mut new = Vec::new();
    let mut known = Vec::new();
    for producer in &index.changes.producers {
        let (Some((sequence, seen)), Some(row)) = (index.state.audit.get(producer), producers.row(producer))
        else {
            continue;
        };
        let seen = producers.seen(seen);
        if row.written {
            known.push((row.id, sequence, seen));
        } else {
            new.push(vec![
                Value::Int(row.id),
                Value::text(producer.connection_id.as_deref().unwrap_or_default()),
                Value::Int(producer.session_id),
                Value::Int(producer.value),
                Value::Int(sequence),
                Value::Int(seen),
            ]);
        }
    }
    let columns = "ID, CONNECTION_ID, SESSION_ID, PRODUCER, SEQ, SEEN";
    session.insert(PRODUCERS, columns, &new).await?;
    known.sort_unstable();
    let mut last: String = known.chunks(PRODUCERS_AT_ONCE).map(seen_again).collect();
    if let Some(oldest) = producers.forgotten() {
        last += &format!("DELETE FROM {PRODUCERS} WHERE SEEN<{oldest}; ");
    }
    let forgotten = index.state.outcomes.forgotten();
    if index.changes.forgets {
        last += &format!("DELETE FROM {OUTCOMES} WHERE AT_TIME<={forgotten}; ");
    }
    let outcomes = index.changes.outcomes.iter().zip(producers.outcomes..);
    let new: Vec<_> = outcomes
        .filter(|(outcome, _)| outcome.at > forgotten)
        .map(|(outcome, id)| {
            vec![
                Value::Int(id),
                Value::Text(outcome.connection.clone()),
                Value::Int(outcome.transaction),
                Value::Int(outcome.at),
            ]
        })
        .collect();
    session
        .insert(OUTCOMES, "ID, CONNECTION_ID, TX, AT_TIME", &new)
        .await?;
    Ok(last)
}

/// A statement that brings the rows of producers up to date: the id of each, its last number, and when it was seen.
fn seen_again(known: &[(i64, i64, i64)]) -> String {
    let (mut sequences, mut seens, mut ids) = (String::new(), String::new(), String::new());
    for (id, sequence, seen) in known {
        sequences += &format!(" WHEN {id} THEN {sequence}");
        seens += &format!(" WHEN {id} THEN {seen}");
        ids += &format!("{}{id}", if ids.is_empty() { "" } else { "," });
    }
    format!(
        "UPDATE {PRODUCERS} SET SEQ=CASE ID{sequences} ELSE SEQ END, SEEN=CASE ID{seens} ELSE SEEN END \
         WHERE ID IN ({ids}); "
    )
}
