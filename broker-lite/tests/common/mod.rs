//! A client of few words: it writes and reads commands, and nothing happens behind its back.

#![allow(dead_code, reason = "each test uses some of it")]

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use openwire_client::transport::{self, ReadHalf, TlsOptions, WriteHalf};
use openwire_client::uri::Endpoint;
use openwire_client::wire::{
    Command, ConnectionId, ConnectionInfo, Decoder, Destination, Encoder, LocalTransactionId, Message,
    MessageAck, MessageId, MessageKind, ProducerId, ProducerInfo, SessionId, SessionInfo, TransactionId,
    TransactionInfo, WireFormat, WireFormatOptions, negotiate,
};
use openwire_client::wire::{ConsumerId, ConsumerInfo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Nothing takes longer unless it is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) struct Raw<S = TcpStream> {
    pub(crate) stream: S,
    pub(crate) format: WireFormat,
    encoder: Encoder,
    decoder: Decoder,
    input: BytesMut,
    /// Read while a response was waited for.
    unread: VecDeque<Command>,
    next_id: i32,
    id: String,
}

pub(crate) fn host_port(uri: &str) -> &str {
    uri.split_once("://").unwrap().1
}

impl Raw {
    /// Connects and agrees on a wire format.
    pub(crate) async fn connect(uri: &str) -> io::Result<Self> {
        Self::connect_with(uri, &WireFormatOptions::default()).await
    }

    pub(crate) async fn connect_with(uri: &str, options: &WireFormatOptions) -> io::Result<Self> {
        let stream = TcpStream::connect(host_port(uri)).await?;
        stream.set_nodelay(true)?;
        Self::over(stream, options).await
    }
}

/// A client over whatever carries a URI's connections.
pub(crate) type AnyRaw = Raw<tokio::io::Join<ReadHalf, WriteHalf>>;

impl AnyRaw {
    pub(crate) async fn connect_any(uri: &str, tls: &TlsOptions) -> openwire_client::Result<Self> {
        let (read, write) = transport::connect(&Endpoint::parse(uri)?, tls)
            .await?
            .into_split();
        let stream = tokio::io::join(read, write);
        Ok(Self::over(stream, &WireFormatOptions::default()).await?)
    }
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Raw<S> {
    pub(crate) async fn over(mut stream: S, options: &WireFormatOptions) -> io::Result<Self> {
        let mut hello = BytesMut::new();
        Encoder::new(WireFormat::handshake())
            .encode(&options.to_info().unwrap().into(), &mut hello)
            .unwrap();
        stream.write_all(&hello).await?;
        let mut decoder = Decoder::new(WireFormat::handshake());
        let mut input = BytesMut::new();
        let theirs = loop {
            match decoder.decode(&mut input).unwrap() {
                Some(Command::WireFormatInfo(info)) => break info,
                Some(other) => panic!("{other:?}"),
                None => {}
            }
            if timeout(DEADLINE, stream.read_buf(&mut input)).await.unwrap()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let format = negotiate(options, &theirs).unwrap();
        static CLIENTS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let number = CLIENTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(Self {
            stream,
            encoder: Encoder::new(format.clone()),
            decoder: Decoder::new(format.clone()),
            format,
            input,
            unread: VecDeque::new(),
            next_id: 1,
            id: format!("ID:raw-{}-{number}", std::process::id()),
        })
    }

    /// Writes a command; gives its id.
    pub(crate) async fn send(
        &mut self,
        command: impl Into<Command>,
        response_required: bool,
    ) -> io::Result<i32> {
        let mut bytes = BytesMut::new();
        let id = self.encode(command, response_required, &mut bytes);
        self.stream.write_all(&bytes).await?;
        Ok(id)
    }

    pub(crate) fn encode(
        &mut self,
        command: impl Into<Command>,
        response_required: bool,
        to: &mut BytesMut,
    ) -> i32 {
        let mut command = command.into();
        let id = self.next_id;
        self.next_id += 1;
        command.set_header(id, response_required);
        self.encoder.encode(&command, to).unwrap();
        id
    }

    /// The next command; none at the end of the stream.
    pub(crate) async fn read(&mut self) -> io::Result<Option<Command>> {
        match self.unread.pop_front() {
            Some(command) => Ok(Some(command)),
            None => self.read_stream().await,
        }
    }

    async fn read_stream(&mut self) -> io::Result<Option<Command>> {
        timeout(DEADLINE, async {
            loop {
                if let Some(command) = self.decoder.decode(&mut self.input).unwrap() {
                    return Ok(Some(command));
                }
                if self.stream.read_buf(&mut self.input).await? == 0 {
                    return Ok(None);
                }
            }
        })
        .await
        .expect("the broker says nothing")
    }

    /// Reads until `wanted` finds something.
    pub(crate) async fn read_until<T>(&mut self, mut wanted: impl FnMut(&Command) -> Option<T>) -> T {
        loop {
            let command = self
                .read()
                .await
                .unwrap()
                .expect("the broker closed the connection");
            if let Some(found) = wanted(&command) {
                return found;
            }
        }
    }

    /// Reads until the stream ends, and gives the commands.
    pub(crate) async fn read_to_end(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        while let Ok(Some(command)) = self.read().await {
            commands.push(command);
        }
        commands
    }

    /// Sends a request and gives its response.
    pub(crate) async fn request(&mut self, command: impl Into<Command>) -> Command {
        let id = self.send(command, true).await.unwrap();
        self.response(id).await
    }

    /// The response to a request; what comes before it is read later.
    pub(crate) async fn response(&mut self, id: i32) -> Command {
        loop {
            let command = self
                .read_stream()
                .await
                .unwrap()
                .expect("the broker closed the connection");
            if command.correlation_id() == Some(id) {
                return command;
            }
            self.unread.push_back(command);
        }
    }

    pub(crate) fn connection_info(&self) -> ConnectionInfo {
        ConnectionInfo {
            connection_id: Some(ConnectionId::new(self.id.as_str())),
            client_id: Some(self.id.as_str().into()),
            ..ConnectionInfo::default()
        }
    }

    /// Introduces the client and opens session 1.
    pub(crate) async fn introduce(&mut self) {
        let info = self.connection_info();
        ok(self.request(Box::new(info)).await);
        let session = SessionInfo {
            session_id: Some(self.session_id()),
            ..SessionInfo::default()
        };
        ok(self.request(session).await);
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Introduces itself as a client that was connected before under this id.
    pub(crate) async fn come_again(&mut self, id: &str) {
        self.id = id.to_owned();
        let info = ConnectionInfo {
            failover_reconnect: true,
            ..self.connection_info()
        };
        ok(self.request(Box::new(info)).await);
    }

    pub(crate) fn transaction(&self, number: i64, step: i8) -> TransactionInfo {
        TransactionInfo {
            transaction_id: Some(self.transaction_id(number)),
            step,
            ..TransactionInfo::default()
        }
    }

    pub(crate) fn transaction_id(&self, value: i64) -> TransactionId {
        let connection_id = Some(ConnectionId::new(self.id.as_str()));
        TransactionId::Local(LocalTransactionId { value, connection_id })
    }

    /// Writes a whole transaction that sends so many persistent messages, and waits for nothing. Gives the id of the commit.
    pub(crate) async fn send_transaction(&mut self, number: i64, queue: &Destination, messages: i64) -> i32 {
        let mut bytes = BytesMut::new();
        let begin = self.transaction(number, TransactionInfo::BEGIN);
        self.encode(begin, false, &mut bytes);
        for message in 1..=messages {
            let message = self.message(number * 1_000 + message, queue, true, b"x");
            let Command::Message(message) = message else {
                unreachable!("it is a message");
            };
            let message = Message {
                transaction_id: Some(self.transaction_id(number)),
                ..(*message).clone()
            };
            self.encode(std::sync::Arc::new(message), false, &mut bytes);
        }
        let commit = self.transaction(number, TransactionInfo::COMMIT_ONE_PHASE);
        let id = self.encode(commit, true, &mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
        id
    }

    /// Commits a transaction, perhaps not for the first time.
    pub(crate) async fn commit(&mut self, number: i64) -> Command {
        let commit = self.transaction(number, TransactionInfo::COMMIT_ONE_PHASE);
        self.request(commit).await
    }

    pub(crate) fn session_id(&self) -> SessionId {
        SessionId {
            connection_id: Some(self.id.as_str().into()),
            value: 1,
        }
    }

    pub(crate) fn producer_id(&self) -> ProducerId {
        ProducerId {
            connection_id: Some(self.id.as_str().into()),
            value: 1,
            session_id: 1,
        }
    }

    pub(crate) async fn producer(&mut self, destination: &Destination) {
        let info = ProducerInfo {
            producer_id: Some(self.producer_id()),
            destination: Some(destination.clone()),
            ..ProducerInfo::default()
        };
        ok(self.request(info).await);
    }

    pub(crate) fn consumer_id(&self) -> ConsumerId {
        ConsumerId {
            connection_id: Some(self.id.as_str().into()),
            session_id: 1,
            value: 1,
        }
    }

    pub(crate) async fn consumer(&mut self, destination: &Destination, prefetch: i32) {
        let info = ConsumerInfo {
            consumer_id: Some(self.consumer_id()),
            destination: Some(destination.clone()),
            prefetch_size: prefetch,
            ..ConsumerInfo::default()
        };
        ok(self.request(Box::new(info)).await);
    }

    pub(crate) fn message(
        &self,
        number: i64,
        destination: &Destination,
        persistent: bool,
        body: &[u8],
    ) -> Command {
        let mut content = BytesMut::from(&(body.len() as u32).to_be_bytes()[..]);
        content.extend_from_slice(body);
        std::sync::Arc::new(Message {
            kind: MessageKind::Text,
            producer_id: Some(self.producer_id()),
            destination: Some(destination.clone()),
            message_id: Some(MessageId {
                producer_id: Some(self.producer_id()),
                producer_sequence_id: number,
                ..MessageId::default()
            }),
            persistent,
            priority: 4,
            content: Some(content.freeze()),
            ..Message::default()
        })
        .into()
    }

    pub(crate) fn ack(&self, destination: &Destination, message: &Message) -> Command {
        Box::new(MessageAck {
            destination: Some(destination.clone()),
            consumer_id: Some(self.consumer_id()),
            ack_type: MessageAck::STANDARD,
            first_message_id: message.message_id.clone(),
            last_message_id: message.message_id.clone(),
            message_count: 1,
            ..MessageAck::default()
        })
        .into()
    }

    pub(crate) async fn dispatch(&mut self) -> std::sync::Arc<Message> {
        self.read_until(|command| match command {
            Command::MessageDispatch(dispatch) => dispatch.message.clone(),
            _ => None,
        })
        .await
    }
}

/// The command is a response that says that a request succeeded.
#[track_caller]
pub(crate) fn ok(response: Command) {
    assert!(matches!(response, Command::Response(_)), "{response:?}");
}

/// The exception's class and message.
#[track_caller]
pub(crate) fn exception(response: &Command) -> (String, String) {
    match response {
        Command::ExceptionResponse(response) => {
            let thrown = response.exception.as_ref().unwrap();
            (
                thrown.class.as_deref().unwrap_or_default().to_owned(),
                thrown.message.as_deref().unwrap_or_default().to_owned(),
            )
        }
        other => panic!("{other:?}"),
    }
}
