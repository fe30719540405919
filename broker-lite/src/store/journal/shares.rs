//! Where a message lies besides the key it was put with.

use super::super::MessageKey;

/// Keys that may have gone before the list is looked through, beside as many as there are.
const STALE: usize = 8;

/// The keys of a record that does not lie just at the key it was put with.
#[derive(Debug)]
pub(super) struct Shares {
    /// The key in the record.
    own: MessageKey,
    /// How many keys refer to the record.
    count: usize,
    /// All of these, and some that did: going takes no search that way, however many there are.
    keys: Vec<MessageKey>,
}

impl Shares {
    /// The keys of a record that lies at its own only.
    pub(super) fn of(own: MessageKey) -> Self {
        Self {
            own,
            count: 1,
            keys: vec![own],
        }
    }

    /// The key in the record.
    pub(super) fn own(&self) -> MessageKey {
        self.own
    }

    /// The record lies at this key as well.
    pub(super) fn add(&mut self, key: MessageKey) {
        self.keys.push(key);
        self.count += 1;
    }

    /// One of the keys does not refer to the record any more; `refers` tells of which. False if no key is left.
    pub(super) fn let_go(&mut self, refers: impl FnMut(MessageKey) -> bool) -> bool {
        self.count -= 1;
        if self.keys.len() > 2 * self.count + STALE {
            self.keys = self.keys(refers);
        }
        self.count > 0
    }

    /// The keys that refer to the record, its own first if it is one of them.
    pub(super) fn keys(&self, mut refers: impl FnMut(MessageKey) -> bool) -> Vec<MessageKey> {
        let mut keys: Vec<_> = self.keys.iter().copied().filter(|&key| refers(key)).collect();
        // A key can go and come back.
        keys.sort_unstable_by_key(|&key| (key != self.own, key));
        keys.dedup();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::DestinationKey;
    use super::*;

    fn key(sequence: u64) -> MessageKey {
        MessageKey {
            destination: DestinationKey(1),
            sequence,
        }
    }

    #[test]
    fn a_message_that_wanders_does_not_leave_a_trail() {
        let mut shares = Shares::of(key(0));
        for at in 1..1_000 {
            shares.add(key(at % 7));
            assert!(shares.let_go(|found| found == key(at % 7)));
            assert_eq!(shares.keys(|found| found == key(at % 7)), [key(at % 7)]);
            assert!(shares.keys.len() < 20);
        }
        assert_eq!(shares.own(), key(0));
        assert!(!shares.let_go(|_| false));
    }

    #[test]
    fn the_own_key_is_first() {
        let mut shares = Shares::of(key(5));
        [9, 1, 9, 5].into_iter().for_each(|at| shares.add(key(at)));
        assert_eq!(shares.keys(|_| true), [key(5), key(1), key(9)]);
        assert_eq!(shares.keys(|found| found != key(5)), [key(1), key(9)]);
    }
}
