//! Bytes to a broker and back: TCP, TLS, and the pipe to a broker in the same process.

mod stream;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
pub mod vm;

use std::future::Future;
use std::io;

pub use stream::{ReadHalf, Stream, WriteHalf};
pub use tls::TlsOptions;

use crate::error::{Error, ErrorKind, Result};
use crate::uri::{Endpoint, Scheme};
use stream::Inner;

/// Opens the connection that `endpoint` describes.
///
/// Takes no longer than the endpoint's
/// [`connection_timeout`](crate::uri::SocketOptions::connection_timeout), name resolution and the TLS
/// handshake included; for `vm:`, no longer than that and
/// [`wait_for_start`](Endpoint::wait_for_start). Cancel safe: dropping the future closes what it opened.
///
/// # Errors
///
/// [`is_timeout`](Error::is_timeout), [`is_io`](Error::is_io) if nobody is there,
/// [`is_security`](Error::is_security) if a certificate is refused, and
/// [`is_unsupported`](Error::is_unsupported) for `ssl:` in a build without the feature `tls`.
pub async fn connect(endpoint: &Endpoint, tls: &TlsOptions) -> Result<Stream> {
    let inner = match endpoint.scheme {
        Scheme::Tcp => in_time(endpoint, tcp::connect(endpoint)).await.map(Inner::Tcp),
        Scheme::Ssl => in_time(endpoint, tls::connect(endpoint, tls)).await,
        Scheme::Vm => {
            let broker = vm::find(endpoint).await?;
            in_time(endpoint, vm::connect(endpoint, broker))
                .await
                .map(Inner::Vm)
        }
    };
    Ok(Stream::new(inner?, endpoint.socket.so_write_timeout))
}

/// Waits for `attempt` as long as connecting may take.
async fn in_time<T>(endpoint: &Endpoint, attempt: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(limit) = endpoint.socket.connection_timeout else {
        return attempt.await;
    };
    match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(
            ErrorKind::Timeout,
            format!("{endpoint}: no connection within {limit:?}"),
        )),
    }
}

/// What kind of error a transport had.
pub(crate) fn error_kind(error: &io::Error) -> ErrorKind {
    if let Some(kind) = tls::error_kind(error) {
        return kind;
    }
    match error.kind() {
        io::ErrorKind::TimedOut => ErrorKind::Timeout,
        _ => ErrorKind::Io,
    }
}

/// The error of a transport, with whom it was about.
fn failed(endpoint: &Endpoint, what: &str, error: io::Error) -> Error {
    Error::new(error_kind(&error), format!("{endpoint}: {what}: {error}")).with_source(error)
}

#[cfg(test)]
mod tests;
