//! Masterships: who wrote which segment, and what counts of a segment that two have written to.
//!
//! Whoever opens a journal begins an epoch with a higher number than any before it, in a segment of his own whose
//! catalog says where the log ended that he found. A former master that was only paused may go on writing: into its
//! segment behind that place, or into a segment that it makes. Neither counts for anybody from then on.

use std::sync::Arc;

use super::frame::Position;
use super::segment::Segment;

/// A mastership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Epoch {
    /// Grows from one to the next; 0 for what was written before there were epochs.
    pub(super) number: u64,
    /// Where the log ended when it began. The segments behind are its own, and those of later ones.
    pub(super) sealed: Position,
}

/// A segment, and what its first frame says.
pub(super) struct Head {
    pub(super) segment: Arc<Segment>,
    /// None if no catalog of this journal can be read.
    pub(super) epoch: Option<Epoch>,
}

/// A segment of the log.
pub(super) struct Part {
    pub(super) segment: Arc<Segment>,
    /// Where what counts of it ends, if somebody took over there.
    pub(super) sealed: Option<u32>,
}

/// Which segments are the log.
#[derive(Default)]
pub(super) struct Lineage {
    /// The log, the oldest first.
    pub(super) log: Vec<Part>,
    /// The others, the oldest first.
    pub(super) leftovers: Vec<String>,
    /// The highest epoch there was.
    pub(super) newest: Epoch,
}

impl Lineage {
    /// Tells the log from what former masters wrote after they had been replaced. The numbers of the segments
    /// follow each other.
    pub(super) fn of(mut heads: Vec<Head>) -> Self {
        // Who made a segment of a number that was free again may have come no further. If it is another one, which lost
        // its catalog, it is missed below.
        let begin = heads.iter().position(|head| head.epoch.is_some()).unwrap_or(0);
        let nameless: Vec<_> = heads.drain(..begin).map(|head| head.segment.name()).collect();
        let epochs = heads.iter().filter_map(|head| head.epoch);
        let newest = epochs.max_by_key(|epoch| epoch.number).unwrap_or_default();
        let mut lineage = Self {
            newest,
            ..Self::default()
        };
        // From the newest segment back: each epoch says where the one before it ended.
        let mut epoch = newest;
        let mut interrupted = false;
        for Head { segment, epoch: own } in heads.into_iter().rev() {
            let number = segment.number;
            let late = own.is_some_and(|own| own.number < epoch.number) && number > epoch.sealed.segment;
            if late {
                tracing::warn!(
                    "{} is ignored: a former master wrote it after its journal had been taken over",
                    segment.name()
                );
                // Of what stands before it nothing is needed, or it is missed below.
                interrupted |= !lineage.log.is_empty();
            }
            if late || interrupted {
                lineage.leftovers.push(segment.name());
                continue;
            }
            let sealed = (number == epoch.sealed.segment).then_some(epoch.sealed.offset);
            if let Some(own) = own
                && number <= epoch.sealed.segment
            {
                epoch = own;
            }
            lineage.log.push(Part { segment, sealed });
        }
        lineage.log.reverse();
        lineage.leftovers.extend(nameless.into_iter().rev());
        lineage.leftovers.reverse();
        lineage
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::DiskFile;
    use super::*;

    fn head(number: u32, epoch: Option<(u64, u32, u32)>) -> Head {
        let file: Box<dyn DiskFile> = Box::new(tempfile::tempfile().unwrap());
        let epoch = epoch.map(|(number, segment, offset)| Epoch {
            number,
            sealed: Position { segment, offset },
        });
        let epoch_number = epoch.map_or(0, |epoch| epoch.number);
        Head {
            segment: Arc::new(Segment {
                number,
                epoch: epoch_number,
                len: 0,
                file,
            }),
            epoch,
        }
    }

    fn log(lineage: &Lineage) -> Vec<(u32, Option<u32>)> {
        let parts = lineage.log.iter();
        parts.map(|part| (part.segment.number, part.sealed)).collect()
    }

    #[test]
    fn each_epoch_ends_where_the_next_found_it_to_end() {
        let lineage = Lineage::of(vec![
            head(1, Some((0, 0, 0))),
            head(2, Some((1, 1, 80))),
            head(3, Some((1, 1, 80))),
            head(4, Some((5, 3, 96))),
            head(5, None),
        ]);
        assert_eq!(
            log(&lineage),
            [(1, Some(80)), (2, None), (3, Some(96)), (4, None), (5, None)]
        );
        assert_eq!(lineage.newest.number, 5);
        assert!(lineage.leftovers.is_empty());
    }

    #[test]
    fn what_a_former_master_makes_does_not_count() {
        let lineage = Lineage::of(vec![
            head(3, Some((1, 0, 0))),
            // Made by epoch 1 after epoch 2 had given up its own segment of this number.
            head(4, Some((1, 0, 0))),
            head(5, Some((2, 3, 96))),
            head(6, Some((2, 3, 96))),
            head(7, Some((1, 0, 0))),
        ]);
        assert_eq!(log(&lineage), [(5, None), (6, None)]);
        assert_eq!(
            lineage.leftovers,
            [
                "journal-0000000003.log",
                "journal-0000000004.log",
                "journal-0000000007.log"
            ]
        );
    }

    #[test]
    fn what_a_former_master_only_made_does_not_count() {
        let lineage = Lineage::of(vec![head(3, None), head(4, Some((2, 2, 96))), head(5, None)]);
        assert_eq!(log(&lineage), [(4, None), (5, None)]);
        assert_eq!(lineage.leftovers, ["journal-0000000003.log"]);
    }

    #[test]
    fn a_log_without_any_catalog_is_a_log() {
        let lineage = Lineage::of(vec![head(1, None)]);
        assert_eq!(log(&lineage), [(1, None)]);
    }

    #[test]
    fn nothing_makes_no_log() {
        let lineage = Lineage::of(Vec::new());
        assert!(lineage.log.is_empty());
        assert_eq!(lineage.newest, Epoch::default());
    }
}
