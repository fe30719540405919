//! What a run says at its end.

use std::io::{Write, stdout};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::usage::Usage;
use super::{Mode, Options, Sending};

/// What a run measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) messages: u64,
    /// Messages received, if others than those sent.
    pub(super) deliveries: Option<u64>,
    pub(super) elapsed: Duration,
    /// How long what took, in nanoseconds.
    pub(super) latency: Option<(&'static str, Histogram<u64>)>,
    pub(super) usage: Usage,
}

/// What was asked for.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Described {
    mode: &'static str,
    label: String,
    sending: &'static str,
    size: usize,
    persistent: bool,
    producers: u32,
    consumers: u32,
    queues: u32,
    batch: u64,
}

impl Described {
    pub(super) fn new(options: &Options) -> Self {
        let mode = match options.mode {
            Mode::Produce => "produce",
            Mode::Consume => "consume",
            Mode::Pc => "pc",
            Mode::FanOut => "fan-out",
            Mode::RoundTrip => "round-trip",
            Mode::Limits => "limits",
        };
        let (sending, batch) = match options.sending() {
            Sending::Plain => ("plain", 0),
            Sending::Sync => ("sync", 0),
            Sending::Pipelined => ("pipelined", 0),
            Sending::Batch(messages) => ("batch", messages),
        };
        Self {
            mode,
            label: options.label.clone(),
            sending,
            size: options.size,
            persistent: options.persistent,
            producers: options.producers,
            consumers: options.consumers,
            queues: options.queues,
            batch,
        }
    }

    /// The same under another mode's name.
    pub(super) fn of_mode(&self, mode: &'static str) -> Self {
        Self { mode, ..self.clone() }
    }
}

/// One line of output.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    #[serde(flatten)]
    described: &'a Described,
    run: u32,
    msgs: u64,
    seconds: f64,
    msgs_per_s: f64,
    mib_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries_per_s: Option<f64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_cpu_us_per_msg: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker_cpu_us_per_msg: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker_rss_kib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    others_cores: Option<f64>,
}

/// How long something took, in microseconds.
#[derive(Debug, Serialize)]
struct Latency {
    latency_of: &'static str,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

impl Latency {
    fn new(of: &'static str, nanos: &Histogram<u64>) -> Self {
        let at = |quantile| rounded(nanos.value_at_quantile(quantile) as f64 / 1e3);
        Self {
            latency_of: of,
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: at(1.0),
        }
    }
}

impl<'a> Report<'a> {
    pub(super) fn new(described: &'a Described, run: u32, measured: &Measured) -> Self {
        let seconds = measured.elapsed.as_secs_f64().max(1e-9);
        let rate = measured.messages as f64 / seconds;
        let per_message =
            |cpu: Option<f64>| cpu.map(|cpu| rounded(cpu * 1e6 / measured.messages.max(1) as f64));
        Self {
            described,
            run,
            msgs: measured.messages,
            seconds: rounded(seconds * 1e3) / 1e3,
            msgs_per_s: rounded(rate),
            mib_per_s: rounded(rate * described.size as f64 / (1024.0 * 1024.0)),
            deliveries_per_s: measured.deliveries.map(|count| rounded(count as f64 / seconds)),
            latency: measured
                .latency
                .as_ref()
                .map(|(of, nanos)| Latency::new(of, nanos)),
            client_cpu_us_per_msg: per_message(measured.usage.client),
            broker_cpu_us_per_msg: per_message(measured.usage.broker),
            broker_rss_kib: measured.usage.broker_rss_kib,
            others_cores: measured.usage.others.map(|cores| (cores * 100.0).round() / 100.0),
        }
    }

    /// Prints it to stdout.
    pub(super) fn print(&self, json: bool) -> Result<(), String> {
        let line = if json {
            serde_json::to_string(self).map_err(|error| error.to_string())?
        } else {
            self.text()
        };
        let mut stdout = stdout().lock();
        writeln!(stdout, "{line}").map_err(|error| format!("stdout: {error}"))
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{:<10} run {}: {:>9.0} msg/s ({:.1} MiB/s)",
            self.described.mode, self.run, self.msgs_per_s, self.mib_per_s,
        );
        if let Some(latency) = &self.latency {
            text += &format!(
                ", {}: p50 {} µs, p99 {} µs, p99.9 {} µs, max {} µs",
                latency.latency_of, latency.p50_us, latency.p99_us, latency.p999_us, latency.max_us
            );
        }
        if let Some(cpu) = self.client_cpu_us_per_msg {
            text += &format!(", client {cpu} µs CPU a message");
        }
        if let Some(cpu) = self.broker_cpu_us_per_msg {
            text += &format!(", broker {cpu} µs");
        }
        if let Some(rss) = self.broker_rss_kib {
            text += &format!(", broker RSS {} MiB", rss / 1024);
        }
        text
    }
}

/// To a tenth, which is more than any figure here is worth.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
