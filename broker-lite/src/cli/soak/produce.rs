//! The producers.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use openwire_client::{DeliveryMode, Error, Producer, Receipt, Result};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tracing::debug;

use super::line::{Line, PAUSE, Role, replace};
use super::run::Shared;

/// Messages that a producer without transactions has on their way: enough that a break always hits some.
const IN_FLIGHT: usize = 64;

/// A producer, on whatever connection it has now.
#[derive(Debug)]
pub(super) struct Sending {
    shared: Arc<Shared>,
    number: usize,
    line: Line,
    producer: Producer,
    pace: Option<Interval>,
}

impl Sending {
    pub(super) async fn open(shared: Arc<Shared>, number: usize) -> Result<Self> {
        let (line, producer) = open(&shared, number).await?;
        Ok(Self {
            pace: pace(shared.plan.rate, shared.plan.producers),
            shared,
            number,
            line,
            producer,
        })
    }

    /// Sends until the load is over, and until everything is answered.
    pub(super) async fn run(mut self) {
        match self.shared.plan.transacted {
            Some(batch) => while self.transaction(batch).await {},
            None => self.pipeline().await,
        }
        // Nothing hangs on it: everything is answered.
        let _ = self.line.connection.close().await;
    }

    async fn pipeline(&mut self) {
        let mut waiting = VecDeque::new();
        let mut more = true;
        while more || !waiting.is_empty() {
            tokio::select! {
                (number, answer) = first(&mut waiting), if !waiting.is_empty() => {
                    waiting.pop_front();
                    self.note(number, answer).await;
                }
                next = next(&self.shared, &mut self.pace), if more && waiting.len() < IN_FLIGHT => {
                    more = next;
                    if more {
                        let number = self.shared.books.lock().number(self.number);
                        waiting.push_back((number, self.send(number).await));
                    }
                }
            }
        }
    }

    /// Sends a message; what was not sent for sure is tried again.
    async fn send(&mut self, number: u64) -> Receipt {
        loop {
            let message = self.shared.stamp.message(self.number, number);
            match self.producer.send_pipelined(message).await {
                Ok(receipt) => {
                    self.shared.books.lock().asked(self.number, number..number + 1);
                    return receipt;
                }
                Err(error) => self.recover("a message was not sent", &error).await,
            }
        }
    }

    async fn note(&mut self, number: u64, answer: Result<()>) {
        let numbers = number..number + 1;
        match answer {
            Ok(()) => self.shared.books.lock().confirmed(self.number, numbers),
            Err(error) if error.throwable().is_some() => {
                debug!(
                    "message {number} of producer {} was refused: {error}",
                    self.number
                );
                self.shared.books.lock().refused(self.number, numbers);
                sleep(PAUSE).await;
            }
            // It may have arrived or not. To send it again would double it if it has.
            Err(error) => debug!(
                "message {number} of producer {} is in doubt: {error}",
                self.number
            ),
        }
    }

    /// One transaction, done again until it is committed or in doubt. False if there is nothing more to send.
    async fn transaction(&mut self, batch: u64) -> bool {
        let mut numbers: Range<u64> = 0..0;
        let mut sound = Ok(());
        let mut more = true;
        while numbers.end - numbers.start < batch {
            more = next(&self.shared, &mut self.pace).await;
            if !more {
                break;
            }
            let number = self.shared.books.lock().number(self.number);
            if numbers.is_empty() {
                numbers = number..number;
            }
            numbers.end = number + 1;
            if sound.is_ok() {
                sound = self.send_in_transaction(number).await;
            }
        }
        if numbers.is_empty() {
            return false;
        }
        loop {
            if sound.is_ok() {
                sound = self.commit(numbers.clone()).await;
            }
            match sound {
                Ok(()) => return more,
                Err(error) => self.recover("a transaction is done again", &error).await,
            }
            // Nothing of it has happened: the same once more.
            sound = Ok(());
            for number in numbers.clone() {
                if sound.is_ok() {
                    sound = self.send_in_transaction(number).await;
                }
            }
        }
    }

    async fn send_in_transaction(&self, number: u64) -> Result<()> {
        let message = self.shared.stamp.message(self.number, number);
        self.producer.send(message).await.map(drop)
    }

    /// Ok if the transaction is dealt with: it has happened, or nobody knows and it must not be done again.
    async fn commit(&self, numbers: Range<u64>) -> Result<()> {
        self.shared.books.lock().asked(self.number, numbers.clone());
        let committed = self.line.session.commit().await;
        let mut books = self.shared.books.lock();
        match committed {
            Ok(()) => books.confirmed(self.number, numbers),
            Err(error) if error.is_in_doubt() => {
                debug!(
                    "messages {numbers:?} of producer {} are in doubt: {error}",
                    self.number
                );
                books.commit_in_doubt(self.number, numbers);
            }
            Err(error) => {
                books.refused(self.number, numbers);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes the producer good again after an error that says that nothing has happened.
    async fn recover(&mut self, what: &str, error: &Error) {
        debug!("producer {}: {what}: {error}", self.number);
        if self.line.is_over() {
            let (shared, number) = (&self.shared, self.number);
            (self.line, self.producer) =
                replace(shared, Role::Producer(number), || open(shared, number)).await;
            return;
        }
        if self.line.session.is_transacted() {
            // Without an answer the transaction is gone nevertheless.
            let _ = self.line.session.rollback().await;
        }
        sleep(PAUSE).await;
    }
}

async fn open(shared: &Shared, number: usize) -> Result<(Line, Producer)> {
    let line = Line::open(shared, Role::Producer(number)).await?;
    let mut producer = line.session.create_producer(&shared.queue).await?;
    producer.set_delivery_mode(match shared.plan.persistent {
        true => DeliveryMode::Persistent,
        false => DeliveryMode::NonPersistent,
    });
    Ok((line, producer))
}

/// The time between two messages of one producer.
fn pace(rate: Option<u32>, producers: u32) -> Option<Interval> {
    let period = Duration::from_secs(1).mul_f64(f64::from(producers) / f64::from(rate?.max(1)));
    let mut pace = interval(period.max(Duration::from_nanos(1)));
    // A rate is what is not exceeded: what an outage has kept back does not come in a burst.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(pace)
}

/// Waits for the time of the next message. False if there is none.
async fn next(shared: &Shared, pace: &mut Option<Interval>) -> bool {
    if let Some(pace) = pace {
        tokio::select! {
            biased;
            () = shared.load_over() => return false,
            _ = pace.tick() => {}
        }
    }
    shared.take()
}

/// The answer to the first of the messages on their way. Cancel safe.
async fn first(waiting: &mut VecDeque<(u64, Receipt)>) -> (u64, Result<()>) {
    match waiting.front_mut() {
        Some((number, receipt)) => (*number, receipt.await),
        None => std::future::pending().await,
    }
}
