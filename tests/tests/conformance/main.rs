//! What an application may rely on, asked of a real ActiveMQ and of broker-lite, through our client.
//!
//! Each check is a test of its own, named after its broker: `cargo test -p tests --test conformance -- activemq::queue`
//! runs those about queues against ActiveMQ. The checks of one broker share it, and tell their destinations apart by name;
//! those that restart it have one of their own. Slow ones run with `--include-ignored`.

mod acknowledge;
mod advisory;
mod check;
mod connection;
mod consumers;
mod dead_letters;
mod durable;
mod headers;
mod host;
mod kinds;
mod listening;
mod producers;
mod queues;
mod restarts;
mod scene;
mod scheduled;
mod selectors;
mod steps;
mod temporary;
mod topics;
mod transactions;
mod types;
mod wire;
mod xa;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use tests::peers::Peers;

use check::{Check, Failure, Outcome};
use host::{Host, Maker};
use scene::Scene;

const SUBJECTS: &[&[Check]] = &[
    types::CHECKS,
    headers::CHECKS,
    queues::CHECKS,
    topics::CHECKS,
    durable::CHECKS,
    selectors::CHECKS,
    temporary::CHECKS,
    transactions::CHECKS,
    xa::CHECKS,
    acknowledge::CHECKS,
    consumers::CHECKS,
    dead_letters::CHECKS,
    scheduled::CHECKS,
    advisory::CHECKS,
    listening::CHECKS,
    connection::CHECKS,
    producers::CHECKS,
    wire::CHECKS,
    restarts::CHECKS,
];

/// A broker that is started by the first check that needs it, and ends with the last.
struct Shared {
    maker: Maker,
    host: OnceLock<Arc<Host>>,
}

impl Shared {
    fn new(maker: Maker) -> Arc<Self> {
        Arc::new(Self {
            maker,
            host: OnceLock::new(),
        })
    }

    /// The broker for a check.
    fn host(&self, check: &Check) -> Arc<Host> {
        match check.restarts {
            true => Arc::new(self.maker.start_lasting()),
            false => self.host.get_or_init(|| Arc::new(self.maker.start())).clone(),
        }
    }
}

/// Runs a check against a broker.
fn run(check: &Check, host: Arc<Host>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        let scene = Scene::new(check.name, host);
        let outcome = tokio::time::timeout(check.limit, (check.body)(&scene)).await;
        let outcome =
            outcome.unwrap_or_else(|_| Err(Failure::new(format!("not done within {:?}", check.limit))));
        scene.end(outcome).await
    });
    // Whatever a check that failed has left behind is not waited for.
    runtime.shutdown_background();
    outcome
}

/// The checks as tests of one broker.
fn trials(maker: Maker) -> Vec<Trial> {
    let shared = Shared::new(maker);
    let checks = SUBJECTS.iter().copied().flatten();
    checks
        .map(|&check| {
            let shared = shared.clone();
            let name = format!("{}::{}", shared.maker.name(), check.name);
            Trial::test(name, move || {
                run(&check, shared.host(&check)).map_err(|failure| Failed::from(failure.to_string()))
            })
            .with_ignored_flag(check.slow)
        })
        .collect()
}

/// The names are unique.
fn names() -> Result<(), Failed> {
    let mut names = BTreeSet::new();
    for check in SUBJECTS.iter().copied().flatten() {
        if !names.insert(check.name) {
            return Err(format!("two checks are named {}", check.name).into());
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut all = vec![Trial::test("names", names)];
    all.extend(trials(Maker::BrokerLite));
    // Without a real ActiveMQ only broker-lite is asked.
    if let Some(peers) = Peers::find("conformance of ActiveMQ") {
        all.extend(trials(Maker::ActiveMq(peers)));
    }
    libtest_mimic::run(&arguments, all).exit_code()
}
