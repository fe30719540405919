//! Who is who on the wire: connections, sessions, consumers, producers, messages, transactions, brokers.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;

use super::error::WireError;
use super::fields::Structure;
use super::read::{ReadEncoding, Reader};
use super::write::{WriteEncoding, Writer, too_long};

openwire! {
    /// Names a connection: `ID:host-port-millis-1:1`.
    #[derive(Hash, PartialOrd, Ord)]
    data ConnectionId = 120 {
        /// The text of the id.
        value: string,
    }

    /// Names a session of a connection.
    #[derive(Hash, PartialOrd, Ord)]
    data SessionId = 121 {
        /// The text of the connection's id.
        connection_id: string,
        /// Number of the session, from 1; -1 is the implicit session of each connection.
        value: long,
    }

    /// Names a consumer.
    #[derive(Hash, PartialOrd, Ord)]
    data ConsumerId = 122 {
        /// The text of the connection's id.
        connection_id: string,
        /// Number of the session.
        session_id: long,
        /// Number of the consumer, from 1.
        value: long,
    }

    /// Names a producer.
    #[derive(Hash, PartialOrd, Ord)]
    data ProducerId = 123 {
        /// The text of the connection's id.
        connection_id: string,
        /// Number of the producer, from 1.
        value: long,
        /// Number of the session.
        session_id: long,
    }

    /// Names a running broker.
    #[derive(Hash, PartialOrd, Ord)]
    data BrokerId = 124 {
        /// The text of the id.
        value: string,
    }

    /// Names a local transaction.
    #[derive(Hash)]
    data LocalTransactionId = 111 {
        /// Number of the transaction on its connection.
        value: long,
        /// The connection.
        connection_id: cached<ConnectionId>,
    }

    /// Names a branch of a distributed transaction.
    #[derive(Hash)]
    data XaTransactionId = 112 {
        /// The format id.
        format_id: int,
        /// The global transaction id.
        global_transaction_id: bytes,
        /// The branch qualifier.
        branch_qualifier: bytes,
    }
}

impl ConnectionId {
    /// A connection id with this text.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self {
            value: Some(value.into()),
        }
    }

    /// The text, empty if there is none.
    pub fn as_str(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }
}

impl SessionId {
    /// The id of the connection this session belongs to.
    pub fn parent(&self) -> ConnectionId {
        ConnectionId {
            value: self.connection_id.clone(),
        }
    }
}

impl ConsumerId {
    /// The id of the session this consumer belongs to.
    pub fn parent(&self) -> SessionId {
        SessionId {
            connection_id: self.connection_id.clone(),
            value: self.session_id,
        }
    }
}

impl ProducerId {
    /// The id of the session this producer belongs to.
    pub fn parent(&self) -> SessionId {
        SessionId {
            connection_id: self.connection_id.clone(),
            value: self.session_id,
        }
    }
}

macro_rules! id_text {
    ($($name:ident($self:ident): $format:literal $(, $part:expr)*;)*) => { $(
        impl fmt::Display for $name {
            fn fmt(&$self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format $(, $part)*)
            }
        }
    )* };
}

id_text! {
    ConnectionId(self): "{}", self.as_str();
    BrokerId(self): "{}", self.value.as_deref().unwrap_or_default();
    SessionId(self): "{}:{}", self.connection_id.as_deref().unwrap_or_default(), self.value;
    ConsumerId(self): "{}:{}:{}", self.connection_id.as_deref().unwrap_or_default(), self.session_id, self.value;
    ProducerId(self): "{}:{}:{}", self.connection_id.as_deref().unwrap_or_default(), self.session_id, self.value;
}

/// Names a message (`JMSMessageID`).
///
/// Two ids are the same if producer and producer sequence are: the broker's own number does not count.
#[derive(Debug, Clone, Default)]
pub struct MessageId {
    /// The id as text, if it came from a client that does not number its messages. Since version 10.
    pub text_view: Option<Arc<str>>,
    /// Who sent the message.
    pub producer_id: Option<ProducerId>,
    /// Number of the message at its producer, from 1.
    pub producer_sequence_id: i64,
    /// Number of the message at the broker; 0 until a broker has it.
    pub broker_sequence_id: i64,
}

impl MessageId {
    /// The data-structure type id of this type.
    pub const TYPE: u8 = 110;

    /// Reads the text of an id, as `JMSMessageID` shows it. A foreign text is kept as `text_view`.
    pub fn parse(text: &str) -> Self {
        Self::parse_parts(text).unwrap_or_else(|| Self {
            text_view: Some(text.into()),
            ..Self::default()
        })
    }

    fn parse_parts(text: &str) -> Option<Self> {
        let (rest, sequence) = text.rsplit_once(':')?;
        let (rest, producer) = rest.rsplit_once(':')?;
        let (connection, session) = rest.rsplit_once(':')?;
        Some(Self {
            text_view: None,
            producer_id: Some(ProducerId {
                connection_id: Some(connection.into()),
                value: producer.parse().ok()?,
                session_id: session.parse().ok()?,
            }),
            producer_sequence_id: sequence.parse().ok()?,
            broker_sequence_id: 0,
        })
    }
}

impl PartialEq for MessageId {
    fn eq(&self, other: &Self) -> bool {
        self.producer_sequence_id == other.producer_sequence_id
            && self.producer_id == other.producer_id
            // A foreign id has nothing but its text.
            && (self.producer_id.is_some() || self.text_view == other.text_view)
    }
}

impl Eq for MessageId {}

impl Hash for MessageId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.producer_sequence_id.hash(state);
        self.producer_id.hash(state);
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.text_view, &self.producer_id) {
            (Some(text), _) if text.starts_with("ID:") => f.write_str(text),
            (Some(text), _) => write!(f, "ID:{text}"),
            (None, Some(producer)) => write!(f, "{producer}:{}", self.producer_sequence_id),
            (None, None) => write!(f, "ID:null:{}", self.producer_sequence_id),
        }
    }
}

impl Structure for MessageId {
    fn type_id(&self) -> u8 {
        Self::TYPE
    }

    fn write<E: WriteEncoding>(&self, w: &mut Writer<'_, E>) -> Result<(), WireError> {
        if w.version() >= 10 {
            w.string(self.text_view.as_deref())?;
        }
        w.cached(self.producer_id.as_ref())?;
        w.long(self.producer_sequence_id);
        w.long(self.broker_sequence_id);
        Ok(())
    }

    fn read<E: ReadEncoding>(id: u8, r: &mut Reader<'_, E>) -> Result<Self, WireError> {
        if id != Self::TYPE {
            return Err(WireError::unexpected_type(id, "MessageId"));
        }
        let mut message_id = Self::default();
        if r.version() >= 10 {
            r.string(&mut message_id.text_view)?;
        }
        r.cached(&mut message_id.producer_id)?;
        message_id.producer_sequence_id = r.long()?;
        message_id.broker_sequence_id = r.long()?;
        Ok(message_id)
    }
}

/// Names a transaction, local or distributed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TransactionId {
    /// A transaction of one session.
    Local(LocalTransactionId),
    /// A branch of a distributed transaction.
    Xa(XaTransactionId),
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(id) => {
                let connection = id
                    .connection_id
                    .as_ref()
                    .map(ConnectionId::as_str)
                    .unwrap_or_default();
                write!(f, "TX:{connection}:{}", id.value)
            }
            Self::Xa(id) => {
                write!(f, "XID:[{},globalId=", id.format_id)?;
                java_hex(f, id.global_transaction_id.as_deref())?;
                f.write_str(",branchId=")?;
                java_hex(f, id.branch_qualifier.as_deref())?;
                f.write_str("]")
            }
        }
    }
}

/// Java prints each byte as an unpadded, sign-extended int.
fn java_hex(f: &mut fmt::Formatter<'_>, bytes: Option<&[u8]>) -> fmt::Result {
    bytes
        .unwrap_or_default()
        .iter()
        .try_for_each(|&byte| write!(f, "{:x}", i32::from(byte as i8)))
}

impl Structure for TransactionId {
    fn type_id(&self) -> u8 {
        match self {
            Self::Local(_) => LocalTransactionId::TYPE,
            Self::Xa(_) => XaTransactionId::TYPE,
        }
    }

    fn write<E: WriteEncoding>(&self, w: &mut Writer<'_, E>) -> Result<(), WireError> {
        match self {
            Self::Local(id) => id.write(w),
            Self::Xa(id) => id.check().and_then(|()| id.write(w)),
        }
    }

    fn read<E: ReadEncoding>(id: u8, r: &mut Reader<'_, E>) -> Result<Self, WireError> {
        match id {
            LocalTransactionId::TYPE => Ok(Self::Local(LocalTransactionId::read(id, r)?)),
            XaTransactionId::TYPE => {
                let id = XaTransactionId::read(id, r)?;
                id.check()?;
                Ok(Self::Xa(id.detached()))
            }
            _ => Err(WireError::unexpected_type(id, "a transaction id")),
        }
    }
}

impl XaTransactionId {
    /// The longest part of an id that XA allows (`MAXGTRIDSIZE`, `MAXBQUALSIZE`).
    const MAX_PART: usize = 64;

    fn check(&self) -> Result<(), WireError> {
        [&self.global_transaction_id, &self.branch_qualifier]
            .into_iter()
            .flatten()
            .find(|part| part.len() > Self::MAX_PART)
            .map_or(Ok(()), |part| Err(too_long(part.len(), Self::MAX_PART)))
    }

    /// The same id, with its parts copied: ids are kept in caches and tables, and a slice would keep the
    /// whole buffer it was read from.
    fn detached(self) -> Self {
        let detach = |part: Option<Bytes>| part.map(|part| Bytes::copy_from_slice(&part));
        Self {
            format_id: self.format_id,
            global_transaction_id: detach(self.global_transaction_id),
            branch_qualifier: detach(self.branch_qualifier),
        }
    }
}

/// What a [`RemoveInfo`](super::RemoveInfo) removes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EntityId {
    /// A connection with all that belongs to it.
    Connection(ConnectionId),
    /// A session with its consumers and producers.
    Session(SessionId),
    /// A consumer.
    Consumer(ConsumerId),
    /// A producer.
    Producer(ProducerId),
}

impl Structure for EntityId {
    fn type_id(&self) -> u8 {
        match self {
            Self::Connection(_) => ConnectionId::TYPE,
            Self::Session(_) => SessionId::TYPE,
            Self::Consumer(_) => ConsumerId::TYPE,
            Self::Producer(_) => ProducerId::TYPE,
        }
    }

    fn write<E: WriteEncoding>(&self, w: &mut Writer<'_, E>) -> Result<(), WireError> {
        match self {
            Self::Connection(id) => id.write(w),
            Self::Session(id) => id.write(w),
            Self::Consumer(id) => id.write(w),
            Self::Producer(id) => id.write(w),
        }
    }

    fn read<E: ReadEncoding>(id: u8, r: &mut Reader<'_, E>) -> Result<Self, WireError> {
        match id {
            ConnectionId::TYPE => Ok(Self::Connection(ConnectionId::read(id, r)?)),
            SessionId::TYPE => Ok(Self::Session(SessionId::read(id, r)?)),
            ConsumerId::TYPE => Ok(Self::Consumer(ConsumerId::read(id, r)?)),
            ProducerId::TYPE => Ok(Self::Producer(ProducerId::read(id, r)?)),
            _ => Err(WireError::unexpected_type(
                id,
                "the id of a connection, session, consumer or producer",
            )),
        }
    }
}
