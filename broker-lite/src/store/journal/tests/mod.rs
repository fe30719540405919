//! What the journal promises, on a disk that can fail.

use super::super::suite::{append, key, load, message, producer, wait};

mod faults;
mod model;
