//! Databases that tests start, and ActiveMQ on them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::process::{free_port, run, wait_for};

/// In this time a database has started on a busy machine.
const STARTING: Duration = Duration::from_secs(60);

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("databases.sh")
}

/// A server that tests can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL, with the user `tests`.
    Postgres,
    /// MariaDB, with the user `root`.
    MariaDb,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
        }
    }

    /// What broker-lite is told for `--store`, if the server is reached at this port.
    pub fn url(self, port: u16) -> String {
        match self {
            Self::Postgres => format!("postgres://tests@127.0.0.1:{port}/tests"),
            Self::MariaDb => format!("mariadb://root@127.0.0.1:{port}/tests"),
        }
    }
}

/// A server of its own with the database `tests`. Killed when dropped.
///
/// It ends with the thread that started it, too.
#[derive(Debug)]
pub struct Server {
    child: Child,
    dir: TempDir,
    port: u16,
    kind: Kind,
}

impl Server {
    /// Starts one, if it is installed.
    ///
    /// Without it `test` is skipped, and says so; but where `REQUIRE_PEERS` is set, as in CI, it fails.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn find(kind: Kind, test: &str) -> Option<Self> {
        let installed = run(Command::new("bash")
            .arg(script())
            .args(["installed", kind.name()]));
        if !installed.success {
            assert!(
                std::env::var_os("REQUIRE_PEERS").is_none(),
                "{test} needs {kind:?}, and it is not installed"
            );
            println!("{test} was skipped: {kind:?} is not installed");
            return None;
        }
        let dir = TempDir::new().expect("there is room for temporary files");
        let port = free_port();
        let server = Self {
            child: spawn(kind, &dir, port),
            dir,
            port,
            kind,
        };
        server.wait();
        Some(server)
    }

    /// Its port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Which it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Ends it at once, and all its connections. What was committed is there when it starts again.
    ///
    /// # Panics
    ///
    /// If it has ended already.
    pub fn kill(&mut self) {
        // A PostgreSQL that is killed leaves processes behind, which keep the next one from starting.
        let signal = match self.kind {
            Kind::Postgres => Signal::QUIT,
            Kind::MariaDb => Signal::KILL,
        };
        rustix::process::kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Starts it again after it was killed, from the thread that started it first.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn restart(&mut self) {
        self.child = spawn(self.kind, &self.dir, self.port);
        self.wait();
    }

    fn wait(&self) {
        wait_for("the database starts", STARTING, || {
            run(&mut self.client("SELECT 1")).success.then_some(())
        });
    }

    fn client(&self, query: &str) -> Command {
        let port = self.port.to_string();
        match self.kind {
            Kind::Postgres => {
                let mut psql = Command::new("psql");
                psql.args(["-h", "127.0.0.1", "-U", "tests", "-d", "tests", "-At"])
                    .args(["-p", &port, "-c", query]);
                psql
            }
            Kind::MariaDb => {
                let mut mariadb = Command::new("mariadb");
                mariadb
                    .args(["--no-defaults", "-h", "127.0.0.1", "-u", "root", "-N", "-B"])
                    .args(["-P", &port, "-e", query, "tests"]);
                mariadb
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(kind: Kind, dir: &TempDir, port: u16) -> Child {
    Command::new("bash")
        .arg(script())
        .arg(kind.name())
        .arg(dir.path())
        .arg(port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("bash is there")
}

/// A PostgreSQL, and an ActiveMQ on it.
#[derive(Debug)]
pub struct Postgres(Server);

impl Postgres {
    /// Starts one, as [`Server::find`] does.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn find(test: &str) -> Option<Self> {
        Server::find(Kind::Postgres, test).map(Self)
    }

    /// What broker-lite is told for `--store`.
    pub fn url(&self) -> String {
        Kind::Postgres.url(self.0.port)
    }

    /// What a query finds, one row a line.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn query(&self, query: &str) -> String {
        let ended = run(&mut self.0.client(query));
        assert!(ended.success, "{query}: {}", ended.stderr);
        ended.stdout
    }

    /// Waits until somebody waits for a lock that somebody else has.
    pub fn wait_for_standby(&self) {
        wait_for("a standby waits for the lock", STARTING, || {
            let waiting = self.query("SELECT count(*) FROM pg_locks WHERE NOT granted");
            (waiting.trim() != "0").then_some(())
        });
    }

    /// The options with which the peers' scripts start an ActiveMQ on this database, and the libraries they need in
    /// `PEERS_JARS`. `policy` goes into its `policyEntry` for queues.
    ///
    /// # Panics
    ///
    /// If there is no room for files.
    pub fn activemq(&self, policy: &str) -> ActiveMqOnDatabase {
        let config = self.0.dir.path().join("activemq.xml");
        let xml = include_str!("../activemq-on-postgres.xml")
            .replace("@port@", &self.0.port.to_string())
            .replace("@database@", "tests")
            .replace("@policy@", policy);
        std::fs::write(&config, xml).expect("there is room for a file");
        ActiveMqOnDatabase {
            config,
            jars: self.jars(),
        }
    }

    fn jars(&self) -> PathBuf {
        let jars = self.0.dir.path().join("jars");
        if !jars.exists() {
            let made = run(Command::new("bash").arg(script()).arg("jars").arg(&jars));
            assert!(made.success, "{}", made.stderr);
        }
        jars
    }
}

/// How an ActiveMQ on a database is started.
#[derive(Debug, Clone)]
pub struct ActiveMqOnDatabase {
    /// Its configuration.
    pub config: PathBuf,
    /// Where its libraries are.
    pub jars: PathBuf,
}
