//! The rows of the producers seen last, and of outcomes.

use std::collections::{HashMap, HashSet};

use openwire_client::wire::ProducerId;

use super::super::recent::{AUDITED_PRODUCERS, Audit};
use super::changes::Changes;

/// The row of a producer.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProducerRow {
    pub(super) id: i64,
    /// It is in the table.
    pub(super) written: bool,
}

/// Which row each producer has, and the next numbers.
#[derive(Debug, Default)]
pub(super) struct Producers {
    rows: HashMap<ProducerId, ProducerRow>,
    next: i64,
    /// `SEEN` of the last one before the store was opened: those seen since come behind.
    base: i64,
    /// What the audit's clock said when the store was opened.
    opened: u64,
    /// Rows seen before this are forgotten.
    forgotten: Option<i64>,
    /// The row of the next outcome.
    pub(super) outcomes: i64,
}

impl Producers {
    /// A row was found.
    pub(super) fn found(&mut self, producer: ProducerId, id: i64, seen: i64) {
        self.rows.insert(producer, ProducerRow { id, written: true });
        self.next = self.next.max(id.saturating_add(1));
        self.base = self.base.max(seen);
    }

    /// All rows were found, and the audit knows them.
    pub(super) fn opened(&mut self, clock: u64) {
        self.opened = clock;
    }

    pub(super) fn row(&self, producer: &ProducerId) -> Option<ProducerRow> {
        self.rows.get(producer).copied()
    }

    /// `SEEN` of a producer that the audit saw at this time.
    pub(super) fn seen(&self, at: u64) -> i64 {
        self.base.saturating_add(at as i64)
    }

    pub(super) fn forgotten(&self) -> Option<i64> {
        self.forgotten
    }

    /// Before a group is written: its producers get rows, and the oldest lose theirs when there are too many.
    pub(super) fn prepare(&mut self, changes: &Changes, audit: &Audit) {
        for producer in &changes.producers {
            if !self.rows.contains_key(producer) {
                let row = ProducerRow {
                    id: self.next,
                    written: false,
                };
                self.rows.insert(producer.clone(), row);
                self.next += 1;
            }
        }
        if self.rows.len() > 2 * AUDITED_PRODUCERS + changes.producers.len() {
            let recent = audit.recent();
            let oldest = recent.first().and_then(|(oldest, _)| audit.get(oldest));
            // Those found when the store was opened were seen by another clock, and wait until all of them are old.
            let since = oldest.map(|(_, at)| at).filter(|&at| at > self.opened);
            self.forgotten = since.map(|at| self.seen(at));
            let recent: HashSet<_> = recent.iter().map(|(producer, _)| producer).collect();
            self.rows.retain(|producer, _| recent.contains(producer));
        }
    }

    /// The group was written.
    pub(super) fn written(&mut self, changes: &Changes) {
        for producer in &changes.producers {
            if let Some(row) = self.rows.get_mut(producer) {
                row.written = true;
            }
        }
        self.outcomes += changes.outcomes.len() as i64;
        self.forgotten = None;
    }
}
