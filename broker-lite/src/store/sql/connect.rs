//! Where the database is, who asks, and how a connection to it is made.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions};
use url::Url;

use super::super::StoreError;
use super::dialect::Dialect;
use super::statements::Session;
use super::{SqlOptions, failed};

/// The user, where the URL has none.
const USER: &str = "BROKER_LITE_STORE_USER";
/// The password, where the URL has none.
const PASSWORD: &str = "BROKER_LITE_STORE_PASSWORD";

/// What a URL may say to the drivers. They overlook what they do not know, so it is refused here.
const POSTGRES: [&str; 7] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "application_name",
    "options",
];
const MYSQL: [&str; 5] = ["ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "socket"];

/// A database and how it is connected to.
#[derive(Debug, Clone)]
pub(super) struct Database {
    pub(super) dialect: Dialect,
    options: AnyConnectOptions,
    /// The database without its password, for people.
    pub(super) name: String,
    /// The file of SQLite.
    file: Option<String>,
}

impl Database {
    /// Reads a URL. Nothing is connected to.
    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        let refused = |why: String| StoreError::Refused(why);
        let (scheme, rest) = text
            .split_once(':')
            .ok_or_else(|| refused(format!("{text:?} is no URL of a store")))?;
        let dialect = Dialect::of_scheme(scheme)
            .ok_or_else(|| refused(format!("there is no SQL store for {scheme}:")))?;
        sqlx::any::install_default_drivers();
        if dialect == Dialect::Sqlite {
            return Self::file(rest);
        }
        // The password, if there is one, is in no message.
        let mut url = Url::parse(text).map_err(|error| refused(format!("the URL of the store: {error}")))?;
        let known: &[&str] = if dialect == Dialect::Postgres {
            &POSTGRES
        } else {
            &MYSQL
        };
        if let Some((name, _)) = url.query_pairs().find(|(name, _)| !known.contains(&&**name)) {
            return Err(refused(format!(
                "the store's URL has the unknown parameter {name:?}; {} knows {}",
                dialect.name(),
                known.join(", ")
            )));
        }
        let database = url.path().trim_matches('/');
        if database.is_empty() {
            return Err(refused("the store's URL names no database".into()));
        }
        let name = format!(
            "{} {}/{database}",
            dialect.name(),
            url.host_str().unwrap_or_default()
        );
        if url.username().is_empty()
            && let Ok(user) = std::env::var(USER)
        {
            url.set_username(&user)
                .map_err(|()| refused("the store's URL can have no user".into()))?;
        }
        if url.password().is_none()
            && let Ok(password) = std::env::var(PASSWORD)
        {
            url.set_password(Some(&password))
                .map_err(|()| refused("the store's URL can have no password".into()))?;
        }
        if scheme == "mariadb" {
            // Both may be said; the driver knows one of them.
            url.set_scheme("mysql")
                .map_err(|()| refused("the store's URL cannot be read".into()))?;
        }
        let options = AnyConnectOptions::from_url(&url).map_err(failed)?;
        Ok(Self {
            dialect,
            options: options.disable_statement_logging(),
            name,
            file: None,
        })
    }

    /// A file of SQLite.
    fn file(path: &str) -> Result<Self, StoreError> {
        if path.is_empty() || path.contains(['?', '#']) || path == ":memory:" {
            return Err(StoreError::Refused(format!(
                "sqlite: needs the path of a file, without parameters, not {path:?}"
            )));
        }
        // The driver reads an URL, in which a path is quoted.
        let quoted: String = path
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect();
        let url = Url::parse(&format!("sqlite://{quoted}?mode=rwc"))
            .map_err(|error| StoreError::Refused(format!("{path}: {error}")))?;
        let options = AnyConnectOptions::from_url(&url).map_err(failed)?;
        Ok(Self {
            dialect: Dialect::Sqlite,
            options: options.disable_statement_logging(),
            name: format!("SQLite {path}"),
            file: Some(path.to_owned()),
        })
    }

    /// Takes the file for this process alone. Other databases have a lock of their own.
    pub(super) fn lock_file(&self) -> Result<Option<File>, StoreError> {
        let Some(path) = &self.file else {
            return Ok(None);
        };
        let path = format!("{path}.lock");
        let io = |error: std::io::Error| StoreError::Io(format!("{path}: {error}"));
        if let Some(directory) = Path::new(&path)
            .parent()
            .filter(|directory| !directory.as_os_str().is_empty())
        {
            std::fs::create_dir_all(directory).map_err(io)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked(path)),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }

    /// A connection of its own.
    pub(super) async fn connect(&self) -> Result<AnyConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        for setting in self.dialect.settings() {
            sqlx::raw_sql(*setting).execute(&mut connection).await?;
        }
        Ok(connection)
    }

    /// One to write with. A broker that is stopped in the middle of a transaction, or cut off, would keep what it has locked, and
    /// whoever is to take over waiting: the database rolls back what goes on for too long without a word.
    pub(super) async fn connect_writer(&self) -> Result<AnyConnection, sqlx::Error> {
        let mut connection = self.connect().await?;
        for setting in self.dialect.writer_settings() {
            sqlx::raw_sql(*setting).execute(&mut connection).await?;
        }
        Ok(connection)
    }

    /// A connection that is told statements as this database wants them.
    pub(super) fn session<'c>(&self, connection: &'c mut AnyConnection) -> Session<'c> {
        Session {
            connection,
            dialect: self.dialect,
        }
    }

    /// Connections to read with, made when they are needed.
    pub(super) fn readers(&self, options: &SqlOptions) -> AnyPool {
        let settings = self.dialect.settings();
        AnyPoolOptions::new()
            .max_connections(options.readers)
            .acquire_timeout(options.reconnect)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    for setting in settings {
                        sqlx::raw_sql(AssertSqlSafe(*setting))
                            .execute(&mut *connection)
                            .await?;
                    }
                    Ok(())
                })
            })
            .connect_lazy_with(self.options.clone())
    }

    /// True if the same may work later: the server or the way to it is not there, or has too much to do.
    pub(super) fn is_passing(&self, error: &sqlx::Error) -> bool {
        match error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) => true,
            sqlx::Error::Database(error) => self.dialect.is_passing(&**error),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let database =
            Database::parse("postgres://me:secret@db.example:5433/orders?sslmode=verify-full").unwrap();
        assert_eq!(database.name, "PostgreSQL db.example/orders");
        let database = Database::parse("mariadb://localhost/orders").unwrap();
        assert_eq!(database.dialect, Dialect::MySql);
        let database = Database::parse("sqlite:data/a b.db").unwrap();
        assert_eq!(database.file.as_deref(), Some("data/a b.db"));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (url, named) in [
            ("oracle://h/d", "oracle"),
            ("nothing", "no URL"),
            ("postgres://h/d?sslmod=require", "sslmod"),
            ("mysql://h/d?sslmode=REQUIRED", "sslmode"),
            ("postgres://h", "no database"),
            ("sqlite:", "path"),
            ("sqlite:file?mode=ro", "without parameters"),
        ] {
            let error = Database::parse(url).unwrap_err().to_string();
            assert!(error.contains(named), "{url}: {error}");
        }
    }
}
