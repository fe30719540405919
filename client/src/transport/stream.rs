//! One type for the streams of all transports.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::Sleep;

#[cfg(feature = "tls")]
use super::tls::{SharedTls, TlsStream};

/// An open connection.
#[derive(Debug)]
pub struct Stream {
    pub(super) inner: Inner,
    write_timeout: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Inner {
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
    Vm(DuplexStream),
}

/// The reading half of a [`Stream`]. The connection is closed when both halves are dropped.
#[derive(Debug)]
pub struct ReadHalf(ReadInner);

#[derive(Debug)]
enum ReadInner {
    Tcp(OwnedReadHalf),
    #[cfg(feature = "tls")]
    Tls(SharedTls),
    Vm(tokio::io::ReadHalf<DuplexStream>),
}

/// The writing half of a [`Stream`]. To shut it down tells the peer that nothing more comes.
///
/// Writing fails with [`io::ErrorKind::TimedOut`] when the peer takes nothing for the endpoint's
/// [`so_write_timeout`](crate::uri::SocketOptions::so_write_timeout).
#[derive(Debug)]
pub struct WriteHalf {
    pub(super) inner: WriteInner,
    timeout: Option<Duration>,
    /// Runs while a write waits for the peer.
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
pub(super) enum WriteInner {
    Tcp(OwnedWriteHalf),
    #[cfg(feature = "tls")]
    Tls(SharedTls),
    Vm(tokio::io::WriteHalf<DuplexStream>),
}

impl Stream {
    pub(super) fn new(inner: Inner, write_timeout: Option<Duration>) -> Self {
        Self { inner, write_timeout }
    }

    /// The socket below, if there is one: there is none within the same process.
    pub(super) fn socket(&self) -> Option<&TcpStream> {
        match &self.inner {
            Inner::Tcp(stream) => Some(stream),
            #[cfg(feature = "tls")]
            Inner::Tls(stream) => Some(stream.get_ref().0),
            Inner::Vm(_) => None,
        }
    }

    /// The address of the peer; none for `vm:`.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.socket().and_then(|socket| socket.peer_addr().ok())
    }

    /// The local address; none for `vm:`.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.socket().and_then(|socket| socket.local_addr().ok())
    }

    /// Sets `TCP_NODELAY`, where there is TCP.
    ///
    /// # Errors
    ///
    /// What the operating system answers.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket().map_or(Ok(()), |socket| socket.set_nodelay(nodelay))
    }

    /// Both halves, each to be owned by whoever needs it.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        let (read, inner) = match self.inner {
            Inner::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadInner::Tcp(read), WriteInner::Tcp(write))
            }
            #[cfg(feature = "tls")]
            Inner::Tls(stream) => {
                let (read, write) = SharedTls::split(*stream);
                (ReadInner::Tls(read), WriteInner::Tls(write))
            }
            Inner::Vm(stream) => {
                let (read, write) = tokio::io::split(stream);
                (ReadInner::Vm(read), WriteInner::Vm(write))
            }
        };
        let write = WriteHalf {
            inner,
            timeout: self.write_timeout,
            timer: None,
        };
        (ReadHalf(read), write)
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            ReadInner::Tcp(half) => Pin::new(half).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            ReadInner::Tls(half) => Pin::new(half).poll_read(cx, buf),
            ReadInner::Vm(half) => Pin::new(half).poll_read(cx, buf),
        }
    }
}

impl WriteHalf {
    /// As [`Stream::set_nodelay`], for what the negotiation decides after the split.
    ///
    /// # Errors
    ///
    /// What the operating system answers.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match &self.inner {
            WriteInner::Tcp(half) => half.as_ref().set_nodelay(nodelay),
            #[cfg(feature = "tls")]
            WriteInner::Tls(half) => half.set_nodelay(nodelay),
            WriteInner::Vm(_) => Ok(()),
        }
    }

    fn inner(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin)> {
        match &mut self.inner {
            WriteInner::Tcp(half) => Pin::new(half),
            #[cfg(feature = "tls")]
            WriteInner::Tls(half) => Pin::new(half),
            WriteInner::Vm(half) => Pin::new(half),
        }
    }

    /// Polls the stream, for no longer than the timeout at a stretch.
    fn poll_in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut (dyn AsyncWrite + Unpin)>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let done @ Poll::Ready(_) = poll(self.inner(), cx) {
            self.timer = None;
            return done;
        }
        let Some(timeout) = self.timeout else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(timer.as_mut().poll(cx));
        self.timer = None;
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the peer took nothing of what was written for {timeout:?}"),
        )))
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_in_time(cx, |inner, cx| inner.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_in_time(cx, |inner, cx| inner.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.inner {
            WriteInner::Tcp(half) => half.is_write_vectored(),
            #[cfg(feature = "tls")]
            WriteInner::Tls(half) => half.is_write_vectored(),
            WriteInner::Vm(half) => half.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_in_time(cx, |inner, cx| inner.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_in_time(cx, |inner, cx| inner.poll_shutdown(cx))
    }
}
