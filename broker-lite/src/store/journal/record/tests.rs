//! Records there and back.

use openwire_client::wire::MessageId;
use proptest::prelude::*;

use super::super::super::StoredXid;
use super::super::frame::FrameHeader;
use super::*;

fn key(sequence: u64) -> MessageKey {
    MessageKey {
        destination: DestinationKey(7),
        sequence,
    }
}

fn message() -> Message {
    let producer = ProducerId {
        connection_id: Some("ID:höst-1".into()),
        value: -2,
        session_id: 3,
    };
    Message {
        message_id: Some(MessageId {
            producer_id: Some(producer),
            producer_sequence_id: 11,
            ..MessageId::default()
        }),
        content: Some(Bytes::from_static(b"body")),
        redelivery_counter: 2,
        priority: 7,
        expiration: 1_700_000_000_000,
        ..Message::default()
    }
}

#[test]
fn a_put_comes_back_and_can_be_copied() {
    let mut out = BytesMut::from(&b"xyz"[..]);
    let message = Arc::new(message());
    let op = Op::Put {
        key: key(9),
        message: message.clone(),
    };
    encode_op(&op, None, &mut out).unwrap();
    let record = out.split_off(3).freeze();
    assert_eq!(record_len(&record[..RECORD_PREFIX]), Some(record.len()));
    assert_eq!(put_key_of(&record), Some(key(9)));
    let put = PutRecord::parse(&record).unwrap();
    assert_eq!(
        (put.key, put.header, put.redelivered),
        (key(9), Header::of(&message), 2)
    );
    let (producer, sequence) = put.producer.as_ref().unwrap();
    let id = message.message_id.clone().unwrap();
    assert_eq!(
        (Some(producer.id()), *sequence),
        (id.producer_id, id.producer_sequence_id)
    );
    assert_eq!(put.message(&record).unwrap(), message);

    for to in [9, 10] {
        encode_copy(&record, key(to), &mut out);
        let copy = out.split_off(3).freeze();
        assert_eq!(copy.len(), record.len());
        let put = PutRecord::parse(&copy).unwrap();
        assert_eq!((put.key, put.redelivered), (key(to), 2));
        assert_eq!(put.message(&copy).unwrap(), message);
    }
    for byte in 0..record.len() {
        let mut broken = record.to_vec();
        broken[byte] ^= 1;
        assert!(PutRecord::parse(&broken).is_none(), "{byte}");
    }
}

/// A put as layouts before 4 had it.
fn without_header(record: &[u8]) -> BytesMut {
    let mut old = BytesMut::from(&record[..SHORT_PUT_HEADER]);
    old[0] = PUT_WITHOUT_HEADER;
    old.extend_from_slice(&record[PUT_HEADER..]);
    seal_put(&mut old);
    old
}

#[test]
fn a_put_of_an_earlier_version_comes_back() {
    let mut record = BytesMut::new();
    encode_put(key(9), &message(), &mut record).unwrap();
    let old = without_header(&record).freeze();
    assert_eq!(record_len(&old), Some(old.len()));
    let put = PutRecord::parse(&old).unwrap();
    let unknown = Header {
        priority: 4,
        expiration: 0,
        ..Header::of(&message())
    };
    assert_eq!((put.key, put.header, put.redelivered), (key(9), unknown, 2));
    assert_eq!(*put.message(&old).unwrap(), message());
    let mut copy = BytesMut::new();
    encode_copy(&old, key(10), &mut copy);
    let copy = copy.freeze();
    let put = PutRecord::parse(&copy).unwrap();
    assert_eq!((put.key, put.header), (key(10), unknown));
    assert_eq!(*put.message(&copy).unwrap(), message());
}

#[test]
fn a_message_without_a_producer_has_none() {
    let mut out = BytesMut::new();
    encode_put(key(1), &Message::default(), &mut out).unwrap();
    assert!(PutRecord::parse(&out).unwrap().producer.is_none());
}

fn committed(connection: &str, transaction: i64, at: i64) -> Committed {
    Committed {
        connection: connection.into(),
        transaction,
        at,
    }
}

#[test]
fn other_records_come_back() {
    let queue = StoredDestination::Queue("queue://Ä".into());
    let prepared = Prepared {
        xid: StoredXid {
            format_id: 1,
            global: Bytes::from_static(b"g"),
            branch: Bytes::from_static(b"b"),
        },
        acknowledged: vec![key(20)],
    };
    let sender = ProducerId {
        connection_id: Some("ID:ü".into()),
        value: 12,
        session_id: 13,
    };
    let ops = [
        Op::CreateDestination {
            key: DestinationKey(1),
            destination: queue.clone(),
        },
        Op::Remove { key: key(2) },
        Op::Redelivered {
            key: key(3),
            count: 4,
        },
        Op::Dispatched {
            destination: DestinationKey(5),
            sequence: 6,
        },
        Op::RemoveDestination {
            key: DestinationKey(8),
        },
        Op::Committed {
            outcome: committed("ID:ö", 9, 10),
            forgotten: 11,
        },
        Op::CreateDestination {
            key: DestinationKey(12),
            destination: StoredDestination::Schedule,
        },
        Op::Share {
            key: key(13),
            of: key(14),
        },
        Op::Move {
            from: key(15),
            to: key(16),
        },
        Op::Prepare {
            destination: DestinationKey(17),
            prepared: Arc::new(prepared.clone()),
        },
        Op::Due {
            key: key(18),
            at: -19,
            times: 20,
        },
    ];
    let mut out = BytesMut::new();
    ops.iter()
        .for_each(|op| encode_op(op, Some((&sender, 14)), &mut out).unwrap());
    let mut at = 0;
    let records = std::iter::from_fn(|| {
        let (record, len) = Record::parse(out.get(at..)?)?;
        at += len;
        Some(record)
    });
    let records: Vec<_> = records.collect();
    assert!(matches!(
        &records[..],
        [
            Record::CreateDestination {
                key: DestinationKey(1),
                destination: first,
            },
            Record::Remove {
                key: MessageKey { sequence: 2, .. }
            },
            Record::Redelivered {
                key: MessageKey { sequence: 3, .. },
                count: 4
            },
            Record::Dispatched {
                destination: DestinationKey(5),
                sequence: 6
            },
            Record::RemoveDestination {
                key: DestinationKey(8)
            },
            Record::Committed {
                outcome,
                forgotten: 11
            },
            Record::CreateDestination {
                key: DestinationKey(12),
                destination: StoredDestination::Schedule,
            },
            Record::Share {
                key: MessageKey { sequence: 13, .. },
                of: MessageKey { sequence: 14, .. },
            },
            Record::Move {
                from: MessageKey { sequence: 15, .. },
                to: MessageKey { sequence: 16, .. },
                producer: Some((producer, 14)),
            },
            Record::Prepare {
                destination: DestinationKey(17),
                prepared: found,
            },
            Record::Due {
                key: MessageKey { sequence: 18, .. },
                at: -19,
                times: 20
            },
        ] if *outcome == committed("ID:ö", 9, 10)
            && *first == queue
            && producer.id() == sender
            && *found == prepared
    ));
    assert_eq!(at, out.len());
    let alone = Op::Move {
        from: key(1),
        to: key(2),
    };
    encode_op(&alone, None, &mut out).unwrap();
    let (record, len) = Record::parse(&out[at..]).unwrap();
    assert!(matches!(record, Record::Move { producer: None, .. }));
    assert_eq!(at + len, out.len());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(first in 0u8..15, mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(begin) = bytes.first_mut() {
            *begin = first;
        }
        if let Some(header) = FrameHeader::parse(&bytes) {
            header.is_intact(&bytes);
        }
        record_len(&bytes);
        put_key_of(&bytes);
        Record::parse(&bytes);
        PutRecord::parse(&bytes);
    }
}
