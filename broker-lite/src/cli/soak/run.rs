//! A run from its beginning to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use openwire_client::{ConnectionFactory, Destination};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::info;

use super::books::Books;
use super::consume::Receiving;
use super::produce::Sending;
use super::report::Report;
use super::stamp::Stamp;
use super::{Length, Plan};

/// How often a run looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);

/// How often a run says in the log how far it is.
const NEWS: Duration = Duration::from_secs(10);

/// When everything has come, how long nothing more may come before that is believed: what comes twice comes last.
const SETTLED: Duration = Duration::from_secs(1);

/// How long consumers may take to leave at the end.
const LEAVE: Duration = Duration::from_secs(5);

pub(super) type SharedBooks = Arc<Mutex<Books>>;

/// What all parts of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) factory: ConnectionFactory,
    pub(super) queue: Destination,
    pub(super) stamp: Stamp,
    pub(super) books: SharedBooks,
    /// The tasks that follow the events of connections.
    pub(super) watchers: Mutex<JoinSet<()>>,
    began: Instant,
    /// Messages that were begun.
    taken: AtomicU64,
    phase: watch::Sender<Phase>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Load,
    Drain,
    /// What is missing is not waited for any longer.
    Over,
}

/// A soak that runs.
///
/// Made by [`start`](Self::start); [`finish`](Self::finish) waits for its end. Dropping it ends it at once.
#[derive(Debug)]
pub struct Soak {
    shared: Arc<Shared>,
    producers: JoinSet<()>,
    consumers: JoinSet<()>,
    stop_consumers: watch::Sender<bool>,
}

/// Looks at a running soak and stops it. A clone controls the same one.
#[derive(Debug, Clone)]
pub struct Control {
    shared: Arc<Shared>,
    stops: Arc<AtomicU8>,
}

/// How far a running soak is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// As [`Report::sent`].
    pub sent: u64,
    /// As [`Report::confirmed`].
    pub confirmed: u64,
    /// As [`Report::received`].
    pub received: u64,
}

impl Shared {
    /// Since the run began.
    pub(super) fn clock(&self) -> Duration {
        self.began.elapsed()
    }

    /// May another message be sent? Counts it.
    pub(super) fn take(&self) -> bool {
        let limit = match self.plan.length {
            Length::Messages(limit) => limit,
            Length::Time(_) => u64::MAX,
        };
        *self.phase.borrow() == Phase::Load
            && self
                .taken
                .fetch_update(Relaxed, Relaxed, |taken| (taken < limit).then_some(taken + 1))
                .is_ok()
    }

    /// Waits until nothing more is to be sent.
    pub(super) async fn load_over(&self) {
        // The sender is here, so it does not end before.
        let _ = self
            .phase
            .subscribe()
            .wait_for(|phase| *phase > Phase::Load)
            .await;
    }

    /// Ends the phase before `phase`, unless that was done already.
    fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }

    fn counts(&self) -> Counts {
        let books = self.books.lock();
        Counts {
            sent: books.sent(),
            confirmed: books.confirmed_messages(),
            received: books.received(),
        }
    }
}

impl Soak {
    /// Connects all consumers and producers, and lets them begin.
    ///
    /// # Errors
    ///
    /// One line that says what is wrong with the plan, or why a connection could not be made.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped nothing was sent.
    pub async fn start(plan: Plan) -> Result<Self, String> {
        let mut factory = ConnectionFactory::new(&plan.uri).map_err(text)?;
        if let Some((name, password)) = &plan.user {
            factory = factory.credentials(name.as_str(), password.clone());
        }
        let run = rand::random();
        let queue = plan.queue.clone().unwrap_or_else(|| format!("SOAK.{run:016x}"));
        let shared = Arc::new(Shared {
            factory,
            queue: Destination::queue(&queue),
            stamp: Stamp::new(run, plan.size),
            books: Arc::new(Mutex::new(Books::new(size(plan.producers), size(plan.consumers)))),
            watchers: Mutex::default(),
            began: Instant::now(),
            taken: AtomicU64::new(0),
            phase: watch::Sender::new(Phase::Load),
            plan,
        });
        let mut receiving = Vec::new();
        for number in 0..size(shared.plan.consumers) {
            receiving.push(Receiving::open(shared.clone(), number).await.map_err(text)?);
        }
        let mut sending = Vec::new();
        for number in 0..size(shared.plan.producers) {
            sending.push(Sending::open(shared.clone(), number).await.map_err(text)?);
        }
        info!(
            "{} producers and {} consumers on {queue}",
            sending.len(),
            receiving.len()
        );
        shared.books.lock().begin(shared.clock());
        let stop_consumers = watch::Sender::new(false);
        let (mut producers, mut consumers) = (JoinSet::new(), JoinSet::new());
        for consumer in receiving {
            consumers.spawn(consumer.run(stop_consumers.subscribe()));
        }
        for producer in sending {
            producers.spawn(producer.run());
        }
        Ok(Self {
            shared,
            producers,
            consumers,
            stop_consumers,
        })
    }

    /// A handle to look at the soak and to stop it.
    pub fn control(&self) -> Control {
        Control {
            shared: self.shared.clone(),
            stops: Arc::default(),
        }
    }

    /// Waits for the end of the load, and then until everything has come or nothing new comes any more.
    pub async fn finish(mut self) -> Report {
        self.load().await;
        info!("the load is over");
        self.shared.enter(Phase::Drain);
        // Whoever still waits for an answer may do so for as long as consumers for a message.
        let answered = async { while self.producers.join_next().await.is_some() {} };
        tokio::select! {
            _ = timeout(self.shared.plan.drain, answered) => {}
            () = over(&self.shared) => {}
        }
        self.producers.shutdown().await;
        self.drain().await;
        self.stop_consumers.send_replace(true);
        let left = async { while self.consumers.join_next().await.is_some() {} };
        let _ = timeout(LEAVE, left).await;
        self.consumers.shutdown().await;
        let shared = &self.shared;
        let books = std::mem::replace(&mut *shared.books.lock(), Books::new(0, 0));
        books.close(shared.clock())
    }

    /// Until the time is over, all messages are sent, or somebody has stopped it.
    async fn load(&mut self) {
        let shared = &self.shared;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let began = Instant::now();
        let mut news = began;
        let mut progress = (shared.counts(), began);
        let until_stopped = shared.load_over();
        tokio::pin!(until_stopped);
        loop {
            tokio::select! {
                () = &mut until_stopped => return,
                ended = self.producers.join_next() => if ended.is_none() { return },
                _ = look.tick() => {}
            }
            let counts = shared.counts();
            if counts != progress.0 {
                progress = (counts, Instant::now());
            }
            match shared.plan.length {
                Length::Time(limit) if began.elapsed() >= limit => return,
                // A number of messages could be waited for until the end of time.
                Length::Messages(_) if progress.1.elapsed() >= shared.plan.patience() => return,
                _ => {}
            }
            if news.elapsed() >= NEWS {
                news = Instant::now();
                let Counts {
                    sent,
                    confirmed,
                    received,
                } = counts;
                info!("{sent} sent, {confirmed} confirmed, {received} received");
            }
        }
    }

    /// Until everything has come and nothing more comes, or nothing new has come for long.
    async fn drain(&mut self) {
        let shared = &self.shared;
        let mut look = interval(LOOK);
        let mut progress = (shared.counts().received, Instant::now());
        loop {
            tokio::select! {
                () = over(shared) => return,
                _ = look.tick() => {}
            }
            let received = shared.counts().received;
            if received != progress.0 {
                progress = (received, Instant::now());
            }
            let (missing, last) = {
                let books = shared.books.lock();
                (books.missing(), books.last_arrival())
            };
            let quiet = shared.clock().saturating_sub(last).min(progress.1.elapsed());
            if (missing == 0 && quiet >= SETTLED) || progress.1.elapsed() >= shared.plan.drain {
                return;
            }
        }
    }
}

impl Control {
    /// Ends the load; what was confirmed is still waited for. A second call ends that as well.
    pub fn stop(&self) {
        let phase = match self.stops.fetch_add(1, Relaxed) {
            0 => Phase::Drain,
            _ => Phase::Over,
        };
        self.shared.enter(phase);
    }

    /// How far it is.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }
}

/// Waits until nothing is to be waited for any longer.
async fn over(shared: &Shared) {
    let _ = shared
        .phase
        .subscribe()
        .wait_for(|phase| *phase == Phase::Over)
        .await;
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn text(error: openwire_client::Error) -> String {
    error.to_string()
}
