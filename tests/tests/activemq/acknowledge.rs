//! When messages count as consumed.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use openwire_client::{AcknowledgeMode, ConsumerOptions, DeliveryMode, Destination, Message, SendOptions};
use parking_lot::Mutex;
use tests::soon;

use super::*;

#[tokio::test]
async fn auto_acknowledges_what_receive_returned() {
    let Some(broker) = broker("auto_acknowledges_what_receive_returned") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let queue = Destination::queue("auto");
    send(&connection, &queue, 5).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let consumer = consumer(&session, &queue).await;
    assert_eq!(receive_texts(&consumer, 3).await, numbers(1..=3));
    close(&connection).await;
    assert_eq!(left(&broker, &queue).await, numbers(4..=5));
}

#[tokio::test]
async fn client_acknowledges_everything_so_far() {
    let Some(broker) = broker("client_acknowledges_everything_so_far") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let (a, b) = (Destination::queue("client.a"), Destination::queue("client.b"));
    send(&connection, &a, 20).await;
    send(&connection, &b, 5).await;
    let session = session(&connection, AcknowledgeMode::Client).await;
    // With a prefetch of 6 the broker only goes on because the client reports what it has delivered.
    let from_a = session
        .create_consumer_with(&a, ConsumerOptions::with_prefetch(6))
        .await
        .unwrap();
    let from_b = consumer(&session, &b).await;
    let mut last = None;
    for number in 1..=13 {
        let message = receive(&from_a).await;
        assert_eq!(text(&message), number.to_string());
        last = Some(message);
    }
    assert_eq!(receive_texts(&from_b, 2).await, numbers(1..=2));
    last.unwrap().acknowledge().await.unwrap();
    assert_eq!(receive_texts(&from_a, 2).await, numbers(14..=15));
    close(&connection).await;
    assert_eq!(left(&broker, &a).await, numbers(14..=20));
    assert_eq!(left(&broker, &b).await, numbers(3..=5));
}

#[tokio::test]
async fn recover_delivers_again_what_was_not_acknowledged() {
    let Some(broker) = broker("recover_delivers_again_what_was_not_acknowledged") else {
        return;
    };
    let uri = format!(
        "{}?jms.redeliveryPolicy.initialRedeliveryDelay=20&jms.redeliveryPolicy.redeliveryDelay=20&jms.redeliveryPolicy.maximumRedeliveries=2",
        broker.url()
    );
    let connection = connect(&uri).await;
    let queue = Destination::queue("recover");
    send(&connection, &queue, 3).await;
    let session = session(&connection, AcknowledgeMode::Client).await;
    let consumer = consumer(&session, &queue).await;
    assert_eq!(receive_texts(&consumer, 2).await, numbers(1..=2));
    for round in 2..=3 {
        session.recover().await.unwrap();
        let again = receive(&consumer).await;
        assert_eq!((text(&again), again.delivery_count()), ("1".into(), round));
        assert!(again.redelivered());
        assert_eq!(text(&receive(&consumer).await), "2");
    }
    // The third redelivery is one too many.
    session.recover().await.unwrap();
    let next = receive(&consumer).await;
    assert_eq!((text(&next), next.delivery_count()), ("3".into(), 1));
    next.acknowledge().await.unwrap();
    assert_eq!(connection.stats().poisoned, 2);
    close(&connection).await;
    assert_eq!(left(&broker, &queue).await, Vec::<String>::new());
    assert_eq!(
        left(&broker, &Destination::queue("ActiveMQ.DLQ")).await,
        numbers(1..=2)
    );
}

#[tokio::test]
async fn individual_acknowledges_one_message() {
    let Some(broker) = broker("individual_acknowledges_one_message") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let queue = Destination::queue("individual");
    send(&connection, &queue, 30).await;
    let session = session(&connection, AcknowledgeMode::Individual).await;
    let consumer = session
        .create_consumer_with(&queue, ConsumerOptions::with_prefetch(4))
        .await
        .unwrap();
    let mut messages = Vec::new();
    for _ in 0..20 {
        messages.push(receive(&consumer).await);
    }
    for (at, message) in messages.iter().enumerate() {
        if at % 3 != 0 {
            message.acknowledge().await.unwrap();
            // Once more changes nothing.
            message.acknowledge().await.unwrap();
        }
    }
    close(&connection).await;
    let expected: Vec<String> = (1..=30)
        .filter(|number| *number > 20 || (number - 1) % 3 == 0)
        .map(|number: usize| number.to_string())
        .collect();
    assert_eq!(left(&broker, &queue).await, expected);
}

#[tokio::test]
async fn dups_ok_collects_acknowledgements_on_topics_only() {
    let Some(broker) = broker("dups_ok_collects_acknowledgements_on_topics_only") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let session = session(&connection, AcknowledgeMode::DupsOk).await;
    let topic = Destination::topic("dups");
    let from_topic = session
        .create_consumer_with(&topic, ConsumerOptions::with_prefetch(10))
        .await
        .unwrap();
    send(&connection, &topic, 100).await;
    assert_eq!(receive_texts(&from_topic, 100).await, numbers(1..=100));
    let queue = Destination::queue("dups");
    send(&connection, &queue, 3).await;
    let from_queue = consumer(&session, &queue).await;
    assert_eq!(receive_texts(&from_queue, 2).await, numbers(1..=2));
    close(&connection).await;
    assert_eq!(left(&broker, &queue).await, numbers(3..=3));
}

#[tokio::test]
async fn optimized_acknowledgements_are_complete_after_closing() {
    let Some(broker) = broker("optimized_acknowledgements_are_complete_after_closing") else {
        return;
    };
    let connection = connect(&format!("{}?jms.optimizeAcknowledge=true", broker.url())).await;
    let queue = Destination::queue("optimized");
    send(&connection, &queue, 50).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let consumer = session
        .create_consumer_with(&queue, ConsumerOptions::with_prefetch(20))
        .await
        .unwrap();
    assert_eq!(receive_texts(&consumer, 45).await, numbers(1..=45));
    consumer.close().await.unwrap();
    close(&connection).await;
    assert_eq!(left(&broker, &queue).await, numbers(46..=50));
}

#[tokio::test]
async fn acknowledgements_can_be_waited_for() {
    let Some(broker) = broker("acknowledgements_can_be_waited_for") else {
        return;
    };
    let connection = connect(&format!("{}?jms.sendAcksAsync=false", broker.url())).await;
    let queue = Destination::queue("sync.acks");
    send(&connection, &queue, 4).await;
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let from_auto = consumer(&auto, &queue).await;
    assert_eq!(receive_texts(&from_auto, 2).await, numbers(1..=2));
    from_auto.close().await.unwrap();
    let client = session(&connection, AcknowledgeMode::Client).await;
    let from_client = consumer(&client, &queue).await;
    receive(&from_client).await.acknowledge().await.unwrap();
    close(&connection).await;
    assert_eq!(left(&broker, &queue).await, numbers(4..=4));
}

#[tokio::test]
async fn expired_messages_are_not_shown() {
    let Some(broker) = broker("expired_messages_are_not_shown") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let queue = Destination::queue("expired");
    let session = session(&connection, AcknowledgeMode::Client).await;
    let consumer = consumer(&session, &queue).await;
    let sender = producer(&session, &queue).await;
    let mut short = SendOptions::default();
    short.time_to_live = Duration::from_millis(200);
    short.delivery_mode = DeliveryMode::Persistent;
    sender.send("1").await.unwrap();
    sender.send_with("dead", short).await.unwrap();
    sender.send("2").await.unwrap();
    assert_eq!(text(&receive(&consumer).await), "1");
    // The broker has sent all three ahead by now; the second one dies here.
    let dead = std::time::SystemTime::now() + short.time_to_live;
    soon("expiring", async {
        while std::time::SystemTime::now() <= dead {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let last = receive(&consumer).await;
    assert_eq!(text(&last), "2");
    last.acknowledge().await.unwrap();
    assert_eq!(connection.stats().expired, 1);
    close(&connection).await;
    assert_eq!(left(&broker, &queue).await, Vec::<String>::new());
}

#[tokio::test]
async fn prefetch_zero_asks_for_each_message() {
    let Some(broker) = broker("prefetch_zero_asks_for_each_message") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let queue = Destination::queue("pull");
    for mode in [
        AcknowledgeMode::Auto,
        AcknowledgeMode::Client,
        AcknowledgeMode::Transacted,
    ] {
        let session = session(&connection, mode).await;
        let consumer = session
            .create_consumer_with(&queue, ConsumerOptions::with_prefetch(0))
            .await
            .unwrap();
        assert!(
            soon("asking", consumer.receive_no_wait())
                .await
                .unwrap()
                .is_none()
        );
        let nothing = consumer.receive_timeout(Duration::from_millis(50));
        assert!(soon("asking", nothing).await.unwrap().is_none());
        send(&connection, &queue, 4).await;
        let first = soon("asking", consumer.receive_no_wait()).await.unwrap().unwrap();
        assert_eq!(text(&first), "1");
        let second = soon("asking", consumer.receive_timeout(Duration::from_secs(10)))
            .await
            .unwrap();
        assert_eq!(text(&second.unwrap()), "2");
        // What was not asked for stays with the broker.
        let other = session
            .create_consumer_with(&queue, ConsumerOptions::with_prefetch(0))
            .await
            .unwrap();
        assert_eq!(text(&receive(&other).await), "3");
        let waiting = async {
            assert_eq!(text(&receive(&consumer).await), "4");
            receive(&consumer).await
        };
        let (last, ()) = tokio::join!(waiting, send(&connection, &queue, 1));
        assert_eq!(text(&last), "1");
        match mode {
            AcknowledgeMode::Client => last.acknowledge().await.unwrap(),
            AcknowledgeMode::Transacted => session.commit().await.unwrap(),
            _ => {}
        }
        session.close().await.unwrap();
    }
    close(&connection).await;
    assert_eq!(left(&broker, &queue).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_listener_that_fails_gets_the_message_again() {
    let Some(broker) = broker("a_listener_that_fails_gets_the_message_again") else {
        return;
    };
    let uri = format!("{}?jms.redeliveryPolicy.initialRedeliveryDelay=10", broker.url());
    let connection = connect(&uri).await;
    let queue = Destination::queue("listener");
    send(&connection, &queue, 3).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let seen: Arc<Mutex<Vec<(String, i32)>>> = Arc::default();
    let (done, mut finished) = tokio::sync::mpsc::channel(1);
    let record = seen.clone();
    let listener = consumer(&session, &queue)
        .await
        .listen(move |message: Message| {
            let (record, done) = (record.clone(), done.clone());
            async move {
                let (text, count) = (text(&message), message.delivery_count());
                record.lock().push((text.clone(), count));
                if text == "2" && count == 1 {
                    return Err("not now");
                }
                if text == "3" {
                    let _ = done.send(()).await;
                }
                Ok(())
            }
        })
        .unwrap();
    soon("listening", finished.recv()).await.unwrap();
    soon("closing", listener.close()).await.unwrap();
    let expected = [("1", 1), ("2", 1), ("2", 2), ("3", 1)];
    let expected: Vec<_> = expected.map(|(text, count)| (text.to_owned(), count)).into();
    assert_eq!(*seen.lock(), expected);
    close(&connection).await;
    assert_eq!(left(&broker, &queue).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_consumer_is_a_stream_and_a_stopped_connection_is_silent() {
    let Some(broker) = broker("a_consumer_is_a_stream_and_a_stopped_connection_is_silent") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let queue = Destination::queue("stream");
    send(&connection, &queue, 4).await;
    connection.stop().await.unwrap();
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let mut consumer = consumer(&session, &queue).await;
    assert!(consumer.receive_timeout(QUIET).await.unwrap().is_none());
    connection.start().await.unwrap();
    let texts: Vec<String> = soon(
        "streaming",
        consumer.by_ref().take(4).map(|m| text(&m.unwrap())).collect(),
    )
    .await;
    assert_eq!(texts, numbers(1..=4));
    let end = async {
        let (next, ()) = tokio::join!(consumer.next(), async { session.close().await.unwrap() });
        next
    };
    assert!(soon("ending", end).await.is_none());
    close(&connection).await;
}

#[tokio::test]
async fn a_receive_that_is_given_up_loses_nothing() {
    let Some(broker) = broker("a_receive_that_is_given_up_loses_nothing") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let queue = Destination::queue("cancelled");
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let consumer = consumer(&session, &queue).await;
    let sending = send(&connection, &queue, 200);
    let receiving = async {
        let mut texts = Vec::new();
        while texts.len() < 200 {
            if let Ok(message) = tokio::time::timeout(Duration::from_micros(50), consumer.receive()).await {
                texts.push(text(&message.unwrap()));
            }
        }
        texts
    };
    let ((), texts) = soon("both", async { tokio::join!(sending, receiving) }).await;
    assert_eq!(texts, numbers(1..=200));
    close(&connection).await;
}
