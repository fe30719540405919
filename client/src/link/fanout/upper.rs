//! What one of the links tells, as it concerns the connection as a whole.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::brokers::Shared;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::link::Upper;
use crate::wire::{
    BrokerInfo, ConsumerControl, EntityId, MessageAck, MessageDispatch, ProducerAck, WireFormat,
};

/// Stands between the link of one broker and the layer above.
pub(super) struct BrokerUpper {
    id: u64,
    shared: Arc<Shared>,
}

impl BrokerUpper {
    pub(super) fn new(id: u64, shared: Arc<Shared>) -> Self {
        Self { id, shared }
    }

    /// The consumers are here.
    fn is_source(&self) -> bool {
        self.shared.source.load(Ordering::Acquire) == self.id
    }
}

impl Upper for BrokerUpper {
    fn dispatch(&self, dispatch: MessageDispatch) -> Result<Option<MessageAck>> {
        if self.is_source() {
            return self.shared.upper.dispatch(dispatch);
        }
        Ok(None)
    }

    fn producer_ack(&self, ack: &ProducerAck) {
        // One answer for each message: those of the primary, which gets all of them.
        if self.is_source() {
            self.shared.upper.producer_ack(ack);
        }
    }

    fn consumer_control(&self, control: &ConsumerControl) {
        if self.is_source() {
            if control.close
                && let Some(id) = &control.consumer_id
            {
                self.shared.forget(id);
            }
            self.shared.upper.consumer_control(control);
        }
    }

    fn broker_info(&self, info: BrokerInfo) {
        self.shared.upper.broker_info(info);
    }

    fn broker_error(&self, error: Error) {
        self.shared.upper.broker_error(error);
    }

    fn not_restored(&self, entity: &EntityId, error: Error) {
        self.shared.upper.not_restored(entity, error);
    }

    fn opened(&self, format: &WireFormat) {
        self.shared.opened(format);
    }

    fn interrupted(&self, connection: u64) {
        self.shared.broken(self.id, connection);
    }

    fn closed(&self, _: &Error) {
        // The event that follows says the same and more.
    }

    fn event(&self, event: Event) {
        match event {
            Event::Connected { .. } => self.shared.joined(self.id, 0, 0, 0),
            Event::Resumed {
                resumed,
                lost,
                attempts,
                ..
            } => self.shared.joined(self.id, resumed, lost, attempts),
            Event::Interrupted { cause } => self.shared.interrupted(self.id, cause),
            Event::Closed { cause, lost } => self.shared.ended(self.id, cause, lost),
            event => self.shared.upper.event(event),
        }
    }
}
