//! The options of a URI.

/// The options behind the `?` of a URI.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {}
