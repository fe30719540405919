//! Where a message goes that nobody could consume.

use openwire_client::wire::Destination;
use regex_lite::Regex;

use super::strategy::{DeadLetterStrategy, DeadLetters};

/// A message that nobody could consume.
#[derive(Debug, Clone, Copy)]
pub struct DeadMessage<'a> {
    /// Where it was.
    pub destination: &'a Destination,
    /// The client id and the name of the durable subscription it was for.
    pub durable: Option<(&'a str, &'a str)>,
    /// Its delivery mode.
    pub persistent: bool,
    /// Its time is over.
    pub expired: bool,
}

/// Where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The destination, which is made if it is not there.
    pub destination: Destination,
    /// Its new `JMSExpiration`, milliseconds since 1970. 0: none, and the one it had becomes the property
    /// `originalExpiration`.
    pub expiration: i64,
}

impl DeadLetterStrategy {
    /// Where a message goes; `None` if it is dropped. Whether it was there before ([`audit`](Self::audit)) has to be
    /// asked besides, and first.
    ///
    /// Nothing goes from a dead letter destination into itself. `now` is in milliseconds since 1970.
    pub fn dead_letter(&self, message: &DeadMessage<'_>, now: i64) -> Option<DeadLetter> {
        if (!message.persistent && !self.process_non_persistent) || (message.expired && !self.process_expired)
        {
            return None;
        }
        let destination = match &self.letters {
            DeadLetters::Discard => return None,
            DeadLetters::Shared { queue } => queue.clone(),
            DeadLetters::Individual(names) => {
                let (prefix, suffix, use_queue) = if message.destination.is_queue() {
                    (
                        &names.queue_prefix,
                        &names.queue_suffix,
                        names.use_queue_for_queue_messages,
                    )
                } else {
                    (
                        &names.topic_prefix,
                        &names.topic_suffix,
                        names.use_queue_for_topic_messages,
                    )
                };
                let mut name = format!("{prefix}{}", message.destination.name());
                if let Some((client, subscription)) = message.durable
                    && names.destination_per_durable_subscriber
                {
                    name = format!("{name}.{client}:{subscription}");
                }
                name.push_str(suffix);
                if use_queue {
                    Destination::queue(&name)
                } else {
                    Destination::topic(&name)
                }
            }
        };
        if destination == *message.destination {
            return None;
        }
        Some(DeadLetter {
            destination,
            expiration: self.expiration.map_or(0, |expiration| {
                now.saturating_add(i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX))
            }),
        })
    }
}

/// `discardingDLQBrokerPlugin`: dead letters that are dropped, whatever the policies say.
#[derive(Debug, Clone)]
pub struct DiscardDeadLetters {
    /// `dropAll`: all of them. Default true.
    pub drop_all: bool,
    /// `dropTemporaryTopics`: those from temporary topics. Default true.
    pub drop_temporary_topics: bool,
    /// `dropTemporaryQueues`: those from temporary queues. Default true.
    pub drop_temporary_queues: bool,
    /// `dropOnly`: those from destinations whose whole names match one of these. Default none.
    pub drop_only: Vec<Regex>,
    /// `reportInterval`: each so many dropped ones are logged; 0: never. Default 1000.
    pub report_interval: u32,
}

impl Default for DiscardDeadLetters {
    fn default() -> Self {
        Self {
            drop_all: true,
            drop_temporary_topics: true,
            drop_temporary_queues: true,
            drop_only: Vec::new(),
            report_interval: 1000,
        }
    }
}

impl DiscardDeadLetters {
    /// Reads `dropOnly`: regular expressions, parted by blanks.
    ///
    /// # Errors
    ///
    /// For what is no regular expression.
    pub fn expressions(text: &str) -> Result<Vec<Regex>, regex_lite::Error> {
        text.split_whitespace()
            .map(|expression| Regex::new(&format!("^(?:{expression})$")))
            .collect()
    }

    /// True if a dead letter from this destination is dropped.
    pub fn discards(&self, from: &Destination) -> bool {
        self.drop_all
            || (from.is_temporary() && from.is_topic() && self.drop_temporary_topics)
            || (from.is_temporary() && from.is_queue() && self.drop_temporary_queues)
            || self.drop_only.iter().any(|regex| regex.is_match(from.name()))
    }
}

impl PartialEq for DiscardDeadLetters {
    fn eq(&self, other: &Self) -> bool {
        let texts = |of: &Self| {
            of.drop_only
                .iter()
                .map(|regex| regex.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        self.drop_all == other.drop_all
            && self.drop_temporary_topics == other.drop_temporary_topics
            && self.drop_temporary_queues == other.drop_temporary_queues
            && self.report_interval == other.report_interval
            && texts(self) == texts(other)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use openwire_client::wire::DestinationKind;

    use super::*;
    use crate::policy::strategy::IndividualDeadLetters;

    fn goes(
        strategy: &DeadLetterStrategy,
        from: &Destination,
        persistent: bool,
        expired: bool,
    ) -> Option<String> {
        let message = DeadMessage {
            destination: from,
            durable: from.is_topic().then_some(("client", "sub")),
            persistent,
            expired,
        };
        strategy
            .dead_letter(&message, 1000)
            .map(|letter| format!("{} {}", letter.destination, letter.expiration))
    }

    #[test]
    fn the_shared_queue_is_the_default() {
        let mut strategy = DeadLetterStrategy::default();
        let queue = Destination::queue("A");
        let shared = Some("queue://ActiveMQ.DLQ 0".to_owned());
        assert_eq!(goes(&strategy, &queue, true, false), shared);
        assert_eq!(goes(&strategy, &queue, true, true), shared);
        assert_eq!(goes(&strategy, &queue, false, false), None);
        assert_eq!(
            goes(&strategy, &Destination::queue("ActiveMQ.DLQ"), true, false),
            None
        );
        strategy.process_expired = false;
        strategy.process_non_persistent = true;
        strategy.expiration = Some(Duration::from_millis(500));
        assert_eq!(goes(&strategy, &queue, true, true), None);
        assert_eq!(
            goes(&strategy, &queue, false, false),
            Some("queue://ActiveMQ.DLQ 1500".to_owned())
        );
        strategy.letters = DeadLetters::Discard;
        assert_eq!(goes(&strategy, &queue, true, false), None);
    }

    #[test]
    fn individual_destinations() {
        let names = |names| DeadLetterStrategy {
            letters: DeadLetters::Individual(names),
            ..DeadLetterStrategy::default()
        };
        let plain = names(IndividualDeadLetters::default());
        let (queue, topic) = (Destination::queue("A"), Destination::topic("B"));
        let to = |strategy: &DeadLetterStrategy, from| goes(strategy, from, true, false);
        assert_eq!(
            to(&plain, &queue).as_deref(),
            Some("queue://ActiveMQ.DLQ.Queue.A 0")
        );
        assert_eq!(
            to(&plain, &topic).as_deref(),
            Some("queue://ActiveMQ.DLQ.Topic.B 0")
        );
        let special = names(IndividualDeadLetters {
            queue_prefix: String::new(),
            queue_suffix: ".DLQ".to_owned(),
            topic_suffix: ".X".to_owned(),
            use_queue_for_topic_messages: false,
            destination_per_durable_subscriber: true,
            ..IndividualDeadLetters::default()
        });
        assert_eq!(to(&special, &queue).as_deref(), Some("queue://A.DLQ 0"));
        assert_eq!(
            to(&special, &topic).as_deref(),
            Some("topic://ActiveMQ.DLQ.Topic.B.client:sub.X 0")
        );
        // A name that stays the same is the same destination.
        let itself = names(IndividualDeadLetters {
            queue_prefix: String::new(),
            ..IndividualDeadLetters::default()
        });
        assert_eq!(to(&itself, &queue), None);
    }

    #[test]
    fn what_is_discarded() {
        let all = DiscardDeadLetters::default();
        assert!(all.discards(&Destination::queue("A")));
        let some = DiscardDeadLetters {
            drop_all: false,
            drop_temporary_queues: false,
            drop_only: DiscardDeadLetters::expressions(r"A\.[0-9]+  B|C").unwrap(),
            ..DiscardDeadLetters::default()
        };
        for (kind, name, dropped) in [
            (DestinationKind::Queue, "A.12", true),
            (DestinationKind::Queue, "A.12x", false),
            (DestinationKind::Topic, "C", true),
            (DestinationKind::Queue, "BC", false),
            (DestinationKind::TempQueue, "x", false),
            (DestinationKind::TempTopic, "x", true),
        ] {
            assert_eq!(some.discards(&Destination::new(kind, name)), dropped, "{name}");
        }
        assert!(DiscardDeadLetters::expressions("(").is_err());
    }
}
