use super::*;
use crate::wire::{ConnectionId, Destination, LocalTransactionId, Message, SessionId};

fn tracker() -> Tracker {
    Tracker::new(Box::default(), true)
}

fn session(value: i64) -> Command {
    let session_id = Some(SessionId {
        value,
        ..SessionId::default()
    });
    Command::from(SessionInfo {
        session_id,
        ..SessionInfo::default()
    })
}

fn producer_id(session_id: i64, value: i64) -> ProducerId {
    ProducerId {
        session_id,
        value,
        ..ProducerId::default()
    }
}

fn producer(session: i64, value: i64) -> Command {
    let producer_id = Some(producer_id(session, value));
    Command::from(ProducerInfo {
        producer_id,
        ..ProducerInfo::default()
    })
}

fn consumer_id(session_id: i64, value: i64) -> ConsumerId {
    ConsumerId {
        session_id,
        value,
        ..ConsumerId::default()
    }
}

fn consumer(session: i64, value: i64) -> Command {
    let consumer_id = Some(consumer_id(session, value));
    Command::from(Box::new(ConsumerInfo {
        consumer_id,
        ..ConsumerInfo::default()
    }))
}

fn temporary(name: &str, operation_type: i8) -> DestinationInfo {
    DestinationInfo {
        destination: Some(Destination::parse(name, crate::wire::DestinationKind::TempQueue)),
        operation_type,
        ..DestinationInfo::default()
    }
}

fn transaction_id(value: i64) -> TransactionId {
    TransactionId::Local(LocalTransactionId {
        value,
        connection_id: Some(ConnectionId::new("c")),
    })
}

fn begin(value: i64) -> Command {
    Command::from(TransactionInfo {
        transaction_id: Some(transaction_id(value)),
        step: TransactionInfo::BEGIN,
        ..TransactionInfo::default()
    })
}

fn message(transaction: Option<i64>, producer: i64) -> Command {
    Command::Message(Arc::new(Message {
        transaction_id: transaction.map(transaction_id),
        producer_id: Some(producer_id(1, producer)),
        ..Message::default()
    }))
}

fn remove(id: EntityId) -> Command {
    Command::from(RemoveInfo {
        object_id: Some(id),
        ..RemoveInfo::default()
    })
}

fn observe(tracker: &mut Tracker, commands: &[Command]) {
    for command in commands {
        tracker.observe(command, None);
    }
}

#[test]
fn the_opening_says_that_it_is_a_reconnect() {
    let opening = tracker().opening();
    assert_eq!(opening.len(), 2);
    assert!(matches!(&opening[0], Command::ConnectionControl(control) if control.fault_tolerant));
    assert!(matches!(&opening[1], Command::ConnectionInfo(info) if info.failover_reconnect));
}

#[test]
fn temporary_destinations_come_before_sessions_and_sessions_with_what_they_have() {
    let mut tracker = tracker();
    let made = Command::from(temporary("t", DestinationInfo::ADD));
    observe(
        &mut tracker,
        &[
            session(2),
            consumer(2, 1),
            session(1),
            consumer(1, 2),
            producer(1, 1),
            consumer(1, 1),
            made.clone(),
        ],
    );
    let expected = [
        made,
        session(1),
        producer(1, 1),
        consumer(1, 1),
        consumer(1, 2),
        session(2),
        consumer(2, 1),
    ];
    assert_eq!(tracker.restore(), expected);
    // It is told to the next one as well.
    assert_eq!(tracker.restore(), expected);
}

#[test]
fn what_is_removed_is_not_restored() {
    let mut tracker = tracker();
    observe(
        &mut tracker,
        &[
            session(1),
            producer(1, 1),
            consumer(1, 1),
            session(2),
            consumer(2, 1),
        ],
    );
    observe(
        &mut tracker,
        &[
            Command::from(temporary("t", DestinationInfo::ADD)),
            Command::from(temporary("u", DestinationInfo::ADD)),
            Command::from(temporary("t", DestinationInfo::REMOVE)),
            remove(EntityId::Producer(producer_id(1, 1))),
            remove(EntityId::Session(SessionId {
                value: 2,
                ..SessionId::default()
            })),
        ],
    );
    tracker.remove(&EntityId::Consumer(consumer_id(1, 1)));
    tracker.remove_destination(&temporary("u", DestinationInfo::ADD));
    assert_eq!(tracker.restore(), [session(1)]);
}

#[test]
fn ordinary_destinations_are_the_brokers_own_affair() {
    let mut tracker = tracker();
    let info = DestinationInfo {
        destination: Some(Destination::queue("q")),
        ..DestinationInfo::default()
    };
    assert!(!tracker.observe(&Command::from(info), None));
    assert_eq!(tracker.restore(), []);
}

#[test]
fn open_transactions_are_repeated_and_others_are_not() {
    let mut tracker = tracker();
    let (open, dead) = (Arc::default(), Arc::<TransactionGuard>::default());
    tracker.observe(&begin(1), Some(&open));
    tracker.observe(&begin(2), Some(&dead));
    assert!(tracker.observe(&message(Some(1), 1), None));
    assert!(tracker.observe(&message(Some(2), 1), None));
    assert!(!tracker.observe(&message(Some(3), 1), None));
    assert!(!tracker.observe(&message(None, 1), None));
    dead.kill();
    assert_eq!(tracker.restore(), [begin(1), message(Some(1), 1)]);
    assert!(tracker.knows(&transaction_id(1)) && !tracker.knows(&transaction_id(2)));
    tracker.end_transaction(&transaction_id(1));
    assert_eq!(tracker.restore(), []);
}

#[test]
fn a_producer_closed_within_its_transaction_comes_back_for_the_replay() {
    let closing = [
        session(1),
        producer(1, 1),
        producer(1, 2),
        message(Some(1), 1),
        remove(EntityId::Producer(producer_id(1, 1))),
        remove(EntityId::Producer(producer_id(1, 2))),
    ];
    let mut tracker = tracker();
    tracker.observe(&begin(1), Some(&Arc::default()));
    observe(&mut tracker, &closing);
    let restored = tracker.restore();
    assert_eq!(
        restored[..4],
        [session(1), producer(1, 1), begin(1), message(Some(1), 1)]
    );
    assert!(matches!(&restored[4..], [Command::RemoveInfo(info)]
        if info.object_id == Some(EntityId::Producer(producer_id(1, 1)))));

    let mut forgetful = Tracker::new(Box::default(), false);
    forgetful.observe(&begin(1), Some(&Arc::default()));
    observe(&mut forgetful, &closing);
    assert_eq!(forgetful.restore(), [session(1), begin(1), message(Some(1), 1)]);
}

#[test]
fn a_prefetch_that_the_broker_changed_stays_changed() {
    let mut tracker = tracker();
    observe(&mut tracker, &[consumer(1, 1)]);
    tracker.set_prefetch(&consumer_id(1, 1), 7);
    tracker.set_prefetch(&consumer_id(1, 9), 8);
    assert!(matches!(&tracker.restore()[..], [Command::ConsumerInfo(info)] if info.prefetch_size == 7));
}
