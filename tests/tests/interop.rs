//! The real Java client's own account of a broker: `Interop`, about 150 checks, in full against a real ActiveMQ and against
//! broker-lite, each with a store, a scheduler and restarts by `kill -9`.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tests::peers::Peers;
use tests::process::{BrokerProcess, free_port};

/// How often the test looks whether a restart is wanted or the checks are over.
const POLL: Duration = Duration::from_millis(20);

/// What a run came to.
#[derive(Debug, Default)]
struct Verdict {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    skipped: BTreeSet<String>,
}

impl Verdict {
    /// Reads `PASS name (12 ms)`, `FAIL name (12 ms): why` and `SKIP name: needs what`.
    fn read(output: &str) -> Self {
        let mut verdict = Self::default();
        for line in output.lines() {
            let Some((word, rest)) = line.split_once(' ') else {
                continue;
            };
            let names = match word {
                "PASS" => &mut verdict.passed,
                "FAIL" => &mut verdict.failed,
                "SKIP" => &mut verdict.skipped,
                _ => continue,
            };
            let name = rest.split([' ', ':']).next().unwrap_or(rest);
            names.insert(name.to_owned());
        }
        verdict
    }
}

/// Runs all checks. `restart` kills the broker, and returns once it accepts again.
fn run(broker: &str, peers: &Peers, url: &str, mut restart: impl FnMut()) -> Verdict {
    // Whoever connects here has the broker restarted, and hears when it is back. The checks cannot do it themselves: only
    // this process may end the broker, which it started.
    let control = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    control
        .set_nonblocking(true)
        .expect("a listener can be asked without waiting");
    let port = control.local_addr().expect("it is bound").port();
    let ask = format!(
        "bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port} && read -r said <&3 && test \"$said\" = restarted'"
    );
    let ended = thread::scope(|scope| {
        let checks =
            scope.spawn(|| peers.jms(&["Interop", "--url", url, "--persistent", "--restart-cmd", &ask]));
        loop {
            match control.accept() {
                Ok((mut asker, _)) => {
                    restart();
                    // A check that has given up by now does not hear it.
                    let _ = asker.write_all(b"restarted\n");
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(POLL),
                Err(error) => panic!("nobody can ask for a restart any more: {error}"),
            }
            if checks.is_finished() {
                break checks.join().expect("the peers' programs can be run");
            }
        }
    });
    let verdict = Verdict::read(&ended.stdout);
    for line in ended.stdout.lines().filter(|line| line.starts_with("FAIL")) {
        println!("{broker}: {line}");
    }
    println!(
        "{broker}: {} passed, {} failed, {} skipped",
        verdict.passed.len(),
        verdict.failed.len(),
        verdict.skipped.len()
    );
    assert!(
        !verdict.passed.is_empty(),
        "{broker}: nothing was checked: {}{}",
        ended.stdout,
        ended.stderr
    );
    verdict
}

fn activemq(peers: &Peers) -> Verdict {
    let store = TempDir::new().expect("there is room for temporary files");
    let broker = peers.start(&["--persistent", &store.path().to_string_lossy(), "--scheduler"]);
    run("ActiveMQ", peers, &broker.url(), || broker.restart())
}

fn broker_lite(peers: &Peers) -> Verdict {
    let store = TempDir::new().expect("there is room for temporary files");
    let directory = store.path().to_string_lossy().into_owned();
    let listen = format!("tcp://127.0.0.1:{}", free_port());
    let start = || BrokerProcess::start(&["--data", &directory, "--scheduler", "--listen", &listen]);
    let mut broker = Some(start());
    run("broker-lite", peers, &listen, || {
        if let Some(running) = broker.take() {
            running.kill();
        }
        broker = Some(start());
    })
}

#[test]
fn the_java_client_finds_what_it_finds_in_activemq() {
    let Some(peers) = Peers::find("the_java_client_finds_what_it_finds_in_activemq") else {
        return;
    };
    // At once: most of the time they wait.
    let (lite, real) = thread::scope(|scope| {
        let lite = scope.spawn(|| broker_lite(&peers));
        let real = activemq(&peers);
        (lite.join().expect("it came to an end"), real)
    });
    assert!(lite.failed.is_empty(), "broker-lite fails {:?}", lite.failed);
    assert!(real.failed.is_empty(), "ActiveMQ fails {:?}", real.failed);
    assert_eq!(
        (lite.passed, lite.skipped),
        (real.passed, real.skipped),
        "both brokers are asked the same questions"
    );
}
