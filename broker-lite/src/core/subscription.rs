//! A consumer as the broker sees it: its credit, and what it has not acknowledged.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use openwire_client::wire::{ConsumerId, ConsumerInfo, Message, MessageId};

use super::browse::Browse;
use super::effect::ConnectionKey;
use super::queue::{Entry, QueueKey};
use super::slow_consumer::Slowness;
use super::statistics::SubscriptionCounts;
use super::topic::TopicKey;
use super::transaction::TransactionKey;
use crate::policy::Policy;
use crate::selector::Selector;

/// Bytes of stored messages whose bodies stay in memory for a consumer that has them and has not finished with them.
const HELD_BODIES: usize = 8 * 1024 * 1024;

/// Names a subscription inside the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SubscriptionKey(pub(super) usize);

/// A message that was dispatched and is not acknowledged.
#[derive(Debug)]
pub(super) struct InFlight {
    /// The message. Its body is there as long as few are in flight.
    pub(super) entry: Entry,
    /// Where it came from.
    pub(super) queue: QueueKey,
    /// Grows with every dispatch, so that what comes back finds its place.
    pub(super) number: u64,
    /// What the client calls it, if the body is not there to say so.
    pub(super) id: Option<Box<MessageId>>,
}

impl InFlight {
    pub(super) fn is(&self, id: &MessageId) -> bool {
        match &self.entry.body {
            Some(message) => message.message_id.as_ref() == Some(id),
            None => self.id.as_deref() == Some(id),
        }
    }

    /// Lets the body of a stored message go: it can be read back.
    pub(super) fn release_body(&mut self) {
        if let Some(message) = self.entry.body.take() {
            self.id = message.message_id.clone().map(Box::new);
        }
    }
}

/// A consumer with prefetch 0 waits for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pull {
    /// As long as it takes.
    Forever,
    /// Until then, in milliseconds since 1970.
    Until(i64),
    /// Only as long as it takes to find out that there is none.
    NoWait,
}

/// Where a subscription's messages come from.
#[derive(Debug)]
pub(super) enum Source {
    /// Queues, or the one backlog of a durable subscription.
    Queues(Vec<QueueKey>),
    Topics(Vec<TopicKey>),
}

/// What a consumer wants to see. Those for which it is the same see the same messages of a queue.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    /// Its priority among consumers; it is served before those of lower ones.
    pub(super) priority: i8,
    /// None is all.
    pub(super) selector: Option<Arc<Selector>>,
    /// Messages of this connection are not for it (`noLocal`).
    pub(super) not_from: Option<Arc<str>>,
}

impl PartialEq for Sight {
    fn eq(&self, other: &Self) -> bool {
        let text = |sight: &Self| sight.selector.clone();
        self.priority == other.priority
            && self.not_from == other.not_from
            && match (text(self), text(other)) {
                (None, None) => true,
                (Some(own), Some(other)) => Arc::ptr_eq(&own, &other) || own.as_str() == other.as_str(),
                _ => false,
            }
    }
}

impl Eq for Sight {}

impl Hash for Sight {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.priority.hash(state);
        self.selector
            .as_ref()
            .map(|selector| selector.as_str())
            .hash(state);
        self.not_from.hash(state);
    }
}

impl Sight {
    /// True if the message is for it. A selector that does not fit the message does not select it.
    pub(super) fn sees(&self, message: &Message) -> bool {
        if let Some(own) = &self.not_from {
            let sender = message.message_id.as_ref().and_then(|id| id.producer_id.as_ref());
            if sender.and_then(|id| id.connection_id.as_deref()) == Some(own) {
                return false;
            }
        }
        let Some(selector) = &self.selector else {
            return true;
        };
        selector.matches(message).unwrap_or_else(|error| {
            tracing::debug!(%selector, %error, "the selector cannot be applied to a message");
            false
        })
    }
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) id: ConsumerId,
    pub(super) connection: ConnectionKey,
    /// As the client described it.
    pub(super) info: Box<ConsumerInfo>,
    pub(super) source: Source,
    pub(super) prefetch: u32,
    /// Messages in flight that do not count against the prefetch: the client said it has them.
    pub(super) extension: usize,
    pub(super) sight: Sight,
    /// The transactions without an outcome in which it has acknowledged something.
    pub(super) transactions: Vec<TransactionKey>,
    /// What a queue consumer has and has not acknowledged, in order of dispatch.
    pub(super) in_flight: VecDeque<InFlight>,
    /// How many messages a topic consumer has: nobody will ask for them again.
    pub(super) topic_in_flight: usize,
    /// The last broker sequence number when it came: what has a later one was sent after it.
    pub(super) since: u64,
    /// What waits for a topic consumer's credit.
    pub(super) waiting: VecDeque<Arc<Message>>,
    /// How many may wait there; none is any number.
    pub(super) pending_limit: Option<usize>,
    /// No message that waits there ends before this, in milliseconds since 1970.
    pub(super) first_expiration: i64,
    /// Its connection has more than it can take, so what is sent to its topics waits.
    pub(super) stalled: bool,
    /// Retained messages that come from the store first.
    pub(super) awaits: usize,
    /// What holds for what it consumes from.
    pub(super) policy: Arc<Policy>,
    /// Whether it keeps up.
    pub(super) slowness: Slowness,
    pub(super) pull: Option<Pull>,
    /// Queues that do not serve it because it had no credit.
    pub(super) starved: VecDeque<QueueKey>,
    /// How far it has come, if it only looks.
    pub(super) browse: Option<Box<Browse>>,
    pub(super) counts: SubscriptionCounts,
    /// If it has several topics: those of the messages it has, in order.
    pub(super) topics_in_flight: VecDeque<Option<TopicKey>>,
}

impl Subscription {
    pub(super) fn new(
        id: ConsumerId,
        connection: ConnectionKey,
        info: Box<ConsumerInfo>,
        source: Source,
        sight: Sight,
        policy: Arc<Policy>,
        now: i64,
    ) -> Self {
        let starved = match &source {
            Source::Queues(queues) if !info.browser => queues.iter().copied().collect(),
            _ => VecDeque::new(),
        };
        let prefetch = u32::try_from(info.prefetch_size).unwrap_or(0);
        let limit = policy
            .pending_limit
            .for_consumer(prefetch, info.maximum_pending_message_limit);
        Self {
            id,
            connection,
            prefetch,
            info,
            source,
            extension: 0,
            sight,
            transactions: Vec::new(),
            in_flight: VecDeque::new(),
            topic_in_flight: 0,
            since: 0,
            waiting: VecDeque::new(),
            pending_limit: limit.map(|limit| limit as usize),
            first_expiration: i64::MAX,
            stalled: false,
            awaits: 0,
            policy,
            slowness: Slowness::new(now),
            pull: None,
            starved,
            browse: None,
            counts: SubscriptionCounts::default(),
            topics_in_flight: VecDeque::new(),
        }
    }

    /// True if a message may be dispatched to it.
    pub(super) fn has_credit(&self) -> bool {
        if self.stalled || self.awaits > 0 || self.slowness.is_aborted() {
            return false;
        }
        if self.prefetch == 0 {
            return self.pull.is_some();
        }
        let in_flight = match self.source {
            Source::Queues(_) => self.in_flight.len(),
            Source::Topics(_) => self.topic_in_flight,
        };
        in_flight.saturating_sub(self.extension) < self.prefetch as usize
    }

    /// The queues it consumes from.
    pub(super) fn queues(&self) -> &[QueueKey] {
        match &self.source {
            Source::Queues(queues) => queues,
            Source::Topics(_) => &[],
        }
    }

    /// The topics it consumes from.
    pub(super) fn topics(&self) -> &[TopicKey] {
        match &self.source {
            Source::Topics(topics) => topics,
            Source::Queues(_) => &[],
        }
    }

    /// The positions of the messages from `first` (none: the oldest) to `last`, both included.
    pub(super) fn range(&self, first: Option<&MessageId>, last: &MessageId) -> Option<(usize, usize)> {
        let from = match first {
            None => 0,
            Some(first) => self.in_flight.iter().position(|message| message.is(first))?,
        };
        // A consumer of several queues can have copies of one message; the first of them is meant.
        if first == Some(last) {
            return Some((from, from));
        }
        // What the client said it has stands before what it says next.
        let likely = self.extension.clamp(from, self.in_flight.len());
        let find = |mut range: std::ops::Range<usize>| range.find(|&at| self.in_flight[at].is(last));
        let to = find(likely..self.in_flight.len()).or_else(|| find(from..likely))?;
        Some((from, to))
    }

    /// Takes the messages at these positions out of flight, giving back the credit they had.
    pub(super) fn take(&mut self, from: usize, to: usize) -> Vec<InFlight> {
        let taken: Vec<_> = self.in_flight.drain(from..=to).collect();
        self.extension = self.extension.saturating_sub(taken.len());
        self.counts.acknowledged += taken.len() as u64;
        taken
    }

    /// Messages whose acknowledgement had no effect are in flight again, where they were. The client has them,
    /// so they do not count against the prefetch.
    pub(super) fn take_back(&mut self, messages: Vec<InFlight>) {
        self.extension += messages.len();
        self.counts.acknowledged = self.counts.acknowledged.saturating_sub(messages.len() as u64);
        self.in_flight.extend(messages);
        self.in_flight
            .make_contiguous()
            .sort_by_key(|message| message.number);
    }

    /// Messages up to this position no longer count against the prefetch. A client that has very many may keep them
    /// for long: then the broker does not keep their bodies as well.
    pub(super) fn extend(&mut self, position: usize) {
        self.extension = self.extension.max(position + 1);
        let mut held = 0;
        for message in self.in_flight.range_mut(..=position) {
            if message.entry.stored && message.entry.body.is_some() {
                held += message.entry.size as usize;
                if held > HELD_BODIES && self.browse.is_none() {
                    message.release_body();
                }
            }
        }
    }
}
