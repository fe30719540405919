//! The commands other than messages, in order of their type ids.

use std::sync::Arc;

use super::command::Command;
use super::destination::Destination;
use super::ids::{
    BrokerId, ConnectionId, ConsumerId, EntityId, MessageId, ProducerId, SessionId, TransactionId,
};
use super::message::Message;

openwire! {
    /// The first frame each way: what its sender can do.
    data WireFormatInfo = 1 {
        /// The 8 bytes `ActiveMQ`.
        magic: const8,
        /// The highest version its sender speaks.
        version: int,
        /// A marshalled map of options.
        marshalled_properties: bytes,
    }

    /// A broker, or a bridge, introduces itself.
    command BrokerInfo = 2 {
        /// The broker's id, new at every start.
        broker_id: cached<BrokerId>,
        /// A URI one can connect to.
        broker_url: string,
        /// The brokers it is connected with.
        peer_broker_infos: array<Box<BrokerInfo>>,
        /// The broker's name.
        broker_name: string,
        /// It is a slave.
        slave_broker: bool,
        /// It is a master.
        master_broker: bool,
        /// It is part of a fault-tolerant setup.
        fault_tolerant_configuration: bool,
        /// A bridge asks for a connection both ways.
        duplex_connection: bool @ 2,
        /// The sender is a bridge.
        network_connection: bool @ 2,
        /// Unused.
        connection_id: long @ 2,
        /// Where blobs are uploaded to.
        broker_upload_url: string @ 3,
        /// The configuration of a duplex bridge, as Java properties.
        network_properties: string @ 3,
    }

    /// The first command of a client.
    command ConnectionInfo = 3 {
        /// The connection's id.
        connection_id: cached<ConnectionId>,
        /// `clientID`.
        client_id: string,
        /// The password; `Debug` does not show it.
        password: secret,
        /// The user.
        user_name: string,
        /// The brokers in between.
        broker_path: array<BrokerId>,
        /// Unused.
        broker_master_connector: bool,
        /// The client wants [`ConnectionControl`].
        manageable: bool,
        /// Constantly true from clients.
        client_master: bool @ 2,
        /// The client uses failover.
        fault_tolerant: bool @ 6,
        /// This is a replay after a reconnect.
        failover_reconnect: bool @ 6,
        /// The client's address, filled by the broker.
        client_ip: string @ 8,
    }

    /// A session begins.
    command SessionInfo = 4 {
        /// Its id.
        session_id: cached<SessionId>,
    }

    /// A consumer begins.
    command ConsumerInfo = 5 {
        /// Its id.
        consumer_id: cached<ConsumerId>,
        /// It is a queue browser.
        browser: bool,
        /// What it consumes from.
        destination: cached<Destination>,
        /// How many messages the broker may send ahead of acknowledgements.
        prefetch_size: int,
        /// For topics: extra messages the broker keeps for it.
        maximum_pending_message_limit: int,
        /// The broker may dispatch from another thread.
        dispatch_async: bool,
        /// The message selector.
        selector: string,
        /// The client id.
        client_id: string @ 10,
        /// Name of a durable subscription.
        subscription_name: string,
        /// Do not deliver what the same connection sent.
        no_local: bool,
        /// Only one of the exclusive consumers gets messages.
        exclusive: bool,
        /// Wants older messages of a topic.
        retroactive: bool,
        /// Higher is preferred.
        priority: byte,
        /// The brokers in between.
        broker_path: array<BrokerId>,
        /// What a bridge filters by.
        additional_predicate: nested<Box<Command>>,
        /// It is a bridge's.
        network_subscription: bool,
        /// The client acknowledges in batches.
        optimized_acknowledge: bool,
        /// The client never acknowledges ranges.
        no_range_acks: bool,
        /// The consumers a bridge stands for.
        network_consumer_path: array<ConsumerId> @ 4,
    }

    /// A producer begins.
    command ProducerInfo = 6 {
        /// Its id.
        producer_id: cached<ProducerId>,
        /// Where it sends to; none for an anonymous producer.
        destination: cached<Destination>,
        /// The brokers in between.
        broker_path: array<BrokerId>,
        /// The broker may dispatch its messages from another thread.
        dispatch_async: bool @ 2,
        /// Bytes it may send ahead of [`ProducerAck`]; 0 is no limit.
        window_size: int @ 3,
    }

    /// A step of a transaction; see the constants.
    command TransactionInfo = 7 {
        /// The connection.
        connection_id: cached<ConnectionId>,
        /// The transaction; none for `RECOVER`.
        transaction_id: cached<TransactionId>,
        /// Which step.
        step: byte,
    }

    /// A destination is made or removed.
    command DestinationInfo = 8 {
        /// The connection.
        connection_id: cached<ConnectionId>,
        /// The destination.
        destination: cached<Destination>,
        /// 0 add, 1 remove.
        operation_type: byte,
        /// How long to wait for it to fall out of use, in milliseconds; 0 fails at once.
        timeout: long,
        /// The brokers in between.
        broker_path: array<BrokerId>,
    }

    /// A durable subscription is given up (`unsubscribe`).
    command RemoveSubscriptionInfo = 9 {
        /// The connection.
        connection_id: cached<ConnectionId>,
        /// Its name.
        subscription_name: string,
        /// The client id it belongs to.
        client_id: string,
    }

    /// Says that its sender is alive.
    command KeepAliveInfo = 10 {}

    /// The last command of a client.
    command ShutdownInfo = 11 {}

    /// A connection, session, consumer or producer ends.
    command RemoveInfo = 12 {
        /// Which.
        object_id: cached<EntityId>,
        /// The broker's number of the last message shown to the application; -1 none was, -2 unknown.
        last_delivered_sequence_id: long @ 5,
    }

    /// Accepted without effect.
    command ControlCommand = 14 {
        /// What to do.
        command: string,
    }

    /// Accepted without effect.
    command FlushCommand = 15 {}

    /// A command that wanted no response failed.
    command ConnectionError = 16 {
        /// Why.
        exception: throwable,
        /// The connection.
        connection_id: nested<ConnectionId>,
    }

    /// Changes a consumer, from either side.
    command ConsumerControl = 17 {
        /// What it consumes from.
        destination: nested<Destination> @ 6,
        /// The broker closes the consumer.
        close: bool,
        /// Which consumer.
        consumer_id: nested<ConsumerId>,
        /// The new prefetch.
        prefetch: int,
        /// Without effect.
        flush: bool @ 2,
        /// Without effect.
        start: bool @ 2,
        /// Without effect.
        stop: bool @ 2,
    }

    /// Tells a client about the cluster, or a broker about the client.
    command ConnectionControl = 18 {
        /// Unused.
        close: bool,
        /// Unused.
        exit: bool,
        /// Its sender is part of a fault-tolerant setup.
        fault_tolerant: bool,
        /// Unused.
        resume: bool,
        /// Unused.
        suspend: bool,
        /// URIs of the cluster's brokers, comma separated.
        connected_brokers: string @ 6,
        /// Where to connect to instead.
        reconnect_to: string @ 6,
        /// The client shall choose anew.
        rebalance_connection: bool @ 6,
        /// Unused.
        token: bytes @ 8,
    }

    /// Gives a producer room in its window. Since version 3.
    command ProducerAck = 19 {
        /// Which producer.
        producer_id: nested<ProducerId>,
        /// How many bytes.
        size: int,
    }

    /// Asks for one message, with prefetch 0. Since version 2.
    command MessagePull = 20 {
        /// Who asks.
        consumer_id: cached<ConsumerId>,
        /// From where.
        destination: cached<Destination>,
        /// How long to wait, in milliseconds; 0 is for ever, -1 not at all.
        timeout: long,
        /// Unused.
        correlation_id: string @ 3,
        /// Unused.
        message_id: nested<MessageId> @ 3,
    }

    /// A message goes to a consumer.
    command MessageDispatch = 21 {
        /// To whom.
        consumer_id: cached<ConsumerId>,
        /// Where it was consumed from.
        destination: cached<Destination>,
        /// The message; none ends a browse or answers a pull that found nothing.
        message: nested<Arc<Message>>,
        /// Overrides the message's own counter.
        redelivery_counter: int,
    }

    /// A consumer acknowledges; see the constants.
    command MessageAck = 22 {
        /// Where the messages came from.
        destination: cached<Destination>,
        /// The transaction it belongs to.
        transaction_id: cached<TransactionId>,
        /// Who acknowledges.
        consumer_id: cached<ConsumerId>,
        /// What it means.
        ack_type: byte,
        /// The first message; none is the first one dispatched.
        first_message_id: nested<MessageId>,
        /// The last message.
        last_message_id: nested<MessageId>,
        /// How many messages from first to last.
        message_count: int,
        /// Why a message was given up.
        poison_cause: throwable @ 7,
    }

    /// A request succeeded.
    command Response = 30 {
        /// The command id of the request.
        correlation_id: int,
    }

    /// A request failed and had no effect.
    command ExceptionResponse = 31 {
        /// The command id of the request.
        correlation_id: int,
        /// Why.
        exception: throwable,
    }

    /// A response with a structure.
    command DataResponse = 32 {
        /// The command id of the request.
        correlation_id: int,
        /// The structure.
        data: nested<Box<Command>>,
    }

    /// A response with structures: the answer to `RECOVER`.
    command DataArrayResponse = 33 {
        /// The command id of the request.
        correlation_id: int,
        /// The structures.
        data: array<Box<Command>>,
    }

    /// A response with a number: the answer to `PREPARE`.
    command IntegerResponse = 34 {
        /// The command id of the request.
        correlation_id: int,
        /// The number.
        result: int,
    }

    /// A discovery agent found something.
    data DiscoveryEvent = 40 {
        /// The service.
        service_name: string,
        /// The broker.
        broker_name: string,
    }

    /// A record of ActiveMQ's old journal.
    data JournalTopicAck = 50 {
        /// The topic.
        destination: nested<Destination>,
        /// The message.
        message_id: nested<MessageId>,
        /// Its number.
        message_sequence_id: long,
        /// The subscription.
        subscription_name: string,
        /// The client id.
        client_id: string,
        /// The transaction.
        transaction_id: nested<TransactionId>,
    }

    /// A record of ActiveMQ's old journal.
    data JournalQueueAck = 52 {
        /// The queue.
        destination: nested<Destination>,
        /// The acknowledgement.
        message_ack: nested<Box<MessageAck>>,
    }

    /// A record of ActiveMQ's old journal.
    data JournalTrace = 53 {
        /// The text.
        message: string,
    }

    /// A record of ActiveMQ's old journal.
    data JournalTransaction = 54 {
        /// The transaction.
        transaction_id: nested<TransactionId>,
        /// The step.
        step: byte,
        /// It was prepared.
        was_prepared: bool,
    }

    /// A durable subscription.
    data SubscriptionInfo = 55 {
        /// The client id.
        client_id: string,
        /// The destination.
        destination: cached<Destination>,
        /// The selector.
        selector: string,
        /// The name.
        subscription_name: string,
        /// What was subscribed to, before interceptors.
        subscribed_destination: nested<Destination> @ 3,
        /// Do not deliver what the same connection sent.
        no_local: bool @ 11,
    }

    /// A piece of a command, on datagram transports.
    data PartialCommand = 60 {
        /// Number of the command.
        command_id: int,
        /// The piece.
        data: bytes,
    }

    /// The last piece of a command, on datagram transports.
    data LastPartialCommand = 61 {
        /// Number of the command.
        command_id: int,
        /// The piece.
        data: bytes,
    }

    /// Asks for commands again, on datagram transports.
    command ReplayCommand = 65 {
        /// The first one missed.
        first_nak_number: int,
        /// The last one missed.
        last_nak_number: int,
    }

    /// Told a slave of a dispatch.
    command MessageDispatchNotification = 90 {
        /// To whom.
        consumer_id: cached<ConsumerId>,
        /// From where.
        destination: cached<Destination>,
        /// Its number.
        delivery_sequence_id: long,
        /// The message.
        message_id: nested<MessageId>,
    }

    /// What a network bridge filters messages by.
    data NetworkBridgeFilter = 91 {
        /// How many brokers a message may cross.
        network_ttl: int @ 1 ..= 9,
        /// The broker at the other end.
        network_broker_id: cached<BrokerId>,
        /// How many brokers a message may cross.
        message_ttl: int @ 10,
        /// How many brokers demand may cross.
        consumer_ttl: int @ 10,
    }

    /// Durable subscriptions two bridges compare. Since version 12.
    command BrokerSubscriptionInfo = 92 {
        /// The broker.
        broker_id: nested<BrokerId>,
        /// Its name.
        broker_name: string,
        /// The subscriptions.
        subscription_infos: array<Box<ConsumerInfo>>,
    }
}

impl TransactionInfo {
    /// A transaction begins.
    pub const BEGIN: i8 = 0;
    /// First phase of a commit.
    pub const PREPARE: i8 = 1;
    /// Commit without a first phase.
    pub const COMMIT_ONE_PHASE: i8 = 2;
    /// Second phase of a commit.
    pub const COMMIT_TWO_PHASE: i8 = 3;
    /// Roll back.
    pub const ROLLBACK: i8 = 4;
    /// Asks for the prepared transactions.
    pub const RECOVER: i8 = 5;
    /// Forgets a transaction that was completed by other means.
    pub const FORGET: i8 = 6;
    /// A session's work on the transaction ends.
    pub const END: i8 = 7;
}

impl DestinationInfo {
    /// The destination is made.
    pub const ADD: i8 = 0;
    /// The destination is removed.
    pub const REMOVE: i8 = 1;
}

impl MessageAck {
    /// The client has the messages but has not finished with them.
    pub const DELIVERED: i8 = 0;
    /// The client gives up on the messages.
    pub const POISON: i8 = 1;
    /// The messages are consumed.
    pub const STANDARD: i8 = 2;
    /// The client delivered the messages again.
    pub const REDELIVERED: i8 = 3;
    /// The one message `last_message_id` is consumed.
    pub const INDIVIDUAL: i8 = 4;
    /// A durable subscriber's selector did not match.
    pub const UNMATCHED: i8 = 5;
    /// The client found the messages expired.
    pub const EXPIRED: i8 = 6;
}

impl RemoveInfo {
    /// No message was shown to the application.
    pub const NOTHING_DELIVERED: i64 = -1;
    /// What was shown to the application is not known.
    pub const UNKNOWN_DELIVERED: i64 = -2;
}
