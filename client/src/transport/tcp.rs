//! TCP.

use tokio::net::TcpStream;

use crate::error::Result;
use crate::uri::Endpoint;

pub(super) async fn connect(endpoint: &Endpoint) -> Result<TcpStream> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    Ok(stream)
}
