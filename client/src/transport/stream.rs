//! One type for the streams of all transports.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// An open connection.
#[derive(Debug)]
pub struct Stream(Inner);

#[derive(Debug)]
enum Inner {
    Tcp(TcpStream),
    Vm(DuplexStream),
}

/// The reading half of a [`Stream`].
#[derive(Debug)]
pub struct ReadHalf(ReadInner);

#[derive(Debug)]
enum ReadInner {
    Tcp(OwnedReadHalf),
    Vm(tokio::io::ReadHalf<DuplexStream>),
}

/// The writing half of a [`Stream`]. Shutting it down, or dropping it, ends the stream for the peer.
#[derive(Debug)]
pub struct WriteHalf(WriteInner);

#[derive(Debug)]
enum WriteInner {
    Tcp(OwnedWriteHalf),
    Vm(tokio::io::WriteHalf<DuplexStream>),
}

impl Stream {
    pub(super) fn tcp(stream: TcpStream) -> Self {
        Self(Inner::Tcp(stream))
    }

    /// The address of the peer, if it has one: there is none in the same process.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Inner::Tcp(stream) => stream.peer_addr().ok(),
            Inner::Vm(_) => None,
        }
    }

    /// The local address, if there is one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Inner::Tcp(stream) => stream.local_addr().ok(),
            Inner::Vm(_) => None,
        }
    }

    /// Sets `TCP_NODELAY`, where there is TCP.
    ///
    /// # Errors
    ///
    /// What the operating system answers.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match &self.0 {
            Inner::Tcp(stream) => stream.set_nodelay(nodelay),
            Inner::Vm(_) => Ok(()),
        }
    }

    /// Both halves, each to be owned by whoever needs it.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self.0 {
            Inner::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf(ReadInner::Tcp(read)), WriteHalf(WriteInner::Tcp(write)))
            }
            Inner::Vm(stream) => {
                let (read, write) = tokio::io::split(stream);
                (ReadHalf(ReadInner::Vm(read)), WriteHalf(WriteInner::Vm(write)))
            }
        }
    }
}

impl WriteHalf {
    /// As [`Stream::set_nodelay`]: what the negotiation decides comes after the split.
    ///
    /// # Errors
    ///
    /// What the operating system answers.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match &self.0 {
            WriteInner::Tcp(write) => write.as_ref().set_nodelay(nodelay),
            WriteInner::Vm(_) => Ok(()),
        }
    }
}

macro_rules! each {
    ($value:expr, $kind:ident, $stream:ident => $do:expr) => {
        match $value {
            $kind::Tcp($stream) => $do,
            $kind::Vm($stream) => $do,
        }
    };
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(&mut self.0, ReadInner, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(&mut self.0, WriteInner, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut self.0, WriteInner, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut self.0, WriteInner, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
