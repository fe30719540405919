//! The stores in databases, each in one of its own: a file, or a database on a server that this process starts.

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use sqlx::{AnyConnection, AssertSqlSafe, Connection};
use tokio::runtime::Runtime;

use super::*;
use crate::store::sql::{SqlOptions, SqlStore};

/// Runs databases for tests.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/databases.sh");

/// True if such a server can be run here. Where `REQUIRE_PEERS` is set, as in CI, it has to be.
pub(in crate::store) fn is_here(kind: &str, test: &str) -> bool {
    let installed = Command::new("bash")
        .args([SCRIPT, "installed", kind])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    assert!(
        installed || std::env::var_os("REQUIRE_PEERS").is_none(),
        "{test} needs {kind}, and it is not installed"
    );
    if !installed {
        println!("{test} was skipped: {kind} is not installed");
    }
    installed
}

/// A server for all tests of this process.
pub(in crate::store) struct Server {
    scheme: &'static str,
    port: u16,
    databases: AtomicU32,
}

pub(in crate::store) static POSTGRES: LazyLock<Server> =
    LazyLock::new(|| Server::start("postgres", "postgres://tests", &[]));
pub(in crate::store) static MARIADB: LazyLock<Server> =
    LazyLock::new(|| Server::start("mariadb", "mysql://root", &[]));

impl Server {
    /// One with options of its own.
    pub(in crate::store) fn start(kind: &'static str, scheme: &'static str, options: &[String]) -> Self {
        let options = options.to_vec();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        // The server ends with the thread that started it: this one ends with the process.
        std::thread::spawn(move || {
            let dir = tempfile::tempdir().unwrap();
            let mut server = Command::new("bash")
                .args([SCRIPT, kind])
                .arg(dir.path())
                .arg(port.to_string())
                .args(options)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            panic!("{kind} ended: {:?}", server.wait());
        });
        let server = Self {
            scheme,
            port,
            databases: AtomicU32::new(0),
        };
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() || block_on(server.try_connect()).is_err() {
            assert!(Instant::now() < deadline, "{kind} does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn url(&self, database: &str) -> String {
        format!("{}@127.0.0.1:{}/{database}", self.scheme, self.port)
    }

    async fn try_connect(&self) -> Result<AnyConnection, sqlx::Error> {
        sqlx::any::install_default_drivers();
        AnyConnection::connect(&self.url("tests")).await
    }

    /// The URL of a new database.
    pub(in crate::store) fn database(&self) -> String {
        let name = format!("d{}", self.databases.fetch_add(1, Ordering::Relaxed));
        block_on(async {
            let mut connection = self.try_connect().await.unwrap();
            let create = format!("CREATE DATABASE {name}");
            sqlx::raw_sql(AssertSqlSafe(create))
                .execute(&mut connection)
                .await
                .unwrap();
        });
        self.url(&name)
    }
}

/// Connections end with the runtime they were made on: this one does not.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
});

/// Runs what needs a runtime.
pub(in crate::store) fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// Opens a store in which every subscription wants every message.
pub(in crate::store) fn open(url: &str) -> Result<(SqlStore, Recovered), StoreError> {
    block_on(SqlStore::open(
        &url.parse()?,
        SqlOptions::default(),
        Box::new(|_, _| true),
    ))
}

/// SQLite.
pub(in crate::store) struct InFile {
    store: SqlStore,
    dir: TempDir,
}

impl InFile {
    fn open(dir: TempDir) -> (Self, Recovered) {
        let url = format!("sqlite:{}", dir.path().join("the store.db").display());
        let (store, recovered) = open(&url).unwrap();
        (Self { store, dir }, recovered)
    }
}

impl Subject for InFile {
    fn fresh() -> Self {
        Self::open(tempfile::tempdir().unwrap()).0
    }

    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn restart(self) -> (Self, Recovered) {
        let Self { store, dir } = self;
        drop(store);
        Self::open(dir)
    }
}

macro_rules! on_server {
    ($subject:ident, $server:ident) => {
        pub(in crate::store) struct $subject {
            store: SqlStore,
            url: String,
        }

        impl Subject for $subject {
            fn fresh() -> Self {
                let url = $server.database();
                let (store, _) = open(&url).unwrap();
                Self { store, url }
            }

            fn store(&self) -> &dyn Store {
                &self.store
            }

            fn restart(self) -> (Self, Recovered) {
                let Self { store, url } = self;
                drop(store);
                let (store, recovered) = open(&url).unwrap();
                (Self { store, url }, recovered)
            }
        }
    };
}

on_server!(Postgres, POSTGRES);
on_server!(MariaDb, MARIADB);
