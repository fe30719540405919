//! Writes the changes of a group into the tables, in one transaction: in one statement where that can be, or step by step.
//!
//! The index already says what holds after it. Nothing of the index changes here, so a transaction that failed can be
//! tried again.

use std::fmt;

use super::dialect::Dialect;
use super::index::Index;
use super::producers::Producers;
use super::statements::Session;
use counters::{counters, read_counted};
use plain::{is_plain, together};
use steps::step_by_step;

mod counters;
mod plain;
mod rows;
mod steps;
mod together;

/// Says which of the openers of the tables writes, and which of its transactions this is.
#[derive(Debug, Clone)]
pub(super) struct Header {
    /// Nobody else opened the tables since. Digits only.
    pub(super) opener: String,
    /// How many transactions were committed before.
    pub(super) commits: i64,
    /// The store is closed in order with it.
    pub(super) clean: bool,
    /// Who has to have the lease in the database, if there is one.
    pub(super) lease: Option<String>,
}

/// Why a transaction failed. It had no effect, unless the connection broke while it was committed.
#[derive(Debug)]
pub(super) enum FlushError {
    Database(sqlx::Error),
    /// Somebody else has opened the tables.
    Fenced,
    /// Somebody else has the lease.
    Unleased,
    /// A row cannot be read.
    Unreadable(String),
}

impl From<sqlx::Error> for FlushError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => write!(f, "{error}"),
            Self::Fenced => f.write_str("another broker has opened the store"),
            Self::Unleased => f.write_str("another broker has the lease of the database"),
            Self::Unreadable(why) => f.write_str(why),
        }
    }
}

/// Writes everything that changed and commits.
pub(super) async fn flush(
    session: &mut Session<'_>,
    index: &Index,
    producers: &Producers,
    header: &Header,
) -> Result<(), FlushError> {
    let counters = counters(index);
    if session.dialect == Dialect::Postgres && is_plain(index, producers, &counters) {
        // What is read now is what is there: nobody else writes, or nothing of this is written.
        let counted = read_counted(session, &counters).await?;
        return together(index, producers, header, counted).run(session).await;
    }
    step_by_step(session, index, producers, header, counters).await
}
