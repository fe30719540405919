use super::*;
use crate::wire::{Destination, LocalTransactionId, ProducerId, RemoveInfo};

const PREFETCH: u16 = 6;

fn rules(mode: AcknowledgeMode) -> Rules {
    Rules {
        mode,
        prefetch: PREFETCH,
        batch: None,
        batch_age: None,
        check_expiry: true,
        redelivery: RedeliveryPolicy {
            maximum_redeliveries: Some(2),
            ..RedeliveryPolicy::default()
        },
        remember: 4,
        own_copies: false,
        comes_again: true,
        by_priority: false,
        non_blocking: false,
        individually: false,
        browses: false,
    }
}

/// An inbox with its acknowledgements as `(type, first, last, count, in a transaction)`.
struct Fixture {
    inbox: Inbox,
    audit: Arc<Audit>,
    acks: Vec<MessageAck>,
    now: Instant,
    transaction: Option<TransactionId>,
}

type Ack = (i8, i64, i64, i32, bool);

fn fixture(rules: Rules) -> Fixture {
    let transacted = rules.mode == AcknowledgeMode::Transacted;
    let audit = Arc::<Audit>::default();
    let transaction = || TransactionId::Local(LocalTransactionId::default());
    Fixture {
        inbox: Inbox::new(ConsumerId::default(), rules, audit.clone()),
        audit,
        acks: Vec::new(),
        now: Instant::now(),
        transaction: transacted.then(transaction),
    }
}

fn id(number: i64) -> MessageId {
    MessageId {
        producer_id: Some(ProducerId::default()),
        producer_sequence_id: number,
        broker_sequence_id: 100 + number,
        ..MessageId::default()
    }
}

fn dispatch(number: i64) -> MessageDispatch {
    let destination = Some(Destination::queue("q"));
    let message = Message {
        message_id: Some(id(number)),
        destination: destination.clone(),
        ..Message::default()
    };
    MessageDispatch {
        destination,
        message: Some(Arc::new(message)),
        ..MessageDispatch::default()
    }
}

impl Fixture {
    fn interrupted(&mut self) {
        self.inbox.interrupted();
        self.audit.interrupted();
    }

    fn arrive(&mut self, numbers: std::ops::RangeInclusive<i64>) {
        for number in numbers {
            let dispatched = self.inbox.dispatch(dispatch(number)).unwrap();
            assert!(matches!(dispatched, Dispatched::Ready), "{dispatched:?}");
        }
    }

    fn take(&mut self, hold: bool) -> Option<Arc<Message>> {
        if self.inbox.paused_until(self.now).is_some() {
            return None;
        }
        match self
            .inbox
            .next(1000, self.transaction.as_ref(), hold, &mut self.acks)
        {
            Next::Message(message) => Some(message),
            Next::Nothing => None,
        }
    }

    /// These come again, and the application has them already.
    fn come_again(&mut self, numbers: impl IntoIterator<Item = i64>) {
        for number in numbers {
            let mut dispatch = dispatch(number);
            dispatch.redelivery_counter = 1;
            match self.inbox.dispatch(dispatch).unwrap() {
                Dispatched::Again(ack) => self.acks.push(*ack),
                other => panic!("{number} is shown again: {other:?}"),
            }
        }
    }

    /// The transaction is about to end.
    fn settle(&mut self) {
        self.inbox.begin_completion();
        let transaction = self.transaction.as_ref().expect("it is transacted");
        self.inbox.settle(transaction, &mut self.acks);
    }

    /// Delivers as many and says which and how often each was delivered.
    fn deliver(&mut self, count: usize) -> Vec<(i64, i32)> {
        let number = |message: &Message| message.message_id.as_ref().unwrap().producer_sequence_id;
        (0..count)
            .map_while(|_| self.take(false))
            .map(|message| (number(&message), message.redelivery_counter))
            .collect()
    }

    fn acks(&mut self) -> Vec<Ack> {
        let number = |id: &Option<MessageId>| id.as_ref().map_or(0, |id| id.producer_sequence_id);
        self.acks
            .drain(..)
            .map(|ack| {
                let ids = (number(&ack.first_message_id), number(&ack.last_message_id));
                let transacted = ack.transaction_id.is_some();
                (ack.ack_type, ids.0, ids.1, ack.message_count, transacted)
            })
            .collect()
    }
}

fn once(numbers: std::ops::RangeInclusive<i64>) -> Vec<(i64, i32)> {
    numbers.map(|number| (number, 0)).collect()
}

#[test]
fn what_was_delivered_and_not_acknowledged_is_not_hidden_by_what_was() {
    let mut f = fixture(rules(AcknowledgeMode::Individual));
    f.arrive(1..=4);
    f.deliver(3);
    let last = f
        .inbox
        .delivered
        .deliveries()
        .back()
        .unwrap()
        .id()
        .unwrap()
        .clone();
    assert!(f.inbox.acknowledge_one(&last, &mut f.acks));
    assert_eq!(f.inbox.last_delivered(), 102);
    f.inbox.recover(Instant::now(), 0.0, &mut f.acks);
    f.inbox.paused_until = None;
    f.deliver(1);
    assert_eq!(f.inbox.last_delivered(), 102);
}

#[test]
fn auto_acknowledges_each_message() {
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    f.arrive(1..=2);
    assert_eq!(f.deliver(5), once(1..=2));
    assert_eq!(
        f.acks(),
        [
            (MessageAck::STANDARD, 1, 1, 1, false),
            (MessageAck::STANDARD, 2, 2, 1, false)
        ]
    );
    assert_eq!(f.inbox.last_delivered(), 102);
}

#[test]
fn what_a_listener_has_in_hand_is_acknowledged_when_it_is_done() {
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    f.arrive(1..=2);
    let message = f.take(true).unwrap();
    assert_eq!(f.acks(), []);
    f.inbox.processed(&message, &mut f.acks);
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 1, 1, 1, false)]);
    let message = f.take(true).unwrap();
    f.inbox.failed(&message, f.now, 0.5, "no", &mut f.acks);
    assert_eq!(f.acks(), []);
    f.now += Duration::from_secs(1);
    assert_eq!(f.deliver(5), [(2, 1)]);
}

#[test]
fn client_reports_at_half_the_prefetch_and_acknowledges_all() {
    let mut f = fixture(rules(AcknowledgeMode::Client));
    f.arrive(1..=8);
    assert_eq!(f.deliver(4), once(1..=4));
    assert_eq!(f.acks(), [(MessageAck::DELIVERED, 1, 3, 3, false)]);
    assert_eq!(f.inbox.acknowledge_all(&mut f.acks), 4);
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 1, 4, 4, false)]);
    assert_eq!(f.deliver(3), once(5..=7));
    assert_eq!(f.acks(), [(MessageAck::DELIVERED, 5, 7, 3, false)]);
    assert_eq!(f.inbox.acknowledge_all(&mut f.acks), 3);
    assert_eq!(f.inbox.acknowledge_all(&mut f.acks), 0);
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 5, 7, 3, false)]);
}

#[test]
fn a_prefetch_of_one_reports_every_message_and_zero_none() {
    let mut f = fixture(Rules {
        prefetch: 1,
        ..rules(AcknowledgeMode::Client)
    });
    f.arrive(1..=2);
    f.deliver(2);
    assert_eq!(
        f.acks(),
        [
            (MessageAck::DELIVERED, 1, 1, 1, false),
            (MessageAck::DELIVERED, 2, 2, 1, false)
        ]
    );
    let mut f = fixture(Rules {
        prefetch: 0,
        ..rules(AcknowledgeMode::Client)
    });
    f.arrive(1..=1);
    f.deliver(1);
    assert_eq!(f.acks(), []);
}

#[test]
fn individual_acknowledges_one_and_reports_only_what_is_not_known() {
    let mut f = fixture(rules(AcknowledgeMode::Individual));
    f.arrive(1..=6);
    f.deliver(2);
    assert!(f.inbox.acknowledge_one(&id(1), &mut f.acks));
    assert!(!f.inbox.acknowledge_one(&id(1), &mut f.acks));
    assert_eq!(f.acks(), [(MessageAck::INDIVIDUAL, 0, 1, 1, false)]);
    f.deliver(1);
    assert_eq!(f.acks(), []);
    f.deliver(1);
    assert_eq!(f.acks(), [(MessageAck::DELIVERED, 2, 4, 3, false)]);
    assert!(f.inbox.acknowledge_one(&id(3), &mut f.acks));
    f.acks();
    f.deliver(2);
    assert_eq!(f.acks(), []);
}

#[test]
fn a_batch_is_acknowledged_when_it_is_full_or_at_the_end() {
    let mut f = fixture(Rules {
        batch: Some(3),
        ..rules(AcknowledgeMode::DupsOk)
    });
    f.arrive(1..=5);
    f.deliver(5);
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 1, 3, 3, false)]);
    f.inbox.flush(&mut f.acks);
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 4, 5, 2, false)]);
}

#[test]
fn a_batch_that_is_old_goes_with_the_next_message() {
    let mut f = fixture(Rules {
        batch: Some(100),
        batch_age: Some(Duration::from_millis(300)),
        ..rules(AcknowledgeMode::Auto)
    });
    f.arrive(1..=3);
    for (millis, expected) in [
        (1000, None),
        (1299, None),
        (1300, Some((MessageAck::STANDARD, 1, 3, 3, false))),
    ] {
        f.inbox.next(millis, None, false, &mut f.acks);
        assert_eq!(f.acks(), Vec::from_iter(expected), "{millis}");
    }
}

#[test]
fn a_transaction_settles_everything_with_its_id() {
    let mut f = fixture(rules(AcknowledgeMode::Transacted));
    f.arrive(1..=4);
    f.deliver(4);
    assert_eq!(f.acks(), [(MessageAck::DELIVERED, 1, 3, 3, true)]);
    assert!(f.inbox.in_transaction());
    f.settle();
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 1, 4, 4, true)]);
    // The broker has not said yet that it is so.
    assert!(f.inbox.in_transaction());
    f.inbox.committed();
    assert!(!f.inbox.in_transaction());
}

#[test]
fn what_was_rolled_back_comes_first_after_the_delay() {
    let mut f = fixture(rules(AcknowledgeMode::Transacted));
    f.arrive(1..=3);
    f.deliver(2);
    for round in 1..=2 {
        f.settle();
        f.acks();
        f.inbox.rolled_back(f.now, 0.5, &mut f.acks);
        // The broker need not know of the first time.
        let told = (round > 1).then_some((MessageAck::REDELIVERED, 1, 2, 2, false));
        assert_eq!(f.acks(), Vec::from_iter(told));
        assert_eq!(f.deliver(5), []);
        assert_eq!(f.inbox.paused_until(f.now), Some(f.now + Duration::from_secs(1)));
        f.now += Duration::from_secs(1);
        assert_eq!(f.deliver(2), [(1, round), (2, round)]);
    }
    assert_eq!(f.deliver(1), [(3, 0)]);
    f.acks();
    // Two of the three have had their chances.
    f.settle();
    f.acks();
    f.inbox.rolled_back(f.now, 0.5, &mut f.acks);
    let poison = |number| (MessageAck::POISON, number, number, 1, false);
    assert_eq!(f.acks(), [poison(1), poison(2)]);
    assert_eq!(f.inbox.noted.poisoned, 2);
    f.now += Duration::from_secs(1);
    assert_eq!(f.deliver(5), [(3, 1)]);
}

#[test]
fn a_poisoned_message_says_why() {
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    let mut dispatch = dispatch(1);
    dispatch.redelivery_counter = 3;
    f.inbox.dispatch(dispatch).unwrap();
    assert_eq!(f.deliver(1), []);
    let cause = f.acks[0].poison_cause.clone().unwrap().message.unwrap();
    assert!(cause.contains("exceeds redelivery policy limit: 2"), "{cause}");
    assert_eq!(f.acks(), [(MessageAck::POISON, 1, 1, 1, false)]);
}

#[test]
fn breaks_are_no_reason_to_give_a_message_up() {
    let mut f = fixture(rules(AcknowledgeMode::Client));
    for counter in 1..=9 {
        f.interrupted();
        let mut dispatch = dispatch(1);
        dispatch.redelivery_counter = counter;
        f.inbox.dispatch(dispatch).unwrap();
        assert_eq!(f.deliver(1), [(1, counter)]);
    }
    // Two rollbacks are allowed, whatever else has happened.
    for round in 1..=2 {
        f.inbox.recover(f.now, 0.5, &mut f.acks);
        f.now += Duration::from_secs(1);
        assert_eq!(f.deliver(1), [(1, 9 + round)]);
    }
    f.inbox.recover(f.now, 0.5, &mut f.acks);
    assert_eq!((f.inbox.noted.poisoned, f.deliver(1)), (1, vec![]));
}

#[test]
fn the_check_before_delivery_leaves_alone_what_the_broker_delays() {
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    let mut properties = crate::wire::ValueMap::new();
    properties.insert("redeliveryDelay", 1000_i64);
    let mut encoded = bytes::BytesMut::new();
    crate::wire::encode_map(&properties, &mut encoded).unwrap();
    let mut dispatch = dispatch(1);
    dispatch.redelivery_counter = 9;
    Arc::make_mut(dispatch.message.as_mut().unwrap()).marshalled_properties = Some(encoded.freeze());
    f.inbox.dispatch(dispatch).unwrap();
    assert_eq!(f.deliver(1), [(1, 9)]);
}

#[test]
fn recover_concerns_only_what_waits_for_acknowledgement() {
    let mut f = fixture(rules(AcknowledgeMode::Client));
    f.arrive(1..=3);
    f.deliver(2);
    f.inbox.recover(f.now, 0.5, &mut f.acks);
    f.now += Duration::from_secs(1);
    assert_eq!(f.deliver(3), [(1, 1), (2, 1), (3, 0)]);
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    f.arrive(1..=2);
    f.deliver(1);
    f.inbox.recover(f.now, 0.5, &mut f.acks);
    assert_eq!(f.deliver(2), once(2..=2));
}

#[test]
fn expired_messages_are_skipped() {
    let mut f = fixture(rules(AcknowledgeMode::Client));
    let mut old = dispatch(1);
    Arc::make_mut(old.message.as_mut().unwrap()).expiration = 999;
    f.inbox.dispatch(old.clone()).unwrap();
    f.arrive(2..=2);
    assert_eq!(f.deliver(2), once(2..=2));
    assert_eq!(f.acks(), [(MessageAck::EXPIRED, 1, 1, 1, false)]);
    let mut f = fixture(Rules {
        check_expiry: false,
        ..rules(AcknowledgeMode::Client)
    });
    f.inbox.dispatch(old).unwrap();
    assert_eq!(f.deliver(1), once(1..=1));
}

#[test]
fn a_break_drops_everything_and_remembers_what_was_acknowledged() {
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    f.arrive(1..=8);
    f.deliver(6);
    f.acks();
    f.interrupted();
    assert!(f.inbox.is_empty());
    assert_eq!(f.inbox.last_delivered(), RemoveInfo::NOTHING_DELIVERED);
    // It remembers the last four: what is older was acknowledged long enough ago.
    f.arrive(3..=8);
    f.arrive(2..=2);
    assert_eq!(f.deliver(9), [(7, 0), (8, 0), (2, 0)]);
    assert_eq!(f.inbox.noted.duplicates, 4);
    let acked: Vec<i64> = f.acks().iter().map(|ack| ack.2).collect();
    assert_eq!(acked, [3, 4, 5, 6, 7, 8, 2]);
}

#[test]
fn the_same_message_from_another_destination_is_not_a_duplicate() {
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    f.arrive(1..=1);
    f.deliver(1);
    f.interrupted();
    let mut copy = dispatch(1);
    copy.destination = Some(Destination::queue("other"));
    f.inbox.dispatch(copy).unwrap();
    assert_eq!(f.deliver(1), once(1..=1));
}

#[test]
fn another_consumer_of_the_connection_recognises_it_too() {
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    f.arrive(1..=1);
    f.deliver(1);
    f.interrupted();
    let mut other = fixture(rules(AcknowledgeMode::Client));
    other.inbox = Inbox::new(
        ConsumerId::default(),
        rules(AcknowledgeMode::Client),
        f.audit.clone(),
    );
    other.arrive(1..=2);
    assert_eq!(other.deliver(2), once(2..=2));
    assert_eq!(other.acks(), [(MessageAck::STANDARD, 1, 1, 1, false)]);
}

#[test]
fn what_the_broker_takes_back_from_the_new_connection_is_recognised_too() {
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    f.interrupted();
    f.arrive(1..=1);
    assert_eq!(f.deliver(1), once(1..=1));
    // It says itself that it delivers again.
    let mut again = dispatch(1);
    again.redelivery_counter = 1;
    f.inbox.dispatch(again).unwrap();
    assert_eq!(f.deliver(1), []);
    // Without that word it is a copy that somebody made.
    f.arrive(1..=1);
    assert_eq!(f.deliver(1), once(1..=1));
}

#[test]
fn a_duplicate_may_come_more_than_once() {
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    f.arrive(1..=1);
    f.deliver(1);
    for _ in 0..3 {
        f.interrupted();
        f.arrive(1..=1);
        assert_eq!(f.deliver(1), []);
    }
    assert_eq!(f.inbox.noted.duplicates, 3);
}

#[test]
fn what_one_durable_subscription_acknowledged_says_nothing_about_another() {
    let durable = || Rules {
        own_copies: true,
        ..rules(AcknowledgeMode::Auto)
    };
    let mut f = fixture(durable());
    f.arrive(1..=2);
    assert_eq!(f.deliver(1), once(1..=1));
    let mut other = fixture(durable());
    other.inbox = Inbox::new(ConsumerId::default(), durable(), f.audit.clone());
    other.interrupted();
    f.interrupted();
    other.arrive(1..=2);
    assert_eq!(other.deliver(2), once(1..=2));
    f.arrive(1..=2);
    assert_eq!(f.deliver(2), once(2..=2));
    assert_eq!((f.inbox.noted.duplicates, other.inbox.noted.duplicates), (1, 0));
}

#[test]
fn the_audit_forgets_what_no_consumer_remembers() {
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    f.interrupted();
    for number in 1..=10 {
        f.arrive(number..=number);
        f.deliver(1);
    }
    assert_eq!(f.audit.len(), 4);
    let Fixture { inbox, audit, .. } = f;
    drop(inbox);
    assert_eq!(audit.len(), 0);
}

#[test]
fn without_a_break_nothing_is_taken_for_a_duplicate() {
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    f.arrive(1..=1);
    f.deliver(1);
    f.arrive(1..=1);
    assert_eq!(f.deliver(1), once(1..=1));
}

#[test]
fn what_a_listener_finishes_after_the_break_is_known_when_it_comes_again() {
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    f.arrive(1..=2);
    let first = f.take(true).unwrap();
    f.interrupted();
    f.inbox.processed(&first, &mut f.acks);
    assert_eq!(f.acks(), []);
    f.arrive(1..=2);
    assert_eq!(f.deliver(2), once(2..=2));
    // And one that failed is simply delivered again.
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    f.arrive(1..=1);
    let first = f.take(true).unwrap();
    f.interrupted();
    f.inbox.failed(&first, f.now, 0.5, "no", &mut f.acks);
    f.arrive(1..=1);
    assert_eq!(f.deliver(2), [(1, 1)]);
}

#[test]
fn messages_that_wait_for_acknowledgement_are_forgotten_at_a_break() {
    let mut f = fixture(rules(AcknowledgeMode::Client));
    f.arrive(1..=4);
    f.deliver(2);
    f.interrupted();
    assert_eq!(f.inbox.acknowledge_all(&mut f.acks), 0);
    f.arrive(1..=3);
    // The broker may not know that two of them were shown.
    assert_eq!(f.deliver(3), [(1, 1), (2, 1), (3, 0)]);
    assert_eq!(f.acks(), [(MessageAck::DELIVERED, 1, 3, 3, false)]);
}

#[test]
fn an_empty_answer_is_no_message_and_a_flood_is_an_error() {
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    let nothing = f.inbox.dispatch(MessageDispatch::default()).unwrap();
    assert!(matches!(nothing, Dispatched::Nothing));
    let limit = i64::from(PREFETCH) * OVERRUN as i64 + OVERRUN_BASE as i64;
    f.arrive(1..=limit);
    assert!(f.inbox.dispatch(dispatch(0)).is_err());
}

#[test]
fn the_counter_of_the_dispatch_counts() {
    let mut f = fixture(rules(AcknowledgeMode::Auto));
    let mut dispatch = dispatch(1);
    dispatch.redelivery_counter = 2;
    f.inbox.dispatch(dispatch).unwrap();
    assert_eq!(f.deliver(1), [(1, 2)]);
}

/// A transaction that has received as many, with a break since.
fn broken_transaction(delivered: usize, breaks: usize) -> Fixture {
    let mut f = fixture(rules(AcknowledgeMode::Transacted));
    f.arrive(1..=PREFETCH.into());
    f.deliver(delivered);
    for _ in 0..breaks {
        f.interrupted();
    }
    f.acks();
    f
}

fn delivered(number: i64) -> Ack {
    (MessageAck::DELIVERED, number, number, 1, false)
}

#[test]
fn what_an_open_transaction_has_received_is_not_shown_again() {
    let mut f = broken_transaction(2, 1);
    f.come_again(1..=2);
    assert_eq!(f.acks(), [delivered(1), delivered(2)]);
    assert_eq!(f.inbox.last_delivered(), 102);
    f.arrive(3..=4);
    assert_eq!(f.deliver(5), once(3..=4));
    f.settle();
    assert_eq!(f.inbox.part(), Part::Whole);
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 1, 4, 4, true)]);
    f.inbox.committed();
    assert!(!f.inbox.in_transaction());
    // Whoever sends them once more means it.
    f.arrive(1..=1);
    assert_eq!(f.deliver(1), once(1..=1));
}

#[test]
fn a_transaction_is_whole_when_all_has_come_again() {
    let mut f = broken_transaction(2, 3);
    f.inbox.begin_completion();
    assert_eq!(f.inbox.part(), Part::Missing);
    f.come_again([1]);
    assert_eq!(f.inbox.part(), Part::Missing);
    f.interrupted();
    f.come_again([2, 1]);
    assert_eq!(f.inbox.part(), Part::Whole);
    f.interrupted();
    assert_eq!(f.inbox.part(), Part::Missing);
    let mut topic = fixture(Rules {
        comes_again: false,
        ..rules(AcknowledgeMode::Transacted)
    });
    topic.arrive(1..=1);
    topic.deliver(1);
    topic.inbox.begin_completion();
    assert_eq!(topic.inbox.part(), Part::Whole);
    topic.interrupted();
    assert_eq!(topic.inbox.part(), Part::Lost);
}

#[test]
fn a_later_message_of_its_row_overtakes_what_is_missing() {
    let mut f = broken_transaction(3, 1);
    f.inbox.begin_completion();
    let mut others = [dispatch(4), dispatch(4), dispatch(4)];
    let change = |dispatch: &mut MessageDispatch, change: &dyn Fn(&mut Message)| {
        change(Arc::make_mut(dispatch.message.as_mut().unwrap()));
    };
    change(&mut others[0], &|message| message.priority = 9);
    change(&mut others[1], &|message| {
        let producer = ProducerId {
            value: 7,
            ..ProducerId::default()
        };
        message.message_id.as_mut().unwrap().producer_id = Some(producer);
    });
    others[2].destination = Some(Destination::queue("other"));
    for other in others {
        f.inbox.dispatch(other).unwrap();
        assert_eq!(f.inbox.part(), Part::Missing);
    }
    f.come_again([1]);
    assert_eq!(f.inbox.part(), Part::Missing);
    f.come_again([3]);
    assert_eq!(f.inbox.part(), Part::Overtaken);
    f.come_again([2]);
    assert_eq!(f.inbox.part(), Part::Whole);

    // One that is not of the transaction overtakes as well.
    f.interrupted();
    f.come_again([1, 2]);
    f.arrive(5..=5);
    assert_eq!(f.inbox.part(), Part::Overtaken);
    // Over the next connection all may come.
    f.interrupted();
    assert_eq!(f.inbox.part(), Part::Missing);
    f.come_again([1, 2]);
    assert_eq!(f.inbox.part(), Part::Missing);
    f.come_again([3]);
    assert_eq!(f.inbox.part(), Part::Whole);
}

#[test]
fn acknowledgements_name_ranges_as_the_new_broker_has_dispatched_them() {
    let mut f = broken_transaction(3, 1);
    // Another message comes in between, and waits.
    f.come_again([2, 3]);
    f.arrive(9..=9);
    f.come_again([1]);
    f.acks();
    f.settle();
    let standard = |first, last, count| (MessageAck::STANDARD, first, last, count, true);
    assert_eq!(f.acks(), [standard(2, 3, 2), standard(1, 1, 1)]);
    f.inbox.committed();
    assert_eq!(f.deliver(1), once(9..=9));
    // One that was consumed in between is no gap.
    let mut f = broken_transaction(2, 1);
    f.come_again([1]);
    f.arrive(9..=9);
    f.come_again([2]);
    assert_eq!(f.deliver(1), once(9..=9));
    f.acks();
    f.settle();
    assert_eq!(f.acks(), [standard(1, 2, 3)]);
}

#[test]
fn what_comes_again_for_a_commit_under_way_is_not_of_the_next_transaction() {
    let mut f = broken_transaction(2, 0);
    f.settle();
    assert_eq!(f.deliver(1), once(3..=3));
    f.interrupted();
    f.acks();
    f.come_again(1..=3);
    f.acks();
    let transaction = f.transaction.clone().unwrap();
    f.inbox.settle(&transaction, &mut f.acks);
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 1, 2, 2, true)]);
    f.inbox.committed();
    assert!(f.inbox.in_transaction());
    f.settle();
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 3, 3, 1, true)]);
}

#[test]
fn a_rollback_after_a_break_delivers_again_what_is_here_and_flags_what_comes() {
    let mut f = broken_transaction(3, 1);
    f.come_again([1]);
    f.acks();
    f.settle();
    f.inbox.rolled_back(f.now, 0.5, &mut f.acks);
    f.now += Duration::from_secs(1);
    // The break did not count for the first; the broker was killed and knows nothing of the others.
    f.arrive(2..=4);
    assert_eq!(f.deliver(9), [(1, 1), (2, 1), (3, 1), (4, 0)]);
    assert_eq!(f.inbox.noted.poisoned, 0);
}

#[test]
fn what_is_in_doubt_is_shown_again_if_it_comes() {
    let mut f = broken_transaction(2, 0);
    f.settle();
    f.inbox.abandoned();
    assert!(!f.inbox.in_transaction());
    f.interrupted();
    f.arrive(1..=3);
    assert_eq!(f.deliver(9), [(1, 1), (2, 1), (3, 0)]);
}

#[test]
fn what_was_shown_is_not_remembered_for_ever() {
    let mut f = fixture(rules(AcknowledgeMode::Client));
    f.arrive(1..=1);
    f.deliver(1);
    for _ in 0..20 {
        f.interrupted();
    }
    f.arrive(1..=1);
    assert_eq!(f.deliver(1), once(1..=1));
}

fn branch(number: i32) -> TransactionId {
    TransactionId::Xa(crate::wire::XaTransactionId {
        format_id: number,
        ..Default::default()
    })
}

#[test]
fn each_branch_acknowledges_its_own_and_leaves_room_for_those_of_others() {
    let mut f = fixture(rules(AcknowledgeMode::Transacted));
    f.arrive(1..=5);
    // 1, 4 and 5 belong to the first, 2 and 3 to the second.
    for (number, takes) in [(1, 1), (2, 2), (1, 2)] {
        f.transaction = Some(branch(number));
        f.deliver(takes);
        f.acks.retain(|ack| ack.ack_type != MessageAck::DELIVERED);
        f.inbox.end_branch(&branch(number), &mut f.acks);
    }
    let standard = |first, last, count| (MessageAck::STANDARD, first, last, count, true);
    assert_eq!(
        f.acks(),
        [standard(1, 1, 1), standard(2, 3, 2), standard(4, 5, 2)]
    );
    f.inbox.branch_committed(&branch(1));
    assert!(f.inbox.in_transaction());
    f.inbox.branch_rolled_back(&branch(2), f.now, 0.5, &mut f.acks);
    assert!(!f.inbox.in_transaction());
    f.now += Duration::from_secs(1);
    assert_eq!(f.deliver(5), [(2, 1), (3, 1)]);
}

#[test]
fn a_branch_is_not_whole_over_another_connection_and_its_messages_come_again() {
    let mut f = fixture(rules(AcknowledgeMode::Transacted));
    f.arrive(1..=2);
    f.transaction = Some(branch(1));
    f.deliver(1);
    f.inbox.end_branch(&branch(1), &mut f.acks);
    f.transaction = Some(branch(2));
    f.deliver(1);
    f.interrupted();
    assert!(!f.inbox.in_transaction());
    f.acks();
    f.inbox.branch_rolled_back(&branch(1), f.now, 0.5, &mut f.acks);
    f.inbox.end_branch(&branch(2), &mut f.acks);
    assert_eq!(f.acks(), []);
    // They are shown, as what they are, even if the broker does not know.
    f.arrive(1..=2);
    assert_eq!(f.deliver(2), [(1, 1), (2, 1)]);
}

#[test]
fn a_session_that_acknowledges_by_itself_does_not_in_a_branch() {
    let mut f = fixture(Rules {
        batch: Some(5),
        ..rules(AcknowledgeMode::Auto)
    });
    f.arrive(1..=3);
    f.deliver(1);
    assert_eq!(f.acks(), []);
    f.transaction = Some(branch(1));
    f.deliver(1);
    // What came before goes before.
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 1, 1, 1, false)]);
    f.inbox.flush(&mut f.acks);
    assert_eq!(f.inbox.acknowledge_all(&mut f.acks), 0);
    assert_eq!(f.acks(), []);
    f.inbox.end_branch(&branch(1), &mut f.acks);
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 2, 2, 1, true)]);
    f.transaction = None;
    f.deliver(1);
    f.inbox.flush(&mut f.acks);
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 3, 3, 1, false)]);
}

#[test]
fn what_waits_for_its_redelivery_holds_nobody_up() {
    let mut f = fixture(Rules {
        non_blocking: true,
        ..rules(AcknowledgeMode::Client)
    });
    f.arrive(1..=3);
    f.deliver(2);
    f.inbox.recover(f.now, 0.5, &mut f.acks);
    assert_eq!(f.inbox.paused_until(f.now), None);
    assert_eq!(f.deliver(5), [(3, 0)]);
    let due = f.now + Duration::from_secs(1);
    assert_eq!(f.inbox.wake(f.now), Some(due));
    // It is still the broker's to wait for them: no range goes over them.
    f.arrive(4..=4);
    f.deliver(1);
    f.acks();
    f.inbox.acknowledge_all(&mut f.acks);
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 3, 4, 2, false)]);
    f.now = due;
    assert_eq!(f.inbox.wake(f.now), None);
    assert_eq!(f.deliver(5), [(1, 1), (2, 1)]);
    f.interrupted();
    assert_eq!(f.inbox.wake(f.now), None);
}

#[test]
fn a_batch_that_is_due_leaves_out_what_is_in_hand() {
    let mut f = fixture(Rules {
        batch: Some(5),
        ..rules(AcknowledgeMode::Auto)
    });
    f.arrive(1..=3);
    for _ in 0..2 {
        let message = f.take(true).unwrap();
        f.inbox.processed(&message, &mut f.acks);
    }
    let in_hand = f.take(true).unwrap();
    f.inbox.flush_finished(&mut f.acks);
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 1, 2, 2, false)]);
    f.inbox.processed(&in_hand, &mut f.acks);
    f.inbox.flush_finished(&mut f.acks);
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 3, 3, 1, false)]);
}

#[test]
fn individual_acknowledgements_of_a_transaction_are_not_repeated_unless_it_broke() {
    let mut f = fixture(Rules {
        individually: true,
        ..rules(AcknowledgeMode::Transacted)
    });
    f.arrive(1..=2);
    f.deliver(2);
    let one = |number| (MessageAck::INDIVIDUAL, number, number, 1, true);
    let numbers = |acks: Vec<Ack>| {
        acks.into_iter()
            .map(|ack| (ack.0, ack.2, ack.4))
            .collect::<Vec<_>>()
    };
    let wanted = [1, 2].map(|number| (one(number).0, number, true));
    assert_eq!(numbers(f.acks()), wanted);
    f.interrupted();
    f.come_again(1..=2);
    f.acks();
    f.settle();
    let again = f.acks();
    assert_eq!(again, [(MessageAck::STANDARD, 1, 2, 2, true)]);
    f.inbox.committed();
}

#[test]
fn higher_priorities_are_delivered_first() {
    let mut f = fixture(Rules {
        by_priority: true,
        ..rules(AcknowledgeMode::Client)
    });
    for (number, priority) in [(1, 0), (2, 9), (3, 4), (4, 9)] {
        let mut dispatch = dispatch(number);
        if let Some(message) = dispatch.message.as_mut().and_then(Arc::get_mut) {
            message.priority = priority;
        }
        f.inbox.dispatch(dispatch).unwrap();
    }
    assert_eq!(f.deliver(3), [(2, 0), (4, 0), (3, 0)]);
    f.acks();
    // Nobody has seen the first one yet.
    f.inbox.acknowledge_all(&mut f.acks);
    assert_eq!(f.acks(), [(MessageAck::STANDARD, 2, 4, 3, false)]);
    assert_eq!(f.deliver(1), [(1, 0)]);
}
