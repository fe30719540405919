//! The client against a peer that does exactly what the test says.

mod branches;
mod closing;
mod connecting;
mod credentials;
mod delivery;
mod faults;
mod in_flight;
mod log;
mod progress;
mod restoring;
mod switching;
mod transactions;
mod updates;

use futures::StreamExt;
use openwire_client::wire::{
    Command, ConsumerInfo, Destination, Message as WireMessage, MessageDispatch, MessageId, ProducerId,
};
use openwire_client::{AcknowledgeMode, Connection, ConnectionFactory, Error, Event, Events, Session};
use tests::scripted::{ScriptedConnection, ScriptedPeer};
use tests::soon;

/// Failover over these peers, in this order, at once.
fn failover(peers: &[&ScriptedPeer], options: &str) -> String {
    let list: Vec<String> = peers.iter().map(|peer| peer.uri()).collect();
    format!(
        "failover:({})?randomize=false&initialReconnectDelay=1&maxReconnectDelay=20{options}",
        list.join(",")
    )
}

async fn try_connect(uri: &str) -> Result<Connection, Error> {
    let mut factory = ConnectionFactory::new(uri).expect("the URI is fine");
    // What every connection says on its own is in nobody's way here.
    factory.options_mut().watch_topic_advisories = false;
    soon("connecting", factory.create_connection()).await
}

/// A connection and its far end.
async fn connect(uri: &str, peer: &ScriptedPeer) -> (Connection, ScriptedConnection) {
    let (connection, (far, _)) = tokio::join!(try_connect(uri), peer.accepted());
    let connection = connection.expect("the peer accepts");
    connection.start().await.expect("the connection is open");
    (connection, far)
}

async fn session(connection: &Connection, mode: AcknowledgeMode) -> Session {
    connection
        .create_session(mode)
        .await
        .expect("the connection is open")
}

/// Does something with the client while the far end agrees to everything.
async fn served<T>(far: &mut ScriptedConnection, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            command = far.expect() => {
                if command.response_required() {
                    far.respond(command.command_id()).await;
                }
            }
        }
    }
}

/// The next event of interest.
async fn event<T>(events: &mut Events, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    soon("an event", async {
        loop {
            let event = events.next().await.expect("the events go on");
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    })
    .await
}

/// What `Resumed` says: how many were sent again, how many may be lost.
async fn resumed(events: &mut Events) -> (u64, u64) {
    event(events, |event| match event {
        Event::Resumed { resumed, lost, .. } => Some((resumed, lost)),
        _ => None,
    })
    .await
}

async fn interrupted(events: &mut Events) {
    event(events, |event| {
        matches!(event, Event::Interrupted { .. }).then_some(())
    })
    .await;
}

/// A message of another connection, dispatched to a consumer.
fn dispatch(consumer: &ConsumerInfo, number: i64) -> MessageDispatch {
    let producer = ProducerId {
        connection_id: Some("ID:other-1-1-1:1".into()),
        value: 1,
        session_id: 1,
    };
    MessageDispatch {
        consumer_id: consumer.consumer_id.clone(),
        destination: consumer.destination.clone(),
        message: Some(
            WireMessage {
                destination: consumer.destination.clone(),
                message_id: Some(MessageId {
                    producer_id: Some(producer),
                    producer_sequence_id: number,
                    broker_sequence_id: number,
                    ..MessageId::default()
                }),
                ..WireMessage::default()
            }
            .into(),
        ),
        ..MessageDispatch::default()
    }
}

/// The number `dispatch` gave a message.
fn number(message: &openwire_client::Message) -> i64 {
    let id = message.message_id().expect("it was received");
    id.rsplit(':')
        .next()
        .and_then(|number| number.parse().ok())
        .expect("it ends with a number")
}

fn consumer_info(command: &Command) -> Option<ConsumerInfo> {
    match command {
        Command::ConsumerInfo(info) => Some((**info).clone()),
        _ => None,
    }
}

/// Creates a consumer, and says how the far end knows it.
async fn consumer(
    session: &Session,
    far: &mut ScriptedConnection,
    queue: &str,
) -> (openwire_client::Consumer, ConsumerInfo) {
    let destination = Destination::queue(queue);
    let answer = async {
        let info = far.serve_until(consumer_info).await;
        far.respond(info.command_id).await;
        info
    };
    let (consumer, info) = tokio::join!(session.create_consumer(&destination), answer);
    (consumer.expect("the peer agrees"), info)
}
