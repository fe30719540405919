//! The two brokers that have to pass.

use parking_lot::Mutex;
use tempfile::TempDir;
use tests::peers::{ActiveMq, Peers};
use tests::process::{BrokerProcess, free_port};

/// Whose broker it is.
#[derive(Debug, Clone)]
pub(crate) enum Maker {
    /// The real one.
    ActiveMq(Peers),
    BrokerLite,
}

impl Maker {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::ActiveMq(_) => "activemq",
            Self::BrokerLite => "broker-lite",
        }
    }

    /// A broker that keeps everything in memory.
    pub(crate) fn start(&self) -> Host {
        match self {
            Self::ActiveMq(peers) => Host::ActiveMq {
                broker: peers.start(&["--scheduler"]),
                _store: None,
            },
            Self::BrokerLite => Host::start_broker_lite(vec!["--memory".into(), "--scheduler".into()], None),
        }
    }

    /// A broker with a store, which survives a restart.
    pub(crate) fn start_lasting(&self) -> Host {
        let store = TempDir::new().expect("there is room for temporary files");
        let directory = store.path().to_string_lossy().into_owned();
        match self {
            Self::ActiveMq(peers) => Host::ActiveMq {
                broker: peers.start(&["--persistent", &directory, "--scheduler"]),
                _store: Some(store),
            },
            Self::BrokerLite => Host::start_broker_lite(
                vec!["--data".into(), directory, "--scheduler".into()],
                Some(store),
            ),
        }
    }
}

/// A running broker. Killed when dropped.
#[derive(Debug)]
pub(crate) enum Host {
    ActiveMq {
        broker: ActiveMq,
        /// Removed once the broker is gone.
        _store: Option<TempDir>,
    },
    BrokerLite {
        process: Mutex<Option<BrokerProcess>>,
        arguments: Vec<String>,
        url: String,
        _store: Option<TempDir>,
    },
}

impl Host {
    fn start_broker_lite(mut arguments: Vec<String>, store: Option<TempDir>) -> Self {
        // The same port after a restart.
        let url = format!("tcp://127.0.0.1:{}", free_port());
        arguments.extend(["--listen".into(), url.clone()]);
        Self::BrokerLite {
            process: Mutex::new(Some(start_process(&arguments))),
            arguments,
            url,
            _store: store,
        }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::ActiveMq { broker, .. } => broker.url(),
            Self::BrokerLite { url, .. } => url.clone(),
        }
    }

    /// Kills it, and returns once it accepts again. Blocks.
    pub(crate) fn restart(&self) {
        match self {
            Self::ActiveMq { broker, .. } => broker.restart(),
            Self::BrokerLite {
                process, arguments, ..
            } => {
                let mut process = process.lock();
                if let Some(running) = process.take() {
                    running.kill();
                }
                *process = Some(start_process(arguments));
            }
        }
    }
}

fn start_process(arguments: &[String]) -> BrokerProcess {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    BrokerProcess::start(&arguments)
}
