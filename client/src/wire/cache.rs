//! The object cache: values that repeat go over the wire once and by number afterwards.
//!
//! Each direction of a connection has its own table. The sender decides about slots; ours decides as
//! Java's does, so that our bytes are Java's bytes.

use rustc_hash::FxHashMap;

use super::destination::Destination;
use super::error::WireError;
use super::fields::Structure;
use super::ids::{BrokerId, ConnectionId, ConsumerId, EntityId, ProducerId, SessionId, TransactionId};

/// Java keeps this many slots free; a peer that offers fewer than this would spin for ever.
const HEADROOM: usize = 100;

/// The smallest size of a cache that is safe to agree on.
pub(crate) const MIN_CACHE_SIZE: i32 = HEADROOM as i32;

/// The size that an offer of 0 stands for.
const DEFAULT_SIZE: usize = 16383;

/// The number of slots a negotiated size stands for.
fn slots(size: i32) -> usize {
    match usize::try_from(size) {
        Ok(0) | Err(_) => DEFAULT_SIZE,
        // An index is a signed 16-bit number.
        Ok(size) => size.min(i16::MAX as usize),
    }
}

/// A value that can stand in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Cached {
    Null,
    Destination(Destination),
    Transaction(TransactionId),
    Connection(ConnectionId),
    Session(SessionId),
    Consumer(ConsumerId),
    Producer(ProducerId),
    Broker(BrokerId),
}

/// A type whose fields may be cached.
pub(crate) trait Cacheable: Structure + Clone {
    fn to_cached(&self) -> Cached;
    fn from_cached(cached: &Cached) -> Option<Self>;
}

macro_rules! cacheable {
    ($($ty:ident => $variant:ident),*) => { $(
        impl Cacheable for $ty {
            fn to_cached(&self) -> Cached {
                Cached::$variant(self.clone())
            }

            fn from_cached(cached: &Cached) -> Option<Self> {
                match cached {
                    Cached::$variant(value) => Some(value.clone()),
                    _ => None,
                }
            }
        }
    )* };
}

cacheable! {
    Destination => Destination, TransactionId => Transaction, ConnectionId => Connection,
    SessionId => Session, ConsumerId => Consumer, ProducerId => Producer, BrokerId => Broker
}

impl Cacheable for EntityId {
    fn to_cached(&self) -> Cached {
        match self {
            Self::Connection(id) => id.to_cached(),
            Self::Session(id) => id.to_cached(),
            Self::Consumer(id) => id.to_cached(),
            Self::Producer(id) => id.to_cached(),
        }
    }

    fn from_cached(cached: &Cached) -> Option<Self> {
        match cached {
            Cached::Connection(id) => Some(Self::Connection(id.clone())),
            Cached::Session(id) => Some(Self::Session(id.clone())),
            Cached::Consumer(id) => Some(Self::Consumer(id.clone())),
            Cached::Producer(id) => Some(Self::Producer(id.clone())),
            _ => None,
        }
    }
}

/// The sender's table.
#[derive(Debug)]
pub(crate) struct SendCache {
    known: FxHashMap<Cached, u16>,
    table: Vec<Option<Cached>>,
    size: usize,
    next: usize,
    evict: usize,
}

impl SendCache {
    pub(crate) fn new(size: i32) -> Self {
        Self {
            known: FxHashMap::default(),
            table: Vec::new(),
            size: slots(size),
            next: 0,
            evict: 0,
        }
    }

    /// Makes room before a frame, as Java does: a frame adds fewer than 100 values.
    pub(crate) fn evict(&mut self) {
        while self.known.len() > self.size.saturating_sub(HEADROOM) {
            if let Some(value) = self.table.get_mut(self.evict).and_then(Option::take) {
                self.known.remove(&value);
            }
            self.evict = (self.evict + 1) % self.size;
        }
    }

    pub(crate) fn find(&self, value: &Cached) -> Option<u16> {
        self.known.get(value).copied()
    }

    /// Gives the value a slot; none if the table is full, which Java writes as index -1.
    pub(crate) fn insert(&mut self, value: Cached) -> Option<u16> {
        if self.known.len() >= self.size {
            return None;
        }
        let slot = self.next;
        self.next = (self.next + 1) % self.size;
        if self.table.len() <= slot {
            self.table.resize(slot + 1, None);
        }
        if let Some(old) = self.table[slot].replace(value.clone()) {
            self.known.remove(&old);
        }
        self.known.insert(value, slot as u16);
        Some(slot as u16)
    }
}

/// The receiver's table. It grows only as far as the peer's indexes do.
#[derive(Debug)]
pub(crate) struct ReceiveCache {
    table: Vec<Option<Cached>>,
    size: usize,
}

impl ReceiveCache {
    pub(crate) fn new(size: i32) -> Self {
        Self {
            table: Vec::new(),
            size: slots(size),
        }
    }

    pub(crate) fn store(&mut self, index: i16, value: Cached) -> Result<(), WireError> {
        if index == -1 {
            return Ok(());
        }
        let slot = self.slot(index)?;
        if self.table.len() <= slot {
            self.table.resize(slot + 1, None);
        }
        self.table[slot] = Some(value);
        Ok(())
    }

    /// The value at an index: `Ok(None)` is a cached null.
    pub(crate) fn get<T: Cacheable>(&self, index: i16) -> Result<Option<T>, WireError> {
        match self.table.get(self.slot(index)?) {
            Some(Some(Cached::Null)) => Ok(None),
            Some(Some(value)) => match T::from_cached(value) {
                Some(value) => Ok(Some(value)),
                None => Err(WireError::invalid(
                    "a cached value is of another type than its field",
                )),
            },
            _ => Err(WireError::invalid(format!("cache slot {index} is empty"))),
        }
    }

    fn slot(&self, index: i16) -> Result<usize, WireError> {
        usize::try_from(index)
            .ok()
            .filter(|&slot| slot < self.size)
            .ok_or_else(|| WireError::invalid(format!("cache index {index} of {}", self.size)))
    }
}
