//! What is laid down for destinations: policies, and the rules that follow from them.

mod pattern;

pub use pattern::{Pattern, PatternMap};
