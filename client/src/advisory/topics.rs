//! The topics on which brokers tell what happens to them (`AdvisorySupport`).
//!
//! Those of a destination take a name with wildcards as well: `consumers(&Destination::queue("Orders.>"))` is about all
//! queues of that name. Several can be listened to at once: see [`several`].

use crate::wire::{Destination, DestinationKind};

/// How the names of all of them begin (`ADVISORY_TOPIC_PREFIX`).
pub const PREFIX: &str = "ActiveMQ.Advisory.";

/// What stands for a comma in the name of a destination: a comma would make the topic several.
const COMMA: &str = "&sbquo;";

/// Everything that is told.
pub fn all() -> Destination {
    topic(">")
}

/// Connections come and go (`getConnectionAdvisoryTopic`).
pub fn connections() -> Destination {
    topic("Connection")
}

/// Destinations of a kind come and go (`getDestinationAdvisoryTopic`).
pub fn destinations(kind: DestinationKind) -> Destination {
    topic(type_of(kind))
}

/// Destinations of any kind come and go (`ALL_DESTINATIONS_COMPOSITE_ADVISORY_TOPIC`).
pub fn all_destinations() -> Destination {
    several(&[
        destinations(DestinationKind::Queue),
        destinations(DestinationKind::Topic),
        destinations(DestinationKind::TempQueue),
        destinations(DestinationKind::TempTopic),
    ])
}

/// Consumers of a destination come and go (`getConsumerAdvisoryTopic`).
pub fn consumers(of: &Destination) -> Destination {
    by_region("Consumer.", of)
}

/// Consumers of a virtual destination come and go (`getVirtualDestinationConsumerAdvisoryTopic`).
pub fn virtual_consumers(of: &Destination) -> Destination {
    by_region("VirtualDestination.Consumer.", of)
}

/// Producers of a destination come and go (`getProducerAdvisoryTopic`).
pub fn producers(of: &Destination) -> Destination {
    by_region("Producer.", of)
}

/// Producers without a destination come and go (`ANONYMOUS_PRODUCER_ADVISORY_TOPIC_PREFIX`); brokers tell that with
/// `anonymousProducerAdvisorySupport`.
pub fn anonymous_producers() -> Destination {
    topic("Producer.Anonymous")
}

/// Messages expire (`getExpiredMessageTopic`).
pub fn expired(of: &Destination) -> Destination {
    by_region("Expired.", of)
}

/// Messages come for which nobody is there (`getNoConsumersAdvisoryTopic`); told with `sendAdvisoryIfNoConsumers`.
pub fn no_consumers(of: &Destination) -> Destination {
    by_region("NoConsumer.", of)
}

/// Consumers do not keep up (`getSlowConsumerAdvisoryTopic`); told with `advisoryForSlowConsumers`.
pub fn slow_consumers(of: &Destination) -> Destination {
    by_type("SlowConsumer.", of)
}

/// Producers are held back (`getFastProducerAdvisoryTopic`); told with `advisoryForFastProducers`.
pub fn fast_producers(of: &Destination) -> Destination {
    by_type("FastProducer.", of)
}

/// Messages are discarded (`getMessageDiscardedAdvisoryTopic`); told with `advisoryForDiscardingMessages`.
pub fn discarded(of: &Destination) -> Destination {
    by_type("MessageDiscarded.", of)
}

/// Messages come to the broker (`getMessageDeliveredAdvisoryTopic`); told with `advisoryForDelivery`.
pub fn delivered(of: &Destination) -> Destination {
    by_type("MessageDelivered.", of)
}

/// Messages go to consumers (`getMessageDispatchedAdvisoryTopic` of ActiveMQ 6); told with `advisoryForDispatched`.
pub fn dispatched(of: &Destination) -> Destination {
    by_type("MessageDispatched.", of)
}

/// Messages are consumed (`getMessageConsumedAdvisoryTopic`); told with `advisoryForConsumed`.
pub fn consumed(of: &Destination) -> Destination {
    by_type("MessageConsumed.", of)
}

/// Messages go to a dead letter queue (`getMessageDLQdAdvisoryTopic`).
pub fn dead_lettered(of: &Destination) -> Destination {
    by_type("MessageDLQd.", of)
}

/// There is no room (`getFullAdvisoryTopic`); told with `advisoryWhenFull`.
pub fn full(of: &Destination) -> Destination {
    by_type("FULL.", of)
}

/// A broker has become the master (`getMasterBrokerAdvisoryTopic`).
pub fn master_broker() -> Destination {
    topic("MasterBroker")
}

/// Bridges to other brokers begin and end (`getNetworkBridgeAdvisoryTopic`).
pub fn network_bridges() -> Destination {
    topic("NetworkBridge")
}

/// A bridge could not pass a message on (`getNetworkBridgeForwardFailureAdvisoryTopic`).
pub fn forward_failures() -> Destination {
    topic("NetworkBridge.ForwardFailure")
}

/// Several topics as one.
pub fn several(topics: &[Destination]) -> Destination {
    let names: Vec<_> = topics.iter().map(Destination::name).collect();
    Destination::topic(&names.join(","))
}

fn topic(name: &str) -> Destination {
    Destination::topic(&format!("{PREFIX}{name}"))
}

fn by_region(what: &str, of: &Destination) -> Destination {
    let region = if of.is_queue() { "Queue" } else { "Topic" };
    named(what, region, of)
}

fn by_type(what: &str, of: &Destination) -> Destination {
    named(what, type_of(of.kind()), of)
}

fn named(what: &str, kind: &str, of: &Destination) -> Destination {
    topic(&format!("{what}{kind}.{}", of.name().replace(',', COMMA)))
}

fn type_of(kind: DestinationKind) -> &'static str {
    match kind {
        DestinationKind::Queue => "Queue",
        DestinationKind::Topic => "Topic",
        DestinationKind::TempQueue => "TempQueue",
        DestinationKind::TempTopic => "TempTopic",
    }
}

/// The destination that the rest of an advisory topic's name is about.
pub(super) fn subject(rest: &str) -> Option<Destination> {
    let (kind, name) = rest.split_once('.')?;
    let kind = match kind {
        "Queue" => DestinationKind::Queue,
        "Topic" => DestinationKind::Topic,
        "TempQueue" => DestinationKind::TempQueue,
        "TempTopic" => DestinationKind::TempTopic,
        _ => return None,
    };
    Some(Destination::new(kind, &name.replace(COMMA, ",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_activemq() {
        let queue = Destination::queue("A,B");
        let temporary = Destination::new(DestinationKind::TempTopic, "ID:x:1");
        for (topic, name) in [
            (all(), ">"),
            (connections(), "Connection"),
            (consumers(&queue), "Consumer.Queue.A&sbquo;B"),
            (consumers(&temporary), "Consumer.Topic.ID:x:1"),
            (
                virtual_consumers(&queue),
                "VirtualDestination.Consumer.Queue.A&sbquo;B",
            ),
            (producers(&Destination::topic("T")), "Producer.Topic.T"),
            (anonymous_producers(), "Producer.Anonymous"),
            (expired(&queue), "Expired.Queue.A&sbquo;B"),
            (slow_consumers(&temporary), "SlowConsumer.TempTopic.ID:x:1"),
            (discarded(&queue), "MessageDiscarded.Queue.A&sbquo;B"),
            (dead_lettered(&queue), "MessageDLQd.Queue.A&sbquo;B"),
            (full(&Destination::queue(">")), "FULL.Queue.>"),
        ] {
            assert_eq!(topic, Destination::topic(&format!("ActiveMQ.Advisory.{name}")));
            assert!(topic.is_advisory());
        }
        assert_eq!(
            all_destinations().name(),
            "ActiveMQ.Advisory.Queue,ActiveMQ.Advisory.Topic,ActiveMQ.Advisory.TempQueue,ActiveMQ.Advisory.TempTopic"
        );
    }

    #[test]
    fn the_subject_of_a_topic_is_found_again() {
        for destination in [
            Destination::queue("A,B"),
            Destination::topic("a.b"),
            Destination::new(DestinationKind::TempQueue, "ID:x:1"),
        ] {
            let topic = slow_consumers(&destination);
            let rest = topic
                .name()
                .strip_prefix("ActiveMQ.Advisory.SlowConsumer.")
                .unwrap();
            assert_eq!(subject(rest), Some(destination));
        }
        assert_eq!(subject("Nothing"), None);
        assert_eq!(subject("Other.x"), None);
    }
}
