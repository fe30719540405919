//! The brokers of a world: one at a time serves, on whichever host, with what the disk they share holds.

use std::sync::Arc;

use broker_lite::Broker;
use parking_lot::Mutex;

use super::disk::Disk;
use super::network::{Host, Network};

/// A master and its standbys.
pub(crate) struct Brokers {
    name: String,
    options: Options,
    network: Arc<Network>,
    disk: Arc<Disk>,
    hosts: usize,
    master: Mutex<Option<Master>>,
}

struct Master {
    host: usize,
    broker: Broker,
}

/// What differs between the brokers of one world and another.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// `wireFormat.maxInactivityDuration`, in milliseconds.
    pub(crate) inactivity: u64,
    /// Bytes of bodies kept in memory.
    pub(crate) resident: usize,
}

impl Brokers {
    pub(crate) fn new(
        name: &str,
        options: Options,
        network: Arc<Network>,
        disk: Arc<Disk>,
        hosts: usize,
    ) -> Self {
        Self {
            name: name.to_owned(),
            options,
            network,
            disk,
            hosts,
            master: Mutex::new(None),
        }
    }

    /// Starts a broker on a host. There must be none.
    pub(crate) async fn start(&self, host: usize) {
        let (store, recovered) = self.disk.open();
        let name = format!("{}b{host}", self.name);
        let listen = format!(
            "vm://{name}?transport.useInactivityMonitor=true&wireFormat.maxInactivityDuration={}",
            self.options.inactivity
        );
        let broker = Broker::builder()
            .name(&name)
            .listen(listen)
            .store(store, recovered)
            .resident_limit(self.options.resident)
            .start()
            .await
            .expect("a broker starts on every state of the disk");
        *self.master.lock() = Some(Master { host, broker });
        self.network.set_host(host, Host::Broker(name));
    }

    /// Kills the broker: its machine stops, and what it said last may have left it or not.
    pub(crate) fn kill(&self, answers: Host) -> bool {
        let Some(master) = self.master.lock().take() else {
            return false;
        };
        self.network.set_host(master.host, answers);
        self.network.cut(|way| way.1 == master.host);
        self.disk.kill();
        drop(master.broker);
        true
    }

    pub(crate) fn hosts(&self) -> usize {
        self.hosts
    }

    /// A broker serves.
    pub(crate) fn serves(&self) -> bool {
        self.master.lock().is_some()
    }

    /// How many messages are left.
    pub(crate) fn messages(&self) -> u64 {
        let master = self.master.lock();
        master
            .as_ref()
            .map_or(0, |master| master.broker.stats().store.messages)
    }
}
