//! Kinds of consumers and destinations.

use super::*;

scenes! { [] =>
    a_consumer_of_a_topic_can_leave_out_what_its_connection_sends,
    a_selector_chooses_and_can_stand_in_the_destination,
    a_pattern_consumes_from_all_that_match,
    a_list_of_destinations_gets_a_copy_each,
    a_list_of_destinations_is_consumed_from_together,
    a_consumer_that_pulls_gets_what_it_asks_for,
    a_retroactive_consumer_is_one_for_the_broker,
    a_durable_subscription_changes_with_its_selector,
    individual_acknowledgements_leave_the_others,
    a_request_is_answered,
}

async fn consumer_with(session: &Session, from: &Destination, options: ConsumerOptions) -> Consumer {
    soon("consuming", session.create_consumer_with(from, options))
        .await
        .expect("the broker allows it")
}

async fn nothing_comes(consumer: &Consumer) {
    let message = consumer.receive_timeout(QUIET).await.unwrap();
    assert!(message.is_none(), "{message:?}");
}

async fn send_numbered(producer: &Producer, numbers: std::ops::RangeInclusive<i32>) {
    for number in numbers {
        let mut message = Message::text(number.to_string());
        message.set_property("number", number).unwrap();
        soon("sending", producer.send(message)).await.unwrap();
    }
}

mod scene {
    use super::*;

    pub(super) async fn a_consumer_of_a_topic_can_leave_out_what_its_connection_sends(url: &str) {
        let (ours, theirs) = (connect(url).await, connect(url).await);
        let topic = Destination::topic("not.local");
        let session = session(&ours, AcknowledgeMode::Auto).await;
        let mut options = ConsumerOptions::default();
        options.no_local = true;
        let consumer = consumer_with(&session, &topic, options).await;
        send(&ours, &topic, 2).await;
        send(&theirs, &topic, 1).await;
        assert_eq!(receive_texts(&consumer, 1).await, ["1"]);
        nothing_comes(&consumer).await;
        close(&ours).await;
        close(&theirs).await;
    }

    pub(super) async fn a_selector_chooses_and_can_stand_in_the_destination(url: &str) {
        let connection = connect(url).await;
        let queue = Destination::queue("selected");
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let producer = producer(&session, &queue).await;
        let even = consumer_with(
            &session,
            &queue,
            ConsumerOptions::with_selector("number = 2 OR number = 4"),
        )
        .await;
        let large = Destination::queue("selected?consumer.selector=number%20%3E%204");
        let large = consumer(&session, &large).await;
        assert_eq!(even.selector(), Some("number = 2 OR number = 4"));
        assert_eq!(large.selector(), Some("number > 4"));
        send_numbered(&producer, 1..=6).await;
        assert_eq!(receive_texts(&even, 2).await, ["2", "4"]);
        assert_eq!(receive_texts(&large, 2).await, ["5", "6"]);
        close(&connection).await;
        assert_eq!(left_at(url, &queue).await, ["1", "3"]);
    }

    pub(super) async fn a_pattern_consumes_from_all_that_match(url: &str) {
        let connection = connect(url).await;
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let pattern = Destination::topic("prices.*.euro");
        assert!(pattern.is_pattern());
        let one = consumer(&session, &pattern).await;
        let all = consumer(&session, &Destination::topic("prices.>")).await;
        let topics = ["prices.gold.euro", "prices.gold.dollar", "prices.oil.euro"].map(Destination::topic);
        for topic in &topics {
            send(&connection, topic, 1).await;
        }
        for wanted in [&topics[0], &topics[2]] {
            assert_eq!(receive(&one).await.destination(), Some(wanted));
        }
        for wanted in &topics {
            assert_eq!(receive(&all).await.destination(), Some(wanted));
        }
        nothing_comes(&one).await;
        close(&connection).await;
    }

    pub(super) async fn a_list_of_destinations_gets_a_copy_each(url: &str) {
        let connection = connect(url).await;
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let topic = consumer(&session, &Destination::topic("copies")).await;
        let list = Destination::queue("copies.a,copies.b,topic://copies");
        assert!(list.is_composite());
        let producer = producer(&session, &list).await;
        soon("sending", producer.send("1")).await.unwrap();
        assert_eq!(receive_texts(&topic, 1).await, ["1"]);
        close(&connection).await;
        for queue in ["copies.a", "copies.b"] {
            assert_eq!(left_at(url, &Destination::queue(queue)).await, ["1"]);
        }
    }

    pub(super) async fn a_list_of_destinations_is_consumed_from_together(url: &str) {
        let connection = connect(url).await;
        for mode in [
            AcknowledgeMode::Auto,
            AcknowledgeMode::Client,
            AcknowledgeMode::Transacted,
        ] {
            let session = session(&connection, mode).await;
            let consumer = consumer(&session, &Destination::queue("together.a,together.b")).await;
            for queue in ["together.a", "together.b", "together.a"].map(Destination::queue) {
                send(&connection, &queue, 1).await;
                let message = receive(&consumer).await;
                assert_eq!(message.destination(), Some(&queue));
                if mode == AcknowledgeMode::Client {
                    soon("acknowledging", message.acknowledge()).await.unwrap();
                }
            }
            if mode == AcknowledgeMode::Transacted {
                soon("committing", session.commit()).await.unwrap();
            }
        }
        close(&connection).await;
        for queue in ["together.a", "together.b"].map(Destination::queue) {
            assert_eq!(left_at(url, &queue).await, Vec::<String>::new());
        }
    }

    pub(super) async fn a_consumer_that_pulls_gets_what_it_asks_for(url: &str) {
        let connection = connect(url).await;
        let queue = Destination::queue("pulled");
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let puller = consumer_with(&session, &queue, ConsumerOptions::with_prefetch(0)).await;
        assert!(soon("asking", puller.receive_no_wait()).await.unwrap().is_none());
        send(&connection, &queue, 3).await;
        assert_eq!(receive_texts(&puller, 1).await, ["1"]);
        // The rest is there for others.
        let other = consumer(&session, &queue).await;
        assert_eq!(receive_texts(&other, 2).await, ["2", "3"]);
        drop(other);
        nothing_comes(&puller).await;
        assert!(
            puller
                .listen(|_| async { Ok::<_, String>(()) })
                .unwrap_err()
                .is_illegal_state()
        );
        close(&connection).await;
    }

    pub(super) async fn a_retroactive_consumer_is_one_for_the_broker(url: &str) {
        use openwire_client::advisory::{AdvisoryEvent, topics};
        let connection = connect(url).await;
        let topic = Destination::topic("retroactive");
        let mut advisories = soon("listening", connection.advisories(&topics::consumers(&topic)))
            .await
            .unwrap();
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let mut options = ConsumerOptions::default();
        options.retroactive = Some(true);
        options.maximum_pending_message_limit = Some(7);
        options.dispatch_async = Some(false);
        options.priority = 3;
        let _consumer = consumer_with(&session, &topic, options).await;
        let told = soon("being told", async {
            loop {
                if let AdvisoryEvent::ConsumerAdded { consumer, .. } = advisories.next().await.unwrap().event
                {
                    return consumer;
                }
            }
        })
        .await;
        assert!(told.retroactive && !told.dispatch_async);
        assert_eq!((told.maximum_pending_message_limit, told.priority), (7, 3));
        close(&connection).await;
    }

    pub(super) async fn a_durable_subscription_changes_with_its_selector(url: &str) {
        let topic = Destination::topic("durable.changed");
        let others = connect(url).await;
        let sender = session(&others, AcknowledgeMode::Auto).await;
        let producer = producer(&sender, &topic).await;
        let subscribe = async |selector: &str| {
            let connection = connect(&format!("{url}?jms.clientID=changing")).await;
            let session = session(&connection, AcknowledgeMode::Auto).await;
            let options = ConsumerOptions::with_selector(selector);
            let consumer = soon(
                "subscribing",
                session.create_durable_subscriber_with(&topic, "some", options),
            )
            .await
            .expect("nobody else uses it");
            (connection, session, consumer)
        };
        let (connection, _, _) = subscribe("number < 3").await;
        close(&connection).await;
        send_numbered(&producer, 1..=4).await;
        // The same one: what it has kept is there.
        let (connection, _session, consumer) = subscribe("number < 3").await;
        assert_eq!(receive_texts(&consumer, 2).await, ["1", "2"]);
        nothing_comes(&consumer).await;
        close(&connection).await;
        send_numbered(&producer, 1..=4).await;
        // Another selector makes it another one, which begins without.
        let (connection, session, consumer) = subscribe("number >= 3").await;
        nothing_comes(&consumer).await;
        send_numbered(&producer, 1..=4).await;
        assert_eq!(receive_texts(&consumer, 2).await, ["3", "4"]);
        consumer.close().await.unwrap();
        soon("unsubscribing", session.unsubscribe("some")).await.unwrap();
        close(&connection).await;
        close(&others).await;
    }

    pub(super) async fn individual_acknowledgements_leave_the_others(url: &str) {
        let connection = connect(url).await;
        let queue = Destination::queue("individual");
        send(&connection, &queue, 4).await;
        let session = session(&connection, AcknowledgeMode::Individual).await;
        let consumer = consumer(&session, &queue).await;
        let mut messages = Vec::new();
        for _ in 0..4 {
            messages.push(receive(&consumer).await);
        }
        for at in [3, 1] {
            soon("acknowledging", messages[at].acknowledge()).await.unwrap();
        }
        close(&connection).await;
        assert_eq!(left_at(url, &queue).await, ["1", "3"]);
    }

    pub(super) async fn a_request_is_answered(url: &str) {
        let (client, service) = (connect(url).await, connect(url).await);
        let queue = Destination::queue("requests");
        let serving = session(&service, AcknowledgeMode::Auto).await;
        let requests = consumer(&serving, &queue).await;
        let answers = soon("answering", serving.create_anonymous_producer())
            .await
            .unwrap();
        let asking = session(&client, AcknowledgeMode::Auto).await;
        let inbox = soon("making it", asking.create_temporary_queue()).await.unwrap();
        let replies = consumer(&asking, &inbox).await;
        let producer = producer(&asking, &queue).await;
        let mut request = Message::text("ping");
        request.set_reply_to(Destination::clone(&inbox));
        let id = soon("asking", producer.send(request)).await.unwrap();

        let request = receive(&requests).await;
        let mut answer = Message::text("pong");
        answer.set_correlation_id(request.message_id().as_deref());
        let to = request.reply_to().expect("it wants an answer");
        soon("answering", answers.send_to(to, answer)).await.unwrap();

        let answer = receive(&replies).await;
        assert_eq!(text(&answer), "pong");
        assert_eq!(answer.correlation_id(), Some(id.to_string().as_str()));
        close(&service).await;
        close(&client).await;
    }
}
