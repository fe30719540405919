//! Sending, replying, and what the real Java client makes of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use openwire_client::{AcknowledgeMode, ConsumerOptions, DeliveryMode, Destination, Message, SendOptions};
use tests::soon;

use super::*;

#[tokio::test]
async fn a_message_goes_there_and_back() {
    let Some(broker) = broker("a_message_goes_there_and_back") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let queue = Destination::queue("there.and.back");
    let mut producer = producer(&session, &queue).await;
    let consumer = consumer(&session, &queue).await;
    for mode in [DeliveryMode::Persistent, DeliveryMode::NonPersistent] {
        producer.set_delivery_mode(mode);
        let id = soon("sending", producer.send("hello")).await.unwrap();
        let message = receive(&consumer).await;
        assert_eq!(text(&message), "hello");
        assert_eq!(message.message_id(), Some(id.to_string()));
        assert_eq!(message.delivery_mode(), mode);
        assert_eq!(message.destination(), Some(&queue));
        assert_eq!((message.delivery_count(), message.redelivered()), (1, false));
    }
    let name = connection.metadata().broker_name().map(str::to_owned);
    assert_eq!(name.map(|name| name.is_empty()), Some(false));
    assert_eq!(connection.metadata().wire_version(), 12);
    close(&connection).await;
}

#[tokio::test]
async fn options_of_a_send_arrive() {
    let Some(broker) = broker("options_of_a_send_arrive") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let queue = Destination::queue("options");
    let consumer = consumer(&session, &queue).await;
    let mut anonymous = session.create_anonymous_producer().await.unwrap();
    let mut options = SendOptions::default();
    options.priority = 9;
    options.time_to_live = Duration::from_secs(60);
    options.delivery_mode = DeliveryMode::NonPersistent;
    anonymous.send_to_with(&queue, "1", options).await.unwrap();
    let message = receive(&consumer).await;
    assert_eq!(
        (message.priority(), message.delivery_mode()),
        (9, DeliveryMode::NonPersistent)
    );
    assert_eq!(message.expiration() - message.timestamp(), 60_000);
    anonymous.set_disable_message_timestamp(true);
    anonymous.send_to(&queue, "2").await.unwrap();
    let message = receive(&consumer).await;
    assert_eq!(
        (message.timestamp(), message.expiration(), message.priority()),
        (0, 0, 4)
    );
    assert!(anonymous.send("nowhere").await.unwrap_err().is_illegal_state());
    assert!(anonymous.set_priority(10).is_err());
    let named = producer(&session, &queue).await;
    assert!(named.send_to(&queue, "x").await.unwrap_err().is_illegal_state());
    close(&connection).await;
}

#[tokio::test]
async fn many_sends_are_in_flight_at_once() {
    let Some(broker) = broker("many_sends_are_in_flight_at_once") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let queue = Destination::queue("pipelined");
    let producer = producer(&session, &queue).await;
    let mut receipts = Vec::new();
    for number in 1..=3000 {
        receipts.push(producer.send_pipelined(number.to_string()).await.unwrap());
    }
    soon("the receipts", try_join_all(receipts)).await.unwrap();
    let consumer = consumer(&session, &queue).await;
    assert_eq!(receive_texts(&consumer, 3000).await, numbers(1..=3000));
    close(&connection).await;
}

#[tokio::test]
async fn a_window_holds_a_producer_back_and_opens_again() {
    let Some(broker) = broker("a_window_holds_a_producer_back_and_opens_again") else {
        return;
    };
    let connection = connect(&format!("{}?jms.producerWindowSize=20000", broker.url())).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let queue = Destination::queue("window");
    let mut producer = producer(&session, &queue).await;
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    for _ in 0..500 {
        soon("sending", producer.send(Bytes::from(vec![7; 5000])))
            .await
            .unwrap();
    }
    let consumer = consumer(&session, &queue).await;
    for _ in 0..500 {
        assert_eq!(receive(&consumer).await.as_bytes().unwrap().len(), 5000);
    }
    close(&connection).await;
}

#[tokio::test]
async fn large_and_compressed_bodies_arrive() {
    let Some(broker) = broker("large_and_compressed_bodies_arrive") else {
        return;
    };
    let connection = connect(&format!("{}?jms.useCompression=true", broker.url())).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let queue = Destination::queue("large");
    let producer = producer(&session, &queue).await;
    let consumer = consumer(&session, &queue).await;
    let body: Bytes = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    producer.send(body.clone()).await.unwrap();
    assert_eq!(receive(&consumer).await.as_bytes().unwrap(), body);
    let long = "long ".repeat(100_000);
    producer.send(long.clone()).await.unwrap();
    assert_eq!(text(&receive(&consumer).await), long);
    close(&connection).await;
}

#[tokio::test]
async fn requests_are_answered_over_a_temporary_queue() {
    let Some(broker) = broker("requests_are_answered_over_a_temporary_queue") else {
        return;
    };
    let (client, server) = (connect(&broker.url()).await, connect(&broker.url()).await);
    let requests = Destination::queue("requests");
    let serving = session(&server, AcknowledgeMode::Auto).await;
    let replies = Arc::new(serving.create_anonymous_producer().await.unwrap());
    let _listener = consumer(&serving, &requests)
        .await
        .listen(move |request: Message| {
            let mut reply = Message::text(format!("re: {}", text(&request)));
            reply.set_correlation_id(request.correlation_id());
            let to = request
                .reply_to()
                .cloned()
                .expect("requests say where answers go to");
            let replies = replies.clone();
            async move { replies.send_to(&to, reply).await }
        })
        .unwrap();
    let asking = session(&client, AcknowledgeMode::Auto).await;
    let answers = asking.create_temporary_queue().await.unwrap();
    let inbox = consumer(&asking, &answers).await;
    let ask = producer(&asking, &requests).await;
    for number in 1..=5 {
        let mut request = Message::text(number.to_string());
        request.set_correlation_id(format!("c{number}").as_str());
        request.set_reply_to(answers.destination().clone());
        ask.send(request).await.unwrap();
        let reply = receive(&inbox).await;
        assert_eq!(text(&reply), format!("re: {number}"));
        assert_eq!(reply.correlation_id(), Some(format!("c{number}").as_str()));
    }
    // Nobody else may listen there, and with a consumer it cannot be deleted.
    let foreign = session(&server, AcknowledgeMode::Auto).await;
    let refused = foreign.create_consumer(&answers).await.unwrap_err();
    assert!(refused.is_invalid_destination(), "{refused}");
    assert!(answers.delete().await.unwrap_err().is_illegal_state());
    inbox.close().await.unwrap();
    answers.delete().await.unwrap();
    let to_nobody = foreign.create_producer(&answers).await.unwrap_err();
    assert!(to_nobody.is_invalid_destination(), "{to_nobody}");
    // Whoever answers late hears of it, although nothing is waited for.
    let mut late = foreign.create_anonymous_producer().await.unwrap();
    late.set_delivery_mode(DeliveryMode::NonPersistent);
    let refused = soon("the news", async {
        loop {
            if let Err(error) = late.send_to(&answers, "late").await {
                break error;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(refused.is_invalid_destination(), "{refused}");
    close(&client).await;
    // The broker may have had something to say about what came before the news.
    soon("closing", server.close()).await.unwrap();
}

#[tokio::test]
async fn selectors_and_other_options_reach_the_broker() {
    let Some(broker) = broker("selectors_and_other_options_reach_the_broker") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let topic = Destination::topic("selected");
    let odd = session
        .create_consumer_with(&topic, ConsumerOptions::with_selector("odd = TRUE"))
        .await
        .unwrap();
    assert_eq!(odd.selector(), Some("odd = TRUE"));
    let mut own = ConsumerOptions::default();
    own.no_local = true;
    let not_own = session.create_consumer_with(&topic, own).await.unwrap();
    let by_name = Destination::topic("selected?consumer.selector=odd%20%3D%20FALSE&consumer.prefetchSize=7");
    let even = consumer(&session, &by_name).await;
    let producer = producer(&session, &topic).await;
    for number in 1..=6 {
        let mut message = Message::text(number.to_string());
        message.set_property("odd", number % 2 == 1).unwrap();
        producer.send(message).await.unwrap();
    }
    assert_eq!(receive_texts(&odd, 3).await, ["1", "3", "5"]);
    assert_eq!(receive_texts(&even, 3).await, ["2", "4", "6"]);
    assert!(not_own.receive_timeout(QUIET).await.unwrap().is_none());
    let bad = session
        .create_consumer_with(&Destination::queue("q"), ConsumerOptions::with_selector("odd ="))
        .await
        .unwrap_err();
    assert!(bad.is_invalid_selector(), "{bad}");
    let unknown = session
        .create_consumer(&Destination::queue("q?consumer.prefetchsize=1"))
        .await;
    assert!(unknown.unwrap_err().is_uri());
    close(&connection).await;
}

#[tokio::test]
async fn every_kind_of_message_passes_both_ways_with_the_java_client() {
    let Some(peers) = Peers::find("every_kind_of_message_passes_both_ways_with_the_java_client") else {
        return;
    };
    let broker = peers.start(&[]);
    let connection = connect(&broker.url()).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    for version in [12, 3] {
        let sent = peers.jms(&["Interop", "--url", &broker.url(), "--fixture-send", "fixtures.in"]);
        assert!(sent.success, "{}{}", sent.stdout, sent.stderr);
        let other = connect(&format!("{}?wireFormat.version={version}", broker.url())).await;
        let reading = super::session(&other, AcknowledgeMode::Auto).await;
        let from = consumer(&reading, &Destination::queue("fixtures.in")).await;
        let to = session
            .create_producer(&Destination::queue("fixtures.out"))
            .await
            .unwrap();
        let mut kinds = Vec::new();
        while let Some(message) = from.receive_timeout(Duration::from_secs(1)).await.unwrap() {
            kinds.push(message.property_string("kind").unwrap().unwrap().to_string());
            // Everything is decoded and encoded again, not passed on as it came.
            let mut options = SendOptions::default();
            options.delivery_mode = message.delivery_mode();
            options.priority = message.priority();
            if let Some(end) = message.expires_at() {
                options.time_to_live = end.duration_since(std::time::SystemTime::now()).unwrap();
            }
            to.send_with(rebuilt(&message), options).await.unwrap();
        }
        assert!(!kinds.is_empty());
        close(&other).await;
        let list = kinds.join(",");
        let verified = peers.jms(&[
            "Interop",
            "--url",
            &broker.url(),
            "--fixture-verify",
            "fixtures.out",
            "--kinds",
            &list,
        ]);
        assert!(
            verified.success,
            "version {version}, kinds {list}\n{}{}",
            verified.stdout, verified.stderr
        );
    }
    close(&connection).await;
}

/// The same message, made anew from what its accessors say.
fn rebuilt(message: &Message) -> Message {
    use openwire_client::MessageKind;
    let mut copy = message.clone();
    match message.kind() {
        MessageKind::Text => {
            if let Some(text) = message.as_text().unwrap() {
                copy.set_text(text);
            }
        }
        MessageKind::Bytes => copy.set_bytes(message.as_bytes().unwrap()),
        MessageKind::Map => copy.set_map(message.as_map().unwrap().clone()),
        MessageKind::Stream => copy.set_stream(message.as_stream().unwrap().to_vec()),
        _ => {}
    }
    let properties = message.properties().unwrap().clone();
    copy.clear_properties();
    for (name, value) in properties.iter() {
        copy.set_property(name, value.clone()).unwrap();
    }
    copy
}
