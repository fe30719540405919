//! Databases that tests start, and ActiveMQ on them.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{free_port, run, wait_for};

/// In this time a database has started on a busy machine.
const STARTING: Duration = Duration::from_secs(60);

/// Where Debian's Java libraries are.
const JARS: &str = "/usr/share/java";

/// A PostgreSQL of its own, with the user and the database `tests`. Killed when dropped.
///
/// It ends with the thread that started it, too.
#[derive(Debug)]
pub struct Postgres {
    child: Child,
    dir: TempDir,
    port: u16,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("databases.sh")
}

impl Postgres {
    /// Starts one, if it is installed.
    ///
    /// Without it `test` is skipped, and says so; but where `REQUIRE_PEERS` is set, as in CI, it fails.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn find(test: &str) -> Option<Self> {
        let installed = run(Command::new("bash").arg(script()).args(["installed", "postgres"]));
        if !installed.success {
            assert!(
                std::env::var_os("REQUIRE_PEERS").is_none(),
                "{test} needs PostgreSQL, and it is not installed"
            );
            println!("{test} was skipped: PostgreSQL is not installed");
            return None;
        }
        let dir = TempDir::new().expect("there is room for temporary files");
        let port = free_port();
        let child = Command::new("bash")
            .arg(script())
            .arg("postgres")
            .arg(dir.path())
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("bash is there");
        let database = Self { child, dir, port };
        wait_for("PostgreSQL starts", STARTING, || {
            let mut query = database.psql("SELECT 1");
            run(&mut query).success.then_some(())
        });
        Some(database)
    }

    /// What broker-lite is told for `--store`.
    pub fn url(&self) -> String {
        format!("postgres://tests@127.0.0.1:{}/tests", self.port)
    }

    fn psql(&self, query: &str) -> Command {
        let mut command = Command::new("psql");
        command
            .args([
                "-h",
                "127.0.0.1",
                "-U",
                "tests",
                "-d",
                "tests",
                "-At",
                "-c",
                query,
            ])
            .args(["-p", &self.port.to_string()]);
        command
    }

    /// What a query finds, one row a line.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn query(&self, query: &str) -> String {
        let ended = run(&mut self.psql(query));
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
        let config = self.dir.path().join("activemq.xml");
        let mut xml = String::new();
        let _ = write!(
            xml,
            r##"<beans xmlns="http://www.springframework.org/schema/beans"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="
  http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans.xsd
  http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <bean class="org.springframework.beans.factory.config.PropertyPlaceholderConfigurer"/>
  <bean id="database" class="org.postgresql.ds.PGSimpleDataSource">
    <property name="serverName" value="127.0.0.1"/>
    <property name="portNumber" value="{port}"/>
    <property name="databaseName" value="tests"/>
    <property name="user" value="tests"/>
  </bean>
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="${{activemq.name}}" useJmx="false"
    dataDirectory="${{activemq.data}}">
    <destinationPolicy><policyMap><policyEntries>
      <policyEntry queue=">" {policy}/>
    </policyEntries></policyMap></destinationPolicy>
    <persistenceAdapter>
      <jdbcPersistenceAdapter dataSource="#database"/>
    </persistenceAdapter>
    <transportConnectors>
      <transportConnector uri="tcp://127.0.0.1:${{activemq.port}}"/>
    </transportConnectors>
  </broker>
</beans>
"##,
            port = self.port,
        );
        std::fs::write(&config, xml).expect("there is room for a file");
        ActiveMqOnDatabase {
            config,
            jars: self.jars(),
        }
    }

    /// The peers' class path names the libraries it knows. The driver of PostgreSQL takes the place of that of Derby, another
    /// database, which nobody needs here.
    fn jars(&self) -> PathBuf {
        let jars = self.dir.path().join("jars");
        if jars.exists() {
            return jars;
        }
        std::fs::create_dir(&jars).expect("there is room for a directory");
        let installed = std::fs::read_dir(JARS).expect("Java's libraries are installed");
        for jar in installed {
            let jar = jar.expect("a directory can be read");
            if jar.file_name() != "derby.jar" {
                symlink(jar.path(), jars.join(jar.file_name())).expect("a link can be made");
            }
        }
        let driver = Path::new(JARS).join("postgresql.jar");
        assert!(driver.exists(), "libpostgresql-jdbc-java is not installed");
        symlink(driver, jars.join("derby.jar")).expect("a link can be made");
        jars
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
