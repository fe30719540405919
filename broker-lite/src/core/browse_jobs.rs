//! The scheduler's management destination: what is scheduled can be browsed and removed by messages
//! (`ScheduledMessage.AMQ_SCHEDULER_MANAGEMENT_DESTINATION`).

use std::collections::VecDeque;
use std::sync::Arc;

use openwire_client::wire::{Destination, Message, ValueRef, find_value};

use super::effect::{ConnectionKey, Then};
use super::refusal::Refusal;
use super::schedule::{Loading, fits, with_properties};
use super::{Core, Outcome, Turn};
use crate::policy::schedule::SCHEDULED_ID;

/// A destination whose name begins like this, in upper or lower case, is the scheduler's.
const MANAGEMENT: &str = "ActiveMQ.Scheduler.Management";

/// Property: what is to be done.
const ACTION: &str = "AMQ_SCHEDULER_ACTION";

/// Properties: from when to when, in milliseconds since 1970. Both or none.
const START: &str = "ACTION_START_TIME";
const END: &str = "ACTION_END_TIME";

/// Jobs that all browsers together are still to be shown: 8 bytes each.
const MAX_TO_SHOW: usize = 8_000_000;

/// Browsers at the same time.
const MAX_BROWSES: usize = 1000;

/// How soon it is looked whether there is room for replies again, in milliseconds.
const SOON: i64 = 100;

/// A browser for which there is no room for so long gets nothing more, in milliseconds.
const PATIENCE: i64 = 60_000;

/// Who is being shown what is scheduled.
#[derive(Debug, Default)]
pub(super) struct Browses {
    list: VecDeque<Browse>,
    /// Deliveries came before; now it is the turn of these.
    let_in: bool,
}

#[derive(Debug)]
struct Browse {
    reply_to: Destination,
    /// What is still to be shown, in order.
    rest: VecDeque<u64>,
    wake: i64,
    /// Until when there has to be room for more.
    until: i64,
    /// As in ActiveMQ, who asked is answered when everything was shown.
    reply: Option<Then>,
}

impl Browses {
    /// When there is something to do.
    pub(super) fn next(&self) -> Option<i64> {
        self.list.front().map(|browse| browse.wake)
    }

    /// Deliveries do not keep browsers waiting for ever.
    pub(super) fn let_in(&mut self) {
        self.let_in = true;
    }

    /// True if it is their turn.
    pub(super) fn are_next(&self) -> bool {
        self.let_in && !self.list.is_empty()
    }
}

/// What a message to the scheduler asks for.
enum Asked {
    Browse(Destination),
    Remove(String),
    RemoveAll,
    Nothing,
}

impl Core {
    /// True if a message is for the scheduler itself.
    pub(super) fn is_for_scheduler(&self, message: &Message) -> bool {
        let names_it = |destination: &Destination| {
            let name = destination.name().as_bytes();
            let prefix = name.get(..MANAGEMENT.len());
            prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(MANAGEMENT.as_bytes()))
        };
        self.jobs.are_on() && message.destination.as_ref().is_some_and(names_it)
    }

    /// Does what a message asks of the scheduler. As in ActiveMQ it does so at once, also in a transaction, and a message
    /// that asks for nothing it knows has no effect.
    pub(super) fn manage_jobs(
        &mut self,
        message: &Message,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let asked = asked(message)?;
        let range = range(message)?;
        match asked {
            Asked::Browse(reply_to) => {
                let rest: VecDeque<_> = self.jobs_within(range).into();
                if rest.is_empty() {
                    return Ok(Outcome::Done);
                }
                let shown: usize = self
                    .jobs
                    .browses
                    .list
                    .iter()
                    .map(|browse| browse.rest.len())
                    .sum();
                if shown + rest.len() > MAX_TO_SHOW || self.jobs.browses.list.len() >= MAX_BROWSES {
                    return Err(Refusal::resources(
                        "too much that is scheduled is browsed at once",
                    ));
                }
                self.jobs.browses.list.push_back(Browse {
                    reply_to,
                    rest,
                    wake: turn.now,
                    until: turn.now.saturating_add(PATIENCE),
                    reply,
                });
                return Ok(Outcome::Answered);
            }
            Asked::Remove(id) => {
                let found: Vec<_> = self.jobs.find(&id).into_iter().collect();
                self.remove_jobs(&found, turn);
            }
            Asked::RemoveAll => {
                let found = self.jobs_within(range);
                tracing::info!(messages = found.len(), "scheduled messages are removed");
                self.remove_jobs(&found, turn);
            }
            Asked::Nothing => {
                tracing::warn!("a message to the scheduler asks for nothing that it can do");
            }
        }
        Ok(turn.confirm(reply))
    }

    /// What is due from when to when, the soonest first.
    fn jobs_within(&self, (from, to): (i64, i64)) -> Vec<u64> {
        let mut found: Vec<_> = self
            .jobs
            .waiting
            .iter()
            .filter(|(_, waiting)| (from..=to).contains(&waiting.due))
            .map(|(sequence, waiting)| (waiting.due, *sequence))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, sequence)| sequence).collect()
    }

    /// Shows the next browser more of what is scheduled.
    pub(super) fn browse_jobs(&mut self, turn: &mut Turn<'_>) {
        self.jobs.browses.let_in = false;
        let full = self.is_full();
        let Some(browse) = self.jobs.browses.list.front_mut() else {
            return;
        };
        if browse.wake > turn.now {
            return;
        }
        if full {
            if turn.now >= browse.until {
                tracing::warn!(reply_to = %browse.reply_to, left = browse.rest.len(),
                    "there is no room to show what is scheduled");
                if let Some(browse) = self.jobs.browses.list.pop_front() {
                    let refusal = Refusal::resources("there is no room to show what is scheduled");
                    self.answer(browse.reply, Err(refusal), turn);
                }
            } else {
                browse.wake = turn.now.saturating_add(SOON);
            }
            return;
        }
        let (mut bytes, mut shown) = (0, Vec::new());
        while fits(shown.len(), bytes)
            && let Some(sequence) = browse.rest.pop_front()
        {
            if let Some(waiting) = self.jobs.waiting.get(&sequence) {
                bytes += waiting.size as usize;
                shown.push(sequence);
            }
        }
        if shown.is_empty() {
            return self.end_browse(turn);
        }
        browse.until = turn.now.saturating_add(PATIENCE);
        if self.config.stored {
            return self.load_jobs(&shown, Loading::Browsing, turn);
        }
        let bodies: Vec<_> = shown
            .into_iter()
            .filter_map(|sequence| {
                let waiting = self.jobs.waiting.get(&sequence)?;
                Some((sequence, waiting.body.clone()?))
            })
            .collect();
        self.show_jobs(bodies.into_iter(), turn);
    }

    /// Sends these to the browser whose turn it is. The next one is next.
    pub(super) fn show_jobs(
        &mut self,
        bodies: impl Iterator<Item = (u64, Arc<Message>)>,
        turn: &mut Turn<'_>,
    ) {
        let Some(browse) = self.jobs.browses.list.pop_front() else {
            return;
        };
        let reply_to = browse.reply_to.clone();
        let more = !browse.rest.is_empty();
        let mut gone = false;
        for (sequence, message) in bodies {
            let id = self.jobs.id_of(sequence);
            let Some(mut copy) = with_properties(&message, |properties| {
                properties.insert(SCHEDULED_ID, &*id);
            }) else {
                continue;
            };
            let broker = self.config.broker_id.value.clone();
            let message_id = self.jobs.new_message_id(broker);
            copy.producer_id = message_id.producer_id.clone();
            copy.message_id = Some(message_id);
            copy.message_type = Some("Advisory".into());
            copy.persistent = false;
            copy.original_destination = copy.destination.take();
            copy.destination = Some(reply_to.clone());
            let copy = Arc::new(copy);
            match self.route(&copy, turn) {
                Ok(routes) => {
                    self.publish(routes, copy, None, turn);
                }
                Err(refusal) => {
                    tracing::warn!(%reply_to, %refusal, "who browsed what is scheduled is gone");
                    gone = true;
                    break;
                }
            }
        }
        match more && !gone {
            true => self.jobs.browses.list.push_back(browse),
            false => self.answer(browse.reply, Ok(Outcome::Done), turn),
        }
    }

    /// The browser whose turn it is gets nothing more.
    fn end_browse(&mut self, turn: &mut Turn<'_>) {
        if let Some(browse) = self.jobs.browses.list.pop_front() {
            self.answer(browse.reply, Ok(Outcome::Done), turn);
        }
    }

    /// The connection ended: it waits for no answer, and its key may get another meaning.
    pub(super) fn forget_browses(&mut self, connection: ConnectionKey) {
        for browse in &mut self.jobs.browses.list {
            browse
                .reply
                .take_if(|reply| matches!(reply, Then::Reply { to, .. } if *to == connection));
        }
    }
}

fn asked(message: &Message) -> Result<Asked, Refusal> {
    Ok(match property(message, ACTION)? {
        Some(ValueRef::String(action)) => match &*action {
            "BROWSE" => message.reply_to.clone().map_or(Asked::Nothing, Asked::Browse),
            "REMOVE" => match property(message, SCHEDULED_ID)? {
                Some(ValueRef::String(id)) => Asked::Remove(id.into_owned()),
                _ => Asked::Nothing,
            },
            "REMOVEALL" => Asked::RemoveAll,
            _ => Asked::Nothing,
        },
        _ => Asked::Nothing,
    })
}

/// From when to when; everything unless both are given.
fn range(message: &Message) -> Result<(i64, i64), Refusal> {
    let time = |name| {
        let time = match property(message, name)? {
            None | Some(ValueRef::Null) => return Ok(None),
            Some(ValueRef::Byte(time)) => Some(time.into()),
            Some(ValueRef::Short(time)) => Some(time.into()),
            Some(ValueRef::Int(time)) => Some(time.into()),
            Some(ValueRef::Long(time)) => Some(time),
            Some(ValueRef::String(time)) => time.parse().ok(),
            Some(_) => None,
        };
        match time {
            Some(time) => Ok(Some(time)),
            None => Err(Refusal::message_format(format!("{name} is not a whole number"))),
        }
    };
    Ok(match (time(START)?, time(END)?) {
        (Some(from), Some(to)) => (from, to),
        _ => (i64::MIN, i64::MAX),
    })
}

fn property<'a>(message: &'a Message, name: &str) -> Result<Option<ValueRef<'a>>, Refusal> {
    match &message.marshalled_properties {
        Some(properties) => find_value(properties, name).map_err(Refusal::message_format),
        None => Ok(None),
    }
}
