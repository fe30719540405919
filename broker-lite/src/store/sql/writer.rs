//! The thread of the store: takes all that waits as one group, and writes it in one transaction.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::{AnyConnection, AnyPool};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::super::check::{Kind, Plan, check};
use super::super::line::Group;
use super::super::{Batch, Op, StoreError};
use super::body::Body;
use super::connect::Database;
use super::flush::{FlushError, Header, flush};
use super::index::Index;
use super::producers::Producers;
use super::reader::{Wanted, read};
use super::schema::{LONGEST_TEXT, STORE};
use super::shared::{Shared, Turn, Waiting};
use super::statements::{Session, Value, number, text};
use super::{Master, SqlOptions};

/// The first and the longest pause between two tries to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Owns the index and the connection that writes.
pub(super) struct Writer {
    pub(super) database: Database,
    pub(super) options: SqlOptions,
    pub(super) connection: Option<AnyConnection>,
    pub(super) readers: AnyPool,
    pub(super) index: Index,
    pub(super) producers: Producers,
    pub(super) header: Header,
    /// The longest message that can be stored, in bytes.
    pub(super) longest: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) master: Option<Master>,
    /// How long a transaction may take; none while the store is opened, as that may write as much as is stored.
    pub(super) limit: Option<Duration>,
    /// Held as long as the store is open.
    pub(super) lock: Option<File>,
}

impl Writer {
    /// Writes and reads until the store is closed or `abandoned`.
    pub(super) async fn run(mut self, abandoned: watch::Receiver<bool>) {
        let mut abandoned = abandoned;
        let mut reads = JoinSet::new();
        tokio::select! {
            biased;
            _ = abandoned.wait_for(|abandoned| *abandoned) => {}
            () = self.serve(&mut reads) => {
                if self.shared.failure().is_some() {
                    // Nobody has a use for them, and the database may be gone.
                    reads.abort_all();
                }
                while reads.join_next().await.is_some() {}
                self.readers.close().await;
            }
        }
        drop(self.lock);
    }

    async fn serve(&mut self, reads: &mut JoinSet<()>) {
        loop {
            let turn = self.shared.next().await;
            // Those that are done are forgotten.
            while reads.try_join_next().is_some() {}
            let closes = turn.closes;
            self.turn(turn, reads).await;
            if closes {
                return;
            }
        }
    }

    async fn turn(&mut self, turn: Turn, reads: &mut JoinSet<()>) {
        let Turn {
            group,
            requests,
            closes,
        } = turn;
        if closes || !group.batches.is_empty() {
            self.write(group, closes).await;
        }
        for request in requests {
            match self.shared.failure() {
                Some(failure) => request.answer(Err(failure)),
                None => {
                    let wanted = Wanted::new(&self.index, &request.keys);
                    let (database, readers) = (self.database.clone(), self.readers.clone());
                    let patience = self.options.reconnect;
                    reads.spawn(async move {
                        let found = read(&database, &readers, wanted, patience).await;
                        request.answer(found);
                    });
                }
            }
        }
    }

    /// Applies a group, makes it durable and answers its batches.
    async fn write(&mut self, group: Group<Waiting>, closes: bool) {
        let begins = Instant::now();
        let Group {
            batches: group,
            awaited,
        } = group;
        if let Some(failure) = self.shared.failure() {
            self.answer(
                group
                    .into_iter()
                    .map(|waiting| (waiting, Err(failure.clone())))
                    .collect(),
            );
            return;
        }
        let mut answers = Vec::with_capacity(group.len());
        for mut waiting in group {
            let batch = std::mem::take(&mut waiting.batch);
            let applied = self.apply(batch);
            answers.push((waiting, applied));
        }
        self.header.clean = closes;
        let stored = self.commit().await;
        if let Err(failure) = &stored {
            self.shared.poison(failure.clone());
        }
        let messages = self.index.state.messages();
        self.shared.messages.store(messages, Ordering::Relaxed);
        self.shared.wrote(awaited, begins.elapsed());
        let answers = answers.into_iter().map(|(waiting, applied)| {
            let result = stored.clone().and(applied);
            (waiting, result)
        });
        self.answer(answers.collect());
    }

    fn answer(&self, answers: Vec<(Waiting, Result<(), StoreError>)>) {
        for (waiting, result) in answers {
            if result.is_ok() {
                self.shared.batches.fetch_add(1, Ordering::Relaxed);
            }
            self.shared.answered(waiting.bytes);
            waiting.answer(result);
        }
    }

    /// Applies a batch to the index, or nothing of it.
    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        let state = &self.index.state;
        check(&batch, |key| state.destination(key).map(Kind::from))?;
        Plan::of(&batch, |key| Ok(state.get(key).is_some()))?;
        let bodies: Vec<_> = batch
            .ops
            .iter()
            .map(|op| self.body(op))
            .collect::<Result<_, _>>()?;
        for (op, body) in batch.ops.into_iter().zip(bodies) {
            self.index.apply(op, body);
        }
        Ok(())
    }

    /// The body of a put, once it is certain that the database takes what this change says.
    fn body(&self, op: &Op) -> Result<Option<Body>, StoreError> {
        match op {
            Op::Put { key, message } => {
                let refused = |why: String| StoreError::Refused(format!("message {}: {why}", key.sequence));
                let body = Body::of(message).map_err(|error| refused(error.to_string()))?;
                if body.bytes.len() > self.longest {
                    return Err(refused(format!(
                        "{} bytes are more than the {} that the database takes",
                        body.bytes.len(),
                        self.longest
                    )));
                }
                fits("the producer's id", &body.producer)?;
                if let Some(destination) = &message.destination {
                    fits("the destination", &destination.qualified_name())?;
                }
                Ok(Some(body))
            }
            Op::CreateDestination { destination, .. } => {
                use super::super::StoredDestination::{Queue, Retained, Schedule, Subscription, Transaction};
                match destination {
                    Queue(name) | Retained(name) => fits("the destination", name)?,
                    Subscription(subscription) => {
                        fits("the destination", &subscription.destination)?;
                        fits("the client id", &subscription.client_id)?;
                        fits("the subscription's name", &subscription.name)?;
                        if let Some(selector) = &subscription.selector {
                            fits("the selector", selector)?;
                        }
                    }
                    Transaction | Schedule => {}
                }
                Ok(None)
            }
            Op::Committed { outcome, .. } => {
                fits("the connection's id", &outcome.connection)?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Commits what the index has changed. Tries as long as the database may come back.
    pub(super) async fn commit(&mut self) -> Result<(), StoreError> {
        self.producers
            .prepare(&self.index.changes, &self.index.state.audit);
        let mut deadline = None;
        let mut pause = PAUSES.0;
        loop {
            self.is_master().await?;
            let limit = self.limit;
            let attempt = self.attempt(deadline.is_some());
            let attempted = match limit {
                // One that has no answer by then has broken, whatever the system says.
                Some(limit) => timeout(limit, attempt)
                    .await
                    .unwrap_or_else(|_| Err(unanswered())),
                None => attempt.await,
            };
            match attempted {
                Ok(()) => break,
                Err(FlushError::Database(error)) if self.database.is_passing(&error) => {
                    self.connection = None;
                    let until = *deadline.get_or_insert_with(|| {
                        tracing::warn!("{}: {error}; trying again", self.database.name);
                        Instant::now() + self.options.reconnect
                    });
                    if Instant::now() + pause >= until {
                        let why = format!("{}: {error}", self.database.name);
                        return Err(StoreError::Poisoned(why));
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
                Err(error @ (FlushError::Fenced | FlushError::Unleased)) => {
                    return Err(StoreError::NotMaster(error.to_string()));
                }
                Err(error) => {
                    self.connection = None;
                    return Err(StoreError::Poisoned(format!("{}: {error}", self.database.name)));
                }
            }
        }
        if deadline.is_some() {
            tracing::info!("{}: written after trying again", self.database.name);
        }
        // What depends on it is done by a master, or not at all.
        self.is_master().await?;
        self.header.commits += 1;
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.producers.written(&self.index.changes);
        self.index.written();
        Ok(())
    }

    async fn is_master(&self) -> Result<(), StoreError> {
        match &self.master {
            Some(master) => {
                let lost = master.mastership.current().await;
                lost.map_err(|lost| StoreError::NotMaster(lost.0.to_string()))
            }
            None => Ok(()),
        }
    }

    /// Tries once. `again` if a transaction before may have been committed although its answer was lost.
    async fn attempt(&mut self, again: bool) -> Result<(), FlushError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.connect_writer().await?,
        };
        let mut session = self.database.session(&mut connection);
        if again && is_committed(&mut session, &self.header).await? {
            self.connection = Some(connection);
            return Ok(());
        }
        flush(&mut session, &self.index, &self.producers, &self.header).await?;
        self.connection = Some(connection);
        Ok(())
    }
}

fn unanswered() -> FlushError {
    let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "the database does not answer");
    FlushError::Database(sqlx::Error::Io(error))
}

/// True if the transaction that is about to be tried again was committed.
async fn is_committed(session: &mut Session<'_>, header: &Header) -> Result<bool, FlushError> {
    let text_of = format!("SELECT OPENER, COMMITS FROM {STORE} WHERE ID=?");
    let rows = session.rows(&text_of, &[Value::Int(1)]).await?;
    let Some(row) = rows.first() else {
        return Err(FlushError::Fenced);
    };
    if text(row, 0)?.as_deref() != Some(&*header.opener) {
        return Err(FlushError::Fenced);
    }
    Ok(number(row, 1)? == Some(header.commits + 1))
}

/// Refuses a text that a column does not take.
fn fits(what: &str, text: &str) -> Result<(), StoreError> {
    if text.chars().count() > LONGEST_TEXT {
        return Err(StoreError::Refused(format!(
            "{what} is longer than the {LONGEST_TEXT} characters that the tables have for it"
        )));
    }
    if text.contains('\0') {
        return Err(StoreError::Refused(format!(
            "{what} contains a NUL character, which databases do not take"
        )));
    }
    Ok(())
}
