//! What clients see of a broker whose mastership is in doubt, or gone.

mod common;

use std::time::Duration;

use async_trait::async_trait;
use broker_lite::Broker;
use broker_lite::ha::{Attempt, Holder, LockError, LockOptions, Locker};
use common::{DEADLINE, Raw, ok};
use openwire_client::wire::{Command, Destination};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

const LEASE: Duration = Duration::from_millis(400);

/// What the place says at which masters are chosen.
#[derive(Clone)]
enum Place {
    Mine,
    /// It does not answer.
    Silent,
    Another,
}

struct Scripted(watch::Receiver<Place>);

#[async_trait]
impl Locker for Scripted {
    async fn try_acquire(&mut self) -> Result<Attempt, LockError> {
        Ok(match *self.0.borrow() {
            Place::Mine => Attempt::Acquired { epoch: 1 },
            _ => Attempt::Held(Holder::new("another")),
        })
    }

    async fn keep_alive(&mut self) -> Result<(), LockError> {
        let answer = self.0.wait_for(|place| !matches!(place, Place::Silent)).await;
        match answer.as_deref() {
            Ok(Place::Mine) => Ok(()),
            _ => Err(LockError::Lost("another took it".to_owned())),
        }
    }

    async fn release(&mut self) {}
}

async fn start(place: &watch::Sender<Place>) -> Broker {
    let mut options = LockOptions::default();
    options.acquire_sleep_interval = LEASE;
    let locker = Box::new(Scripted(place.subscribe()));
    let broker = Broker::builder().locking(options).locker(locker);
    broker.listen("tcp://127.0.0.1:0").start().await.unwrap()
}

/// The connection ends, and beside what the broker is called, which it says at first, nothing has come.
async fn says_nothing(mut client: Raw) {
    let mut rest = client.read_to_end().await;
    rest.retain(|command| !matches!(command, Command::BrokerInfo(_)));
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn a_broker_that_is_not_master_any_more_says_nothing_more() {
    let place = watch::Sender::new(Place::Mine);
    let broker = start(&place).await;
    let queue = Destination::queue("lost");
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    client.introduce().await;
    client.consumer(&queue, 10).await;
    client.producer(&queue).await;
    place.send_replace(Place::Another);
    let failure = timeout(DEADLINE, broker.failed()).await.expect("it fails");
    assert!(failure.is_mastership_lost(), "{failure}");
    assert!(failure.to_string().contains("another took it"), "{failure}");
    // Not even that it cannot.
    says_nothing(client).await;
    assert!(Raw::connect(broker.uri()).await.is_err());
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn a_broker_that_cannot_make_sure_waits_and_goes_on_when_it_can() {
    let place = watch::Sender::new(Place::Mine);
    let broker = start(&place).await;
    let queue = Destination::queue("doubt");
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    client.introduce().await;
    client.producer(&queue).await;
    place.send_replace(Place::Silent);
    // Its lease has to pass.
    sleep(LEASE).await;
    let asks = client.message(1, &queue, true, b"x");
    {
        let mut answer = std::pin::pin!(client.request(asks));
        let early = timeout(LEASE, &mut answer).await;
        assert!(early.is_err(), "{early:?}");
        place.send_replace(Place::Mine);
        ok(timeout(DEADLINE, answer).await.expect("it goes on"));
    }
    assert_eq!(broker.queue_depth("doubt"), Some(1));
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn a_broker_that_hears_nothing_at_all_gives_its_clients_up() {
    let place = watch::Sender::new(Place::Mine);
    let broker = start(&place).await;
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    client.introduce().await;
    place.send_replace(Place::Silent);
    let failure = timeout(DEADLINE, broker.failed()).await.expect("it fails");
    assert!(failure.is_mastership_lost(), "{failure}");
    says_nothing(client).await;
    place.send_replace(Place::Mine);
    broker.stop().await.unwrap();
}
