//! `broker-lite bench`: the same load against any OpenWire broker, through our own client.

mod limits;
mod load;
mod progress;
mod report;
mod usage;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};

use super::{Common, User, log, size};
use load::Load;
use report::{Described, Report};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Messages go to a queue; latency of a send, or of a batch
    Produce,
    /// A queue that was filled before is emptied
    Consume,
    /// Both at once; latency from send to receive
    Pc,
    /// A topic with one or more producers and many consumers; latency from send to receive
    FanOut,
    /// Requests over a queue, replies over a temporary one; latency of the round trip
    RoundTrip,
    /// What this machine can do at best: synced writes to a file, of one message of each producer at a time, and a ping-pong
    /// over the loopback
    Limits,
}

/// How a producer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// As JMS does by itself: a persistent message is waited for, another one is not.
    Plain,
    /// Every message is waited for.
    Sync,
    /// Every message is answered, and many are on their way.
    Pipelined,
    /// Transactions of so many messages.
    Batch(u64),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("sending").args(["sync", "pipelined", "batch"]))]
#[command(group = ArgGroup::new("length").args(["count", "seconds"]))]
pub(super) struct Options {
    /// What to measure
    #[arg(value_enum)]
    mode: Mode,

    /// The broker
    #[arg(long, value_name = "URI", default_value = "tcp://127.0.0.1:61616")]
    url: String,

    /// Who connects
    #[arg(long, value_name = "NAME:PASSWORD")]
    user: Option<User>,

    /// The destinations' name; a new one for each run otherwise
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,

    /// Persistent messages
    #[arg(long)]
    persistent: bool,

    /// Wait for the broker after each message
    #[arg(long)]
    sync: bool,

    /// Have each message answered, with many on their way
    #[arg(long)]
    pipelined: bool,

    /// Send, and receive, in transactions of so many messages
    #[arg(long, value_name = "MESSAGES", value_parser = clap::value_parser!(u64).range(1..))]
    batch: Option<u64>,

    /// Bytes of a body, with k or m for KiB and MiB
    #[arg(long, value_name = "BYTES", default_value = "1k", value_parser = |text: &str| size(text, load::STAMP))]
    size: usize,

    /// Producers, each with a connection of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    producers: u32,

    /// Consumers, each with a connection of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    consumers: u32,

    /// Queues, that producers and consumers are spread over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    queues: u32,

    /// Leave on the queues what `produce` sends
    #[arg(long)]
    keep: bool,

    /// Have `consume` take what an earlier run left on its destination
    #[arg(long, requires = "destination", conflicts_with = "warmup")]
    found: bool,

    /// How many messages to measure
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,

    /// How long to measure, instead of a number of messages
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,

    /// Messages before that, in the same way, that are not measured
    #[arg(long, value_name = "MESSAGES", default_value_t = 0)]
    warmup: u64,

    /// Measure so many times
    #[arg(long, default_value_t = 1)]
    runs: u32,

    /// Print a JSON object a line
    #[arg(long)]
    json: bool,

    /// A name for the broker, to be found in the output
    #[arg(long, default_value = "")]
    label: String,

    /// The broker's process on this machine: its CPU time and memory are noted
    #[arg(long, value_name = "PID")]
    broker_pid: Option<u32>,

    /// Where `limits` writes; a temporary directory otherwise
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    #[command(flatten)]
    common: Common,
}

impl Options {
    fn sending(&self) -> Sending {
        match self.batch {
            Some(messages) => Sending::Batch(messages),
            None if self.sync => Sending::Sync,
            None if self.pipelined => Sending::Pipelined,
            None => Sending::Plain,
        }
    }

    fn length(&self) -> progress::Length {
        match self.seconds {
            Some(seconds) => progress::Length::Time(Duration::from_secs(seconds)),
            None => progress::Length::Messages(self.count),
        }
    }
}

pub(super) fn run(options: Options) -> Result<(), String> {
    log::init(&options.common.log)?;
    let described = Described::new(&options);
    if options.mode == Mode::Limits {
        for (mode, measured) in limits::measure(
            options.dir.as_deref(),
            options.size,
            options.producers,
            options.count,
        )? {
            Report::new(&described.of_mode(mode), 1, &measured).print(options.json)?;
        }
        return Ok(());
    }
    // One thread, so that the other core is the broker's.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(async {
        let load = Load::new(&options)?;
        if options.warmup > 0 {
            load.measure(progress::Length::Messages(options.warmup)).await?;
        }
        for run in 1..=options.runs {
            let measured = load.measure(options.length()).await?;
            Report::new(&described, run, &measured).print(options.json)?;
        }
        Ok(())
    })
}
