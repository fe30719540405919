//! Mastership by a lease in the row of `ACTIVEMQ_LOCK`, as ActiveMQ's `lease-database-locker` has it.

use std::time::Duration;

use async_trait::async_trait;
use openwire_client::environment::now_millis;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::ha::{Attempt, Holder, LockError, Locker};

use super::connect::Database;
use super::open::make;
use super::schema::{LOCK, LOCK_TABLE};
use super::settings::LeaseSettings;
use super::statements::{Session, Value, number, text};

/// The row says who is master and until when. A master renews it; whoever finds it over takes it.
pub(super) struct Lease {
    database: Database,
    /// What this broker is called there.
    holder: String,
    /// For how long it is master from each look on.
    length: Duration,
    most_difference: Duration,
    /// Milliseconds that the database's clock is ahead of ours; none if that was not looked at.
    ahead: Option<i64>,
    /// It was acquired, and is not known to be lost.
    held: bool,
    connection: Option<AnyConnection>,
}

impl Lease {
    pub(super) fn new(
        database: Database,
        holder: String,
        length: Duration,
        settings: &LeaseSettings,
    ) -> Self {
        Self {
            database,
            holder,
            length,
            most_difference: settings.max_allowable_diff_from_db_time,
            ahead: None,
            held: false,
            connection: None,
        }
    }

    /// A connection, which is made if there is none, and what to say over it. Whoever is done with it keeps it for the next
    /// time; one over which something failed is not kept.
    async fn connected(&mut self) -> Result<(AnyConnection, Values), sqlx::Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let mut connection = self.database.connect().await?;
                make(&mut self.database.session(&mut connection), &LOCK_TABLE).await?;
                connection
            }
        };
        let ahead = match self.ahead {
            Some(ahead) => ahead,
            None => ahead(&mut self.database.session(&mut connection), self.most_difference).await?,
        };
        self.ahead = Some(ahead);
        let now = now_millis().saturating_add(ahead);
        let values = Values {
            holder: Value::text(&self.holder),
            now,
            until: Value::Int(now.saturating_add(self.length.as_millis() as i64)),
        };
        Ok((connection, values))
    }

    /// Takes a lease that is over; says who has it otherwise.
    async fn take(&mut self) -> Result<Option<Holder>, sqlx::Error> {
        let (mut connection, values) = self.connected().await?;
        let mut session = self.database.session(&mut connection);
        let taken =
            format!("UPDATE {LOCK} SET BROKER_NAME=?, TIME=? WHERE (TIME IS NULL OR TIME < ?) AND ID=1");
        let at = [values.holder, values.until, Value::Int(values.now)];
        let holder = match session.execute(&taken, &at).await? {
            1 => None,
            _ => {
                let query = format!("SELECT BROKER_NAME, TIME FROM {LOCK} WHERE ID=?");
                let rows = session.rows(&query, &[Value::Int(1)]).await?;
                Some(self.holder(rows.first(), values.now)?)
            }
        };
        self.connection = Some(connection);
        Ok(holder)
    }

    /// Whom the row names, and how much of its lease is left.
    fn holder(&self, row: Option<&AnyRow>, now: i64) -> Result<Holder, sqlx::Error> {
        let name = row.map(|row| text(row, 0)).transpose()?.flatten();
        let until = row.map(|row| number(row, 1)).transpose()?.flatten();
        let holder = Holder::new(format!(
            "{} has the lease of {LOCK} in {}",
            name.as_deref().unwrap_or("nobody yet"),
            self.database.name
        ));
        Ok(match until {
            // It is taken once it is over: in the next millisecond.
            Some(until) => {
                let left = until.saturating_sub(now).saturating_add(1);
                holder.with_left(Duration::from_millis(left.max(0) as u64))
            }
            None => holder,
        })
    }

    /// True if it was still ours.
    async fn renew(&mut self) -> Result<bool, sqlx::Error> {
        let (mut connection, values) = self.connected().await?;
        let renewed = format!("UPDATE {LOCK} SET BROKER_NAME=?, TIME=? WHERE BROKER_NAME=? AND ID=1");
        let holder = values.holder.clone();
        let renewed = self
            .database
            .session(&mut connection)
            .execute(&renewed, &[values.holder, values.until, holder])
            .await?;
        self.connection = Some(connection);
        Ok(renewed == 1)
    }

    async fn give_back(&mut self) -> Result<(), sqlx::Error> {
        let (mut connection, values) = self.connected().await?;
        let released = format!("UPDATE {LOCK} SET BROKER_NAME=NULL, TIME=0 WHERE BROKER_NAME=? AND ID=1");
        let mut session = self.database.session(&mut connection);
        session.execute(&released, &[values.holder]).await?;
        Ok(())
    }

    fn unavailable(&self, error: &sqlx::Error) -> LockError {
        LockError::Unavailable(format!("{}: {error}", self.database.name))
    }
}

/// What the statements are about.
struct Values {
    holder: Value,
    now: i64,
    until: Value,
}

/// Milliseconds by which the database's clock is to be preferred to ours.
async fn ahead(session: &mut Session<'_>, most: Duration) -> Result<i64, sqlx::Error> {
    if most.is_zero() {
        return Ok(0);
    }
    let rows = session.rows(session.dialect.ask_time(), &[]).await?;
    let there = rows.first().map(|row| number(row, 0)).transpose()?.flatten();
    let ahead = there.map_or(0, |there| there.saturating_sub(now_millis()));
    match u128::from(ahead.unsigned_abs()) > most.as_millis() {
        true => {
            tracing::warn!(
                "the clock of the database is {ahead} ms ahead of this machine's: its time counts for the lease"
            );
            Ok(ahead)
        }
        false => Ok(0),
    }
}

#[async_trait]
impl Locker for Lease {
    async fn try_acquire(&mut self) -> Result<Attempt, LockError> {
        let holder = self.take().await.map_err(|error| self.unavailable(&error))?;
        if let Some(holder) = holder {
            return Ok(Attempt::Held(holder));
        }
        self.held = true;
        self.keep_alive().await?;
        // The store counts who opened it.
        Ok(Attempt::Acquired { epoch: 0 })
    }

    async fn keep_alive(&mut self) -> Result<(), LockError> {
        match self.renew().await {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.held = false;
                Err(LockError::Lost(format!(
                    "another broker has taken the lease of {LOCK} in {}",
                    self.database.name
                )))
            }
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    async fn release(&mut self) {
        if std::mem::take(&mut self.held)
            && let Err(error) = self.give_back().await
        {
            // It passes by itself.
            tracing::warn!("{}: the lease was not given back: {error}", self.database.name);
        }
        self.connection = None;
    }
}
