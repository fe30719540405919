//! One task a connection: it reads, takes turns of the core, encodes and writes.
//!
//! Both directions are polled by one task, so a reply to a request leaves in the same wake-up that read the
//! request, and neither direction waits for the other.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use openwire_client::wire::{
    Command, ConnectionError, ConnectionInfo, Decoder, Encoder, ExceptionResponse, KeepAliveInfo, Throwable,
    WireError, WireFormat,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::driver::Driver;
use super::outbox::{Flow, Outbox, is_reply};
use super::{Server, count};
use crate::core::ConnectionKey;
use crate::ha::Lost;
use crate::protocol::openwire::{Beat, Heartbeat, Input};
use crate::security::{Caller, LoginError, Principal};
use crate::store::Store;

/// Commands handed to the core in one turn. A read buffer full of the smallest commands holds more; others
/// shall get their turn in between.
const COMMANDS_PER_TURN: usize = 512;

/// Encoded bytes that wait for the socket; commands beyond it stay commands. One large system call costs
/// less than many, but past this size nothing is gained.
const OUTPUT: usize = 256 * 1024;

/// A client that sends requests and does not read the replies is not read any further beyond so many of
/// them. Dispatches do not count: credit bounds them, and stopping to read would keep their
/// acknowledgements from coming.
const UNREAD_REPLIES: usize = 4096;

/// While fewer bytes wait for the disk, the store need not be asked whether it can take more: what limit it
/// has is larger.
const STORE_BACKLOG: usize = 1024 * 1024;

/// How long a connection that does not say who it is is held.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// How long the last commands may take to be written when a connection is closed.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// How long a client that was told to go may take to close its end. Closing ours while its bytes still
/// arrive would reset the connection, and what it was told would be lost.
const LINGER: Duration = Duration::from_secs(1);

/// Something that is waited for between polls.
type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An established connection.
pub(crate) struct Connection<S> {
    io: S,
    server: Arc<Server>,
    driver: Arc<Driver>,
    key: ConnectionKey,
    outbox: Arc<Outbox>,

    decoder: Decoder,
    input: Input,
    /// There may be a whole frame in `input`.
    undecoded: bool,
    commands: Vec<Command>,
    /// It is being looked at whether this broker still is master.
    mastership: Option<Waiting<Result<(), Lost>>>,
    /// The store has to catch up before more is read.
    store_ready: Option<Waiting<()>>,
    caller: Caller,
    /// The client has said who it is, or need not.
    authenticated: bool,
    /// It is being looked at who the client is; nothing is read meanwhile.
    introduction: Option<Introduction>,

    encoder: Encoder,
    /// Taken from the outbox, not encoded yet.
    pending: VecDeque<Command>,
    /// Replies encoded since the outbox was told.
    encoded_replies: usize,
    output: BytesMut,
    unflushed: bool,

    heartbeat: Option<Heartbeat>,
    keep_alive: bool,
    stage: Stage,
    timer: Pin<Box<Sleep>>,
}

/// A client says who it is.
struct Introduction {
    info: Box<ConnectionInfo>,
    login: Waiting<Result<Principal, LoginError>>,
}

/// Where in its life a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// It was not let in: nothing is read any more, and then it is closed.
    Refused {
        until: Instant,
    },
    /// The last commands are being written.
    Closing {
        by: Instant,
    },
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The client closed it.
    Gone,
    /// We closed it, and everything was written.
    Closed,
    /// The client sent nothing for too long.
    Silent(Duration),
    /// The client took nothing any more when it was to be closed.
    Stuck,
    Io(io::Error),
    Wire(WireError),
    /// The client did what the protocol does not have.
    Protocol(&'static str),
    /// The broker may not serve anybody any more, not even with what was to be written.
    NotMaster(Lost),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the client closed it"),
            Self::Closed => f.write_str("closed"),
            Self::Silent(limit) => write!(f, "nothing came from the client for {limit:?}"),
            Self::Stuck => f.write_str("the client does not read"),
            Self::Io(error) => error.fmt(f),
            Self::Wire(error) => error.fmt(f),
            Self::Protocol(what) => f.write_str(what),
            Self::NotMaster(lost) => lost.fmt(f),
        }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// Reports the connection lost, however its task ends.
struct Registration {
    driver: Arc<Driver>,
    key: ConnectionKey,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.driver.lost(self.key);
    }
}

/// How a listener wants its connections to be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeping {
    pub(crate) inactivity_monitor: bool,
    pub(crate) keep_alive: bool,
    /// For how long the outcomes of transactions are kept, as the client was told, in milliseconds.
    pub(crate) outcomes_kept: i64,
}

/// Serves a client that has agreed on a wire format, until either end closes the connection.
pub(crate) async fn serve<S>(
    io: S,
    server: Arc<Server>,
    peer: &str,
    caller: Caller,
    format: WireFormat,
    input: Input,
    keeping: Keeping,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let driver = server.driver.clone();
    let outbox = Arc::new(Outbox::new());
    let Some(key) = driver.open(peer, &outbox, keeping.outcomes_kept) else {
        return;
    };
    let registration = Registration {
        driver: driver.clone(),
        key,
    };
    debug!(peer, version = format.version, tight = format.tight, "connected");
    let now = Instant::now();
    let authenticated = server.users.is_open();
    if authenticated && let Some(anonymous) = server.users.anonymous() {
        driver.authenticated(key, anonymous);
    }
    let mut connection = Connection {
        io,
        caller,
        authenticated,
        introduction: None,
        server,
        driver,
        key,
        outbox: outbox.clone(),
        decoder: Decoder::new(format.clone()),
        input,
        undecoded: true,
        commands: Vec::new(),
        mastership: None,
        store_ready: None,
        heartbeat: if keeping.inactivity_monitor {
            Heartbeat::new(now, &format)
        } else {
            None
        },
        keep_alive: keeping.keep_alive,
        encoder: Encoder::new(format),
        pending: VecDeque::new(),
        encoded_replies: 0,
        output: BytesMut::new(),
        unflushed: false,
        stage: Stage::Open,
        timer: Box::pin(sleep_until(now)),
    };
    let end = poll_fn(|cx| connection.poll(cx)).await;
    // What it had goes to others before we say goodbye.
    drop(registration);
    match &end {
        End::Closed => {
            let reason = outbox.reason().unwrap_or_else(|| "it was refused".into());
            debug!(peer, reason, "closed");
            connection.say_goodbye().await;
        }
        End::Wire(_) | End::Protocol(_) => warn!(peer, "connection failed: {end}"),
        _ => debug!(peer, "connection ended: {end}"),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.try_poll(cx).map(|Err(end)| end)
    }

    /// Does what can be done, and goes to sleep once nothing can. Does not starve others: tokio's budget
    /// makes reads and writes that succeed over and over pend in the end.
    fn try_poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Infallible, End>> {
        loop {
            if !self.poll_mastership(cx)? {
                return Poll::Pending;
            }
            let encoded = std::mem::take(&mut self.encoded_replies);
            let (flow, unread_replies, relieved) = self.outbox.take(&mut self.pending, encoded);
            if relieved {
                self.driver.relieved(self.key);
            }
            let Some(wrote) = self.poll_write(cx)? else {
                continue;
            };
            match self.stage {
                Stage::Closing { .. } if self.written() => return Poll::Ready(Err(End::Closed)),
                Stage::Closing { .. } => {}
                _ if flow == Flow::Closing => {
                    self.close();
                    continue;
                }
                _ => {}
            }
            let introduced = self.poll_introduction(cx);
            let reads = matches!(flow, Flow::Reading | Flow::Draining);
            let read = reads && unread_replies <= UNREAD_REPLIES && self.poll_read(cx)?;
            if flow == Flow::Draining && !read {
                self.outbox.drained();
            }
            if (flow != Flow::Reading || self.introduction.is_some())
                && let Some(heartbeat) = &mut self.heartbeat
            {
                // It is not the client that is silent.
                heartbeat.read();
            }
            if introduced || wrote || read || self.poll_timer(cx)? {
                continue;
            }
            let takes = self.pending.is_empty();
            if self.outbox.sleep(cx.waker(), takes, flow) {
                return Poll::Pending;
            }
        }
    }

    /// True while this broker is master. If its lease has passed, nothing is done until it is renewed.
    fn poll_mastership(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mastership = &self.server.lease;
        if mastership.is_current() {
            self.mastership = None;
            return Ok(true);
        }
        let current = self.mastership.get_or_insert_with(|| {
            let mastership = mastership.clone();
            Box::pin(async move { mastership.current().await })
        });
        match current.as_mut().poll(cx) {
            Poll::Ready(held) => {
                self.mastership = None;
                held.map_err(End::NotMaster)?;
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }

    /// Reads nothing more and ends once everything is written.
    fn close(&mut self) {
        self.stage = Stage::Closing {
            by: Instant::now() + LAST_WRITE,
        };
    }

    /// Everything that was to be sent is on its way.
    fn written(&self) -> bool {
        self.pending.is_empty() && self.output.is_empty() && !self.unflushed
    }

    /// Encodes what waits and writes it. True if something was written; none if the lease has passed meanwhile.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<Option<bool>, End> {
        let mut wrote = false;
        loop {
            while self.output.len() < OUTPUT
                && let Some(command) = self.pending.pop_front()
            {
                self.encoder.encode(&command, &mut self.output)?;
                if is_reply(&command) {
                    self.encoded_replies += 1;
                }
                if !matches!(command, Command::KeepAliveInfo(_))
                    && let Some(heartbeat) = &mut self.heartbeat
                {
                    heartbeat.wrote();
                }
            }
            if self.output.is_empty() {
                break;
            }
            // To encode takes a while, in which the process may have been stopped for as long as the lease was.
            if !self.server.lease.is_current() {
                return Ok(None);
            }
            match pin!(self.io.write_buf(&mut self.output)).poll(cx)? {
                Poll::Ready(0) => return Err(End::Io(io::ErrorKind::WriteZero.into())),
                Poll::Ready(_) => {
                    wrote = true;
                    self.unflushed = true;
                }
                Poll::Pending => return Ok(Some(wrote)),
            }
        }
        // A large message must not keep its size in memory for as long as the connection lives.
        if self.output.capacity() > 2 * OUTPUT {
            self.output = BytesMut::new();
        }
        if self.unflushed && pin!(self.io.flush()).poll(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(Some(wrote))
    }

    /// Reads once, decodes, and takes a turn. True if there may be more at once.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.stage != Stage::Open || self.introduction.is_some() {
            return Ok(false);
        }
        if !self.poll_store(cx) {
            if let Some(heartbeat) = &mut self.heartbeat {
                heartbeat.read();
            }
            return Ok(false);
        }
        if !self.undecoded {
            match pin!(self.io.read_buf(self.input.room())).poll(cx)? {
                Poll::Ready(0) => return Err(End::Gone),
                Poll::Ready(_) => {
                    if let Some(heartbeat) = &mut self.heartbeat {
                        heartbeat.read();
                    }
                }
                Poll::Pending => return Ok(false),
            }
        }
        self.undecoded = true;
        let result = self.decode();
        // What came before an error in the same read is taken as if it had come alone.
        self.driver.handle(self.key, &mut self.commands);
        result?;
        Ok(true)
    }

    /// True if the store can take more.
    fn poll_store(&mut self, cx: &mut Context<'_>) -> bool {
        let busy = |store: &&Arc<dyn Store>| store.backlog() > STORE_BACKLOG;
        if self.store_ready.is_none()
            && let Some(store) = self.driver.stores().find(busy)
        {
            let store = store.clone();
            self.store_ready = Some(Box::pin(async move { store.ready().await }));
        }
        if let Some(ready) = &mut self.store_ready {
            if ready.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.store_ready = None;
        }
        true
    }

    /// Decodes commands for a turn.
    fn decode(&mut self) -> Result<(), End> {
        while self.commands.len() < COMMANDS_PER_TURN {
            let Some(command) = self.decoder.decode(&mut self.input.buffer)? else {
                self.undecoded = false;
                return Ok(());
            };
            if let Some(command) = self.accept(command)? {
                self.commands.push(command);
            }
            if self.stage != Stage::Open || self.introduction.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Deals with what is the server's affair and passes the rest on.
    fn accept(&mut self, command: Command) -> Result<Option<Command>, End> {
        match command {
            Command::KeepAliveInfo(keep_alive) => {
                if keep_alive.response_required {
                    self.send(KeepAliveInfo {
                        response_required: false,
                        ..keep_alive
                    });
                }
                Ok(None)
            }
            Command::WireFormatInfo(_) => Err(End::Protocol("a second WireFormatInfo")),
            Command::ConnectionInfo(info) => Ok(self.introduce(info)),
            command if self.authenticated => Ok(Some(command)),
            command => {
                self.refuse(&command, "the connection has not said who it is", REFUSED_FOR);
                Ok(None)
            }
        }
    }

    /// Begins to look at who the client is, unless that is settled.
    fn introduce(&mut self, mut info: Box<ConnectionInfo>) -> Option<Command> {
        // Nobody behind the server needs it.
        let password = info.password.take();
        if self.authenticated {
            return Some(info.into());
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let login = self.server.users.clone().login(
            self.caller.clone(),
            owned(info.user_name.as_deref()),
            owned(password.as_deref()),
        );
        self.introduction = Some(Introduction {
            info,
            login: Box::pin(login),
        });
        None
    }

    /// Hands the client's introduction on once it is known who it is. True if something came of it.
    fn poll_introduction(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(introduction) = &mut self.introduction else {
            return false;
        };
        let Poll::Ready(result) = introduction.login.as_mut().poll(cx) else {
            return false;
        };
        let Some(Introduction { mut info, .. }) = self.introduction.take() else {
            return false;
        };
        match result {
            Ok(principal) => {
                self.authenticated = true;
                // As ActiveMQ does where it is not the client who says it: without a name, or with a certificate.
                info.user_name = Some(principal.user().clone());
                self.driver.authenticated(self.key, principal);
                self.driver.handle(self.key, &mut vec![info.into()]);
            }
            Err(error) => {
                count(&self.server.counters.failed_authentications);
                if error == LoginError::TooMany {
                    count(&self.server.counters.throttled_authentications);
                }
                self.refuse(&info.into(), &error.to_string(), Duration::ZERO);
            }
        }
        true
    }

    /// Tells the client that it is not let in, and begins to get rid of it.
    fn refuse(&mut self, command: &Command, why: &str, hold: Duration) {
        let exception = Some(Throwable::new("java.lang.SecurityException", why));
        let answer: Command = if command.response_required() {
            Box::new(ExceptionResponse {
                correlation_id: command.command_id(),
                exception,
                ..ExceptionResponse::default()
            })
            .into()
        } else {
            Box::new(ConnectionError {
                exception,
                ..ConnectionError::default()
            })
            .into()
        };
        self.send(answer);
        self.stage = Stage::Refused {
            until: Instant::now() + hold,
        };
    }

    /// Sends something of our own. This task is awake, so there is nobody to wake.
    fn send(&self, command: impl Into<Command>) {
        drop(self.outbox.push(command.into()));
    }

    /// Does what time brings about and sets the timer. True if there is something to write now.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        loop {
            let now = Instant::now();
            let mut deadline = match self.stage {
                Stage::Open => None,
                Stage::Refused { until } if now >= until => {
                    self.close();
                    return Ok(true);
                }
                Stage::Closing { by } if now >= by => return Err(End::Stuck),
                Stage::Refused { until: at } | Stage::Closing { by: at } => Some(at),
            };
            if let Some(heartbeat) = &mut self.heartbeat {
                match heartbeat.check(now) {
                    Beat::Nothing => {}
                    Beat::Dead => return Err(End::Silent(heartbeat.duration())),
                    Beat::Send => {
                        self.release_buffers();
                        if self.keep_alive {
                            self.send(KeepAliveInfo::default());
                            return Ok(true);
                        }
                        continue;
                    }
                }
                let next = heartbeat.deadline();
                deadline = Some(deadline.map_or(next, |at| at.min(next)));
            }
            let Some(deadline) = deadline else {
                return Ok(false);
            };
            if self.timer.deadline() != deadline {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(false);
            }
        }
    }

    /// The connection is idle: it does not need the memory of its busy times.
    fn release_buffers(&mut self) {
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
        self.input.release();
    }

    /// Ends our direction and waits a while for the client to end its own.
    async fn say_goodbye(&mut self) {
        let mut stop = self.server.stop.clone();
        let goodbye = async {
            self.io.shutdown().await?;
            let mut rest = [0; 1024];
            while self.io.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // The connection is over in any case.
        tokio::select! {
            biased;
            _ = timeout(LINGER, goodbye) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use openwire_client::wire::{BrokerId, WireFormatOptions};
    use tokio::io::{AsyncWriteExt, DuplexStream, ReadBuf};
    use tokio::sync::watch;

    use super::*;
    use crate::core::{AdvisoryOptions, Core, CoreConfig, OutcomeLimits, UserIds};
    use crate::protocol::openwire::{OutcomesKept, handshake};
    use crate::security::{Authenticator, Settings};
    use crate::server::{Counters, Stores};
    use crate::store::Recovered;
    use crate::store::memory::MemoryStore;

    async fn server() -> (Arc<Server>, watch::Sender<bool>) {
        let core = Core::new(
            0,
            CoreConfig {
                broker_name: "test".into(),
                broker_id: BrokerId::default(),
                broker_url: "vm://test".into(),
                stored: false,
                resident_limit: 0,
                memory_limit: usize::MAX,
                temp_limit: None,
                outcomes: OutcomeLimits::default(),
                rules: Arc::default(),
                authorization: None,
                user_ids: UserIds::default(),
                max_uncommitted: 0,
                advisories: AdvisoryOptions::default(),
                statistics: None,
            },
            Recovered::default(),
        );
        let (driver, completions) = Driver::new(
            core,
            Stores {
                main: Arc::new(MemoryStore::new()),
                temp: None,
            },
        );
        tokio::spawn(driver.clone().run(completions));
        let (stop, stopping) = watch::channel(false);
        let server = Arc::new(Server {
            driver,
            users: Arc::new(Authenticator::new(Settings::default()).await.unwrap()),
            counters: Counters::default(),
            store_identity: "test".into(),
            lease: crate::ha::Lease::endless(0),
            stop: stopping,
        });
        (server, stop)
    }

    const KEEPING: Keeping = Keeping {
        inactivity_monitor: true,
        keep_alive: true,
        outcomes_kept: 0,
    };

    /// Both ends of a connection that have agreed on a wire format.
    struct Met {
        ours: DuplexStream,
        format: WireFormat,
        input: Input,
        client: DuplexStream,
        greeted: (WireFormat, Input),
    }

    async fn meet(mut client: DuplexStream, mut ours: DuplexStream) -> Met {
        let mut options = WireFormatOptions::default();
        options.max_inactivity_duration = 0;
        let kept = OutcomesKept {
            store: "test".into(),
            millis: 0,
        };
        let (accepted, greeted) = tokio::join!(
            handshake(&mut ours, &options, &kept),
            handshake(&mut client, &options, &kept)
        );
        let (format, input) = accepted.unwrap();
        Met {
            ours,
            format,
            input,
            client,
            greeted: greeted.unwrap(),
        }
    }

    /// Takes a single byte, and then the lease has passed.
    struct Losing {
        io: DuplexStream,
        lease: crate::ha::Lease,
        writes: Arc<AtomicUsize>,
    }

    impl AsyncRead for Losing {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Losing {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            self.lease.lose("another took it");
            Pin::new(&mut self.io).poll_write(cx, &bytes[..1])
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn nothing_more_is_written_once_the_lease_has_passed() {
        let (client, ours) = tokio::io::duplex(1024);
        let (server, _stop) = server().await;
        let mut met = meet(client, ours).await;
        let writes = Arc::new(AtomicUsize::new(0));
        let io = Losing {
            io: met.ours,
            lease: server.lease.clone(),
            writes: writes.clone(),
        };
        let asks = KeepAliveInfo {
            response_required: true,
            ..KeepAliveInfo::default()
        };
        let mut request = BytesMut::new();
        Encoder::new(met.greeted.0)
            .encode(&asks.into(), &mut request)
            .unwrap();
        met.client.write_all_buf(&mut request).await.unwrap();
        let served = serve(
            io,
            server,
            "test",
            Caller::default(),
            met.format,
            met.input,
            KEEPING,
        );
        timeout(Duration::from_secs(30), served).await.unwrap();
        assert_eq!(writes.load(Ordering::Relaxed), 1);
    }

    /// Time stands still until nobody can do anything more, so the time-out says that they are stuck.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_reads_is_not_read_for_ever() {
        const REQUESTS: usize = 100_000;
        let (client, ours) = tokio::io::duplex(1024);
        let (server, _stop) = server().await;
        let Met {
            ours,
            format,
            input,
            client,
            greeted,
        } = meet(client, ours).await;
        tokio::spawn(
            async move { serve(ours, server, "test", Caller::default(), format, input, KEEPING).await },
        );

        let (format, mut input) = greeted;
        let (mut from_broker, mut to_broker) = tokio::io::split(client);
        let mut encoder = Encoder::new(format.clone());
        let mut flood = tokio::spawn(async move {
            let mut request = BytesMut::new();
            for _ in 0..REQUESTS {
                let asks = KeepAliveInfo {
                    response_required: true,
                    ..KeepAliveInfo::default()
                };
                encoder.encode(&asks.into(), &mut request).unwrap();
                to_broker.write_all_buf(&mut request).await.unwrap();
            }
            to_broker
        });
        let stuck = timeout(Duration::from_secs(3600), &mut flood).await;
        assert!(stuck.is_err(), "the broker took everything");

        // It is not lost: as soon as it reads, everything goes on.
        let mut decoder = Decoder::new(format);
        let mut answers = 0;
        while answers < REQUESTS {
            while let Some(command) = decoder.decode(&mut input.buffer).unwrap() {
                answers += usize::from(matches!(command, Command::KeepAliveInfo(_)));
            }
            let more = timeout(Duration::from_secs(3600), from_broker.read_buf(input.room())).await;
            assert!(answers == REQUESTS || more.expect("the answers do not come").unwrap() > 0);
        }
        flood.await.unwrap();
    }
}
