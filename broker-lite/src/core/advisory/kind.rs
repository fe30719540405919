//! What there are advisories of, and the topics they go to.

use openwire_client::wire::{Destination, DestinationKind};

use crate::policy::Policy;

/// What the topics of all advisories begin with.
pub(super) const PREFIX: &str = "ActiveMQ.Advisory.";

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $segment:literal,)*) => {
        /// What an advisory tells of. Its topic is `ActiveMQ.Advisory.` and the name given here; where an advisory is of
        /// one destination, that destination's type and name follow.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum AdvisoryKind {
            $($(#[doc = $doc])+ $kind,)*
        }

        impl AdvisoryKind {
            /// All there are.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// What stands behind `ActiveMQ.Advisory.` in the names of its topics.
            pub fn segment(self) -> &'static str {
                match self {
                    $(Self::$kind => $segment,)*
                }
            }
        }
    };
}

kinds! {
    /// `Connection`: a client connected or left.
    Connection = "Connection",
    /// `Queue`: a queue was made or removed.
    Queue = "Queue",
    /// `Topic`: a topic was made or removed.
    Topic = "Topic",
    /// `TempQueue`: a temporary queue was made or removed.
    TempQueue = "TempQueue",
    /// `TempTopic`: a temporary topic was made or removed.
    TempTopic = "TempTopic",
    /// `Consumer`: a consumer came or left.
    Consumer = "Consumer",
    /// `Producer`: a producer came or left.
    Producer = "Producer",
    /// `Expired`: the time of a message was over.
    Expired = "Expired",
    /// `NoConsumer`: a message that is not persistent arrived where nobody consumes (`sendAdvisoryIfNoConsumers`).
    NoConsumer = "NoConsumer",
    /// `SlowConsumer`: more waits for a subscriber than it has room for (`advisoryForSlowConsumers`).
    SlowConsumer = "SlowConsumer",
    /// `FastProducer`: a producer sends although there is no room (`advisoryForFastProducers`).
    FastProducer = "FastProducer",
    /// `MessageDiscarded`: a message was dropped because too much waits for a subscriber
    /// (`advisoryForDiscardingMessages`).
    MessageDiscarded = "MessageDiscarded",
    /// `MessageDelivered`: the broker has got a message (`advisoryForDelivery`).
    MessageDelivered = "MessageDelivered",
    /// `MessageConsumed`: a message was acknowledged, or left its queue in another way (`advisoryForConsumed`).
    MessageConsumed = "MessageConsumed",
    /// `MessageDLQd`: a message went to the dead letters.
    MessageDlqd = "MessageDLQd",
    /// `FULL`: there is no room for what is sent to a destination (`advisoryWhenFull`).
    Full = "FULL",
    /// `MasterBroker`: this broker serves.
    MasterBroker = "MasterBroker",
}

impl AdvisoryKind {
    /// What tells of the existence of a destination.
    pub(super) fn of_existence(destination: &Destination) -> Self {
        match destination.kind() {
            DestinationKind::Queue => Self::Queue,
            DestinationKind::Topic => Self::Topic,
            DestinationKind::TempQueue => Self::TempQueue,
            DestinationKind::TempTopic => Self::TempTopic,
        }
    }

    /// The topic of an advisory of this kind about a destination; none is about no destination in particular.
    pub(super) fn topic(self, about: Option<&Destination>) -> Destination {
        let segment = self.segment();
        let name = match (self, about) {
            (Self::Producer, None) => format!("{PREFIX}{segment}.Anonymous"),
            // These topics belong to what a client names, which can be several destinations.
            (Self::Consumer | Self::Producer, Some(about)) => {
                let kind = half_of(about);
                let escaped = about.name().replace(',', "&sbquo;");
                format!("{PREFIX}{segment}.{kind}.{escaped}")
            }
            (Self::Expired | Self::NoConsumer, Some(about)) => {
                format!("{PREFIX}{segment}.{}.{}", half_of(about), about.name())
            }
            _ if !self.is_of_one_destination() => format!("{PREFIX}{segment}"),
            (_, Some(about)) => {
                let kind = Self::of_existence(about).segment();
                format!("{PREFIX}{segment}.{kind}.{}", about.name())
            }
            (_, None) => format!("{PREFIX}{segment}"),
        };
        Destination::topic(&name)
    }

    /// Each destination has a topic of its own for it.
    pub(super) fn is_of_one_destination(self) -> bool {
        !matches!(
            self,
            Self::Connection
                | Self::Queue
                | Self::Topic
                | Self::TempQueue
                | Self::TempTopic
                | Self::MasterBroker
        )
    }

    /// True if a name, which may have wildcards, can match topics of this kind.
    pub(super) fn is_reached_by(self, name: &str) -> bool {
        let mut levels = name.split('.');
        for wanted in ["ActiveMQ", "Advisory", self.segment()] {
            match levels.next() {
                Some(">") => return true,
                Some(level) if level == "*" || level == wanted => {}
                _ => return false,
            }
        }
        true
    }

    /// True if a policy asks for it; some are sent always.
    pub(super) fn is_asked_for_by(self, policy: &Policy) -> bool {
        match self {
            Self::NoConsumer => policy.send_advisory_if_no_consumers,
            Self::SlowConsumer => policy.advisory_for_slow_consumers,
            Self::FastProducer => policy.advisory_for_fast_producers,
            Self::MessageDiscarded => policy.advisory_for_discarding_messages,
            Self::MessageDelivered => policy.advisory_for_delivery,
            Self::MessageConsumed => policy.advisory_for_consumed,
            Self::Full => policy.advisory_when_full,
            _ => true,
        }
    }
}

/// True for an advisory topic that is about one destination.
pub(super) fn is_of_one_destination(topic: &Destination) -> bool {
    let kind = topic.name().strip_prefix(PREFIX);
    topic.is_topic() && kind.is_some_and(|kind| kind.contains('.'))
}

/// A temporary queue counts as a queue here, and a temporary topic as a topic.
fn half_of(destination: &Destination) -> &'static str {
    match destination.is_queue() {
        true => "Queue",
        false => "Topic",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_those_of_activemq() {
        let queue = Destination::queue("A.B");
        let several = Destination::queue("A,B");
        let temporary = Destination::new(DestinationKind::TempTopic, "ID:x:1:1");
        for (kind, about, name) in [
            (AdvisoryKind::Connection, None, "Connection"),
            (AdvisoryKind::TempQueue, Some(&queue), "TempQueue"),
            (AdvisoryKind::Consumer, Some(&queue), "Consumer.Queue.A.B"),
            (AdvisoryKind::Consumer, Some(&several), "Consumer.Queue.A&sbquo;B"),
            (
                AdvisoryKind::Producer,
                Some(&temporary),
                "Producer.Topic.ID:x:1:1",
            ),
            (AdvisoryKind::Producer, None, "Producer.Anonymous"),
            (AdvisoryKind::Expired, Some(&temporary), "Expired.Topic.ID:x:1:1"),
            (AdvisoryKind::Full, Some(&temporary), "FULL.TempTopic.ID:x:1:1"),
            (AdvisoryKind::MessageDlqd, Some(&queue), "MessageDLQd.Queue.A.B"),
            (AdvisoryKind::MasterBroker, None, "MasterBroker"),
        ] {
            assert_eq!(kind.topic(about).name(), format!("{PREFIX}{name}"));
        }
    }

    #[test]
    fn names_reach_kinds() {
        let reached = |name: &str| -> Vec<_> {
            let all = AdvisoryKind::ALL.iter();
            all.filter(|kind| kind.is_reached_by(name))
                .map(|kind| kind.segment())
                .collect()
        };
        assert_eq!(reached("ActiveMQ.Advisory.Consumer.Queue.A"), ["Consumer"]);
        assert_eq!(reached("ActiveMQ.Advisory.Queue"), ["Queue"]);
        assert_eq!(reached("ActiveMQ.*.TempTopic.>"), ["TempTopic"]);
        for all in ["ActiveMQ.Advisory.>", ">", "*.>", "ActiveMQ.*.*"] {
            assert_eq!(reached(all).len(), AdvisoryKind::ALL.len(), "{all}");
        }
        for none in [
            "",
            "*",
            "ActiveMQ.Advisory",
            "ActiveMQ.DLQ",
            "ActiveMQ.Advisory.Consumers.A",
        ] {
            assert!(reached(none).is_empty(), "{none}");
        }
    }
}
