//! Queues, topics and their temporary kin, as the wire names them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::error::WireError;
use super::fields::Structure;
use super::read::{ReadEncoding, Reader};
use super::write::{WriteEncoding, Writer};

/// What kind a [`Destination`] is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DestinationKind {
    /// `ActiveMQQueue`: each message goes to one consumer.
    Queue,
    /// `ActiveMQTopic`: each message goes to every subscriber.
    Topic,
    /// `ActiveMQTempQueue`: a queue that lives as long as the connection that made it.
    TempQueue,
    /// `ActiveMQTempTopic`: a topic that lives as long as the connection that made it.
    TempTopic,
}

impl DestinationKind {
    /// The prefix of qualified names: `queue://`, `topic://`, `temp-queue://`, `temp-topic://`.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Queue => "queue://",
            Self::Topic => "topic://",
            Self::TempQueue => "temp-queue://",
            Self::TempTopic => "temp-topic://",
        }
    }

    fn type_id(self) -> u8 {
        match self {
            Self::Queue => 100,
            Self::Topic => 101,
            Self::TempQueue => 102,
            Self::TempTopic => 103,
        }
    }
}

/// A JMS `Destination`: a queue or a topic with its physical name.
///
/// Options behind a `?` in the name (`FirstQueue?consumer.prefetchSize=10`) are kept beside the name: they
/// never go over the wire and do not count for equality.
#[derive(Clone)]
pub struct Destination {
    kind: DestinationKind,
    name: Arc<str>,
    options: Option<Arc<str>>,
}

impl Destination {
    /// A destination of the given kind. Blanks round the name are cut, and so are options behind a `?`.
    pub fn new(kind: DestinationKind, name: &str) -> Self {
        let (name, options) = match name.split_once('?') {
            Some((name, options)) => (name, Some(options.into())),
            None => (name, None),
        };
        Self {
            kind,
            name: trim(name).into(),
            options,
        }
    }

    /// A queue (JMS `createQueue`).
    pub fn queue(name: &str) -> Self {
        Self::new(DestinationKind::Queue, name)
    }

    /// A topic (JMS `createTopic`).
    pub fn topic(name: &str) -> Self {
        Self::new(DestinationKind::Topic, name)
    }

    /// Reads a qualified name such as `topic://prices`; a name without prefix is of kind `default`.
    ///
    /// This is ActiveMQ's `ActiveMQDestination.createDestination`.
    pub fn parse(text: &str, default: DestinationKind) -> Self {
        let text = trim(text);
        for kind in [
            DestinationKind::TempQueue,
            DestinationKind::TempTopic,
            DestinationKind::Queue,
            DestinationKind::Topic,
        ] {
            if let Some(name) = text.strip_prefix(kind.prefix()) {
                return Self::new(kind, name);
            }
        }
        Self::new(default, text)
    }

    /// The kind.
    pub fn kind(&self) -> DestinationKind {
        self.kind
    }

    /// The physical name, without prefix and options. Empty only if a peer sent none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The physical name, shared.
    pub fn shared_name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// What stood behind the `?` of the name it was made from.
    pub fn options(&self) -> Option<&str> {
        self.options.as_deref()
    }

    /// True for a queue or temporary queue.
    pub fn is_queue(&self) -> bool {
        matches!(self.kind, DestinationKind::Queue | DestinationKind::TempQueue)
    }

    /// True for a topic or temporary topic.
    pub fn is_topic(&self) -> bool {
        !self.is_queue()
    }

    /// True for a temporary queue or topic.
    pub fn is_temporary(&self) -> bool {
        matches!(self.kind, DestinationKind::TempQueue | DestinationKind::TempTopic)
    }

    /// True if the name lists several destinations (`A,B`).
    pub fn is_composite(&self) -> bool {
        self.name.contains(',')
    }

    /// True if the name has wildcards (`*`, `>`) and is not composite.
    pub fn is_pattern(&self) -> bool {
        !self.is_composite() && self.name.contains(['*', '>'])
    }

    /// True for the topics on which a broker announces what happens to it (`ActiveMQ.Advisory.…`).
    pub fn is_advisory(&self) -> bool {
        self.is_topic() && self.name.starts_with("ActiveMQ.Advisory.")
    }

    /// The qualified name: prefix and name.
    pub fn qualified_name(&self) -> String {
        format!("{}{}", self.kind.prefix(), self.name)
    }
}

/// Cuts what Java's `trim` cuts: blanks and control characters, but not the blanks of Unicode.
fn trim(name: &str) -> &str {
    name.trim_matches(|c| c <= ' ')
}

impl PartialEq for Destination {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && (Arc::ptr_eq(&self.name, &other.name) || self.name == other.name)
    }
}

impl Eq for Destination {}

impl Hash for Destination {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
        self.name.hash(state);
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.prefix(), self.name)
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Structure for Destination {
    fn type_id(&self) -> u8 {
        self.kind.type_id()
    }

    fn write<E: WriteEncoding>(&self, writer: &mut Writer<'_, E>) -> Result<(), WireError> {
        // A destination always has a name, so the empty name stands for the null of a peer.
        writer.string(Some(&*self.name).filter(|name| !name.is_empty()))
    }

    fn read<E: ReadEncoding>(id: u8, reader: &mut Reader<'_, E>) -> Result<Self, WireError> {
        let kind = match id {
            100 => DestinationKind::Queue,
            101 => DestinationKind::Topic,
            102 => DestinationKind::TempQueue,
            103 => DestinationKind::TempTopic,
            _ => return Err(WireError::unexpected_type(id, "a destination")),
        };
        let mut name = None;
        reader.string(&mut name)?;
        let name = name.unwrap_or_default();
        if name.contains('?') || trim(&name).len() != name.len() {
            return Ok(Self {
                options: None,
                ..Self::new(kind, &name)
            });
        }
        Ok(Self {
            kind,
            name,
            options: None,
        })
    }
}
