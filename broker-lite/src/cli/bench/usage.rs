//! CPU time and memory of processes, as Linux counts them.

use std::fs;
use std::time::Instant;

/// CPU time at some moment, in seconds; none where the system does not say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    at: Instant,
    machine: Option<f64>,
    client: Option<f64>,
    broker: Option<f64>,
}

/// CPU time between two moments, and the broker's memory at the second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// This process, in seconds.
    pub(super) client: Option<f64>,
    /// The broker, in seconds.
    pub(super) broker: Option<f64>,
    /// Cores that all others kept busy.
    pub(super) others: Option<f64>,
    /// The broker's resident memory, in KiB.
    pub(super) broker_rss_kib: Option<u64>,
}

impl Cpu {
    pub(super) fn now(broker: Option<u32>) -> Self {
        Self {
            at: Instant::now(),
            machine: machine(),
            client: process("self"),
            broker: broker.and_then(|pid| process(&pid.to_string())),
        }
    }

    /// What was used since then.
    pub(super) fn usage(&self, broker: Option<u32>) -> Usage {
        let now = Self::now(broker);
        let seconds = (now.at - self.at).as_secs_f64();
        let since = |now: Option<f64>, then: Option<f64>| Some(now? - then?);
        let client = since(now.client, self.client);
        let of_broker = since(now.broker, self.broker);
        let others = since(now.machine, self.machine)
            .map(|busy| busy - client.unwrap_or_default() - of_broker.unwrap_or_default())
            .map(|busy| (busy / seconds.max(1e-3)).max(0.0));
        Usage {
            client,
            broker: of_broker,
            others,
            broker_rss_kib: broker.and_then(rss_kib),
        }
    }
}

/// `/proc` counts in these; Linux shows a hundred a second to all programs.
const TICKS: f64 = 100.0;

/// CPU time of a process, in seconds.
fn process(pid: &str) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

/// CPU time of everything on this machine but idling and waiting, in seconds.
fn machine() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<f64> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    // user, nice, system, irq, softirq, steal
    let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|&index| fields.get(index));
    Some(busy.sum::<f64>() / TICKS)
}

fn rss_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
