//! Who may do what: each command that needs a right asks here. Without authorization nothing is asked.

use openwire_client::wire::{Destination, Message};

use super::Core;
use super::effect::ConnectionKey;
use super::refusal::Refusal;
use crate::security::{Action, Denied, Principal};

/// What becomes of `JMSXUserID` in a message that is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UserIds {
    /// It is what the client says, so nobody can rely on it. ActiveMQ's default.
    #[default]
    AsSent,
    /// `populateJMSXUserID`: the name that the client gave when it connected.
    Given,
    /// `populateJMSXUserID` with `useAuthenticatedPrincipalForJMSXUserID`: the user that was let in, which may
    /// be known by a certificate or be the anonymous one.
    Authenticated,
}

impl Core {
    /// The connection belongs to somebody. Called before its `ConnectionInfo` is handled.
    pub fn authenticated(&mut self, connection: ConnectionKey, principal: Principal) {
        if let Some(connection) = self.connections.get_mut(connection.0 as usize) {
            connection.principal = Some(principal);
        }
    }

    /// Refuses what the connection's user may not do.
    pub(super) fn authorize(
        &mut self,
        from: ConnectionKey,
        action: Action,
        destination: &Destination,
    ) -> Result<(), Refusal> {
        let Some(authorization) = &self.config.authorization else {
            return Ok(());
        };
        let connection = &mut self.connections[from.0 as usize];
        let principal = connection.principal.as_ref();
        let may = |principal| {
            connection
                .grants
                .may(authorization, principal, action, destination)
        };
        if principal.is_some_and(may) {
            return Ok(());
        }
        self.stats.denied += 1;
        let denied = Denied {
            principal,
            action,
            destination,
        };
        tracing::debug!(peer = %connection.peer, "{denied}");
        Err(Refusal::security(denied.to_string()))
    }

    /// Refuses a destination that the connection's user may not use so, or would make by using it and may not make.
    pub(super) fn authorize_use(
        &mut self,
        from: ConnectionKey,
        action: Action,
        destination: &Destination,
    ) -> Result<(), Refusal> {
        if self.config.authorization.is_none() {
            return Ok(());
        }
        self.authorize(from, action, destination)?;
        // Advisory topics are the broker's own. What is not one destination makes none.
        let makes = !self.destinations.contains_key(destination)
            && !destination.is_advisory()
            && !destination.is_temporary()
            && !destination.is_composite()
            && !destination.is_pattern();
        if makes {
            self.authorize(from, Action::Create, destination)?;
        }
        Ok(())
    }

    /// Writes into a message who sent it.
    pub(super) fn stamp_user(&self, from: ConnectionKey, message: &mut Message) {
        let connection = &self.connections[from.0 as usize];
        message.user_id = match self.config.user_ids {
            UserIds::AsSent => return,
            UserIds::Given => connection.info.as_ref().and_then(|info| info.user_name.clone()),
            UserIds::Authenticated => connection
                .principal
                .as_ref()
                .map(|principal| principal.user().clone()),
        };
    }
}
