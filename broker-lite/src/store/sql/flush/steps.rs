//! Groups written step by step: whatever has changed, in any database.

use rustc_hash::FxHashMap;

use super::super::super::StoredDestination;
use super::super::changes::{Content, Row, Source};
use super::super::index::Index;
use super::super::producers::Producers;
use super::super::schema::{
    ACKS, DESTINATIONS, HELD, LOCK, MESSAGES, NOTES, OUTCOMES, OWN_MESSAGES, PRODUCERS, STORE, kind_of,
};
use super::super::statements::{self, Session, Value};
use super::counters::{Counter, count};
use super::rows::{
    MESSAGE_COLUMNS, NOTE_COLUMNS, OUTCOME_COLUMNS, OWN_COLUMNS, PRODUCER_COLUMNS, Sender, ack, condition,
    missing, note, of_store, outcomes, place_of, read_row, row_of,
};
use super::{FlushError, Header};

/// How many producers one statement brings up to date. It is as long as this, and looks at each row as often.
const PRODUCERS_AT_ONCE: usize = 32;

/// The same for whatever has changed and any database. What it costs is mostly the trips to the database and back, of which
/// each statement with values is one. So what has numbers only goes with the statements that begin and end the transaction.
pub(super) async fn step_by_step(
    session: &mut Session<'_>,
    index: &Index,
    producers: &Producers,
    header: &Header,
    counters: Vec<Counter>,
) -> Result<(), FlushError> {
    begin(session, index, header).await?;
    rows(session, index).await?;
    count(session, counters).await?;
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
    let set = of_store(index, header).map(|(column, value)| format!("{column}={value}"));
    let text = format!(
        "{}; UPDATE {STORE} SET {} WHERE ID=1 AND OPENER='{}' AND COMMITS={}",
        session.dialect.begin(),
        set.join(", "),
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
        let Some(of_row) = row_of(**row, content, read.remove(*row)) else {
            continue;
        };
        match row {
            Row::Message(_) => messages.push(of_row),
            Row::Own(_) => own.push(of_row),
        }
    }
    session.insert(MESSAGES, MESSAGE_COLUMNS, &messages).await?;
    session.insert(OWN_MESSAGES, OWN_COLUMNS, &own).await?;
    Ok(())
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
    session.insert(NOTES, NOTE_COLUMNS, &noted).await?;
    Ok(())
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
    for key in &index.changes.acks {
        let (Some((acks, last, names)), Some(StoredDestination::Subscription(subscription))) =
            (ack(index, key), index.state.destination(key.0))
        else {
            continue;
        };
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
        let Some(sender) = Sender::of(index, producers, producer) else {
            continue;
        };
        match sender.row.written {
            true => known.push((sender.row.id, sender.sequence, sender.seen)),
            false => new.push(sender.values(producer)),
        }
    }
    session.insert(PRODUCERS, PRODUCER_COLUMNS, &new).await?;
    known.sort_unstable();
    let mut last: String = known.chunks(PRODUCERS_AT_ONCE).map(seen_again).collect();
    if let Some(oldest) = producers.forgotten() {
        last += &format!("DELETE FROM {PRODUCERS} WHERE SEEN<{oldest}; ");
    }
    let forgotten = index.state.outcomes.forgotten();
    if index.changes.forgets {
        last += &format!("DELETE FROM {OUTCOMES} WHERE AT_TIME<={forgotten}; ");
    }
    let new = outcomes(index, producers);
    session.insert(OUTCOMES, OUTCOME_COLUMNS, &new).await?;
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
