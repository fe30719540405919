//! How much is sent ahead.

use crate::error::Result;
use crate::uri::{OptionValue, Query};

/// How many messages a broker sends ahead to a consumer that has not acknowledged them
/// (`jms.prefetchPolicy.*`, `ActiveMQPrefetchPolicy`).
///
/// 0 is pull mode: the consumer asks for each message. ActiveMQ's limit is 32767; more, in a URI, is cut
/// down to that with a warning, as ActiveMQ does. `all` in a URI sets the five that are not named besides it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrefetchPolicy {
    /// Queue consumers. Default 1000.
    pub queue_prefetch: u16,
    /// Queue browsers. Default 500.
    pub queue_browser_prefetch: u16,
    /// Topic consumers that are not durable. Default 32767.
    pub topic_prefetch: u16,
    /// Durable subscribers. Default 100.
    pub durable_topic_prefetch: u16,
    /// Durable subscribers that acknowledge by themselves, if
    /// [`optimized_message_dispatch`](super::ConnectionOptions::optimized_message_dispatch) is on. Default 1000.
    pub optimize_durable_topic_prefetch: u16,
    /// How many messages beyond the prefetch the broker should keep for a topic consumer. Default 0: the
    /// broker decides.
    pub maximum_pending_message_limit: u32,
}

impl Default for PrefetchPolicy {
    fn default() -> Self {
        Self {
            queue_prefetch: 1000,
            queue_browser_prefetch: 500,
            topic_prefetch: 32767,
            durable_topic_prefetch: 100,
            optimize_durable_topic_prefetch: 1000,
            maximum_pending_message_limit: 0,
        }
    }
}

/// `ActiveMQPrefetchPolicy.MAX_PREFETCH_SIZE`
const MAX_PREFETCH: u16 = i16::MAX as u16;

impl PrefetchPolicy {
    /// Reads the options of a URI, which have lost their prefix, and refuses what is none.
    pub(super) fn read(&mut self, mut query: Query) -> Result<()> {
        let mut all = None;
        query.read_with("all", &mut all, |text| prefetch(text).map(Some))?;
        for (name, prefetch_size) in [
            ("queuePrefetch", &mut self.queue_prefetch),
            ("queueBrowserPrefetch", &mut self.queue_browser_prefetch),
            ("topicPrefetch", &mut self.topic_prefetch),
            ("durableTopicPrefetch", &mut self.durable_topic_prefetch),
            (
                "optimizeDurableTopicPrefetch",
                &mut self.optimize_durable_topic_prefetch,
            ),
        ] {
            *prefetch_size = all.unwrap_or(*prefetch_size);
            query.read_with(name, prefetch_size, prefetch)?;
        }
        query.read(
            "maximumPendingMessageLimit",
            &mut self.maximum_pending_message_limit,
        )?;
        query.finish("the prefetch policy")
    }
}

fn prefetch(text: &str) -> Result<u16, String> {
    let wanted = u32::from_text(text)?;
    match u16::try_from(wanted) {
        Ok(size @ ..=MAX_PREFETCH) => Ok(size),
        _ => {
            tracing::warn!(
                wanted,
                used = MAX_PREFETCH,
                "a prefetch is larger than there can be"
            );
            Ok(MAX_PREFETCH)
        }
    }
}
