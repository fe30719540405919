//! Mastership by a lock on the row of `ACTIVEMQ_LOCK`, as ActiveMQ's `database-locker` has it.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AnyConnection, Connection};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::ha::{Attempt, Holder, LockError, Locker};

use super::connect::Database;
use super::open::make;
use super::schema::{LOCK, LOCK_TABLE};
use super::statements::{Session, Value};

/// How often the connection is used within a lease, so that its keeper waits for little of it.
const LOOKS: u32 = 16;

/// And how seldom at most, if the lease is long.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// For so many pauses the lock is tried for: a database that is just waiting finds out only then that a broker is gone, and
/// whoever sleeps meanwhile sleeps for a whole `lockAcquireSleepInterval`.
const PATIENCE: u32 = 4;

/// How long the goodbye may take. The lock goes with the connection in any case.
const GOODBYE: Duration = Duration::from_secs(1);

/// Keeps the row for as long as its connection, and a transaction on it, are open. The database gives it back when the
/// connection ends, however it ends.
pub(super) struct RowLock {
    database: Database,
    /// How long the database has nothing to answer at a time.
    pause: Duration,
    held: Option<Held>,
}

/// The connection that has the lock. It always waits for an answer, so that its end shows at once: whoever locks the row then
/// may serve a moment later.
struct Held {
    looks: watch::Receiver<Looks>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// How often it was asked whether the connection is there.
#[derive(Debug, Default)]
struct Looks {
    begun: u64,
    answered: u64,
    /// Why it is not.
    over: Option<String>,
}

impl RowLock {
    pub(super) fn new(database: Database, lease: Duration) -> Self {
        Self {
            database,
            pause: (lease / LOOKS).min(LONGEST_PAUSE),
            held: None,
        }
    }

    fn unavailable(&self, error: &sqlx::Error) -> LockError {
        LockError::Unavailable(format!("{}: {error}", self.database.name))
    }

    fn hold(&self, connection: AnyConnection) -> Held {
        let (looking, looks) = watch::channel(Looks::default());
        let (stop, stopped) = oneshot::channel();
        let (database, pause) = (self.database.clone(), self.pause);
        let task = tokio::spawn(async move {
            if let Err(error) = look(&database, connection, pause, &looking, stopped).await {
                looking.send_modify(|looks| looks.over = Some(format!("{}: {error}", database.name)));
            }
        });
        Held { looks, stop, task }
    }
}

/// Keeps the connection busy until it breaks or is told to stop.
async fn look(
    database: &Database,
    mut connection: AnyConnection,
    pause: Duration,
    looking: &watch::Sender<Looks>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<(), sqlx::Error> {
    let idle = database.dialect.idle(pause);
    let mut session = database.session(&mut connection);
    while let Err(oneshot::error::TryRecvError::Empty) = stopped.try_recv() {
        looking.send_modify(|looks| looks.begun += 1);
        session.command("SELECT 1").await?;
        looking.send_modify(|looks| looks.answered = looks.begun);
        session.command(&idle).await?;
    }
    session.command("ROLLBACK").await?;
    connection.close().await
}

#[async_trait]
impl Locker for RowLock {
    async fn try_acquire(&mut self) -> Result<Attempt, LockError> {
        let mut connection = self
            .database
            .connect()
            .await
            .map_err(|error| self.unavailable(&error))?;
        let until = Instant::now() + PATIENCE * self.pause;
        let locked = loop {
            match lock(&self.database, &mut connection).await {
                Ok(false) if Instant::now() < until => sleep(self.pause / 8).await,
                locked => break locked,
            }
        };
        match locked {
            Ok(true) => {
                self.held = Some(self.hold(connection));
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
        let Some(held) = &mut self.held else {
            return Err(LockError::Lost("it was given back".to_owned()));
        };
        // An answer to what was asked before says nothing of now: this process may have been stopped in between.
        let begun = held.looks.borrow().begun;
        let looks = held
            .looks
            .wait_for(|looks| looks.answered > begun || looks.over.is_some())
            .await;
        match looks.map(|looks| looks.over.clone()) {
            Ok(None) => Ok(()),
            Ok(Some(why)) => Err(LockError::Lost(why)),
            Err(_) => Err(LockError::Lost("its connection is closed".to_owned())),
        }
    }

    async fn lost(&mut self) -> LockError {
        let Some(held) = &mut self.held else {
            return std::future::pending().await;
        };
        let over = held.looks.wait_for(|looks| looks.over.is_some()).await;
        let why = over.ok().and_then(|looks| looks.over.clone());
        LockError::Lost(why.unwrap_or_else(|| "its connection is closed".to_owned()))
    }

    async fn release(&mut self) {
        if let Some(Held { stop, mut task, .. }) = self.held.take() {
            // It has ended already if the connection broke.
            let _ = stop.send(());
            if timeout(GOODBYE, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

/// True if the row is ours now. Does not wait for whoever has it.
async fn lock(database: &Database, connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    let dialect = database.dialect;
    let mut session = database.session(connection);
    make(&mut session, &LOCK_TABLE).await?;
    session.command(dialect.begin()).await?;
    match session.command(dialect.take_lock()).await {
        Ok(_) => {}
        Err(sqlx::Error::Database(error)) if dialect.is_locked(&*error) => {
            session.command("ROLLBACK").await?;
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    if !has_row(&mut session).await? {
        // Nobody can lock a row that is not there. Of two that put it there one fails.
        let text = format!("INSERT INTO {LOCK}(ID) VALUES (?)");
        session.execute(&text, &[Value::Int(1)]).await?;
        session.command("COMMIT").await?;
        return Ok(false);
    }
    Ok(true)
}

async fn has_row(session: &mut Session<'_>) -> Result<bool, sqlx::Error> {
    let query = format!("SELECT ID FROM {LOCK} WHERE ID=?");
    Ok(!session.rows(&query, &[Value::Int(1)]).await?.is_empty())
}
