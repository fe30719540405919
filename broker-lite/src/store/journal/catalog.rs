//! What a segment begins with, to bytes and back. The layout is described in the [journal's
//! documentation](super).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};
use openwire_client::wire::ProducerId;

use super::super::{Committed, DestinationKey, Prepared, StoredDestination};
use super::describe::{get_destination, get_prepared, put_destination, put_prepared};
use super::epoch::Epoch;
use super::frame::Position;
use super::record::{PRODUCER_HEADER, connection_id, get_producer, get_text, put_producer, put_text};

/// The version of the layout, in each catalog.
const VERSION: u32 = 4;

/// The version in which nothing said who wrote a segment. Still read.
const WITHOUT_EPOCH: u32 = 3;

/// The version in which every destination was a queue, and each message lay at one key for ever. Still read.
const QUEUES_ONLY: u32 = 2;

/// The version before there were outcomes of transactions, which is still read.
const WITHOUT_OUTCOMES: u32 = 1;

/// Everything but messages that the segments before this one said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Catalog {
    /// Who wrote the segment.
    pub(super) epoch: Epoch,
    /// The oldest segment that is still needed.
    pub(super) oldest: u32,
    pub(super) next_sequence: u64,
    pub(super) next_destination: u32,
    pub(super) destinations: Vec<Cataloged>,
    pub(super) producers: Vec<(ProducerId, i64)>,
    /// Outcomes of transactions up to this time may be missing.
    pub(super) forgotten: i64,
    /// The oldest first.
    pub(super) committed: Vec<Committed>,
}

/// A destination, without its messages.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cataloged {
    pub(super) key: DestinationKey,
    pub(super) destination: StoredDestination,
    /// The dispatched watermark.
    pub(super) dispatched: u64,
    pub(super) prepared: Option<Arc<Prepared>>,
}

impl Catalog {
    /// Appends the payload of a catalog frame.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(VERSION);
        out.put_u64_le(self.epoch.number);
        out.put_u32_le(self.epoch.sealed.segment);
        out.put_u32_le(self.epoch.sealed.offset);
        out.put_u32_le(self.oldest);
        out.put_u64_le(self.next_sequence);
        out.put_u32_le(self.next_destination);
        out.put_u32_le(self.destinations.len() as u32);
        for cataloged in &self.destinations {
            out.put_u32_le(cataloged.key.0);
            out.put_u64_le(cataloged.dispatched);
            put_destination(&cataloged.destination, out);
            out.put_u8(cataloged.prepared.is_some().into());
            if let Some(prepared) = &cataloged.prepared {
                put_prepared(prepared, out);
            }
        }
        out.put_u32_le(self.producers.len() as u32);
        for (producer, sequence) in &self.producers {
            out.put_u32_le((PRODUCER_HEADER + connection_id(producer).len()) as u32);
            put_producer(producer, *sequence, out);
        }
        out.put_i64_le(self.forgotten);
        // A busy connection has many outcomes: its id is written once.
        let mut connections: BTreeMap<&str, Vec<&Committed>> = BTreeMap::new();
        for outcome in &self.committed {
            connections.entry(&outcome.connection).or_default().push(outcome);
        }
        out.put_u32_le(connections.len() as u32);
        for (connection, outcomes) in connections {
            put_text(connection, out);
            out.put_u32_le(outcomes.len() as u32);
            for outcome in outcomes {
                out.put_i64_le(outcome.transaction);
                out.put_i64_le(outcome.at);
            }
        }
    }

    /// Reads the payload of a catalog frame; the error says what is wrong.
    pub(super) fn parse(mut from: &[u8]) -> Result<Self, &'static str> {
        let (version, epoch) = parse_begin(&mut from)?;
        let mut catalog = Self::parse_fields(&mut from, version).ok_or(SHORT)?;
        catalog.epoch = epoch;
        if version > WITHOUT_OUTCOMES {
            catalog.parse_outcomes(&mut from).ok_or(SHORT)?;
        }
        Ok(catalog)
    }

    fn parse_fields(from: &mut &[u8], version: u32) -> Option<Self> {
        let mut catalog = Self {
            oldest: from.try_get_u32_le().ok()?,
            next_sequence: from.try_get_u64_le().ok()?,
            next_destination: from.try_get_u32_le().ok()?,
            ..Self::default()
        };
        // The counts are not trusted with an allocation: each entry has to be there.
        for _ in 0..from.try_get_u32_le().ok()? {
            catalog.destinations.push(Cataloged::parse(from, version)?);
        }
        for _ in 0..from.try_get_u32_le().ok()? {
            let len = from.try_get_u32_le().ok()? as usize;
            let (producer, rest) = from.split_at_checked(len)?;
            *from = rest;
            let (producer, sequence) = get_producer(producer)?;
            catalog.producers.push((producer.id(), sequence));
        }
        Some(catalog)
    }

    fn parse_outcomes(&mut self, from: &mut &[u8]) -> Option<()> {
        self.forgotten = from.try_get_i64_le().ok()?;
        for _ in 0..from.try_get_u32_le().ok()? {
            let connection: Arc<str> = get_text(from)?.into();
            for _ in 0..from.try_get_u32_le().ok()? {
                self.committed.push(Committed {
                    connection: connection.clone(),
                    transaction: from.try_get_i64_le().ok()?,
                    at: from.try_get_i64_le().ok()?,
                });
            }
        }
        self.committed.sort_by_key(|outcome| outcome.at);
        Some(())
    }
}

/// What the error of a catalog that is not complete says.
const SHORT: &str = "the catalog ends too early";

/// Reads no more of the payload of a catalog frame than who wrote it, and in which version.
pub(super) fn parse_begin(from: &mut &[u8]) -> Result<(u32, Epoch), &'static str> {
    let version = from.try_get_u32_le().map_err(|_| SHORT)?;
    if !(WITHOUT_OUTCOMES..=VERSION).contains(&version) {
        return Err("the journal was written by another version");
    }
    if version <= WITHOUT_EPOCH {
        return Ok((version, Epoch::default()));
    }
    let mut epoch = || -> Option<Epoch> {
        Some(Epoch {
            number: from.try_get_u64_le().ok()?,
            sealed: Position {
                segment: from.try_get_u32_le().ok()?,
                offset: from.try_get_u32_le().ok()?,
            },
        })
    };
    Ok((version, epoch().ok_or(SHORT)?))
}

impl Cataloged {
    fn parse(from: &mut &[u8], version: u32) -> Option<Self> {
        let key = DestinationKey(from.try_get_u32_le().ok()?);
        let dispatched = from.try_get_u64_le().ok()?;
        if version <= QUEUES_ONLY {
            return Some(Self {
                key,
                destination: StoredDestination::Queue(get_text(from)?.into()),
                dispatched,
                prepared: None,
            });
        }
        let destination = get_destination(from)?;
        let prepared = match from.try_get_u8().ok()? {
            0 => None,
            _ => Some(Arc::new(get_prepared(from)?)),
        };
        Some(Self {
            key,
            destination,
            dispatched,
            prepared,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::super::{MessageKey, StoredXid};
    use super::*;

    fn committed(connection: &str, transaction: i64, at: i64) -> Committed {
        Committed {
            connection: connection.into(),
            transaction,
            at,
        }
    }

    fn cataloged(key: u32, destination: StoredDestination, dispatched: u64) -> Cataloged {
        Cataloged {
            key: DestinationKey(key),
            destination,
            dispatched,
            prepared: None,
        }
    }

    #[test]
    fn a_catalog_comes_back() {
        let acknowledged = MessageKey {
            destination: DestinationKey(1),
            sequence: 7,
        };
        let prepared = Prepared {
            xid: StoredXid {
                format_id: 1,
                global: Bytes::from_static(b"global"),
                branch: Bytes::from_static(b"branch"),
            },
            acknowledged: vec![acknowledged],
        };
        let catalog = Catalog {
            epoch: Epoch {
                number: 8,
                sealed: Position {
                    segment: 9,
                    offset: 16,
                },
            },
            oldest: 1,
            next_sequence: 2,
            next_destination: 3,
            destinations: vec![
                cataloged(1, StoredDestination::Queue("queue://a".into()), 9),
                cataloged(2, StoredDestination::Queue("".into()), 0),
                cataloged(3, StoredDestination::Schedule, 0),
                Cataloged {
                    prepared: Some(Arc::new(prepared)),
                    ..cataloged(4, StoredDestination::Transaction, 0)
                },
                cataloged(5, StoredDestination::Transaction, 0),
            ],
            producers: vec![(
                ProducerId {
                    connection_id: Some("c".into()),
                    value: 1,
                    session_id: 2,
                },
                3,
            )],
            forgotten: 4,
            committed: vec![committed("b", 1, 5), committed("a", 1, 6), committed("b", 2, 7)],
        };
        let mut out = BytesMut::new();
        catalog.encode(&mut out);
        for len in 0..out.len() {
            assert!(Catalog::parse(&out[..len]).is_err());
        }
        assert_eq!(Catalog::parse(&out).as_ref(), Ok(&catalog));
        for other in [0, VERSION as u8 + 1] {
            out[0] = other;
            assert!(Catalog::parse(&out).unwrap_err().contains("version"));
        }
    }

    /// The same catalog in all versions: oldest segment 1, next sequence 2, next destination 3, and a queue.
    fn old(version: u32) -> BytesMut {
        let mut out = BytesMut::new();
        [version, 1].into_iter().for_each(|field| out.put_u32_le(field));
        out.put_u64_le(2);
        [3, 1, 1].into_iter().for_each(|field| out.put_u32_le(field));
        out.put_u64_le(9);
        put_text("queue://a", &mut out);
        out.put_u32_le(0);
        out
    }

    #[test]
    fn catalogs_of_earlier_versions_are_read() {
        let mut expected = Catalog {
            oldest: 1,
            next_sequence: 2,
            next_destination: 3,
            destinations: vec![cataloged(1, StoredDestination::Queue("queue://a".into()), 9)],
            ..Catalog::default()
        };
        assert_eq!(Catalog::parse(&old(WITHOUT_OUTCOMES)).as_ref(), Ok(&expected));
        let mut out = old(QUEUES_ONLY);
        assert!(Catalog::parse(&out).is_err());
        out.put_i64_le(4);
        out.put_u32_le(1);
        put_text("c", &mut out);
        out.put_u32_le(1);
        out.put_i64_le(5);
        out.put_i64_le(6);
        expected.forgotten = 4;
        expected.committed = vec![committed("c", 5, 6)];
        assert_eq!(Catalog::parse(&out), Ok(expected));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(version in 0u8..6, mut bytes in prop::collection::vec(any::<u8>(), 4..200)) {
            bytes[..4].copy_from_slice(&[version, 0, 0, 0]);
            prop_assert!(Catalog::parse(&bytes).is_err() || bytes.len() >= 28);
        }
    }
}
