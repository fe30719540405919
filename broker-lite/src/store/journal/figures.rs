//! What the journal measures of itself.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// What a journal says of itself; part of [`StoreStats`](crate::store::StoreStats).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// The number of the mastership it was opened in; one more each time it is opened, unless somebody else counts.
    pub epoch: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Bytes of the log.
    pub used_bytes: u64,
    /// Bytes of it that are needed: messages that are there, and what is kept beside them.
    pub live_bytes: u64,
    /// How long syncs took, in microseconds.
    pub sync_micros: Spread,
    /// How many batches were written together, with one sync at most.
    pub turn_batches: Spread,
    /// How many bytes of the log they were.
    pub turn_bytes: Spread,
    /// How long it took to read the log when it was opened.
    pub replay: Duration,
    /// Bytes of the log that were read then.
    pub replayed_bytes: u64,
}

impl JournalStats {
    /// Which part of the log is needed, from 0 to 1; 1 for an empty log. Copying old messages forward keeps it above a
    /// half, but for two segments.
    pub fn live_ratio(&self) -> f64 {
        match self.used_bytes {
            0 => 1.0,
            used => self.live_bytes as f64 / used as f64,
        }
    }
}

/// How large measured values were since the journal was opened, to about a hundredth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many were measured.
    pub count: u64,
    /// Half of them were at most this.
    pub p50: u64,
    /// 99 of 100 were at most this.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

/// Collects values for a [`Spread`].
pub(super) struct Figure(Mutex<Histogram<u64>>);

impl Default for Figure {
    fn default() -> Self {
        /// Minutes in microseconds, and the largest turn in bytes.
        const LARGEST: u64 = 1 << 32;
        let histogram = Histogram::new_with_max(LARGEST, 2);
        Self(Mutex::new(histogram.expect("the bounds are in order")))
    }
}

impl Figure {
    pub(super) fn note(&self, value: u64) {
        self.0.lock().saturating_record(value);
    }

    pub(super) fn spread(&self) -> Spread {
        let histogram = self.0.lock();
        Spread {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_says_how_large_values_were() {
        let figure = Figure::default();
        assert_eq!(figure.spread(), Spread::default());
        (1..=100).for_each(|value| figure.note(value));
        figure.note(u64::MAX);
        let spread = figure.spread();
        assert_eq!((spread.count, spread.p50, spread.p99), (101, 51, 100));
        assert!(spread.max >= 1 << 32);
    }

    #[test]
    fn an_empty_log_is_all_needed() {
        let stats = JournalStats::default();
        assert!((stats.live_ratio() - 1.0).abs() < f64::EPSILON);
        let half = JournalStats {
            used_bytes: 8,
            live_bytes: 4,
            ..stats
        };
        assert!((half.live_ratio() - 0.5).abs() < f64::EPSILON);
    }
}
