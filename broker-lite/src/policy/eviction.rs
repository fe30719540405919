//! Which messages go when too many wait for a consumer of a topic.

use std::collections::VecDeque;
use std::sync::Arc;

use openwire_client::wire::{Message, ValueRef, find_value};
use rustc_hash::FxHashMap;

use super::strategy::Eviction;

impl Eviction {
    /// Takes out what goes to make room, at least one message if any waits. To be called until no more are waiting
    /// than may be.
    pub fn evict(&self, waiting: &mut VecDeque<Arc<Message>>) -> Vec<Arc<Message>> {
        let oldest = |waiting: &mut VecDeque<Arc<Message>>| waiting.pop_front().into_iter().collect();
        match self {
            Self::Oldest => oldest(waiting),
            Self::OldestLowestPriority => {
                // The first one of those that are equal.
                let place = (0..waiting.len()).min_by_key(|place| waiting[*place].priority);
                place
                    .and_then(|place| waiting.remove(place))
                    .into_iter()
                    .collect()
            }
            Self::UniqueProperty(name) => {
                let stay = latest_of_each(name, waiting);
                let staying = stay.iter().filter(|stays| **stays).count();
                if staying == 0 || staying == waiting.len() {
                    return oldest(waiting);
                }
                let (kept, evicted): (Vec<_>, Vec<_>) = std::mem::take(waiting)
                    .into_iter()
                    .zip(stay)
                    .partition(|(_, stays)| *stays);
                waiting.extend(kept.into_iter().map(|(message, _)| message));
                evicted.into_iter().map(|(message, _)| message).collect()
            }
        }
    }
}

/// Takes out what waits although its time is over, if more than `watermark` messages wait:
/// `evictExpiredMessagesHighWatermark`. `now` is in milliseconds since 1970.
pub fn evict_expired(waiting: &mut VecDeque<Arc<Message>>, watermark: usize, now: i64) -> Vec<Arc<Message>> {
    if waiting.len() <= watermark {
        return Vec::new();
    }
    let over = |message: &Message| message.expiration > 0 && message.expiration <= now;
    let (expired, rest) = std::mem::take(waiting)
        .into_iter()
        .partition(|message| over(message));
    *waiting = rest;
    let expired: VecDeque<_> = expired;
    expired.into()
}

/// For each message whether it is the latest of those with its value of the property. Without one it is not.
fn latest_of_each(name: &str, waiting: &VecDeque<Arc<Message>>) -> Vec<bool> {
    let mut stays = vec![false; waiting.len()];
    let mut latest: FxHashMap<String, usize> = FxHashMap::default();
    for (place, message) in waiting.iter().enumerate() {
        let Some(value) = property(message, name) else {
            continue;
        };
        let best = latest.entry(value).or_insert(place);
        if message.timestamp > waiting[*best].timestamp {
            *best = place;
        }
    }
    for place in latest.into_values() {
        stays[place] = true;
    }
    stays
}

/// A property in a form in which two are equal if they are equal in Java: in kind and value.
fn property(message: &Message, name: &str) -> Option<String> {
    let properties = message.marshalled_properties.as_ref()?;
    match find_value(properties, name).ok()?? {
        ValueRef::Null => None,
        value => Some(format!("{value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use openwire_client::wire::{Value, ValueMap, encode_map};

    use super::*;

    fn message(size: i32, priority: i8, timestamp: i64, property: Option<Value>) -> Arc<Message> {
        let marshalled_properties = property.map(|value| {
            let mut map = ValueMap::new();
            map.insert("id", value);
            let mut out = BytesMut::new();
            encode_map(&map, &mut out).unwrap();
            out.freeze()
        });
        Arc::new(Message {
            group_sequence: size,
            priority,
            timestamp,
            marshalled_properties,
            ..Message::default()
        })
    }

    fn numbers<'a>(messages: impl IntoIterator<Item = &'a Arc<Message>>) -> Vec<i32> {
        messages
            .into_iter()
            .map(|message| message.group_sequence)
            .collect()
    }

    #[test]
    fn the_oldest_and_the_least_important() {
        let mut waiting = [(1, 4), (2, 1), (3, 1), (4, 9)]
            .map(|(number, priority)| message(number, priority, 0, None))
            .into();
        assert_eq!(numbers(&Eviction::OldestLowestPriority.evict(&mut waiting)), [2]);
        assert_eq!(numbers(&Eviction::OldestLowestPriority.evict(&mut waiting)), [3]);
        assert_eq!(numbers(&Eviction::Oldest.evict(&mut waiting)), [1]);
        assert_eq!(numbers(&waiting), [4]);
        waiting.clear();
        for eviction in [
            Eviction::Oldest,
            Eviction::OldestLowestPriority,
            Eviction::UniqueProperty("id".into()),
        ] {
            assert!(eviction.evict(&mut waiting).is_empty());
        }
    }

    #[test]
    fn the_latest_of_each_value_stays() {
        let a = || Some(Value::from("a"));
        let mut waiting = VecDeque::from([
            message(1, 4, 10, a()),
            message(2, 4, 30, a()),
            message(3, 4, 20, a()),
            message(4, 4, 5, Some(Value::Int(1))),
            message(5, 4, 5, Some(Value::Long(1))),
            message(6, 4, 99, None),
        ]);
        let eviction = Eviction::UniqueProperty("id".to_owned());
        assert_eq!(numbers(&eviction.evict(&mut waiting)), [1, 3, 6]);
        assert_eq!(numbers(&waiting), [2, 4, 5]);
        // All are unique: the oldest goes.
        assert_eq!(numbers(&eviction.evict(&mut waiting)), [2]);
        let mut without = VecDeque::from([message(1, 4, 0, None), message(2, 4, 0, None)]);
        assert_eq!(numbers(&eviction.evict(&mut without)), [1]);
    }

    #[test]
    fn the_expired_go_above_the_watermark() {
        let expiring = |expiration| {
            Arc::new(Message {
                expiration,
                ..Message::default()
            })
        };
        let mut waiting = VecDeque::from([expiring(0), expiring(10), expiring(11)]);
        assert!(evict_expired(&mut waiting, 3, 10).is_empty());
        assert_eq!(evict_expired(&mut waiting, 2, 10).len(), 1);
        assert_eq!(waiting.len(), 2);
    }
}
