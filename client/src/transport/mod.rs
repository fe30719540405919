//! Bytes to a broker and back: TCP, TLS, and the pipe to a broker in the same process.

mod stream;
mod tcp;
mod tls;
pub mod vm;

pub use stream::{ReadHalf, Stream, WriteHalf};
pub use tls::TlsOptions;

use crate::error::Result;
use crate::uri::{Endpoint, Scheme};

/// Opens the connection that `endpoint` describes.
///
/// Takes no longer than the endpoint's
/// [`connection_timeout`](crate::uri::SocketOptions::connection_timeout), name resolution and the TLS
/// handshake included. Cancel safe: dropping the future closes what it opened.
///
/// # Errors
///
/// [`is_timeout`](crate::Error::is_timeout), [`is_io`](crate::Error::is_io) if nobody is there,
/// [`is_security`](crate::Error::is_security) if a certificate is refused, and
/// [`is_unsupported`](crate::Error::is_unsupported) for `ssl:` in a build without the feature `tls`.
pub async fn connect(endpoint: &Endpoint, tls: &TlsOptions) -> Result<Stream> {
    match endpoint.scheme {
        Scheme::Tcp => tcp::connect(endpoint).await.map(Stream::tcp),
        Scheme::Ssl => tls::connect(endpoint, tls).await,
        Scheme::Vm => vm::connect(endpoint).await,
    }
}
