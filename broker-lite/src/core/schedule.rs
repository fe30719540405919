//! Messages that are delivered later, and again (`schedulerSupport`).
//!
//! A broker with a store keeps all of them there, also those that are not persistent, as ActiveMQ does; what is in memory of
//! each is when it is due. Its body is read back then. Delivering a message and noting when it is due next, or that it is
//! over, are in one batch, so a crash neither loses a delivery nor repeats it. Without a store they live in memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::BytesMut;
use openwire_client::wire::{Message, MessageId, ProducerId, ValueMap, decode_map, encode_map};
use rustc_hash::FxHashMap;

use super::browse_jobs::Browses;
use super::effect::Effect;
use super::once::Once;
use super::redeliver::is_sent_again;
use super::refusal::Refusal;
use super::send::contains;
use super::{Core, CoreConfig, Turn};
use crate::policy::Zone;
use crate::policy::schedule::{
    Job, SCHEDULED_CRON, SCHEDULED_DELAY, SCHEDULED_ID, SCHEDULED_PERIOD, SCHEDULED_REPEAT, Schedule,
};
use crate::store::{
    DestinationKey, MessageKey, Op, RecoveredDestination, StoredDestination, accounting_size,
};

/// How many bodies, and how many bytes of them, are in memory at once to be delivered or shown.
const AT_ONCE: usize = 1000;
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;

/// No more deliveries than this wait for the store; others wait for them.
const MAX_UNSETTLED: usize = 4 * AT_ONCE;

/// What could not be delivered, for want of room or because the store refused it, is tried again after so many milliseconds.
const PAUSE: i64 = 1000;

/// What the names of all properties that schedule a message begin with.
const PREFIX: &[u8] = b"AMQ_SCHEDULED_";

/// All scheduled messages.
#[derive(Debug)]
pub(super) struct Jobs {
    /// `schedulerSupport`.
    on: bool,
    zone: Zone,
    /// What the ids of jobs begin with: it says which broker they are of, also after a restart.
    identity: Arc<str>,
    key: Option<DestinationKey>,
    /// The store was told of the key.
    created: bool,
    pub(super) waiting: FxHashMap<u64, Waiting>,
    /// Those that can be delivered: when, and which.
    order: BTreeSet<(i64, u64)>,
    /// Bodies are on their way from the store.
    pub(super) loading: Option<Loading>,
    /// Deliveries that are on their way into the store.
    unsettled: usize,
    /// The accounting size of all.
    bytes: u64,
    pub(super) browses: Browses,
    /// The last number of the scheduler's own message ids.
    numbered: i64,
}

/// What bodies are loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loading {
    /// They are due.
    Delivery,
    /// Somebody browses.
    Browsing,
}

/// A scheduled message.
#[derive(Debug)]
pub(super) struct Waiting {
    /// When it is due, in milliseconds since 1970.
    pub(super) due: i64,
    /// When it is tried next: later than it is due, if it could not be delivered then.
    wake: i64,
    pub(super) size: u32,
    /// How often it was delivered so far.
    times: u32,
    state: State,
    /// Only without a store.
    pub(super) body: Option<Arc<Message>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is on its way into the store.
    Storing,
    /// It waits for its time.
    Armed,
    /// Its time has come, and its body is on the way from the store.
    Loading,
    /// A delivery is on its way into the store.
    Delivering,
}

/// What a batch does with scheduled messages.
#[derive(Debug, Default)]
pub(super) struct JobChanges {
    /// It tells the store of them for the first time.
    created: bool,
    list: Vec<(u64, Change)>,
}

#[derive(Debug)]
enum Change {
    /// It is there from then on. The id is that of a message that a client sends again if it is refused.
    Added(Option<MessageId>),
    /// It was delivered: when it is due again, and how often it was delivered then; none if it is over.
    Delivered(Option<(i64, u32)>),
    /// Somebody removed it.
    Removed(Waiting),
}

/// How much is scheduled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduled {
    /// Messages that wait for their time.
    pub jobs: usize,
    /// Their size, as ActiveMQ counts it.
    pub bytes: u64,
    /// When the next one is due, in milliseconds since 1970.
    pub next: Option<i64>,
}

/// A message that waits for its time: ActiveMQ's `Job`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledJob {
    /// `scheduledJobId`, by which it can be removed.
    pub id: String,
    /// When it is due, in milliseconds since 1970.
    pub due: i64,
    /// How often it was delivered so far (`executionCount`).
    pub times: u32,
    /// Its size in bytes, as ActiveMQ counts it.
    pub size: u32,
}

impl Jobs {
    /// `store` is the identity of the store; empty if there is none.
    pub(super) fn new(config: &CoreConfig, store: &Arc<str>) -> Self {
        let identity = match &**store {
            "" => config.broker_id.value.clone().unwrap_or_default(),
            known => format!("ID:{known}").into(),
        };
        let scheduler = config.rules.scheduler.as_ref();
        Self {
            on: scheduler.is_some(),
            zone: scheduler.map_or_else(Zone::utc, |rules| rules.zone.clone()),
            identity,
            key: None,
            created: false,
            waiting: FxHashMap::default(),
            order: BTreeSet::new(),
            loading: None,
            unsettled: 0,
            bytes: 0,
            browses: Browses::default(),
            numbered: 0,
        }
    }

    /// True if this broker schedules messages.
    pub(super) fn are_on(&self) -> bool {
        self.on
    }

    /// When there is something to do next.
    pub(super) fn next(&self) -> Option<i64> {
        if !self.on || self.loading.is_some() {
            return None;
        }
        let due = self.order.first().filter(|_| self.unsettled < MAX_UNSETTLED);
        due.map(|(wake, _)| *wake)
            .into_iter()
            .chain(self.browses.next())
            .min()
    }

    /// True if bodies of scheduled messages lie there in the store.
    pub(super) fn lie_at(&self, destination: DestinationKey) -> bool {
        self.key == Some(destination)
    }

    /// Where a message lies in the store.
    pub(super) fn key_of(&self, sequence: u64) -> Option<MessageKey> {
        let destination = self.key?;
        Some(MessageKey {
            destination,
            sequence,
        })
    }

    /// The `scheduledJobId` of a message.
    pub(super) fn id_of(&self, sequence: u64) -> String {
        format!("{}:{sequence}", self.identity)
    }

    /// Which message has this id.
    pub(super) fn find(&self, id: &str) -> Option<u64> {
        let sequence = id.strip_prefix(&*self.identity)?.strip_prefix(':')?;
        let sequence = sequence.parse().ok()?;
        self.waiting.contains_key(&sequence).then_some(sequence)
    }

    /// An id for a message of the scheduler itself.
    pub(super) fn new_message_id(&mut self, broker: Option<Arc<str>>) -> MessageId {
        self.numbered += 1;
        MessageId {
            producer_id: Some(ProducerId {
                connection_id: broker,
                // No session of a client has this number.
                session_id: -1,
                value: 1,
            }),
            producer_sequence_id: self.numbered,
            ..MessageId::default()
        }
    }

    fn arm(&mut self, sequence: u64, wake: i64) {
        if let Some(waiting) = self.waiting.get_mut(&sequence) {
            waiting.state = State::Armed;
            waiting.wake = wake;
            self.order.insert((wake, sequence));
        }
    }

    fn take(&mut self, sequence: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&sequence)?;
        self.order.remove(&(waiting.wake, sequence));
        self.bytes -= u64::from(waiting.size);
        Some(waiting)
    }

    fn put(&mut self, sequence: u64, waiting: Waiting) {
        self.bytes += u64::from(waiting.size);
        if waiting.state == State::Armed {
            self.order.insert((waiting.wake, sequence));
        }
        self.waiting.insert(sequence, waiting);
    }
}

impl Core {
    /// When a message is to be delivered, if it is not at once.
    pub(super) fn schedule_of(&self, message: &Message, now: i64) -> Result<Option<Schedule>, Refusal> {
        let (Some(rules), Some(properties)) = (&self.config.rules.scheduler, &message.marshalled_properties)
        else {
            return Ok(None);
        };
        if !contains(properties, PREFIX) {
            return Ok(None);
        }
        let schedule = Schedule::of(message, rules.max_repeat).map_err(Refusal::message_format)?;
        let Some(schedule) = schedule else {
            return Ok(None);
        };
        if Job::new(schedule.clone(), now, &self.jobs.zone).is_none() {
            return Err(Refusal::message_format("the message would never be delivered"));
        }
        // They are changed when it is delivered, and nobody could be told then.
        decode_map(properties.clone()).map_err(Refusal::message_format)?;
        Ok(Some(schedule))
    }

    /// Keeps a message until its time; true if it is stored.
    pub(super) fn put_job(&mut self, schedule: Schedule, message: Arc<Message>, turn: &mut Turn<'_>) -> bool {
        let id = message.message_id.clone().filter(|_| !is_sent_again(&message));
        let job = Job::new(schedule, turn.now, &self.jobs.zone);
        self.add_job(job.map_or(i64::MAX, |job| job.due), message, id, turn)
    }

    /// `id` is that of a message which comes from a client.
    fn add_job(
        &mut self,
        due: i64,
        mut message: Arc<Message>,
        id: Option<MessageId>,
        turn: &mut Turn<'_>,
    ) -> bool {
        self.sequence += 1;
        let (sequence, stored) = (self.sequence, self.config.stored);
        let fields = Arc::make_mut(&mut message);
        fields.transaction_id = None;
        fields.original_transaction_id = None;
        fields.broker_in_time = turn.now;
        if let Some(id) = &mut fields.message_id {
            id.broker_sequence_id = sequence as i64;
            if fields.persistent {
                self.audit.taken(id);
            }
        }
        let size = accounting_size(&message);
        let mut waiting = Waiting {
            due,
            wake: due,
            size,
            times: 0,
            state: State::Armed,
            body: None,
        };
        if stored {
            let key = MessageKey {
                destination: self.jobs_key(turn),
                sequence,
            };
            let times = 0;
            turn.effects
                .store([Op::Put { key, message }, Op::Due { key, at: due, times }], None);
            waiting.state = State::Storing;
            let batch = self.batch(turn);
            batch.note(sequence, id.as_ref());
            batch.jobs.list.push((sequence, Change::Added(id)));
        } else {
            self.memory_used += size as usize;
            waiting.body = Some(message);
        }
        self.jobs.put(sequence, waiting);
        stored
    }

    /// Where scheduled messages lie in the store.
    fn jobs_key(&mut self, turn: &mut Turn<'_>) -> DestinationKey {
        let key = match self.jobs.key {
            Some(key) if self.jobs.created => return key,
            // The store refused it.
            Some(key) => key,
            None => {
                self.next_destination += 1;
                DestinationKey(self.next_destination - 1)
            }
        };
        let destination = StoredDestination::Schedule;
        turn.effects
            .store([Op::CreateDestination { key, destination }], None);
        self.batch(turn).jobs.created = true;
        (self.jobs.key, self.jobs.created) = (Some(key), true);
        key
    }

    /// Does what is due, as far as it goes at once.
    pub(super) fn run_jobs(&mut self, turn: &mut Turn<'_>) {
        if self.jobs.loading.is_none() && self.jobs.browses.are_next() {
            self.browse_jobs(turn);
        }
        if self.jobs.loading.is_none() {
            self.deliver_due(turn);
        }
        if self.jobs.loading.is_none() {
            self.browse_jobs(turn);
        }
    }

    fn deliver_due(&mut self, turn: &mut Turn<'_>) {
        let mut bytes = 0;
        let mut due = Vec::new();
        while due.len() < AT_ONCE.min(MAX_UNSETTLED.saturating_sub(self.jobs.unsettled))
            && bytes < BYTES_AT_ONCE
            && let Some(&(wake, sequence)) = self.jobs.order.first()
            && wake <= turn.now
        {
            self.jobs.order.pop_first();
            if let Some(waiting) = self.jobs.waiting.get_mut(&sequence) {
                bytes += waiting.size as usize;
                waiting.state = State::Loading;
                due.push(sequence);
            }
        }
        if self.config.stored {
            self.load_jobs(&due, Loading::Delivery, turn);
            return;
        }
        for sequence in due {
            let waiting = self.jobs.waiting.get(&sequence);
            if let Some(body) = waiting.and_then(|waiting| waiting.body.clone()) {
                self.deliver_job(sequence, &body, turn);
            }
        }
    }

    /// Asks for bodies.
    pub(super) fn load_jobs(&mut self, sequences: &[u64], why: Loading, turn: &mut Turn<'_>) {
        let keys: Vec<_> = sequences
            .iter()
            .filter_map(|sequence| self.jobs.key_of(*sequence))
            .collect();
        if !keys.is_empty() {
            self.jobs.loading = Some(why);
            turn.effects.push(Effect::Load { keys });
        }
    }

    /// Bodies that were asked for are there.
    pub(super) fn jobs_loaded(
        &mut self,
        messages: Vec<(MessageKey, Option<Arc<Message>>)>,
        turn: &mut Turn<'_>,
    ) {
        match self.jobs.loading.take() {
            Some(Loading::Browsing) => {
                let messages = messages.into_iter();
                self.show_jobs(
                    messages.filter_map(|(key, message)| Some((key.sequence, message?))),
                    turn,
                );
            }
            Some(Loading::Delivery) => {
                self.jobs.browses.let_in();
                for (key, message) in messages {
                    let sequence = key.sequence;
                    let waiting = self.jobs.waiting.get(&sequence);
                    if waiting.is_none_or(|waiting| waiting.state != State::Loading) {
                        // Somebody removed it meanwhile.
                        continue;
                    }
                    match message {
                        Some(message) => self.deliver_job(sequence, &message, turn),
                        None => {
                            tracing::error!(sequence, "a scheduled message is gone from the store");
                            self.stats.discarded += 1;
                            self.jobs.take(sequence);
                        }
                    }
                }
            }
            None => {}
        }
        self.run_jobs(turn);
    }

    /// Delivers a message whose time has come.
    fn deliver_job(&mut self, sequence: u64, message: &Arc<Message>, turn: &mut Turn<'_>) {
        let Some(&Waiting { due, times, .. }) = self.jobs.waiting.get(&sequence) else {
            return;
        };
        if !self.has_room_for(message) {
            self.jobs.arm(sequence, turn.now.saturating_add(PAUSE));
            return;
        }
        // What was accepted once stays so, though a new configuration may allow less.
        let schedule = Schedule::of(message, i32::MAX).ok().flatten().unwrap_or_default();
        let renews = schedule.renews_message_id();
        let left = match schedule.repeat {
            repeat @ ..0 => repeat,
            repeat => i64::from(repeat).saturating_sub(times.into()).max(0) as i32,
        };
        let mut job = Job { schedule, due, left };
        let firing = job.fire(turn.now, &self.jobs.zone);
        let mut queues = Once::default();
        if firing.deliver {
            self.send_job(sequence, message, renews, &mut queues, turn);
        }
        if let Some(follow_up) = firing.follow_up
            && let Some(copy) = with_properties(message, |properties| {
                properties.remove(SCHEDULED_CRON);
            })
        {
            self.add_job(follow_up.due, Arc::new(copy), None, turn);
        }
        let next = firing.again.then(|| (job.due, times.saturating_add(1)));
        match self.jobs.key_of(sequence).filter(|_| self.config.stored) {
            Some(key) => {
                let op = match next {
                    Some((at, times)) => Op::Due { key, at, times },
                    None => Op::Remove { key },
                };
                turn.effects.store([op], None);
                let changes = &mut self.batch(turn).jobs;
                changes.list.push((sequence, Change::Delivered(next)));
                self.jobs.unsettled += 1;
                if let Some(waiting) = self.jobs.waiting.get_mut(&sequence) {
                    waiting.state = State::Delivering;
                }
            }
            None => self.delivered(sequence, next),
        }
        for queue in queues {
            self.dispatch(queue, turn);
        }
    }

    /// A message that goes to memory needs room there. What waits in memory for its time takes none of it, or it could
    /// never leave.
    fn has_room_for(&self, message: &Message) -> bool {
        let scheduled = match self.config.stored {
            true if message.persistent => return true,
            true => 0,
            false => usize::try_from(self.jobs.bytes).unwrap_or(usize::MAX),
        };
        self.memory_used.saturating_sub(scheduled) < self.config.memory_limit
    }

    /// Sends a message whose time has come to where it goes.
    fn send_job(
        &mut self,
        sequence: u64,
        message: &Message,
        renews: bool,
        queues: &mut Once<super::queue::QueueKey>,
        turn: &mut Turn<'_>,
    ) {
        let id = self.jobs.id_of(sequence);
        let copy = with_properties(message, |properties| {
            for name in [
                SCHEDULED_DELAY,
                SCHEDULED_PERIOD,
                SCHEDULED_REPEAT,
                SCHEDULED_CRON,
            ] {
                properties.remove(name);
            }
            properties.insert(SCHEDULED_ID, &*id);
        });
        let Some(mut copy) = copy else {
            tracing::warn!(%id, "the properties of a scheduled message cannot be written");
            self.stats.discarded += 1;
            return;
        };
        if renews {
            let broker = self.config.broker_id.value.clone();
            copy.message_id = Some(self.jobs.new_message_id(broker));
        }
        move_expiration(&mut copy, turn.now);
        let copy = Arc::new(copy);
        match self.route(&copy, turn) {
            Ok(routes) => {
                let tied = self.config.stored;
                self.put_all(routes, copy, tied, queues, turn);
            }
            Err(refusal) => {
                tracing::warn!(%id, %refusal, "a scheduled message has nowhere to go");
                self.stats.discarded += 1;
            }
        }
    }

    /// A message was delivered: it is due again, or it is over.
    fn delivered(&mut self, sequence: u64, next: Option<(i64, u32)>) {
        self.stats.fired += 1;
        match next {
            Some((due, times)) => {
                if let Some(waiting) = self.jobs.waiting.get_mut(&sequence) {
                    (waiting.due, waiting.times) = (due, times);
                    self.jobs.arm(sequence, due);
                } else {
                    self.note_removed(sequence, |removed| (removed.due, removed.times) = (due, times));
                }
            }
            None => {
                if let Some(waiting) = self.jobs.take(sequence) {
                    self.release_job(&waiting);
                }
            }
        }
    }

    /// A message that is being removed has changed meanwhile: it counts if it cannot be removed.
    fn note_removed(&mut self, sequence: u64, change: impl FnOnce(&mut Waiting)) {
        let changes = self.batches.iter_mut().flat_map(|batch| &mut batch.jobs.list);
        let mut removed = changes.filter_map(|(of, how)| match how {
            Change::Removed(waiting) if *of == sequence => Some(waiting),
            _ => None,
        });
        if let Some(waiting) = removed.next() {
            change(waiting);
        }
    }

    fn release_job(&mut self, waiting: &Waiting) {
        if waiting.body.is_some() {
            self.memory_used -= waiting.size as usize;
        }
    }

    /// Takes scheduled messages away.
    pub(super) fn remove_jobs(&mut self, sequences: &[u64], turn: &mut Turn<'_>) {
        for &sequence in sequences {
            let Some(mut waiting) = self.jobs.take(sequence) else {
                continue;
            };
            self.release_job(&waiting);
            if let Some(key) = self.jobs.key_of(sequence).filter(|_| self.config.stored) {
                // Should the store refuse this, it is known by then that what came before was not.
                waiting.state = State::Armed;
                turn.effects.store([Op::Remove { key }], None);
                let changes = &mut self.batch(turn).jobs;
                changes.list.push((sequence, Change::Removed(waiting)));
            }
        }
        self.resume_producers(turn);
    }

    /// What a batch did with scheduled messages is durable.
    pub(super) fn jobs_durable(&mut self, changes: JobChanges) {
        for (sequence, change) in changes.list {
            match change {
                Change::Added(_) => {
                    let waiting = self.jobs.waiting.get(&sequence);
                    if let Some(due) = waiting.map(|waiting| waiting.due) {
                        self.jobs.arm(sequence, due);
                    }
                }
                Change::Delivered(next) => {
                    self.jobs.unsettled -= 1;
                    self.delivered(sequence, next);
                }
                Change::Removed(_) => {}
            }
        }
    }

    /// The store refused what a batch did with scheduled messages.
    pub(super) fn jobs_refused(&mut self, changes: JobChanges, now: i64) {
        if changes.created {
            self.jobs.created = false;
        }
        for (sequence, change) in changes.list {
            match change {
                Change::Added(id) => {
                    self.jobs.take(sequence);
                    self.stats.refused += 1;
                    if let Some(id) = id {
                        self.audit.not_taken(&id);
                    }
                }
                Change::Delivered(_) => {
                    self.jobs.unsettled -= 1;
                    self.jobs.arm(sequence, now.saturating_add(PAUSE));
                }
                Change::Removed(waiting) => self.jobs.put(sequence, waiting),
            }
        }
    }

    /// Takes over what the store held of scheduled messages. What was due meanwhile is delivered once.
    pub(super) fn recover_jobs(&mut self, stored: &RecoveredDestination) {
        self.jobs.key = Some(stored.key);
        self.jobs.created = true;
        let mut due = stored.due.iter().peekable();
        for message in &stored.messages {
            let sequence = message.sequence;
            while due.next_if(|(of, ..)| *of < sequence).is_some() {}
            let (at, times) = match due.next_if(|(of, ..)| *of == sequence) {
                Some((_, at, times)) => (*at, *times),
                // It is put with its time in one batch.
                None => {
                    tracing::error!(sequence, "a scheduled message has no time: it is delivered now");
                    (0, 0)
                }
            };
            let waiting = Waiting {
                due: at,
                wake: at,
                size: message.size,
                times,
                state: State::Armed,
                body: None,
            };
            self.jobs.put(sequence, waiting);
        }
        if !self.jobs.on && !self.jobs.waiting.is_empty() {
            tracing::warn!(
                messages = self.jobs.waiting.len(),
                "messages are scheduled, and wait until the scheduler is on again"
            );
        }
    }

    /// How much is scheduled.
    pub fn scheduled(&self) -> Scheduled {
        Scheduled {
            jobs: self.jobs.waiting.len(),
            bytes: self.jobs.bytes,
            next: self.jobs.order.first().map(|(wake, _)| *wake),
        }
    }

    /// What is scheduled for a time not before `from`, in milliseconds since 1970, the soonest first; `most` of it at
    /// most. What is on its way into the store, or being delivered, is left out.
    pub fn scheduled_jobs(&self, from: i64, most: usize) -> Vec<ScheduledJob> {
        let order = self.jobs.order.range((from, 0)..).take(most);
        order
            .filter_map(|(_, sequence)| {
                let waiting = self.jobs.waiting.get(sequence)?;
                Some(ScheduledJob {
                    id: self.jobs.id_of(*sequence),
                    due: waiting.due,
                    times: waiting.times,
                    size: waiting.size,
                })
            })
            .collect()
    }
}

/// A copy with other properties; none if they do not decode or encode.
pub(super) fn with_properties(message: &Message, change: impl FnOnce(&mut ValueMap)) -> Option<Message> {
    let mut properties = match &message.marshalled_properties {
        Some(marshalled) => decode_map(marshalled.clone()).ok()?,
        None => ValueMap::new(),
    };
    change(&mut properties);
    let mut marshalled = BytesMut::new();
    encode_map(&properties, &mut marshalled).ok()?;
    Some(Message {
        marshalled_properties: Some(marshalled.freeze()),
        ..message.clone()
    })
}

/// A message does not age while it waits for its time: one that has an end, and says when it was sent, was sent now.
fn move_expiration(message: &mut Message, now: i64) {
    if message.timestamp <= 0 || message.expiration <= 0 {
        return;
    }
    let to_live = message.expiration.saturating_sub(message.timestamp);
    let expiration = to_live.saturating_add(now);
    if expiration > message.expiration {
        if to_live > 0 {
            message.expiration = expiration;
        }
        message.timestamp = now;
    }
}

/// How many bodies, and bytes of them, are shown at once.
pub(super) fn fits(count: usize, bytes: usize) -> bool {
    count < AT_ONCE && bytes < BYTES_AT_ONCE
}
