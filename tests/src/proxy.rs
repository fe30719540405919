//! A wire between client and broker that breaks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Passes bytes on, and cuts each connection after some of them, wherever that is in a frame.
#[derive(Debug)]
pub struct CuttingProxy {
    address: SocketAddr,
    calm: Arc<AtomicBool>,
    cuts: Arc<AtomicUsize>,
    task: JoinHandle<()>,
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
        let (calm, cuts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_calm, count) = (calm.clone(), cuts.clone());
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            while let Ok((client, _)) = listener.accept().await {
                let life = random.random_range(bytes.clone());
                tokio::spawn(pass(client, broker.clone(), life, is_calm.clone(), count.clone()));
            }
        });
        Self {
            address,
            calm,
            cuts,
            task,
        }
    }

    /// Where clients connect to.
    pub fn uri(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Cuts nothing any more.
    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, broker: String, life: usize, calm: Arc<AtomicBool>, cuts: Arc<AtomicUsize>) {
    let Ok(broker) = TcpStream::connect(broker).await else {
        return;
    };
    let left = AtomicUsize::new(life);
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let cut = tokio::select! {
        cut = copy(from_client, to_broker, &left, &calm) => cut,
        cut = copy(from_broker, to_client, &left, &calm) => cut,
    };
    if cut {
        cuts.fetch_add(1, Ordering::Relaxed);
    }
}

/// Copies until one of both ends closes, or until there is no life left: then it says true.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    left: &AtomicUsize,
    calm: &AtomicBool,
) -> bool {
    let mut buffer = [0; 4096];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(read) => read,
        };
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
