//! Who connects, and what follows when the broker does not agree.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use openwire_client::wire::ConnectionInfo;
use openwire_client::{ConnectionFactory, Credentials, CredentialsProvider, Endpoint};
use tests::process::free_port;
use tests::scripted::ScriptedPeer;
use tests::soon;

use super::*;

const SECURITY: &str = "java.lang.SecurityException";
const CLIENT_ID: &str = "javax.jms.InvalidClientIDException";

/// Gives another password each time, and says how often it was asked. Some of the times it fails.
#[derive(Clone)]
struct Rotating {
    asked: Arc<AtomicU32>,
    fails: fn(u32) -> bool,
}

impl Rotating {
    fn new(fails: fn(u32) -> bool) -> Self {
        Self {
            asked: Arc::default(),
            fails,
        }
    }
}

#[async_trait::async_trait]
impl CredentialsProvider for Rotating {
    async fn credentials(
        &self,
        broker: &Endpoint,
    ) -> Result<Credentials, Box<dyn std::error::Error + Send + Sync>> {
        let time = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        match (self.fails)(time) {
            true => Err("the vault is sealed".into()),
            false => Ok(Credentials::new(broker.host.clone(), format!("password {time}"))),
        }
    }
}

/// A provider that never answers.
struct Silent;

#[async_trait::async_trait]
impl CredentialsProvider for Silent {
    async fn credentials(
        &self,
        _: &Endpoint,
    ) -> Result<Credentials, Box<dyn std::error::Error + Send + Sync>> {
        std::future::pending().await
    }
}

/// A provider with a mistake.
struct Panicking;

#[async_trait::async_trait]
impl CredentialsProvider for Panicking {
    async fn credentials(
        &self,
        _: &Endpoint,
    ) -> Result<Credentials, Box<dyn std::error::Error + Send + Sync>> {
        panic!("this is how a mistake looks")
    }
}

/// A connection that was asked for with these, and its far end.
async fn connect_with(
    factory: ConnectionFactory,
    peer: &ScriptedPeer,
) -> (Connection, ScriptedConnection, ConnectionInfo) {
    let mut factory = factory;
    factory.options_mut().watch_topic_advisories = false;
    let (connection, (far, info)) =
        tokio::join!(soon("connecting", factory.create_connection()), peer.accepted());
    (connection.expect("the peer accepts"), far, info)
}

/// Refuses the next connection.
async fn refuse(peer: &ScriptedPeer, class: &str) -> ConnectionInfo {
    let mut far = peer.negotiated().await;
    let info = far
        .serve_until(|command| match command {
            Command::ConnectionInfo(info) => Some((**info).clone()),
            _ => None,
        })
        .await;
    far.refuse(info.command_id, class).await;
    // Until the client has read it.
    assert!(far.next().await.is_none());
    info
}

/// Why the connection ended.
async fn end(events: &mut Events) -> Error {
    event(events, |event| match event {
        Event::Closed { cause, .. } => Some(cause.expect("it was not closed from this side")),
        _ => None,
    })
    .await
}

fn password(info: &ConnectionInfo) -> Option<&str> {
    info.password.as_deref()
}

#[tokio::test]
async fn a_provider_is_asked_at_each_connect() {
    let peer = ScriptedPeer::bind().await;
    let factory = ConnectionFactory::new(&failover(&[&peer], ""))
        .unwrap()
        .credentials("fixed", "old")
        .credentials_provider(Rotating::new(|_| false));
    let (connection, far, info) = connect_with(factory, &peer).await;
    assert_eq!(
        (info.user_name.as_deref(), password(&info)),
        (Some("127.0.0.1"), Some("password 1"))
    );
    let mut events = connection.events();
    drop(far);
    let (_far, info) = peer.accepted().await;
    assert_eq!(password(&info), Some("password 2"));
    resumed(&mut events).await;
}

#[tokio::test]
async fn a_spare_connection_asks_the_provider_when_it_is_taken() {
    let (first, second) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let provider = Rotating::new(|_| false);
    let factory = ConnectionFactory::new(&failover(&[&first, &second], "&backup=true&stablePeriod=0"))
        .unwrap()
        .credentials_provider(provider.clone());
    let (_connection, far, _) = connect_with(factory, &first).await;
    let mut spare = second.negotiated().await;
    spare.assert_silent().await;
    assert_eq!(provider.asked.load(Ordering::Relaxed), 1);
    drop(far);
    assert_eq!(password(&spare.accept_client().await), Some("password 2"));
}

#[tokio::test]
async fn a_provider_that_fails_is_a_failed_attempt() {
    let peer = ScriptedPeer::bind().await;
    let factory = ConnectionFactory::new(&peer.uri())
        .unwrap()
        .credentials_provider(Rotating::new(|_| true));
    let (error, _far) = tokio::join!(factory.create_connection(), peer.negotiated());
    let error = error.unwrap_err();
    assert!(
        error.is_credentials() && error.to_string().contains("sealed"),
        "{error}"
    );
    // With failover it is asked again.
    let factory = ConnectionFactory::new(&failover(&[&peer], ""))
        .unwrap()
        .credentials_provider(Rotating::new(|time| matches!(time, 1 | 3)));
    let connected = async {
        let failed = peer.negotiated().await;
        let far = peer.accepted().await;
        (failed, far)
    };
    let (connection, (_, (far, _))) = tokio::join!(factory.create_connection(), connected);
    let connection = connection.unwrap();
    let mut events = connection.events();
    drop(far);
    drop(peer.negotiated().await);
    let (_far, info) = peer.accepted().await;
    assert_eq!(password(&info), Some("password 4"));
    resumed(&mut events).await;
}

#[tokio::test]
async fn a_provider_has_a_deadline_and_may_even_panic() {
    let peer = ScriptedPeer::bind().await;
    let factory = || ConnectionFactory::new(&peer.uri()).unwrap();
    let silent = factory()
        .credentials_provider(Silent)
        .credentials_timeout(Duration::from_millis(50));
    for factory in [silent, factory().credentials_provider(Panicking)] {
        let connecting = soon("connecting", factory.create_connection());
        let (error, _far) = tokio::join!(connecting, peer.negotiated());
        assert!(error.unwrap_err().is_credentials());
    }
}

#[tokio::test]
async fn fixed_credentials_that_every_broker_refuses_after_a_break_are_the_end() {
    let (first, second) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let list = format!("{},tcp://127.0.0.1:{},{}", first.uri(), free_port(), second.uri());
    let uri = format!("failover:({list})?randomize=false&initialReconnectDelay=1");
    let (connection, far) = connect(&uri, &first).await;
    let mut events = connection.events();
    drop(far);
    // One is not there, and the two that are say the same.
    refuse(&second, SECURITY).await;
    refuse(&first, SECURITY).await;
    let cause = end(&mut events).await;
    assert!(cause.is_security(), "{cause}");
    first.assert_idle().await;
}

#[tokio::test]
async fn fixed_credentials_that_only_some_brokers_refuse_are_used_on() {
    let (first, second) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let (connection, far) = connect(&failover(&[&first, &second], ""), &first).await;
    let mut events = connection.events();
    drop(far);
    // The other answer may mean that this one would have agreed.
    refuse(&second, SECURITY).await;
    refuse(&first, CLIENT_ID).await;
    refuse(&first, "java.io.IOException").await;
    refuse(&second, SECURITY).await;
    let (_far, _) = first.accepted().await;
    resumed(&mut events).await;
}

#[tokio::test]
async fn a_provider_is_asked_again_when_a_broker_refuses_after_a_break() {
    let peer = ScriptedPeer::bind().await;
    let factory = ConnectionFactory::new(&failover(&[&peer], "&maxReconnectAttempts=3"))
        .unwrap()
        .credentials_provider(Rotating::new(|_| false));
    let (connection, far, _) = connect_with(factory, &peer).await;
    let mut events = connection.events();
    drop(far);
    assert_eq!(password(&refuse(&peer, SECURITY).await), Some("password 2"));
    assert_eq!(password(&refuse(&peer, SECURITY).await), Some("password 3"));
    let (far, info) = peer.accepted().await;
    assert_eq!(password(&info), Some("password 4"));
    resumed(&mut events).await;
    // As often as the URI says.
    drop(far);
    for _ in 0..3 {
        refuse(&peer, SECURITY).await;
    }
    assert!(end(&mut events).await.is_security());
}

#[tokio::test]
async fn a_client_id_in_use_is_told_at_once_unless_it_may_be_ours() {
    let peer = ScriptedPeer::bind().await;
    for uri in [peer.uri(), failover(&[&peer], "")] {
        let (error, _) = tokio::join!(try_connect(&uri), refuse(&peer, CLIENT_ID));
        assert!(error.unwrap_err().is_invalid_client_id());
    }
    // A broker that was told of the client and broke may have a connection of it left.
    let uri = failover(&[&peer], "");
    let dead_peer = async {
        let mut far = peer.negotiated().await;
        assert!(matches!(far.expect().await, Command::ConnectionInfo(_)));
        drop(far);
        refuse(&peer, CLIENT_ID).await;
        refuse(&peer, CLIENT_ID).await;
        peer.accepted().await
    };
    let (connection, _far) = tokio::join!(try_connect(&uri), dead_peer);
    connection.unwrap();
}

#[tokio::test]
async fn another_broker_may_have_room_for_a_client_that_one_has_none_for() {
    let (first, second) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let full = "javax.jms.ResourceAllocationException";
    let uri = failover(&[&first, &second], "");
    let (connection, _, _far) = tokio::join!(try_connect(&uri), refuse(&first, full), second.accepted());
    connection.unwrap();
    let uri = first.uri();
    let (error, _) = tokio::join!(try_connect(&uri), refuse(&first, full));
    assert!(error.unwrap_err().is_resource_allocation());
}
