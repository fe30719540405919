//! What `ls`, `verify` and `why` say.

use std::io::Write;

use super::{Failure, Outcome};
use crate::store::journal::inspect::{Holder, Inspection};
use crate::store::{MessageKey, StoredDestination};

/// So many messages of a destination are named; of the others there is the number.
const NAMED: usize = 10;

/// `broker-lite journal ls`.
pub(super) fn list(journal: &Inspection, out: &mut impl Write) -> Outcome {
    writeln!(
        out,
        "{:>10} {:>6} {:>12} {:>12} {:>6} {:>10} {:>10}",
        "segment", "epoch", "bytes", "used", "live", "records", "needed"
    )?;
    for segment in journal.segments() {
        writeln!(
            out,
            "{:>10} {:>6} {:>12} {:>12} {:>5.1}% {:>10} {:>10}",
            segment.number,
            segment.epoch,
            segment.disk_bytes,
            segment.used_bytes,
            100.0 * segment.live_bytes as f64 / segment.used_bytes.max(1) as f64,
            segment.records,
            segment.live_records
        )?;
    }
    for name in journal.leftovers() {
        writeln!(out, "{name} is no part of the log: the next start removes it")?;
    }
    Ok(())
}

/// `broker-lite journal verify`. What was damaged in the log was found when it was opened.
pub(super) fn verify(journal: &Inspection, out: &mut impl Write) -> Outcome {
    let records = journal.read_all()?;
    let (file, offset, open) = journal.end();
    if open {
        writeln!(
            out,
            "{file} ends at byte {offset}: the journal was not closed in order"
        )?;
    }
    let segments = journal.segments().len();
    writeln!(
        out,
        "sound: {segments} segments, {records} records of messages that are there"
    )?;
    Ok(())
}

/// `broker-lite journal why`.
pub(super) fn why(journal: &Inspection, number: u32, out: &mut impl Write) -> Outcome {
    let segments = journal.segments();
    let at = segments.iter().position(|segment| segment.number == number);
    let (Some(at), Some(holders)) = (at, journal.holders(number)) else {
        return Err(Failure::Content(format!("there is no segment {number}")));
    };
    let segment = &segments[at];
    writeln!(
        out,
        "segment {number}: {} of {} records are needed, {} of {} bytes",
        segment.live_records, segment.records, segment.live_bytes, segment.used_bytes
    )?;
    for holder in &holders {
        describe(journal, holder, out)?;
    }
    let older = segments[..at].iter().find(|older| older.live_records > 0);
    if holders.is_empty() {
        match older {
            Some(older) => writeln!(
                out,
                "segments before it go first, and segment {} is needed",
                older.number
            )?,
            None if at + 1 == segments.len() => writeln!(out, "it is the last one")?,
            None => writeln!(out, "nothing: a broker gives it up once it runs")?,
        }
    }
    Ok(())
}

fn describe(journal: &Inspection, holder: &Holder, out: &mut impl Write) -> Outcome {
    let count = holder.sequences.len();
    let noun = if count == 1 { "message" } else { "messages" };
    writeln!(out, "{}: {count} {noun}", name_of(&holder.destination))?;
    let keys: Vec<_> = holder
        .sequences
        .iter()
        .take(NAMED)
        .map(|&sequence| MessageKey {
            destination: holder.key,
            sequence,
        })
        .collect();
    for (key, message) in journal.load(&keys)? {
        let id = message.and_then(|message| message.message_id.as_ref().map(ToString::to_string));
        writeln!(out, "  {} {}", key.sequence, id.unwrap_or_default())?;
    }
    if count > NAMED {
        writeln!(out, "  and {} more", count - NAMED)?;
    }
    Ok(())
}

/// A destination as a person calls it.
fn name_of(destination: &StoredDestination) -> String {
    match destination {
        StoredDestination::Queue(name) => name.to_string(),
        StoredDestination::Subscription(subscription) => format!(
            "durable subscriber {} of client {} on {}",
            subscription.name, subscription.client_id, subscription.destination
        ),
        StoredDestination::Transaction => "a prepared transaction".to_owned(),
        StoredDestination::Schedule => "the scheduler".to_owned(),
        StoredDestination::Retained(name) => format!("the retained message of {name}"),
    }
}
