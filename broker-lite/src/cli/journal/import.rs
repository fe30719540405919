//! `broker-lite journal import`.

use std::io::{BufRead, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use bytes::Bytes;
use openwire_client::wire::{Message, unmarshal};

use super::line::{Base64, Described, FORMAT, Line};
use super::{Failure, Outcome};
use crate::store::journal::inspect::is_journal;
use crate::store::journal::{Journal, JournalOptions};
use crate::store::{
    Batch, DestinationKey, MessageKey, Op, Prepared, Store, StoreError, StoredDestination,
    StoredSubscription, StoredXid,
};

/// The longest line: the largest message that OpenWire carries by default, in base64.
const LONGEST_LINE: u64 = 150 * 1024 * 1024;

/// About what is stored in a batch, in bytes of lines.
const BATCH: usize = 1024 * 1024;

/// Stores what an export holds in a new journal.
pub(super) fn import(dir: &Path, input: impl BufRead, out: &mut impl Write) -> Outcome {
    if is_journal(dir)? {
        return Err(StoreError::Refused(format!("{} holds a journal already", dir.display())).into());
    }
    let (journal, _) = Journal::open(dir, JournalOptions::default())?;
    let imported = read(&journal, input);
    journal.close()?;
    let messages = imported.map_err(|failure| match failure {
        Failure::Content(why) => Failure::Content(format!("{why}; {} holds what came before", dir.display())),
        other => other,
    })?;
    writeln!(out, "{messages} messages")?;
    Ok(())
}

/// Gives the number of messages.
fn read(journal: &Journal, mut input: impl BufRead) -> Result<u64, Failure> {
    let mut ops = Vec::new();
    let mut bytes = 0;
    let mut messages = 0;
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        let wrong = |why: &str| Failure::Content(format!("line {number}: {why}"));
        let length = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text);
        let length = length.map_err(|error| wrong(&error.to_string()))?;
        if length as u64 == LONGEST_LINE {
            return Err(wrong("it is too long"));
        }
        if length == 0 {
            if number == 1 {
                return Err(wrong("there is nothing to import"));
            }
            break;
        }
        let line: Line = serde_json::from_slice(&text).map_err(|error| wrong(&error.to_string()))?;
        match (&line, number) {
            (Line::Journal { format: FORMAT }, 1) => {}
            (Line::Journal { format }, 1) => return Err(wrong(&format!("format {format} is not known"))),
            (Line::Journal { .. }, _) => return Err(wrong("another export begins")),
            (_, 1) => return Err(wrong("this is no export of a journal")),
            (Line::Message { .. } | Line::Share { .. }, _) => messages += 1,
            _ => {}
        }
        take(line, &mut ops).map_err(|why| wrong(&why))?;
        bytes += length;
        if bytes >= BATCH {
            store(journal, std::mem::take(&mut ops))?;
            bytes = 0;
        }
    }
    store(journal, ops)?;
    Ok(messages)
}

fn store(journal: &Journal, ops: Vec<Op>) -> Outcome {
    let (answer, stored) = channel();
    journal.append(Batch { ops }, Box::new(move |done| drop(answer.send(done))));
    stored.recv().unwrap_or(Err(StoreError::Closed))?;
    Ok(())
}

fn key((destination, sequence): (u32, u64)) -> MessageKey {
    MessageKey {
        destination: DestinationKey(destination),
        sequence,
    }
}

/// Appends what a line says.
fn take(line: Line, ops: &mut Vec<Op>) -> Result<(), String> {
    match line {
        Line::Journal { .. } => {}
        Line::Destination { key, dispatched, is } => {
            let key = DestinationKey(key);
            ops.push(Op::CreateDestination {
                key,
                destination: destination(is),
            });
            ops.push(Op::Dispatched {
                destination: key,
                sequence: dispatched,
            });
        }
        Line::Message {
            destination,
            sequence,
            redelivered,
            due,
            body,
            openwire,
            ..
        } => {
            let key = key((destination, sequence));
            let message = message(body, openwire)?;
            ops.push(Op::Put { key, message });
            ops.extend(beside(key, redelivered, due));
        }
        Line::Share {
            destination,
            sequence,
            redelivered,
            due,
            of,
        } => {
            let key_of = key(of);
            let key = key((destination, sequence));
            ops.push(Op::Share { key, of: key_of });
            ops.extend(beside(key, redelivered, due));
        }
        Line::Prepared {
            destination,
            format_id,
            global_transaction_id,
            branch_qualifier,
            acknowledged,
        } => {
            let xid = StoredXid {
                format_id,
                global: global_transaction_id.0.into(),
                branch: branch_qualifier.0.into(),
            };
            let acknowledged = acknowledged.into_iter().map(key).collect();
            ops.push(Op::Prepare {
                destination: DestinationKey(destination),
                prepared: Arc::new(Prepared { xid, acknowledged }),
            });
        }
    }
    Ok(())
}

fn message(body: Option<Base64>, openwire: Base64) -> Result<Arc<Message>, String> {
    let mut message = unmarshal(openwire.0.into()).map_err(|error| error.to_string())?;
    Arc::make_mut(&mut message).content = body.map(|body| Bytes::from(body.0));
    Ok(message)
}

/// What is kept beside a message. The counter always, as it may be less than what the message was put with.
fn beside(key: MessageKey, redelivered: u32, due: Option<(i64, u32)>) -> impl Iterator<Item = Op> {
    let count = Op::Redelivered {
        key,
        count: redelivered,
    };
    let due = due.map(|(at, times)| Op::Due { key, at, times });
    std::iter::once(count).chain(due)
}

fn destination(is: Described) -> StoredDestination {
    match is {
        Described::Queue(name) => StoredDestination::Queue(name.into()),
        Described::DurableSubscription {
            client_id,
            name,
            destination,
            selector,
            no_local,
        } => StoredDestination::Subscription(Arc::new(StoredSubscription {
            client_id: client_id.into(),
            name: name.into(),
            destination: destination.into(),
            selector: selector.map(Into::into),
            no_local,
        })),
        Described::Transaction => StoredDestination::Transaction,
        Described::Schedule => StoredDestination::Schedule,
        Described::Retained(name) => StoredDestination::Retained(name.into()),
    }
}
