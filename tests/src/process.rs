//! Our own programs as processes: the broker's binary and the samples.

use std::io::{BufRead, BufReader, Lines, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Pid;
pub use rustix::process::Signal;

/// Where the binaries of this build are. They are built if this test was built without them, unless the environment says
/// with `PROGRAMS_ARE_BUILT` that they are there: cargo builds them once more if other packages are built with them.
fn target_dir() -> &'static PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let mut dir = std::env::current_exe().expect("this test has a path");
        // target/PROFILE/deps/this-test
        dir.pop();
        dir.pop();
        if std::env::var_os("PROGRAMS_ARE_BUILT").is_some() {
            return dir;
        }
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args([
            "build",
            "--quiet",
            "-p",
            "broker-lite",
            "-p",
            "examples",
            "--bins",
            "--examples",
        ]);
        if dir.ends_with("release") {
            build.arg("--release");
        }
        assert!(
            build.status().expect("cargo runs").success(),
            "the programs under test do not build"
        );
        dir
    })
}

/// The path of a sample, such as `sender`.
pub fn example(name: &str) -> PathBuf {
    target_dir().join("examples").join(name)
}

/// The path of the broker's binary.
pub fn broker_lite() -> PathBuf {
    target_dir().join("broker-lite")
}

/// A port nobody listens on now. It is none of those that the system gives to outgoing connections: a broker that goes
/// and comes back finds it free.
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(20_000..30_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// What a program that ran to its end left behind.
#[derive(Debug)]
pub struct Ended {
    /// It said that it succeeded.
    pub success: bool,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().expect("it can be run");
    Ended {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A `broker-lite` in a process of its own. Killed when dropped.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Child,
    /// Where it listens, in the order of its `--listen` arguments.
    pub addresses: Vec<String>,
}

impl BrokerProcess {
    /// Starts one and waits until it is ready, as a master.
    pub fn start(arguments: &[&str]) -> Self {
        StartingBroker::new(arguments).ready()
    }

    /// The same in surroundings that this command makes for the program it is given.
    pub fn start_in(surroundings: Command, arguments: &[&str]) -> Self {
        let mut command = surroundings;
        command.arg(broker_lite());
        StartingBroker::run(command, arguments).ready()
    }

    /// Starts one that finds another master, and waits until it has.
    pub fn stand_by(arguments: &[&str]) -> StartingBroker {
        let mut broker = StartingBroker::new(arguments);
        let line = broker.line();
        assert!(line.starts_with("standing by"), "broker-lite says {line:?}");
        broker
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power failure would: it can do nothing about it.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `broker-lite` in a process of its own, which may never come to serve. Killed when dropped.
#[derive(Debug)]
pub struct Candidate {
    child: Child,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
}

impl Candidate {
    /// Starts one and does not wait.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(broker_lite())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("broker-lite can be run");
        let stdout = child.stdout.take().expect("its output is piped");
        let mut stderr = child.stderr.take().expect("its errors are piped");
        let (said, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Whoever listened may have gone.
                let _ = said.send(line);
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            // What is no text is not of this program.
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self {
            child,
            lines,
            errors: Some(errors),
        }
    }

    /// Waits until it says a line that begins so, and returns it.
    ///
    /// # Panics
    ///
    /// If it does not within `limit`, or ends.
    pub fn hear(&mut self, begin: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.starts_with(begin) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    panic!("broker-lite does not say {begin:?} within {limit:?}")
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let (status, errors) = self.end(limit);
                    panic!("broker-lite ended with {status:?} before it said {begin:?}: {errors}");
                }
            }
        }
    }

    /// It has said a line that begins so. Earlier lines are forgotten.
    pub fn has_said(&mut self, begin: &str) -> bool {
        self.lines.try_iter().any(|line| line.starts_with(begin))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }

    /// Waits until it has ended; gives its status, none if it was killed, and what it complained about.
    ///
    /// # Panics
    ///
    /// If it does not end within `limit`.
    pub fn end(&mut self, limit: Duration) -> (Option<i32>, String) {
        let status = wait_for("broker-lite ends", limit, || {
            self.child.try_wait().expect("it can be waited for")
        });
        let errors = self
            .errors
            .take()
            .map(|errors| errors.join().expect("it is read"));
        (status.code(), errors.unwrap_or_default())
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `broker-lite` in a process of its own that is not ready yet. Killed when dropped.
#[derive(Debug)]
pub struct StartingBroker {
    broker: BrokerProcess,
    lines: Lines<BufReader<ChildStdout>>,
}

impl StartingBroker {
    fn new(arguments: &[&str]) -> Self {
        Self::run(Command::new(broker_lite()), arguments)
    }

    fn run(mut command: Command, arguments: &[&str]) -> Self {
        let mut child = command
            .args(arguments)
            .args(["--log", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("broker-lite can be run");
        let stdout = child.stdout.take().expect("its output is piped");
        Self {
            broker: BrokerProcess {
                child,
                addresses: Vec::new(),
            },
            lines: BufReader::new(stdout).lines(),
        }
    }

    fn line(&mut self) -> String {
        let line = self.lines.next().expect("broker-lite ended before it was ready");
        line.expect("its output can be read")
    }

    /// Waits until it is ready: the master before it has to end for that.
    pub fn ready(mut self) -> BrokerProcess {
        loop {
            let line = self.line();
            match line.strip_prefix("listening on ") {
                Some(address) => self.broker.addresses.push(address.to_owned()),
                None if line == "ready" => return self.broker,
                None => panic!("broker-lite says {line:?}"),
            }
        }
    }
}

/// Waits until something is so, and gives up with `what` after a time in which it should have been.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(started.elapsed() < limit, "{what} within {limit:?}");
        std::thread::yield_now();
    }
}
