//! What can be wrong with bytes from a peer, or with a command that shall become bytes.

use std::fmt;

/// A frame that could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError(Box<Inner>);

/// Behind a pointer, because every field that is read comes in a `Result` with this in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    kind: WireErrorKind,
    detail: String,
}

/// The kinds of [`WireError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireErrorKind {
    /// A value ends after its frame does.
    Truncated,
    /// A frame has bytes left over.
    Trailing,
    /// A frame is larger than the limit.
    FrameTooLarge,
    /// A type id or a tag that does not exist, or does not fit where it stands.
    UnexpectedType,
    /// A length, count or index that cannot be, or more nulls in arrays than make sense.
    Invalid,
    /// Structures nested deeper than the limit.
    TooDeep,
    /// A string that is not modified UTF-8.
    Text,
    /// The peer cannot be talked to: bad magic, version too low, a property of the wrong type.
    Negotiation,
    /// A value that the encoding has no room for, such as a string over its length limit, or more of them
    /// than a limit allows.
    TooLong,
    /// A compressed body that does not inflate, or inflates past the limit.
    Compression,
}

impl WireError {
    pub(crate) fn new(kind: WireErrorKind, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            detail: detail.into(),
        }))
    }

    pub(crate) fn truncated() -> Self {
        Self::new(WireErrorKind::Truncated, "a value ends after its frame")
    }

    pub(crate) fn unexpected_type(id: u8, place: &str) -> Self {
        Self::new(
            WireErrorKind::UnexpectedType,
            format!("type id {id} where {place} belongs"),
        )
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(WireErrorKind::Invalid, detail)
    }

    /// What kind of error this is.
    pub fn kind(&self) -> WireErrorKind {
        self.0.kind
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.0.kind {
            WireErrorKind::Truncated => "truncated frame",
            WireErrorKind::Trailing => "bytes left over in a frame",
            WireErrorKind::FrameTooLarge => "frame too large",
            WireErrorKind::UnexpectedType => "unexpected type",
            WireErrorKind::Invalid => "invalid value",
            WireErrorKind::TooDeep => "structures nested too deeply",
            WireErrorKind::Text => "malformed text",
            WireErrorKind::Negotiation => "negotiation failed",
            WireErrorKind::TooLong => "value too long",
            WireErrorKind::Compression => "malformed compressed body",
        };
        write!(f, "{what}: {}", self.0.detail)
    }
}

impl std::error::Error for WireError {}
