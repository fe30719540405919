//! When messages come again, and how they are acknowledged then.

use std::time::{Duration, Instant};

use openwire_client::ConnectionFactory;
use openwire_client::options::RedeliveryPolicy;

use super::*;

scenes! { [] =>
    a_redelivery_that_waits_holds_up_what_is_behind_it,
    a_redelivery_need_not_hold_up_what_is_behind_it,
    destinations_have_redelivery_policies_of_their_own,
    delays_grow_as_the_policy_says,
    what_was_delivered_too_often_is_dead_before_it_is_shown,
    higher_priorities_overtake_within_what_was_dispatched,
    each_message_of_a_transaction_is_acknowledged_on_its_own,
    acknowledgements_in_batches_are_sent_on_time,
    what_has_expired_on_the_way_is_not_shown,
}

async fn connect_with(factory: ConnectionFactory) -> Connection {
    let connection = soon("connecting", factory.create_connection())
        .await
        .expect("the broker accepts");
    connection.start().await.expect("the connection is open");
    connection
}

/// Redeliveries come after this, and so do further ones.
fn constant(delay: Duration) -> RedeliveryPolicy {
    let mut policy = RedeliveryPolicy::default();
    policy.initial_redelivery_delay = delay;
    policy.redelivery_delay = delay;
    policy
}

mod scene {
    use super::*;

    pub(super) async fn a_redelivery_that_waits_holds_up_what_is_behind_it(url: &str) {
        let delay = Duration::from_millis(400);
        let connection = connect(&format!(
            "{url}?jms.redeliveryPolicy.initialRedeliveryDelay={}",
            delay.as_millis()
        ))
        .await;
        let queue = Destination::queue("redelivery.blocking");
        send(&connection, &queue, 3).await;
        let session = session(&connection, AcknowledgeMode::Transacted).await;
        let consumer = consumer(&session, &queue).await;
        assert_eq!(text(&receive(&consumer).await), "1");
        let began = Instant::now();
        soon("rolling back", session.rollback()).await.unwrap();
        assert_eq!(receive_texts(&consumer, 3).await, numbers(1..=3));
        assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
        soon("committing", session.commit()).await.unwrap();
        close(&connection).await;
    }

    pub(super) async fn a_redelivery_need_not_hold_up_what_is_behind_it(url: &str) {
        let delay = Duration::from_millis(600);
        let connection = connect(&format!(
            "{url}?jms.nonBlockingRedelivery=true&jms.redeliveryPolicy.initialRedeliveryDelay={}",
            delay.as_millis()
        ))
        .await;
        let queue = Destination::queue("redelivery.passing");
        send(&connection, &queue, 4).await;
        let session = session(&connection, AcknowledgeMode::Transacted).await;
        let consumer = consumer(&session, &queue).await;
        assert_eq!(receive_texts(&consumer, 2).await, numbers(1..=2));
        let began = Instant::now();
        soon("rolling back", session.rollback()).await.unwrap();
        assert_eq!(receive_texts(&consumer, 2).await, numbers(3..=4));
        soon("committing", session.commit()).await.unwrap();
        assert!(consumer.receive_no_wait().await.unwrap().is_none());
        for number in 1..=2 {
            let message = receive(&consumer).await;
            assert_eq!(
                (text(&message), message.delivery_count()),
                (number.to_string(), 2)
            );
        }
        assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
        soon("committing", session.commit()).await.unwrap();
        close(&connection).await;
        assert_eq!(left_at(url, &queue).await, Vec::<String>::new());
    }

    pub(super) async fn destinations_have_redelivery_policies_of_their_own(url: &str) {
        let mut factory = ConnectionFactory::new(url).unwrap();
        let options = factory.options_mut();
        options.redelivery_policy = constant(Duration::ZERO);
        let mut never = constant(Duration::ZERO);
        never.maximum_redeliveries = Some(0);
        options
            .redelivery_policy_map
            .put(Destination::queue("redelivery.never.>"), never);
        let connection = connect_with(factory).await;
        let (never, often) = (
            Destination::queue("redelivery.never.a"),
            Destination::queue("redelivery.often"),
        );
        for (queue, again) in [(never, false), (often, true)] {
            send(&connection, &queue, 1).await;
            let session = session(&connection, AcknowledgeMode::Transacted).await;
            let consumer = consumer(&session, &queue).await;
            receive(&consumer).await;
            soon("rolling back", session.rollback()).await.unwrap();
            match again {
                true => assert_eq!(receive_texts(&consumer, 1).await, ["1"]),
                false => assert!(consumer.receive_timeout(QUIET).await.unwrap().is_none()),
            }
            soon("committing", session.commit()).await.unwrap();
        }
        close(&connection).await;
        assert_eq!(left_at(url, &Destination::queue("ActiveMQ.DLQ")).await, ["1"]);
    }

    pub(super) async fn delays_grow_as_the_policy_says(url: &str) {
        let connection = connect(&format!(
            "{url}?jms.redeliveryPolicy.initialRedeliveryDelay=100&jms.redeliveryPolicy.useExponentialBackOff=true\
             &jms.redeliveryPolicy.backOffMultiplier=3&jms.redeliveryPolicy.redeliveryDelay=100\
             &jms.redeliveryPolicy.maximumRedeliveryDelay=500"
        ))
        .await;
        let queue = Destination::queue("redelivery.growing");
        send(&connection, &queue, 1).await;
        let session = session(&connection, AcknowledgeMode::Transacted).await;
        let consumer = consumer(&session, &queue).await;
        receive(&consumer).await;
        for wanted in [100, 300, 500, 500] {
            let began = Instant::now();
            soon("rolling back", session.rollback()).await.unwrap();
            receive(&consumer).await;
            let waited = began.elapsed();
            assert!(
                waited >= Duration::from_millis(wanted),
                "{waited:?}, not {wanted}"
            );
        }
        soon("committing", session.commit()).await.unwrap();
        close(&connection).await;
    }

    pub(super) async fn what_was_delivered_too_often_is_dead_before_it_is_shown(url: &str) {
        let queue = Destination::queue("redelivery.dispatched");
        let zero = "jms.redeliveryPolicy.initialRedeliveryDelay=0&jms.redeliveryPolicy.redeliveryDelay=0";
        let connection = connect(&format!("{url}?{zero}")).await;
        send(&connection, &queue, 1).await;
        let session = session(&connection, AcknowledgeMode::Transacted).await;
        let consumer = consumer(&session, &queue).await;
        for _ in 0..3 {
            receive(&consumer).await;
            soon("rolling back", session.rollback()).await.unwrap();
        }
        receive(&consumer).await;
        close(&connection).await;
        // What a client has counted by itself its broker does not know.
        let strict = "jms.redeliveryPolicy.maximumRedeliveries=0";
        let connection = connect(&format!(
            "{url}?{strict}&jms.redeliveryPolicy.preDispatchCheck=false"
        ))
        .await;
        let session = super::session(&connection, AcknowledgeMode::Client).await;
        let consumer = super::consumer(&session, &queue).await;
        assert_eq!(receive(&consumer).await.delivery_count(), 2);
        close(&connection).await;
        let connection = connect(&format!("{url}?{strict}")).await;
        let session = super::session(&connection, AcknowledgeMode::Auto).await;
        let consumer = super::consumer(&session, &queue).await;
        assert!(consumer.receive_timeout(QUIET).await.unwrap().is_none());
        assert_eq!(connection.stats().poisoned, 1);
        close(&connection).await;
        assert_eq!(left_at(url, &Destination::queue("ActiveMQ.DLQ")).await, ["1"]);
    }

    pub(super) async fn higher_priorities_overtake_within_what_was_dispatched(url: &str) {
        for (option, wanted) in [
            ("true", ["9", "9", "4", "4", "0", "0"]),
            ("false", ["0", "4", "9", "0", "4", "9"]),
        ] {
            let connection = connect(&format!("{url}?jms.messagePrioritySupported={option}")).await;
            let queue = Destination::queue("priorities");
            let session = session(&connection, AcknowledgeMode::Client).await;
            let consumer = consumer(&session, &queue).await;
            let mut producer = producer(&session, &queue).await;
            for priority in [0, 4, 9, 0, 4, 9] {
                producer.set_priority(priority).unwrap();
                soon("sending", producer.send(priority.to_string()))
                    .await
                    .unwrap();
            }
            soon("dispatching", async {
                while connection.stats().dispatched < 6 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            let mut texts = Vec::new();
            for _ in 0..6 {
                let message = receive(&consumer).await;
                texts.push(text(&message));
                // In the order of delivery, which is not that of dispatch.
                soon("acknowledging", message.acknowledge()).await.unwrap();
            }
            assert_eq!(texts, wanted);
            close(&connection).await;
            assert_eq!(left_at(url, &queue).await, Vec::<String>::new());
        }
    }

    pub(super) async fn each_message_of_a_transaction_is_acknowledged_on_its_own(url: &str) {
        let connection = connect(&format!(
            "{url}?jms.transactedIndividualAck=true&jms.redeliveryPolicy.initialRedeliveryDelay=0"
        ))
        .await;
        let queue = Destination::queue("redelivery.individual");
        send(&connection, &queue, 20).await;
        let session = session(&connection, AcknowledgeMode::Transacted).await;
        let options = ConsumerOptions::with_prefetch(4);
        let consumer = soon("consuming", session.create_consumer_with(&queue, options))
            .await
            .unwrap();
        assert_eq!(receive_texts(&consumer, 10).await, numbers(1..=10));
        soon("rolling back", session.rollback()).await.unwrap();
        assert_eq!(receive_texts(&consumer, 15).await, numbers(1..=15));
        soon("committing", session.commit()).await.unwrap();
        assert_eq!(receive_texts(&consumer, 1).await, ["16"]);
        close(&connection).await;
        assert_eq!(left_at(url, &queue).await, numbers(16..=20));
    }

    pub(super) async fn acknowledgements_in_batches_are_sent_on_time(url: &str) {
        let queue = Destination::queue("redelivery.batches");
        let options = "jms.optimizeAcknowledge=true&jms.optimizeAcknowledgeTimeOut=0";
        for (more, acknowledged) in [("", false), ("&jms.optimizedAckScheduledAckInterval=50", true)] {
            let connection = connect(&format!("{url}?{options}{more}")).await;
            send(&connection, &queue, 3).await;
            let session = session(&connection, AcknowledgeMode::Auto).await;
            let consumer = consumer(&session, &queue).await;
            assert_eq!(receive_texts(&consumer, 3).await, numbers(1..=3));
            if acknowledged {
                soon("acknowledging", async {
                    while connection.stats().acknowledged < 3 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                })
                .await;
            } else {
                assert_eq!(connection.stats().acknowledged, 0);
            }
            close(&connection).await;
            assert_eq!(left_at(url, &queue).await, Vec::<String>::new());
        }
    }

    pub(super) async fn what_has_expired_on_the_way_is_not_shown(url: &str) {
        for (check, shown) in [("true", false), ("false", true)] {
            let connection = connect(&format!("{url}?jms.consumerExpiryCheckEnabled={check}")).await;
            let queue = Destination::queue("expired.on.the.way");
            let session = session(&connection, AcknowledgeMode::Auto).await;
            let consumer = consumer(&session, &queue).await;
            let mut producer = producer(&session, &queue).await;
            let lives = Duration::from_millis(200);
            producer.set_time_to_live(lives);
            soon("sending", producer.send("short-lived")).await.unwrap();
            soon("dispatching", async {
                while connection.stats().dispatched < 1 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            // Time has to pass.
            tokio::time::sleep(2 * lives).await;
            let message = consumer.receive_timeout(QUIET).await.unwrap();
            assert_eq!(message.is_some(), shown);
            assert_eq!(connection.stats().expired, u64::from(!shown));
            close(&connection).await;
        }
        assert_eq!(
            left_at(url, &Destination::queue("ActiveMQ.DLQ")).await,
            ["short-lived"]
        );
    }
}
