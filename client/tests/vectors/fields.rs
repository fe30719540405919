//! Builds commands from the `fields` of a vector.
//!
//! The names are the protocol's, so this is the one place beside the declarations in `wire` that lists
//! every structure; a key that is not asked for fails the vector.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use openwire_client::wire::*;
use serde_json::{Map, Value as Json};

/// What a vector says about one object.
pub(crate) struct Fields(Map<String, Json>);

impl Fields {
    pub(crate) fn new(json: &Json) -> Self {
        Self(
            json.as_object()
                .cloned()
                .unwrap_or_else(|| panic!("not an object: {json}")),
        )
    }

    /// Takes a field; one that does not exist in the vector's version has its default.
    fn take<T: FromJson + Default>(&mut self, field: &str) -> T {
        match self.0.remove(&key(field)) {
            Some(json) => T::from_json(&json),
            None => T::default(),
        }
    }

    fn type_name(&mut self) -> String {
        match self.0.remove("_type") {
            Some(Json::String(name)) => name,
            other => panic!("a type of {other:?}"),
        }
    }

    fn finish(self) {
        assert!(self.0.is_empty(), "fields nobody asked for: {:?}", self.0);
    }
}

/// The protocol's name of a field: camel case, with a few that are spelled their own way.
fn key(field: &str) -> String {
    let odd = match field {
        "message_type" | "step" => "type",
        "broker_url" => "brokerURL",
        "group_id" => "groupID",
        "user_id" => "userID",
        "recieved_by_df_bridge" => "recievedByDFBridge",
        "network_ttl" => "networkTTL",
        "message_ttl" => "messageTTL",
        "consumer_ttl" => "consumerTTL",
        _ => "",
    };
    if !odd.is_empty() {
        return odd.into();
    }
    let mut key = String::new();
    for (i, part) in field.split('_').enumerate() {
        let (first, rest) = part.split_at(1);
        let first = if i == 0 {
            first.into()
        } else {
            first.to_uppercase()
        };
        write!(key, "{first}{rest}").unwrap();
    }
    key
}

pub(crate) trait FromJson: Sized {
    fn from_json(json: &Json) -> Self;
}

impl FromJson for bool {
    fn from_json(json: &Json) -> Self {
        json.as_bool().unwrap_or_else(|| panic!("not a bool: {json}"))
    }
}

macro_rules! small_number {
    ($($ty:ty),*) => { $(
        impl FromJson for $ty {
            fn from_json(json: &Json) -> Self {
                json.as_i64()
                    .and_then(|number| number.try_into().ok())
                    .unwrap_or_else(|| panic!("not a number of this size: {json}"))
            }
        }
    )* };
}

small_number!(i8, i16, u16, i32);

impl FromJson for i64 {
    fn from_json(json: &Json) -> Self {
        text(json).parse().unwrap()
    }
}

impl FromJson for Arc<str> {
    fn from_json(json: &Json) -> Self {
        text(json).into()
    }
}

impl FromJson for Bytes {
    fn from_json(json: &Json) -> Self {
        unhex(text(json)).into()
    }
}

impl FromJson for [u8; 8] {
    fn from_json(json: &Json) -> Self {
        unhex(text(json)).try_into().unwrap()
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(json: &Json) -> Self {
        (!json.is_null()).then(|| T::from_json(json))
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(json: &Json) -> Self {
        list(json).iter().map(T::from_json).collect()
    }
}

impl<T: FromJson> FromJson for Box<T> {
    fn from_json(json: &Json) -> Self {
        Self::new(T::from_json(json))
    }
}

fn text(json: &Json) -> &str {
    json.as_str().unwrap_or_else(|| panic!("not a string: {json}"))
}

fn list(json: &Json) -> &[Json] {
    json.as_array().unwrap_or_else(|| panic!("not a list: {json}"))
}

pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit") as u8;
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "an odd number of digits");
    pairs
        .iter()
        .map(|[high, low]| digit(*high) << 4 | digit(*low))
        .collect()
}

macro_rules! structures {
    ($( $ty:ident $(as $name:literal)? { $($field:ident),* $(,)? } )*) => { $(
        impl FromJson for $ty {
            fn from_json(json: &Json) -> Self {
                let mut fields = Fields::new(json);
                let names: &[&str] = &[$($name,)? stringify!($ty)];
                assert_eq!(fields.type_name(), names[0]);
                let value = Self { $( $field: fields.take(stringify!($field)), )* };
                fields.finish();
                value
            }
        }
    )* };
}

structures! {
    BrokerInfo {
        command_id, response_required, broker_id, broker_url, peer_broker_infos, broker_name, slave_broker,
        master_broker, fault_tolerant_configuration, duplex_connection, network_connection, connection_id,
        broker_upload_url, network_properties,
    }
    ConnectionInfo {
        command_id, response_required, connection_id, client_id, password, user_name, broker_path,
        broker_master_connector, manageable, client_master, fault_tolerant, failover_reconnect, client_ip,
    }
    SessionInfo { command_id, response_required, session_id }
    ConsumerInfo {
        command_id, response_required, consumer_id, browser, destination, prefetch_size,
        maximum_pending_message_limit, dispatch_async, selector, client_id, subscription_name, no_local,
        exclusive, retroactive, priority, broker_path, additional_predicate, network_subscription,
        optimized_acknowledge, no_range_acks, network_consumer_path,
    }
    ProducerInfo {
        command_id, response_required, producer_id, destination, broker_path, dispatch_async, window_size,
    }
    TransactionInfo { command_id, response_required, connection_id, transaction_id, step }
    DestinationInfo {
        command_id, response_required, connection_id, destination, operation_type, timeout, broker_path,
    }
    RemoveSubscriptionInfo { command_id, response_required, connection_id, subscription_name, client_id }
    KeepAliveInfo { command_id, response_required }
    ShutdownInfo { command_id, response_required }
    RemoveInfo { command_id, response_required, object_id, last_delivered_sequence_id }
    ControlCommand { command_id, response_required, command }
    FlushCommand { command_id, response_required }
    ConnectionError { command_id, response_required, exception, connection_id }
    ConsumerControl {
        command_id, response_required, destination, close, consumer_id, prefetch, flush, start, stop,
    }
    ConnectionControl {
        command_id, response_required, close, exit, fault_tolerant, resume, suspend, connected_brokers,
        reconnect_to, rebalance_connection, token,
    }
    ProducerAck { command_id, response_required, producer_id, size }
    MessagePull {
        command_id, response_required, consumer_id, destination, timeout, correlation_id, message_id,
    }
    MessageDispatch {
        command_id, response_required, consumer_id, destination, message, redelivery_counter,
    }
    MessageAck {
        command_id, response_required, destination, transaction_id, consumer_id, ack_type, first_message_id,
        last_message_id, message_count, poison_cause,
    }
    Response { command_id, response_required, correlation_id }
    ExceptionResponse { command_id, response_required, correlation_id, exception }
    DataResponse { command_id, response_required, correlation_id, data }
    DataArrayResponse { command_id, response_required, correlation_id, data }
    IntegerResponse { command_id, response_required, correlation_id, result }
    DiscoveryEvent { service_name, broker_name }
    JournalTopicAck {
        destination, message_id, message_sequence_id, subscription_name, client_id, transaction_id,
    }
    JournalQueueAck { destination, message_ack }
    JournalTrace { message }
    JournalTransaction { transaction_id, step, was_prepared }
    SubscriptionInfo {
        client_id, destination, selector, subscription_name, subscribed_destination, no_local,
    }
    PartialCommand { command_id, data }
    LastPartialCommand { command_id, data }
    ReplayCommand { command_id, response_required, first_nak_number, last_nak_number }
    MessageDispatchNotification {
        command_id, response_required, consumer_id, destination, delivery_sequence_id, message_id,
    }
    NetworkBridgeFilter { network_ttl, network_broker_id, message_ttl, consumer_ttl }
    BrokerSubscriptionInfo { command_id, response_required, broker_id, broker_name, subscription_infos }
    MessageId { text_view, producer_id, producer_sequence_id, broker_sequence_id }
    LocalTransactionId { value, connection_id }
    XaTransactionId as "XATransactionId" { format_id, global_transaction_id, branch_qualifier }
    ConnectionId { value }
    SessionId { connection_id, value }
    ConsumerId { connection_id, session_id, value }
    ProducerId { connection_id, value, session_id }
    BrokerId { value }
}

impl FromJson for Throwable {
    fn from_json(json: &Json) -> Self {
        let mut fields = Fields::new(json);
        let value = Self {
            class: fields.take("class"),
            message: fields.take("message"),
            stack_trace: fields.take("stack_trace"),
            cause: fields.take("cause"),
        };
        fields.finish();
        value
    }
}

impl FromJson for StackTraceElement {
    fn from_json(json: &Json) -> Self {
        let mut fields = Fields::new(json);
        let value = Self {
            class: fields.take("class_name"),
            method: fields.take("method_name"),
            file: fields.take("file_name"),
            line: fields.take("line_number"),
        };
        fields.finish();
        value
    }
}

impl FromJson for Destination {
    fn from_json(json: &Json) -> Self {
        let mut fields = Fields::new(json);
        let kind = match &*fields.type_name() {
            "ActiveMQQueue" => DestinationKind::Queue,
            "ActiveMQTopic" => DestinationKind::Topic,
            "ActiveMQTempQueue" => DestinationKind::TempQueue,
            "ActiveMQTempTopic" => DestinationKind::TempTopic,
            other => panic!("{other} is no destination"),
        };
        let name: Option<Arc<str>> = fields.take("physical_name");
        fields.finish();
        Self::new(kind, name.as_deref().unwrap_or_default())
    }
}

macro_rules! one_of {
    ($( $ty:ident { $( $name:literal => $variant:ident ),* $(,)? } )*) => { $(
        impl FromJson for $ty {
            fn from_json(json: &Json) -> Self {
                match Fields::new(json).type_name().as_str() {
                    $( $name => Self::$variant(FromJson::from_json(json)), )*
                    other => panic!("{other} does not belong here"),
                }
            }
        }
    )* };
}

one_of! {
    TransactionId { "LocalTransactionId" => Local, "XATransactionId" => Xa }
    EntityId {
        "ConnectionId" => Connection, "SessionId" => Session, "ConsumerId" => Consumer, "ProducerId" => Producer,
    }
    Command {
        "WireFormatInfo" => WireFormatInfo, "BrokerInfo" => BrokerInfo, "ConnectionInfo" => ConnectionInfo,
        "SessionInfo" => SessionInfo, "ConsumerInfo" => ConsumerInfo, "ProducerInfo" => ProducerInfo,
        "TransactionInfo" => TransactionInfo, "DestinationInfo" => DestinationInfo,
        "RemoveSubscriptionInfo" => RemoveSubscriptionInfo, "KeepAliveInfo" => KeepAliveInfo,
        "ShutdownInfo" => ShutdownInfo, "RemoveInfo" => RemoveInfo, "ControlCommand" => ControlCommand,
        "FlushCommand" => FlushCommand, "ConnectionError" => ConnectionError,
        "ConsumerControl" => ConsumerControl, "ConnectionControl" => ConnectionControl,
        "ProducerAck" => ProducerAck, "MessagePull" => MessagePull, "MessageDispatch" => MessageDispatch,
        "MessageAck" => MessageAck, "ActiveMQMessage" => Message, "ActiveMQBytesMessage" => Message,
        "ActiveMQMapMessage" => Message, "ActiveMQObjectMessage" => Message,
        "ActiveMQStreamMessage" => Message, "ActiveMQTextMessage" => Message,
        "ActiveMQBlobMessage" => Message, "Response" => Response, "ExceptionResponse" => ExceptionResponse,
        "DataResponse" => DataResponse, "DataArrayResponse" => DataArrayResponse,
        "IntegerResponse" => IntegerResponse, "DiscoveryEvent" => DiscoveryEvent,
        "JournalTopicAck" => JournalTopicAck, "JournalQueueAck" => JournalQueueAck,
        "JournalTrace" => JournalTrace, "JournalTransaction" => JournalTransaction,
        "SubscriptionInfo" => SubscriptionInfo, "PartialCommand" => PartialCommand,
        "LastPartialCommand" => LastPartialCommand, "ReplayCommand" => ReplayCommand,
        "MessageDispatchNotification" => MessageDispatchNotification,
        "NetworkBridgeFilter" => NetworkBridgeFilter, "BrokerSubscriptionInfo" => BrokerSubscriptionInfo,
        "ActiveMQQueue" => Destination, "ActiveMQTopic" => Destination, "ActiveMQTempQueue" => Destination,
        "ActiveMQTempTopic" => Destination, "MessageId" => MessageId, "LocalTransactionId" => TransactionId,
        "XATransactionId" => TransactionId, "ConnectionId" => ConnectionId, "SessionId" => SessionId,
        "ConsumerId" => ConsumerId, "ProducerId" => ProducerId, "BrokerId" => BrokerId,
    }
}

impl FromJson for WireFormatInfo {
    fn from_json(json: &Json) -> Self {
        let mut fields = Fields::new(json);
        assert_eq!(fields.type_name(), "WireFormatInfo");
        let value = Self {
            magic: fields.take("magic"),
            version: fields.take("version"),
            marshalled_properties: fields.take("marshalled_properties"),
        };
        check_properties(&mut fields, value.marshalled_properties.clone());
        fields.finish();
        value
    }
}

impl FromJson for Arc<Message> {
    fn from_json(json: &Json) -> Self {
        let mut fields = Fields::new(json);
        let kind = match &*fields.type_name() {
            "ActiveMQMessage" => MessageKind::Plain,
            "ActiveMQBytesMessage" => MessageKind::Bytes,
            "ActiveMQMapMessage" => MessageKind::Map,
            "ActiveMQObjectMessage" => MessageKind::Object,
            "ActiveMQStreamMessage" => MessageKind::Stream,
            "ActiveMQTextMessage" => MessageKind::Text,
            "ActiveMQBlobMessage" => MessageKind::Blob,
            other => panic!("{other} is no message"),
        };
        let blob = (kind == MessageKind::Blob).then(|| {
            Box::new(BlobReference {
                remote_blob_url: fields.take("remote_blob_url"),
                mime_type: fields.take("mime_type"),
                deleted_by_broker: fields.take("deleted_by_broker"),
            })
        });
        let mut message = Message {
            kind,
            command_id: fields.take("command_id"),
            response_required: fields.take("response_required"),
            producer_id: fields.take("producer_id"),
            destination: fields.take("destination"),
            transaction_id: fields.take("transaction_id"),
            original_destination: fields.take("original_destination"),
            message_id: fields.take("message_id"),
            original_transaction_id: fields.take("original_transaction_id"),
            group_id: fields.take("group_id"),
            group_sequence: fields.take("group_sequence"),
            correlation_id: fields.take("correlation_id"),
            persistent: fields.take("persistent"),
            expiration: fields.take("expiration"),
            priority: fields.take("priority"),
            reply_to: fields.take("reply_to"),
            timestamp: fields.take("timestamp"),
            message_type: fields.take("message_type"),
            content: fields.take("content"),
            marshalled_properties: fields.take("marshalled_properties"),
            data_structure: fields.take("data_structure"),
            target_consumer_id: fields.take("target_consumer_id"),
            compressed: fields.take("compressed"),
            redelivery_counter: fields.take("redelivery_counter"),
            broker_path: fields.take("broker_path"),
            arrival: fields.take("arrival"),
            user_id: fields.take("user_id"),
            recieved_by_df_bridge: fields.take("recieved_by_df_bridge"),
            droppable: fields.take("droppable"),
            cluster: fields.take("cluster"),
            broker_in_time: fields.take("broker_in_time"),
            broker_out_time: fields.take("broker_out_time"),
            jmsx_group_first_for_consumer: fields.take("jmsx_group_first_for_consumer"),
            blob,
        };

        if let Some(length) = fields.0.remove("marshalledPropertiesLength") {
            let marshalled = entries(&fields.0["properties"]);
            assert_eq!(length.as_u64(), Some(marshalled.len() as u64));
            message.marshalled_properties = Some(marshalled);
        }
        check_properties(&mut fields, message.marshalled_properties.clone());

        let body = Body::from_json(&fields.0.remove("body").expect("each message has a body"));
        if let Some(length) = fields.0.remove("contentLength") {
            let content = body.content(message.compressed);
            // Two compressors need not agree on the length.
            assert!(message.compressed || length.as_u64() == Some(content.len() as u64));
            message.content = Some(content);
        }
        assert_eq!(Body::of(&message), body);
        fields.finish();
        Self::new(message)
    }
}

/// The properties of a vector and the marshalled form it has of them must be the same.
fn check_properties(fields: &mut Fields, marshalled: Option<Bytes>) {
    let properties = fields.0.remove("properties").expect("the properties");
    let Some(marshalled) = marshalled else {
        assert!(properties.is_null());
        return;
    };
    assert_eq!(entries(&properties), marshalled);
    if !properties.is_null() {
        let mut again = BytesMut::new();
        encode_map(&decode_map(marshalled.clone()).unwrap(), &mut again).unwrap();
        assert_eq!(again, marshalled);
    }
}

/// What a message holds, bit for bit: values are compared marshalled, so that NaNs compare too.
#[derive(Debug, PartialEq)]
pub(crate) enum Body {
    None,
    Text(String),
    Bytes(Bytes),
    Map(Bytes),
    Stream(Bytes),
}

impl Body {
    fn from_json(json: &Json) -> Self {
        let Some(fields) = json.as_object() else {
            return Self::None;
        };
        let (kind, value) = fields.iter().next().expect("a body");
        match kind.as_str() {
            "text" => Self::Text(text(value).into()),
            "bytes" => Self::Bytes(Bytes::from_json(value)),
            "map" => Self::Map(entries(value)),
            "stream" => Self::Stream(values(list(value))),
            other => panic!("a body of {other}"),
        }
    }

    /// Reads the body of a message as section 8.3 of the protocol describes it.
    pub(crate) fn of(message: &Message) -> Self {
        use MessageKind::{Blob, Map, Object, Plain, Stream, Text};
        let Some(content) = &message.content else {
            return Self::None;
        };
        if matches!(message.kind, Plain | Object | Blob) {
            return Self::None;
        }
        let mut content = match (message.compressed, message.kind) {
            (false, _) => content.clone(),
            (true, MessageKind::Bytes) => {
                let (length, deflated) = content.split_at(4);
                let length = i32::from_be_bytes(length.try_into().unwrap()) as usize;
                let mut inflated = inflate(deflated);
                assert!(inflated.len() >= length);
                inflated.truncate(length);
                inflated.into()
            }
            (true, _) => inflate(content).into(),
        };
        match message.kind {
            Text => {
                let length = content.split_to(4);
                assert_eq!(
                    i32::from_be_bytes(length[..].try_into().unwrap()),
                    content.len() as i32
                );
                Self::Text(decode_mutf8(&content).unwrap().into())
            }
            Map => {
                let mut again = BytesMut::new();
                encode_map(&decode_map(content).unwrap(), &mut again).unwrap();
                Self::Map(again.freeze())
            }
            Stream => {
                let mut again = BytesMut::new();
                while !content.is_empty() {
                    write_value(&read_value(&mut content).unwrap(), &mut again).unwrap();
                }
                Self::Stream(again.freeze())
            }
            _ => Self::Bytes(content),
        }
    }

    /// The content of a message with this body.
    fn content(&self, compressed: bool) -> Bytes {
        let mut plain = BytesMut::new();
        match self {
            Self::Text(text) => {
                let encoded = encode_mutf8(text);
                plain.put_i32(encoded.len() as i32);
                plain.put_slice(&encoded);
            }
            Self::Bytes(bytes) | Self::Map(bytes) | Self::Stream(bytes) => plain.put_slice(bytes),
            Self::None => panic!("no body to make content from"),
        }
        if !compressed {
            return plain.freeze();
        }
        let mut content = Vec::new();
        if matches!(self, Self::Bytes(_)) {
            content.put_i32(plain.len() as i32);
        }
        let mut encoder = flate2::write::ZlibEncoder::new(content, flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, &plain).unwrap();
        encoder.finish().unwrap().into()
    }
}

fn inflate(deflated: &[u8]) -> Vec<u8> {
    let mut inflated = Vec::new();
    let mut decoder = flate2::bufread::ZlibDecoder::new(deflated);
    std::io::Read::read_to_end(&mut decoder, &mut inflated).unwrap();
    inflated
}

/// Marshals a list of names and typed values.
fn entries(json: &Json) -> Bytes {
    let mut out = BytesMut::new();
    if json.is_null() {
        out.put_i32(-1);
    } else {
        encode_map(&value_map(json), &mut out).unwrap();
    }
    out.freeze()
}

fn values(list: &[Json]) -> Bytes {
    let mut out = BytesMut::new();
    for json in list {
        write_value(&Value::from_json(json), &mut out).unwrap();
    }
    out.freeze()
}

fn value_map(json: &Json) -> ValueMap {
    list(json)
        .iter()
        .map(|entry| (text(&entry[0]), Value::from_json(&entry[1])))
        .collect()
}

impl FromJson for Value {
    fn from_json(json: &Json) -> Self {
        let v = &json["v"];
        let bits = || u64::from_str_radix(text(&json["bits"]), 16).unwrap();
        match text(&json["t"]) {
            "null" => Self::Null,
            "bool" => Self::Bool(bool::from_json(v)),
            "byte" => Self::Byte(i8::from_json(v)),
            "char" => Self::Char(u16::from_json(v)),
            "short" => Self::Short(i16::from_json(v)),
            "int" => Self::Int(i32::from_json(v)),
            "long" => Self::Long(i64::from_json(v)),
            "double" => Self::Double(f64::from_bits(bits())),
            "float" => Self::Float(f32::from_bits(bits() as u32)),
            "string" => Self::String(FromJson::from_json(v)),
            "bytes" => Self::Bytes(FromJson::from_json(v)),
            "map" => Self::Map(value_map(v)),
            "list" => Self::List(FromJson::from_json(v)),
            other => panic!("a value of type {other}"),
        }
    }
}
