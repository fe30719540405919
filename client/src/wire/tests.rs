//! What holds for every command in every version, and what a hostile peer can do.

mod hostile;
mod round_trip;
pub(super) mod sample;
