//! Which consumer gets a message: groups, exclusive consumers, priorities.

use super::*;

scenes! { [] =>
    a_group_stays_with_its_consumer_until_it_is_closed,
    an_exclusive_consumer_gets_all_and_another_one_follows,
    consumers_of_a_higher_priority_come_first,
}

async fn send_to_group(producer: &Producer, group: &str, sequence: i32, text: &str) {
    let mut message = Message::text(text);
    message.set_group(group, sequence);
    soon("sending", producer.send(message))
        .await
        .expect("the broker takes it");
}

async fn consumer_with(session: &Session, queue: &Destination, options: ConsumerOptions) -> Consumer {
    soon("consuming", session.create_consumer_with(queue, options))
        .await
        .expect("the broker allows it")
}

/// The next message of whichever gets it.
async fn either(first: &Consumer, second: &Consumer) -> (usize, Message) {
    soon("receiving", async {
        tokio::select! {
            message = first.receive() => (0, message.expect("it is open")),
            message = second.receive() => (1, message.expect("it is open")),
        }
    })
    .await
}

mod scene {
    use super::*;

    pub(super) async fn a_group_stays_with_its_consumer_until_it_is_closed(url: &str) {
        let connection = connect(url).await;
        let queue = Destination::queue("groups");
        let one = session(&connection, AcknowledgeMode::Auto).await;
        let two = session(&connection, AcknowledgeMode::Auto).await;
        let (first, second) = (consumer(&one, &queue).await, consumer(&two, &queue).await);
        let producer = producer(&one, &queue).await;
        let mut owner = None;
        for number in 1..=6 {
            send_to_group(&producer, "a", 0, &number.to_string()).await;
            let (who, message) = either(&first, &second).await;
            assert_eq!(text(&message), number.to_string());
            assert_eq!(*owner.get_or_insert(who), who);
            assert_eq!(message.group_id(), Some("a"));
            assert_eq!(message.is_group_first_for_consumer(), number == 1);
        }
        // A negative number closes it, and whoever is next gets it then.
        send_to_group(&producer, "a", -1, "last").await;
        let (who, message) = either(&first, &second).await;
        assert_eq!((Some(who), message.group_sequence()), (owner, -1));
        send_to_group(&producer, "a", 0, "new").await;
        let (who, message) = either(&first, &second).await;
        assert!(message.is_group_first_for_consumer());
        // The owner goes, and the group with it.
        match who {
            0 => drop(first),
            _ => drop(second),
        }
        send_to_group(&producer, "a", 0, "inherited").await;
        let heir = consumer(&one, &queue).await;
        drop(heir);
        close(&connection).await;
    }

    pub(super) async fn an_exclusive_consumer_gets_all_and_another_one_follows(url: &str) {
        let connection = connect(url).await;
        let queue = Destination::queue("exclusive");
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let mut options = ConsumerOptions::default();
        options.exclusive = Some(true);
        let first = consumer_with(&session, &queue, options).await;
        // The same as an option of the destination.
        let second = consumer(&session, &Destination::queue("exclusive?consumer.exclusive=true")).await;
        send(&connection, &queue, 20).await;
        assert_eq!(receive_texts(&first, 20).await, numbers(1..=20));
        assert!(second.receive_timeout(QUIET).await.unwrap().is_none());
        first.close().await.unwrap();
        send(&connection, &queue, 3).await;
        assert_eq!(receive_texts(&second, 3).await, numbers(1..=3));
        close(&connection).await;
    }

    pub(super) async fn consumers_of_a_higher_priority_come_first(url: &str) {
        let connection = connect(url).await;
        let queue = Destination::queue("preferred");
        let session = session(&connection, AcknowledgeMode::Client).await;
        let mut low = ConsumerOptions::with_prefetch(5);
        low.priority = -1;
        let mut high = low.clone();
        high.priority = 10;
        let low = consumer_with(&session, &queue, low).await;
        let high = consumer_with(&session, &queue, high).await;
        send(&connection, &queue, 7).await;
        // What the preferred one has no room for goes to the other.
        assert_eq!(receive_texts(&low, 2).await, numbers(6..=7));
        assert_eq!(receive_texts(&high, 2).await, numbers(1..=2));
        close(&connection).await;
    }
}
