//! The object cache: values that repeat go over the wire once and by number afterwards.
//!
//! Each direction of a connection has its own table. The sender decides about slots; ours decides as
//! Java's does, so that our bytes are Java's bytes.

use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};

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
#[derive(Debug, Clone)]
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
pub(crate) trait Cacheable: Structure {
    fn to_cached(&self) -> Cached;
    fn from_cached(cached: &Cached) -> Option<Self>;
    fn is(&self, cached: &Cached) -> bool;
    /// Which [`Cached`] it becomes: 1 to [`KINDS`] - 1.
    fn kind(&self) -> usize;
    fn hash_into(&self, hasher: &mut FxHasher);
}

/// Null and the seven types.
const KINDS: usize = 8;

macro_rules! cacheable {
    ($($ty:ident => $variant:ident, $kind:literal;)*) => { $(
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

            fn is(&self, cached: &Cached) -> bool {
                matches!(cached, Cached::$variant(value) if value == self)
            }

            fn kind(&self) -> usize {
                $kind
            }

            fn hash_into(&self, hasher: &mut FxHasher) {
                self.hash(hasher);
            }
        }
    )* };
}

cacheable! {
    Destination => Destination, 1;
    TransactionId => Transaction, 2;
    ConnectionId => Connection, 3;
    SessionId => Session, 4;
    ConsumerId => Consumer, 5;
    ProducerId => Producer, 6;
    BrokerId => Broker, 7;
}

macro_rules! each_entity {
    ($self:ident, $id:ident => $body:expr) => {
        match $self {
            Self::Connection($id) => $body,
            Self::Session($id) => $body,
            Self::Consumer($id) => $body,
            Self::Producer($id) => $body,
        }
    };
}

impl Cacheable for EntityId {
    fn to_cached(&self) -> Cached {
        each_entity!(self, id => id.to_cached())
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

    fn is(&self, cached: &Cached) -> bool {
        each_entity!(self, id => id.is(cached))
    }

    fn kind(&self) -> usize {
        each_entity!(self, id => id.kind())
    }

    fn hash_into(&self, hasher: &mut FxHasher) {
        each_entity!(self, id => id.hash_into(hasher))
    }
}

fn kind<T: Cacheable>(value: Option<&T>) -> usize {
    value.map_or(0, Cacheable::kind)
}

fn hash<T: Cacheable>(value: Option<&T>) -> u64 {
    let mut hasher = FxHasher::default();
    kind(value).hash(&mut hasher);
    if let Some(value) = value {
        value.hash_into(&mut hasher);
    }
    hasher.finish()
}

/// The sender's table: the occupied slots are those from `evict` up to `next`, round the end.
#[derive(Debug)]
pub(crate) struct SendCache {
    /// The slot of the value with a hash. Of values with the same hash only the last one is found, the
    /// others are sent anew.
    by_hash: FxHashMap<u64, u16>,
    /// The slot last found of each kind: most frames name the same ids as the frame before.
    recent: [u16; KINDS],
    /// Grows only as far as slots are used.
    table: Vec<Option<Entry>>,
    size: usize,
    used: usize,
    next: usize,
    evict: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    hash: u64,
    value: Cached,
}

impl SendCache {
    pub(crate) fn new(size: i32) -> Self {
        Self {
            by_hash: FxHashMap::default(),
            recent: [0; KINDS],
            table: Vec::new(),
            size: slots(size),
            used: 0,
            next: 0,
            evict: 0,
        }
    }

    /// Makes room before a frame, as Java does: a frame adds fewer than 100 values.
    pub(crate) fn evict(&mut self) {
        while self.used > self.size.saturating_sub(HEADROOM) {
            self.clear(self.evict);
            self.evict = (self.evict + 1) % self.size;
        }
    }

    fn clear(&mut self, slot: usize) {
        if let Some(entry) = self.table.get_mut(slot).and_then(Option::take) {
            self.used -= 1;
            if self.by_hash.get(&entry.hash) == Some(&(slot as u16)) {
                self.by_hash.remove(&entry.hash);
            }
        }
    }

    /// How many slots are used, for [`rewind`](Self::rewind).
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Takes back the slots given out since `used` of them were in use: their frame was not sent.
    pub(crate) fn rewind(&mut self, used: usize) {
        while self.used > used {
            self.next = (self.next + self.size - 1) % self.size;
            self.clear(self.next);
        }
    }

    /// The slot of a value the peer knows. Null is a value.
    pub(crate) fn find<T: Cacheable>(&mut self, value: Option<&T>) -> Option<u16> {
        let recent = self.recent[kind(value)];
        if self.holds(recent, value) {
            return Some(recent);
        }
        let slot = *self.by_hash.get(&hash(value))?;
        if !self.holds(slot, value) {
            return None;
        }
        self.recent[kind(value)] = slot;
        Some(slot)
    }

    fn holds<T: Cacheable>(&self, slot: u16, value: Option<&T>) -> bool {
        match (self.table.get(usize::from(slot)), value) {
            (Some(Some(entry)), Some(value)) => value.is(&entry.value),
            (Some(Some(entry)), None) => matches!(entry.value, Cached::Null),
            _ => false,
        }
    }

    /// Gives a value a slot; none if the table is full.
    pub(crate) fn insert<T: Cacheable>(&mut self, value: Option<&T>) -> Option<u16> {
        if self.used >= self.size {
            return None;
        }
        let slot = self.next;
        self.next = (self.next + 1) % self.size;
        if self.table.len() <= slot {
            self.table.resize(slot + 1, None);
        }
        let hash = hash(value);
        self.table[slot] = Some(Entry {
            hash,
            value: value.map_or(Cached::Null, Cacheable::to_cached),
        });
        self.by_hash.insert(hash, slot as u16);
        self.used += 1;
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

    /// Keeps a value under an index the peer chose; -1 is none.
    pub(crate) fn store<T: Cacheable>(&mut self, index: i16, value: Option<&T>) -> Result<(), WireError> {
        if index == -1 {
            return Ok(());
        }
        let slot = self.slot(index)?;
        if self.table.len() <= slot {
            self.table.resize(slot + 1, None);
        }
        self.table[slot] = Some(value.map_or(Cached::Null, Cacheable::to_cached));
        Ok(())
    }

    /// Fills in the value at an index, which may be null.
    pub(crate) fn get<T: Cacheable>(&self, index: i16, field: &mut Option<T>) -> Result<(), WireError> {
        match self.table.get(self.slot(index)?) {
            Some(Some(Cached::Null)) => *field = None,
            Some(Some(value)) => {
                *field = T::from_cached(value);
                if field.is_none() {
                    return Err(WireError::invalid(
                        "a cached value is of another type than its field",
                    ));
                }
            }
            _ => return Err(WireError::invalid(format!("cache slot {index} is empty"))),
        }
        Ok(())
    }

    fn slot(&self, index: i16) -> Result<usize, WireError> {
        usize::try_from(index)
            .ok()
            .filter(|&slot| slot < self.size)
            .ok_or_else(|| WireError::invalid(format!("cache index {index} of {}", self.size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ConnectionId {
        ConnectionId::new(text)
    }

    #[test]
    fn slots_are_given_out_in_turn_and_the_oldest_are_evicted_first() {
        let mut cache = SendCache::new(102);
        for (n, text) in ["a", "b", "c"].into_iter().enumerate() {
            assert_eq!(cache.find(Some(&id(text))), None);
            assert_eq!(cache.insert(Some(&id(text))), Some(n as u16));
        }
        // Java's rule to the letter: at most size - 100 values are known when a frame begins.
        cache.evict();
        assert_eq!(cache.find(Some(&id("a"))), None);
        assert_eq!(cache.find(Some(&id("b"))), Some(1));
        assert_eq!(cache.find(Some(&id("c"))), Some(2));
        // A frame may add a hundred; then the table is full.
        for n in 3..103 {
            assert_eq!(cache.insert(Some(&id(&n.to_string()))), Some(n % 102));
        }
        assert_eq!(cache.insert(Some(&id("one too many"))), None);
    }

    #[test]
    fn null_is_a_value_and_types_do_not_mix() {
        let mut cache = SendCache::new(1024);
        assert_eq!(cache.insert(None::<&BrokerId>), Some(0));
        assert_eq!(cache.find(None::<&Destination>), Some(0));
        cache.insert(Some(&id("x")));
        let broker = BrokerId {
            value: Some("x".into()),
        };
        assert_eq!(cache.find(Some(&broker)), None);
        assert_eq!(cache.find(Some(&EntityId::Connection(id("x")))), Some(1));
        assert_eq!(
            cache.find(Some(&Destination::queue("x"))),
            None,
            "a destination is its kind and its name"
        );
    }

    #[test]
    fn a_frame_that_was_not_sent_leaves_no_trace() {
        let mut cache = SendCache::new(101);
        cache.insert(Some(&id("kept")));
        let used = cache.used();
        for n in 0..200 {
            cache.insert(Some(&id(&n.to_string())));
        }
        cache.rewind(used);
        assert_eq!(cache.find(Some(&id("0"))), None);
        assert_eq!(cache.find(Some(&id("99"))), None);
        assert_eq!(cache.find(Some(&id("kept"))), Some(0));
        assert_eq!(cache.insert(Some(&id("next"))), Some(1));
    }

    fn get<T: Cacheable>(cache: &ReceiveCache, index: i16) -> Result<Option<T>, WireError> {
        let mut value = None;
        cache.get(index, &mut value).map(|()| value)
    }

    #[test]
    fn a_peer_cannot_reach_outside_the_table() {
        let mut cache = ReceiveCache::new(100);
        cache.store(99, Some(&id("x"))).unwrap();
        assert_eq!(get(&cache, 99), Ok(Some(id("x"))));
        assert_eq!(get(&cache, 99), Ok(Some(EntityId::Connection(id("x")))));
        assert_eq!(cache.store(-1, Some(&id("y"))), Ok(()));
        for index in [100, 32767, -2, -32768] {
            assert!(cache.store(index, Some(&id("x"))).is_err(), "{index}");
            assert!(get::<ConnectionId>(&cache, index).is_err(), "{index}");
        }
        assert!(get::<ConnectionId>(&cache, 98).is_err(), "an empty slot");
        assert!(get::<ConnectionId>(&cache, -1).is_err(), "no slot");
        assert!(get::<BrokerId>(&cache, 99).is_err(), "another type");
    }
}
