//! What a connection has done.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident),* $(,)?) => {
        /// Counters of a connection, over all its sessions and all the brokers it was connected to.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct ConnectionStats {
            $( $(#[$meta])* pub $name: u64, )*
        }

        /// The same while they count.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $( pub(crate) $name: Counter, )*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> ConnectionStats {
                ConnectionStats { $( $name: self.$name.get(), )* }
            }
        }
    };
}

counters! {
    /// Messages that were handed over to be sent.
    sent,
    /// Messages that the broker has said it has: those that were waited for, the ones of
    /// [`send_pipelined`](crate::Producer::send_pipelined) included. Not those sent without waiting, nor those of a
    /// transaction, which its commit confirms.
    confirmed,
    /// Messages that were dispatched to consumers.
    dispatched,
    /// Messages that were delivered to the application.
    delivered,
    /// Of those, messages that had been delivered before, to this consumer or another.
    redelivered,
    /// Messages that were acknowledged, suppressed duplicates included; those of a transaction when its commit is sent.
    acknowledged,
    /// Messages that had come and were not delivered when the connection broke: the broker sends them again.
    dropped,
    /// Messages that were not delivered because they had expired.
    expired,
    /// Messages that were not delivered again because they had been acknowledged before the connection broke.
    duplicates,
    /// Messages that were delivered as often as the redelivery policy allows, and given up.
    poisoned,
    /// How often a broken connection was replaced.
    reconnects,
    /// Requests and tracked messages that were sent again after a break.
    resumed,
    /// Messages, at most, that were sent without waiting for the broker and may be lost.
    lost,
    /// Errors that the broker reported and nobody waited for.
    broker_errors,
    /// How often sends of a producer were [`Blocked`](crate::Event::Blocked).
    blocked,
    /// For how many milliseconds they were, all together, up to the last time they got on again.
    blocked_millis,
    /// How often a consumer became a [`SlowConsumer`](crate::Event::SlowConsumer).
    slow_consumers,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        if count > 0 {
            self.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
