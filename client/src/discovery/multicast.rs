//! The agent: one task that listens and announces.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::announcement::{Heard, MAX_DATAGRAM, is_service, read, write};
use super::group::Group;
use super::services::{Life, MAX_SERVICES, Services};
use crate::error::{Error, ErrorKind, Result};
use crate::uri::MulticastAgent;

/// A broker that was not heard for so many intervals is gone, as in ActiveMQ.
const MISSED_INTERVALS: u32 = 10;

/// Changes are told, and newcomers greeted, at most this often: a flood of announcements is no flood of work.
const PACE: Duration = Duration::from_millis(20);

/// Learns which brokers announce themselves to a multicast group, and announces one (`MulticastDiscoveryAgent`).
///
/// Understands what ActiveMQ brokers with `discoveryUri="multicast://…"` send, and is understood by them. A broker
/// is there from its first announcement until it says that it leaves, or until ten announcements in a row are
/// missing (ten times `keepAliveInterval`).
///
/// Without `joinNetworkInterface` it listens on every network interface except the loopback (ActiveMQ: on the last one), and
/// on the one named by `interface` or `networkInterface`; without those two it announces from all it listens on.
/// IPv4 only.
///
/// It runs until the handle and all receivers that [`services`](Self::services) gave out are dropped, and says then
/// that the announced broker leaves. Dropping needs no runtime.
#[derive(Debug)]
pub struct MulticastDiscovery {
    shared: Arc<Shared>,
    services: watch::Receiver<Vec<String>>,
    task: JoinHandle<()>,
}

/// What the handle and the task have in common. The order of the locks: `own`, then `services`.
#[derive(Debug)]
struct Shared {
    services: Mutex<Services>,
    /// The URI of the broker that is announced.
    own: Mutex<Option<String>>,
    ignored: AtomicU64,
    /// There is something to tell: a change of the list, or of what is announced.
    news: Notify,
    stop: Notify,
}

impl MulticastDiscovery {
    /// Joins the group and begins to listen.
    ///
    /// # Errors
    ///
    /// [`is_io`](Error::is_io) if the group cannot be joined: it is no IPv4 multicast address, or a network
    /// interface does not exist or cannot do multicast; [`is_illegal_state`](Error::is_illegal_state) outside a
    /// tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped nothing has begun.
    pub async fn start(options: &MulticastAgent) -> Result<Self> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| Error::new(ErrorKind::IllegalState, error.to_string()).with_source(error))?;
        let group = Group::join(options).await?;
        let lifetime = options.keep_alive_interval.saturating_mul(MISSED_INTERVALS);
        let shared = Arc::new(Shared {
            services: Mutex::new(Services::new(lifetime, options.retry.clone())),
            own: Mutex::default(),
            ignored: AtomicU64::new(0),
            news: Notify::new(),
            stop: Notify::new(),
        });
        let (list, services) = watch::channel(Vec::new());
        let agent = Agent {
            name: options.group.clone(),
            interval: options.keep_alive_interval,
            group,
            shared: shared.clone(),
            list,
            silent: false,
        };
        Ok(Self {
            shared,
            services,
            task: runtime.spawn(agent.run()),
        })
    }

    /// The URIs of the brokers that are there, now and whenever that changes, in the order in which they came. At
    /// most 256 are known at a time.
    pub fn services(&self) -> watch::Receiver<Vec<String>> {
        self.services.clone()
    }

    /// Announces a broker from now on, every `keepAliveInterval` and whenever another one comes
    /// (`registerService`). It does not appear among the [`services`](Self::services). Replaces what was announced
    /// before, without a word about that one.
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) for a text that can be no URI or is longer than 2,048 bytes.
    pub fn advertise(&self, service: &str) -> Result<()> {
        if !is_service(service) {
            let what = format!("{service:?} cannot be announced as the URI of a broker");
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        let mut own = self.shared.own.lock();
        self.shared.services.lock().dead(service);
        *own = Some(service.into());
        drop(own);
        self.shared.news.notify_one();
        Ok(())
    }

    /// Somebody could not connect to a broker, or lost it (`serviceFailed`): it is left out of the list for
    /// `initialReconnectDelay` and returns with the announcement after that. With `useExponentialBackOff` the delay
    /// grows with each failure, by `backOffMultiplier` up to `maxReconnectDelay` (ActiveMQ takes the power itself for milliseconds); a
    /// minute without failure makes it begin anew. After more failures than `maxReconnectAttempts` the broker stays
    /// out until it has left and come again.
    ///
    /// For networks of brokers. The failover of a client has delays of its own and does not report.
    pub fn service_failed(&self, service: &str) {
        if self.shared.services.lock().failed(service, now()) {
            self.shared.news.notify_one();
        }
    }

    /// How many datagrams were ignored because they made no sense, or because there was no room for another broker.
    /// Those for other groups do not count.
    pub fn ignored(&self) -> u64 {
        self.shared.ignored.load(Ordering::Relaxed)
    }

    /// Says that the announced broker leaves, and ends; the receivers of [`services`](Self::services) see the end.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the agent ends without being waited for.
    pub async fn stop(self) {
        self.shared.stop.notify_one();
        // It does not panic; a runtime that ends first is as good.
        let _ = self.task.await;
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

struct Agent {
    name: String,
    interval: Duration,
    group: Group,
    shared: Arc<Shared>,
    list: watch::Sender<Vec<String>>,
    /// Announcing failed; it is said once.
    silent: bool,
}

/// What one turn of the loop brought.
enum Turn {
    Datagram(std::io::Result<usize>),
    Interval,
    /// There is something to tell, and it was not told a moment ago.
    Tell,
    News,
    Stop,
}

impl Agent {
    async fn run(mut self) {
        // One byte more than a datagram may have shows that it was longer.
        let mut buffer = vec![0; MAX_DATAGRAM + 1];
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut untold = false;
        let mut told = Instant::now();
        loop {
            let turn = tokio::select! {
                biased;
                () = self.list.closed() => Turn::Stop,
                () = self.shared.stop.notified() => Turn::Stop,
                _ = ticks.tick() => Turn::Interval,
                () = sleep_until(told + PACE), if untold => Turn::Tell,
                () = self.shared.news.notified() => Turn::News,
                received = self.group.receive(&mut buffer) => Turn::Datagram(received),
            };
            match turn {
                Turn::Stop => break,
                Turn::Interval => {
                    untold |= self.shared.services.lock().expire(now());
                    self.announce(true).await;
                }
                Turn::News => untold = true,
                Turn::Tell => {
                    untold = false;
                    told = Instant::now();
                    self.tell().await;
                }
                Turn::Datagram(Ok(length)) => {
                    untold |= self.hear(buffer.get(..length).unwrap_or_default());
                }
                Turn::Datagram(Err(error)) => {
                    tracing::debug!(%error, "a datagram could not be received");
                    sleep(PACE).await;
                }
            }
        }
        self.announce(false).await;
    }

    /// True if the list has changed.
    fn hear(&self, datagram: &[u8]) -> bool {
        let heard = match datagram.len() <= MAX_DATAGRAM {
            true => read(datagram, &self.name),
            false => Heard::Garbage,
        };
        let own = self.shared.own.lock();
        let mut services = self.shared.services.lock();
        match heard {
            Heard::Alive(service) | Heard::Dead(service) if own.as_deref() == Some(service) => false,
            Heard::Alive(service) => match services.alive(service, now()) {
                Life::New | Life::Recovered => true,
                Life::Known => false,
                Life::NoRoom => self.ignore("there are too many brokers"),
            },
            Heard::Dead(service) => services.dead(service),
            Heard::Foreign => false,
            Heard::Garbage => self.ignore("it makes no sense"),
        }
    }

    fn ignore(&self, why: &str) -> bool {
        if self.shared.ignored.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(group = %self.name, why, max = MAX_SERVICES, "ignored a datagram; further ones are counted only");
        }
        false
    }

    /// Tells the list to this process, and newcomers about the own broker.
    async fn tell(&mut self) {
        let list = self.shared.services.lock().list();
        let changed = self.list.send_if_modified(|known| {
            let changed = *known != list;
            *known = list;
            changed
        });
        tracing::debug!(group = %self.name, changed, "brokers in the group: {:?}", self.list.borrow());
        self.announce(true).await;
    }

    async fn announce(&mut self, alive: bool) {
        let Some(own) = self.shared.own.lock().clone() else {
            return;
        };
        match self.group.send(&write(&self.name, alive, &own)).await {
            Ok(()) => self.silent = false,
            Err(error) if !self.silent => {
                self.silent = true;
                tracing::warn!(%error, service = %own, "a broker cannot be announced");
            }
            Err(_) => {}
        }
    }
}
