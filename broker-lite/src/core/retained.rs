//! What topics keep for consumers that come later: what their recovery policies say, and the retained message.
//!
//! Retroactive consumers get it when they come, durable subscriptions each time they do. A retained message that is
//! persistent lies in the store as well, so it is there after a restart; its body is read back when somebody wants it
//! first.

use std::sync::Arc;

use openwire_client::wire::{Destination, DestinationKind, Message, MessageId};

use super::destinations::{Target, parts};
use super::expiry::millis;
use super::queue::{Entry, QueueKey};
use super::refusal::Refusal;
use super::send::is_expired;
use super::spool::Spooled;
use super::subscriber::Aftermath;
use super::subscription::SubscriptionKey;
use super::timer::Alarm;
use super::topic::{Topic, TopicKey};
use super::{Core, Effect, Effects, Turn};
use crate::policy::{Pattern, Recovery};
use crate::store::{
    DestinationKey, MessageKey, Op, RecoveredDestination, StoredDestination, accounting_size,
};

/// Where the retained message of a topic lies besides memory.
#[derive(Debug, Default)]
pub(super) struct Retained {
    /// The topic's key in the store, while it has a message there.
    key: Option<DestinationKey>,
    /// The store was told of that key, and has not refused it.
    created: bool,
    /// The message there.
    sequence: Option<u64>,
    /// Others that should be gone, and other keys of the topic: the store refused to let them go.
    stale: Vec<u64>,
    orphans: Vec<DestinationKey>,
    /// Who gets it once it was read back.
    awaiting: Vec<Awaiting>,
}

/// Who waits for a message to be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaiting {
    Consumer(SubscriptionKey),
    /// What waits for a durable subscription. The number tells whether it is the same one still.
    Durable(QueueKey, u64),
}

/// What a batch does to the retained message of a topic.
#[derive(Debug)]
pub(super) struct Retention {
    topic: TopicKey,
    number: u64,
    /// The topic's key in the store before and after, and whether the store is told of it.
    before: Option<DestinationKey>,
    key: Option<DestinationKey>,
    creates: bool,
    /// What is put, and what is removed.
    put: Option<u64>,
    removed: Vec<u64>,
    /// The id of what is put.
    id: Option<MessageId>,
}

impl Retention {
    /// The id of the message that is put.
    pub(super) fn id(&self) -> Option<&MessageId> {
        self.id.as_ref()
    }
}

/// What a topic keeps is of no other destination.
fn everything(topic: &Topic) -> Pattern {
    Pattern::all(topic.destination.kind())
}

impl Core {
    /// Keeps a message that is sent to a topic for those that come later, as its policy says. Gives back the message as
    /// consumers get it, and whether it changes what is stored.
    pub(super) fn keep_for_later(
        &mut self,
        key: TopicKey,
        message: Arc<Message>,
        turn: &mut Turn<'_>,
    ) -> (Arc<Message>, bool) {
        let topic = &mut self.topics[key.0];
        let (before, retentions) = (topic.kept_bytes(), topic.recovery.retentions());
        let size = accounting_size(&message);
        let message = topic.recovery.add(turn.now, message, u64::from(size));
        let retains = topic.recovery.retentions() != retentions;
        if !retains && topic.recovery.is_empty() && before == 0 {
            return (message, false);
        }
        if let Recovery::Timed { recover_duration } = topic.policy.recovery
            && !std::mem::replace(&mut topic.forgetting, true)
        {
            let at = turn.now.saturating_add(millis(recover_duration).max(1));
            self.alarms.set(at, Alarm::Forget(key, topic.number));
        }
        self.kept_used = self.kept_used - before + self.topics[key.0].kept_bytes();
        let stored = retains && self.store_retained(key, turn);
        if retains {
            self.hand_on(key, None, turn);
        }
        self.keep_within_limit(key);
        (message, stored)
    }

    /// Has the store keep what a topic retains from here on; true if that changes what it has.
    fn store_retained(&mut self, key: TopicKey, turn: &mut Turn<'_>) -> bool {
        let topic = &mut self.topics[key.0];
        let message = topic
            .recovery
            .current()
            .filter(|message| self.config.stored && message.persistent && !topic.destination.is_temporary());
        let (message, destination) = (message.cloned(), topic.destination.qualified_name());
        let retained = &mut topic.retained;
        let before = retained.key;
        let mut removed = std::mem::take(&mut retained.stale);
        removed.extend(retained.sequence.take());
        let orphans = std::mem::take(&mut retained.orphans).into_iter();
        let mut ops: Vec<_> = orphans.map(|key| Op::RemoveDestination { key }).collect();
        let mut creates = false;
        match (&message, before) {
            (None, None) => {}
            // With the last of its messages the store forgets the topic.
            (None, Some(stored)) => {
                if retained.created {
                    ops.push(Op::RemoveDestination { key: stored });
                }
                (retained.key, retained.created) = (None, false);
                self.retaining.remove(&stored);
            }
            (Some(message), before) => {
                let stored = before.unwrap_or_else(|| {
                    self.next_destination += 1;
                    DestinationKey(self.next_destination - 1)
                });
                creates = !retained.created;
                if creates {
                    ops.push(Op::CreateDestination {
                        key: stored,
                        destination: StoredDestination::Retained(destination.into()),
                    });
                }
                (retained.key, retained.created) = (Some(stored), true);
                self.retaining.insert(stored, key);
                let place = |sequence| MessageKey {
                    destination: stored,
                    sequence,
                };
                ops.extend(removed.iter().map(|&gone| Op::Remove { key: place(gone) }));
                ops.push(Op::Put {
                    key: place(self.sequence),
                    message: message.clone(),
                });
                retained.sequence = Some(self.sequence);
            }
        }
        if ops.is_empty() {
            return false;
        }
        let retention = Retention {
            topic: key,
            number: topic.number,
            before,
            key: topic.retained.key,
            creates,
            put: topic.retained.sequence,
            removed,
            id: message.and_then(|message| message.message_id.clone()),
        };
        turn.effects.store(ops, None);
        let sequence = self.sequence;
        self.batch(turn).retain(sequence, retention);
        true
    }

    /// The store refused what a batch should have done to retained messages: what it had before is there still.
    pub(super) fn retain_again(&mut self, refused: Vec<Retention>) {
        for mut was in refused.into_iter().rev() {
            if let Some(id) = &was.id {
                self.audit.not_taken(id);
            }
            // Later batches need not remove what was never put.
            let later = self.batches.iter_mut().flat_map(|batch| &mut batch.retained);
            for retention in later.filter(|later| later.number == was.number) {
                retention.removed.retain(|gone| Some(*gone) != was.put);
            }
            let topic = self.topics.get_mut(was.topic.0);
            let Some(topic) = topic.filter(|topic| topic.number == was.number) else {
                continue;
            };
            let used = topic.kept_bytes();
            let retained = &mut topic.retained;
            if was.creates && retained.key == was.key {
                retained.created = false;
            }
            if retained.key == was.key && retained.sequence == was.put {
                retained.sequence = was.removed.pop();
                retained.stale.extend(was.removed);
                topic.recovery.set_current(None);
                if was.before != was.key {
                    self.retaining.retain(|stored, _| Some(*stored) != was.key);
                    self.retaining
                        .extend(was.before.map(|before| (before, was.topic)));
                    (retained.key, retained.created) = (was.before, was.before.is_some());
                }
            } else if retained.key == was.before {
                retained.stale.extend(was.removed);
            } else {
                retained.orphans.extend(was.before);
            }
            self.kept_used = self.kept_used - used + topic.kept_bytes();
        }
    }

    /// Lets go of what there is no room for: what topics keep is bounded by the broker's memory limit, but does not
    /// count for it, because no consumer could make room again.
    fn keep_within_limit(&mut self, key: TopicKey) {
        let over = self.kept_used.saturating_sub(self.config.memory_limit);
        if over == 0 {
            return;
        }
        let topic = &mut self.topics[key.0];
        let before = topic.kept_bytes();
        let most = topic.recovery.bytes().saturating_sub(over as u64);
        topic.recovery.shrink(most);
        let freed = before - topic.kept_bytes();
        let on_its_way = topic
            .retained
            .sequence
            .is_some_and(|stored| stored > self.durable);
        if freed < over && topic.recovery.current().is_some() && !on_its_way {
            topic.recovery.set_current(None);
            // What is stored comes back when it is wanted.
            if topic.retained.sequence.is_none() {
                self.stats.discarded += 1;
                tracing::warn!(topic = %topic.destination, limit = self.config.memory_limit,
                    "there is no room for the retained message: it is dropped");
            }
        }
        self.kept_used = self.kept_used - before + topic.kept_bytes();
    }

    /// A new consumer of a topic gets what the topic kept, if it or the topic is retroactive.
    pub(super) fn recall(&mut self, consumer: SubscriptionKey, key: TopicKey, turn: &mut Turn<'_>) {
        let subscription = &mut self.subscriptions[consumer.0];
        let topic = &mut self.topics[key.0];
        if !subscription.info.retroactive && !topic.always_retroactive {
            return;
        }
        if let Some(stored) = topic.retained.absent(topic.recovery.current()) {
            // Everything else waits behind it.
            subscription.awaits += 1;
            topic.retained.wait(Awaiting::Consumer(consumer), stored, turn);
        }
        let wanted = everything(topic);
        let replay = topic.recovery.replay(turn.now, &wanted);
        let replay: Vec<_> = replay
            .filter(|message| subscription.sight.sees(message) && !topic.defers(message))
            .cloned()
            .collect();
        let mut after = Aftermath::default();
        for message in replay {
            self.offer(consumer, message, &mut after, turn);
        }
        self.finish(after, turn);
    }

    /// A durable subscription is active again: if its consumer is retroactive it gets what its topics kept; the retained
    /// messages only, if others wait for it.
    pub(super) fn recall_durable(
        &mut self,
        key: QueueKey,
        destination: &Destination,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let queue = &mut self.queues[key.0];
        let number = queue.number;
        let Some(durable) = &mut queue.durable else {
            return Ok(());
        };
        // What it got the last time, and has not taken, comes anew.
        for sequence in std::mem::take(&mut durable.recalled) {
            let place = self.queues[key.0].find(sequence);
            if let Some(entry) = place.and_then(|place| self.remove_waiting(key, place, turn)) {
                self.uncount(key, &entry);
            }
        }
        let empty = self.queues[key.0].backlog.is_empty();
        for part in parts(destination)? {
            for target in self.targets_of(&part, turn)? {
                let Target::Topic(topic_key) = target else {
                    continue;
                };
                let topic = &mut self.topics[topic_key.0];
                if !topic.durables.contains(&key) {
                    continue;
                }
                if let Some(stored) = topic.retained.absent(topic.recovery.current()) {
                    topic.retained.wait(Awaiting::Durable(key, number), stored, turn);
                }
                let wanted = everything(topic);
                let messages: Vec<_> = match empty {
                    true => topic.recovery.replay(turn.now, &wanted).cloned().collect(),
                    false => topic
                        .recovery
                        .retained(turn.now, &wanted)
                        .into_iter()
                        .cloned()
                        .collect(),
                };
                for message in messages {
                    let tied = self.topics[topic_key.0].defers(&message);
                    self.recall_to(key, message, tied, turn);
                }
            }
        }
        Ok(())
    }

    /// Puts a message that a topic kept where it waits for a durable subscription. It is not stored: it comes again
    /// with the next activation. What is `tied` is not durable yet, so it waits for what is stored now, which comes later.
    fn recall_to(&mut self, key: QueueKey, mut message: Arc<Message>, tied: bool, turn: &mut Turn<'_>) {
        let full = self.is_full();
        let durable = self.queues[key.0].durable.as_ref();
        if !durable.is_some_and(|durable| self.is_for_subscription(durable, &message)) {
            return;
        }
        if full {
            self.stats.discarded += 1;
            return;
        }
        self.sequence += 1;
        if let Some(durable) = &mut self.queues[key.0].durable {
            durable.recalled.push(self.sequence);
        }
        if let Some(id) = &mut Arc::make_mut(&mut message).message_id {
            id.broker_sequence_id = self.sequence as i64;
        }
        let entry = Entry {
            sequence: self.sequence,
            size: accounting_size(&message),
            redelivered: 0,
            stored: false,
            tied,
            spooled: Spooled::No,
            priority: message.priority.clamp(0, 9) as u8,
            body: Some(message),
        };
        if tied {
            let sequence = self.sequence;
            self.batch(turn).put(key, sequence, None);
        }
        self.count(key, &entry);
        self.put_waiting(key, entry, turn.now);
    }

    /// A retained message was read back.
    pub(super) fn retained_loaded(
        &mut self,
        stored: MessageKey,
        message: Option<Arc<Message>>,
        turn: &mut Turn<'_>,
    ) {
        let Some(&key) = self.retaining.get(&stored.destination) else {
            return;
        };
        let topic = &mut self.topics[key.0];
        // Another one has taken its place meanwhile.
        if topic.retained.sequence != Some(stored.sequence) {
            return;
        }
        if message.is_none() {
            tracing::error!(topic = %topic.destination, "the retained message is gone from the store");
            topic.retained.sequence = None;
        }
        let used = topic.kept_bytes();
        topic.recovery.set_current(message.clone());
        self.kept_used = self.kept_used - used + topic.kept_bytes();
        self.hand_on(key, message, turn);
        self.keep_within_limit(key);
    }

    /// Whoever waited for the retained message gets it, if there is one, and goes on.
    fn hand_on(&mut self, key: TopicKey, message: Option<Arc<Message>>, turn: &mut Turn<'_>) {
        let message = message.filter(|message| !is_expired(message, turn.now));
        for awaiting in std::mem::take(&mut self.topics[key.0].retained.awaiting) {
            match awaiting {
                Awaiting::Consumer(consumer) => {
                    let subscription = &mut self.subscriptions[consumer.0];
                    subscription.awaits -= 1;
                    if let Some(message) = &message
                        && subscription.sight.sees(message)
                    {
                        self.memory_used += accounting_size(message) as usize;
                        subscription.waiting.push_front(message.clone());
                    }
                    self.feed(consumer, turn);
                }
                Awaiting::Durable(queue, number) => {
                    let same = self.queues.get(queue.0).is_some_and(|now| now.number == number);
                    if let (Some(message), true) = (&message, same) {
                        self.recall_to(queue, message.clone(), false, turn);
                        self.dispatch(queue, turn);
                    }
                }
            }
        }
    }

    /// Lets go of what a topic with a timed policy need not keep any longer.
    pub(super) fn forget_old(&mut self, key: TopicKey, number: u64, turn: &mut Turn<'_>) {
        let Some(topic) = self.topics.get_mut(key.0).filter(|topic| topic.number == number) else {
            return;
        };
        let before = topic.kept_bytes();
        topic.recovery.sweep(turn.now);
        self.kept_used = self.kept_used - before + topic.kept_bytes();
        topic.forgetting = topic.recovery.bytes() > 0;
        if let (Recovery::Timed { recover_duration }, true) = (&topic.policy.recovery, topic.forgetting) {
            let at = turn.now.saturating_add(millis(*recover_duration).max(1));
            self.alarms.set(at, Alarm::Forget(key, number));
        }
    }

    /// The topic is gone, and what it kept with it.
    pub(super) fn drop_kept(&mut self, topic: &Topic, turn: &mut Turn<'_>) {
        self.kept_used -= topic.kept_bytes();
        for awaiting in &topic.retained.awaiting {
            if let Awaiting::Consumer(consumer) = awaiting {
                self.subscriptions[consumer.0].awaits -= 1;
                self.feed(*consumer, turn);
            }
        }
        let stored = topic.retained.key;
        if let Some(stored) = stored {
            self.retaining.remove(&stored);
        }
        let stored = stored.filter(|_| topic.retained.created);
        let gone = topic.retained.orphans.iter().copied().chain(stored);
        let ops: Vec<_> = gone.map(|key| Op::RemoveDestination { key }).collect();
        if !ops.is_empty() {
            turn.effects.store(ops, None);
        }
    }

    /// Takes over what the store held of a topic's retained message.
    pub(super) fn recover_retained(&mut self, now: i64, name: &str, stored: &RecoveredDestination) {
        let destination = Destination::parse(name, DestinationKind::Topic);
        let mut effects = Effects::new();
        let turn = &mut Turn {
            now,
            effects: &mut effects,
        };
        let target = match self.destinations.get(&destination) {
            Some(&target) => Ok(target),
            None => self.create(&destination, turn),
        };
        let key = match target {
            Ok(Target::Topic(key)) => key,
            Ok(Target::Queue(_)) => return,
            Err(refusal) => {
                tracing::error!(%destination, %refusal, "a topic with a retained message cannot be made");
                return;
            }
        };
        let mut sequences: Vec<_> = stored.messages.iter().map(|message| message.sequence).collect();
        let retained = &mut self.topics[key.0].retained;
        let last = sequences.pop();
        // It never has two keys, unless the store refused to let one go.
        if last < retained.sequence || last.is_none() {
            retained.orphans.push(stored.key);
            return;
        }
        retained.orphans.extend(retained.key);
        (retained.key, retained.created) = (Some(stored.key), true);
        (retained.sequence, retained.stale) = (last, sequences);
        self.retaining.retain(|_, topic| *topic != key);
        self.retaining.insert(stored.key, key);
    }
}

impl Retained {
    /// Where the retained message has to be read from, if it is not in memory.
    fn absent(&self, current: Option<&Arc<Message>>) -> Option<MessageKey> {
        match (current, self.key, self.sequence) {
            (None, Some(destination), Some(sequence)) => Some(MessageKey {
                destination,
                sequence,
            }),
            _ => None,
        }
    }

    /// The retained message is read back for somebody.
    fn wait(&mut self, who: Awaiting, stored: MessageKey, turn: &mut Turn<'_>) {
        if self.awaiting.is_empty() {
            turn.effects.push(Effect::Load { keys: vec![stored] });
        }
        if !self.awaiting.contains(&who) {
            self.awaiting.push(who);
        }
    }

    /// A consumer has gone: it waits for nothing any more.
    pub(super) fn leave(&mut self, consumer: SubscriptionKey) {
        self.awaiting
            .retain(|awaiting| *awaiting != Awaiting::Consumer(consumer));
    }
}
