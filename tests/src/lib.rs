//! Helpers of the tests that need both crates or a real peer.
