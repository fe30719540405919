//! Why a broker cannot start or go on.

use std::fmt;
use std::io;

use crate::ha::LockError;
use crate::store::StoreError;

/// The error of this crate.
///
/// Ask it what it means; the text is for people and may change.
#[derive(Debug, Clone)]
pub struct BrokerError {
    kind: Kind,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Config,
    AddressInUse,
    Locked,
    MastershipLost,
    Damaged,
    Io,
}

impl BrokerError {
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Config,
            message: message.into(),
        }
    }

    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self {
            kind: if error.kind() == io::ErrorKind::AddrInUse {
                Kind::AddressInUse
            } else {
                Kind::Io
            },
            message: format!("{what}: {error}"),
        }
    }

    pub(crate) fn name_in_use(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::AddressInUse,
            message: message.into(),
        }
    }

    pub(crate) fn store(what: impl fmt::Display, error: &StoreError) -> Self {
        Self {
            kind: match error {
                StoreError::Locked(_) => Kind::Locked,
                StoreError::NotMaster(_) => Kind::MastershipLost,
                StoreError::Damaged { .. } => Kind::Damaged,
                _ => Kind::Io,
            },
            message: format!("{what}: {error}"),
        }
    }

    pub(crate) fn lock(error: &LockError) -> Self {
        Self {
            kind: match error {
                LockError::Held(_) => Kind::Locked,
                LockError::Lost(_) => Kind::MastershipLost,
                LockError::Unfit(_) | LockError::Unavailable(_) => Kind::Io,
            },
            message: error.to_string(),
        }
    }

    /// The configuration cannot be: a URI, an option, a certificate.
    pub fn is_config(&self) -> bool {
        self.kind == Kind::Config
    }

    /// Somebody else listens there already.
    pub fn is_address_in_use(&self) -> bool {
        self.kind == Kind::AddressInUse
    }

    /// Another broker, or something else, uses the store, and this one was not to wait for it to end.
    pub fn is_locked(&self) -> bool {
        self.kind == Kind::Locked
    }

    /// The broker was master of its store and is not any more, or could not make sure in time that it was: another one may
    /// serve by now. Started again, it stands by.
    pub fn is_mastership_lost(&self) -> bool {
        self.kind == Kind::MastershipLost
    }

    /// The store is damaged and does not open.
    pub fn is_damaged(&self) -> bool {
        self.kind == Kind::Damaged
    }

    /// The system refused: a file, a directory, a socket.
    pub fn is_io(&self) -> bool {
        self.kind == Kind::Io
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BrokerError {}
