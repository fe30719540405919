//! Browsers and durable subscriptions.

use openwire_client::{Browser, ConsumerOptions};

use super::*;

async fn browser(session: &Session, queue: &Destination) -> Browser {
    soon("creating a browser", session.create_browser(queue))
        .await
        .expect("the broker allows it")
}

async fn browse(browser: &mut Browser) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(message) = soon("browsing", browser.next()).await.expect("it goes on") {
        texts.push(text(&message));
    }
    texts
}

fn numbers(numbers: std::ops::RangeInclusive<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn a_browser_shows_the_queue_and_consumes_nothing() {
    let Some(broker) = broker("a_browser_shows_the_queue_and_consumes_nothing") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let queue = Destination::queue("browsed");
    send(&connection, &queue, 100).await;
    for mode in [
        AcknowledgeMode::Auto,
        AcknowledgeMode::Client,
        AcknowledgeMode::Transacted,
    ] {
        let session = session(&connection, mode).await;
        // One that fits into its prefetch, one that has to ask for more on the way, one that asks for each message.
        for prefetch in [None, Some(7), Some(1), Some(0)] {
            let mut options = ConsumerOptions::default();
            options.prefetch = prefetch;
            let mut browser = soon("browsing", session.create_browser_with(&queue, options))
                .await
                .expect("the broker allows it");
            assert_eq!(
                browse(&mut browser).await,
                numbers(1..=100),
                "{mode:?} {prefetch:?}"
            );
            assert!(
                soon("browsing", browser.next()).await.unwrap().is_none(),
                "the end stays the end"
            );
        }
        if mode == AcknowledgeMode::Transacted {
            soon("rolling back", session.rollback())
                .await
                .expect("there is nothing to roll back");
        } else {
            session.recover().await.expect("there is nothing to recover");
        }
    }
    assert_eq!(left(&broker, &queue).await, numbers(1..=100));
    close(&connection).await;
}

#[tokio::test]
async fn a_browser_sees_what_its_selector_lets_through() {
    let Some(broker) = broker("a_browser_sees_what_its_selector_lets_through") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let queue = Destination::queue("browsed.selected");
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = producer(&session, &queue).await;
    for number in 1..=10 {
        let mut message = Message::text(number.to_string());
        message.set_property("number", number).expect("a number is fine");
        soon("sending", producer.send(message))
            .await
            .expect("the broker takes it");
    }
    let options = ConsumerOptions::with_selector("number > 7");
    let mut browser = soon("browsing", session.create_browser_with(&queue, options))
        .await
        .expect("the selector is fine");
    assert_eq!(browse(&mut browser).await, numbers(8..=10));
    let wrong = ConsumerOptions::with_selector("number >");
    let error = soon("browsing", session.create_browser_with(&queue, wrong))
        .await
        .expect_err("the selector is wrong");
    assert!(error.is_invalid_selector(), "{error}");
    let error = session
        .create_browser(&Destination::topic("browsed"))
        .await
        .expect_err("a topic has nothing to browse");
    assert!(error.is_invalid_destination(), "{error}");
    close(&connection).await;
}

#[tokio::test]
async fn an_empty_queue_is_browsed_to_its_end() {
    let Some(broker) = broker("an_empty_queue_is_browsed_to_its_end") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let mut browser = browser(&session, &Destination::queue("browsed.empty")).await;
    assert_eq!(browse(&mut browser).await, Vec::<String>::new());
    close(&connection).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_says_that_its_connection_broke() {
    let Some(broker) = broker("a_browser_says_that_its_connection_broke") else {
        return;
    };
    let connection = connect(&format!("failover:({})?maxReconnectDelay=100", broker.url())).await;
    let queue = Destination::queue("browsed.broken");
    let session = session(&connection, AcknowledgeMode::Auto).await;
    send(&connection, &queue, 3).await;
    // With so small a prefetch the broker cannot have shown the end when it dies.
    let options = ConsumerOptions::with_prefetch(1);
    let mut browser = soon("browsing", session.create_browser_with(&queue, options))
        .await
        .expect("the broker allows it");
    assert!(soon("browsing", browser.next()).await.unwrap().is_some());
    tokio::task::block_in_place(|| broker.restart());
    let error = loop {
        match soon("browsing", browser.next()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the queue has no end that this browser could have seen"),
            Err(error) => break error,
        }
    };
    assert!(error.is_interrupted(), "{error}");
    let mut again = soon("browsing", session.create_browser(&queue))
        .await
        .expect("the broker is back");
    assert_eq!(browse(&mut again).await, Vec::<String>::new());
    close(&connection).await;
}

async fn connect_as(broker: &ActiveMq, client_id: &str) -> Connection {
    let uri = format!(
        "failover:({})?maxReconnectDelay=100&jms.clientID={client_id}",
        broker.url()
    );
    connect(&uri).await
}

async fn subscriber(session: &Session, topic: &Destination) -> Consumer {
    soon("subscribing", session.create_durable_subscriber(topic, "all"))
        .await
        .expect("the broker allows it")
}

#[tokio::test]
async fn a_durable_subscription_keeps_what_comes_while_nobody_is_there() {
    let Some(broker) = broker("a_durable_subscription_keeps_what_comes_while_nobody_is_there") else {
        return;
    };
    let topic = Destination::topic("kept");
    let others = connect(&broker.url()).await;
    for mode in [
        AcknowledgeMode::Auto,
        AcknowledgeMode::Client,
        AcknowledgeMode::Transacted,
    ] {
        let connection = connect_as(&broker, "keeper").await;
        let session = session(&connection, mode).await;
        drop(subscriber(&session, &topic).await);
        close(&connection).await;
        send(&others, &topic, 10).await;
        let connection = connect_as(&broker, "keeper").await;
        let session = self::session(&connection, mode).await;
        let consumer = subscriber(&session, &topic).await;
        let mut texts = Vec::new();
        for _ in 0..10 {
            let message = receive(&consumer).await;
            texts.push(text(&message));
            if mode == AcknowledgeMode::Client {
                message.acknowledge().await.expect("it is acknowledged");
            }
        }
        assert_eq!(texts, numbers(1..=10));
        if mode == AcknowledgeMode::Transacted {
            soon("committing", session.commit())
                .await
                .expect("it is committed");
        }
        let error = soon("unsubscribing", session.unsubscribe("all"))
            .await
            .expect_err("it is in use");
        assert!(error.throwable().is_some(), "{error}");
        consumer.close().await.unwrap();
        soon("unsubscribing", session.unsubscribe("all"))
            .await
            .expect("nobody uses it now");
        let error = soon("unsubscribing", session.unsubscribe("all"))
            .await
            .expect_err("it is gone");
        assert!(error.is_invalid_destination(), "{error}");
        soon("closing", connection.close()).await.unwrap();
    }
    close(&others).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_subscription_lives_on_over_a_break() {
    let store = tempfile::TempDir::new().expect("there is room for temporary files");
    let Some(peers) = Peers::find("a_durable_subscription_lives_on_over_a_break") else {
        return;
    };
    let broker = peers.start(&["--persistent", &store.path().display().to_string()]);
    let connection = connect_as(&broker, "lasting").await;
    let topic = Destination::topic("lasting");
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let consumer = subscriber(&session, &topic).await;
    send(&connection, &topic, 3).await;
    assert_eq!(receive_texts(&consumer, 3).await, numbers(1..=3));
    tokio::task::block_in_place(|| broker.restart());
    send(&connection, &topic, 3).await;
    assert_eq!(receive_texts(&consumer, 3).await, numbers(1..=3));
    close(&connection).await;
}

#[tokio::test]
async fn a_durable_subscription_needs_a_client_id_a_name_and_a_topic() {
    let Some(broker) = broker("a_durable_subscription_needs_a_client_id_a_name_and_a_topic") else {
        return;
    };
    let anonymous = connect(&broker.url()).await;
    let topic = Destination::topic("refused");
    let session = session(&anonymous, AcknowledgeMode::Auto).await;
    let error = session
        .create_durable_subscriber(&topic, "all")
        .await
        .unwrap_err();
    assert!(error.is_illegal_state(), "{error}");
    assert!(session.unsubscribe("all").await.unwrap_err().is_illegal_state());
    close(&anonymous).await;
    let connection = connect_as(&broker, "named").await;
    let session = self::session(&connection, AcknowledgeMode::Auto).await;
    let error = session.create_durable_subscriber(&topic, "").await.unwrap_err();
    assert!(error.is_invalid(), "{error}");
    let queue = Destination::queue("refused");
    let error = session
        .create_durable_subscriber(&queue, "all")
        .await
        .unwrap_err();
    assert!(error.is_invalid_destination(), "{error}");
    close(&connection).await;
}
