//! The table of operations in flight when the connection breaks, as the crate's documentation has it: a test for each
//! cell, named after it. `before_it_left`: the operation had not reached the broker. `unanswered`: it may have.
//! `after`: it was over.

use std::time::Duration;

use openwire_client::wire::{Command, EntityId, Message as WireMessage, MessageAck, TransactionInfo};
use openwire_client::{AcknowledgeMode, Consumer, DeliveryMode, Destination, Producer};
use tests::scripted::ScriptedPeer;
use tests::soon;

use super::*;

/// A connection over a peer that can go and come back.
struct Scene {
    peer: ScriptedPeer,
    connection: Connection,
    far: ScriptedConnection,
    events: Events,
}

impl Scene {
    async fn new(options: &str) -> Self {
        let peer = ScriptedPeer::bind().await;
        let (connection, far) = connect(&failover(&[&peer], options), &peer).await;
        let events = connection.events();
        Self {
            peer,
            connection,
            far,
            events,
        }
    }

    async fn session(&self, mode: AcknowledgeMode) -> Session {
        session(&self.connection, mode).await
    }

    async fn producer(&mut self, session: &Session) -> Producer {
        served(&mut self.far, session.create_producer(&queue()))
            .await
            .unwrap()
    }

    async fn consumer(&mut self, session: &Session) -> (Consumer, ConsumerInfo) {
        consumer(session, &mut self.far, "q").await
    }

    /// The connection breaks, and the client knows.
    async fn breaks(self) -> Down {
        let Self {
            peer,
            connection,
            far,
            mut events,
        } = self;
        drop(far);
        interrupted(&mut events).await;
        Down {
            peer,
            connection,
            events,
        }
    }
}

async fn producing(options: &str) -> (Scene, Session, Producer) {
    let mut scene = Scene::new(options).await;
    let session = scene.session(AcknowledgeMode::Auto).await;
    let producer = scene.producer(&session).await;
    (scene, session, producer)
}

async fn consuming(options: &str, mode: AcknowledgeMode) -> (Scene, Session, Consumer, ConsumerInfo) {
    let mut scene = Scene::new(options).await;
    let session = scene.session(mode).await;
    let (consumer, info) = scene.consumer(&session).await;
    (scene, session, consumer, info)
}

/// The time between two connections: no broker answers.
struct Down {
    peer: ScriptedPeer,
    connection: Connection,
    events: Events,
}

impl Down {
    /// A broker is there again. Says what `Resumed` says.
    async fn heals(mut self) -> (Scene, (u64, u64)) {
        let (far, _) = self.peer.accepted().await;
        let counts = resumed(&mut self.events).await;
        let scene = Scene {
            peer: self.peer,
            connection: self.connection,
            far,
            events: self.events,
        };
        (scene, counts)
    }
}

fn queue() -> Destination {
    Destination::queue("q")
}

fn message(command: &Command) -> Option<WireMessage> {
    match command {
        Command::Message(message) => Some((**message).clone()),
        _ => None,
    }
}

fn ack(command: &Command) -> Option<MessageAck> {
    match command {
        Command::MessageAck(ack) => Some((**ack).clone()),
        _ => None,
    }
}

fn step(wanted: i8) -> impl FnMut(&Command) -> Option<i32> {
    move |command| match command {
        Command::TransactionInfo(info) if info.step == wanted => Some(info.command_id),
        _ => None,
    }
}

/// Answers everything and says which messages, acknowledgements and steps of transactions came, until it is quiet.
async fn heard(far: &mut ScriptedConnection) -> Vec<String> {
    let mut heard = Vec::new();
    while let Ok(command) = tokio::time::timeout(tests::QUIET, far.expect()).await {
        match &command {
            Command::Message(_) => heard.push("message".into()),
            Command::MessageAck(_) => heard.push("ack".into()),
            Command::TransactionInfo(info) => heard.push(format!("step {}", info.step)),
            Command::ConsumerInfo(info) if info.browser => heard.push("browser".into()),
            Command::ConsumerInfo(_) => heard.push("consumer".into()),
            Command::RemoveInfo(_) => heard.push("remove".into()),
            _ => {}
        }
        if command.response_required() {
            far.respond(command.command_id()).await;
        }
    }
    heard
}

// send: persistent, waited for.

#[tokio::test]
async fn send_before_it_left() {
    let (scene, _session, producer) = producing("").await;
    let down = scene.breaks().await;
    let (sent, (mut scene, counts)) = tokio::join!(producer.send("1"), async {
        let (mut scene, counts) = down.heals().await;
        let message = scene.far.serve_until(message).await;
        scene.far.respond(message.command_id).await;
        (scene, counts)
    });
    sent.unwrap();
    // It had not been sent, so it is not sent again, and nothing is lost.
    assert_eq!(counts, (0, 0));
    assert!(heard(&mut scene.far).await.is_empty());
}

#[tokio::test]
async fn send_unanswered() {
    let (mut scene, _session, producer) = producing("").await;
    let (sent, ()) = tokio::join!(producer.send("1"), async {
        let first = scene.far.serve_until(message).await;
        let (mut scene, counts) = scene.breaks().await.heals().await;
        let again = scene.far.serve_until(message).await;
        // The same id lets the broker tell whether it has it.
        assert_eq!(again.message_id, first.message_id);
        assert_eq!(counts, (1, 0));
        scene.far.respond(again.command_id).await;
        assert!(heard(&mut scene.far).await.is_empty());
    });
    sent.unwrap();
}

#[tokio::test]
async fn send_after() {
    let (mut scene, _session, producer) = producing("").await;
    served(&mut scene.far, producer.send("1")).await.unwrap();
    let (mut scene, counts) = scene.breaks().await.heals().await;
    assert_eq!(counts, (0, 0));
    assert!(heard(&mut scene.far).await.is_empty());
}

// send_pipelined: the receipt.

#[tokio::test]
async fn send_pipelined_before_it_left() {
    let (scene, _session, producer) = producing("").await;
    let down = scene.breaks().await;
    let receipt = producer.send_pipelined("1").await.unwrap();
    let (mut scene, counts) = down.heals().await;
    assert_eq!(heard(&mut scene.far).await, ["message"]);
    soon("the answer", receipt).await.unwrap();
    assert_eq!(counts, (0, 0));
}

#[tokio::test]
async fn send_pipelined_unanswered() {
    let (mut scene, _session, producer) = producing("").await;
    let receipt = producer.send_pipelined("1").await.unwrap();
    let first = scene.far.serve_until(message).await;
    let (mut scene, counts) = scene.breaks().await.heals().await;
    let again = scene.far.serve_until(message).await;
    assert_eq!(again.message_id, first.message_id);
    scene.far.respond(again.command_id).await;
    soon("the answer", receipt).await.unwrap();
    assert_eq!(counts, (1, 0));
}

#[tokio::test]
async fn send_pipelined_after() {
    let (mut scene, _session, producer) = producing("").await;
    let receipt = producer.send_pipelined("1").await.unwrap();
    served(&mut scene.far, receipt).await.unwrap();
    let (mut scene, counts) = scene.breaks().await.heals().await;
    assert_eq!(counts, (0, 0));
    assert!(heard(&mut scene.far).await.is_empty());
}

// send without waiting: non-persistent, or jms.useAsyncSend.

async fn producing_one_way(options: &str) -> (Scene, Session, Producer) {
    let (scene, session, mut producer) = producing(options).await;
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    (scene, session, producer)
}

#[tokio::test]
async fn send_one_way_before_it_left() {
    let (scene, _session, producer) = producing_one_way("").await;
    let down = scene.breaks().await;
    producer.send("1").await.unwrap();
    let (mut scene, counts) = down.heals().await;
    assert_eq!(heard(&mut scene.far).await, ["message"]);
    assert_eq!(counts, (0, 0));
}

#[tokio::test]
async fn send_one_way_unanswered() {
    let (mut scene, _session, producer) = producing_one_way("").await;
    producer.send("1").await.unwrap();
    scene.far.serve_until(message).await;
    let (mut scene, counts) = scene.breaks().await.heals().await;
    // It may be lost, and that is said.
    assert!(heard(&mut scene.far).await.is_empty());
    assert_eq!(counts, (0, 1));
}

#[tokio::test]
async fn send_one_way_unanswered_with_track_messages() {
    let (mut scene, _session, producer) = producing_one_way("&trackMessages=true").await;
    producer.send("1").await.unwrap();
    let first = scene.far.serve_until(message).await;
    let (mut scene, counts) = scene.breaks().await.heals().await;
    assert_eq!(scene.far.serve_until(message).await.message_id, first.message_id);
    assert_eq!(counts, (1, 0));
}

#[tokio::test]
async fn send_one_way_after() {
    let (mut scene, session, producer) = producing_one_way("").await;
    producer.send("1").await.unwrap();
    // The answer to anything that was asked later proves that it has arrived.
    let _later = scene.producer(&session).await;
    let (_, counts) = scene.breaks().await.heals().await;
    assert_eq!(counts, (0, 0));
}

// acknowledge: by the application, one message or all of the session.

const BY_APPLICATION: [AcknowledgeMode; 2] = [AcknowledgeMode::Client, AcknowledgeMode::Individual];

#[tokio::test]
async fn acknowledge_before_it_left() {
    for mode in BY_APPLICATION {
        let (mut scene, _session, consumer, info) = consuming("", mode).await;
        scene.far.send(dispatch(&info, 1)).await;
        let received = soon("receiving", consumer.receive()).await.unwrap();
        let down = scene.breaks().await;
        let error = received.acknowledge().await.unwrap_err();
        assert!(error.is_interrupted(), "{error}");
        let (mut scene, _) = down.heals().await;
        // Nothing is said of it to the new broker, which delivers it again.
        assert_eq!(heard(&mut scene.far).await, ["consumer"]);
        scene.far.send(dispatch(&info, 1)).await;
        let again = soon("receiving", consumer.receive()).await.unwrap();
        again.acknowledge().await.unwrap();
        scene.far.serve_until(ack).await;
    }
}

#[tokio::test]
async fn acknowledge_unanswered() {
    for mode in BY_APPLICATION {
        let (mut scene, _session, consumer, info) = consuming("&jms.sendAcksAsync=false", mode).await;
        scene.far.send(dispatch(&info, 1)).await;
        let received = soon("receiving", consumer.receive()).await.unwrap();
        let (acknowledged, mut scene) = tokio::join!(received.acknowledge(), async {
            scene.far.serve_until(ack).await;
            scene.breaks().await.heals().await.0
        });
        let error = acknowledged.unwrap_err();
        assert!(error.is_in_doubt(), "{error}");
        assert_eq!(heard(&mut scene.far).await, ["consumer"]);
        // If the broker does not have it, it is acknowledged now, and to the consumer it is done with.
        let mut again = dispatch(&info, 1);
        again.redelivery_counter = 1;
        scene.far.send(again).await;
        scene.far.send(dispatch(&info, 2)).await;
        let next = served(&mut scene.far, consumer.receive()).await.unwrap();
        assert_eq!(number(&next), 2);
        assert_eq!(scene.connection.stats().duplicates, 1);
    }
}

#[tokio::test]
async fn acknowledge_unanswered_without_waiting() {
    for mode in BY_APPLICATION {
        let (mut scene, _session, consumer, info) = consuming("", mode).await;
        scene.far.send(dispatch(&info, 1)).await;
        let received = soon("receiving", consumer.receive()).await.unwrap();
        received.acknowledge().await.unwrap();
        scene.far.serve_until(ack).await;
        // The broker has it or not; if not it delivers it again, and it is acknowledged again, and not shown.
        let (mut scene, _) = scene.breaks().await.heals().await;
        let mut again = dispatch(&info, 1);
        again.redelivery_counter = 1;
        scene.far.send(again).await;
        scene.far.send(dispatch(&info, 2)).await;
        let next = soon("receiving", consumer.receive()).await.unwrap();
        assert_eq!(number(&next), 2);
        let acknowledged = scene.far.serve_until(ack).await;
        assert_eq!(
            acknowledged.last_message_id.map(|id| id.producer_sequence_id),
            Some(1)
        );
        assert_eq!(scene.connection.stats().duplicates, 1);
    }
}

#[tokio::test]
async fn acknowledge_when_the_session_is_closed() {
    for mode in BY_APPLICATION {
        let (mut scene, session, consumer, info) = consuming("", mode).await;
        scene.far.send(dispatch(&info, 1)).await;
        let received = soon("receiving", consumer.receive()).await.unwrap();
        session.close().await.unwrap();
        let error = received.acknowledge().await.unwrap_err();
        assert!(error.is_closed(), "{error}");
    }
}

#[tokio::test]
async fn acknowledge_after() {
    for mode in BY_APPLICATION {
        let (mut scene, _session, consumer, info) = consuming("&jms.sendAcksAsync=false", mode).await;
        scene.far.send(dispatch(&info, 1)).await;
        let received = soon("receiving", consumer.receive()).await.unwrap();
        served(&mut scene.far, received.acknowledge()).await.unwrap();
        let (mut scene, _) = scene.breaks().await.heals().await;
        assert_eq!(heard(&mut scene.far).await, ["consumer"]);
    }
}

// commit

async fn sent_in_transaction(scene: &mut Scene) -> (Session, Producer) {
    let session = scene.session(AcknowledgeMode::Transacted).await;
    let producer = scene.producer(&session).await;
    producer.send("1").await.unwrap();
    scene.far.serve_until(message).await;
    (session, producer)
}

#[tokio::test]
async fn commit_before_it_left() {
    let mut scene = Scene::new("").await;
    let (session, _producer) = sent_in_transaction(&mut scene).await;
    let down = scene.breaks().await;
    let (committed, ()) = tokio::join!(session.commit(), async {
        let (mut scene, _) = down.heals().await;
        scene.far.serve_until(step(TransactionInfo::BEGIN)).await;
        scene.far.serve_until(message).await;
        let id = scene
            .far
            .serve_until(step(TransactionInfo::COMMIT_ONE_PHASE))
            .await;
        scene.far.respond(id).await;
    });
    committed.unwrap();
}

#[tokio::test]
async fn commit_unanswered() {
    let peer = ScriptedPeer::bind().await;
    let uri = failover(&[&peer], "");
    let (connection, far) = tokio::join!(try_connect(&uri), peer.accepted_keeping_outcomes("store"));
    let connection = connection.unwrap();
    let mut scene = Scene {
        peer,
        events: connection.events(),
        connection,
        far,
    };
    let (session, _producer) = sent_in_transaction(&mut scene).await;
    let (committed, ()) = tokio::join!(session.commit(), async {
        let commit = step(TransactionInfo::COMMIT_ONE_PHASE);
        let first = scene.far.serve_until(commit).await;
        let Down { peer, .. } = scene.breaks().await;
        // Before anything else the broker is asked what became of it, and tells.
        let mut far = peer.accepted_keeping_outcomes("store").await;
        let again = far.serve_until(step(TransactionInfo::COMMIT_ONE_PHASE)).await;
        assert_eq!(again, first);
        far.respond(again).await;
        assert!(!heard(&mut far).await.contains(&"message".to_owned()));
    });
    committed.unwrap();
}

#[tokio::test]
async fn commit_unanswered_with_a_broker_that_cannot_tell() {
    let mut scene = Scene::new("").await;
    let (session, _producer) = sent_in_transaction(&mut scene).await;
    let (committed, mut scene) = tokio::join!(session.commit(), async {
        scene
            .far
            .serve_until(step(TransactionInfo::COMMIT_ONE_PHASE))
            .await;
        scene.breaks().await.heals().await.0
    });
    let error = committed.unwrap_err();
    assert!(error.is_in_doubt(), "{error}");
    assert!(heard(&mut scene.far).await.is_empty());
}

#[tokio::test]
async fn commit_after() {
    let mut scene = Scene::new("").await;
    let (session, _producer) = sent_in_transaction(&mut scene).await;
    served(&mut scene.far, session.commit()).await.unwrap();
    let (mut scene, _) = scene.breaks().await.heals().await;
    assert!(heard(&mut scene.far).await.is_empty());
}

// rollback

#[tokio::test]
async fn rollback_before_it_left() {
    let mut scene = Scene::new("").await;
    let (session, _producer) = sent_in_transaction(&mut scene).await;
    let down = scene.breaks().await;
    let (rolled_back, heard) = tokio::join!(session.rollback(), async {
        let (mut scene, _) = down.heals().await;
        heard(&mut scene.far).await
    });
    rolled_back.unwrap();
    // Whatever the new broker is told of it ends with the rollback.
    assert!(!heard.contains(&"step 2".to_owned()), "{heard:?}");
    assert!(
        heard.is_empty() || heard.last().is_some_and(|last| last == "step 4"),
        "{heard:?}"
    );
}

#[tokio::test]
async fn rollback_unanswered() {
    let mut scene = Scene::new("").await;
    let (session, _producer) = sent_in_transaction(&mut scene).await;
    let (rolled_back, mut scene) = tokio::join!(session.rollback(), async {
        scene.far.serve_until(step(TransactionInfo::ROLLBACK)).await;
        scene.breaks().await.heals().await.0
    });
    rolled_back.unwrap();
    assert!(heard(&mut scene.far).await.is_empty());
}

#[tokio::test]
async fn rollback_after() {
    let mut scene = Scene::new("").await;
    let (session, _producer) = sent_in_transaction(&mut scene).await;
    served(&mut scene.far, session.rollback()).await.unwrap();
    let (mut scene, _) = scene.breaks().await.heals().await;
    assert!(heard(&mut scene.far).await.is_empty());
}

// receive

#[tokio::test]
async fn receive_before_it_left() {
    // Nothing was dispatched yet: the call waits on, for the new broker.
    let (scene, _session, consumer, info) = consuming("", AcknowledgeMode::Auto).await;
    let down = scene.breaks().await;
    let (received, _scene) = tokio::join!(soon("receiving", consumer.receive()), async {
        let (mut scene, _) = down.heals().await;
        scene.far.send(dispatch(&info, 1)).await;
        scene
    });
    assert_eq!(number(&received.unwrap()), 1);
}

#[tokio::test]
async fn receive_unanswered() {
    // Dispatched and not received: it is dropped, and comes again.
    let (mut scene, _session, consumer, info) = consuming("", AcknowledgeMode::Auto).await;
    scene.far.send(dispatch(&info, 1)).await;
    let down = scene.breaks().await;
    assert!(consumer.receive_no_wait().await.unwrap().is_none());
    let (mut scene, _) = down.heals().await;
    scene.far.send(dispatch(&info, 1)).await;
    let received = soon("receiving", consumer.receive()).await.unwrap();
    assert_eq!(number(&received), 1);
    assert_eq!(scene.connection.stats().duplicates, 0);
}

#[tokio::test]
async fn receive_unanswered_with_its_acknowledgement() {
    let mut scene = Scene::new("&jms.sendAcksAsync=false").await;
    let session = scene.session(AcknowledgeMode::Auto).await;
    let (consumer, info) = scene.consumer(&session).await;
    scene.far.send(dispatch(&info, 1)).await;
    let (received, mut scene) = tokio::join!(soon("receiving", consumer.receive()), async {
        scene.far.serve_until(ack).await;
        scene.breaks().await.heals().await.0
    });
    // The broker may have consumed it, and if not it is not shown again.
    assert_eq!(number(&received.unwrap()), 1);
    let mut again = dispatch(&info, 1);
    again.redelivery_counter = 1;
    scene.far.send(again).await;
    scene.far.send(dispatch(&info, 2)).await;
    let next = served(&mut scene.far, consumer.receive()).await.unwrap();
    assert_eq!(number(&next), 2);
    assert_eq!(scene.connection.stats().duplicates, 1);
}

#[tokio::test]
async fn receive_after() {
    // Received, and acknowledged by itself: it is not shown again.
    let (mut scene, _session, consumer, info) = consuming("", AcknowledgeMode::Auto).await;
    scene.far.send(dispatch(&info, 1)).await;
    soon("receiving", consumer.receive()).await.unwrap();
    let (mut scene, _) = scene.breaks().await.heals().await;
    let mut again = dispatch(&info, 1);
    again.redelivery_counter = 1;
    scene.far.send(again).await;
    scene.far.send(dispatch(&info, 2)).await;
    let received = soon("receiving", consumer.receive()).await.unwrap();
    assert_eq!(number(&received), 2);
    assert_eq!(scene.connection.stats().duplicates, 1);
}

// browse

#[tokio::test]
async fn browse_before_it_left() {
    let scene = Scene::new("").await;
    let session = scene.session(AcknowledgeMode::Auto).await;
    let down = scene.breaks().await;
    let destination = queue();
    let (browser, heard) = tokio::join!(session.create_browser(&destination), async {
        let (mut scene, _) = down.heals().await;
        let heard = heard(&mut scene.far).await;
        (scene, heard)
    });
    let ((_scene, heard), _browser) = (heard, browser.unwrap());
    assert_eq!(heard, ["browser"]);
}

#[tokio::test]
async fn browse_unanswered() {
    let mut scene = Scene::new("").await;
    let session = scene.session(AcknowledgeMode::Auto).await;
    let destination = queue();
    let (browser, heard) = tokio::join!(session.create_browser(&destination), async {
        scene.far.serve_until(consumer_info).await;
        let (mut scene, _) = scene.breaks().await.heals().await;
        let heard = heard(&mut scene.far).await;
        (scene, heard)
    });
    let ((_scene, heard), _browser) = (heard, browser.unwrap());
    assert_eq!(heard, ["browser"]);
}

#[tokio::test]
async fn browse_after() {
    let mut scene = Scene::new("").await;
    let session = scene.session(AcknowledgeMode::Auto).await;
    let destination = queue();
    let (browser, info) = tokio::join!(session.create_browser(&destination), async {
        let info = scene.far.serve_until(consumer_info).await;
        scene.far.respond(info.command_id).await;
        info
    });
    let mut browser = browser.unwrap();
    for number in 1..=2 {
        scene.far.send(dispatch(&info, number)).await;
    }
    assert_eq!(
        number(&soon("browsing", browser.next()).await.unwrap().unwrap()),
        1
    );
    // What it has not shown yet is gone, and the new broker is not told of it.
    let (mut scene, _) = scene.breaks().await.heals().await;
    let error = soon("browsing", browser.next()).await.unwrap_err();
    assert!(error.is_interrupted(), "{error}");
    assert!(heard(&mut scene.far).await.is_empty());
}

// create: consumers, producers and temporary destinations alike.

#[tokio::test]
async fn create_before_it_left() {
    let scene = Scene::new("").await;
    let session = scene.session(AcknowledgeMode::Auto).await;
    let down = scene.breaks().await;
    let destination = queue();
    let (consumer, (producer, (temporary, scene))) =
        tokio::join!(session.create_consumer(&destination), async {
            tokio::join!(session.create_producer(&destination), async {
                tokio::join!(session.create_temporary_queue(), async {
                    let (mut scene, _) = down.heals().await;
                    let heard = heard(&mut scene.far).await;
                    (scene, heard)
                })
            })
        });
    let (_consumer, _producer, _temporary) = (consumer.unwrap(), producer.unwrap(), temporary.unwrap());
    assert_eq!(scene.1, ["consumer"]);
}

#[tokio::test]
async fn create_unanswered() {
    let mut scene = Scene::new("").await;
    let session = scene.session(AcknowledgeMode::Auto).await;
    let destination = queue();
    let (consumer, (_scene, info)) = tokio::join!(session.create_consumer(&destination), async {
        let first = scene.far.serve_until(consumer_info).await;
        let (mut scene, _) = scene.breaks().await.heals().await;
        let again = scene.far.serve_until(consumer_info).await;
        assert_eq!(again.consumer_id, first.consumer_id);
        scene.far.respond(again.command_id).await;
        (scene, again)
    });
    assert_eq!(Some(consumer.unwrap().id()), info.consumer_id.as_ref());
}

#[tokio::test]
async fn create_after() {
    let (scene, _session, consumer, info) = consuming("", AcknowledgeMode::Auto).await;
    let (mut scene, _) = scene.breaks().await.heals().await;
    assert_eq!(heard(&mut scene.far).await, ["consumer"]);
    scene.far.send(dispatch(&info, 1)).await;
    assert_eq!(number(&soon("receiving", consumer.receive()).await.unwrap()), 1);
}

// close: of the connection; what is part of it goes with it.

#[tokio::test]
async fn close_before_it_left() {
    let mut scene = Scene::new("").await;
    let session = scene.session(AcknowledgeMode::Auto).await;
    let (consumer, _) = scene.consumer(&session).await;
    let down = scene.breaks().await;
    consumer.close().await.unwrap();
    session.close().await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(10), down.connection.close()).await;
    closed.expect("no broker is needed to close").unwrap();
}

#[tokio::test]
async fn close_unanswered() {
    let Scene {
        peer,
        connection,
        mut far,
        ..
    } = Scene::new("").await;
    let (closed, ()) = tokio::join!(soon("closing", connection.close()), async {
        far.serve_until(|command| match command {
            Command::RemoveInfo(info) => {
                matches!(info.object_id, Some(EntityId::Connection(_))).then_some(())
            }
            _ => None,
        })
        .await;
        drop(far);
    });
    closed.unwrap();
    // It went with the connection: nobody comes back to say goodbye again.
    peer.assert_idle().await;
}

#[tokio::test]
async fn close_after() {
    let Scene {
        peer,
        connection,
        mut far,
        ..
    } = Scene::new("").await;
    served(&mut far, connection.close()).await.unwrap();
    drop(far);
    peer.assert_idle().await;
    assert!(
        connection
            .create_session(AcknowledgeMode::Auto)
            .await
            .unwrap_err()
            .is_closed()
    );
}
