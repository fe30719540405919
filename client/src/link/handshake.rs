//! The first frame each way.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::{Error, ErrorKind, Result};
use crate::transport::{ReadHalf, WriteHalf};
use crate::uri::Endpoint;
use crate::wire::{Command, Decoder, Encoder, WireFormat, negotiate};

/// Exchanges `WireFormatInfo`s. Returns what was agreed, and leaves what came after in `input`.
///
/// Takes as long as the peer does: the caller has the deadline. Not cancel safe; the connection is spent then.
///
/// # Errors
///
/// The peer does not speak OpenWire, or only versions that are too old, or the connection broke.
pub(super) async fn handshake(
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
