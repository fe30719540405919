//! What the keys of the store stand for, and what was prepared, to bytes and back. The layout is described in the
//! [journal's documentation](super).

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::super::{Prepared, StoredDestination, StoredSubscription, StoredXid};
use super::record::{get_key, get_text, put_key, put_text};

const QUEUE: u8 = 1;
const SUBSCRIPTION: u8 = 2;
const TRANSACTION: u8 = 3;
const SCHEDULE: u8 = 4;
const RETAINED: u8 = 5;

/// Flags of a subscription.
const NO_LOCAL: u8 = 1;
const SELECTOR: u8 = 2;

/// Appends a description.
pub(super) fn put_destination(destination: &StoredDestination, out: &mut BytesMut) {
    match destination {
        StoredDestination::Queue(name) => {
            out.put_u8(QUEUE);
            put_text(name, out);
        }
        StoredDestination::Subscription(subscription) => {
            let StoredSubscription {
                client_id,
                name,
                destination,
                selector,
                no_local,
            } = &**subscription;
            out.put_u8(SUBSCRIPTION);
            let flags = if *no_local { NO_LOCAL } else { 0 };
            out.put_u8(flags | if selector.is_some() { SELECTOR } else { 0 });
            put_text(client_id, out);
            put_text(name, out);
            put_text(destination, out);
            if let Some(selector) = selector {
                put_text(selector, out);
            }
        }
        StoredDestination::Transaction => out.put_u8(TRANSACTION),
        StoredDestination::Schedule => out.put_u8(SCHEDULE),
        StoredDestination::Retained(name) => {
            out.put_u8(RETAINED);
            put_text(name, out);
        }
    }
}

/// Reads a description.
pub(super) fn get_destination(from: &mut &[u8]) -> Option<StoredDestination> {
    Some(match from.try_get_u8().ok()? {
        QUEUE => StoredDestination::Queue(get_text(from)?.into()),
        SUBSCRIPTION => {
            let flags = from.try_get_u8().ok()?;
            let subscription = StoredSubscription {
                client_id: get_text(from)?.into(),
                name: get_text(from)?.into(),
                destination: get_text(from)?.into(),
                selector: match flags & SELECTOR {
                    0 => None,
                    _ => Some(get_text(from)?.into()),
                },
                no_local: flags & NO_LOCAL != 0,
            };
            StoredDestination::Subscription(Arc::new(subscription))
        }
        TRANSACTION => StoredDestination::Transaction,
        SCHEDULE => StoredDestination::Schedule,
        RETAINED => StoredDestination::Retained(get_text(from)?.into()),
        _ => return None,
    })
}

/// Appends what was prepared.
pub(super) fn put_prepared(prepared: &Prepared, out: &mut BytesMut) {
    let StoredXid {
        format_id,
        global,
        branch,
    } = &prepared.xid;
    out.put_i32_le(*format_id);
    for part in [global, branch] {
        out.put_u32_le(part.len() as u32);
        out.put_slice(part);
    }
    out.put_u32_le(prepared.acknowledged.len() as u32);
    for key in &prepared.acknowledged {
        put_key(*key, out);
    }
}

/// Reads what was prepared.
pub(super) fn get_prepared(from: &mut &[u8]) -> Option<Prepared> {
    let xid = StoredXid {
        format_id: from.try_get_i32_le().ok()?,
        global: get_bytes(from)?,
        branch: get_bytes(from)?,
    };
    let mut acknowledged = Vec::new();
    // The count is not trusted with an allocation: each entry has to be there.
    for _ in 0..from.try_get_u32_le().ok()? {
        acknowledged.push(get_key(from)?);
    }
    Some(Prepared { xid, acknowledged })
}

fn get_bytes(from: &mut &[u8]) -> Option<Bytes> {
    let len = from.try_get_u32_le().ok()? as usize;
    let (bytes, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(Bytes::copy_from_slice(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::super::{DestinationKey, MessageKey};
    use super::*;

    fn comes_back(destination: &StoredDestination) {
        let mut out = BytesMut::new();
        put_destination(destination, &mut out);
        for len in 0..out.len() {
            assert_eq!(get_destination(&mut &out[..len]), None, "{len}");
        }
        let mut rest = &out[..];
        assert_eq!(get_destination(&mut rest).as_ref(), Some(destination));
        assert!(rest.is_empty());
    }

    #[test]
    fn descriptions_come_back() {
        comes_back(&StoredDestination::Queue("queue://Ä".into()));
        comes_back(&StoredDestination::Retained("topic://t".into()));
        comes_back(&StoredDestination::Transaction);
        comes_back(&StoredDestination::Schedule);
        for selector in [None, Some("a = 'b'".into())] {
            for no_local in [false, true] {
                comes_back(&StoredDestination::Subscription(Arc::new(StoredSubscription {
                    client_id: "client".into(),
                    name: "".into(),
                    destination: "topic://A.>,topic://B".into(),
                    selector: selector.clone(),
                    no_local,
                })));
            }
        }
        assert_eq!(get_destination(&mut &[99, 0, 0, 0, 0][..]), None);
    }

    #[test]
    fn what_was_prepared_comes_back() {
        let key = |sequence| MessageKey {
            destination: DestinationKey(3),
            sequence,
        };
        for acknowledged in [vec![], vec![key(1), key(u64::MAX)]] {
            let prepared = Prepared {
                xid: StoredXid {
                    format_id: -1,
                    global: Bytes::from_static(b"\0global"),
                    branch: Bytes::new(),
                },
                acknowledged,
            };
            let mut out = BytesMut::new();
            put_prepared(&prepared, &mut out);
            for len in 0..out.len() {
                assert_eq!(get_prepared(&mut &out[..len]), None, "{len}");
            }
            let mut rest = &out[..];
            assert_eq!(get_prepared(&mut rest), Some(prepared));
            assert!(rest.is_empty());
        }
    }
}
