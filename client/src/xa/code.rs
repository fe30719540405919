//! What a transaction manager is told.

use std::fmt;

use crate::error::ErrorKind;
use crate::wire::Throwable;

/// How a broker writes the code into the text of its exception: the code itself has no place on the wire.
const MARKER: &str = "xaErrorCode:";

macro_rules! codes {
    ($( $(#[$meta:meta])* $variant:ident = $value:literal $name:literal, )*) => {
        /// The codes of XA (`XAException.errorCode`), asked from an error with [`Error::xa_code`](crate::Error::xa_code).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum XaCode {
            $( $(#[$meta])* $variant, )*
            /// A code that XA does not have.
            Other(i32),
        }

        impl XaCode {
            /// The number.
            pub fn value(self) -> i32 {
                match self {
                    $( Self::$variant => $value, )*
                    Self::Other(value) => value,
                }
            }

            /// The code of a number.
            pub fn from_value(value: i32) -> Self {
                match value {
                    $( $value => Self::$variant, )*
                    other => Self::Other(other),
                }
            }
        }

        impl fmt::Display for XaCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $( Self::$variant => f.write_str($name), )*
                    Self::Other(value) => write!(f, "XA error {value}"),
                }
            }
        }
    };
}

codes! {
    /// `XA_RBROLLBACK`: rolled back, for no reason that is told.
    RolledBack = 100 "XA_RBROLLBACK",
    /// `XA_RBCOMMFAIL`: rolled back, because the connection broke.
    RolledBackConnection = 101 "XA_RBCOMMFAIL",
    /// `XA_RBDEADLOCK`: rolled back, because of a deadlock.
    RolledBackDeadlock = 102 "XA_RBDEADLOCK",
    /// `XA_RBINTEGRITY`: rolled back, because something would have been violated.
    RolledBackIntegrity = 103 "XA_RBINTEGRITY",
    /// `XA_RBOTHER`: rolled back, for a reason without a code.
    RolledBackOther = 104 "XA_RBOTHER",
    /// `XA_RBPROTO`: rolled back, because of an error of protocol inside of the broker.
    RolledBackProtocol = 105 "XA_RBPROTO",
    /// `XA_RBTIMEOUT`: rolled back, because it took too long.
    RolledBackTimeout = 106 "XA_RBTIMEOUT",
    /// `XA_RBTRANSIENT`: rolled back, and it can be tried again.
    RolledBackTransient = 107 "XA_RBTRANSIENT",
    /// `XA_NOMIGRATE`: it must be resumed where it was suspended.
    NoMigrate = 9 "XA_NOMIGRATE",
    /// `XA_HEURHAZ`: somebody may have decided by hand.
    HeuristicHazard = 8 "XA_HEURHAZ",
    /// `XA_HEURCOM`: somebody has committed it by hand.
    HeuristicCommit = 7 "XA_HEURCOM",
    /// `XA_HEURRB`: somebody has rolled it back by hand.
    HeuristicRollback = 6 "XA_HEURRB",
    /// `XA_HEURMIX`: somebody has committed a part of it by hand and rolled back the rest.
    HeuristicMixed = 5 "XA_HEURMIX",
    /// `XA_RETRY`: it did not work this time; the branch is as it was.
    Retry = 4 "XA_RETRY",
    /// `XA_RDONLY`: there was nothing to commit.
    ReadOnly = 3 "XA_RDONLY",
    /// `XAER_ASYNC`: something is under way already.
    Async = -2 "XAER_ASYNC",
    /// `XAER_RMERR`: an error in the broker.
    ResourceManager = -3 "XAER_RMERR",
    /// `XAER_NOTA`: the broker does not know such a branch: it was never begun, or it is over.
    UnknownXid = -4 "XAER_NOTA",
    /// `XAER_INVAL`: an argument that cannot be.
    Invalid = -5 "XAER_INVAL",
    /// `XAER_PROTO`: not now, such as a second phase without a first.
    Protocol = -6 "XAER_PROTO",
    /// `XAER_RMFAIL`: the broker cannot be reached, or does not answer. The branch may be in any state.
    Unavailable = -7 "XAER_RMFAIL",
    /// `XAER_DUPID`: there is such a branch already.
    Duplicate = -8 "XAER_DUPID",
    /// `XAER_OUTSIDE`: there is work outside of the transaction.
    Outside = -9 "XAER_OUTSIDE",
}

impl XaCode {
    /// The branch is rolled back (`XA_RBBASE` to `XA_RBEND`).
    pub fn is_rolled_back(self) -> bool {
        (100..=107).contains(&self.value())
    }

    /// Somebody has decided, or may have, without the transaction manager: [`XaSession::forget`](super::XaSession::forget)
    /// it then.
    pub fn is_heuristic(self) -> bool {
        (5..=8).contains(&self.value())
    }

    pub(crate) fn kind(self) -> ErrorKind {
        match self.is_rolled_back() {
            true => ErrorKind::TransactionRolledBack,
            false => ErrorKind::Xa,
        }
    }

    /// The code that an exception of a broker stands for.
    pub(crate) fn of_throwable(throwable: &Throwable) -> Option<Self> {
        if throwable.simple_class() != "XAException" {
            return None;
        }
        let code = throwable.message.as_deref().and_then(|message| {
            let (_, rest) = message.split_once(MARKER)?;
            let end = rest
                .char_indices()
                .find(|&(at, c)| !(c.is_ascii_digit() || (at == 0 && c == '-')))
                .map_or(rest.len(), |(at, _)| at);
            rest[..end].parse().ok()
        });
        Some(code.map_or(Self::ResourceManager, Self::from_value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn the_code_of_an_exception_stands_in_its_text() {
        let code = |class: &str, text: &str| Error::from_throwable(Throwable::new(class, text)).xa_code();
        let class = "javax.transaction.xa.XAException";
        assert_eq!(
            code(class, "Transaction 'XID' has not been started. xaErrorCode:-4"),
            Some(XaCode::UnknownXid)
        );
        assert_eq!(
            code(class, "xaErrorCode:104 and more"),
            Some(XaCode::RolledBackOther)
        );
        assert_eq!(code(class, "xaErrorCode:-"), Some(XaCode::ResourceManager));
        assert_eq!(code(class, "nothing"), Some(XaCode::ResourceManager));
        assert_eq!(code("javax.jms.JMSException", "xaErrorCode:-4"), None);
    }

    #[test]
    fn an_error_that_rolls_back_says_so() {
        assert!(Error::xa(XaCode::RolledBackConnection, "x").is_rolled_back());
        assert!(!Error::xa(XaCode::UnknownXid, "x").is_rolled_back());
    }

    #[test]
    fn every_number_is_the_code_it_came_from() {
        for value in -10..120 {
            assert_eq!(XaCode::from_value(value).value(), value);
        }
    }
}
