//! Mastership by a lock on the row of `ACTIVEMQ_LOCK`, as ActiveMQ's `database-locker` has it.

use async_trait::async_trait;
use openwire_client::environment::now_millis;
use sqlx::{AnyConnection, Connection};

use crate::ha::{Attempt, Holder, LockError, Locker};

use super::connect::Database;
use super::open::make;
use super::schema::{LOCK, LOCK_TABLE};
use super::statements::Value;

/// Holds the row for as long as its connection, and a transaction on it, are open. The database gives it back when the
/// connection ends, however it ends.
pub(super) struct RowLock {
    database: Database,
    /// The one that has the lock.
    connection: Option<AnyConnection>,
}

impl RowLock {
    pub(super) fn new(database: Database) -> Self {
        Self {
            database,
            connection: None,
        }
    }

    fn unavailable(&self, error: &sqlx::Error) -> LockError {
        LockError::Unavailable(format!("{}: {error}", self.database.name))
    }
}

#[async_trait]
impl Locker for RowLock {
    async fn try_acquire(&mut self) -> Result<Attempt, LockError> {
        let mut connection = self
            .database
            .connect()
            .await
            .map_err(|error| self.unavailable(&error))?;
        match lock(&self.database, &mut connection).await {
            Ok(true) => {
                self.connection = Some(connection);
                // The store counts who opened it.
                Ok(Attempt::Acquired { epoch: 0 })
            }
            Ok(false) => {
                // It has nothing; if the goodbye does not arrive, the database notices.
                let _ = connection.close().await;
                let name = &self.database.name;
                Ok(Attempt::Held(Holder::new(format!(
                    "the row of {LOCK} in {name} is locked"
                ))))
            }
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    async fn keep_alive(&mut self) -> Result<(), LockError> {
        let Some(connection) = &mut self.connection else {
            return Err(LockError::Lost("it was given back".to_owned()));
        };
        let mut session = self.database.session(connection);
        let text = format!("UPDATE {LOCK} SET TIME=? WHERE ID=?");
        match session
            .execute(&text, &[Value::Int(now_millis()), Value::Int(1)])
            .await
        {
            Ok(1) => Ok(()),
            Ok(_) => Err(LockError::Lost(format!("{LOCK} has no row any more"))),
            // The lock went with the connection.
            Err(error) => {
                self.connection = None;
                Err(LockError::Lost(format!("{}: {error}", self.database.name)))
            }
        }
    }

    async fn release(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            // Whatever fails here: the lock goes with the connection.
            let _ = self.database.session(&mut connection).command("ROLLBACK").await;
            let _ = connection.close().await;
        }
    }
}

/// True if the row is ours now. Does not wait for whoever has it.
async fn lock(database: &Database, connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    let dialect = database.dialect;
    let mut session = database.session(connection);
    make(&mut session, &LOCK_TABLE).await?;
    session.command(dialect.begin()).await?;
    let query = format!("SELECT ID FROM {LOCK} WHERE ID=? FOR UPDATE NOWAIT");
    let rows = match session.rows(&query, &[Value::Int(1)]).await {
        Ok(rows) => rows,
        Err(sqlx::Error::Database(error)) if dialect.is_locked(&*error) => return Ok(false),
        Err(error) => return Err(error),
    };
    if rows.is_empty() {
        // Nobody can lock a row that is not there. Of two that put it there one fails.
        let text = format!("INSERT INTO {LOCK}(ID) VALUES (?)");
        session.execute(&text, &[Value::Int(1)]).await?;
        session.command("COMMIT").await?;
        return Ok(false);
    }
    Ok(true)
}
