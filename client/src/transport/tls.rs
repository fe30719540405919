//! TLS.

use super::stream::Stream;
use crate::error::{Error, ErrorKind, Result};
use crate::uri::Endpoint;

/// Whom to trust and who to be: what `ssl:` connections need besides their URI.
///
/// The default trusts the system's authorities and presents no certificate.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {}

pub(super) async fn connect(endpoint: &Endpoint, _tls: &TlsOptions) -> Result<Stream> {
    Err(Error::new(ErrorKind::Unsupported, format!("{endpoint}: no TLS")))
}
