//! The consumers.

use std::sync::Arc;
use std::time::Duration;

use openwire_client::{Consumer, Error, Message, Result};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;

use super::books::Delivery;
use super::line::{Line, PAUSE, Role, replace};
use super::run::Shared;

/// A transaction that has received something is not kept open longer without a further message.
const IDLE: Duration = Duration::from_millis(100);

/// A consumer, on whatever connection it has now.
#[derive(Debug)]
pub(super) struct Receiving {
    shared: Arc<Shared>,
    number: usize,
    line: Line,
    consumer: Consumer,
}

impl Receiving {
    pub(super) async fn open(shared: Arc<Shared>, number: usize) -> Result<Self> {
        let (line, consumer) = open(&shared, number).await?;
        Ok(Self {
            shared,
            number,
            line,
            consumer,
        })
    }

    /// Receives until it is told to stop.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let outcome = match self.shared.plan.transacted {
                Some(batch) => self.transactions(batch, &mut stop).await,
                None => self.messages(&mut stop).await,
            };
            match outcome {
                Ok(()) => break,
                Err(error) => self.recover(&error).await,
            }
        }
        self.leave().await;
    }

    async fn messages(&self, stop: &mut watch::Receiver<bool>) -> Result<()> {
        loop {
            let message = tokio::select! {
                biased;
                message = self.consumer.receive() => message?,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            };
            if let Some(delivery) = self.delivered(&message) {
                self.shared.books.lock().acknowledged(self.number, delivery);
            }
        }
    }

    async fn transactions(&self, batch: u64, stop: &mut watch::Receiver<bool>) -> Result<()> {
        loop {
            let mut deliveries = Vec::new();
            let mut taken = 0;
            while taken < batch {
                let message = tokio::select! {
                    biased;
                    message = self.receive(taken > 0) => message?,
                    _ = stop.wait_for(|stop| *stop), if taken == 0 => return Ok(()),
                };
                let Some(message) = message else { break };
                deliveries.extend(self.delivered(&message));
                taken += 1;
            }
            self.shared.books.lock().committing(self.number, deliveries);
            let committed = self.line.session.commit().await;
            let mut books = self.shared.books.lock();
            match committed {
                Ok(()) => books.committed(self.number),
                Err(error) if error.is_in_doubt() => {
                    debug!("a transaction of consumer {} is in doubt: {error}", self.number);
                    books.receipt_in_doubt(self.number);
                }
                Err(error) => {
                    books.rolled_back(self.number);
                    return Err(error);
                }
            }
        }
    }

    /// Waits for a message, not for long if there is something to commit.
    async fn receive(&self, open: bool) -> Result<Option<Message>> {
        match open {
            true => self.consumer.receive_timeout(IDLE).await,
            false => self.consumer.receive().await.map(Some),
        }
    }

    fn delivered(&self, message: &Message) -> Option<Delivery> {
        let delivery = self.shared.stamp.read(message);
        let at = self.shared.clock();
        let mut books = self.shared.books.lock();
        match delivery {
            Some(delivery) => books.delivered(self.number, delivery, at).then_some(delivery),
            None => {
                books.foreign();
                None
            }
        }
    }

    /// Makes the consumer good again: what it received since its last commit comes again.
    async fn recover(&mut self, error: &Error) {
        debug!("consumer {}: {error}", self.number);
        if self.line.is_over() {
            self.leave().await;
            let (shared, number) = (&self.shared, self.number);
            (self.line, self.consumer) =
                replace(shared, Role::Consumer(number), || open(shared, number)).await;
            return;
        }
        if self.line.session.is_transacted() {
            // Without an answer the transaction is gone nevertheless.
            let _ = self.line.session.rollback().await;
        }
        sleep(PAUSE).await;
    }

    /// The end of the connection.
    async fn leave(&self) {
        let poisoned = self.line.connection.stats().poisoned;
        self.shared.books.lock().poisoned(poisoned);
        // What it has received is dealt with.
        let _ = self.line.connection.close().await;
    }
}

async fn open(shared: &Shared, number: usize) -> Result<(Line, Consumer)> {
    let line = Line::open(shared, Role::Consumer(number)).await?;
    let consumer = line.session.create_consumer(&shared.queue).await?;
    line.connection.start().await?;
    Ok((line, consumer))
}
