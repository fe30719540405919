//! Where a message goes: to the destination it names or, if it names several, to each of them.

use std::sync::Arc;

use openwire_client::wire::{Destination, Message};

use super::destinations::{Target, parts};
use super::refusal::Refusal;
use super::{Core, Turn};

/// Where a message goes.
#[derive(Debug)]
pub(super) enum Routes {
    /// As it is.
    One(Target),
    /// A copy for each, made for it.
    Several(Vec<(Target, Arc<Message>)>),
}

impl Core {
    /// Where a message goes; its destinations are made if they are not there.
    pub(super) fn route(&mut self, message: &Arc<Message>, turn: &mut Turn<'_>) -> Result<Routes, Refusal> {
        let destination = message
            .destination
            .as_ref()
            .ok_or_else(|| Refusal::destination("a message without a destination"))?;
        if !destination.is_composite() {
            return self.resolve_for_send(destination, turn).map(Routes::One);
        }
        let parts = parts(destination)?;
        let mut copies = Vec::with_capacity(parts.len());
        for part in parts {
            let target = self.resolve_for_send(&part, turn)?;
            copies.push((target, copy_for(message, part)));
        }
        Ok(Routes::Several(copies))
    }
}

/// The message as it goes to one of several destinations.
fn copy_for(message: &Arc<Message>, destination: Destination) -> Arc<Message> {
    let mut copy = message.clone();
    let fields = Arc::make_mut(&mut copy);
    let composite = fields.destination.replace(destination);
    fields.original_destination = fields.original_destination.take().or(composite);
    copy
}
