//! Redelivery counters, in the messages, where ActiveMQ finds them.

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::super::body::with_counter;
use super::super::changes::Row;
use super::super::index::Index;
use super::super::schema::MESSAGES;
use super::super::statements::{self, STATEMENT_BYTES, Session, Value, id};
use super::FlushError;
use super::rows::{condition, read_row};

/// How many messages at most are in memory at a time while counters are written into them.
const AT_ONCE: usize = 64;

/// A counter that is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counter {
    pub(super) row: Row,
    counter: u32,
    /// About how large the message is.
    size: u32,
}

/// The counters that are to be written.
pub(super) fn counters(index: &Index) -> Vec<Counter> {
    let changed = index.changes.notes.keys().filter_map(|&key| {
        let (row, counter) = index.miscounted(key)?;
        let size = index.state.get(key)?.header.size;
        Some(Counter { row, counter, size })
    });
    let mut counters: Vec<_> = changed.collect();
    counters.sort_unstable();
    // Subscriptions share rows.
    counters.dedup_by_key(|counter| counter.row);
    counters
}

/// True if so many are read and written at once.
pub(super) fn fit(counters: &[Counter]) -> bool {
    fitting(counters) == counters.len()
}

/// How many of the first ones are read and written at once.
fn fitting(counters: &[Counter]) -> usize {
    let mut bytes = 0;
    let fit = counters.iter().take(AT_ONCE).take_while(|counter| {
        let begins = bytes == 0;
        bytes += counter.size as usize;
        begins || bytes <= STATEMENT_BYTES
    });
    fit.count()
}

/// Writes them, a few at a time.
pub(super) async fn count(session: &mut Session<'_>, counters: Vec<Counter>) -> Result<(), FlushError> {
    let (messages, own): (Vec<_>, Vec<_>) = counters
        .into_iter()
        .partition(|counter| matches!(counter.row, Row::Message(_)));
    for Counter { row, counter, .. } in own {
        let [.., body] = read_row(session, row).await?;
        if let Value::Bytes(body) = body {
            let body = counted(row, body, counter)?;
            let (table, condition, key) = condition(row);
            let text = format!("UPDATE {table} SET MSG=? WHERE {condition}");
            let values: Vec<_> = std::iter::once(Value::Bytes(body)).chain(key).collect();
            session.execute(&text, &values).await?;
        }
    }
    let mut rest = &messages[..];
    while !rest.is_empty() {
        let (some, later) = rest.split_at(fitting(rest));
        let bodies = read_counted(session, some).await?;
        session.replace(MESSAGES, "MSG", bodies).await?;
        rest = later;
    }
    Ok(())
}

/// Reads messages, and puts their counters into them.
pub(super) async fn read_counted(
    session: &mut Session<'_>,
    counters: &[Counter],
) -> Result<Vec<(u64, Value)>, FlushError> {
    let of_messages = counters.iter().filter_map(|counter| match counter.row {
        Row::Message(id) => Some((id, counter.counter)),
        Row::Own(_) => None,
    });
    let counters: FxHashMap<_, _> = of_messages.collect();
    let mut ids: Vec<_> = counters.keys().copied().collect();
    ids.sort_unstable();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let head = format!("SELECT ID, MSG FROM {MESSAGES} WHERE ID IN");
    let mut bodies = Vec::with_capacity(ids.len());
    for row in session.rows_for_ids(&head, &[], &ids).await? {
        let id = id(&row, 0)?;
        if let (Some(counter), Some(body)) = (counters.get(&id), statements::bytes(&row, 1)?) {
            let body = counted(Row::Message(id), body, *counter)?;
            bodies.push((id, Value::Bytes(body)));
        }
    }
    Ok(bodies)
}

fn counted(row: Row, body: Bytes, counter: u32) -> Result<Bytes, FlushError> {
    with_counter(body, counter)
        .map_err(|error| FlushError::Unreadable(format!("a message cannot be read: {row:?}: {error}")))
}
