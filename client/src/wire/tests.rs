//! The format by example, what holds for every command in every version, and what a hostile peer can do.

mod frames;
mod hostile;
mod round_trip;
pub(super) mod sample;
