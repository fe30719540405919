//! What is laid down for destinations: policies, and the rules that follow from them.

mod cron;
pub mod fields;
mod pattern;
pub mod schedule;

pub use cron::{Cron, CronError, Zone};
pub use pattern::{Pattern, PatternMap};
