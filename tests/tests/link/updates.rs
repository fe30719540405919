//! Addresses that a list somewhere else gives (`updateURIsURL`).

use std::path::PathBuf;

use openwire_client::wire::EntityId;
use openwire_client::{EndpointSource, EndpointState};
use tests::process::free_port;
use tests::scripted::ScriptedPeer;
use tests::soon;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A list in a file.
struct List {
    dir: tempfile::TempDir,
}

impl List {
    fn new(peers: &[&ScriptedPeer]) -> Self {
        let list = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        list.write(&uris(peers));
        list
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("brokers")
    }

    /// At once, as whoever keeps such a list should.
    fn write(&self, text: &str) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }

    fn uri(&self, options: &str) -> String {
        format!(
            "failover:()?updateURIsURL={}&randomize=false&initialReconnectDelay=1&maxReconnectDelay=20{options}",
            self.path().display()
        )
    }
}

fn uris(peers: &[&ScriptedPeer]) -> String {
    let list: Vec<String> = peers.iter().map(|peer| peer.uri()).collect();
    list.join("\n")
}

/// Answers the farewell and everything before it.
async fn let_go(far: &mut ScriptedConnection) {
    let goodbye = far
        .serve_until(|command| match command {
            Command::RemoveInfo(info) if matches!(info.object_id, Some(EntityId::Connection(_))) => {
                Some(info.command_id)
            }
            _ => None,
        })
        .await;
    far.respond(goodbye).await;
}

#[tokio::test]
async fn a_list_in_a_file_is_read_before_each_pass() {
    let (first, second) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let list = List::new(&[&first]);
    let (connection, far) = connect(&list.uri("&updateURIsInterval=infinite"), &first).await;
    let mut events = connection.events();
    list.write(&uris(&[&second]));
    drop(far);
    let (far, _) = second.accepted().await;
    resumed(&mut events).await;
    let told = connection.endpoints();
    assert_eq!(
        (told.len(), told[0].source, told[0].state),
        (1, EndpointSource::UpdateUrl, EndpointState::Current)
    );
    // Half a list changes nothing, and neither does none.
    list.write(&format!("{},nonsense", first.uri()));
    drop(far);
    let (far, _) = second.accepted().await;
    resumed(&mut events).await;
    std::fs::remove_file(list.path()).unwrap();
    drop(far);
    let (_far, _) = second.accepted().await;
    resumed(&mut events).await;
    first.assert_idle().await;
}

#[tokio::test]
async fn another_list_moves_a_live_connection_if_it_may() {
    let (first, second) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let list = List::new(&[&first]);
    let (connection, mut far) = connect(&list.uri("&updateURIsInterval=20"), &first).await;
    let mut events = connection.events();
    list.write(&uris(&[&first, &second]));
    soon("the news", async {
        while connection.endpoints().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Still the first of the list.
    far.assert_silent().await;
    list.write(&uris(&[&second]));
    let_go(&mut far).await;
    let (_far, _) = second.accepted().await;
    resumed(&mut events).await;

    let list = List::new(&[&first]);
    let uri = list.uri("&updateURIsInterval=20&rebalanceUpdateURIs=false");
    let (connection, mut far) = connect(&uri, &first).await;
    list.write(&uris(&[&second]));
    soon("the news", async {
        let port = second.uri();
        while connection.endpoints()[0].endpoint.to_string() != port {
            tokio::task::yield_now().await;
        }
    })
    .await;
    far.assert_silent().await;
}

/// Answers one request for a list. Says what was asked.
async fn answer(server: &TcpListener, status: &str, body: &str) -> String {
    let (mut stream, _) = soon("a request", server.accept()).await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut request).await.unwrap() > 0);
    }
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // Whoever has had enough reads no further.
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    String::from_utf8(request).unwrap()
}

#[tokio::test]
async fn a_list_on_the_web_is_read_before_each_pass() {
    let (first, second) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/brokers", server.local_addr().unwrap());
    let uri = format!(
        "failover:(tcp://127.0.0.1:{})?updateURIsURL={url}&updateURIsInterval=infinite&randomize=false\
         &initialReconnectDelay=1&maxReconnectDelay=20",
        free_port()
    );
    let list = uris(&[&first]);
    let ((connection, far), request) = tokio::join!(connect(&uri, &first), answer(&server, "200 OK", &list));
    assert!(request.starts_with("GET /brokers HTTP/1.1\r\n"), "{request}");
    let mut events = connection.events();
    // An answer that is none, or one without end, changes nothing.
    drop(far);
    answer(&server, "503 Service Unavailable", &uris(&[&second])).await;
    let (far, _) = first.accepted().await;
    resumed(&mut events).await;
    drop(far);
    let endless = format!("{},{}", first.uri(), "x".repeat(100_000));
    answer(&server, "200 OK", &endless).await;
    let (far, _) = first.accepted().await;
    resumed(&mut events).await;
    drop(far);
    answer(&server, "200 OK", &uris(&[&second, &first])).await;
    let (_far, _) = second.accepted().await;
    resumed(&mut events).await;
}

#[tokio::test]
async fn a_server_that_says_nothing_does_not_keep_from_connecting() {
    let first = ScriptedPeer::bind().await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/brokers", server.local_addr().unwrap());
    let uri = format!("failover:({})?updateURIsURL={url}", first.uri());
    let (_connection, _far) = connect(&uri, &first).await;
}
