//! The real ActiveMQ and its Java client, run by the peers' scripts.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::databases::ActiveMqOnDatabase;
use crate::process::{Ended, free_port, run, wait_for};

/// The scripts that run the real thing.
#[derive(Debug, Clone)]
pub struct Peers {
    dir: PathBuf,
    /// Where Java's libraries are, if not where Debian has them.
    jars: Option<PathBuf>,
}

impl Peers {
    /// The peers, if they are here: in the directory `PEERS_DIR` names, or in `../shared/peers` beside this
    /// repository, with Java and Debian's ActiveMQ installed.
    ///
    /// Without them `test` is skipped, and says so; but where `REQUIRE_PEERS` is set, as in CI, it fails.
    pub fn find(test: &str) -> Option<Self> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/peers");
        let dir = std::env::var_os("PEERS_DIR").map_or(beside, PathBuf::from);
        let installed = Path::new("/usr/share/java/activemq-broker.jar").exists();
        if installed && dir.join("activemq.sh").exists() {
            return Some(Self { dir, jars: None });
        }
        assert!(
            std::env::var_os("REQUIRE_PEERS").is_none(),
            "{test} needs a real ActiveMQ, and there is none"
        );
        println!("{test} was skipped: there is no real ActiveMQ (PEERS_DIR, Java and Debian's activemq)");
        None
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new("bash");
        command.arg(self.dir.join(name));
        if let Some(jars) = &self.jars {
            command.env("PEERS_JARS", jars);
        }
        command
    }

    /// Starts a real broker on a database. Returns once it is master of it.
    pub fn start_on(&self, database: &ActiveMqOnDatabase) -> ActiveMq {
        let peers = Self {
            jars: Some(database.jars.clone()),
            ..self.clone()
        };
        let config = database.config.to_str().expect("the path is a text");
        peers.start(&["--config", config, "--timeout", "120"])
    }

    /// Runs a program of the peers on the real Java client: `Sender`, `Receive`, `Interop`, `Perf`.
    pub fn jms(&self, arguments: &[&str]) -> Ended {
        run(self.script("jms.sh").args(arguments))
    }

    /// The same with options for the JVM.
    pub fn jms_with(&self, java_options: &str, arguments: &[&str]) -> Ended {
        run(self
            .script("jms.sh")
            .args(arguments)
            .env("JAVA_OPTS", java_options))
    }

    /// Starts a real broker on a port of its own; `options` are those of `activemq.sh start`.
    pub fn start(&self, options: &[&str]) -> ActiveMq {
        let broker = ActiveMq {
            peers: self.clone(),
            run_dir: TempDir::new().expect("there is room for temporary files"),
            port: free_port(),
        };
        let port = broker.port.to_string();
        let started = run(broker.script("start").args(["--port", &port]).args(options));
        assert!(started.success, "ActiveMQ does not start: {}", started.stderr);
        broker
    }
}

/// A real broker. Killed when dropped.
#[derive(Debug)]
pub struct ActiveMq {
    peers: Peers,
    run_dir: TempDir,
    port: u16,
}

impl ActiveMq {
    fn script(&self, verb: &str) -> Command {
        let mut command = self.peers.script("activemq.sh");
        command
            .args([verb, "--name", "peer", "--run-dir"])
            .arg(self.run_dir.path());
        command
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it and leaves it down.
    pub fn kill(&self) {
        let stopped = run(self.script("stop").arg("--kill"));
        assert!(stopped.success, "ActiveMQ cannot be killed: {}", stopped.stderr);
        // Its threads end one by one, and the last one takes the socket with it.
        wait_for("the port is free", Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", self.port)).err()
        });
    }

    /// Waits until it accepts: a standby that takes over.
    pub fn wait(&self) {
        let waited = run(&mut self.script("wait"));
        assert!(waited.success, "ActiveMQ does not take over: {}", waited.stderr);
    }

    /// Kills it if it runs, and starts it again with the same options.
    pub fn restart(&self) {
        self.kill();
        let started = run(&mut self.script("restart"));
        assert!(
            started.success,
            "ActiveMQ does not start again: {}",
            started.stderr
        );
    }
}

impl Drop for ActiveMq {
    fn drop(&mut self) {
        // A test that fails has its own message; a broker that was killed is down already.
        let _ = self.script("stop").args(["--kill", "--purge"]).output();
    }
}
