//! A wire between client and broker that breaks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Passes bytes on, and cuts each connection after some of them, wherever that is in a frame.
#[derive(Debug)]
pub struct CuttingProxy {
    address: SocketAddr,
    shears: Arc<Shears>,
    task: JoinHandle<()>,
}

/// When to cut.
#[derive(Debug, Default)]
struct Shears {
    calm: AtomicBool,
    cuts: AtomicUsize,
    /// The next bytes of the broker are withheld and their connection is cut; this is told then.
    answer: Mutex<Option<oneshot::Sender<()>>>,
}

impl CuttingProxy {
    /// Leads to `broker`; each connection lives for `bytes`, drawn from the seed, in whichever direction they go.
    ///
    /// # Panics
    ///
    /// If there is no port.
    pub async fn start(broker: String, seed: u64, bytes: std::ops::Range<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are ports");
        let address = listener.local_addr().expect("it has an address");
        let shears = Arc::new(Shears::default());
        let common = shears.clone();
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            while let Ok((client, _)) = listener.accept().await {
                let life = random.random_range(bytes.clone());
                tokio::spawn(pass(client, broker.clone(), life, common.clone()));
            }
        });
        Self {
            address,
            shears,
            task,
        }
    }

    /// Where clients connect to.
    pub fn uri(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Cuts nothing any more.
    pub fn calm_down(&self) {
        self.shears.calm.store(true, Ordering::Relaxed);
    }

    /// Lets through what the client says, and cuts a connection instead of passing on the next that the broker says. The
    /// receiver is told when that has happened.
    pub fn cut_next_answer(&self) -> oneshot::Receiver<()> {
        let (cut, told) = oneshot::channel();
        *self.shears.answer.lock() = Some(cut);
        told
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> usize {
        self.shears.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What comes in pieces is not to wait for an answer to the first of them.
fn pass_on_at_once(one: &TcpStream, other: &TcpStream) {
    for stream in [one, other] {
        stream.set_nodelay(true).expect("a socket takes it");
    }
}

async fn pass(client: TcpStream, broker: String, life: usize, shears: Arc<Shears>) {
    let Ok(broker) = TcpStream::connect(broker).await else {
        return;
    };
    pass_on_at_once(&client, &broker);
    let left = AtomicUsize::new(life);
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let mut told = None;
    let cut = tokio::select! {
        cut = copy(from_client, to_broker, &left, &shears.calm, || false) => cut,
        cut = copy(from_broker, to_client, &left, &shears.calm, || {
            told = shears.answer.lock().take();
            told.is_some()
        }) => cut,
    };
    if cut {
        shears.cuts.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(told) = told {
        // Whoever has gone does not want to know.
        let _ = told.send(());
    }
}

/// Copies until one of both ends closes, or until `withhold` says so or there is no life left: then it says true.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    left: &AtomicUsize,
    calm: &AtomicBool,
    mut withhold: impl FnMut() -> bool,
) -> bool {
    let mut buffer = [0; 4096];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(read) => read,
        };
        if withhold() {
            return true;
        }
        let life = left.load(Ordering::Relaxed);
        let pass = if calm.load(Ordering::Relaxed) {
            read
        } else {
            read.min(life)
        };
        left.store(life.saturating_sub(read), Ordering::Relaxed);
        if to.write_all(&buffer[..pass]).await.is_err() {
            return false;
        }
        if pass < read {
            return true;
        }
    }
}

/// A wire that can be cut for good, and healed.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Gate {
    /// Leads to what listens at a port of this machine.
    ///
    /// # Panics
    ///
    /// If there is no port.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are ports");
        let address = listener.local_addr().expect("it has an address");
        let (open, is_open) = watch::channel(true);
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut open = is_open.clone();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    pass_on_at_once(&near, &far);
                    tokio::select! {
                        biased;
                        _ = open.wait_for(|open| !open) => {}
                        // However it ends, it ends.
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Self { address, open, task }
    }

    /// The port that leads there.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends all connections, and each new one.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// New connections get through again.
    pub fn heal(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}
