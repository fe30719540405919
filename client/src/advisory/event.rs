//! What an advisory message says.

use std::sync::Arc;

use super::topics::{self, PREFIX};
use crate::message::Message;
use crate::wire::{
    BrokerInfo, Command, ConnectionId, ConnectionInfo, ConsumerId, ConsumerInfo, Destination,
    DestinationInfo, EntityId, ProducerId, ProducerInfo,
};

/// Something that a broker tells on one of its advisory topics.
#[derive(Debug, Clone)]
pub struct Advisory {
    /// What it is.
    pub event: AdvisoryEvent,
    /// The message that told it, with all that the event leaves out.
    pub message: Message,
}

/// What is told. Counts are those after the event.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AdvisoryEvent {
    /// A client has connected; its password is not told.
    ConnectionStarted(Box<ConnectionInfo>),
    /// A client has gone.
    ConnectionStopped(ConnectionId),
    /// Somebody consumes from a destination.
    ConsumerAdded {
        /// From where.
        destination: Destination,
        /// Who, and how.
        consumer: Box<ConsumerInfo>,
        /// How many do so now (`consumerCount`), if the broker says.
        count: Option<u64>,
    },
    /// Somebody consumes no more.
    ConsumerRemoved {
        /// From where.
        destination: Destination,
        /// Who.
        consumer: ConsumerId,
        /// How many do so still, if the broker says.
        count: Option<u64>,
    },
    /// Somebody consumes from a virtual destination, or from a queue behind one.
    VirtualConsumerAdded {
        /// From where.
        destination: Destination,
        /// Who, and how.
        consumer: Box<ConsumerInfo>,
    },
    /// The end of a [`VirtualConsumerAdded`](Self::VirtualConsumerAdded).
    VirtualConsumerRemoved {
        /// From where.
        destination: Destination,
        /// Who.
        consumer: ConsumerId,
    },
    /// Somebody sends to a destination.
    ProducerAdded {
        /// To where; none for a producer without a destination.
        destination: Option<Destination>,
        /// Who.
        producer: ProducerInfo,
        /// How many do so now (`producerCount`), if the broker says.
        count: Option<u64>,
    },
    /// Somebody sends no more.
    ProducerRemoved {
        /// To where; none for a producer without a destination.
        destination: Option<Destination>,
        /// Who.
        producer: ProducerId,
        /// How many do so still, if the broker says.
        count: Option<u64>,
    },
    /// A destination was made.
    DestinationAdded(Destination),
    /// A destination was removed.
    DestinationRemoved(Destination),
    /// A message has expired.
    Expired(AboutMessage),
    /// A message was discarded: a slow topic consumer had too many.
    Discarded {
        /// Which.
        message: AboutMessage,
        /// How many there were for that consumer (`discardedCount`), if the broker says.
        count: Option<u64>,
    },
    /// A message has come to the broker.
    Delivered(AboutMessage),
    /// A message has gone to a consumer.
    Dispatched(AboutMessage),
    /// A message was consumed.
    Consumed(AboutMessage),
    /// A message went to a dead letter queue.
    DeadLettered(AboutMessage),
    /// A message has come for which nobody is there.
    NoConsumers(AboutMessage),
    /// A consumer does not keep up.
    SlowConsumer {
        /// Where it consumes from.
        destination: Destination,
        /// Who, if the broker says.
        consumer: Option<Box<ConsumerInfo>>,
    },
    /// A producer is held back.
    FastProducer {
        /// Where it sends to.
        destination: Destination,
        /// Who, if the broker says.
        producer: Option<ProducerInfo>,
    },
    /// There is no room: producers that send to it are blocked.
    Full {
        /// What is full.
        destination: Destination,
        /// Which of the broker's limits it is (`usageName`), such as `main:memory:queue://Q:memory`.
        usage: Option<Arc<str>>,
        /// How much is used (`usageCount`).
        count: Option<u64>,
    },
    /// A broker has become the master.
    MasterBroker(Box<BrokerInfo>),
    /// A bridge to another broker has begun or ended.
    NetworkBridge {
        /// It has begun.
        started: bool,
        /// The other broker has made it (`createdByDuplex`).
        duplex: bool,
        /// The other broker.
        broker: Box<BrokerInfo>,
    },
    /// A bridge could not pass a message on.
    ForwardFailure(Option<Message>),
    /// Something that this library does not know: see the message.
    Unknown,
}

/// A message that something has happened to.
#[derive(Debug, Clone)]
pub struct AboutMessage {
    /// Where it was.
    pub destination: Destination,
    /// The message; without its body unless the broker's policy has `includeBodyForAdvisory`.
    pub message: Option<Message>,
    /// Its id (`orignalMessageId`, or that of the message), if the broker says.
    pub message_id: Option<Arc<str>>,
    /// The consumer that had it, or has it (`consumerId`), if the broker says.
    pub consumer: Option<Arc<str>>,
}

impl Advisory {
    /// What a message says. One that is no advisory, or of a kind that is not known, is [`AdvisoryEvent::Unknown`].
    pub fn of(message: Message) -> Self {
        let event = message
            .destination()
            .filter(|destination| destination.is_topic())
            .and_then(|destination| destination.name().strip_prefix(PREFIX))
            .and_then(|name| event(name, &message));
        Self {
            event: event.unwrap_or(AdvisoryEvent::Unknown),
            message,
        }
    }

    /// The id of the broker where it happened (`originBrokerId`), new at each of its starts.
    pub fn broker_id(&self) -> Option<Arc<str>> {
        text(&self.message, "originBrokerId")
    }

    /// The name of the broker where it happened (`originBrokerName`).
    pub fn broker_name(&self) -> Option<Arc<str>> {
        text(&self.message, "originBrokerName")
    }

    /// A URI of the broker where it happened (`originBrokerURL`).
    pub fn broker_url(&self) -> Option<Arc<str>> {
        text(&self.message, "originBrokerURL")
    }
}

fn event(name: &str, message: &Message) -> Option<AdvisoryEvent> {
    let data = message.data_structure();
    let (kind, rest) = name.split_once('.').unwrap_or((name, ""));
    Some(match kind {
        "Connection" => match data? {
            Command::ConnectionInfo(info) => AdvisoryEvent::ConnectionStarted(info.clone()),
            Command::RemoveInfo(info) => match info.object_id.clone()? {
                EntityId::Connection(id) => AdvisoryEvent::ConnectionStopped(id),
                _ => return None,
            },
            _ => return None,
        },
        "Queue" | "Topic" | "TempQueue" | "TempTopic" => match data? {
            Command::DestinationInfo(info) => {
                let destination = info.destination.clone()?;
                match info.operation_type == DestinationInfo::ADD {
                    true => AdvisoryEvent::DestinationAdded(destination),
                    false => AdvisoryEvent::DestinationRemoved(destination),
                }
            }
            _ => return None,
        },
        "Consumer" => consumer(topics::subject(rest)?, message, data?)?,
        "Producer" => producer(topics::subject(rest), message, data?)?,
        "VirtualDestination" => {
            let destination = topics::subject(rest.strip_prefix("Consumer.")?)?;
            match data? {
                Command::ConsumerInfo(info) => AdvisoryEvent::VirtualConsumerAdded {
                    destination,
                    consumer: info.clone(),
                },
                Command::RemoveInfo(info) => match info.object_id.clone()? {
                    EntityId::Consumer(consumer) => AdvisoryEvent::VirtualConsumerRemoved {
                        destination,
                        consumer,
                    },
                    _ => return None,
                },
                _ => return None,
            }
        }
        "Expired" => AdvisoryEvent::Expired(about(rest, message)?),
        "MessageDiscarded" => AdvisoryEvent::Discarded {
            message: about(rest, message)?,
            count: count(message, "discardedCount"),
        },
        "MessageDelivered" => AdvisoryEvent::Delivered(about(rest, message)?),
        "MessageDispatched" => AdvisoryEvent::Dispatched(about(rest, message)?),
        "MessageConsumed" => AdvisoryEvent::Consumed(about(rest, message)?),
        "MessageDLQd" => AdvisoryEvent::DeadLettered(about(rest, message)?),
        "NoConsumer" => AdvisoryEvent::NoConsumers(about(rest, message)?),
        "SlowConsumer" => AdvisoryEvent::SlowConsumer {
            destination: topics::subject(rest)?,
            consumer: match data {
                Some(Command::ConsumerInfo(info)) => Some(info.clone()),
                _ => None,
            },
        },
        "FastProducer" => AdvisoryEvent::FastProducer {
            destination: topics::subject(rest)?,
            producer: match data {
                Some(Command::ProducerInfo(info)) => Some(info.clone()),
                _ => None,
            },
        },
        "FULL" => AdvisoryEvent::Full {
            destination: topics::subject(rest)?,
            usage: text(message, "usageName"),
            count: count(message, "usageCount"),
        },
        "MasterBroker" => match data? {
            Command::BrokerInfo(info) => AdvisoryEvent::MasterBroker(info.clone()),
            _ => return None,
        },
        "NetworkBridge" if rest == "ForwardFailure" => AdvisoryEvent::ForwardFailure(original(message)),
        "NetworkBridge" => match data? {
            Command::BrokerInfo(info) => AdvisoryEvent::NetworkBridge {
                started: flag(message, "started"),
                duplex: flag(message, "createdByDuplex"),
                broker: info.clone(),
            },
            _ => return None,
        },
        _ => return None,
    })
}

fn consumer(destination: Destination, message: &Message, data: &Command) -> Option<AdvisoryEvent> {
    let count = count(message, "consumerCount");
    match data {
        Command::ConsumerInfo(info) => Some(AdvisoryEvent::ConsumerAdded {
            destination,
            consumer: info.clone(),
            count,
        }),
        Command::RemoveInfo(info) => match info.object_id.clone()? {
            EntityId::Consumer(consumer) => Some(AdvisoryEvent::ConsumerRemoved {
                destination,
                consumer,
                count,
            }),
            _ => None,
        },
        _ => None,
    }
}

fn producer(destination: Option<Destination>, message: &Message, data: &Command) -> Option<AdvisoryEvent> {
    let count = count(message, "producerCount");
    match data {
        Command::ProducerInfo(info) => Some(AdvisoryEvent::ProducerAdded {
            destination,
            producer: info.clone(),
            count,
        }),
        Command::RemoveInfo(info) => match info.object_id.clone()? {
            EntityId::Producer(producer) => Some(AdvisoryEvent::ProducerRemoved {
                destination,
                producer,
                count,
            }),
            _ => None,
        },
        _ => None,
    }
}

fn about(rest: &str, message: &Message) -> Option<AboutMessage> {
    let original = original(message);
    // The broker's spelling, where it says so at all.
    let told = text(message, "orignalMessageId");
    Some(AboutMessage {
        destination: topics::subject(rest)?,
        message_id: told.or_else(|| original.as_ref()?.message_id().map(Into::into)),
        message: original,
        consumer: text(message, "consumerId"),
    })
}

fn original(message: &Message) -> Option<Message> {
    match message.data_structure() {
        Some(Command::Message(original)) => Some(Message::from_wire(original.clone())),
        _ => None,
    }
}

/// A property; one that cannot be read counts as absent, since nothing depends on it.
fn text(message: &Message, name: &str) -> Option<Arc<str>> {
    message.property_string(name).ok().flatten()
}

fn count(message: &Message, name: &str) -> Option<u64> {
    let count = message.property_i64(name).ok()?;
    u64::try_from(count).ok()
}

fn flag(message: &Message, name: &str) -> bool {
    message.property_bool(name).unwrap_or(false)
}
