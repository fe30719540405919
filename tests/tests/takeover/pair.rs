//! Two brokers on one store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tests::process::{Candidate, Signal, free_port};
use tests::proxy::Gate;

use crate::PATIENCE;
use crate::ground::Ground;

/// One of the two brokers, over all its lives.
pub(crate) struct Place {
    pub(crate) listen: String,
    /// How often it was started.
    pub(crate) life: Arc<AtomicU32>,
    pub(crate) broker: Candidate,
}

/// Two brokers on one store, of which the first is master.
pub(crate) struct Pair {
    pub(crate) places: [Place; 2],
    /// After the brokers: it goes when they are gone.
    pub(crate) ground: Ground,
    options: Vec<String>,
}

pub(crate) fn other(place: usize) -> usize {
    1 - place
}

impl Pair {
    pub(crate) fn start(ground: Ground, options: &[&str]) -> Self {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let place = |at| {
            let listen = format!("tcp://127.0.0.1:{}", free_port());
            Place {
                broker: run(&ground, at, &listen, &options),
                listen,
                life: Arc::new(AtomicU32::new(1)),
            }
        };
        let mut first = place(0);
        first.broker.hear("ready", PATIENCE);
        let mut second = place(1);
        second.broker.hear("standing by", PATIENCE);
        Self {
            places: [first, second],
            ground,
            options,
        }
    }

    pub(crate) fn uri(&self) -> String {
        let [first, second] = &self.places;
        // A stopped broker closes nothing: that it says nothing has to do.
        format!(
            "failover:({},{})?maxReconnectDelay=200&nested.wireFormat.maxInactivityDuration=1500\
             &nested.wireFormat.maxInactivityDurationInitalDelay=1500",
            first.listen, second.listen
        )
    }

    /// Starts the broker at a place again, as a standby.
    pub(crate) fn restart(&mut self, at: usize) {
        let place = &mut self.places[at];
        place.life.fetch_add(1, Ordering::SeqCst);
        place.broker = run(&self.ground, at, &place.listen, &self.options);
        place.broker.hear("standing by", PATIENCE);
    }

    pub(crate) fn signal(&self, at: usize, signal: Signal) {
        self.places[at].broker.signal(signal);
    }

    /// Waits until the broker at this place serves.
    pub(crate) fn takes_over(&mut self, at: usize) {
        self.places[at].broker.hear("ready", PATIENCE);
    }

    /// Waits until the broker at this place has ended so.
    pub(crate) fn ends(&mut self, at: usize, with: i32) {
        let (status, errors) = self.places[at].broker.end(PATIENCE);
        assert_eq!(status, Some(with), "{errors}");
    }

    /// Does something to the way from a place to the database.
    pub(crate) fn gate(&self, at: usize, act: impl FnOnce(&Gate)) {
        match &self.ground {
            Ground::Database { gates, .. } => act(&gates[at]),
            Ground::Directory(_) => panic!("there is no database"),
        }
    }
}

fn run(ground: &Ground, at: usize, listen: &str, options: &[String]) -> Candidate {
    start(ground, at, ["a", "b"][at], listen, options)
}

/// Starts a broker at a place.
pub(crate) fn start(ground: &Ground, at: usize, name: &str, listen: &str, options: &[String]) -> Candidate {
    let interval = ground.interval().as_millis().to_string();
    let arguments = ground.arguments(at);
    let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    arguments.extend(["--name", name, "--listen", listen, "--log", "warn"]);
    arguments.extend(["--lock-acquire-sleep-interval", &interval]);
    arguments.extend(options.iter().map(String::as_str));
    Candidate::start(&arguments)
}
