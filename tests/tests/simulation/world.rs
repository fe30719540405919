//! A world: clients, brokers, the network between them and the disk below, all from one seed and in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openwire_client::environment::Simulation;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::brokers::{self, Brokers};
use super::client::{Client, drain};
use super::disk::Disk;
use super::faults::faults;
use super::ledger::{Figures, Ledger};
use super::network::Network;

/// After the faults everybody has this long to come to an end.
const HEALING: Duration = Duration::from_secs(300);

/// What a run is to do besides following its seed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Every event is printed.
    pub(crate) verbose: bool,
    /// The disk says that everything is durable at once.
    pub(crate) lying_disk: bool,
}

/// How a run went.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    pub(crate) violations: Vec<String>,
    /// The same for the same course.
    pub(crate) hash: u64,
    pub(crate) figures: Figures,
    pub(crate) faults: u64,
    /// How much time passed in the world.
    pub(crate) time: Duration,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    pub(crate) queues: usize,
    pub(crate) network: Arc<Network>,
    pub(crate) disk: Arc<Disk>,
    pub(crate) brokers: Brokers,
    pub(crate) ledger: Ledger,
    /// The faults are over.
    pub(crate) calm: AtomicBool,
    numbers: AtomicU64,
}

/// Runs the world of a seed to its end.
pub(crate) fn run(seed: u64, options: Options) -> Course {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing");
    runtime.block_on(async {
        let _simulation = Simulation::begin(seed);
        let start = Instant::now();
        let world = World::new(seed, options);
        let faults = world.clone().live().await;
        Course {
            violations: world.ledger.violations(),
            hash: world.ledger.hash(),
            figures: world.ledger.figures(),
            faults,
            time: start.elapsed(),
        }
    })
}

impl World {
    fn new(seed: u64, options: Options) -> Arc<Self> {
        // Names are for the whole process, and must not be of different lengths.
        static WORLDS: AtomicU64 = AtomicU64::new(0);
        let name = format!("world{:08}", WORLDS.fetch_add(1, Ordering::Relaxed));
        let mut random = random(seed, "world", 0);
        let clients = random.random_range(1..=4);
        let hosts = random.random_range(1..=3);
        // One more client drains in the end.
        let network = Network::new(&name, seed, clients + 1, hosts);
        let disk = Disk::new(seed, options.lying_disk);
        let of_brokers = brokers::Options {
            inactivity: [2_000, 10_000, 30_000][random.random_range(0..3)],
            resident: [0, 2_000, 1_000_000][random.random_range(0..3)],
        };
        Arc::new(Self {
            seed,
            clients,
            queues: random.random_range(1..=3),
            brokers: Brokers::new(&name, of_brokers, network.clone(), disk.clone(), hosts),
            network,
            disk,
            ledger: Ledger::new(options.verbose),
            calm: AtomicBool::new(false),
            numbers: AtomicU64::new(0),
        })
    }

    /// A number that nothing else in this world has.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Lives until everything is done or a rule is broken. Says how many faults there were.
    async fn live(self: Arc<Self>) -> u64 {
        self.brokers.start(0).await;
        let mut clients = JoinSet::new();
        for index in 0..self.clients {
            clients.spawn(Client::new(self.clone(), index).live());
        }
        let course = async {
            let faults = faults(&self).await;
            self.calm.store(true, Ordering::Relaxed);
            let ended = timeout(HEALING, async {
                while let Some(ended) = clients.join_next().await {
                    if let Err(panic) = ended {
                        self.ledger.violation(format!("a client failed: {panic}"));
                    }
                }
                drain(&self).await;
            });
            match ended.await {
                Ok(()) => self.ledger.audit(),
                Err(_) => self.ledger.violation(format!(
                    "it did not come to an end within {HEALING:?} after the faults"
                )),
            }
            faults
        };
        tokio::select! {
            biased;
            faults = course => faults,
            () = self.ledger.failed.notified() => 0,
        }
    }
}

/// Randomness for one part of a world.
pub(crate) fn random(seed: u64, part: &str, number: u64) -> SmallRng {
    let part = part.bytes().fold(number, |hash, byte| {
        hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)
    });
    SmallRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ part.rotate_left(32))
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
