//! `--health`: answers whoever has to know whether this broker serves, a load balancer or an orchestrator, over HTTP.
//!
//! It is there as long as the process is, so a standby answers as well. `/healthz` is always 200; `/readyz` is 200 if the
//! broker serves, and 503 otherwise. The body says what it does.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

/// Nobody who asks this has more to say.
const MAX_REQUEST: u64 = 8 * 1024;

/// How long one may take to ask and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who asks at the same time; others wait in the system's queue.
const ASKING: usize = 32;

/// What the broker of this process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It becomes master and opens its store.
    Starting,
    /// Another one is master, as it is described here.
    StandingBy(String),
    /// It serves.
    Ready,
    /// It answers what it was asked, and takes nothing more.
    Stopping,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::StandingBy(holder) => write!(f, "standing by: {holder}"),
            Self::Ready => f.write_str("ready"),
            Self::Stopping => f.write_str("stopping"),
        }
    }
}

/// What is answered. A clone is the same.
#[derive(Debug, Clone)]
pub(super) struct Health(Arc<Mutex<State>>);

impl Health {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State::Starting)))
    }

    /// Answers with this from now on.
    pub(super) fn set(&self, state: State) {
        *self.0.lock() = state;
    }

    /// Listens on an address such as `127.0.0.1:8162`, and answers as long as the runtime is there. Returns the address, with
    /// the real port.
    pub(super) async fn listen(&self, address: &str) -> io::Result<String> {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?.to_string();
        tokio::spawn(self.clone().run(listener));
        Ok(bound)
    }

    async fn run(self, listener: TcpListener) {
        /// The cause, such as too many open files, passes when others close.
        const PAUSE: Duration = Duration::from_millis(500);
        let asking = Arc::new(Semaphore::new(ASKING));
        // It is never closed.
        while let Ok(permit) = asking.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let health = self.clone();
                    tokio::spawn(async move {
                        match timeout(PATIENCE, health.answer(stream)).await {
                            Ok(Ok(())) => {}
                            Ok(Err(failure)) => debug!("health: {failure}"),
                            Err(_) => debug!("health: somebody took too long"),
                        }
                        drop(permit);
                    });
                }
                Err(failure) => {
                    warn!("health: cannot accept connections now: {failure}");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut request = Vec::new();
        let mut input = (&mut stream).take(MAX_REQUEST);
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            if input.read_buf(&mut request).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let state = self.0.lock().clone();
        let (status, body) = respond(&request, &state);
        let length = body.len() + 1;
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nCache-Control: \
             no-store\r\nConnection: close\r\n\r\n{body}\n"
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }
}

/// The status and the text for a request.
fn respond(request: &[u8], state: &State) -> (&'static str, String) {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match (method, path) {
        (b"GET", b"/healthz") => ("200 OK", state.to_string()),
        (b"GET", b"/readyz") if *state == State::Ready => ("200 OK", state.to_string()),
        (b"GET", b"/readyz") => ("503 Service Unavailable", state.to_string()),
        (b"GET", _) => ("404 Not Found", "there are /healthz and /readyz".to_owned()),
        _ => ("405 Method Not Allowed", "only GET is answered".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(address: &str, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_standby_is_alive_and_not_ready() {
        let health = Health::new();
        let address = health.listen("127.0.0.1:0").await.unwrap();
        let ready = "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n";
        assert!(get(&address, ready).await.starts_with("HTTP/1.1 503 "));
        health.set(State::StandingBy("by broker a".to_owned()));
        let answer = get(&address, ready).await;
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\nstanding by: by broker a\n")
        );
        assert!(
            get(&address, "GET /healthz?x HTTP/1.1\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 200 ")
        );
        health.set(State::Ready);
        assert!(get(&address, ready).await.starts_with("HTTP/1.1 200 "));
        assert!(
            get(&address, "GET / HTTP/1.1\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 404 ")
        );
        assert!(get(&address, "\r\n\r\n").await.starts_with("HTTP/1.1 405 "));
    }

    #[tokio::test]
    async fn who_says_too_much_is_not_answered() {
        let health = Health::new();
        let address = health.listen("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(&vec![b'x'; MAX_REQUEST as usize]).await.unwrap();
        let mut answer = Vec::new();
        // It may be reset, as nobody reads the rest.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
    }
}
