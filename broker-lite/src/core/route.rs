//! Where a message goes: to the destination it names, to each if it names several, and to what those pass it on to
//! (virtual topics, composite destinations, mirrored queues).

use std::sync::Arc;

use openwire_client::wire::{Destination, Message};

use super::destinations::{Target, parts};
use super::refusal::Refusal;
use super::{Core, Turn};
use crate::policy::schedule::Schedule;

/// How often a message is passed on, one destination to the next. More is a circle.
const MAX_STEPS: usize = 16;

/// Where a message goes.
#[derive(Debug)]
pub(super) enum Routes {
    /// As it is.
    One(Target),
    /// A copy for each, made for it.
    Several(Vec<(Target, Arc<Message>)>),
    /// Nowhere yet: it is scheduled, and finds its way when its time has come.
    Later(Box<Schedule>),
}

impl Core {
    /// Where a message goes; its destinations are made if they are not there.
    pub(super) fn route(&mut self, message: &Arc<Message>, turn: &mut Turn<'_>) -> Result<Routes, Refusal> {
        let destination = message
            .destination
            .as_ref()
            .ok_or_else(|| Refusal::destination("a message without a destination"))?;
        if let Some(schedule) = self.schedule_of(message, turn.now)? {
            return Ok(Routes::Later(Box::new(schedule)));
        }
        if !destination.is_composite() {
            let target = self.resolve_for_send(destination, turn)?;
            if !self.passes_on(target) {
                return Ok(Routes::One(target));
            }
        }
        let mut copies = Vec::new();
        self.spread(message.clone(), 0, &mut copies, turn)?;
        Ok(Routes::Several(copies))
    }

    /// True if a destination may pass on what is sent to it.
    pub(super) fn passes_on(&self, target: Target) -> bool {
        match target {
            Target::Queue(key) => self.queues[key.0].passes_on,
            Target::Topic(key) => self.topics[key.0].passes_on,
        }
    }

    /// Whether a new destination passes on what is sent to it; a queue that virtual topics feed is noted.
    pub(super) fn link(&mut self, destination: &Destination, target: Target) {
        let rules = self.config.rules.clone();
        let interceptors = &rules.interceptors;
        let composite = interceptors.composites(destination).next().is_some();
        match target {
            Target::Topic(key) => {
                self.topics[key.0].passes_on = composite || interceptors.feeds(destination).next().is_some();
            }
            Target::Queue(key) => {
                let mirrored = interceptors.mirror.as_ref();
                self.queues[key.0].passes_on =
                    composite || mirrored.is_some_and(|mirror| mirror.topic_of(destination).is_some());
                for (_, topic) in interceptors.fed_by(destination) {
                    let fed = self.fed.entry(topic).or_default();
                    if !fed.contains(destination) {
                        fed.push(destination.clone());
                    }
                }
            }
        }
    }

    /// The queue is gone.
    pub(super) fn unlink(&mut self, destination: &Destination) {
        let rules = self.config.rules.clone();
        for (_, topic) in rules.interceptors.fed_by(destination) {
            if let Some(fed) = self.fed.get_mut(&topic) {
                fed.retain(|queue| queue != destination);
                if fed.is_empty() {
                    self.fed.remove(&topic);
                }
            }
        }
    }

    /// Adds where a message goes, and where it is passed on to from there.
    fn spread(
        &mut self,
        message: Arc<Message>,
        steps: usize,
        copies: &mut Vec<(Target, Arc<Message>)>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let Some(destination) = message.destination.clone() else {
            return Ok(());
        };
        if steps > MAX_STEPS {
            return Err(Refusal::destination(format!(
                "{destination} passes messages on in a circle"
            )));
        }
        if destination.is_composite() {
            for part in parts(&destination)? {
                self.spread(copy_for(&message, part, true), steps + 1, copies, turn)?;
            }
            return Ok(());
        }
        let target = self.resolve_for_send(&destination, turn)?;
        if !self.passes_on(target) {
            copies.push((target, message));
            return Ok(());
        }
        let rules = self.config.rules.clone();
        let interceptors = &rules.interceptors;
        let mut keeps = true;
        for composite in interceptors.composites(&destination) {
            let mut passed_on = 0;
            for forward in &composite.forward_to {
                if forward
                    .selector
                    .as_ref()
                    .is_none_or(|filter| filter.matches(&*message).unwrap_or(false))
                {
                    let copy = copy_for(&message, forward.destination.clone(), true);
                    self.spread(copy, steps + 1, copies, turn)?;
                    passed_on += 1;
                }
            }
            keeps &= composite.keeps(passed_on);
        }
        for (topic, queues) in interceptors.feeds(&destination) {
            if topic.local && message.broker_path.is_some() {
                continue;
            }
            for queue in self.fed.get(&destination).cloned().unwrap_or_default() {
                if !queues.matches(&queue) || topic.selector_aware && !self.is_wanted(&queue, &message) {
                    continue;
                }
                if topic.drop_on_resource_limit && self.is_full() {
                    self.stats.discarded += 1;
                    continue;
                }
                let copy = copy_for(&message, queue, topic.set_original_destination);
                self.spread(copy, steps + 1, copies, turn)?;
            }
        }
        if let Some(topic) = interceptors
            .mirror
            .as_ref()
            .and_then(|mirror| mirror.topic_of(&destination))
        {
            self.spread(copy_for(&message, topic, true), steps + 1, copies, turn)?;
        }
        if keeps {
            copies.push((target, message));
        }
        Ok(())
    }

    /// True if some consumer of the queue selects the message.
    fn is_wanted(&self, queue: &Destination, message: &Message) -> bool {
        match self.destinations.get(queue) {
            Some(Target::Queue(key)) => self.queues[key.0].is_wanted(message),
            _ => false,
        }
    }
}

/// The message as it goes to one of several destinations.
fn copy_for(message: &Arc<Message>, destination: Destination, with_original: bool) -> Arc<Message> {
    let mut copy = message.clone();
    let fields = Arc::make_mut(&mut copy);
    let original = fields.destination.replace(destination);
    if with_original {
        fields.original_destination = fields.original_destination.take().or(original);
    }
    copy
}
