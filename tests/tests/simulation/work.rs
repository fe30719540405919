//! What clients do.

use std::collections::VecDeque;
use std::time::Duration;

use openwire_client::{AcknowledgeMode, Consumer, Message, Producer, Receipt, Result, Session};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::client::{Live, Reading, queue};
use super::ledger::{Number, Outcome, Settled, Work};
use super::network::pause;
use super::world::{World, random};

/// A part of a client's work, with a session of its own.
pub(crate) struct Job {
    live: Live,
    kind: Kind,
    queue: usize,
    random: SmallRng,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Send,
    SendPipelined,
    SendTransacted,
    Receive(AcknowledgeMode),
    Move,
}

const KINDS: [Kind; 9] = [
    Kind::Send,
    Kind::SendPipelined,
    Kind::SendTransacted,
    Kind::SendTransacted,
    Kind::Receive(AcknowledgeMode::Auto),
    Kind::Receive(AcknowledgeMode::Client),
    Kind::Receive(AcknowledgeMode::Individual),
    Kind::Receive(AcknowledgeMode::Transacted),
    Kind::Move,
];

/// The queue that messages are moved to.
pub(crate) fn end_queue(world: &World) -> usize {
    world.queues
}

impl Job {
    pub(crate) fn new(live: &Live, draws: &mut SmallRng) -> Self {
        Self {
            live: live.clone(),
            kind: KINDS[draws.random_range(0..KINDS.len())],
            queue: draws.random_range(0..live.world.queues),
            random: random(live.world.seed, "job", live.world.number()),
        }
    }

    /// Works until it is done, or until the connection is closed.
    pub(crate) async fn run(mut self) {
        self.live
            .world
            .ledger
            .note("job", self.kind.number(), self.queue as u64);
        loop {
            let done = match self.kind {
                Kind::Send => self.send().await,
                Kind::SendPipelined => self.send_pipelined().await,
                Kind::SendTransacted => self.send_transacted().await,
                Kind::Receive(AcknowledgeMode::Transacted) => self.receive_transacted().await,
                Kind::Receive(mode) => self.receive(mode).await,
                Kind::Move => self.move_on().await,
            };
            match done {
                Ok(()) => return,
                Err(error) if error.is_closed() => return,
                // The rest is done by another session.
                Err(_) => pause(&mut self.random, 1..1_000).await,
            }
            if self.live.world.is_calm() {
                return;
            }
        }
    }

    /// Rests now and then.
    async fn rest(&mut self) {
        if self.random.random_bool(0.3) {
            pause(&mut self.random, 1..500).await;
        }
    }

    fn steps(&mut self) -> u64 {
        self.random.random_range(1..30)
    }

    async fn session(&self, mode: AcknowledgeMode) -> Result<Session> {
        let request = self.live.settings.request;
        self.live
            .call("session", request, self.live.connection.create_session(mode))
            .await
    }

    async fn producer(&self, session: &Session, number: usize) -> Result<Producer> {
        let request = self.live.settings.request;
        let queue = queue(number);
        self.live
            .call("producer", request, session.create_producer(&queue))
            .await
    }

    async fn consumer(&self, session: &Session) -> Result<Consumer> {
        let request = self.live.settings.request;
        let queue = queue(self.queue);
        self.live
            .call("consumer", request, session.create_consumer(&queue))
            .await
    }

    fn message(&mut self, number: Number) -> Message {
        let length = [0, 100, 3_000][self.random.random_range(0..3)];
        Message::text(format!("{number} {}", "x".repeat(length)))
    }

    /// How long a send may take.
    fn limit(&self) -> Duration {
        self.live.settings.request + self.live.settings.patience
    }

    async fn send(&mut self) -> Result<()> {
        let session = self.session(AcknowledgeMode::Auto).await?;
        let producer = self.producer(&session, self.queue).await?;
        let name = self.live.world.number();
        for _ in 0..self.steps() {
            let number = self.live.world.ledger.sending(name, None);
            let message = self.message(number);
            self.live
                .call("send", self.limit(), producer.send(message))
                .await?;
            self.live.world.ledger.confirmed(number);
            self.rest().await;
        }
        Ok(())
    }

    async fn send_pipelined(&mut self) -> Result<()> {
        let session = self.session(AcknowledgeMode::Auto).await?;
        let producer = self.producer(&session, self.queue).await?;
        let name = self.live.world.number();
        let window = self.random.random_range(1..20);
        let mut unanswered: VecDeque<(Number, Receipt)> = VecDeque::new();
        for _ in 0..2 * self.steps() {
            let number = self.live.world.ledger.sending(name, None);
            let message = self.message(number);
            let receipt = self
                .live
                .call("pipeline", self.limit(), producer.send_pipelined(message))
                .await?;
            unanswered.push_back((number, receipt));
            while unanswered.len() > window {
                self.answer(&mut unanswered).await?;
            }
            self.rest().await;
        }
        while !unanswered.is_empty() {
            self.answer(&mut unanswered).await?;
        }
        Ok(())
    }

    async fn answer(&self, unanswered: &mut VecDeque<(Number, Receipt)>) -> Result<()> {
        if let Some((number, receipt)) = unanswered.pop_front() {
            self.live
                .call("receipt", self.live.settings.request, receipt)
                .await?;
            self.live.world.ledger.confirmed(number);
        }
        Ok(())
    }

    async fn send_transacted(&mut self) -> Result<()> {
        let session = self.session(AcknowledgeMode::Transacted).await?;
        let producer = self.producer(&session, self.queue).await?;
        let name = self.live.world.number();
        for _ in 0..self.steps() / 3 + 1 {
            let work = self.live.world.ledger.begin();
            let mut sent = Ok(());
            for _ in 0..self.random.random_range(1..6) {
                sent = self.send_in(&producer, name, work).await;
                if sent.is_err() {
                    break;
                }
                self.rest().await;
            }
            self.end(&session, work, sent).await?;
        }
        Ok(())
    }

    async fn send_in(&mut self, producer: &Producer, name: u64, work: Work) -> Result<()> {
        let number = self.live.world.ledger.sending(name, Some(work));
        let message = self.message(number);
        self.live
            .call("send", self.limit(), producer.send(message))
            .await?;
        Ok(())
    }

    /// Ends a transaction: mostly well, if its work went well.
    async fn end(&mut self, session: &Session, work: Work, done: Result<()>) -> Result<()> {
        if done.is_ok() && !self.random.random_bool(0.1) {
            match commit(&self.live, session, work).await {
                Err(error) if error.is_rolled_back() || error.is_in_doubt() => return Ok(()),
                other => return other,
            }
        }
        self.live.world.ledger.outcome(work, Outcome::RolledBack);
        let rolled_back = session.rollback();
        self.live
            .call("rollback", self.live.settings.request, rolled_back)
            .await?;
        done
    }

    /// How long to wait for a message.
    fn patience(&mut self) -> Duration {
        Duration::from_millis([0, 100, 2_000][self.random.random_range(0..3)])
    }

    async fn receive(&mut self, mode: AcknowledgeMode) -> Result<()> {
        let session = self.session(mode).await?;
        let reader = self.live.reader(self.queue);
        let consumer = self.consumer(&session).await?;
        let mut shown = Vec::new();
        let mut since = self.live.breaks();
        for _ in 0..2 * self.steps() {
            let time = self.patience();
            // Such a call is not cancel safe.
            let waits = mode == AcknowledgeMode::Auto && self.live.settings.confirmed;
            reader.takes(waits);
            let received = self.live.receive(&consumer, &reader, time).await;
            reader.takes(false);
            let Some((message, number, showing)) = received? else {
                continue;
            };
            match mode {
                AcknowledgeMode::Auto => self.settle(&[(number, showing)], Settled::OneWay),
                AcknowledgeMode::Individual => {
                    if self.random.random_bool(0.8) {
                        self.rest().await;
                        self.acknowledge(&message, &[(number, showing)]).await?;
                    }
                }
                _ => {
                    shown.push((number, showing));
                    // What came before a break comes again: it is not meant any more.
                    let breaks = self.live.breaks();
                    if std::mem::replace(&mut since, breaks) != breaks {
                        shown.drain(..shown.len() - 1);
                    }
                    if self.random.random_bool(0.3) {
                        self.rest().await;
                        self.acknowledge(&message, &shown).await?;
                        shown.clear();
                    }
                }
            }
            self.rest().await;
        }
        self.close(consumer).await
    }

    async fn close(&mut self, consumer: Consumer) -> Result<()> {
        if self.random.random_bool(0.5) {
            consumer.close().await?;
        }
        Ok(())
    }

    fn settle(&self, shown: &[(Number, usize)], settled: Settled) {
        for (number, showing) in shown {
            self.live.world.ledger.settle(*number, *showing, settled);
        }
    }

    async fn acknowledge(&self, message: &Message, shown: &[(Number, usize)]) -> Result<()> {
        // Whoever is stopped while it waits does not know.
        self.settle(shown, Settled::Unsure);
        let request = self.live.settings.request;
        match self
            .live
            .call("acknowledge", request, message.acknowledge())
            .await
        {
            Ok(()) if self.live.settings.confirmed => self.settle(shown, Settled::Confirmed),
            Ok(()) => self.settle(shown, Settled::OneWay),
            // It has not left.
            Err(error) if error.is_interrupted() => self.settle(shown, Settled::No),
            Err(error) if error.is_in_doubt() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn receive_in(&mut self, consumer: &Consumer, reader: &Reading, work: Work) -> Result<bool> {
        let time = self.patience();
        let Some((_, number, showing)) = self.live.receive(consumer, reader, time).await? else {
            return Ok(false);
        };
        self.settle(&[(number, showing)], Settled::Within(work));
        Ok(true)
    }

    async fn receive_transacted(&mut self) -> Result<()> {
        let session = self.session(AcknowledgeMode::Transacted).await?;
        let reader = self.live.reader(self.queue);
        let consumer = self.consumer(&session).await?;
        for _ in 0..self.steps() / 2 + 1 {
            let work = self.live.world.ledger.begin();
            let mut done = Ok(());
            for _ in 0..self.random.random_range(1..8) {
                done = self.receive_in(&consumer, &reader, work).await.map(drop);
                if done.is_err() {
                    break;
                }
                self.rest().await;
            }
            self.end(&session, work, done).await?;
        }
        self.close(consumer).await
    }

    /// Moves messages to the end queue: for each that is received, one is sent.
    async fn move_on(&mut self) -> Result<()> {
        let session = self.session(AcknowledgeMode::Transacted).await?;
        let reader = self.live.reader(self.queue);
        let consumer = self.consumer(&session).await?;
        let producer = self.producer(&session, end_queue(&self.live.world)).await?;
        let name = self.live.world.number();
        for _ in 0..self.steps() / 2 + 1 {
            let work = self.live.world.ledger.begin();
            let mut done = Ok(());
            for _ in 0..self.random.random_range(1..5) {
                done = match self.receive_in(&consumer, &reader, work).await {
                    Ok(true) => self.send_in(&producer, name, work).await,
                    Ok(false) => Ok(()),
                    Err(error) => Err(error),
                };
                if done.is_err() {
                    break;
                }
                self.rest().await;
            }
            self.end(&session, work, done).await?;
        }
        self.close(consumer).await
    }
}

impl Kind {
    fn number(self) -> u64 {
        match self {
            Self::Send => 0,
            Self::SendPipelined => 1,
            Self::SendTransacted => 2,
            Self::Receive(mode) => 3 + mode as u64,
            Self::Move => 9,
        }
    }
}

/// Commits, and notes what came of it.
///
/// The brokers know the outcome of every commit, so one is in doubt for two reasons only: nobody could be asked before the
/// deadline, or the connection was closed meanwhile. (Whoever is stopped in the middle is told nothing: to the ledger that
/// is a doubt, too.) Any other error says that it has not happened.
pub(crate) async fn commit(live: &Live, session: &Session, work: Work) -> Result<()> {
    let ledger = &live.world.ledger;
    ledger.outcome(work, Outcome::Completing);
    let began = Instant::now();
    let committed = live.call("commit", live.settings.request, session.commit()).await;
    let outcome = match &committed {
        Ok(()) => Outcome::Committed,
        Err(error) if error.is_in_doubt() => {
            let waited = began.elapsed();
            if waited < live.settings.request && !live.is_closing() {
                ledger.violation(format!(
                    "transaction {work} is in doubt after {waited:?}: {error}"
                ));
            }
            Outcome::InDoubt
        }
        Err(_) => Outcome::RolledBack,
    };
    ledger.outcome(work, outcome);
    committed
}
