//! What clients are told, and when, with a store whose answers the test gives.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use broker_lite::Broker;
use broker_lite::store::{Batch, Done, Loaded, MessageKey, Op, Recovered, Store, StoreError, StoreStats};
use common::{AnyRaw, DEADLINE, Raw, exception, ok};
use openwire_client::transport::TlsOptions;
use openwire_client::wire::{Command, Destination, KeepAliveInfo, Message, WireFormatOptions};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Keeps what it is given until it is told how that ended.
#[derive(Default)]
struct Scripted {
    waiting: Mutex<Vec<(Batch, Done)>>,
    messages: Mutex<Vec<(MessageKey, Arc<Message>)>>,
    arrived: Notify,
    backlog: AtomicUsize,
    room: Notify,
    closed: AtomicUsize,
}

#[async_trait]
impl Store for Scripted {
    fn append(&self, batch: Batch, done: Done) {
        for op in &batch.ops {
            if let Op::Put { key, message } = op {
                self.messages.lock().push((*key, message.clone()));
            }
        }
        self.waiting.lock().push((batch, done));
        self.arrived.notify_one();
    }

    fn load(&self, keys: Vec<MessageKey>, done: Loaded) {
        let messages = self.messages.lock();
        let find = |key: &MessageKey| {
            let found = messages.iter().find(|(stored, _)| stored == key);
            found.map(|(_, message)| message.clone())
        };
        done(Ok(keys.iter().map(|key| (*key, find(key))).collect()));
    }

    fn backlog(&self) -> usize {
        self.backlog.load(Ordering::SeqCst)
    }

    async fn ready(&self) {
        loop {
            let room = self.room.notified();
            if self.backlog() == 0 {
                return;
            }
            room.await;
        }
    }

    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.closed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl Scripted {
    /// Waits for something to be stored, and takes all there is.
    async fn appended(&self) -> Vec<(Batch, Done)> {
        timeout(DEADLINE, async {
            loop {
                let waiting = std::mem::take(&mut *self.waiting.lock());
                if !waiting.is_empty() {
                    return waiting;
                }
                self.arrived.notified().await;
            }
        })
        .await
        .expect("nothing is stored")
    }

    /// Says that everything is durable, from now on at once.
    fn confirm(self: &Arc<Self>) -> tokio::task::JoinHandle<()> {
        let store = self.clone();
        tokio::spawn(async move {
            loop {
                for (_, done) in store.appended().await {
                    done(Ok(()));
                }
            }
        })
    }

    fn set_backlog(&self, bytes: usize) {
        self.backlog.store(bytes, Ordering::SeqCst);
        self.room.notify_waiters();
    }
}

fn confirm(appended: Vec<(Batch, Done)>) {
    appended.into_iter().for_each(|(_, done)| done(Ok(())));
}

async fn broker() -> (Broker, Arc<Scripted>) {
    let store = Arc::new(Scripted::default());
    let recovered = Recovered {
        clean: true,
        next_sequence: 1,
        next_destination: 1,
        ..Recovered::default()
    };
    let broker = Broker::builder()
        .store(store.clone(), recovered)
        .start()
        .await
        .unwrap();
    (broker, store)
}

async fn producer(broker: &Broker, queue: &Destination) -> AnyRaw {
    let mut producer = AnyRaw::connect_any(broker.uri(), &TlsOptions::new())
        .await
        .unwrap();
    producer.introduce().await;
    producer.producer(queue).await;
    producer
}

/// Asks for a sign of life and gives what came before it: all there was to say until then.
async fn everything_so_far(client: &mut AnyRaw) -> Vec<Command> {
    let id = client.send(KeepAliveInfo::default(), true).await.unwrap();
    let mut heard = Vec::new();
    loop {
        match client.read().await.unwrap().unwrap() {
            Command::KeepAliveInfo(answer) if answer.command_id == id => return heard,
            other => heard.push(other),
        }
    }
}

#[tokio::test]
async fn a_send_is_answered_when_it_is_durable() {
    let (broker, store) = broker().await;
    let queue = Destination::queue("orders");
    let mut producer = producer(&broker, &queue).await;
    let message = producer.message(1, &queue, true, b"x");
    let id = producer.send(message, true).await.unwrap();
    let appended = store.appended().await;
    let heard = everything_so_far(&mut producer).await;
    assert!(
        heard.iter().all(|command| command.correlation_id() != Some(id)),
        "answered too early: {heard:?}"
    );
    confirm(appended);
    ok(producer.response(id).await);
}

#[tokio::test]
async fn what_does_not_need_the_disk_does_not_wait_for_it() {
    let (broker, store) = broker().await;
    let queue = Destination::queue("orders");
    let mut producer = producer(&broker, &queue).await;
    let persistent = producer.message(1, &queue, true, b"x");
    let waits = producer.send(persistent, true).await.unwrap();
    let appended = store.appended().await;
    let transient = producer.message(2, &queue, false, b"y");
    ok(producer.request(transient).await);
    confirm(appended);
    ok(producer.response(waits).await);
}

#[tokio::test]
async fn a_failed_store_is_said_and_ends_the_broker() {
    let (broker, store) = broker().await;
    let queue = Destination::queue("orders");
    let mut producer = producer(&broker, &queue).await;
    let message = producer.message(1, &queue, true, b"x");
    let id = producer.send(message, true).await.unwrap();
    for (_, done) in store.appended().await {
        done(Err(StoreError::Poisoned("no space left on device".into())));
    }
    let (class, message) = exception(&producer.response(id).await);
    assert_eq!(class, "java.io.IOException");
    assert!(message.contains("no space left"), "{message}");
    let failure = timeout(DEADLINE, broker.failed()).await.unwrap();
    assert!(
        failure.is_io() && failure.to_string().contains("no space left"),
        "{failure}"
    );
    // The client is sent away, and nobody is let in.
    producer.read_to_end().await;
    timeout(DEADLINE, async {
        while Raw::connect(broker.uri()).await.is_ok() {}
    })
    .await
    .expect("it still listens");
}

/// Time stands still until nobody can do anything more, so the time-out says that nobody does.
#[tokio::test(start_paused = true)]
async fn clients_wait_for_a_store_that_is_behind() {
    let (broker, store) = broker().await;
    let confirming = store.confirm();
    let queue = Destination::queue("orders");
    let mut producer = producer(&broker, &queue).await;
    store.set_backlog(usize::MAX);
    let message = producer.message(1, &queue, true, b"x");
    let id = producer.send(message, true).await.unwrap();
    let answered = timeout(DEADLINE / 2, producer.response(id)).await;
    assert!(answered.is_err(), "it was read: {answered:?}");
    store.set_backlog(0);
    ok(producer.response(id).await);
    confirming.abort();
}

#[tokio::test]
async fn a_client_that_waits_for_the_store_is_not_taken_for_silent() {
    let store = Arc::new(Scripted::default());
    let broker = Broker::builder()
        .listen("tcp://127.0.0.1:0?wireFormat.maxInactivityDuration=100&wireFormat.maxInactivityDurationInitalDelay=50")
        .store(store.clone(), Recovered::default())
        .start()
        .await
        .unwrap();
    let mut client = Raw::connect_with(broker.uri(), &WireFormatOptions::default())
        .await
        .unwrap();
    client.introduce().await;
    store.set_backlog(usize::MAX);
    let id = client.send(KeepAliveInfo::default(), true).await.unwrap();
    // It hears our beats for longer than a silent client would be kept.
    for _ in 0..10 {
        client
            .read_until(|command| matches!(command, Command::KeepAliveInfo(_)).then_some(()))
            .await;
    }
    store.set_backlog(0);
    client
        .read_until(|command| match command {
            Command::KeepAliveInfo(answer) if answer.command_id == id => Some(()),
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn stopping_waits_for_the_disk_and_answers() {
    let (broker, store) = broker().await;
    let queue = Destination::queue("orders");
    let mut producer = producer(&broker, &queue).await;
    let message = producer.message(1, &queue, true, b"x");
    let id = producer.send(message, true).await.unwrap();
    let appended = store.appended().await;
    let stopping = tokio::spawn(broker.stop());
    // The broker asks for a last confirmation before it closes anything.
    let last = store.appended().await;
    assert!(!stopping.is_finished());
    confirm(appended);
    confirm(last);
    let confirming = store.confirm();
    ok(producer.response(id).await);
    stopping.await.unwrap().unwrap();
    producer.read_to_end().await;
    assert_eq!(store.closed.load(Ordering::SeqCst), 1);
    confirming.abort();
}

#[tokio::test]
async fn a_broker_that_cannot_listen_closes_the_store() {
    let store = Arc::new(Scripted::default());
    let error = Broker::builder()
        .listen("tcp://256.256.256.256:0")
        .store(store.clone(), Recovered::default())
        .start()
        .await
        .unwrap_err();
    assert!(error.is_io(), "{error}");
    assert_eq!(store.closed.load(Ordering::SeqCst), 1);
}
