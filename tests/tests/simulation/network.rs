//! The network of a world: between each client and each host of brokers a way that delays, is silent, or is cut.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use openwire_client::transport::{self, TlsOptions, vm};
use openwire_client::uri::{Endpoint, Scheme};
use parking_lot::Mutex;
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::world::{millis, random};

/// Bytes that are on their way in one direction; beyond it the sender waits, as it would for a window of TCP.
const WINDOW: usize = 64 * 1024;

/// What answers at the address of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// A broker of this name.
    Broker(String),
    /// Nobody: who connects is turned away.
    Nobody,
    /// Not even that.
    Silence,
}

#[derive(Debug)]
pub(crate) struct Network {
    name: String,
    seed: u64,
    state: Mutex<State>,
    /// The hosts have changed.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    random: SmallRng,
    hosts: Vec<Host>,
    /// How long bytes take, in milliseconds.
    latency: std::ops::Range<u64>,
    /// Ways that are silent from client to host, and back.
    silent: BTreeMap<(usize, usize), [bool; 2]>,
    wires: BTreeMap<u64, Arc<Wire>>,
    count: u64,
}

/// A connection.
#[derive(Debug)]
struct Wire {
    way: (usize, usize),
    state: Mutex<WireState>,
    /// Told to each direction: the state has changed.
    changed: [Notify; 2],
}

#[derive(Debug)]
struct WireState {
    silent: [bool; 2],
    cut: bool,
}

impl Network {
    /// Ways between so many clients and hosts, in a world of this name. Nobody answers yet.
    pub(crate) fn new(name: &str, seed: u64, clients: usize, hosts: usize) -> Arc<Self> {
        let network = Arc::new(Self {
            name: name.to_owned(),
            seed,
            state: Mutex::new(State {
                random: random(seed, "network", 0),
                hosts: vec![Host::Nobody; hosts],
                latency: 0..3,
                silent: BTreeMap::new(),
                wires: BTreeMap::new(),
                count: 0,
            }),
            changed: Notify::new(),
        });
        for client in 0..clients {
            for host in 0..hosts {
                let listener =
                    vm::bind(&network.address(client, host)).expect("each world has its own names");
                tokio::spawn(network.clone().accept(listener, (client, host)));
            }
        }
        network
    }

    /// The name by which a client reaches a host.
    pub(crate) fn address(&self, client: usize, host: usize) -> String {
        format!("{}c{client}h{host}", self.name)
    }

    /// Sets who answers at a host.
    pub(crate) fn set_host(&self, host: usize, answers: Host) {
        self.state.lock().hosts[host] = answers;
        self.changed.notify_waiters();
    }

    /// Sets how long bytes take from now on.
    pub(crate) fn set_latency(&self, latency: std::ops::Range<u64>) {
        self.state.lock().latency = latency;
    }

    /// Makes a way silent, per direction, or lets it be heard again: what was on its way arrives then.
    pub(crate) fn set_silent(&self, way: (usize, usize), silent: [bool; 2]) {
        let mut state = self.state.lock();
        state.silent.insert(way, silent);
        for wire in state.wires.values().filter(|wire| wire.way == way) {
            wire.change(|state| state.silent = silent);
        }
    }

    /// Every way can be heard, and every host says at least that there is no broker.
    pub(crate) fn heal(&self) {
        let ways: Vec<_> = {
            let state = &mut *self.state.lock();
            let silent = state.hosts.iter_mut().filter(|host| **host == Host::Silence);
            silent.for_each(|host| *host = Host::Nobody);
            state.silent.keys().copied().collect()
        };
        self.changed.notify_waiters();
        for way in ways {
            self.set_silent(way, [false, false]);
        }
    }

    /// Cuts connections, each with whatever part of its last bytes got through.
    pub(crate) fn cut(&self, which: impl Fn((usize, usize)) -> bool) -> usize {
        let state = self.state.lock();
        let wires = state.wires.values().filter(|wire| which(wire.way));
        wires.map(|wire| wire.change(|state| state.cut = true)).count()
    }

    /// Cuts one connection.
    pub(crate) fn cut_one(&self) {
        let mut state = self.state.lock();
        if state.wires.is_empty() {
            return;
        }
        let number = state.wires.len();
        let chosen = state.random.random_range(0..number);
        if let Some(wire) = state.wires.values().nth(chosen) {
            wire.change(|state| state.cut = true);
        }
    }

    async fn accept(self: Arc<Self>, mut listener: vm::VmListener, way: (usize, usize)) {
        loop {
            let stream = listener.accept().await;
            tokio::spawn(self.clone().carry(stream, way));
        }
    }

    async fn carry(self: Arc<Self>, stream: DuplexStream, way: (usize, usize)) {
        let changed = self.changed.notified();
        let host = self.state.lock().hosts[way.1].clone();
        let broker = match host {
            Host::Broker(name) => name,
            Host::Nobody => return,
            // Who knocked in vain is not heard later either: the broker that comes knows nothing of it.
            Host::Silence => return changed.await,
        };
        let endpoint = Endpoint::new(Scheme::Vm, broker, 0);
        let Ok(broker) = transport::connect(&endpoint, &TlsOptions::default()).await else {
            return;
        };
        let (number, wire) = self.add(way);
        let (from_client, to_client) = tokio::io::split(stream);
        let (from_broker, to_broker) = broker.into_split();
        tokio::join!(
            self.pipe(from_client, to_broker, &wire, 0, number),
            self.pipe(from_broker, to_client, &wire, 1, number)
        );
        self.state.lock().wires.remove(&number);
    }

    fn add(&self, way: (usize, usize)) -> (u64, Arc<Wire>) {
        let mut state = self.state.lock();
        state.count += 1;
        let number = state.count;
        let silent = state.silent.get(&way).copied().unwrap_or_default();
        let wire = Arc::new(Wire {
            way,
            state: Mutex::new(WireState { silent, cut: false }),
            changed: [Notify::new(), Notify::new()],
        });
        state.wires.insert(number, wire.clone());
        (number, wire)
    }

    /// Moves bytes in one direction until the connection ends.
    async fn pipe(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        wire: &Wire,
        direction: usize,
        number: u64,
    ) {
        let mut random = random(self.seed, "pipe", 2 * number + direction as u64);
        let mut buffer = BytesMut::new();
        // What is on its way; nothing is the end.
        let mut moving: VecDeque<(Instant, Bytes)> = VecDeque::new();
        let mut bytes = 0;
        let mut ended = false;
        loop {
            let WireState { silent, cut } = *wire.state.lock();
            if cut {
                // A part of it got through.
                let all: Vec<u8> = moving.iter().flat_map(|(_, bytes)| bytes).copied().collect();
                let part = random.random_range(0..=all.len());
                let _ = to.write(&all[..part]).now_or_never();
                return;
            }
            let due = moving.front().map(|(at, _)| *at).filter(|_| !silent[direction]);
            let arrived = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = wire.changed[direction].notified() => {}
                read = from.read_buf(&mut buffer), if !ended && bytes < WINDOW => {
                    // The end comes as nothing.
                    ended = !matches!(read, Ok(1..));
                    let chunk = buffer.split().freeze();
                    bytes += chunk.len();
                    let at = Instant::now() + millis(random.random_range(self.state.lock().latency.clone()));
                    let at = moving.back().map_or(at, |(last, _)| at.max(*last));
                    moving.push_back((at, chunk));
                }
                () = arrived => {
                    let Some((_, chunk)) = moving.pop_front() else { continue };
                    bytes -= chunk.len();
                    if chunk.is_empty() {
                        let _ = to.shutdown().await;
                        return;
                    }
                    if !unless_cut(wire, direction, to.write_all(&chunk)).await {
                        wire.change(|state| state.cut = true);
                        return;
                    }
                }
            }
        }
    }
}

impl Copy for WireState {}

impl Clone for WireState {
    fn clone(&self) -> Self {
        *self
    }
}

impl Wire {
    fn change(&self, change: impl FnOnce(&mut WireState)) {
        change(&mut self.state.lock());
        for direction in &self.changed {
            direction.notify_one();
        }
    }
}

/// True if it was written; false if the connection was cut meanwhile, or nobody is there to read.
async fn unless_cut(wire: &Wire, direction: usize, write: impl Future<Output = std::io::Result<()>>) -> bool {
    let mut write = pin!(write);
    loop {
        tokio::select! {
            biased;
            written = &mut write => return written.is_ok(),
            () = wire.changed[direction].notified() => {
                if wire.state.lock().cut {
                    return false;
                }
            }
        }
    }
}

/// Waits for a moment of the network.
pub(crate) async fn pause(random: &mut SmallRng, range: std::ops::Range<u64>) {
    sleep(Duration::from_millis(random.random_range(range))).await;
}
