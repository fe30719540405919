//! The loads themselves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use hdrhistogram::Histogram;
use openwire_client::{
    AcknowledgeMode, Connection, ConnectionFactory, Consumer, DeliveryMode, Destination, Message, Producer,
    Receipt, Session,
};
use tokio::task::JoinSet;

use super::progress::{Length, Progress};
use super::report::Measured;
use super::usage::Cpu;
use super::{Mode, Options, Sending};

/// Every body begins with the time it was sent at.
pub(super) const STAMP: usize = size_of::<u64>();

/// Latencies are kept up to this, in nanoseconds, to three digits.
const LONGEST: u64 = 600_000_000_000;

/// In such transactions a queue is filled that is to be emptied.
const FILLING: Sending = Sending::Batch(500);

/// Pipelined messages that wait for their answer; the client has a limit in bytes as well.
const PIPELINE: usize = 4096;

pub(super) fn histogram() -> Histogram<u64> {
    // The bounds are constants, and right.
    Histogram::new_with_max(LONGEST, 3).expect("a histogram of up to ten minutes")
}

/// A load on a broker, to be measured again and again.
pub(super) struct Load {
    mode: Mode,
    factory: ConnectionFactory,
    name: String,
    payload: Bytes,
    sending: Sending,
    delivery_mode: DeliveryMode,
    producers: u32,
    consumers: u32,
    queues: u32,
    count: u64,
    keep: bool,
    found: bool,
    broker_pid: Option<u32>,
}

/// A producer with a connection of its own.
struct Sender {
    _connection: Connection,
    session: Session,
    producer: Producer,
    sending: Sending,
}

/// A consumer with a connection of its own, which is not started.
struct Receiver {
    connection: Connection,
    session: Session,
    consumer: Consumer,
}

impl Load {
    pub(super) fn new(options: &Options) -> Result<Arc<Self>, String> {
        let mut factory = ConnectionFactory::new(&options.url).map_err(text)?;
        if let Some(user) = &options.user {
            let (name, password) = user.parts()?;
            factory = factory.credentials(name, password);
        }
        factory.options_mut().always_sync_send |= options.sync;
        Ok(Arc::new(Self {
            mode: options.mode,
            factory,
            name: options
                .destination
                .clone()
                .unwrap_or_else(|| format!("BENCH.{:08x}", rand::random::<u32>())),
            payload: vec![b'x'; options.size].into(),
            sending: options.sending(),
            delivery_mode: if options.persistent {
                DeliveryMode::Persistent
            } else {
                DeliveryMode::NonPersistent
            },
            producers: options.producers,
            consumers: options.consumers,
            queues: options.queues,
            count: options.count,
            keep: options.keep,
            found: options.found,
            broker_pid: options.broker_pid,
        }))
    }

    /// Runs the load once.
    pub(super) async fn measure(self: &Arc<Self>, length: Length) -> Result<Measured, String> {
        let measured = match self.mode {
            Mode::Produce => self.produce(length).await,
            Mode::Consume => self.consume(length).await,
            Mode::Pc | Mode::FanOut => self.produce_and_consume(length).await,
            Mode::RoundTrip => self.round_trip(length).await,
            Mode::Limits => return Err("there is no broker in it".to_owned()),
        };
        measured.map_err(text)
    }

    /// The destination of the producer or consumer of that number.
    fn destination(&self, number: u32) -> Destination {
        match self.mode {
            Mode::FanOut => Destination::topic(&self.name),
            _ => Destination::queue(&format!("{}.{}", self.name, number % self.queues)),
        }
    }

    async fn connect(&self, sending: Sending) -> openwire_client::Result<(Connection, Session)> {
        let connection = self.factory.create_connection().await?;
        let mode = match sending {
            Sending::Batch(_) => AcknowledgeMode::Transacted,
            _ => AcknowledgeMode::Auto,
        };
        let session = connection.create_session(mode).await?;
        Ok((connection, session))
    }

    async fn senders(&self, sending: Sending) -> openwire_client::Result<Vec<Sender>> {
        let mut senders = Vec::new();
        for number in 0..self.producers {
            let (connection, session) = self.connect(sending).await?;
            let mut producer = session.create_producer(&self.destination(number)).await?;
            producer.set_delivery_mode(self.delivery_mode);
            senders.push(Sender {
                _connection: connection,
                session,
                producer,
                sending,
            });
        }
        Ok(senders)
    }

    async fn receivers(&self, consumers: u32) -> openwire_client::Result<Vec<Receiver>> {
        let mut receivers = Vec::new();
        for number in 0..consumers {
            let (connection, session) = self.connect(self.sending).await?;
            let consumer = session.create_consumer(&self.destination(number)).await?;
            receivers.push(Receiver {
                connection,
                session,
                consumer,
            });
        }
        Ok(receivers)
    }

    async fn produce(self: &Arc<Self>, length: Length) -> openwire_client::Result<Measured> {
        let senders = self.senders(self.sending).await?;
        let progress = Progress::new(length, 1);
        let cpu = Cpu::now(self.broker_pid);
        let began = Instant::now();
        let latency = self.send_all(senders, &progress).await?;
        let sent = match self.sending {
            Sending::Batch(_) => "batch",
            _ => "send",
        };
        let measured = Measured {
            messages: progress.sent(),
            deliveries: None,
            elapsed: began.elapsed(),
            latency: Some((sent, latency)),
            usage: cpu.usage(self.broker_pid),
        };
        if !self.keep {
            // The next run finds the broker as this one did.
            let receivers = self.receivers(self.queues).await?;
            self.receive_all(receivers, &progress).await?;
        }
        Ok(measured)
    }

    async fn consume(self: &Arc<Self>, length: Length) -> openwire_client::Result<Measured> {
        let count = match length {
            Length::Messages(count) => count,
            Length::Time(_) => self.count,
        };
        let filled = Progress::new(Length::Messages(count), 1);
        if self.found {
            filled.all_sent_before();
        } else {
            self.send_all(self.senders(FILLING).await?, &filled).await?;
        }
        let receivers = self.receivers(self.consumers.max(self.queues)).await?;
        let cpu = Cpu::now(self.broker_pid);
        let began = Instant::now();
        self.receive_all(receivers, &filled).await?;
        Ok(Measured {
            messages: filled.received(),
            deliveries: None,
            elapsed: began.elapsed(),
            latency: None,
            usage: cpu.usage(self.broker_pid),
        })
    }

    async fn produce_and_consume(self: &Arc<Self>, length: Length) -> openwire_client::Result<Measured> {
        let copies = match self.mode {
            Mode::FanOut => u64::from(self.consumers),
            _ => 1,
        };
        let receivers = self.receivers(self.consumers.max(self.queues)).await?;
        let senders = self.senders(self.sending).await?;
        let progress = Progress::new(length, copies);
        let cpu = Cpu::now(self.broker_pid);
        let began = Instant::now();
        let (sent, received) = tokio::join!(
            self.send_all(senders, &progress),
            self.receive_all(receivers, &progress)
        );
        sent?;
        let latency = received?;
        Ok(Measured {
            messages: progress.sent(),
            deliveries: (copies > 1).then(|| progress.received()),
            elapsed: began.elapsed(),
            latency: Some(("end to end", latency)),
            usage: cpu.usage(self.broker_pid),
        })
    }

    /// Sends until the run is over, and until the broker has everything.
    async fn send_all(
        self: &Arc<Self>,
        senders: Vec<Sender>,
        progress: &Arc<Progress>,
    ) -> openwire_client::Result<Histogram<u64>> {
        let mut tasks = JoinSet::new();
        for sender in senders {
            tasks.spawn(self.clone().send(sender, progress.clone()));
        }
        let mut latency = histogram();
        while let Some(ended) = tasks.join_next().await {
            // Of the same bounds.
            let _ = latency.add(flatten(ended)?);
        }
        progress.all_sent();
        Ok(latency)
    }

    async fn send(
        self: Arc<Self>,
        sender: Sender,
        progress: Arc<Progress>,
    ) -> openwire_client::Result<Histogram<u64>> {
        let mut latency = histogram();
        let mut record = |began: Instant| latency.saturating_record(began.elapsed().as_nanos() as u64);
        match sender.sending {
            Sending::Plain | Sending::Sync => {
                while progress.send() {
                    let began = Instant::now();
                    sender.producer.send(self.message(&progress)).await?;
                    record(began);
                }
                // One that is answered, so that everything before it has arrived.
                sender.session.create_producer(&self.destination(0)).await?;
            }
            Sending::Pipelined => {
                let mut answers: VecDeque<(Instant, Receipt)> = VecDeque::new();
                while progress.send() {
                    let began = Instant::now();
                    let receipt = sender.producer.send_pipelined(self.message(&progress)).await?;
                    answers.push_back((began, receipt));
                    while let Some((began, receipt)) = answers.front_mut() {
                        match receipt.now_or_never() {
                            Some(answer) => answer?,
                            None => break,
                        }
                        record(*began);
                        answers.pop_front();
                    }
                    if answers.len() >= PIPELINE
                        && let Some((began, receipt)) = answers.pop_front()
                    {
                        receipt.await?;
                        record(began);
                    }
                }
                for (began, receipt) in answers {
                    receipt.await?;
                    record(began);
                }
            }
            Sending::Batch(messages) => {
                let mut more = progress.send();
                while more {
                    let began = Instant::now();
                    let mut batched = 0;
                    while more && batched < messages {
                        sender.producer.send(self.message(&progress)).await?;
                        batched += 1;
                        more = progress.send();
                    }
                    sender.session.commit().await?;
                    record(began);
                }
            }
        }
        Ok(latency)
    }

    /// Receives everything that is sent; gives the latencies from send to receive.
    async fn receive_all(
        self: &Arc<Self>,
        receivers: Vec<Receiver>,
        progress: &Arc<Progress>,
    ) -> openwire_client::Result<Histogram<u64>> {
        let stop = tokio::sync::watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for receiver in receivers {
            let stop = stop.subscribe();
            tasks.spawn(self.clone().receive(receiver, progress.clone(), stop));
        }
        let mut latency = histogram();
        tokio::select! {
            done = progress.done() => done.map_err(lost)?,
            // One that ends before it is told to has failed.
            Some(ended) = tasks.join_next() => {
                let _ = latency.add(flatten(ended)?);
            }
        }
        stop.send_replace(true);
        while let Some(ended) = tasks.join_next().await {
            let _ = latency.add(flatten(ended)?);
        }
        Ok(latency)
    }

    async fn receive(
        self: Arc<Self>,
        receiver: Receiver,
        progress: Arc<Progress>,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) -> openwire_client::Result<Histogram<u64>> {
        let mut latency = histogram();
        let batch = match self.sending {
            Sending::Batch(messages) => messages,
            _ => u64::MAX,
        };
        let mut batched = 0;
        receiver.connection.start().await?;
        loop {
            let message = tokio::select! {
                biased;
                message = receiver.consumer.receive() => message?,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            latency.saturating_record(progress.clock().saturating_sub(stamp(&message)?));
            batched += 1;
            if batched == batch {
                receiver.session.commit().await?;
                batched = 0;
            }
            progress.receive();
        }
        if batched > 0 && batch != u64::MAX {
            receiver.session.commit().await?;
        }
        Ok(latency)
    }

    async fn round_trip(self: &Arc<Self>, length: Length) -> openwire_client::Result<Measured> {
        let mut responders = JoinSet::new();
        for receiver in self.receivers(self.consumers.max(self.queues)).await? {
            responders.spawn(self.clone().respond(receiver));
        }
        let mut requesters = Vec::new();
        for sender in self.senders(self.sending).await? {
            sender._connection.start().await?;
            let replies = sender.session.create_temporary_queue().await?;
            let consumer = sender.session.create_consumer(replies.destination()).await?;
            requesters.push((sender, consumer, replies));
        }
        let progress = Progress::new(length, 1);
        let cpu = Cpu::now(self.broker_pid);
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for (sender, consumer, replies) in requesters {
            let (load, progress) = (self.clone(), progress.clone());
            tasks.spawn(async move {
                let mut latency = histogram();
                while progress.send() {
                    let began = Instant::now();
                    let mut request = load.message(&progress);
                    request.set_reply_to(replies.destination().clone());
                    sender.producer.send(request).await?;
                    if consumer.receive_timeout(REPLY).await?.is_none() {
                        return Err(lost(format!("no reply came within {REPLY:?}")));
                    }
                    latency.saturating_record(began.elapsed().as_nanos() as u64);
                }
                Ok(latency)
            });
        }
        let mut latency = histogram();
        while let Some(ended) = tasks.join_next().await {
            let _ = latency.add(flatten(ended)?);
        }
        let measured = Measured {
            messages: progress.sent(),
            deliveries: None,
            elapsed: began.elapsed(),
            latency: Some(("round trip", latency)),
            usage: cpu.usage(self.broker_pid),
        };
        responders.shutdown().await;
        Ok(measured)
    }

    /// Answers each request with its own body, for ever.
    async fn respond(self: Arc<Self>, receiver: Receiver) -> openwire_client::Result<()> {
        let mut producer = receiver.session.create_anonymous_producer().await?;
        producer.set_delivery_mode(self.delivery_mode);
        receiver.connection.start().await?;
        loop {
            let request = receiver.consumer.receive().await?;
            if let Some(reply_to) = request.reply_to() {
                producer
                    .send_to(reply_to, Message::bytes(request.as_bytes()?))
                    .await?;
            }
        }
    }

    /// A message that says when it was sent.
    fn message(&self, progress: &Progress) -> Message {
        let mut body = BytesMut::with_capacity(self.payload.len());
        body.put_u64(progress.clock());
        body.extend_from_slice(self.payload.get(STAMP..).unwrap_or_default());
        Message::bytes(body.freeze())
    }
}

/// How long a requester waits for its reply.
const REPLY: Duration = Duration::from_secs(60);

/// When a message was sent, on the clock of its run.
fn stamp(message: &Message) -> openwire_client::Result<u64> {
    let body = message.as_bytes()?;
    Ok(body.first_chunk().map_or(0, |stamp| u64::from_be_bytes(*stamp)))
}

fn flatten<T>(
    ended: Result<openwire_client::Result<T>, tokio::task::JoinError>,
) -> openwire_client::Result<T> {
    match ended {
        Ok(result) => result,
        Err(failure) => Err(lost(failure.to_string())),
    }
}

/// A run that cannot go on, as the client would say it.
fn lost(what: String) -> openwire_client::Error {
    std::io::Error::other(what).into()
}

fn text(error: openwire_client::Error) -> String {
    error.to_string()
}
