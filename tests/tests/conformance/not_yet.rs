//! What broker-lite cannot do yet.

/// The checks that broker-lite refuses, and what it says it does not support. One that passes, or is refused with other
/// words, fails until this list is right.
pub(crate) const NOT_YET: &[(&str, &str)] = &[
    ("headers.group", "message groups are"),
    ("queue.browser", "queue browsers are"),
    ("queue.browser-selector", "queue browsers are"),
    ("queue.browser-empty", "queue browsers are"),
    ("queue.composite-send", "the composite destination"),
    ("queue.composite-consume", "the composite destination"),
    ("queue.wildcards", "the wildcard destination"),
    ("topic.wildcards", "the wildcard destination"),
    ("topic.send-to-wildcard", "the wildcard destination"),
    ("topic.retroactive", "retroactive consumers are"),
    ("virtual-topic", "the virtual topic destination"),
    ("durable.reconnect", "durable subscriptions are"),
    ("durable.two-subscriptions", "durable subscriptions are"),
    ("durable.selector", "durable subscriptions are"),
    ("durable.selector-change", "durable subscriptions are"),
    ("durable.topic-change", "durable subscriptions are"),
    ("durable.active-twice-refused", "durable subscriptions are"),
    ("durable.client-acknowledge", "durable subscriptions are"),
    ("durable.transacted", "durable subscriptions are"),
    ("durable.other-client", "durable subscriptions are"),
    ("selector.group-header", "message groups are"),
    ("selector.queue-leaves-others", "message selectors on queues are"),
    ("selector.queue-shared", "message selectors on queues are"),
    (
        "selector.by-destination-option",
        "message selectors on queues are",
    ),
    ("consumer.exclusive", "exclusive consumers are"),
    ("consumer.priority", "consumer priorities are"),
    ("groups.sticky", "message groups are"),
    ("groups.close", "message groups are"),
    ("groups.move-on", "message groups are"),
    ("expiry.not-browsed", "queue browsers are"),
    ("expiry.dead-letter", "message selectors on queues are"),
    ("expiry.in-prefetch", "message selectors on queues are"),
    (
        "expiry.non-persistent-discarded",
        "message selectors on queues are",
    ),
    ("redelivery.dead-letter", "message selectors on queues are"),
    (
        "redelivery.non-persistent-discarded",
        "message selectors on queues are",
    ),
    ("redelivery.recover", "message selectors on queues are"),
    ("scheduled.delay", "scheduled messages are"),
    ("scheduled.topic", "scheduled messages are"),
    ("scheduled.repeat", "scheduled messages are"),
    ("scheduled.transaction", "scheduled messages are"),
    ("scheduled.browse-and-remove", "scheduled messages are"),
    ("scheduled.cron", "scheduled messages are"),
    ("advisory.consumer", "the advisory topic"),
    ("advisory.consumer-existing", "the advisory topic"),
    ("advisory.consumer-topic", "the advisory topic"),
    ("advisory.producer", "the advisory topic"),
    ("advisory.connection", "the advisory topic"),
    ("advisory.destination", "the advisory topic"),
    ("advisory.topic-destination", "the advisory topic"),
    ("advisory.expired", "the advisory topic"),
    ("wire.cache-eviction", "the wildcard destination"),
    ("failover.durable-subscriber", "durable subscriptions are"),
    ("restart.durable-subscription", "durable subscriptions are"),
    ("restart.scheduled", "scheduled messages are"),
];

/// What broker-lite says that it does not support when it is asked for the check of this name.
pub(crate) fn refusal(check: &str) -> Option<&'static str> {
    NOT_YET
        .iter()
        .find(|(name, _)| *name == check)
        .map(|(_, words)| *words)
}
