//! Whether producers and consumers get on: one task a connection, which sleeps until something has to wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Hub;
use super::hub::Key;
use crate::consumer::Mailbox;
use crate::events::{ConnectionState, Event};
use crate::link::Upper;
use crate::options::ConnectionOptions;
use crate::producer::Flow;

/// So many looks are taken within the time after which something is late: that is how late it is found at most.
const LOOKS: u32 = 4;

/// Looks are no closer than this, however short the patience.
const MIN_PAUSE: Duration = Duration::from_millis(5);

/// Wakes the task. Whoever begins to wait says so; while the task is awake that costs one load.
#[derive(Debug)]
pub(crate) struct Alarm {
    armed: AtomicBool,
    wake: Notify,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self {
            // There may never be a task; the first thing one does is to look.
            armed: AtomicBool::new(true),
            wake: Notify::new(),
        }
    }

    /// Something has to wait. The order of this load after what it tells of, and of the task's look after its store,
    /// makes sure that one of the two sees the other.
    pub(crate) fn arm(&self) {
        if !self.armed.load(Ordering::SeqCst) && !self.armed.swap(true, Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// Something that was late has got on.
    pub(crate) fn look(&self) {
        self.wake.notify_one();
    }
}

/// After how long what is late.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    blocked: Option<Duration>,
    slow: Option<Duration>,
    unstarted: Option<Duration>,
}

impl Patience {
    pub(super) fn of(options: &ConnectionOptions) -> Option<Self> {
        let this = Self {
            blocked: options.blocked_after,
            slow: options.slow_consumer_after,
            unstarted: options.warn_about_unstarted_connection_timeout,
        };
        (this.blocked.or(this.slow).or(this.unstarted).is_some()).then_some(this)
    }
}

/// Looks after a connection until it is closed.
pub(super) async fn run(hub: Arc<Hub>, patience: Patience) {
    let mut state = hub.publisher.state();
    let mut book = Book::new(patience);
    loop {
        let connected = *state.borrow_and_update() == ConnectionState::Connected;
        let mut busy = book.look(&hub, connected, Instant::now());
        if !busy {
            hub.alarm.armed.store(false, Ordering::SeqCst);
            busy = book.look(&hub, connected, Instant::now());
            hub.alarm.armed.store(busy, Ordering::SeqCst);
        }
        if !busy {
            tokio::select! {
                () = hub.alarm.wake.notified() => {}
                _ = state.changed() => {}
            }
        }
        // Also after an alarm: most of those who begin to wait have got on by then.
        tokio::select! {
            () = tokio::time::sleep(book.pause(&hub)) => {}
            () = hub.alarm.wake.notified() => {}
            // A block ends with the connection.
            _ = state.changed() => {}
        }
        if *state.borrow() == ConnectionState::Closed {
            return;
        }
    }
}

/// What the looks have seen.
#[derive(Debug)]
struct Book {
    patience: Patience,
    producers: FxHashMap<Key, (Arc<Flow>, Progress)>,
    consumers: FxHashMap<Key, (Arc<Mailbox>, Progress)>,
    /// Messages have been waiting since then on a connection that was never started.
    unstarted_since: Option<Instant>,
    warned_of_unstarted: bool,
}

impl Book {
    fn new(patience: Patience) -> Self {
        Self {
            patience,
            producers: FxHashMap::default(),
            consumers: FxHashMap::default(),
            unstarted_since: None,
            warned_of_unstarted: false,
        }
    }

    /// Until the next look.
    fn pause(&self, hub: &Hub) -> Duration {
        let unstarted = self
            .patience
            .unstarted
            .filter(|_| !self.warned_of_unstarted && !hub.was_started());
        let shortest = [self.patience.blocked, self.patience.slow, unstarted]
            .into_iter()
            .flatten()
            .min();
        (shortest.unwrap_or(Duration::MAX) / LOOKS).max(MIN_PAUSE)
    }

    /// False if nothing waits, so that there is nothing to look at.
    fn look(&mut self, hub: &Hub, connected: bool, now: Instant) -> bool {
        let producers = self.look_at_producers(hub, connected, now);
        let consumers = self.look_at_consumers(hub, now);
        producers || consumers
    }

    fn look_at_producers(&mut self, hub: &Hub, connected: bool, now: Instant) -> bool {
        let Some(patience) = self.patience.blocked else {
            return false;
        };
        for (key, flow) in hub.flows() {
            if flow.waiting() > 0 {
                self.producers
                    .entry(key)
                    .or_insert_with(|| (flow, Progress::default()));
            }
        }
        let mut any = false;
        self.producers.retain(|key, (flow, progress)| {
            let waiting = flow.waiting();
            let waits = connected && waiting > 0 && hub.has_flow(*key);
            let done = flow.progress();
            let edge = progress.observe(now, patience, waits.then_some(Seen { done, goal: done + 1 }));
            match edge {
                None => {}
                Some(Edge::Late) => {
                    flow.set_blocked(true);
                    hub.event(Event::Blocked {
                        destination: flow.destination().cloned(),
                        producer: flow.id().clone(),
                        waiting,
                        window_full: flow.window().is_some_and(|window| window.is_full()),
                    });
                }
                Some(Edge::Caught(late_for)) => {
                    flow.set_blocked(false);
                    hub.event(Event::Unblocked {
                        destination: flow.destination().cloned(),
                        producer: flow.id().clone(),
                        blocked_for: late_for,
                    });
                }
            }
            any |= waits;
            waits
        });
        any
    }

    fn look_at_consumers(&mut self, hub: &Hub, now: Instant) -> bool {
        let mut any = false;
        for (key, mailbox) in hub.mailboxes() {
            if mailbox.standing().waiting > 0 {
                any = true;
                if self.patience.slow.is_some() {
                    self.consumers
                        .entry(key)
                        .or_insert_with(|| (mailbox, Progress::default()));
                }
            }
        }
        self.look_for_start(hub, now, any);
        let Some(patience) = self.patience.slow else {
            return any && !self.warned_of_unstarted && !hub.was_started();
        };
        self.consumers.retain(|key, (mailbox, progress)| {
            let standing = mailbox.standing();
            let waits = standing.waiting > 0 && hub.has_consumer(*key);
            let seen = Seen {
                done: standing.arrived.saturating_sub(standing.waiting),
                goal: standing.arrived,
            };
            let due = waits && standing.deliverable;
            match progress.observe(now, patience, due.then_some(seen)) {
                None => {}
                Some(Edge::Late) => hub.event(Event::SlowConsumer {
                    consumer: mailbox.id().clone(),
                    destination: mailbox.destination().clone(),
                    waiting: standing.waiting,
                    unacknowledged: standing.unacknowledged,
                }),
                Some(Edge::Caught(slow_for)) => hub.event(Event::ConsumerCaughtUp {
                    consumer: mailbox.id().clone(),
                    destination: mailbox.destination().clone(),
                    slow_for,
                }),
            }
            waits
        });
        any
    }

    /// `warnAboutUnstartedConnectionTimeout`
    fn look_for_start(&mut self, hub: &Hub, now: Instant, waiting: bool) {
        let Some(limit) = self.patience.unstarted else {
            return;
        };
        if self.warned_of_unstarted || !waiting || hub.was_started() {
            self.unstarted_since = None;
            return;
        }
        let since = *self.unstarted_since.get_or_insert(now);
        if now.duration_since(since) >= limit {
            self.warned_of_unstarted = true;
            tracing::warn!(
                "messages wait on a connection that was never started: Connection::start is missing"
            );
        }
    }
}

/// How far something is that counts what it does, and how far it has to be not to be late.
#[derive(Debug, Clone, Copy)]
struct Seen {
    done: u64,
    goal: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Edge {
    Late,
    /// After so long.
    Caught(Duration),
}

/// Looks at something that counts what it does: it is late when a goal it had for longer than its patience is not
/// reached.
#[derive(Debug, Default)]
struct Progress {
    /// When it had which goal, oldest first; at most those of the patience and one before.
    goals: VecDeque<(Instant, u64)>,
    late_since: Option<Instant>,
}

impl Progress {
    /// `seen` is none if there is nothing to wait for.
    fn observe(&mut self, now: Instant, patience: Duration, seen: Option<Seen>) -> Option<Edge> {
        let late = match seen {
            None => {
                self.goals.clear();
                false
            }
            Some(seen) => {
                self.aim(now, patience, seen.goal);
                let (at, goal) = self.goals[0];
                now.duration_since(at) >= patience && seen.done < goal
            }
        };
        match (late, self.late_since) {
            (true, None) => {
                self.late_since = Some(now);
                Some(Edge::Late)
            }
            (false, Some(since)) => {
                self.late_since = None;
                Some(Edge::Caught(now.duration_since(since)))
            }
            _ => None,
        }
    }

    /// Leaves the youngest of the goals that are old enough in front.
    fn aim(&mut self, now: Instant, patience: Duration, goal: u64) {
        // Looks out of turn add none, so that their number is bounded.
        if self
            .goals
            .back()
            .is_none_or(|(at, _)| now.duration_since(*at) >= patience / (2 * LOOKS))
        {
            self.goals.push_back((now, goal));
        }
        while self
            .goals
            .get(1)
            .is_some_and(|(at, _)| now.duration_since(*at) >= patience)
        {
            self.goals.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(8);

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seen(done: u64, goal: u64) -> Option<Seen> {
        Some(Seen { done, goal })
    }

    #[test]
    fn who_does_nothing_for_the_time_of_its_patience_is_late_once() {
        let start = Instant::now();
        let mut progress = Progress::default();
        let edges: Vec<_> = (0..20)
            .filter_map(|at| {
                let edge = progress.observe(start + s(at), PATIENCE, seen(3, 4))?;
                Some((at, edge))
            })
            .collect();
        assert_eq!(edges, [(8, Edge::Late)]);
        let edge = progress.observe(start + s(21), PATIENCE, seen(4, 5));
        assert_eq!(edge, Some(Edge::Caught(s(13))));
    }

    #[test]
    fn who_does_something_is_not_late() {
        let start = Instant::now();
        let mut progress = Progress::default();
        for at in 0..100 {
            let done = at / 7;
            let edge = progress.observe(start + s(at), PATIENCE, seen(done, done + 1));
            assert_eq!(edge, None, "after {at} s");
        }
        assert!(progress.goals.len() <= 2 * LOOKS as usize + 2);
    }

    #[test]
    fn who_has_nothing_to_do_is_not_late() {
        let start = Instant::now();
        let mut progress = Progress::default();
        assert_eq!(progress.observe(start, PATIENCE, seen(0, 1)), None);
        assert_eq!(progress.observe(start + s(7), PATIENCE, None), None);
        assert_eq!(progress.observe(start + s(9), PATIENCE, seen(0, 1)), None);
        assert_eq!(
            progress.observe(start + s(17), PATIENCE, seen(0, 1)),
            Some(Edge::Late)
        );
        let edge = progress.observe(start + s(18), PATIENCE, None);
        assert_eq!(edge, Some(Edge::Caught(s(1))));
    }

    /// Whoever takes one message in a second is late with a queue of more than eight, and stays so without a break until it
    /// is shorter.
    #[test]
    fn a_steady_backlog_is_one_edge() {
        let start = Instant::now();
        let mut progress = Progress::default();
        let mut edges = Vec::new();
        for at in 0..60 {
            let waiting = if at < 40 {
                20
            } else {
                20_u64.saturating_sub(2 * (at - 40))
            };
            let edge = progress.observe(start + s(at), PATIENCE, seen(at, at + waiting));
            edges.extend(edge.map(|edge| (at, edge)));
        }
        assert!(
            matches!(edges[..], [(8, Edge::Late), (42..=56, Edge::Caught(_))]),
            "{edges:?}"
        );
    }
}
