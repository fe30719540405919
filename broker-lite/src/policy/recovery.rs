//! What a topic keeps for retroactive consumers that come later.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use openwire_client::wire::{Message, ValueMap, ValueRef, decode_map, encode_map, find_value};

use super::pattern::Pattern;
use super::strategy::Recovery;

/// Property: the message is to be kept as the retained one of its topic; without a body it takes the one that is there
/// away.
pub const RETAIN: &str = "ActiveMQ.Retain";

/// Property of a retained message.
pub const RETAINED: &str = "ActiveMQ.Retained";

/// The messages of one topic that consumers which come later may still see: ActiveMQ's `SubscriptionRecoveryPolicy`.
///
/// Besides what the policy asks for it keeps the retained message of the topic: the last one with a body that was sent
/// with the property `ActiveMQ.Retain`. A retroactive consumer gets that one first and then the others; a durable
/// subscription gets the others only if nothing waits for it. Consumers that are not retroactive get nothing.
///
/// Whatever the policy, no more than [`MOST_MESSAGES`](Self::MOST_MESSAGES) and [`MOST_BYTES`](Self::MOST_BYTES) are
/// kept, the last ones.
#[derive(Debug)]
pub struct RecoveryBuffer {
    policy: Recovery,
    kept: VecDeque<Kept>,
    bytes: u64,
    retained: Option<Arc<Message>>,
    retentions: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Kept {
    at: i64,
    size: u64,
    message: Arc<Message>,
}

impl RecoveryBuffer {
    /// The most messages that are kept for a topic.
    pub const MOST_MESSAGES: usize = 100_000;

    /// The most bytes of messages that are kept for a topic.
    pub const MOST_BYTES: u64 = 256 * 1024 * 1024;

    /// An empty buffer.
    pub fn new(policy: &Recovery) -> Self {
        let mut policy = policy;
        // The retained message is kept in any case.
        while let Recovery::Retained { wrapped } = policy {
            policy = wrapped;
        }
        Self {
            policy: policy.clone(),
            kept: VecDeque::new(),
            bytes: 0,
            retained: None,
            retentions: 0,
            dropped: 0,
        }
    }

    /// Takes note of a message that was sent to the topic, of so many bytes, at a time in milliseconds.
    ///
    /// Returns the message as consumers get it: one that was to be retained without the property that said so.
    pub fn add(&mut self, now: i64, message: Arc<Message>, size: u64) -> Arc<Message> {
        let message = self.retain(message);
        let keep = match &self.policy {
            Recovery::None | Recovery::Retained { .. } => false,
            // A message it does not fit is not selected.
            Recovery::Query { query, .. } => query.matches(&*message).unwrap_or(false),
            _ => true,
        };
        if keep {
            self.kept.push_back(Kept {
                at: now,
                size,
                message: message.clone(),
            });
            self.bytes = self.bytes.saturating_add(size);
        }
        self.sweep(now);
        message
    }

    /// Lets go of what the policy does not keep any longer. Only a timed policy needs this to be called, now and
    /// then, on a topic to which nothing is sent any more.
    pub fn sweep(&mut self, now: i64) {
        while let Some(oldest) = self.kept.front() {
            let by_policy = match &self.policy {
                Recovery::None | Recovery::Retained { .. } => true,
                Recovery::LastImage => self.kept.len() > 1,
                Recovery::FixedCount { maximum_size } | Recovery::Query { maximum_size, .. } => {
                    self.kept.len() > *maximum_size
                }
                Recovery::FixedSize { maximum_size } => self.bytes > *maximum_size,
                Recovery::Timed { recover_duration } => {
                    i128::from(now) - i128::from(oldest.at) > recover_duration.as_millis() as i128
                }
            };
            let by_bound = self.kept.len() > Self::MOST_MESSAGES || self.bytes > Self::MOST_BYTES;
            if !by_policy && !by_bound {
                return;
            }
            self.dropped += u64::from(!by_policy);
            self.bytes -= oldest.size.min(self.bytes);
            self.kept.pop_front();
        }
    }

    /// How often a message was to be retained, or took the one away that was. A number that changed says that the retained
    /// message is another one.
    pub fn retentions(&self) -> u64 {
        self.retentions
    }

    /// The retained message, whether or not its time is over.
    pub fn current(&self) -> Option<&Arc<Message>> {
        self.retained.as_ref()
    }

    /// The retained message was kept elsewhere, or is from here on: it comes or goes without having been sent.
    pub fn set_current(&mut self, retained: Option<Arc<Message>>) {
        self.retained = retained;
    }

    /// The message with this broker sequence number was not sent after all.
    pub fn withdraw(&mut self, sequence: i64) {
        let is = |message: &Message| {
            let id = message.message_id.as_ref();
            id.is_some_and(|id| id.broker_sequence_id == sequence)
        };
        // It is among the last ones.
        if let Some(at) = self.kept.iter().rposition(|kept| is(&kept.message))
            && let Some(kept) = self.kept.remove(at)
        {
            self.bytes -= kept.size.min(self.bytes);
        }
        self.retained.take_if(|message| is(message));
    }

    /// Lets go of the oldest messages until those that the policy keeps have no more than so many bytes; they count as
    /// dropped.
    pub fn shrink(&mut self, most: u64) {
        while self.bytes > most {
            let Some(oldest) = self.kept.pop_front() else {
                return;
            };
            self.bytes -= oldest.size.min(self.bytes);
            self.dropped += 1;
        }
    }

    /// What a new consumer of these destinations gets, in order: the retained message and those the policy keeps, but
    /// none whose time is over.
    pub fn replay<'a>(&'a self, now: i64, wanted: &'a Pattern) -> impl Iterator<Item = &'a Arc<Message>> {
        self.retained(now, wanted)
            .into_iter()
            .chain(self.recovered(now, wanted))
    }

    /// The retained message only: what a durable subscription gets for which messages wait.
    pub fn retained(&self, now: i64, wanted: &Pattern) -> Option<&Arc<Message>> {
        self.retained
            .as_ref()
            .filter(|message| is_wanted(message, now, wanted))
    }

    /// How many messages are kept, the retained one included.
    pub fn len(&self) -> usize {
        self.kept.len() + usize::from(self.retained.is_some())
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the messages that the policy keeps.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many messages the policy would have kept, if there was no bound.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn recovered<'a>(&'a self, now: i64, wanted: &'a Pattern) -> impl Iterator<Item = &'a Arc<Message>> {
        let oldest = match &self.policy {
            Recovery::Timed { recover_duration } => i128::from(now) - recover_duration.as_millis() as i128,
            _ => i128::MIN,
        };
        self.kept
            .iter()
            .filter(move |kept| i128::from(kept.at) >= oldest)
            .map(|kept| &kept.message)
            .filter(move |message| is_wanted(message, now, wanted))
    }

    fn retain(&mut self, message: Arc<Message>) -> Arc<Message> {
        let properties = message.marshalled_properties.as_ref();
        let Some(properties) = properties.filter(|_| is_to_be_retained(&message)) else {
            return message;
        };
        let Ok(mut map) = decode_map(properties.clone()) else {
            return message;
        };
        map.remove(RETAIN);
        let Some(plain) = with_properties(&message, &map) else {
            return message;
        };
        self.retentions += 1;
        let has_body = message
            .content
            .as_ref()
            .is_some_and(|content| !content.is_empty());
        self.retained = if has_body {
            map.insert(RETAINED, true);
            with_properties(&message, &map).map(Arc::new)
        } else {
            None
        };
        Arc::new(plain)
    }
}

/// What comes over a wildcard is asked by its own destination.
fn is_wanted(message: &Message, now: i64, wanted: &Pattern) -> bool {
    let expired = message.expiration > 0 && message.expiration <= now;
    !expired
        && message
            .destination
            .as_ref()
            .is_some_and(|destination| wanted.matches(destination))
}

/// True if a topic retains the message: its property [`RETAIN`] is true, or a text that says so.
pub fn is_to_be_retained(message: &Message) -> bool {
    let properties = message.marshalled_properties.as_ref();
    match properties.map(|properties| find_value(properties, RETAIN)) {
        Some(Ok(Some(ValueRef::Bool(retain)))) => retain,
        Some(Ok(Some(ValueRef::String(text)))) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

fn with_properties(message: &Message, properties: &ValueMap) -> Option<Message> {
    let mut out = BytesMut::new();
    encode_map(properties, &mut out).ok()?;
    let mut copy = message.clone();
    copy.marshalled_properties = (!properties.is_empty()).then(|| out.freeze());
    Some(copy)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use openwire_client::wire::{Destination, Value};

    use super::*;
    use crate::policy::strategy::Filter;

    fn message(number: i32, properties: &[(&str, Value)], body: &'static [u8]) -> Arc<Message> {
        let mut map = ValueMap::new();
        for (name, value) in properties {
            map.insert(*name, value.clone());
        }
        let plain = Message {
            destination: Some(Destination::topic("A.B")),
            group_sequence: number,
            content: Some(Bytes::from_static(body)),
            ..Message::default()
        };
        Arc::new(with_properties(&plain, &map).unwrap())
    }

    fn replayed(buffer: &RecoveryBuffer, now: i64, wanted: &str) -> Vec<i32> {
        let wanted = Pattern::topic(wanted);
        buffer
            .replay(now, &wanted)
            .map(|message| message.group_sequence)
            .collect()
    }

    fn filled(policy: Recovery) -> RecoveryBuffer {
        let mut buffer = RecoveryBuffer::new(&policy);
        for number in 0..5 {
            buffer.add(
                i64::from(number) * 100,
                message(number, &[("n", Value::Int(number))], b"x"),
                10,
            );
        }
        buffer
    }

    #[test]
    fn what_each_policy_keeps() {
        for (policy, expected) in [
            (Recovery::None, &[][..]),
            (Recovery::LastImage, &[4]),
            (Recovery::FixedCount { maximum_size: 3 }, &[2, 3, 4]),
            (Recovery::FixedSize { maximum_size: 25 }, &[3, 4]),
            (Recovery::FixedSize { maximum_size: 5 }, &[]),
            (
                Recovery::Timed {
                    recover_duration: Duration::from_millis(150),
                },
                &[3, 4],
            ),
            (
                Recovery::Query {
                    query: Filter::parse("n <> 3").unwrap(),
                    maximum_size: 2,
                },
                &[2, 4],
            ),
            (
                Recovery::Retained {
                    wrapped: Box::new(Recovery::LastImage),
                },
                &[4],
            ),
        ] {
            let buffer = filled(policy.clone());
            assert_eq!(replayed(&buffer, 400, "A.>"), expected, "{policy:?}");
            assert_eq!(replayed(&buffer, 400, "B.>"), [0; 0], "{policy:?}");
            assert_eq!(buffer.bytes(), expected.len() as u64 * 10);
            assert_eq!(buffer.dropped(), 0);
        }
    }

    #[test]
    fn time_passes_without_messages() {
        let mut buffer = filled(Recovery::Timed {
            recover_duration: Duration::from_millis(150),
        });
        assert_eq!(replayed(&buffer, 500, "A.B"), [4]);
        buffer.sweep(10_000);
        assert!(buffer.is_empty());
        // A clock that was put back harms nothing.
        buffer.add(i64::MIN, message(7, &[], b""), 1);
        buffer.add(i64::MAX, message(8, &[], b""), 1);
        assert_eq!(replayed(&buffer, i64::MAX, "A.B"), [8]);
    }

    #[test]
    fn there_is_a_bound_and_what_it_costs_is_counted() {
        let mut buffer = RecoveryBuffer::new(&Recovery::Timed {
            recover_duration: Duration::MAX,
        });
        for number in 0..4 {
            buffer.add(0, message(number, &[], b""), RecoveryBuffer::MOST_BYTES / 2);
        }
        assert_eq!(replayed(&buffer, 0, "A.B"), [2, 3]);
        assert_eq!(buffer.dropped(), 2);
    }

    #[test]
    fn where_there_is_no_room_the_oldest_go_and_are_counted() {
        let mut buffer = filled(Recovery::FixedCount { maximum_size: 4 });
        buffer.shrink(25);
        assert_eq!(replayed(&buffer, 400, "A.B"), [3, 4]);
        assert_eq!((buffer.bytes(), buffer.dropped()), (20, 2));
        buffer.shrink(0);
        assert!(buffer.is_empty());
    }

    #[test]
    fn the_expired_are_not_shown() {
        let mut buffer = RecoveryBuffer::new(&Recovery::LastImage);
        let mut expiring = (*message(1, &[], b"")).clone();
        expiring.expiration = 50;
        buffer.add(0, Arc::new(expiring), 1);
        assert_eq!(replayed(&buffer, 49, "A.B"), [1]);
        assert_eq!(replayed(&buffer, 50, "A.B"), [0; 0]);
    }

    #[test]
    fn the_retained_message() {
        let mut buffer = RecoveryBuffer::new(&Recovery::LastImage);
        let plain = message(1, &[("a", Value::Int(1))], b"x");
        assert!(Arc::ptr_eq(&buffer.add(0, plain.clone(), 1), &plain));
        let shown = buffer.add(
            0,
            message(2, &[(RETAIN, true.into()), ("a", Value::Int(1))], b"x"),
            1,
        );
        // Consumers of now see it as any other message.
        assert_eq!(shown.marshalled_properties, plain.marshalled_properties);
        buffer.add(0, message(3, &[(RETAIN, "false".into())], b"x"), 1);
        assert_eq!(replayed(&buffer, 0, "A.B"), [2, 3]);
        let wanted = Pattern::topic(">");
        let retained = buffer.retained(0, &wanted).unwrap();
        let properties = decode_map(retained.marshalled_properties.clone().unwrap()).unwrap();
        assert_eq!(properties.get(RETAINED), Some(&Value::Bool(true)));
        assert_eq!((properties.get(RETAIN), properties.len()), (None, 2));
        assert_eq!(buffer.retentions(), 1);
        // One without a body takes it away.
        buffer.add(0, message(4, &[(RETAIN, "TRUE".into())], b""), 1);
        assert_eq!(buffer.retained(0, &wanted), None);
        assert_eq!(replayed(&buffer, 0, "A.B"), [4]);
        assert_eq!(buffer.retentions(), 2);
        buffer.set_current(Some(plain));
        assert_eq!(replayed(&buffer, 0, "A.B"), [1, 4]);
    }
}
