//! Messages as their users see them.
//!
//! A [`Message`] is a [`wire::Message`] with its properties and body decoded when somebody asks. What was
//! not asked for stays the bytes it came as, also when the message is sent on.

mod acknowledge;
mod body;
mod bytes;
mod convert;
mod header;
mod number;
mod properties;
mod stream;

use std::fmt;
use std::sync::{Arc, OnceLock};

use ::bytes::{Bytes, BytesMut};

use crate::error::{Error, ErrorKind, Result};
use crate::wire::{self, BlobReference, MessageKind, Value, ValueMap, WireError};

pub(crate) use acknowledge::Acknowledger;
use body::{Body, MAX_INFLATED};
pub use bytes::{BytesReader, BytesWriter};
pub use header::{DEFAULT_PRIORITY, DeliveryMode};
pub use stream::StreamReader;

/// A message to send or one that was received (JMS `Message` and its five kinds).
///
/// What kind it is of is asked with [`kind`](Self::kind); each kind has its accessor
/// ([`as_text`](Self::as_text), [`as_bytes`](Self::as_bytes), …), which fails on a message of another kind.
/// A clone is cheap: clones share header, properties and body until one of them is changed.
///
/// JMS makes a received message read-only until `clearProperties` or `clearBody` is called. Here nothing is
/// read-only: a change to a received message changes this handle alone, never another clone, and never what
/// the broker holds.
///
/// ```
/// use openwire_client::Message;
///
/// # fn main() -> openwire_client::Result<()> {
/// let mut message = Message::text("你好");
/// message.set_property("attempt", 1)?;
/// message.set_correlation_id("order-17");
/// assert_eq!(message.as_text()?, Some("你好"));
/// assert_eq!(message.property_i64("attempt")?, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Message {
    /// Header, and whatever of properties and body is still marshalled.
    wire: Arc<wire::Message>,
    /// The properties, decoded or set. They count if `wire.marshalled_properties` is `None`, and are a
    /// view of it otherwise.
    properties: OnceLock<Arc<ValueMap>>,
    /// The body, in the same relation to `wire.content`.
    body: OnceLock<Body>,
    /// How many bytes a compressed body may inflate to.
    inflated_limit: usize,
    acknowledger: Option<Arc<dyn Acknowledger>>,
}

/// How a message becomes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marshalling {
    /// `jms.useCompression`: deflate bodies.
    pub(crate) compress: bool,
    /// `jms.nestedMapAndListEnabled`: maps and lists may stand in properties and map bodies.
    pub(crate) nested_maps_and_lists: bool,
}

impl Default for Marshalling {
    fn default() -> Self {
        Self {
            compress: false,
            nested_maps_and_lists: true,
        }
    }
}

/// Construction.
impl Message {
    /// A message without a body (`Session.createMessage`).
    pub fn new() -> Self {
        Self::empty(MessageKind::Plain)
    }

    /// A message of a kind, with an empty body: a text message whose text is null, an object message whose
    /// object is null, a map without entries (`Session.createTextMessage()` and its kin).
    pub fn empty(kind: MessageKind) -> Self {
        Self::from_wire(Arc::new(wire::Message {
            kind,
            persistent: true,
            priority: DEFAULT_PRIORITY,
            ..wire::Message::default()
        }))
    }

    /// A text message (`Session.createTextMessage(String)`).
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        let mut message = Self::new();
        message.set_text(text);
        message
    }

    /// A bytes message (`Session.createBytesMessage`); see [`BytesWriter`] for typed writes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let mut message = Self::new();
        message.set_bytes(bytes);
        message
    }

    /// A map message (`Session.createMapMessage`).
    pub fn map(map: ValueMap) -> Self {
        let mut message = Self::new();
        message.set_map(map);
        message
    }

    /// A stream message (`Session.createStreamMessage`).
    ///
    /// A stream cannot hold maps and lists: a message with one is refused when it is sent.
    pub fn stream(entries: Vec<Value>) -> Self {
        let mut message = Self::new();
        message.set_stream(entries);
        message
    }

    /// An object message (`Session.createObjectMessage`) from a finished Java serialization stream, class
    /// name and all. The stream stays opaque.
    pub fn object(stream: impl Into<Bytes>) -> Self {
        let mut message = Self::new();
        message.replace_body(MessageKind::Object, Body::Object(Some(stream.into())));
        message
    }

    /// A blob message (`ActiveMQSession.createBlobMessage(URL)`): the body lies at a URL, from which the
    /// receiver fetches it.
    pub fn blob(url: impl Into<Arc<str>>, mime_type: Option<Arc<str>>) -> Self {
        let mut message = Self::empty(MessageKind::Blob);
        message.wire_mut().blob = Some(Box::new(BlobReference {
            remote_blob_url: Some(url.into()),
            mime_type: Some(mime_type.unwrap_or_else(|| "application/octet-stream".into())),
            deleted_by_broker: false,
        }));
        message
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::new()
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::bytes(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::bytes(bytes)
    }
}

impl From<ValueMap> for Message {
    fn from(map: ValueMap) -> Self {
        Self::map(map)
    }
}

/// The body.
impl Message {
    /// What kind of message this is.
    pub fn kind(&self) -> MessageKind {
        self.wire.kind
    }

    /// The text, or `None` for the null text (`TextMessage.getText`).
    ///
    /// # Errors
    ///
    /// [`is_message_format`](Error::is_message_format) for another kind of message or a malformed body.
    pub fn as_text(&self) -> Result<Option<&str>> {
        match self.decoded(MessageKind::Text)? {
            Body::Text(text) => Ok(text.as_deref()),
            _ => Ok(None),
        }
    }

    /// The bytes (`BytesMessage.readBytes`, all at once).
    ///
    /// # Errors
    ///
    /// [`is_message_format`](Error::is_message_format) for another kind of message or a malformed body.
    pub fn as_bytes(&self) -> Result<Bytes> {
        match self.decoded(MessageKind::Bytes)? {
            Body::Bytes(bytes) => Ok(bytes.clone()),
            _ => Ok(Bytes::new()),
        }
    }

    /// A reader for what was written value by value (`BytesMessage`), at the start of the body.
    ///
    /// # Errors
    ///
    /// As [`as_bytes`](Self::as_bytes).
    pub fn bytes_reader(&self) -> Result<BytesReader> {
        self.as_bytes().map(BytesReader::new)
    }

    /// The map (`MapMessage`). Its typed getters convert as JMS says.
    ///
    /// # Errors
    ///
    /// [`is_message_format`](Error::is_message_format) for another kind of message or a malformed body.
    pub fn as_map(&self) -> Result<&ValueMap> {
        match self.decoded(MessageKind::Map)? {
            Body::Map(map) => Ok(map),
            _ => Ok(&EMPTY_MAP),
        }
    }

    /// The entries of a stream message (`StreamMessage`).
    ///
    /// # Errors
    ///
    /// [`is_message_format`](Error::is_message_format) for another kind of message or a malformed body.
    pub fn as_stream(&self) -> Result<&[Value]> {
        match self.decoded(MessageKind::Stream)? {
            Body::Stream(entries) => Ok(entries),
            _ => Ok(&[]),
        }
    }

    /// A reader with the typed reads of `StreamMessage`, at the first entry.
    ///
    /// # Errors
    ///
    /// As [`as_stream`](Self::as_stream).
    pub fn stream_reader(&self) -> Result<StreamReader> {
        match self.decoded(MessageKind::Stream)? {
            Body::Stream(entries) => Ok(StreamReader::new(entries.clone())),
            _ => Ok(StreamReader::new(Arc::new([]))),
        }
    }

    /// The Java serialization stream of an object message, or `None` for the null object
    /// (`ObjectMessage.getObject`, which would deserialize it; this library never does).
    ///
    /// # Errors
    ///
    /// [`is_message_format`](Error::is_message_format) for another kind of message or a malformed body.
    pub fn as_object(&self) -> Result<Option<Bytes>> {
        match self.decoded(MessageKind::Object)? {
            Body::Object(stream) => Ok(stream.clone()),
            _ => Ok(None),
        }
    }

    /// The Java class that the serialization stream of an object message begins with, such as
    /// `java.util.ArrayList`. For information only; `None` if the stream does not begin with an object.
    ///
    /// # Errors
    ///
    /// As [`as_object`](Self::as_object).
    pub fn object_class_name(&self) -> Result<Option<String>> {
        Ok(self
            .as_object()?
            .and_then(|stream| body::serialized_class_name(&stream)))
    }

    /// Where the body of a blob message lies; `None` for another kind of message.
    pub fn blob_reference(&self) -> Option<&BlobReference> {
        self.wire.blob.as_deref()
    }

    /// What an advisory message tells of (`ActiveMQMessage.getDataStructure`).
    pub fn data_structure(&self) -> Option<&wire::Command> {
        self.wire.data_structure.as_deref()
    }

    /// Makes this a text message with this text (`TextMessage.setText`).
    pub fn set_text(&mut self, text: impl Into<Arc<str>>) {
        self.replace_body(MessageKind::Text, Body::Text(Some(text.into())));
    }

    /// Makes this a bytes message with these bytes (`BytesMessage.writeBytes`).
    pub fn set_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.replace_body(MessageKind::Bytes, Body::Bytes(bytes.into()));
    }

    /// Makes this a map message with this map (`MapMessage.setObject` for each entry).
    pub fn set_map(&mut self, map: ValueMap) {
        self.replace_body(MessageKind::Map, Body::Map(Arc::new(map)));
    }

    /// Makes this a stream message with these entries (`StreamMessage.writeObject` for each).
    pub fn set_stream(&mut self, entries: Vec<Value>) {
        self.replace_body(MessageKind::Stream, Body::Stream(entries.into()));
    }

    /// Empties the body; the message stays of its kind (`clearBody`).
    pub fn clear_body(&mut self) {
        self.replace_body(self.wire.kind, Body::None);
    }

    fn replace_body(&mut self, kind: MessageKind, body: Body) {
        let wire = self.wire_mut();
        wire.kind = kind;
        wire.content = None;
        wire.compressed = false;
        if kind != MessageKind::Blob {
            wire.blob = None;
        }
        self.body = OnceLock::from(body);
    }

    fn decoded(&self, kind: MessageKind) -> Result<&Body> {
        if self.wire.kind != kind {
            return Err(Error::new(
                ErrorKind::MessageFormat,
                format!("this is a {:?} message, not a {kind:?} message", self.wire.kind),
            ));
        }
        if let Some(body) = self.body.get() {
            return Ok(body);
        }
        let body = Body::decode(&self.wire, self.inflated_limit)?;
        Ok(self.body.get_or_init(|| body))
    }
}

static EMPTY_MAP: ValueMap = ValueMap::new();

/// From and to the wire.
impl Message {
    /// A message as it was received.
    pub(crate) fn from_wire(wire: Arc<wire::Message>) -> Self {
        Self {
            wire,
            properties: OnceLock::new(),
            body: OnceLock::new(),
            inflated_limit: MAX_INFLATED,
            acknowledger: None,
        }
    }

    /// The message with another limit than [`MAX_INFLATED`] for its body (`jms.maxInflatedDataSizeRatio`).
    pub(crate) fn with_inflated_limit(self, bytes: usize) -> Self {
        Self {
            inflated_limit: bytes,
            ..self
        }
    }

    /// The message as it was received, or as far as it is marshalled.
    pub(crate) fn wire(&self) -> &Arc<wire::Message> {
        &self.wire
    }

    /// The message with properties and body marshalled, for the producer to fill the rest of the header.
    ///
    /// What belongs to an earlier life of a message that is sent on (ids, transaction, the broker's marks)
    /// is gone; what its user can set stays.
    ///
    /// # Errors
    ///
    /// [`is_message_format`](Error::is_message_format) for a value that cannot stand where it does.
    pub(crate) fn into_wire(self, how: Marshalling) -> Result<Arc<wire::Message>> {
        let Self {
            wire: mut shared,
            properties,
            body,
            ..
        } = self;
        // It stays where it is: a message is large to be moved about.
        let place = Arc::make_mut(&mut shared);
        let mut wire = std::mem::take(place);
        if wire.marshalled_properties.is_none()
            && let Some(map) = properties.get().filter(|map| !map.is_empty())
        {
            if !how.nested_maps_and_lists {
                refuse_nesting(map)?;
            }
            let mut out = BytesMut::new();
            wire::encode_map(map, &mut out).map_err(malformed)?;
            wire.marshalled_properties = Some(out.freeze());
        }
        if wire.content.is_none()
            && let Some(body) = body.get()
        {
            if let Body::Map(map) = body
                && !how.nested_maps_and_lists
            {
                refuse_nesting(map)?;
            }
            wire.content = body.encode()?;
            if how.compress
                && let Some(content) = &wire.content
            {
                wire.content = Some(body::deflate(wire.kind, content)?);
                wire.compressed = true;
            }
        }
        *place = wire::Message {
            kind: wire.kind,
            destination: wire.destination,
            group_id: wire.group_id,
            group_sequence: wire.group_sequence,
            correlation_id: wire.correlation_id,
            persistent: wire.persistent,
            expiration: wire.expiration,
            priority: wire.priority,
            reply_to: wire.reply_to,
            timestamp: wire.timestamp,
            message_type: wire.message_type,
            content: wire.content,
            marshalled_properties: wire.marshalled_properties,
            compressed: wire.compressed,
            droppable: wire.droppable,
            blob: wire.blob,
            ..wire::Message::default()
        };
        Ok(shared)
    }

    fn wire_mut(&mut self) -> &mut wire::Message {
        Arc::make_mut(&mut self.wire)
    }
}

fn refuse_nesting(map: &ValueMap) -> Result<()> {
    match map
        .iter()
        .find(|(_, value)| matches!(value, Value::Map(_) | Value::List(_)))
    {
        None => Ok(()),
        Some((name, _)) => Err(Error::new(
            ErrorKind::MessageFormat,
            format!("{name} is a map or list, which jms.nestedMapAndListEnabled=false forbids"),
        )),
    }
}

/// Bytes that do not decode, or values that do not encode: the message is at fault, not the connection.
fn malformed(error: WireError) -> Error {
    Error::new(ErrorKind::MessageFormat, error.to_string()).with_source(error)
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind())
            .field("message_id", &self.message_id())
            .field("destination", &self.destination())
            .field("persistent", &self.wire.persistent)
            .field("priority", &self.wire.priority)
            .field("redelivery_counter", &self.wire.redelivery_counter)
            .field("content_length", &self.wire.content.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
