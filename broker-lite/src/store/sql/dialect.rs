//! What differs between the databases.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    /// MariaDB as well.
    MySql,
    Sqlite,
}

impl Dialect {
    /// By the scheme of its URL.
    pub(super) fn of_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "postgres" | "postgresql" => Some(Self::Postgres),
            "mysql" | "mariadb" => Some(Self::MySql),
            "sqlite" => Some(Self::Sqlite),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::MySql => "MySQL",
            Self::Sqlite => "SQLite",
        }
    }

    /// A statement as this database wants it. It is written with `?` for each parameter, and has none in texts.
    pub(super) fn statement(self, text: &str) -> String {
        if self != Self::Postgres {
            return text.to_owned();
        }
        let mut parts = text.split('?');
        let mut statement = parts.next().unwrap_or_default().to_owned();
        for (number, part) in parts.enumerate() {
            statement.push_str(&format!("${}{part}", number + 1));
        }
        statement
    }

    /// A piece of a statement with this database's names of types for casts.
    pub(super) fn typed(self, text: &str) -> String {
        let (int, characters) = match self {
            Self::Postgres => ("BIGINT", "VARCHAR"),
            Self::MySql => ("SIGNED", "CHAR"),
            Self::Sqlite => ("INTEGER", "TEXT"),
        };
        text.replace("{int}", int).replace("{text}", characters)
    }

    /// The type of columns with bytes, as ActiveMQ chooses it.
    pub(super) fn binary(self) -> &'static str {
        match self {
            Self::Postgres => "BYTEA",
            Self::MySql => "LONGBLOB",
            Self::Sqlite => "BLOB",
        }
    }

    /// What follows the columns of a new table.
    pub(super) fn table_options(self) -> &'static str {
        match self {
            Self::MySql => " ENGINE=INNODB",
            Self::Postgres | Self::Sqlite => "",
        }
    }

    /// Begins a transaction that is going to write.
    pub(super) fn begin(self) -> &'static str {
        match self {
            // One that began by reading could not go on if another writer came in between.
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
            Self::MySql => "START TRANSACTION",
        }
    }

    /// Said on each new connection.
    pub(super) fn settings(self) -> &'static [&'static str] {
        match self {
            // A commit is on the disk when it is answered, as one of the journal is.
            Self::Sqlite => &["PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL"],
            // A snapshot for each statement: what another broker committed meanwhile is seen.
            Self::MySql => &["SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"],
            Self::Postgres => &[],
        }
    }

    /// Said on a connection to write with as well: a transaction in which nothing happens for two seconds is rolled back, with the
    /// connection. Whoever goes on after that finds it broken, and tries again.
    pub(super) fn writer_settings(self) -> &'static [&'static str] {
        match self {
            // Its statements are planned once, whatever their values; and never by looking at whole tables, as a table that is empty
            // by then may soon be large.
            Self::Postgres => &[
                "SET idle_in_transaction_session_timeout=2000",
                "SELECT set_config(name, 'force_generic_plan', false) FROM pg_settings WHERE name='plan_cache_mode'",
                "SET enable_seqscan=off",
            ],
            // MySQL has nothing of the kind, and reads no more than the first half.
            Self::MySql => &[
                "SET SESSION wait_timeout=@@SESSION.wait_timeout /*M!, SESSION idle_transaction_timeout=2 */",
            ],
            Self::Sqlite => &[],
        }
    }

    /// Asks for the longest message that can be stored, in bytes; none if nobody needs to be asked.
    pub(super) fn ask_longest(self) -> Option<&'static str> {
        match self {
            Self::MySql => Some("SELECT CAST(@@max_allowed_packet AS SIGNED)"),
            Self::Postgres | Self::Sqlite => None,
        }
    }

    /// The longest message that can be stored, in bytes, if nobody says less.
    pub(super) fn longest(self) -> usize {
        match self {
            // A value is shorter than 1 GB in both, and other values stand beside it.
            Self::Postgres | Self::Sqlite => 900_000_000,
            Self::MySql => u32::MAX as usize,
        }
    }

    /// Asks for the time by the database's clock, in milliseconds since 1970.
    pub(super) fn ask_time(self) -> &'static str {
        match self {
            Self::Postgres => "SELECT CAST(EXTRACT(EPOCH FROM CURRENT_TIMESTAMP) * 1000 AS BIGINT)",
            Self::MySql => "SELECT CAST(UNIX_TIMESTAMP(CURRENT_TIMESTAMP(3)) * 1000 AS SIGNED)",
            // It has no clock of its own.
            Self::Sqlite => "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
        }
    }

    /// Has nothing to say for a while.
    pub(super) fn idle(self, pause: Duration) -> String {
        let seconds = pause.as_secs_f64();
        match self {
            Self::Postgres => format!("SELECT 1 FROM pg_sleep({seconds})"),
            Self::MySql => format!("DO SLEEP({seconds})"),
            // Its lock is a file.
            Self::Sqlite => "SELECT 1".to_owned(),
        }
    }

    /// Takes ActiveMQ's lock for as long as a transaction is open. Does not wait for who has it.
    pub(super) fn take_lock(self) -> &'static str {
        match self {
            // ActiveMQ locks the row. But as long as a transaction is open that has locked a row, nothing that was changed or
            // removed since it began is cleared away: all tables would grow while a broker is master, and what changes with
            // each commit would take longer to find with each. One that has locked the table keeps everybody from the row
            // as well, and is in nobody's way.
            Self::Postgres => "LOCK TABLE ACTIVEMQ_LOCK IN EXCLUSIVE MODE NOWAIT",
            Self::MySql | Self::Sqlite => "SELECT ID FROM ACTIVEMQ_LOCK WHERE ID=1 FOR UPDATE NOWAIT",
        }
    }

    /// True if an error says that somebody else has a lock.
    pub(super) fn is_locked(self, error: &dyn DatabaseError) -> bool {
        match self {
            Self::Postgres => error.code().as_deref() == Some("55P03"),
            // MariaDB says that the time to wait is over, MySQL that it was not to wait.
            Self::MySql => matches!(mysql_number(error), Some(1205 | 3572)),
            Self::Sqlite => false,
        }
    }

    /// True if an error may be over when the same is tried again.
    pub(super) fn is_passing(self, error: &dyn DatabaseError) -> bool {
        let code = error.code().unwrap_or_default();
        match self {
            // Connections, a transaction that was idle for too long, serialization and deadlocks, resources, shutdowns, the
            // system around the server.
            Self::Postgres => ["08", "25P03", "40", "53", "57", "58"]
                .iter()
                .any(|class| code.starts_with(class)),
            // Connections; deadlocks; full disks and tables, too many connections, shutdown, too long a wait, a connection that
            // was ended.
            Self::MySql => {
                code.starts_with("08")
                    || code == "40001"
                    || matches!(mysql_number(error), Some(1021 | 1040 | 1053 | 1114 | 1205 | 1927))
            }
            // Busy, locked, full.
            Self::Sqlite => matches!(code.parse::<u32>().map(|code| code & 0xff), Ok(5 | 6 | 13)),
        }
    }
}

fn mysql_number(error: &dyn DatabaseError) -> Option<u16> {
    let error = error.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_for_postgres() {
        let text = "UPDATE T SET A=? WHERE B=? AND C=?";
        assert_eq!(
            Dialect::Postgres.statement(text),
            "UPDATE T SET A=$1 WHERE B=$2 AND C=$3"
        );
        assert_eq!(Dialect::MySql.statement(text), text);
        assert_eq!(Dialect::Postgres.statement("SELECT 1"), "SELECT 1");
    }
}
