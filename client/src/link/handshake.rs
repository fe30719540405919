//! The way to a broker, and the first frame each way.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::physical::Physical;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{self, ReadHalf, TlsOptions, WriteHalf};
use crate::uri::Endpoint;
use crate::wire::{Command, Decoder, Encoder, WireFormat, negotiate};

/// Connects and negotiates, each within the time the endpoint gives it.
///
/// Cancel safe: dropping the future closes what it opened.
///
/// # Errors
///
/// As [`transport::connect`] and [`handshake`].
pub(super) async fn dial(endpoint: &Endpoint, tls: &TlsOptions) -> Result<Physical> {
    let (mut reader, mut writer) = transport::connect(endpoint, tls).await?.into_split();
    let mut input = BytesMut::new();
    let agreed = within(
        endpoint.negotiation_timeout,
        "waiting for the broker's WireFormatInfo",
        handshake(endpoint, &mut reader, &mut writer, &mut input),
    )
    .await??;
    Ok(Physical::new(endpoint, (reader, writer), agreed, input))
}

/// Waits for `work` no longer than `limit`.
///
/// # Errors
///
/// [`is_timeout`](Error::is_timeout)
pub(super) async fn within<T>(
    limit: Option<Duration>,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T> {
    match limit {
        None => Ok(work.await),
        Some(limit) => tokio::time::timeout(limit, work)
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, format!("{what} took longer than {limit:?}"))),
    }
}

/// Exchanges `WireFormatInfo`s. Returns what was agreed, and leaves what came after in `input`.
///
/// Takes as long as the peer does: the caller has the deadline. Not cancel safe; the connection is spent then.
///
/// # Errors
///
/// The peer does not speak OpenWire, or only versions that are too old, or the connection broke.
async fn handshake(
    endpoint: &Endpoint,
    reader: &mut ReadHalf,
    writer: &mut WriteHalf,
    input: &mut BytesMut,
) -> Result<WireFormat> {
    let ours = &endpoint.wire_format;
    let mut output = BytesMut::new();
    let offer = Command::from(ours.to_info()?);
    Encoder::new(WireFormat::handshake()).encode(&offer, &mut output)?;
    writer.write_all(&output).await?;
    writer.flush().await?;
    let mut decoder = Decoder::new(WireFormat::handshake());
    let theirs = loop {
        match decoder.decode(input)? {
            Some(Command::WireFormatInfo(info)) => break info,
            Some(_) => return Err(refused("the peer sent a command before its WireFormatInfo")),
            None => {}
        }
        if reader.read_buf(input).await? == 0 {
            return Err(Error::new(
                ErrorKind::Io,
                "the peer closed the connection before its WireFormatInfo",
            ));
        }
    };
    if theirs.version < endpoint.minimum_wire_format_version {
        return Err(refused(format!(
            "the peer speaks version {} and {} is the least that is accepted",
            theirs.version, endpoint.minimum_wire_format_version
        )));
    }
    let agreed = negotiate(ours, &theirs)?;
    if endpoint.socket.tcp_no_delay.unwrap_or(agreed.tcp_no_delay) {
        writer.set_nodelay(true)?;
    }
    Ok(agreed)
}

fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Protocol, why)
}
