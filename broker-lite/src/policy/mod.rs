//! What is laid down for destinations: policies, and the rules that follow from them.
//!
//! Nothing in here does anything: time, randomness and messages come in as arguments, and what is to be done goes out.

mod cron;
mod dead_letter;
mod entry;
mod eviction;
pub mod fields;
mod groups;
mod interceptor;
mod pattern;
mod recovery;
mod redelivery;
pub mod schedule;
mod strategy;
mod timestamp;

pub use cron::{Cron, CronError, Zone};
pub use dead_letter::{DeadLetter, DeadMessage, DiscardDeadLetters};
pub(crate) use entry::target;
pub use entry::{Policies, Policy, Prefetch};
pub use eviction::evict_expired;
pub use groups::Groups;
pub use interceptor::{Composite, Forward, InterceptorError, Interceptors, Mirror, VirtualTopic};
pub use pattern::{Pattern, PatternMap};
pub use recovery::{RETAIN, RETAINED, RecoveryBuffer, is_to_be_retained};
pub use redelivery::{GivenUp, Redelivery, RedeliveryPolicy};
pub use strategy::{
    AbortLimits, Audit, DeadLetterStrategy, DeadLetters, DispatchPolicy, Eviction, Filter, GroupMap,
    IndividualDeadLetters, NetworkReplay, PendingLimit, PendingQueue, Recovery, SlowConsumers,
};
pub use timestamp::Timestamping;
