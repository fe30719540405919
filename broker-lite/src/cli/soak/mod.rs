//! `broker-lite soak`: does a broker, or a pair of them, keep what it confirms, whatever happens to it meanwhile?
//!
//! Producers give every message a number of their own, consumers note what comes, and in the end both are compared.
//! It works over any URI of the client and with every broker that speaks OpenWire; who kills brokers meanwhile is not
//! its concern. [`Soak`] is the same as a library.
//!
//! # What counts as what
//!
//! * **Confirmed** is a message whose send, or whose transaction's commit, the broker answered. Every send outside a
//!   transaction asks for an answer, also of a message that is not persistent.
//! * **In doubt** is a message whose send, or whose transaction's commit, was not answered and may have happened. It is
//!   not sent again: the soak does not care whether it comes. If one message of a transaction in doubt comes, though,
//!   the transaction has happened and all others have to come. In doubt are also messages received in a transaction
//!   whose commit is: they may come again or not.
//! * A transaction that was **rolled back** is done again with the same numbers. If the rollback was not true its
//!   messages come twice, and count as duplicates.
//! * **Received** is a message when it is acknowledged, which happens when it is taken, or when the transaction in
//!   which it was taken is committed. What comes again after a rollback is no duplicate.
//! * **Lost** is a message that is confirmed and does not come within the drain.
//! * **Duplicated** is a message each time it is received after it had been received for good. A consumer without
//!   transactions has to expect that after a break. Duplicates with the redelivered flag are told apart, and so are those
//!   that came *without a word*: no flag, nothing in doubt, and the connection that had received the message first did
//!   not break soon afterwards.
//! * **Out of order** is a message that one consumer gets after a later one of the same producer. Several consumers
//!   share the messages of a producer, so nothing is said about the order between consumers. A break gives messages
//!   back to the queue from where they may go to others: what was sent before the last break of any consumer's
//!   connection, or has the redelivered flag, or comes again, is not judged.
//!
//! Producers and consumers react to errors as a service should: a transaction that was rolled back is done again, one in
//! doubt is left alone, a message that was refused is given up, a connection that is over is replaced by a new one.

mod books;
mod consume;
mod line;
mod produce;
mod report;
mod run;
mod stamp;

use std::io::{Write, stdout};
use std::time::Duration;

use clap::{ArgGroup, Args};
use openwire_client::options::Password;

pub use report::Report;
pub use run::{Control, Counts, Soak};

use super::start::Stop;
use super::{Common, User, log, size};

/// How long a soak puts load on the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Length {
    /// So many messages, from all producers together.
    Messages(u64),
    /// For so long.
    Time(Duration),
}

/// What a soak does. [`new`](Self::new) has the defaults of the command.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Plan {
    /// The broker or brokers.
    pub uri: String,
    /// Name and password of who connects.
    pub user: Option<(String, Password)>,
    /// The queue; a new name for each run otherwise. What else lies in the queue is taken out of it.
    pub queue: Option<String>,
    /// For how long. Default 60 seconds.
    pub length: Length,
    /// Producers, each with a connection of its own. Default 1.
    pub producers: u32,
    /// Consumers, each with a connection of its own. Default 1.
    pub consumers: u32,
    /// Persistent messages. Default false.
    pub persistent: bool,
    /// Send and receive in transactions of so many messages. Default none.
    pub transacted: Option<u64>,
    /// Messages a second, at most, from all producers together. Default as many as the broker takes.
    pub rate: Option<u32>,
    /// Bytes of a body. Default 1024; a body is never smaller than the 20 bytes of its stamp.
    pub size: usize,
    /// After the load, how long nothing new may come before the rest counts as lost, and how long producers may wait for
    /// answers. Default 30 seconds.
    pub drain: Duration,
}

impl Plan {
    /// A soak of the brokers at a URI, which can be any URI of the client.
    pub fn new(uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            user: None,
            queue: None,
            length: Length::Time(Duration::from_secs(60)),
            producers: 1,
            consumers: 1,
            persistent: false,
            transacted: None,
            rate: None,
            size: 1024,
            drain: Duration::from_secs(30),
        }
    }

    /// How long a load of a number of messages may stand still.
    fn patience(&self) -> Duration {
        let rate = self.rate.map_or(f64::INFINITY, f64::from);
        self.drain + Duration::from_secs_f64(f64::from(self.producers) / rate)
    }
}

/// Puts load on a broker, whatever happens to it meanwhile, and checks that nothing is lost
///
/// Producers number their messages, consumers note what comes, and in the end what was confirmed is compared with what
/// came. Kill brokers, cut lines and fill disks meanwhile: the exit status is 0 only if the broker confirmed something
/// and nothing that it confirmed was lost.
///
/// Ctrl-C ends the load; what was confirmed is still waited for and reported. A second Ctrl-C ends that as well.
///
/// In the output, messages are…
///
/// * confirmed, if the broker answered the send or the commit of its transaction;
///
/// * in doubt, if that answer never came, or if the receipt was part of a commit without an answer: such a message may
///   come or not, and come again or not, but a transaction comes as a whole or not at all;
///
/// * lost, if they were confirmed and did not come;
///
/// * duplicated, if they were received (acknowledged, or the consumer's transaction committed) more than once; those
///   with the redelivered flag are told apart, and so are those for which nothing at all has told that it may happen;
///
/// * out of order, if a consumer got them after a later one of the same producer, unless they come again or may have
///   been put back into the queue by a break.
///
/// A transaction that was rolled back is done again with the same numbers; one in doubt is not.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("soak_length").args(["messages", "seconds"]))]
pub(super) struct Options {
    /// The broker or brokers: any URI of the client, such as failover:(tcp://a:61616,tcp://b:61616)
    uri: String,

    /// How long to put load on it
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// How many messages to send, instead of a time
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,

    /// Producers, each with a connection of its own
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    producers: u32,

    /// Consumers, each with a connection of its own
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    consumers: u32,

    /// Persistent messages: others do not survive the broker's end
    #[arg(long)]
    persistent: bool,

    /// Send and receive in transactions
    #[arg(long)]
    transacted: bool,

    /// Messages of a transaction
    #[arg(long, value_name = "MESSAGES", default_value_t = 10, requires = "transacted",
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    batch: u64,

    /// Messages a second, at most, from all producers together
    #[arg(long, value_name = "MESSAGES", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,

    /// Bytes of a body, with k or m for KiB and MiB; the first 20 say whose it is
    #[arg(long, value_name = "BYTES", default_value = "1k", value_parser = |text: &str| size(text, stamp::STAMP))]
    size: usize,

    /// The queue; a new one for each run otherwise. Whatever lies in it is taken out: messages that are not of this
    /// run are counted and dropped
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,

    /// Who connects
    #[arg(long, value_name = "NAME:PASSWORD")]
    user: Option<User>,

    /// After the load, give up what is missing when nothing new has come for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    drain_seconds: u64,

    /// Print a JSON object: sent, confirmed, received, lost, duplicated, in_doubt, out_of_order, reconnects,
    /// longest_gap_ms
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    common: Common,
}

impl Options {
    fn plan(&self) -> Result<Plan, String> {
        Ok(Plan {
            uri: self.uri.clone(),
            user: match &self.user {
                Some(user) => {
                    let (name, password) = user.parts()?;
                    Some((name.to_owned(), password.into()))
                }
                None => None,
            },
            queue: self.queue.clone(),
            length: match self.messages {
                Some(messages) => Length::Messages(messages),
                None => Length::Time(Duration::from_secs(self.seconds)),
            },
            producers: self.producers,
            consumers: self.consumers,
            persistent: self.persistent,
            transacted: self.transacted.then_some(self.batch),
            rate: self.rate,
            size: self.size,
            drain: Duration::from_secs(self.drain_seconds),
        })
    }
}

pub(super) fn run(options: Options) -> Result<(), String> {
    log::init(&options.common.log)?;
    let plan = options.plan()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let report = runtime.block_on(soak(plan))?;
    let line = match options.json {
        true => serde_json::to_string(&report).map_err(|error| error.to_string())?,
        false => report.to_string(),
    };
    writeln!(stdout().lock(), "{line}").map_err(|error| format!("stdout: {error}"))?;
    match (report.lost, report.confirmed) {
        (0, 0) => Err("nothing was confirmed".to_owned()),
        (0, _) => Ok(()),
        (lost, confirmed) => Err(format!(
            "{lost} messages were lost, where {confirmed} were confirmed"
        )),
    }
}

async fn soak(plan: Plan) -> Result<Report, String> {
    let mut stop = Stop::new().map_err(|error| format!("no signals: {error}"))?;
    let soak = tokio::select! {
        started = Soak::start(plan) => started?,
        signal = stop.wait() => return Err(format!("{signal} before all were connected")),
    };
    let control = soak.control();
    let finish = soak.finish();
    tokio::pin!(finish);
    loop {
        tokio::select! {
            report = &mut finish => return Ok(report),
            signal = stop.wait() => {
                tracing::info!("{signal}: ending");
                control.stop();
            }
        }
    }
}
