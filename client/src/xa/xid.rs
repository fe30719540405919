//! The name of a branch.

use std::fmt;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::{TransactionId, XaTransactionId};

/// The longest global transaction id and branch qualifier (`Xid.MAXGTRIDSIZE`, `Xid.MAXBQUALSIZE`).
pub const MAX_PART: usize = 64;

/// Names a branch of a distributed transaction (`javax.transaction.xa.Xid`). The transaction manager makes it.
///
/// ```
/// use openwire_client::xa::Xid;
///
/// # fn main() -> openwire_client::Result<()> {
/// let xid = Xid::new(4660, "order-17", "broker")?;
/// assert_eq!(xid.global_transaction_id(), b"order-17");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Xid {
    id: XaTransactionId,
}

impl Xid {
    /// A branch: which format its parts have (-1 is the null Xid and refused), the transaction, and which branch of it
    /// this is.
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) for a format of -1, an empty global transaction id, or a part of more than
    /// [`MAX_PART`] bytes.
    pub fn new(
        format_id: i32,
        global_transaction_id: impl AsRef<[u8]>,
        branch_qualifier: impl AsRef<[u8]>,
    ) -> Result<Self> {
        let (global, branch) = (global_transaction_id.as_ref(), branch_qualifier.as_ref());
        let wrong = if format_id == -1 {
            Some("a format of -1 names no branch".to_owned())
        } else if global.is_empty() {
            Some("a global transaction id cannot be empty".to_owned())
        } else {
            let length = global.len().max(branch.len());
            (length > MAX_PART).then(|| format!("a part of {length} bytes is longer than {MAX_PART}"))
        };
        match wrong {
            Some(wrong) => Err(Error::new(ErrorKind::Invalid, wrong)),
            None => Ok(Self {
                id: XaTransactionId {
                    format_id,
                    global_transaction_id: Some(Bytes::copy_from_slice(global)),
                    branch_qualifier: Some(Bytes::copy_from_slice(branch)),
                },
            }),
        }
    }

    /// Which format the parts have (`getFormatId`).
    pub fn format_id(&self) -> i32 {
        self.id.format_id
    }

    /// The transaction (`getGlobalTransactionId`).
    pub fn global_transaction_id(&self) -> &[u8] {
        self.id.global_transaction_id.as_deref().unwrap_or_default()
    }

    /// Which branch of it (`getBranchQualifier`).
    pub fn branch_qualifier(&self) -> &[u8] {
        self.id.branch_qualifier.as_deref().unwrap_or_default()
    }

    /// As it stands on the wire.
    pub fn to_wire(&self) -> XaTransactionId {
        self.id.clone()
    }

    pub(super) fn transaction_id(&self) -> TransactionId {
        TransactionId::Xa(self.id.clone())
    }

    /// A branch that a broker names. Its parts are never null here, so that equal branches are equal.
    pub(super) fn from_wire(id: XaTransactionId) -> Self {
        Self {
            id: XaTransactionId {
                format_id: id.format_id,
                global_transaction_id: Some(id.global_transaction_id.unwrap_or_default()),
                branch_qualifier: Some(id.branch_qualifier.unwrap_or_default()),
            },
        }
    }
}

/// As ActiveMQ prints it in its log.
impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.transaction_id(), f)
    }
}

impl fmt::Debug for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_has_parts_of_the_length_that_xa_allows() {
        let longest = [7; MAX_PART];
        let xid = Xid::new(0, longest, longest).unwrap();
        assert_eq!(
            (xid.global_transaction_id(), xid.branch_qualifier()),
            (&longest[..], &longest[..])
        );
        for (format, global, branch) in [
            (-1, vec![1], vec![]),
            (0, vec![], vec![1]),
            (0, vec![1; MAX_PART + 1], vec![]),
            (0, vec![1], vec![1; MAX_PART + 1]),
        ] {
            let error = Xid::new(format, global, branch).unwrap_err();
            assert!(error.is_invalid(), "{error}");
        }
    }

    #[test]
    fn null_and_empty_are_the_same_branch() {
        let ours = Xid::new(1, "g", "").unwrap();
        let theirs = Xid::from_wire(XaTransactionId {
            branch_qualifier: None,
            ..ours.to_wire()
        });
        assert_eq!(ours, theirs);
    }
}
