//! What the broker announces about temporary destinations (`jms.watchTopicAdvisories`): a sender hears at once that
//! nobody is there any more, also of a message that is not waited for.

use std::collections::VecDeque;

use parking_lot::Mutex;
use rustc_hash::FxHashSet;

use crate::wire::{
    Command, ConnectionId, ConsumerId, ConsumerInfo, Destination, DestinationInfo, MessageAck,
    MessageDispatch, MessageId,
};

/// The session that every connection has without announcing it.
pub(super) const IMPLICIT_SESSION: i64 = -1;

const TOPIC: &str = "ActiveMQ.Advisory.TempQueue,ActiveMQ.Advisory.TempTopic";

/// As ActiveMQ's client has it, also how much of it is used before an acknowledgement.
const PREFETCH: i32 = 1000;
const ACKNOWLEDGE_AFTER: usize = 750;

/// So many deleted destinations are remembered: enough for replies that are late, not enough to matter.
const REMEMBERED: usize = 4096;

/// The temporary destinations that are known to be deleted.
#[derive(Debug, Default)]
pub(super) struct Advisories {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    deleted: FxHashSet<Destination>,
    oldest: VecDeque<Destination>,
    /// The advisories that are not acknowledged: the first one and how many.
    first: Option<MessageId>,
    count: usize,
}

/// The consumer of the advisories.
pub(crate) fn consumer_info(connection: &ConnectionId) -> ConsumerInfo {
    ConsumerInfo {
        consumer_id: Some(ConsumerId {
            connection_id: connection.value.clone(),
            session_id: IMPLICIT_SESSION,
            value: 1,
        }),
        destination: Some(Destination::topic(TOPIC)),
        prefetch_size: PREFETCH,
        dispatch_async: true,
        no_local: true,
        ..ConsumerInfo::default()
    }
}

impl Advisories {
    pub(super) fn is_deleted(&self, destination: &Destination) -> bool {
        self.state.lock().deleted.contains(destination)
    }

    /// Learns from an advisory. The acknowledgement is due if there is one.
    pub(super) fn learn(&self, dispatch: MessageDispatch) -> Option<MessageAck> {
        let message = dispatch.message?;
        let mut state = self.state.lock();
        if let Some(Command::DestinationInfo(info)) = message.data_structure.as_deref() {
            state.learn(info);
        }
        state.count += 1;
        if state.first.is_none() {
            state.first.clone_from(&message.message_id);
        }
        if state.count < ACKNOWLEDGE_AFTER {
            return None;
        }
        Some(MessageAck {
            destination: dispatch.destination,
            consumer_id: dispatch.consumer_id,
            ack_type: MessageAck::STANDARD,
            first_message_id: state.first.take(),
            last_message_id: message.message_id.clone(),
            message_count: std::mem::take(&mut state.count) as i32,
            ..MessageAck::default()
        })
    }

    /// Another connection has dispatched nothing yet.
    pub(super) fn interrupted(&self) {
        let mut state = self.state.lock();
        state.first = None;
        state.count = 0;
    }
}

impl State {
    fn learn(&mut self, info: &DestinationInfo) {
        let Some(destination) = info
            .destination
            .as_ref()
            .filter(|destination| destination.is_temporary())
        else {
            return;
        };
        if info.operation_type == DestinationInfo::ADD {
            // Its connection has survived a break.
            self.deleted.remove(destination);
            self.oldest.retain(|known| known != destination);
        } else if self.deleted.insert(destination.clone()) {
            self.oldest.push_back(destination.clone());
            if self.oldest.len() > REMEMBERED
                && let Some(oldest) = self.oldest.pop_front()
            {
                self.deleted.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::wire::{DestinationKind, Message};

    fn temporary(number: usize) -> Destination {
        Destination::new(DestinationKind::TempQueue, &format!("ID:c:{number}"))
    }

    fn advisory(destination: &Destination, operation_type: i8) -> MessageDispatch {
        let info = DestinationInfo {
            destination: Some(destination.clone()),
            operation_type,
            ..DestinationInfo::default()
        };
        MessageDispatch {
            message: Some(Arc::new(Message {
                message_id: Some(MessageId::default()),
                data_structure: Some(Box::new(Command::from(info))),
                ..Message::default()
            })),
            ..MessageDispatch::default()
        }
    }

    #[test]
    fn a_destination_is_deleted_until_it_is_made_again() {
        let advisories = Advisories::default();
        let destination = temporary(1);
        assert!(!advisories.is_deleted(&destination));
        advisories.learn(advisory(&destination, DestinationInfo::REMOVE));
        assert!(advisories.is_deleted(&destination));
        advisories.learn(advisory(&destination, DestinationInfo::ADD));
        assert!(!advisories.is_deleted(&destination));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let advisories = Advisories::default();
        for number in 0..=REMEMBERED {
            advisories.learn(advisory(&temporary(number), DestinationInfo::REMOVE));
        }
        assert!(!advisories.is_deleted(&temporary(0)));
        assert!(advisories.is_deleted(&temporary(1)));
    }

    #[test]
    fn the_window_is_opened_again_before_it_is_used_up() {
        let advisories = Advisories::default();
        let mut due = Vec::new();
        for number in 1..=2 * ACKNOWLEDGE_AFTER {
            if let Some(ack) = advisories.learn(advisory(&temporary(1), DestinationInfo::ADD)) {
                due.push((number, ack.message_count as usize));
            }
        }
        assert_eq!(
            due,
            [
                (ACKNOWLEDGE_AFTER, ACKNOWLEDGE_AFTER),
                (2 * ACKNOWLEDGE_AFTER, ACKNOWLEDGE_AFTER)
            ]
        );
    }
}
