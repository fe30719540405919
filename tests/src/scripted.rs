//! A peer that does exactly what a test says: the far end of a connection, one command at a time.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use openwire_client::wire::{
    BrokerInfo, Command, ConnectionInfo, Decoder, Encoder, ExceptionResponse, KeepAliveInfo, MessageDispatch,
    Response, Throwable, WireFormat, WireFormatInfo, WireFormatOptions, decode_map, encode_map, negotiate,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::soon;

/// Listens for connections that a test plays the broker of.
#[derive(Debug)]
pub struct ScriptedPeer {
    listener: TcpListener,
    address: SocketAddr,
}

impl ScriptedPeer {
    /// Listens on a port of its own.
    ///
    /// # Panics
    ///
    /// If there is no port.
    pub async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are ports");
        let address = listener.local_addr().expect("it has an address");
        Self { listener, address }
    }

    /// Where it listens.
    pub fn uri(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// The next connection, as it comes: nothing was said yet.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub async fn accept(&self) -> ScriptedConnection {
        let (stream, _) = soon("a connection", self.listener.accept())
            .await
            .expect("it listens");
        ScriptedConnection {
            stream,
            encoder: Encoder::new(WireFormat::handshake()),
            decoder: Decoder::new(WireFormat::handshake()),
            input: BytesMut::new(),
        }
    }

    /// The next connection, negotiated.
    pub async fn negotiated(&self) -> ScriptedConnection {
        let mut connection = self.accept().await;
        connection.handshake(&WireFormatOptions::default()).await;
        connection
    }

    /// The next connection, accepted as a broker does. Says what it was opened with: a client that comes back sends a
    /// `ConnectionControl` first, which is passed over.
    pub async fn accepted(&self) -> (ScriptedConnection, ConnectionInfo) {
        let mut connection = self.negotiated().await;
        connection.introduce().await;
        let info = connection.accept_client().await;
        (connection, info)
    }

    /// As [`accepted`](Self::accepted), by a broker that keeps the outcomes of transactions in a store of this name.
    pub async fn accepted_keeping_outcomes(&self, store: &str) -> ScriptedConnection {
        let mut connection = self.accept().await;
        connection
            .handshake_keeping_outcomes(store, Duration::from_secs(600))
            .await;
        connection.introduce().await;
        connection.accept_client().await;
        connection
    }

    /// Nobody tries to connect.
    ///
    /// # Panics
    ///
    /// If somebody has.
    pub async fn assert_idle(&self) {
        let connection = tokio::time::timeout(crate::QUIET, self.listener.accept()).await;
        assert!(connection.is_err(), "somebody connects");
    }
}

/// One connection, from the broker's side. Dropping it closes the socket.
#[derive(Debug)]
pub struct ScriptedConnection {
    stream: TcpStream,
    encoder: Encoder,
    decoder: Decoder,
    input: BytesMut,
}

impl ScriptedConnection {
    /// Exchanges `WireFormatInfo`s.
    ///
    /// # Panics
    ///
    /// If the client does not keep to it.
    pub async fn handshake(&mut self, options: &WireFormatOptions) {
        let offer = options.to_info().expect("the offer has an encoding");
        self.handshake_with(options, offer).await;
    }

    /// As a broker that keeps the outcomes of transactions in a store of this name.
    ///
    /// # Panics
    ///
    /// If the client does not keep to it.
    pub async fn handshake_keeping_outcomes(&mut self, store: &str, kept: Duration) {
        let options = WireFormatOptions::default();
        let mut offer = options.to_info().expect("the offer has an encoding");
        let properties = offer.marshalled_properties.take().expect("it has some");
        let mut map = decode_map(properties).expect("they are ours");
        map.insert("TransactionOutcomes", store);
        map.insert("TransactionOutcomesKept", kept.as_millis() as i64);
        let mut properties = BytesMut::new();
        encode_map(&map, &mut properties).expect("they have an encoding");
        offer.marshalled_properties = Some(properties.freeze());
        self.handshake_with(&options, offer).await;
    }

    async fn handshake_with(&mut self, options: &WireFormatOptions, offer: WireFormatInfo) {
        self.send(offer).await;
        let Some(Command::WireFormatInfo(info)) = self.next().await else {
            panic!("a client begins with a WireFormatInfo");
        };
        let agreed = negotiate(options, &info).expect("the two understand each other");
        self.encoder = Encoder::new(agreed.clone());
        self.decoder = Decoder::new(agreed);
    }

    /// Says who it is.
    pub async fn introduce(&mut self) {
        self.send(Box::new(BrokerInfo {
            broker_name: Some("scripted".into()),
            broker_url: Some("tcp://scripted:1".into()),
            ..BrokerInfo::default()
        }))
        .await;
    }

    /// Reads the `ConnectionInfo` and accepts it.
    ///
    /// # Panics
    ///
    /// If something else comes.
    pub async fn accept_client(&mut self) -> ConnectionInfo {
        loop {
            match self.expect().await {
                Command::ConnectionInfo(info) => {
                    self.respond(info.command_id).await;
                    return *info;
                }
                Command::ConnectionControl(_) => {}
                other => panic!("a ConnectionInfo was due, not {other:?}"),
            }
        }
    }

    /// Sends a command.
    ///
    /// # Panics
    ///
    /// If the client is gone.
    pub async fn send(&mut self, command: impl Into<Command>) {
        let mut out = BytesMut::new();
        self.encoder
            .encode(&command.into(), &mut out)
            .expect("the command has an encoding");
        self.send_bytes(&out).await;
    }

    /// Sends anything.
    ///
    /// # Panics
    ///
    /// If the client is gone.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        soon("writing", self.stream.write_all(bytes))
            .await
            .expect("the client reads");
    }

    /// Answers a request.
    pub async fn respond(&mut self, command_id: i32) {
        self.send(Response {
            correlation_id: command_id,
            ..Response::default()
        })
        .await;
    }

    /// Answers a request with an exception.
    pub async fn refuse(&mut self, command_id: i32, class: &str) {
        self.send(Box::new(ExceptionResponse {
            correlation_id: command_id,
            exception: Some(Throwable::new(class, "the script says no")),
            ..ExceptionResponse::default()
        }))
        .await;
    }

    /// Dispatches messages until the client has had enough and closes the connection.
    ///
    /// # Panics
    ///
    /// If it never has.
    pub async fn flood(&mut self, dispatch: &MessageDispatch) {
        let command = Command::from(dispatch.clone());
        soon("the end of the client's patience", async {
            loop {
                let mut out = BytesMut::new();
                self.encoder
                    .encode(&command, &mut out)
                    .expect("the command has an encoding");
                if self.stream.write_all(&out).await.is_err() {
                    break;
                }
            }
        })
        .await;
    }

    /// The next command, whatever it is; `None` if the client has closed the connection.
    ///
    /// # Panics
    ///
    /// If nothing comes, or nonsense.
    pub async fn next(&mut self) -> Option<Command> {
        soon("a command", async {
            loop {
                if let Some(command) = self
                    .decoder
                    .decode(&mut self.input)
                    .expect("the client speaks OpenWire")
                {
                    return Some(command);
                }
                match self.stream.read_buf(&mut self.input).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
    }

    /// The next command that is not a sign of life.
    ///
    /// # Panics
    ///
    /// If the client is gone.
    pub async fn expect(&mut self) -> Command {
        loop {
            match self.next().await.expect("the client is there") {
                Command::KeepAliveInfo(KeepAliveInfo { .. }) => {}
                command => return command,
            }
        }
    }

    /// The next command that `pick` wants; all before are answered as a broker that agrees to everything does.
    pub async fn serve_until<T>(&mut self, mut pick: impl FnMut(&Command) -> Option<T>) -> T {
        loop {
            let command = self.expect().await;
            if let Some(picked) = pick(&command) {
                return picked;
            }
            if command.response_required() {
                self.respond(command.command_id()).await;
            }
        }
    }

    /// The client says nothing.
    ///
    /// # Panics
    ///
    /// If it does.
    pub async fn assert_silent(&mut self) {
        if let Ok(command) = tokio::time::timeout(crate::QUIET, self.expect()).await {
            panic!("the client says {command:?}");
        }
    }
}
