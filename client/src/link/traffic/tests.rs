use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::oneshot;

use super::super::guard::TransactionGuard;
use super::*;
use crate::wire::{
    ConsumerId, ConsumerInfo, ExceptionResponse, LocalTransactionId, Message, MessageAck, MessageId,
    ProducerInfo, Throwable,
};

type Answer = oneshot::Receiver<Result<Command, Error>>;

fn lasting() -> Traffic {
    Traffic::new(Some(Tracker::new(Box::default(), true)), 0)
}

fn item(id: i32, command: impl Into<Command>, guard: Guard) -> Item {
    let mut command = command.into();
    command.set_header(id, false);
    Item {
        command,
        reply: None,
        guard,
    }
}

fn request(id: i32, command: impl Into<Command>, guard: Guard) -> (Item, Answer) {
    let (sender, receiver) = oneshot::channel();
    let mut item = item(id, command, guard);
    item.command.set_header(id, true);
    item.reply = Some(Reply::new(sender, None));
    (item, receiver)
}

fn message(sequence: i64) -> Arc<Message> {
    Arc::new(Message {
        message_id: Some(MessageId {
            producer_sequence_id: sequence,
            ..MessageId::default()
        }),
        ..Message::default()
    })
}

fn step(step: i8) -> TransactionInfo {
    TransactionInfo {
        transaction_id: Some(TransactionId::Local(LocalTransactionId::default())),
        step,
        ..TransactionInfo::default()
    }
}

fn transaction() -> (Arc<TransactionGuard>, Guard) {
    let guard: Arc<TransactionGuard> = Arc::default();
    (guard.clone(), Guard::Transaction(guard))
}

fn answer(answer: &mut Answer) -> Option<Result<Command, Error>> {
    answer
        .now_or_never()
        .map(|answer| answer.expect("it is answered before it is forgotten"))
}

fn ids(commands: &[Command]) -> Vec<i32> {
    commands.iter().map(Command::command_id).collect()
}

fn respond(traffic: &mut Traffic, id: i32) -> bool {
    traffic.answered(
        id,
        Command::from(Response {
            correlation_id: id,
            ..Response::default()
        }),
    )
}

#[test]
fn an_answer_finds_who_asked() {
    let mut traffic = lasting();
    let (asked, mut receiver) = request(5, message(1), Guard::Always);
    traffic.written(asked, 0);
    assert!(answer(&mut receiver).is_none());
    assert!(respond(&mut traffic, 5));
    assert!(answer(&mut receiver).unwrap().is_ok());
    assert!(!respond(&mut traffic, 5));
}

#[test]
fn what_belongs_to_another_connection_is_not_sent() {
    let traffic = lasting();
    let ack = || Box::new(MessageAck::default());
    assert!(traffic.admit(item(1, ack(), Guard::Connection(2)), 2).is_some());
    let (late, mut receiver) = request(2, ack(), Guard::Connection(1));
    assert!(traffic.admit(late, 2).is_none());
    assert!(answer(&mut receiver).unwrap().unwrap_err().is_in_doubt());
}

#[test]
fn nothing_of_a_dead_transaction_is_sent() {
    let traffic = lasting();
    let (state, guard) = transaction();
    assert!(traffic.admit(item(1, message(1), guard.clone()), 1).is_some());
    state.kill();
    assert!(traffic.admit(item(2, message(2), guard.clone()), 1).is_none());
    let (commit, mut committed) = request(3, step(TransactionInfo::COMMIT_ONE_PHASE), guard.clone());
    assert!(traffic.admit(commit, 1).is_none());
    assert!(answer(&mut committed).unwrap().unwrap_err().is_rolled_back());
    // It is rolled back, which is what was asked for.
    let (rollback, mut rolled_back) = request(4, step(TransactionInfo::ROLLBACK), guard);
    assert!(traffic.admit(rollback, 1).is_none());
    assert!(answer(&mut rolled_back).unwrap().is_ok());
}

#[test]
fn a_dead_transaction_that_the_broker_knows_is_rolled_back_there() {
    let (state, guard) = transaction();
    let mut traffic = lasting();
    traffic.written(item(1, step(TransactionInfo::BEGIN), guard.clone()), 0);
    state.kill();
    assert!(
        traffic
            .admit(item(2, step(TransactionInfo::ROLLBACK), guard.clone()), 1)
            .is_some()
    );
    // Without failover there was no other broker.
    let single = Traffic::new(None, 0);
    assert!(
        single
            .admit(item(2, step(TransactionInfo::ROLLBACK), guard), 1)
            .is_some()
    );
}

/// What a new connection goes on with if the broker keeps no outcomes.
fn restored(traffic: &mut Traffic) -> Vec<Command> {
    reopened(traffic, None);
    let Next::Commands(commands) = traffic.restore_next() else {
        panic!("everything is restored");
    };
    assert_eq!(traffic.restore_next(), Next::Nothing);
    commands
}

fn reopened(traffic: &mut Traffic, outcomes: Option<TransactionOutcomes>) {
    traffic.opened(outcomes, Moment::now());
}

fn outcomes(store: &str, kept: Duration) -> Option<TransactionOutcomes> {
    Some(TransactionOutcomes {
        store: store.into(),
        kept: kept.as_millis() as u64,
    })
}

const MINUTE: Duration = Duration::from_secs(60);

/// A transaction whose commit has left, and the connection broke after as many of its bytes.
fn doubtful(flushed: u64) -> (Traffic, Arc<TransactionGuard>, Answer) {
    let (state, guard) = transaction();
    let mut traffic = lasting();
    reopened(&mut traffic, outcomes("store", MINUTE));
    while traffic.restore_next() != Next::Nothing {}
    traffic.written(item(1, step(TransactionInfo::BEGIN), guard), 0);
    let over = Guard::TransactionOn(state.clone(), 1);
    let (commit, committed) = request(2, step(TransactionInfo::COMMIT_ONE_PHASE), over);
    state.committing_from(Moment::now());
    let commit = traffic.admit(commit, 1).unwrap();
    traffic.written(commit, 100);
    traffic.broken(flushed);
    (traffic, state, committed)
}

fn refusal(id: i32, class: &str) -> Command {
    Command::from(Box::new(ExceptionResponse {
        correlation_id: id,
        exception: Some(Throwable::new(class, "no")),
        ..ExceptionResponse::default()
    }))
}

#[test]
fn a_commit_of_which_no_byte_has_left_is_tried_again_by_whoever_commits() {
    let (mut traffic, state, mut committed) = doubtful(100);
    assert!(answer(&mut committed).unwrap().unwrap_err().is_interrupted());
    assert_eq!(ids(&restored(&mut traffic)), [1]);
    assert!(state.kill(), "it can still be given up");
}

#[test]
fn a_commit_is_in_doubt_with_a_broker_that_cannot_know() {
    let too_short = Duration::from_secs(1);
    for other in [None, outcomes("another", MINUTE), outcomes("store", too_short)] {
        let (mut traffic, state, mut committed) = doubtful(101);
        assert!(answer(&mut committed).is_none(), "the next broker may know");
        reopened(&mut traffic, other);
        let error = answer(&mut committed).unwrap().unwrap_err();
        assert_eq!(error.in_doubt().map(|doubt| &*doubt.transaction), Some("TX::0"));
        assert_eq!(traffic.restore_next(), Next::Commands(vec![]));
        assert!(!state.kill());
    }
    let (mut traffic, _, mut committed) = doubtful(101);
    traffic.opened(outcomes("store", MINUTE), Moment::now().later(MINUTE));
    assert!(answer(&mut committed).unwrap().unwrap_err().is_in_doubt());
}

#[test]
fn a_broker_that_knows_is_asked_before_anything_else() {
    let (mut traffic, _, mut committed) = doubtful(101);
    let (asked, _waits) = request(7, message(1), Guard::Always);
    traffic.written(asked, 200);
    // Through several breaks.
    for _ in 0..3 {
        traffic.broken(1000);
        assert_eq!(traffic.restore().resumed, 1);
        reopened(&mut traffic, outcomes("store", MINUTE));
        let Next::Commands(questions) = traffic.restore_next() else {
            panic!("the broker is asked");
        };
        assert_eq!(ids(&questions), [2]);
        assert_eq!(traffic.restore_next(), Next::Wait);
        assert!(traffic.is_awaited(false));
    }
    assert!(answer(&mut committed).is_none());
    assert!(respond(&mut traffic, 2));
    assert!(answer(&mut committed).unwrap().is_ok());
    // Of the transaction nothing is told any more.
    let Next::Commands(rest) = traffic.restore_next() else {
        panic!("the rest follows");
    };
    assert_eq!(ids(&rest), [7]);
    assert_eq!(traffic.restore_next(), Next::Nothing);
}

#[test]
fn a_commit_that_has_not_happened_is_for_whoever_commits_once_all_is_restored() {
    let (mut traffic, state, mut committed) = doubtful(101);
    reopened(&mut traffic, outcomes("store", MINUTE));
    traffic.restore_next();
    assert!(traffic.answered(2, refusal(2, "javax.jms.JMSException")));
    assert!(answer(&mut committed).unwrap().unwrap_err().is_interrupted());
    assert!(matches!(traffic.restore_next(), Next::Commands(rest) if ids(&rest) == [1]));
    assert!(state.kill(), "it can still be given up");
}

#[test]
fn a_no_that_comes_when_the_outcome_may_be_forgotten_says_nothing() {
    let mut doubts = Doubts::default();
    let (sender, _receiver) = oneshot::channel();
    let (state, _) = transaction();
    let now = Moment::now();
    state.committing_from(now);
    let mut commit = Command::from(step(TransactionInfo::COMMIT_ONE_PHASE));
    commit.set_header(2, true);
    doubts.add(Doubt {
        id: TransactionId::Local(LocalTransactionId::default()),
        commit,
        reply: Reply::new(sender, None),
        guard: state,
        outcomes: outcomes("store", MINUTE),
    });
    assert!(doubts.ask(outcomes("store", MINUTE).as_ref(), now).is_empty());
    let (_, knew) = doubts.answered(2, || now.later(MINUTE)).unwrap();
    assert!(!knew);
}

#[test]
fn a_commit_that_nobody_waits_for_any_more_is_not_asked_for() {
    let (mut traffic, state, committed) = doubtful(101);
    reopened(&mut traffic, outcomes("store", MINUTE));
    traffic.restore_next();
    assert_eq!(traffic.restore_next(), Next::Wait);
    drop(committed);
    assert_eq!(traffic.restore_next(), Next::Commands(vec![]));
    assert!(!state.kill());
    // A no that comes nevertheless is for nobody.
    assert!(!traffic.answered(2, refusal(2, "javax.jms.JMSException")));
}

#[test]
fn what_was_acknowledged_in_a_transaction_belongs_to_its_connection() {
    let traffic = lasting();
    let (state, _) = transaction();
    let over = || Guard::TransactionOn(state.clone(), 1);
    let ack = || Box::new(MessageAck::default());
    assert!(traffic.admit(item(1, ack(), over()), 1).is_some());
    assert!(traffic.admit(item(1, ack(), over()), 2).is_none());
    let (commit, mut committed) = request(2, step(TransactionInfo::COMMIT_ONE_PHASE), over());
    assert!(traffic.admit(commit, 2).is_none());
    assert!(answer(&mut committed).unwrap().unwrap_err().is_interrupted());
    assert!(state.kill(), "its commit was not written");
}

#[test]
fn a_rollback_and_a_farewell_have_happened_when_the_connection_broke() {
    let mut traffic = lasting();
    let (_, guard) = transaction();
    let (rollback, mut rolled_back) = request(1, step(TransactionInfo::ROLLBACK), guard);
    traffic.written(rollback, 0);
    let (farewell, mut gone) = request(2, RemoveInfo::default(), Guard::Always);
    traffic.written(farewell, 50);
    traffic.broken(100);
    assert!(answer(&mut rolled_back).unwrap().is_ok());
    assert!(answer(&mut gone).unwrap().is_ok());
    assert_eq!(restored(&mut traffic), []);
}

#[test]
fn unanswered_requests_are_repeated_in_their_order_if_somebody_waits() {
    let mut traffic = lasting();
    let mut waiting = Vec::new();
    for id in [3, 9, 4, 7] {
        let (asked, receiver) = request(id, message(i64::from(id)), Guard::Always);
        traffic.written(asked, 0);
        waiting.push(receiver);
    }
    drop(waiting.remove(1));
    respond(&mut traffic, 7);
    traffic.broken(1000);
    assert_eq!(ids(&restored(&mut traffic)), [3, 4]);
    // And again after the next break.
    traffic.broken(1000);
    assert_eq!(ids(&restored(&mut traffic)), [3, 4]);
}

#[test]
fn what_the_tracker_repeats_is_repeated_once_and_answers_its_request() {
    let mut traffic = lasting();
    let info = ConsumerInfo {
        consumer_id: Some(ConsumerId::default()),
        ..ConsumerInfo::default()
    };
    let (asked, mut receiver) = request(4, Box::new(info), Guard::Always);
    traffic.written(asked, 0);
    traffic.broken(1000);
    assert_eq!(traffic.restore().resumed, 0);
    assert_eq!(ids(&restored(&mut traffic)), [4]);
    assert!(respond(&mut traffic, 4));
    assert!(answer(&mut receiver).unwrap().is_ok());
}

#[test]
fn what_the_broker_refused_is_not_repeated() {
    let mut traffic = lasting();
    let info = ProducerInfo {
        producer_id: Some(crate::wire::ProducerId::default()),
        ..ProducerInfo::default()
    };
    let (asked, mut receiver) = request(4, info, Guard::Always);
    traffic.written(asked, 0);
    assert!(traffic.answered(4, refusal(4, "java.lang.SecurityException")));
    assert!(answer(&mut receiver).unwrap().unwrap_err().is_security());
    traffic.broken(1000);
    assert_eq!(restored(&mut traffic), []);
}

#[test]
fn a_consumer_that_waits_to_be_removed_is_not_restored() {
    let mut traffic = lasting();
    let id = ConsumerId::default();
    let info = ConsumerInfo {
        consumer_id: Some(id.clone()),
        ..ConsumerInfo::default()
    };
    traffic.written(item(1, Box::new(info), Guard::Always), 0);
    traffic.broken(1000);
    let object_id = Some(EntityId::Consumer(id));
    let farewell = RemoveInfo {
        object_id,
        ..RemoveInfo::default()
    };
    traffic.staged.push_back(item(2, farewell, Guard::Always));
    assert_eq!(restored(&mut traffic), []);
}

#[test]
fn messages_of_a_transaction_that_died_are_not_waited_for() {
    let (state, guard) = transaction();
    let mut traffic = lasting();
    traffic.written(item(1, step(TransactionInfo::BEGIN), guard.clone()), 0);
    let sent = Message {
        transaction_id: Some(TransactionId::Local(LocalTransactionId::default())),
        ..Message::default()
    };
    let (sent, mut receiver) = request(2, Arc::new(sent), guard);
    traffic.written(sent, 10);
    traffic.broken(1000);
    state.kill();
    assert_eq!(restored(&mut traffic), []);
    assert!(answer(&mut receiver).unwrap().unwrap_err().is_rolled_back());
}

#[test]
fn a_broker_that_never_heard_of_a_transaction_does_not_hear_of_its_end() {
    let mut traffic = Traffic::new(None, 0);
    for begun in [false, true] {
        let (state, guard) = transaction();
        if begun {
            traffic.written(item(1, step(TransactionInfo::BEGIN), guard.clone()), 0);
        }
        state.kill();
        let rollback = item(2, step(TransactionInfo::ROLLBACK), guard);
        assert_eq!(traffic.admit(rollback, 1).is_some(), begun);
    }
}

#[test]
fn any_later_answer_proves_that_messages_have_arrived() {
    let mut traffic = lasting();
    for id in 1..=3 {
        traffic.written(item(id, message(i64::from(id)), Guard::Always), 0);
    }
    let (asked, _receiver) = request(4, message(4), Guard::Always);
    traffic.written(asked, 0);
    traffic.written(item(5, message(5), Guard::Always), 0);
    respond(&mut traffic, 4);
    assert_eq!(traffic.broken(1000), 1);
    // They are lost once.
    assert_eq!(traffic.broken(1000), 0);
}

#[test]
fn kept_messages_are_repeated_as_far_as_there_is_room() {
    let mut traffic = Traffic::new(Some(Tracker::new(Box::default(), true)), 600);
    for id in 1..=3 {
        traffic.written(item(id, message(i64::from(id)), Guard::Always), 0);
    }
    let (asked, _receiver) = request(4, message(4), Guard::Always);
    traffic.written(asked, 0);
    assert_eq!(traffic.broken(1000), 1);
    assert_eq!(ids(&restored(&mut traffic)), [2, 3, 4]);
    // They are confirmed as the first time.
    respond(&mut traffic, 4);
    assert_eq!(traffic.broken(1000), 0);
    assert_eq!(restored(&mut traffic), []);
}

#[test]
fn the_end_answers_everything() {
    let mut traffic = Traffic::new(None, 0);
    let (_, guard) = transaction();
    traffic.written(item(1, message(1), Guard::Always), 0);
    let (sent, mut unanswered) = request(2, message(2), Guard::Always);
    traffic.written(sent, 10);
    let (commit, mut committed) = request(3, step(TransactionInfo::COMMIT_ONE_PHASE), guard);
    traffic.written(commit, 20);
    let (late, mut waiting) = request(4, message(4), Guard::Always);
    traffic.staged.push_back(late);
    traffic.staged.push_back(item(5, message(5), Guard::Always));
    let lost = traffic.fail(&Error::new(ErrorKind::Io, "gone"), 1000);
    assert_eq!(lost, 2);
    assert!(answer(&mut unanswered).unwrap().unwrap_err().is_io());
    assert!(answer(&mut waiting).unwrap().unwrap_err().is_io());
    assert!(answer(&mut committed).unwrap().unwrap_err().is_in_doubt());
}

#[test]
fn requests_that_nobody_waits_for_do_not_pile_up() {
    let mut traffic = lasting();
    for id in 1..=10 * PURGE_AT as i32 {
        let (asked, receiver) = request(id, message(1), Guard::Always);
        drop(receiver);
        traffic.written(asked, 0);
    }
    assert!(traffic.pending.len() <= PURGE_AT);
}
