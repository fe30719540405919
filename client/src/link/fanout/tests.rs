//! What the tests of the parts have in common.

use super::*;
use crate::error::Error;
use crate::events::Event;
use crate::wire::{
    BrokerInfo, ConsumerControl, EntityId, MessageAck, MessageDispatch, ProducerAck, WireFormat,
};

/// A layer above that is not interested.
pub(super) struct Nobody;

impl Upper for Nobody {
    fn dispatch(&self, _: MessageDispatch) -> Result<Option<MessageAck>> {
        Ok(None)
    }

    fn producer_ack(&self, _: &ProducerAck) {}

    fn consumer_control(&self, _: &ConsumerControl) {}

    fn broker_info(&self, _: BrokerInfo) {}

    fn broker_error(&self, _: Error) {}

    fn not_restored(&self, _: &EntityId, _: Error) {}

    fn opened(&self, _: &WireFormat) {}

    fn interrupted(&self, _: u64) {}

    fn closed(&self, _: &Error) {}

    fn event(&self, _: Event) {}
}
