//! Tests of the core through its only door: commands in, effects out.

mod behaviour;
mod consumers;
mod flow;
mod outcomes;
mod policies;
mod random;
mod refused;
mod rig;
