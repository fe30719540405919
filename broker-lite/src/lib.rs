//! broker
pub mod store;
