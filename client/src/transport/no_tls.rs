//! What stands in for TLS in a build without it.

use std::io;

use super::stream::Inner;
use crate::error::{Error, ErrorKind, Result};
use crate::uri::Endpoint;

/// Whom to trust and who to be, for `ssl:` URIs; there are none in a build without the feature `tls`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TlsOptions {}

pub(super) async fn connect(endpoint: &Endpoint, _: &TlsOptions) -> Result<Inner> {
    let what = format!("{endpoint}: this build of the library has no TLS: its feature tls is off");
    Err(Error::new(ErrorKind::Unsupported, what))
}

pub(super) fn error_kind(_: &io::Error) -> Option<ErrorKind> {
    None
}
