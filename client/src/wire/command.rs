//! Everything a frame can carry.

use std::sync::Arc;

use super::commands::*;
use super::destination::Destination;
use super::error::WireError;
use super::fields::Structure;
use super::ids::{BrokerId, ConnectionId, ConsumerId, MessageId, ProducerId, SessionId, TransactionId};
use super::message::Message;
use super::read::{ReadEncoding, Reader};
use super::write::{WriteEncoding, Writer};

macro_rules! command_enum {
    ($( $variant:ident($ty:ty) = $($id:pat_param)|+ ),* $(,)?) => {
        /// One frame: a command, or any other structure that can stand on its own.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each variant is documented at its struct")]
        #[non_exhaustive]
        pub enum Command {
            $( $variant($ty), )*
        }

        $( impl From<$ty> for Command {
            fn from(value: $ty) -> Self {
                Self::$variant(value)
            }
        } )*

        impl Structure for Command {
            fn type_id(&self) -> u8 {
                match self { $( Self::$variant(inner) => inner.type_id(), )* }
            }

            fn write<E: WriteEncoding>(&self, w: &mut Writer<'_, E>) -> Result<(), WireError> {
                match self { $( Self::$variant(inner) => inner.write(w), )* }
            }

            fn read<E: ReadEncoding>(id: u8, r: &mut Reader<'_, E>) -> Result<Self, WireError> {
                match id {
                    $( $($id)|+ => Ok(Self::$variant(Structure::read(id, r)?)), )*
                    _ => Err(WireError::unexpected_type(id, "a command")),
                }
            }
        }

        #[cfg(test)]
        impl super::tests::sample::Sample for Command {
            fn sample(source: &mut super::tests::sample::Source<'_>) -> Self {
                let kinds: &[fn(&mut super::tests::sample::Source<'_>) -> Self] =
                    &[$( |source| Self::$variant(source.sample()), )*];
                kinds[source.below(kinds.len())](source)
            }

            fn seen(self, format: &super::WireFormat) -> Self {
                match self { $( Self::$variant(inner) => Self::$variant(inner.seen(format)), )* }
            }
        }
    };
}

command_enum! {
    WireFormatInfo(WireFormatInfo) = 1,
    BrokerInfo(Box<BrokerInfo>) = 2,
    ConnectionInfo(Box<ConnectionInfo>) = 3,
    SessionInfo(SessionInfo) = 4,
    ConsumerInfo(Box<ConsumerInfo>) = 5,
    ProducerInfo(ProducerInfo) = 6,
    TransactionInfo(TransactionInfo) = 7,
    DestinationInfo(DestinationInfo) = 8,
    RemoveSubscriptionInfo(RemoveSubscriptionInfo) = 9,
    KeepAliveInfo(KeepAliveInfo) = 10,
    ShutdownInfo(ShutdownInfo) = 11,
    RemoveInfo(RemoveInfo) = 12,
    ControlCommand(ControlCommand) = 14,
    FlushCommand(FlushCommand) = 15,
    ConnectionError(Box<ConnectionError>) = 16,
    ConsumerControl(ConsumerControl) = 17,
    ConnectionControl(Box<ConnectionControl>) = 18,
    ProducerAck(ProducerAck) = 19,
    MessagePull(Box<MessagePull>) = 20,
    MessageDispatch(MessageDispatch) = 21,
    MessageAck(Box<MessageAck>) = 22,
    Message(Arc<Message>) = 23..=29,
    Response(Response) = 30,
    ExceptionResponse(Box<ExceptionResponse>) = 31,
    DataResponse(DataResponse) = 32,
    DataArrayResponse(DataArrayResponse) = 33,
    IntegerResponse(IntegerResponse) = 34,
    DiscoveryEvent(DiscoveryEvent) = 40,
    JournalTopicAck(Box<JournalTopicAck>) = 50,
    JournalQueueAck(JournalQueueAck) = 52,
    JournalTrace(JournalTrace) = 53,
    JournalTransaction(JournalTransaction) = 54,
    SubscriptionInfo(Box<SubscriptionInfo>) = 55,
    PartialCommand(PartialCommand) = 60,
    LastPartialCommand(LastPartialCommand) = 61,
    ReplayCommand(ReplayCommand) = 65,
    MessageDispatchNotification(Box<MessageDispatchNotification>) = 90,
    NetworkBridgeFilter(NetworkBridgeFilter) = 91,
    BrokerSubscriptionInfo(BrokerSubscriptionInfo) = 92,
    Destination(Destination) = 100..=103,
    MessageId(MessageId) = 110,
    TransactionId(TransactionId) = 111 | 112,
    ConnectionId(ConnectionId) = 120,
    SessionId(SessionId) = 121,
    ConsumerId(ConsumerId) = 122,
    ProducerId(ProducerId) = 123,
    BrokerId(BrokerId) = 124,
}

impl<T: Structure> Structure for Box<T> {
    fn type_id(&self) -> u8 {
        (**self).type_id()
    }

    fn write<E: WriteEncoding>(&self, w: &mut Writer<'_, E>) -> Result<(), WireError> {
        (**self).write(w)
    }

    fn read<E: ReadEncoding>(id: u8, r: &mut Reader<'_, E>) -> Result<Self, WireError> {
        T::read(id, r).map(Self::new)
    }
}

macro_rules! with_header {
    ($self:expr, $c:ident => $body:expr, message $m:ident => $message:expr, else $other:expr) => {
        match $self {
            Command::BrokerInfo($c) => $body,
            Command::ConnectionInfo($c) => $body,
            Command::SessionInfo($c) => $body,
            Command::ConsumerInfo($c) => $body,
            Command::ProducerInfo($c) => $body,
            Command::TransactionInfo($c) => $body,
            Command::DestinationInfo($c) => $body,
            Command::RemoveSubscriptionInfo($c) => $body,
            Command::KeepAliveInfo($c) => $body,
            Command::ShutdownInfo($c) => $body,
            Command::RemoveInfo($c) => $body,
            Command::ControlCommand($c) => $body,
            Command::FlushCommand($c) => $body,
            Command::ConnectionError($c) => $body,
            Command::ConsumerControl($c) => $body,
            Command::ConnectionControl($c) => $body,
            Command::ProducerAck($c) => $body,
            Command::MessagePull($c) => $body,
            Command::MessageDispatch($c) => $body,
            Command::MessageAck($c) => $body,
            Command::Message($m) => $message,
            Command::Response($c) => $body,
            Command::ExceptionResponse($c) => $body,
            Command::DataResponse($c) => $body,
            Command::DataArrayResponse($c) => $body,
            Command::IntegerResponse($c) => $body,
            Command::ReplayCommand($c) => $body,
            Command::MessageDispatchNotification($c) => $body,
            Command::BrokerSubscriptionInfo($c) => $body,
            _ => $other,
        }
    };
}

impl Command {
    /// The data-structure type id of what this is.
    pub fn type_id(&self) -> u8 {
        Structure::type_id(self)
    }

    /// Number of the command on its connection; 0 for structures without a command header.
    pub fn command_id(&self) -> i32 {
        with_header!(self, c => c.command_id, message m => m.command_id, else 0)
    }

    /// True if the sender waits for a response.
    pub fn response_required(&self) -> bool {
        with_header!(self, c => c.response_required, message m => m.response_required, else false)
    }

    /// Sets the command header. A message that is shared is copied first.
    pub fn set_header(&mut self, command_id: i32, response_required: bool) {
        with_header!(self, c => {
            c.command_id = command_id;
            c.response_required = response_required;
        }, message m => {
            let m = Arc::make_mut(m);
            m.command_id = command_id;
            m.response_required = response_required;
        }, else {});
    }

    /// For the five responses, the command id of the request they answer.
    pub fn correlation_id(&self) -> Option<i32> {
        match self {
            Self::Response(response) => Some(response.correlation_id),
            Self::ExceptionResponse(response) => Some(response.correlation_id),
            Self::DataResponse(response) => Some(response.correlation_id),
            Self::DataArrayResponse(response) => Some(response.correlation_id),
            Self::IntegerResponse(response) => Some(response.correlation_id),
            _ => None,
        }
    }
}
