//! A client of a world: one connection after another, with work on each.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use openwire_client::{
    AcknowledgeMode, Connection, ConnectionFactory, Consumer, Destination, Error, Event, Events, Message,
    Result,
};
use parking_lot::Mutex;
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ledger::{Number, Reader, Settled};
use super::network::pause;
use super::work::{self, Job};
use super::world::{World, millis, random};

/// What a deadline may be late by: the grain of timers, and of what is done one after another.
const SLACK: Duration = Duration::from_millis(100);

/// A queue is empty when nothing came for this long.
const EMPTY: Duration = Duration::from_secs(2);

pub(crate) struct Client {
    world: Arc<World>,
    /// Where it stands in the network.
    index: usize,
    random: SmallRng,
}

/// How the connections of a client are made.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) request: Duration,
    pub(crate) close: Duration,
    pub(crate) connect: Duration,
    /// The failover option `timeout`.
    pub(crate) patience: Duration,
    /// Acknowledgements are waited for.
    pub(crate) confirmed: bool,
    uri: String,
}

/// A connection with what is known of it.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) world: Arc<World>,
    pub(crate) connection: Connection,
    pub(crate) settings: Arc<Settings>,
    number: u64,
    breaks: Arc<Mutex<Breaks>>,
    closing: Arc<AtomicBool>,
}

/// A consumer in the account, for as long as it is there.
pub(crate) struct Reading {
    world: Arc<World>,
    reader: Reader,
}

impl Reading {
    /// It waits for a message whose acknowledgement it waits for as well, or does so no more.
    pub(crate) fn takes(&self, waits: bool) {
        self.world.ledger.takes(self.reader, waits);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.world.ledger.leaves(self.reader);
    }
}

/// How often a connection broke so far.
struct Breaks {
    events: Events,
    count: u64,
}

impl Client {
    pub(crate) fn new(world: Arc<World>, index: usize) -> Self {
        let random = random(world.seed, "client", index as u64);
        Self { world, index, random }
    }

    pub(crate) async fn live(mut self) {
        for _ in 0..self.random.random_range(1..=3) {
            let jobs = self.random.random_range(1..=3);
            let settings = Arc::new(settings(&self.world, self.index, &mut self.random, jobs));
            let live = connect(&self.world, &settings).await;
            let mut working = JoinSet::new();
            for _ in 0..jobs {
                let job = Job::new(&live, &mut self.random);
                working.spawn(job.run());
            }
            let all = async { while working.join_next().await.is_some_and(|ended| ended.is_ok()) {} };
            match self.random.random_range(0..3) {
                0 => {
                    let _ = timeout(millis(self.random.random_range(100..20_000)), all).await;
                }
                _ => all.await,
            }
            match self.random.random_range(0..4) {
                // Whoever still works is told by the connection.
                0 => {
                    live.close().await;
                    while working.join_next().await.is_some() {}
                }
                // Dropped, with all that is going on.
                1 => {
                    working.shutdown().await;
                    drop(live);
                }
                _ => {
                    working.shutdown().await;
                    live.close().await;
                }
            }
        }
        self.world.ledger.note("client ends", self.index as u64, 0);
    }
}

/// Draws how to connect.
fn settings(world: &World, index: usize, random: &mut SmallRng, jobs: usize) -> Settings {
    let mut pick = |choices: &[u64]| choices[random.random_range(0..choices.len())];
    let request = pick(&[1_000, 5_000, 20_000, 60_000]);
    let close = pick(&[500, 5_000, 15_000]);
    // Several who wait for the state of one connection are woken in no particular order.
    let patience = if jobs == 1 { pick(&[0, 0, 500, 5_000]) } else { 0 };
    let confirmed = pick(&[0, 1]) == 1;
    let inactivity = pick(&[2_000, 10_000, 30_000]);
    let hosts: Vec<_> = (0..world.brokers.hosts())
        .map(|host| {
            let name = world.network.address(index, host);
            format!("vm://{name}?useInactivityMonitor=true&wireFormat.maxInactivityDuration={inactivity}")
        })
        .collect();
    let mut options = vec![
        format!("maxReconnectDelay={}", pick(&[100, 1_000, 30_000])),
        format!("randomize={}", pick(&[0, 1]) == 1),
        format!("connectTimeout={}", pick(&[1_000, 5_000, 30_000])),
        format!("trackMessages={}", pick(&[0, 1]) == 1),
        format!("jms.requestTimeout={request}"),
        format!("jms.closeTimeout={close}"),
        format!("jms.sendAcksAsync={}", !confirmed),
        format!("jms.prefetchPolicy.all={}", pick(&[0, 1, 5, 1_000])),
        format!("jms.watchTopicAdvisories={}", pick(&[0, 1]) == 1),
        format!("jms.alwaysSyncSend={}", pick(&[0, 0, 1]) == 1),
        format!(
            "jms.redeliveryPolicy.initialRedeliveryDelay={}",
            pick(&[0, 10, 1_000])
        ),
        format!("jms.redeliveryPolicy.redeliveryDelay={}", pick(&[0, 10, 1_000])),
        // What is given back is to be found on its queue, not among the dead letters.
        "jms.redeliveryPolicy.maximumRedeliveries=-1".to_owned(),
    ];
    if patience > 0 {
        options.push(format!("timeout={patience}"));
    }
    Settings {
        request: millis(request),
        close: millis(close),
        connect: millis(pick(&[5_000, 60_000])),
        patience: millis(patience),
        confirmed,
        uri: format!("failover:({})?{}", hosts.join(","), options.join("&")),
    }
}

/// Connects, however often it takes.
async fn connect(world: &Arc<World>, settings: &Arc<Settings>) -> Live {
    let number = world.number();
    let mut random = random(world.seed, "connect", number);
    loop {
        let factory = ConnectionFactory::new(&settings.uri)
            .expect("the URI is fine")
            .connect_timeout(settings.connect);
        let connected = async {
            let connection = factory.create_connection().await?;
            connection.start().await?;
            Ok(connection)
        };
        match within(world, "connect", number, settings.connect, connected).await {
            Ok(connection) => {
                let breaks = Breaks {
                    events: connection.events(),
                    count: 0,
                };
                return Live {
                    world: world.clone(),
                    breaks: Arc::new(Mutex::new(breaks)),
                    connection,
                    settings: settings.clone(),
                    number,
                    closing: Arc::default(),
                };
            }
            Err(_) => pause(&mut random, 1..2_000).await,
        }
    }
}

/// Waits for a call, which must not take longer than its documentation says.
async fn within<T>(
    world: &World,
    what: &str,
    who: u64,
    limit: Duration,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    match timeout(limit + SLACK, call).await {
        Ok(result) => {
            world
                .ledger
                .note(what, who, result.as_ref().err().map_or(0, code));
            result
        }
        Err(_) => {
            world
                .ledger
                .violation(format!("{what} of {who} took longer than {limit:?}"));
            std::future::pending().await
        }
    }
}

/// Stands for the kind of an error.
fn code(error: &Error) -> u64 {
    let kinds = [
        error.is_closed(),
        error.is_timeout(),
        error.is_io(),
        error.is_rolled_back(),
        error.is_in_doubt(),
        error.is_interrupted(),
        error.throwable().is_some(),
    ];
    kinds.iter().fold(1, |code, is| 2 * code + u64::from(*is))
}

impl Live {
    pub(crate) async fn call<T>(
        &self,
        what: &str,
        limit: Duration,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        within(&self.world, what, self.number, limit, call).await
    }

    pub(crate) async fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        let limit = self.settings.close;
        // It says that there are no errors today.
        if let Err(error) = self.call("close", limit, self.connection.close()).await {
            self.world.ledger.violation(format!("close failed: {error}"));
        }
    }

    /// Its owner closes the connection, or has closed it.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// How often the connection broke so far.
    pub(crate) fn breaks(&self) -> u64 {
        let mut breaks = self.breaks.lock();
        while let Some(Some(event)) = breaks.events.next().now_or_never() {
            breaks.count += u64::from(matches!(event, Event::Interrupted { .. }));
        }
        breaks.count
    }

    /// Somebody new who receives.
    pub(crate) fn reader(&self, queue: usize) -> Reading {
        self.world.ledger.reads(queue);
        Reading {
            world: self.world.clone(),
            reader: Reader {
                consumer: self.world.number(),
                queue,
                connection: self.number,
            },
        }
    }

    /// Receives a message, and says which it is and which showing of it.
    pub(crate) async fn receive(
        &self,
        consumer: &Consumer,
        reading: &Reading,
        time: Duration,
    ) -> Result<Option<(Message, Number, usize)>> {
        /// How long a pull waits for the broker to say that there is nothing.
        const GRACE: Duration = Duration::from_secs(2);
        let answer = match self.settings.confirmed {
            true => self.settings.request,
            false => Duration::ZERO,
        };
        let limit = time + GRACE + answer;
        let Some(message) = self
            .call("receive", limit, consumer.receive_timeout(time))
            .await?
        else {
            return Ok(None);
        };
        let text = message.as_text()?.unwrap_or_default();
        let number = text
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0);
        let showing = self
            .world
            .ledger
            .shown(number, message.redelivered(), reading.reader);
        Ok(Some((message, number, showing)))
    }
}

/// The queues of a world.
pub(crate) fn queue(number: usize) -> Destination {
    Destination::queue(format!("q{number}").as_str())
}

/// Receives everything that is left, when everybody has gone.
pub(crate) async fn drain(world: &Arc<World>) {
    world.ledger.note("drain", world.brokers.messages(), 0);
    let mut random = random(world.seed, "drain", 0);
    let settings = Arc::new(settings(world, world.clients, &mut random, 1));
    let live = connect(world, &settings).await;
    let end = work::end_queue(world);
    while world.brokers.messages() > 0 {
        for number in 0..=end {
            let _ = drain_queue(&live, number).await;
        }
        let _ = dead_letters(&live).await;
    }
    live.close().await;
}

async fn drain_queue(live: &Live, number: usize) -> Result<()> {
    let session = live
        .connection
        .create_session(AcknowledgeMode::Transacted)
        .await?;
    let reader = live.reader(number);
    let consumer = session.create_consumer(&queue(number)).await?;
    let work = live.world.ledger.begin();
    while let Some((_, number, showing)) = live.receive(&consumer, &reader, EMPTY).await? {
        live.world.ledger.settle(number, showing, Settled::Within(work));
    }
    work::commit(live, &session, work).await
}

async fn dead_letters(live: &Live) -> Result<()> {
    let session = live.connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session
        .create_consumer(&Destination::queue("ActiveMQ.DLQ"))
        .await?;
    if let Some(message) = consumer.receive_timeout(EMPTY).await? {
        live.world.ledger.violation(format!("a dead letter: {message:?}"));
    }
    Ok(())
}
