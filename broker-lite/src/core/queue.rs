//! A queue: what waits, who consumes, and who is to get what next.
//!
//! Consumers are kept in [`Classes`] of those that see alike; each message is looked at once, however often dispatching
//! begins anew and however deep the queue is.

use std::collections::BTreeSet;
use std::sync::Arc;

use openwire_client::wire::{ConnectionId, Destination, Message};
use rustc_hash::FxHashMap;

use super::backlog::{Backlog, Place};
use super::classes::{ClassKey, Classes};
use super::durable_subscription::DurableSubscription;
use super::groups::Groups;
use super::spool::{QueueSpool, Spooled};
use super::statistics::Counts;
use super::subscription::{Sight, SubscriptionKey};
use crate::policy::Policy;
use crate::store::DestinationKey;

/// Names a queue inside the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct QueueKey(pub(super) usize);

/// A message on a queue. Small, because a deep queue has millions: a body that is stored as well may be
/// out of memory.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The broker sequence number, which orders the queue.
    pub(super) sequence: u64,
    /// What it counts in the broker's accounting, in bytes.
    pub(super) size: u32,
    /// How often delivery failed.
    pub(super) redelivered: u32,
    /// It lies in the store.
    pub(super) stored: bool,
    /// It does not, but was sent in a transaction that stored something, and stands or falls with it.
    pub(super) tied: bool,
    /// Whether it lies in the temporary store while it waits.
    pub(super) spooled: Spooled,
    /// `JMSPriority`.
    pub(super) priority: u8,
    /// The message; none while only the store has it.
    pub(super) body: Option<Arc<Message>>,
}

impl Entry {
    /// Nobody may see it before everything up to its sequence is durable.
    pub(super) fn waits_for_store(&self) -> bool {
        self.stored || self.tied
    }
}

/// A consumer as its queue knows it.
#[derive(Debug, Clone, Copy)]
struct Member {
    class: ClassKey,
    /// Which consumer it is, counted from the first.
    number: u64,
    exclusive: bool,
    /// Its number in the line of those with credit, if it stands there.
    ready: Option<u64>,
}

/// Who is to get a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    Consumer(SubscriptionKey),
    /// The group it belongs to is this consumer's, which cannot take it now.
    Parked(SubscriptionKey),
    /// None of those that have credit.
    Nobody,
}

#[derive(Debug)]
pub(super) struct Queue {
    /// The queue or, for a durable subscription, what it subscribes to.
    pub(super) destination: Destination,
    /// What holds for it.
    pub(super) policy: Arc<Policy>,
    /// What it is if it is not a queue: what waits for a durable subscription behaves as one.
    pub(super) durable: Option<Box<DurableSubscription>>,
    /// It may pass on what is sent to it.
    pub(super) passes_on: bool,
    /// Its name in the store, once something of it was stored.
    pub(super) key: Option<DestinationKey>,
    /// The store was told of that name, and has not refused it.
    pub(super) created: bool,
    /// What waits, in order.
    pub(super) backlog: Backlog,
    /// Messages that consumers have.
    pub(super) in_flight: usize,
    /// Bytes of its messages that live in memory only.
    pub(super) memory_used: usize,
    pub(super) counts: Counts,
    /// The connection that made it, if one did.
    pub(super) made_by: Option<ConnectionId>,
    members: FxHashMap<SubscriptionKey, Member>,
    classes: Classes,
    /// The only consumer that is served, if one is.
    exclusive: Option<SubscriptionKey>,
    pub(super) groups: Option<Box<Groups>>,
    /// Browsers that are not at their end.
    pub(super) browsers: Vec<SubscriptionKey>,
    next_number: u64,
    /// Which queue it is of all that ever were; 0 until the core has it.
    pub(super) number: u64,
    /// Since when nobody has used it, in milliseconds since 1970, as far as that was looked for.
    pub(super) unused_since: Option<i64>,
    /// It waits for more consumers before it dispatches.
    pub(super) held: bool,
    /// When messages end that have an end. Some of them may be gone.
    pub(super) expiring: BTreeSet<(i64, Place)>,
    /// It will be searched for those.
    pub(super) sweeping: bool,
    /// Stored messages up to this sequence may be shown to consumers: the store knows that they may have
    /// been, and a restart after a crash flags them as redelivered.
    pub(super) mark: u64,
    /// A higher mark is on its way into the store.
    pub(super) marking: bool,
    /// Bodies are on their way from the store.
    pub(super) loading: bool,
    pub(super) spool: QueueSpool,
}

impl Queue {
    pub(super) fn new(destination: Destination, policy: Arc<Policy>) -> Self {
        Self {
            destination,
            durable: None,
            passes_on: false,
            key: None,
            created: false,
            backlog: Backlog::new(policy.prioritized_messages),
            policy,
            in_flight: 0,
            memory_used: 0,
            counts: Counts::default(),
            made_by: None,
            members: FxHashMap::default(),
            classes: Classes::default(),
            exclusive: None,
            groups: None,
            browsers: Vec::new(),
            next_number: 0,
            number: 0,
            unused_since: None,
            held: false,
            expiring: BTreeSet::new(),
            sweeping: false,
            mark: 0,
            marking: false,
            loading: false,
            spool: QueueSpool::default(),
        }
    }

    /// Consumers, browsers not among them.
    pub(super) fn consumers(&self) -> impl ExactSizeIterator<Item = SubscriptionKey> {
        self.members.keys().copied()
    }

    /// Takes a consumer in; true if that changes who is served.
    pub(super) fn add_consumer(&mut self, key: SubscriptionKey, mut sight: Sight, exclusive: bool) -> bool {
        if !self.policy.use_consumer_priority {
            sight.priority = 0;
        }
        let exclusive = exclusive || self.policy.all_consumers_exclusive_by_default;
        let priority = sight.priority;
        let class = self.classes.join(sight, &self.backlog);
        self.next_number += 1;
        let member = Member {
            class,
            number: self.next_number,
            exclusive,
            ready: None,
        };
        self.members.insert(key, member);
        if exclusive {
            let replaces = match self.exclusive {
                None => true,
                Some(holder) => {
                    priority == HIGHEST_PRIORITY
                        || self.sight(holder).is_none_or(|held| priority > held.priority)
                }
            };
            if replaces {
                self.set_exclusive(Some(key));
                return true;
            }
        }
        false
    }

    /// Takes a consumer out; true if that changes who is served.
    pub(super) fn remove_consumer(&mut self, key: SubscriptionKey) -> bool {
        self.browsers.retain(|&browser| browser != key);
        self.rest(key);
        let Some(member) = self.members.remove(&key) else {
            return false;
        };
        self.classes.leave(member.class);
        let free = self.groups.as_mut().map(|groups| groups.remove_owner(key));
        self.look_again(free.unwrap_or_default());
        if self.exclusive == Some(key) {
            let next = self
                .members
                .iter()
                .filter(|(_, member)| member.exclusive)
                .max_by_key(|(_, member)| {
                    let priority = self.classes.sight(member.class).priority;
                    (priority, std::cmp::Reverse(member.number))
                })
                .map(|(key, _)| *key);
            self.set_exclusive(next);
            return true;
        }
        false
    }

    /// Messages that were parked are for all to look at.
    pub(super) fn look_again(&mut self, places: BTreeSet<Place>) {
        for place in places {
            self.classes.look_at(place, &self.backlog);
        }
    }

    /// Only this consumer is served, or all are. Whoever was ready has to line up again.
    fn set_exclusive(&mut self, holder: Option<SubscriptionKey>) {
        self.exclusive = holder;
        self.classes.clear_lines();
        for member in self.members.values_mut() {
            member.ready = None;
        }
        if let Some(groups) = &mut self.groups {
            groups.all_rest();
        }
    }

    /// True if messages may go to this consumer as far as others are concerned.
    pub(super) fn is_served(&self, key: SubscriptionKey) -> bool {
        self.exclusive.is_none_or(|holder| holder == key)
    }

    /// The consumer takes its place at the end of those that are served.
    pub(super) fn get_ready(&mut self, key: SubscriptionKey) {
        if !self.is_served(key) {
            return;
        }
        let Some(member) = self.members.get_mut(&key) else {
            return;
        };
        if member.ready.is_none() {
            self.next_number += 1;
            member.ready = Some(self.next_number);
            self.classes.line_up(member.class, self.next_number, key);
            if let Some(groups) = &mut self.groups {
                groups.get_ready(key);
            }
        }
    }

    /// The consumer is not served any more.
    pub(super) fn rest(&mut self, key: SubscriptionKey) {
        if let Some(member) = self.members.get_mut(&key)
            && member.ready.take().is_some()
        {
            let class = member.class;
            let members = &self.members;
            self.classes
                .step_out(class, |number, key| stands(members, number, key));
            if let Some(groups) = &mut self.groups {
                groups.rest(key);
            }
        }
    }

    /// Those that are served and not in line, in the order in which they came.
    pub(super) fn out_of_line(&self) -> Vec<SubscriptionKey> {
        let mut waiting: Vec<_> = self
            .members
            .iter()
            .filter(|(key, member)| member.ready.is_none() && self.is_served(**key))
            .map(|(key, member)| (member.number, *key))
            .collect();
        waiting.sort_unstable_by_key(|(number, _)| *number);
        waiting.into_iter().map(|(_, key)| key).collect()
    }

    /// True if anybody stands in line.
    pub(super) fn any_ready(&self) -> bool {
        self.classes.any_ready()
    }

    /// All who stand in line.
    pub(super) fn ready(&self) -> impl Iterator<Item = SubscriptionKey> {
        self.classes
            .in_line()
            .filter(|(number, key)| stands(&self.members, *number, *key))
            .map(|(_, key)| key)
    }

    fn sight(&self, key: SubscriptionKey) -> Option<&Sight> {
        let member = self.members.get(&key)?;
        Some(self.classes.sight(member.class))
    }

    /// True if some consumer selects the message.
    pub(super) fn is_wanted(&self, message: &Message) -> bool {
        self.classes.want(message)
    }

    /// The next message that a consumer with credit has to look at.
    pub(super) fn next(&mut self) -> Option<Place> {
        let looked_at = self.classes.next(&self.backlog);
        looked_at.into_iter().chain(self.next_parked()).min()
    }

    /// The first message that waits for the owner of its group, if that has credit.
    fn next_parked(&mut self) -> Option<Place> {
        let groups = self.groups.as_mut()?;
        while let Some((place, owner)) = groups.next() {
            if self.backlog.get(place).is_some() {
                return Some(place);
            }
            groups.forget(owner, place);
        }
        None
    }

    /// True if this consumer has looked at everything that is there.
    pub(super) fn has_nothing_for(&mut self, key: SubscriptionKey) -> bool {
        let Some(member) = self.members.get(&key) else {
            return true;
        };
        let parked = self.groups.as_ref().is_some_and(|groups| groups.has_waiting(key));
        !parked && self.classes.has_nothing(member.class, &self.backlog)
    }

    /// Who gets this message. Call [`Queue::pass`] if nobody does.
    pub(super) fn choose(&mut self, place: Place, message: &Message) -> Choice {
        if let (Some(group), Some(groups)) = (&message.group_id, &mut self.groups)
            && message.group_sequence != 1
            && let Some(owner) = groups.owner(group)
            && let Some(member) = self.members.get(&owner)
        {
            let takes = member.ready.is_some() && self.classes.sight(member.class).sees(message);
            return if takes {
                Choice::Consumer(owner)
            } else {
                Choice::Parked(owner)
            };
        }
        match self.classes.choose(place, message) {
            Some(consumer) => Choice::Consumer(consumer),
            None => Choice::Nobody,
        }
    }

    /// Nobody who is ready takes the message here.
    pub(super) fn pass(&mut self, place: Place, message: &Message) {
        self.classes.pass(place, message, &self.backlog);
    }

    /// The message here waits for its group's owner.
    pub(super) fn park(&mut self, owner: SubscriptionKey, place: Place, message: &Message) {
        let selects = self.sight(owner).is_some_and(|sight| sight.sees(message));
        if let (Some(groups), Some(group)) = (&mut self.groups, &message.group_id) {
            groups.park(group, owner, place, selects);
        }
        self.pass(place, message);
    }

    /// Takes the message here, which goes to this consumer.
    pub(super) fn take(&mut self, place: Place, consumer: SubscriptionKey) -> Option<Entry> {
        self.rest(consumer);
        if let Some(member) = self.members.get(&consumer) {
            self.classes.take(member.class, place, &self.backlog);
        }
        self.remove(place)
    }

    /// Takes the message here off the queue.
    pub(super) fn remove(&mut self, place: Place) -> Option<Entry> {
        let entry = self.backlog.remove(place)?;
        if let Some(groups) = &mut self.groups
            && let Some(group) = entry.body.as_ref().and_then(|message| message.group_id.as_ref())
        {
            groups.unpark(group, place);
        }
        if let Some(message) = &entry.body
            && message.expiration > 0
        {
            self.expiring.remove(&(message.expiration, place));
        }
        Some(entry)
    }

    /// Puts a message where it belongs, for all to look at.
    pub(super) fn put(&mut self, entry: Entry) {
        let place = self.backlog.insert(entry);
        self.classes.look_at(place, &self.backlog);
    }

    /// The message here, and those behind it that will be looked at next.
    pub(super) fn ahead(&self, place: Place) -> impl Iterator<Item = (Place, &Entry)> {
        let fresh = self.classes.fresh().unwrap_or(place);
        let mut back = BTreeSet::new();
        if place < fresh {
            let groups = self.groups.iter();
            back.insert(place);
            back.extend(self.classes.behind(place..fresh));
            back.extend(groups.flat_map(|groups| groups.waiting(place..fresh)));
        }
        let back = back.into_iter();
        back.filter_map(|place| Some((place, self.backlog.get(place)?)))
            .chain(self.backlog.iter_from(place.max(fresh)))
    }

    /// Where the message with this sequence waits.
    pub(super) fn find(&self, sequence: u64) -> Option<Place> {
        self.backlog.find(sequence)
    }

    /// The mark that is asked for next: enough for many messages, so that the store is seldom waited for,
    /// but not for a whole backlog, because all that is below it counts as shown.
    pub(super) fn next_mark(&self, place: Place, last_sequence: u64) -> u64 {
        const AHEAD: usize = 1000;
        let mut ahead = self.backlog.iter_from(place);
        let first = ahead.next().map_or(0, |(_, entry)| entry.sequence);
        match ahead.nth(AHEAD - 2) {
            // With priorities what comes later may have come earlier.
            Some((_, entry)) => entry.sequence.max(first),
            None => last_sequence + AHEAD as u64,
        }
    }
}

/// A consumer of this priority takes over from an exclusive one in any case, as in ActiveMQ.
const HIGHEST_PRIORITY: i8 = 127;

/// True if a place in line is taken still.
fn stands(members: &FxHashMap<SubscriptionKey, Member>, number: u64, key: SubscriptionKey) -> bool {
    members
        .get(&key)
        .is_some_and(|member| member.ready == Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reaches_ahead_but_not_over_a_backlog() {
        let entry = |sequence| Entry {
            sequence,
            size: 1,
            redelivered: 0,
            stored: false,
            tied: false,
            spooled: Spooled::No,
            priority: 4,
            body: None,
        };
        let mut queue = Queue::new(Destination::queue("q"), Arc::default());
        (1..=10).for_each(|sequence| queue.put(entry(sequence)));
        assert_eq!(queue.next_mark(Place::START, 10), 1010);
        (11..=5000).for_each(|sequence| queue.put(entry(sequence)));
        assert_eq!(queue.next_mark(Place::START, 5000), 1000);
    }
}
