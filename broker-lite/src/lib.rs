//! A compact OpenWire message broker.

pub mod core;
pub mod store;
