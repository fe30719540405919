//! Handles outlive runtimes, are dropped anywhere and in any order, and never panic or hang.

use std::any::Any;
use std::time::Duration;

use broker_lite::Broker;
use futures::executor::block_on;
use openwire_client::{
    AcknowledgeMode, Connection, ConnectionFactory, Consumer, Destination, Error, Message, Producer, Receipt,
    Session,
};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tests::soon;
use tokio::runtime::Runtime;

/// Enough for every handle to be first and last.
const ORDERS: u64 = 40;

fn runtime(seed: u64) -> Runtime {
    let mut builder = match seed % 2 {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(1).enable_all().build().unwrap()
}

struct Handles {
    connection: Connection,
    session: Session,
    transacted: Session,
    producer: Producer,
    in_transaction: Producer,
    consumer: Consumer,
    idle: Consumer,
    message: Message,
    receipt: Receipt,
}

async fn handles(uri: &str) -> Handles {
    let connection = ConnectionFactory::new(uri)
        .unwrap()
        .create_connection()
        .await
        .unwrap();
    connection.start().await.unwrap();
    let session = connection.create_session(AcknowledgeMode::Client).await.unwrap();
    let transacted = connection
        .create_session(AcknowledgeMode::Transacted)
        .await
        .unwrap();
    let (queue, idle) = (Destination::queue("handles"), Destination::queue("idle"));
    let producer = session.create_producer(&queue).await.unwrap();
    let in_transaction = transacted.create_producer(&queue).await.unwrap();
    in_transaction.send("uncommitted").await.unwrap();
    producer.send("1").await.unwrap();
    let receipt = producer.send_pipelined("2").await.unwrap();
    let consumer = session.create_consumer(&queue).await.unwrap();
    let idle = session.create_consumer(&idle).await.unwrap();
    let message = soon("a message", consumer.receive()).await.unwrap();
    Handles {
        connection,
        session,
        transacted,
        producer,
        in_transaction,
        consumer,
        idle,
        message,
        receipt,
    }
}

impl Handles {
    /// Each for itself, in an order that the seed gives. The idle consumer becomes a listener.
    async fn shuffled(self, seed: u64) -> Vec<Box<dyn Any + Send>> {
        let random = &mut StdRng::seed_from_u64(seed);
        let events = self.connection.events();
        let temporary = self.session.create_temporary_queue().await.unwrap();
        let idle: Box<dyn Any + Send> = match random.random() {
            true => Box::new(self.idle),
            false => Box::new(self.idle.listen(async |_| Ok::<_, Error>(())).unwrap()),
        };
        let mut all: Vec<Box<dyn Any + Send>> = vec![
            Box::new(self.connection),
            Box::new(self.session),
            Box::new(self.transacted),
            Box::new(self.producer),
            Box::new(self.in_transaction),
            Box::new(self.consumer),
            idle,
            Box::new(self.message),
            Box::new(self.receipt),
            Box::new(events),
            Box::new(temporary),
        ];
        all.shuffle(random);
        all
    }
}

/// A broker in a runtime of its own, which outlives those of the clients.
fn broker(runtime: &Runtime) -> Broker {
    let broker = Broker::builder().memory().listen("tcp://127.0.0.1:0");
    runtime.block_on(broker.start()).expect("it starts")
}

fn everywhere(drop_them: impl Fn(u64, Runtime, &str)) {
    let home = runtime(1);
    let broker = broker(&home);
    for seed in 0..ORDERS {
        let uri = match seed % 4 {
            0 | 1 => broker.uri().to_owned(),
            _ => format!("failover:({})", broker.uri()),
        };
        drop_them(seed, runtime(seed), &uri);
    }
}

#[test]
fn they_are_dropped_inside_a_runtime() {
    everywhere(|seed, runtime, uri| {
        runtime.block_on(async {
            let handles = handles(uri).await.shuffled(seed).await;
            drop(handles);
        });
    });
}

#[test]
fn they_are_dropped_outside_of_it() {
    everywhere(|seed, runtime, uri| {
        let handles = runtime.block_on(async { handles(uri).await.shuffled(seed).await });
        drop(handles);
    });
}

#[test]
fn they_are_dropped_after_it() {
    everywhere(|seed, runtime, uri| {
        let handles = runtime.block_on(async { handles(uri).await.shuffled(seed).await });
        drop(runtime);
        drop(handles);
    });
}

#[test]
fn they_are_dropped_by_a_runtime_that_is_shutting_down() {
    everywhere(|seed, runtime, uri| {
        let handles = runtime.block_on(async { handles(uri).await.shuffled(seed).await });
        runtime.spawn(async move {
            std::future::pending::<()>().await;
            drop(handles);
        });
        drop(runtime);
    });
}

#[test]
fn they_are_dropped_in_another_runtime() {
    everywhere(|seed, first, uri| {
        let handles = first.block_on(async { handles(uri).await.shuffled(seed).await });
        runtime(seed + 1).block_on(async { drop(handles) });
    });
}

/// What every call says once the runtime is gone. None may hang.
async fn every_call_fails(handles: Handles) {
    let queue = Destination::queue("late");
    let closed = |what: &str, error: Option<Error>| {
        let error = error.unwrap_or_else(|| panic!("{what} went well"));
        assert!(error.is_closed(), "{what}: {error}");
    };
    let session = &handles.session;
    closed("send", handles.producer.send("late").await.err());
    closed(
        "send_pipelined",
        handles.producer.send_pipelined("late").await.err(),
    );
    closed(
        "send in a transaction",
        handles.in_transaction.send("late").await.err(),
    );
    closed("commit", handles.transacted.commit().await.err());
    closed("receive", handles.consumer.receive().await.err());
    let timeout = Duration::from_secs(60);
    closed(
        "receive_timeout",
        handles.idle.receive_timeout(timeout).await.err(),
    );
    closed("acknowledge", handles.message.acknowledge().await.err());
    closed("create_producer", session.create_producer(&queue).await.err());
    closed("create_consumer", session.create_consumer(&queue).await.err());
    closed(
        "create_temporary_queue",
        session.create_temporary_queue().await.err(),
    );
    let mode = AcknowledgeMode::Auto;
    closed(
        "create_session",
        handles.connection.create_session(mode).await.err(),
    );
    // The broker had answered, or not.
    let _ = handles.receipt.await;
    handles.connection.close().await.unwrap();
    // What the end of the runtime left open is told here as well.
    let _ = handles.connection.close_within(timeout).await;
}

#[test]
fn after_the_end_of_their_runtime_every_call_fails_in_another_one() {
    everywhere(|seed, first, uri| {
        let handles = first.block_on(handles(uri));
        drop(first);
        runtime(seed + 1).block_on(soon("every call", every_call_fails(handles)));
    });
}

#[test]
fn after_the_end_of_their_runtime_every_call_fails_without_one() {
    everywhere(|_, first, uri| {
        let handles = first.block_on(handles(uri));
        drop(first);
        block_on(every_call_fails(handles));
    });
}

#[test]
fn who_waits_when_the_runtime_ends_is_told() {
    everywhere(|seed, first, uri| {
        let handles = first.block_on(handles(uri));
        let waiting = runtime(seed + 1);
        waiting.block_on(async {
            let receiving = async { soon("receiving", handles.idle.receive()).await };
            let ending = async {
                tokio::task::yield_now().await;
                first.shutdown_background();
            };
            let (received, ()) = tokio::join!(receiving, ending);
            let error = received.expect_err("there is nothing to receive");
            assert!(error.is_closed(), "{error}");
        });
    });
}
