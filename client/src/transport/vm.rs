//! Brokers in this process, found by name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::LazyLock;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc};

use crate::error::{Error, ErrorKind, Result};
use crate::uri::Endpoint;

/// How many bytes one side may be ahead of the other, in each direction.
const PIPE_CAPACITY: usize = 64 * 1024;

/// How many connections may wait to be accepted; more wait to connect.
const BACKLOG: usize = 128;

type Broker = mpsc::Sender<DuplexStream>;

/// The brokers of this process. Held for a look-up only.
static BROKERS: LazyLock<Mutex<HashMap<String, Broker>>> = LazyLock::new(Mutex::default);

/// Told of each broker that comes.
static BOUND: Notify = Notify::const_new();

/// Where a broker accepts connections from its own process. To drop it gives the name back, and closes those
/// that were not accepted.
#[derive(Debug)]
pub struct VmListener {
    name: String,
    incoming: mpsc::Receiver<DuplexStream>,
}

/// Makes `vm://name` reach the listener.
///
/// # Errors
///
/// [`is_io`](Error::is_io) if the name is taken.
pub fn bind(name: &str) -> Result<VmListener> {
    let (broker, incoming) = mpsc::channel(BACKLOG);
    match BROKERS.lock().entry(name.to_owned()) {
        Entry::Occupied(_) => {
            let what = format!("vm://{name}: there is a broker of that name in this process already");
            return Err(Error::new(ErrorKind::Io, what));
        }
        Entry::Vacant(entry) => entry.insert(broker),
    };
    BOUND.notify_waiters();
    Ok(VmListener {
        name: name.to_owned(),
        incoming,
    })
}

impl VmListener {
    /// The name that is bound.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next connection. Cancel safe.
    pub async fn accept(&mut self) -> DuplexStream {
        match self.incoming.recv().await {
            Some(stream) => stream,
            // The registry holds a sender for as long as this listener is there.
            None => std::future::pending().await,
        }
    }
}

impl Drop for VmListener {
    fn drop(&mut self) {
        BROKERS.lock().remove(&self.name);
    }
}

/// The broker of an endpoint, waited for as long as it says.
pub(super) async fn find(endpoint: &Endpoint) -> Result<Broker> {
    let found = async {
        loop {
            // Listens before it looks, so that no broker comes in between.
            let mut bound = std::pin::pin!(BOUND.notified());
            bound.as_mut().enable();
            let broker = BROKERS.lock().get(&endpoint.host).cloned();
            match broker {
                Some(broker) => return broker,
                None => bound.await,
            }
        }
    };
    let limit = endpoint.wait_for_start.unwrap_or(Duration::ZERO);
    tokio::time::timeout(limit, found).await.map_err(|_| {
        let mut what = format!("{endpoint}: there is no broker of that name in this process");
        if endpoint.create {
            what.push_str(", and the application has to start it: create=true cannot");
        }
        Error::new(ErrorKind::Io, what)
    })
}

pub(super) async fn connect(endpoint: &Endpoint, broker: Broker) -> Result<DuplexStream> {
    let (ours, theirs) = tokio::io::duplex(PIPE_CAPACITY);
    match broker.send(theirs).await {
        Ok(()) => Ok(ours),
        Err(_) => Err(Error::new(
            ErrorKind::Io,
            format!("{endpoint}: the broker has stopped"),
        )),
    }
}
