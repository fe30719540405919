//! Helpers of the tests that need both crates or a real peer.

pub mod certificates;
pub mod peers;
pub mod process;
