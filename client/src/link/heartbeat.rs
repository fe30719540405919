//! Whether the peer is alive, and whether it knows that we are.

use std::time::{Duration, Instant};

use crate::uri::Endpoint;
use crate::wire::WireFormat;

/// The inactivity monitor of one connection, both ways, and the two limits for a peer that stops in the
/// middle.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    read: Option<Check>,
    write: Option<Check>,
    partial_read: Stall,
    blocked_write: Stall,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing.
    Nothing,
    /// A `KeepAliveInfo` shall go out.
    KeepAlive,
    /// Nothing came for too long.
    Silent(Duration),
    /// A frame began and its rest did not come.
    PartialFrame(Duration),
    /// The peer takes nothing of what is written.
    Blocked(Duration),
}

#[derive(Debug)]
struct Check {
    period: Duration,
    next: Instant,
    active: bool,
}

impl Check {
    fn new(period: Duration, first: Instant) -> Self {
        Self {
            period,
            next: first,
            active: false,
        }
    }

    /// True if the check is due and nothing was active since the one before.
    fn idle(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        // From now, not from when it was due: a late check must not be followed by another one at once.
        self.next = now + self.period;
        !std::mem::take(&mut self.active)
    }
}

#[derive(Debug)]
struct Stall {
    limit: Option<Duration>,
    since: Option<Instant>,
}

impl Stall {
    fn set(&mut self, stalled: bool, now: Instant) {
        if self.limit.is_some() {
            self.since = stalled.then_some(now);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.since? + self.limit?)
    }

    fn passed(&self, now: Instant) -> Option<Duration> {
        self.deadline().filter(|&deadline| deadline <= now)?;
        self.limit
    }
}

impl Heartbeat {
    /// The monitor of a connection that was just negotiated.
    pub(crate) fn new(endpoint: &Endpoint, agreed: &WireFormat, now: Instant) -> Self {
        let (duration, initial) = if endpoint.ignore_remote_wire_format {
            let own = &endpoint.wire_format;
            (
                own.max_inactivity_duration,
                own.max_inactivity_duration_initial_delay,
            )
        } else {
            (
                agreed.max_inactivity_duration,
                agreed.max_inactivity_duration_initial_delay,
            )
        };
        let millis = |value: i64| Duration::from_millis(u64::try_from(value).unwrap_or(0));
        let (duration, first) = (millis(duration), now + millis(initial));
        let on = endpoint.use_inactivity_monitor && !duration.is_zero();
        Self {
            read: on.then(|| Check {
                // The handshake was a sign of life.
                active: true,
                ..Check::new(duration, first)
            }),
            write: (on && endpoint.use_keep_alive).then(|| Check::new(duration / 3, first)),
            partial_read: Stall {
                limit: endpoint.socket.so_timeout,
                since: None,
            },
            blocked_write: Stall {
                limit: endpoint.socket.so_write_timeout,
                since: None,
            },
        }
    }

    /// Bytes came; `partial` says that a frame is not complete yet.
    pub(crate) fn received(&mut self, partial: bool, now: Instant) {
        if let Some(check) = &mut self.read {
            check.active = true;
        }
        self.partial_read.set(partial, now);
    }

    /// Bytes were written; `rest` says that more are waiting.
    pub(crate) fn sent(&mut self, rest: bool, now: Instant) {
        if let Some(check) = &mut self.write {
            check.active = true;
        }
        self.blocked_write.set(rest, now);
    }

    /// There is something to write and the peer does not take it.
    pub(crate) fn blocked(&mut self, now: Instant) {
        if self.blocked_write.since.is_none() {
            self.blocked_write.set(true, now);
        }
    }

    /// When to ask [`due`](Self::due) next; none is never.
    pub(crate) fn next(&self) -> Option<Instant> {
        [
            self.read.as_ref().map(|check| check.next),
            self.write.as_ref().map(|check| check.next),
            self.partial_read.deadline(),
            self.blocked_write.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What is due now.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if let Some(limit) = self.partial_read.passed(now) {
            return Due::PartialFrame(limit);
        }
        if let Some(limit) = self.blocked_write.passed(now) {
            return Due::Blocked(limit);
        }
        if let Some(check) = &mut self.read
            && check.idle(now)
        {
            return Due::Silent(check.period);
        }
        if let Some(check) = &mut self.write
            && check.idle(now)
        {
            return Due::KeepAlive;
        }
        Due::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uri::Scheme;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn agreed(duration: i64, initial: i64) -> WireFormat {
        WireFormat {
            max_inactivity_duration: duration,
            max_inactivity_duration_initial_delay: initial,
            ..WireFormat::handshake()
        }
    }

    fn tcp() -> Endpoint {
        Endpoint::new(Scheme::Tcp, "h", 1)
    }

    #[test]
    fn keep_alives_go_out_every_third_of_the_duration() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(&tcp(), &agreed(1200, 600), start);
        let mut sent = Vec::new();
        for at in 0..2000 {
            let now = start + ms(at);
            heartbeat.received(false, now);
            if heartbeat.due(now) == Due::KeepAlive {
                sent.push(at);
            }
        }
        assert_eq!(sent, [600, 1000, 1400, 1800]);
    }

    #[test]
    fn what_was_written_spares_the_keep_alive() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(&tcp(), &agreed(1200, 600), start);
        heartbeat.sent(false, start + ms(599));
        assert_eq!(heartbeat.due(start + ms(600)), Due::Nothing);
        heartbeat.received(false, start + ms(700));
        assert_eq!(heartbeat.due(start + ms(1000)), Due::KeepAlive);
    }

    #[test]
    fn a_silent_peer_is_found_between_one_and_two_durations() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(&tcp(), &agreed(1000, 500), start);
        heartbeat.received(false, start + ms(501));
        heartbeat.sent(false, start + ms(501));
        let found = (501..5000).find(|&at| matches!(heartbeat.due(start + ms(at)), Due::Silent(_)));
        assert_eq!(found, Some(1501));
    }

    #[test]
    fn a_late_check_is_followed_by_a_whole_period() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(&tcp(), &agreed(1000, 500), start);
        heartbeat.received(false, start);
        let late = start + ms(9000);
        assert_ne!(heartbeat.due(late), Due::Silent(ms(1000)));
        assert!(heartbeat.next() > Some(late));
    }

    #[test]
    fn it_is_off_when_the_peers_or_the_uri_say_so() {
        let start = Instant::now();
        let off = Heartbeat::new(&tcp(), &agreed(0, 500), start);
        assert_eq!(off.next(), None);
        let mut endpoint = tcp();
        endpoint.use_inactivity_monitor = false;
        assert_eq!(Heartbeat::new(&endpoint, &agreed(1000, 500), start).next(), None);
        let mut endpoint = tcp();
        endpoint.use_keep_alive = false;
        let mut silent = Heartbeat::new(&endpoint, &agreed(3000, 0), start);
        assert_eq!(silent.due(start + ms(1000)), Due::Nothing);
        assert_eq!(silent.next(), Some(start + ms(4000)));
        assert_eq!(silent.due(start + ms(4000)), Due::Silent(ms(3000)));
    }

    #[test]
    fn the_peers_word_can_be_ignored() {
        let start = Instant::now();
        let mut endpoint = tcp();
        endpoint.ignore_remote_wire_format = true;
        endpoint.wire_format.max_inactivity_duration = 9000;
        endpoint.wire_format.max_inactivity_duration_initial_delay = 4000;
        let heartbeat = Heartbeat::new(&endpoint, &agreed(10, 10), start);
        assert_eq!(heartbeat.next(), Some(start + ms(4000)));
    }

    #[test]
    fn a_frame_may_not_stop_in_the_middle() {
        let start = Instant::now();
        let mut endpoint = tcp();
        endpoint.socket.so_timeout = Some(ms(100));
        let mut heartbeat = Heartbeat::new(&endpoint, &agreed(0, 0), start);
        heartbeat.received(true, start);
        heartbeat.received(true, start + ms(90));
        assert_eq!(heartbeat.due(start + ms(189)), Due::Nothing);
        assert_eq!(heartbeat.due(start + ms(190)), Due::PartialFrame(ms(100)));
        heartbeat.received(false, start + ms(190));
        assert_eq!(heartbeat.due(start + ms(900)), Due::Nothing);
    }

    #[test]
    fn a_peer_must_take_what_is_written() {
        let start = Instant::now();
        let mut endpoint = tcp();
        endpoint.socket.so_write_timeout = Some(ms(100));
        let mut heartbeat = Heartbeat::new(&endpoint, &agreed(0, 0), start);
        heartbeat.blocked(start);
        heartbeat.blocked(start + ms(60));
        assert_eq!(heartbeat.next(), Some(start + ms(100)));
        heartbeat.sent(true, start + ms(90));
        assert_eq!(heartbeat.due(start + ms(189)), Due::Nothing);
        assert_eq!(heartbeat.due(start + ms(190)), Due::Blocked(ms(100)));
        heartbeat.sent(false, start + ms(190));
        assert_eq!(heartbeat.next(), None);
    }
}
