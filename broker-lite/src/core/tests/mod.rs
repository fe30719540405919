//! Tests of the core through its only door: commands in, effects out.

mod advisories;
mod behaviour;
mod consumers;
mod deferred;
mod flow;
mod large;
mod model;
mod outcomes;
mod policies;
mod random;
mod random_xa;
mod refused;
mod rig;
mod schedule;
mod selected;
mod spool;
mod statistics;
mod topics;
mod xa;
