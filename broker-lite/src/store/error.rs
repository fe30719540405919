//! What a store can fail with.

use std::fmt;

/// Why a store cannot do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// The store was closed.
    Closed,
    /// This cannot be stored or done as asked; what the store holds is unharmed.
    Refused(String),
    /// No disk space for another message: the batch was not stored. Batches without messages, such as
    /// acknowledgements, still are for a while, and messages are again once there is space.
    Full(String),
    /// A write or sync failed: nothing more is accepted, because what the disk holds is not known.
    Poisoned(String),
    /// Damage in the middle of what was durable. The store does not open.
    Damaged {
        /// The file.
        file: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// Another process, or another opener of this one, holds the store.
    Locked(String),
    /// This process was master of the store and is not any more: nothing more is accepted.
    NotMaster(String),
    /// The file system refused.
    Io(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the store is closed"),
            Self::Refused(why) => f.write_str(why),
            Self::Full(why) => write!(f, "no disk space for another message: {why}"),
            Self::Poisoned(why) => write!(f, "the store takes nothing more after a failed write: {why}"),
            Self::Damaged { file, offset, reason } => {
                write!(f, "{file} is damaged at byte {offset}: {reason}")
            }
            Self::Locked(holder) => write!(f, "the store is in use: {holder}"),
            Self::NotMaster(why) => write!(f, "mastership is lost: {why}"),
            Self::Io(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StoreError {}
