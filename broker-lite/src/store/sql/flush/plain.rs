//! Groups in which nothing but what most groups do has changed: messages came and went, and what is noted beside them.

use super::super::changes::{Changes, Row, RowChange, Source};
use super::super::index::Index;
use super::super::producers::Producers;
use super::super::schema::{ACKS, MESSAGES, NOTES, OUTCOMES, PRODUCERS};
use super::super::statements::Value;
use super::Header;
use super::counters::{Counter, fit};
use super::rows::{
    MESSAGE_COLUMNS, NOTE_COLUMNS, OUTCOME_COLUMNS, PRODUCER_COLUMNS, Sender, ack, note, of_store, outcomes,
    row_of,
};
use super::together::{Together, selected};

/// More bytes of messages than this are written step by step, as a statement with values is in memory a few times.
const TOGETHER_BYTES: usize = 32 * 1024 * 1024;

/// True if nothing but what most groups do has changed: messages came and went, and what is noted beside them.
pub(super) fn is_plain(index: &Index, producers: &Producers, counters: &[Counter]) -> bool {
    let Changes {
        rows,
        emptied,
        notes: _,
        destinations,
        prepared,
        acks,
        unsubscribed,
        reselected,
        producers: _,
        outcomes: _,
        forgets: _,
    } = &index.changes;
    let mut bytes = 0;
    let mut is_plain = |(row, change): (&Row, &RowChange)| {
        let content = change.content.as_ref().map(|content| &content.source);
        match (row, content) {
            (Row::Message(_), None) => true,
            (Row::Message(_), Some(Source::New(body))) => {
                bytes += body.bytes.len();
                !change.existed
            }
            _ => false,
        }
    };
    let is_known = |(destination, topic): &_| {
        let acks = index.acks.get(destination).and_then(|acks| acks.get(topic));
        acks.is_some_and(|acks| acks.written.is_some())
    };
    emptied.is_empty()
        && destinations.is_empty()
        && prepared.is_empty()
        && unsubscribed.is_empty()
        && reselected.is_empty()
        && producers.forgotten().is_none()
        && acks.iter().all(is_known)
        && rows.iter().all(&mut is_plain)
        && bytes <= TOGETHER_BYTES
        && fit(counters)
        && counters
            .iter()
            .all(|counter| matches!(counter.row, Row::Message(_)) && !rows.contains_key(&counter.row))
}

/// What has changed, if it is plain, as one statement.
pub(super) fn together(
    index: &Index,
    producers: &Producers,
    header: &Header,
    counted: Vec<(u64, Value)>,
) -> Together {
    let changes = &index.changes;
    let mut together = Together::new(header, &of_store(index, header));
    let mut rows: Vec<_> = changes.rows.iter().collect();
    rows.sort_unstable_by_key(|(row, _)| **row);
    let (mut gone, mut messages) = (Vec::new(), Vec::new());
    for (row, change) in rows {
        match (row, &change.content) {
            (_, Some(content)) => messages.extend(row_of(*row, content, None)),
            (Row::Message(id), None) => gone.push(*id),
            (Row::Own(_), None) => {}
        }
    }
    together.delete(MESSAGES, &gone);
    together.insert(MESSAGES, MESSAGE_COLUMNS, &messages, "");
    let counted = counted.into_iter();
    let counted: Vec<_> = counted.map(|(id, body)| vec![Value::id(id), body]).collect();
    let body = selected((1, &Value::NoBytes));
    together.for_rows(
        &format!("UPDATE {MESSAGES} SET MSG={body} FROM"),
        &counted,
        "ID=r.c0",
    );
    let (noted, unnoted): (Vec<_>, Vec<_>) = changes.notes.iter().partition(|(key, _)| index.is_noted(**key));
    let gone = unnoted.iter().filter(|(_, existed)| **existed);
    let gone: Vec<_> = gone
        .map(|(key, _)| vec![Value::Int(key.destination.0.into()), Value::id(key.sequence)])
        .collect();
    together.for_rows(
        &format!("DELETE FROM {NOTES} USING"),
        &gone,
        "DEST=r.c0 AND SEQ=r.c1",
    );
    let noted = noted.iter().filter_map(|(key, _)| note(index, **key));
    together.insert(
        NOTES,
        NOTE_COLUMNS,
        &noted.collect::<Vec<_>>(),
        "ON CONFLICT (DEST, SEQ) DO UPDATE SET ID=EXCLUDED.ID, MARK=EXCLUDED.MARK, \
         REDELIVERED=EXCLUDED.REDELIVERED, AT_FIRST=EXCLUDED.AT_FIRST, DUE=EXCLUDED.DUE, FIRED=EXCLUDED.FIRED",
    );
    let acks = changes.acks.iter().filter_map(|key| ack(index, key));
    let acks = acks.filter_map(|(acks, last, names)| {
        let is_new = acks.written != Some(acks.last());
        is_new.then(|| std::iter::once(last).chain(names).collect())
    });
    together.for_rows(
        &format!("UPDATE {ACKS} SET LAST_ACKED_ID=r.c0 FROM"),
        &acks.collect::<Vec<_>>(),
        "CONTAINER=r.c1 AND CLIENT_ID=r.c2 AND SUB_NAME=r.c3",
    );
    let senders = changes.producers.iter().filter_map(|producer| {
        let sender = Sender::of(index, producers, producer)?;
        Some(sender.values(producer))
    });
    together.insert(
        PRODUCERS,
        PRODUCER_COLUMNS,
        &senders.collect::<Vec<_>>(),
        "ON CONFLICT (ID) DO UPDATE SET SEQ=EXCLUDED.SEQ, SEEN=EXCLUDED.SEEN",
    );
    together.insert(OUTCOMES, OUTCOME_COLUMNS, &outcomes(index, producers), "");
    if changes.forgets {
        let forgotten = Value::Int(index.state.outcomes.forgotten());
        together.once(&format!("DELETE FROM {OUTCOMES} WHERE AT_TIME<=?"), forgotten);
    }
    together
}
