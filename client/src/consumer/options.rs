//! What can be said of a consumer when it is made.

use std::sync::Arc;

use crate::error::Result;
use crate::uri::Uri;
use crate::wire::Destination;

/// What can be said of a consumer when it is made: JMS's arguments of `createConsumer`, and ActiveMQ's options of a
/// destination (`queue://Q?consumer.prefetchSize=10`), which count more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerOptions {
    /// Only messages that match this selector (`messageSelector`). Default none: all.
    pub selector: Option<Arc<str>>,
    /// Not what the same connection has sent, for topics (`noLocal`). Default false.
    pub no_local: bool,
    /// How many messages the broker may send ahead; 0 asks for each message. Default: the connection's
    /// [`PrefetchPolicy`](crate::options::PrefetchPolicy).
    pub prefetch: Option<u16>,
    /// Whether to be the only consumer of the queue (`exclusive`). Default: `jms.exclusiveConsumer`.
    pub exclusive: Option<bool>,
    /// Whether to get what the broker has kept of a topic from before (`retroactive`). Default:
    /// `jms.useRetroactiveConsumer`.
    pub retroactive: Option<bool>,
    /// Consumers of a higher priority are served first. Default 0.
    pub priority: i8,
    /// How many messages of a topic the broker should keep beyond the prefetch. Default: the connection's.
    pub maximum_pending_message_limit: Option<u32>,
    /// Whether the broker may dispatch from another thread than the producer's (`dispatchAsync`). Default:
    /// `jms.dispatchAsync`.
    pub dispatch_async: Option<bool>,
}

impl ConsumerOptions {
    /// Only messages that match a selector.
    pub fn with_selector(selector: impl Into<Arc<str>>) -> Self {
        Self {
            selector: Some(selector.into()),
            ..Self::default()
        }
    }

    /// With a prefetch of its own; 0 asks the broker for each message.
    pub fn with_prefetch(prefetch: u16) -> Self {
        Self {
            prefetch: Some(prefetch),
            ..Self::default()
        }
    }

    /// With what the destination says (`consumer.*`).
    pub(crate) fn overridden_by(mut self, destination: &Destination) -> Result<Self> {
        let Some(text) = destination.options() else {
            return Ok(self);
        };
        let mut query = Uri::parse(&format!("destination://options?{text}"))?
            .query
            .take_prefix("consumer.");
        query.read_with("selector", &mut self.selector, |text| Ok(Some(text.into())))?;
        query.read("noLocal", &mut self.no_local)?;
        query.read_with("priority", &mut self.priority, |text| {
            text.parse()
                .map_err(|_| "is not a number from -128 to 127".into())
        })?;
        query.read("prefetchSize", &mut self.prefetch)?;
        query.read("exclusive", &mut self.exclusive)?;
        query.read("retroactive", &mut self.retroactive)?;
        query.read("dispatchAsync", &mut self.dispatch_async)?;
        query.read(
            "maximumPendingMessageLimit",
            &mut self.maximum_pending_message_limit,
        )?;
        query.finish("a consumer")?;
        Ok(self)
    }
}
