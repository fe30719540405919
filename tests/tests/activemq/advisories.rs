//! What brokers tell about themselves.

use std::time::Duration;

use openwire_client::advisory::{Advisories, AdvisoryEvent, topics};
use openwire_client::{DeliveryMode, DestinationKind, Event};

use super::*;

scenes! { [] =>
    connections_come_and_go,
    consumers_and_producers_come_and_go_and_are_counted,
    destinations_come_and_go,
    all_destinations_are_listed,
    messages_that_expire_and_die_are_told,
    only_advisories_are_listened_to,
}

async fn listen(connection: &Connection, topic: &Destination) -> Advisories {
    soon("listening", connection.advisories(topic))
        .await
        .expect("it is a topic of advisories")
}

/// The first that is such.
async fn find<T>(advisories: &mut Advisories, mut what: impl FnMut(AdvisoryEvent) -> Option<T>) -> T {
    soon("being told", async {
        loop {
            let advisory = advisories.next().await.expect("the connection is open");
            if let Some(found) = what(advisory.event) {
                return found;
            }
        }
    })
    .await
}

/// A broker that tells everything, and holds little of the queue `full`.
const TALKATIVE: &str = r#"<beans xmlns="http://www.springframework.org/schema/beans"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans.xsd
  http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <bean class="org.springframework.beans.factory.config.PropertyPlaceholderConfigurer"/>
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="talkative" persistent="false" useJmx="false"
      dataDirectory="${activemq.data}">
    <destinationPolicy><policyMap><policyEntries>
      <policyEntry queue="full" memoryLimit="40kb" advisoryWhenFull="true" advisoryForFastProducers="true"/>
      <policyEntry queue=">" advisoryForDelivery="true" advisoryForConsumed="true" includeBodyForAdvisory="true"/>
      <policyEntry topic=">" advisoryForSlowConsumers="true" advisoryForDiscardingMessages="true"
          sendAdvisoryIfNoConsumers="true">
        <pendingMessageLimitStrategy><constantPendingMessageLimitStrategy limit="6"/></pendingMessageLimitStrategy>
      </policyEntry>
    </policyEntries></policyMap></destinationPolicy>
    <transportConnectors>
      <transportConnector uri="tcp://127.0.0.1:${activemq.port}"/>
    </transportConnectors>
  </broker>
</beans>"#;

/// One that tells everything it can.
fn talkative(test: &str) -> Option<(tempfile::TempDir, ActiveMq)> {
    let peers = Peers::find(test)?;
    let dir = tempfile::TempDir::new().expect("there is room for temporary files");
    let file = dir.path().join("activemq.xml");
    std::fs::write(&file, TALKATIVE).expect("the file can be written");
    let broker = peers.start(&["--config", &file.display().to_string()]);
    Some((dir, broker))
}

#[tokio::test]
async fn what_becomes_of_messages_is_told() {
    if let Some((_dir, broker)) = talkative("what_becomes_of_messages_is_told") {
        scene::what_becomes_of_messages_is_told(&broker.url()).await;
    }
}

#[tokio::test]
async fn slow_consumers_and_what_they_lose_are_told() {
    if let Some((_dir, broker)) = talkative("slow_consumers_and_what_they_lose_are_told") {
        scene::slow_consumers_and_what_they_lose_are_told(&broker.url()).await;
    }
}

#[tokio::test]
async fn what_is_full_and_who_is_blocked_by_it_is_told() {
    if let Some((_dir, broker)) = talkative("what_is_full_and_who_is_blocked_by_it_is_told") {
        scene::what_is_full_and_who_is_blocked_by_it_is_told(&broker.url()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_begins_anew_with_another_broker() {
    let Some(broker) = broker("the_list_begins_anew_with_another_broker") else {
        return;
    };
    let connection = connect(&format!("failover:({})?maxReconnectDelay=100", broker.url())).await;
    let source = soon("listing", connection.destinations()).await.unwrap();
    let old = Destination::queue("list.old");
    send(&connection, &old, 1).await;
    soon("listing", source.wait_for(|listing| listing.contains(&old)))
        .await
        .unwrap();
    // It keeps nothing.
    tokio::task::block_in_place(|| broker.restart());
    let new = Destination::queue("list.new");
    send(&connection, &new, 1).await;
    soon(
        "listing",
        source.wait_for(|listing| listing.contains(&new) && !listing.contains(&old)),
    )
    .await
    .unwrap();
    close(&connection).await;
}

mod scene {
    use super::*;

    pub(super) async fn connections_come_and_go(url: &str) {
        let watching = connect(url).await;
        let mut advisories = listen(&watching, &topics::connections()).await;
        let client_id = "somebody";
        let other = connect(&format!("{url}?jms.clientID={client_id}")).await;
        let id = find(&mut advisories, |event| match event {
            AdvisoryEvent::ConnectionStarted(info) if info.client_id.as_deref() == Some(client_id) => {
                assert_eq!(info.password.as_deref().unwrap_or_default(), "");
                info.connection_id
            }
            _ => None,
        })
        .await;
        assert_eq!(&id, other.id());
        close(&other).await;
        let gone = find(&mut advisories, |event| match event {
            AdvisoryEvent::ConnectionStopped(id) => Some(id),
            _ => None,
        })
        .await;
        assert_eq!(gone, id);
        advisories.close().await.unwrap();
        close(&watching).await;
    }

    pub(super) async fn consumers_and_producers_come_and_go_and_are_counted(url: &str) {
        let connection = connect(url).await;
        for destination in [
            Destination::queue("told"),
            Destination::topic("told"),
            Destination::queue("told.in.parts"),
        ] {
            let topic = topics::several(&[topics::consumers(&destination), topics::producers(&destination)]);
            let mut advisories = listen(&connection, &topic).await;
            let session = session(&connection, AcknowledgeMode::Auto).await;
            let consumer = consumer(&session, &destination).await;
            let (id, count) = find(&mut advisories, |event| match event {
                AdvisoryEvent::ConsumerAdded {
                    destination: told,
                    consumer,
                    count,
                } => {
                    assert_eq!(told, destination);
                    Some((consumer.consumer_id, count))
                }
                _ => None,
            })
            .await;
            assert_eq!((id.as_ref(), count), (Some(consumer.id()), Some(1)));
            let producer = producer(&session, &destination).await;
            let (id, count) = find(&mut advisories, |event| match event {
                AdvisoryEvent::ProducerAdded { producer, count, .. } => Some((producer.producer_id, count)),
                _ => None,
            })
            .await;
            assert_eq!((id.as_ref(), count), (Some(producer.id()), Some(1)));
            let (consumer_id, producer_id) = (consumer.id().clone(), producer.id().clone());
            drop((consumer, producer));
            // The order of the two is the broker's.
            let mut gone = 0;
            find(&mut advisories, |event| {
                match event {
                    AdvisoryEvent::ConsumerRemoved { consumer, count, .. } => {
                        assert_eq!((&consumer, count), (&consumer_id, Some(0)));
                    }
                    AdvisoryEvent::ProducerRemoved { producer, count, .. } => {
                        assert_eq!((&producer, count), (&producer_id, Some(0)));
                    }
                    _ => return None,
                }
                gone += 1;
                (gone == 2).then_some(())
            })
            .await;
        }
        // A comma in a name does not make the topic several.
        let list = Destination::queue("told.a,told.b");
        let mut advisories = listen(&connection, &topics::consumers(&list)).await;
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let _consumer = consumer(&session, &list).await;
        let advisory = soon("being told", advisories.next()).await.unwrap();
        assert!(advisory.broker_id().is_some() && advisory.broker_name().is_some());
        match advisory.event {
            AdvisoryEvent::ConsumerAdded { destination, .. } => assert_eq!(destination, list),
            other => panic!("{other:?}"),
        }
        close(&connection).await;
    }

    pub(super) async fn destinations_come_and_go(url: &str) {
        let connection = connect(url).await;
        let mut advisories = listen(&connection, &topics::destinations(DestinationKind::TempQueue)).await;
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let temporary = soon("making it", session.create_temporary_queue()).await.unwrap();
        let added = find(&mut advisories, |event| match event {
            AdvisoryEvent::DestinationAdded(destination) => Some(destination),
            _ => None,
        })
        .await;
        assert_eq!(&added, temporary.destination());
        soon("deleting it", temporary.delete()).await.unwrap();
        let removed = find(&mut advisories, |event| match event {
            AdvisoryEvent::DestinationRemoved(destination) => Some(destination),
            _ => None,
        })
        .await;
        assert_eq!(removed, added);
        close(&connection).await;
    }

    pub(super) async fn all_destinations_are_listed(url: &str) {
        let connection = connect(url).await;
        // One that is there before, and others that come.
        let (queue, topic) = (Destination::queue("listed"), Destination::topic("listed"));
        send(&connection, &queue, 1).await;
        let source = soon("listing", connection.destinations()).await.unwrap();
        soon("listing", source.wait_for(|listing| listing.contains(&queue)))
            .await
            .unwrap();
        send(&connection, &topic, 1).await;
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let temporary = soon("making it", session.create_temporary_topic()).await.unwrap();
        soon(
            "listing",
            source.wait_for(|listing| listing.contains(&topic) && listing.contains(&temporary)),
        )
        .await
        .unwrap();
        let listing = source.listing();
        assert_eq!(listing.queues().collect::<Vec<_>>(), [queue]);
        assert!(listing.topics().any(|listed| listed == topic));
        assert_eq!(listing.temporary_topics().count(), 1);
        assert_eq!(listing.temporary_queues().count(), 0);
        soon("deleting it", temporary.delete()).await.unwrap();
        soon(
            "listing",
            source.wait_for(|listing| !listing.contains(&temporary)),
        )
        .await
        .unwrap();
        close(&connection).await;
        let error = soon("listing", source.wait_for(|listing| listing.is_empty()))
            .await
            .unwrap_err();
        assert!(error.is_closed(), "{error}");
    }

    pub(super) async fn messages_that_expire_and_die_are_told(url: &str) {
        let connection = connect(&format!("{url}?jms.redeliveryPolicy.maximumRedeliveries=0")).await;
        let queue = Destination::queue("told.dead");
        let topic = topics::several(&[topics::expired(&queue), topics::dead_lettered(&queue)]);
        let mut advisories = listen(&connection, &topic).await;
        let transacted = session(&connection, AcknowledgeMode::Transacted).await;
        let consumer = consumer(&transacted, &queue).await;
        send(&connection, &queue, 1).await;
        let message = receive(&consumer).await;
        soon("rolling back", transacted.rollback()).await.unwrap();
        let about = find(&mut advisories, |event| match event {
            AdvisoryEvent::DeadLettered(about) => Some(about),
            _ => None,
        })
        .await;
        assert_eq!(about.destination, queue);
        assert_eq!(about.message_id.as_deref(), message.message_id().as_deref());
        drop(consumer);
        let sender = session(&connection, AcknowledgeMode::Auto).await;
        let mut producer = producer(&sender, &queue).await;
        producer.set_time_to_live(Duration::from_millis(1));
        soon("sending", producer.send("2")).await.unwrap();
        // The broker looks when it dispatches.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let looking = super::consumer(&sender, &queue).await;
        let about = find(&mut advisories, |event| match event {
            AdvisoryEvent::Expired(about) => Some(about),
            _ => None,
        })
        .await;
        assert_eq!(about.destination, queue);
        drop(looking);
        close(&connection).await;
    }

    pub(super) async fn only_advisories_are_listened_to(url: &str) {
        let connection = connect(url).await;
        for wrong in [
            Destination::topic("a"),
            Destination::queue("ActiveMQ.Advisory.Queue"),
            Destination::topic("ActiveMQ.Advisory.Queue,a"),
        ] {
            let error = connection.advisories(&wrong).await.unwrap_err();
            assert!(error.is_invalid_destination(), "{wrong}: {error}");
        }
        close(&connection).await;
    }

    pub(super) async fn what_becomes_of_messages_is_told(url: &str) {
        let connection = connect(url).await;
        let queue = Destination::queue("told.consumed");
        let mut delivered = listen(&connection, &topics::delivered(&queue)).await;
        let mut consumed = listen(&connection, &topics::consumed(&queue)).await;
        let unheard = Destination::topic("told.unheard");
        let mut nobody = listen(&connection, &topics::no_consumers(&unheard)).await;
        send(&connection, &queue, 1).await;
        let about = find(&mut delivered, |event| match event {
            AdvisoryEvent::Delivered(about) => Some(about),
            _ => None,
        })
        .await;
        let original = about.message.expect("the policy says so");
        assert_eq!(text(&original), "1");
        assert_eq!(original.message_id().as_deref(), about.message_id.as_deref());
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let consumer = consumer(&session, &queue).await;
        receive(&consumer).await;
        let about = find(&mut consumed, |event| match event {
            AdvisoryEvent::Consumed(about) => Some(about),
            _ => None,
        })
        .await;
        assert_eq!(about.destination, queue);
        let mut producer = producer(&session, &unheard).await;
        producer.set_delivery_mode(DeliveryMode::NonPersistent);
        soon("sending", producer.send("x")).await.unwrap();
        let about = find(&mut nobody, |event| match event {
            AdvisoryEvent::NoConsumers(about) => Some(about),
            _ => None,
        })
        .await;
        assert_eq!(about.destination, unheard);
        close(&connection).await;
    }

    pub(super) async fn slow_consumers_and_what_they_lose_are_told(url: &str) {
        let connection = connect(url).await;
        let topic = Destination::topic("told.slow");
        let both = topics::several(&[topics::slow_consumers(&topic), topics::discarded(&topic)]);
        let mut advisories = listen(&connection, &both).await;
        let session = session(&connection, AcknowledgeMode::Client).await;
        // With a prefetch of 1 nobody is slow to ActiveMQ.
        let options = ConsumerOptions::with_prefetch(2);
        let slow = soon("consuming", session.create_consumer_with(&topic, options))
            .await
            .unwrap();
        send(&connection, &topic, 20).await;
        let (mut told, mut lost) = (None, 0);
        find(&mut advisories, |event| {
            match event {
                AdvisoryEvent::SlowConsumer {
                    destination,
                    consumer,
                } => {
                    assert_eq!(destination, topic);
                    told = consumer.and_then(|consumer| consumer.consumer_id);
                }
                AdvisoryEvent::Discarded { message, count } => {
                    assert_eq!(message.destination, topic);
                    lost = lost.max(count.unwrap_or(0));
                }
                _ => {}
            }
            (told.is_some() && lost > 1).then_some(())
        })
        .await;
        assert_eq!(told.as_ref(), Some(slow.id()));
        close(&connection).await;
    }

    pub(super) async fn what_is_full_and_who_is_blocked_by_it_is_told(url: &str) {
        let connection = connect(url).await;
        let full = Destination::queue("full");
        let both = topics::several(&[topics::full(&full), topics::fast_producers(&full)]);
        let mut advisories = listen(&connection, &both).await;
        // A blocked connection hears nothing, so that another one blocks.
        let other = connect(&format!("{url}?jms.blockedAfter=100")).await;
        let session = session(&other, AcknowledgeMode::Auto).await;
        let producer = producer(&session, &full).await;
        let id = producer.id().clone();
        let mut events = other.events();
        let sending = tokio::spawn(async move {
            for _ in 0..20 {
                producer
                    .send(vec![0; 4096])
                    .await
                    .expect("there is room in the end");
            }
        });
        let (mut usage, mut fast) = (None, None);
        find(&mut advisories, |event| {
            match event {
                AdvisoryEvent::Full {
                    destination,
                    usage: told,
                    ..
                } => {
                    assert_eq!(destination, full);
                    usage = told;
                }
                AdvisoryEvent::FastProducer { producer, .. } => {
                    fast = producer.and_then(|producer| producer.producer_id);
                }
                _ => {}
            }
            (usage.is_some() && fast.is_some()).then_some(())
        })
        .await;
        assert_eq!(fast, Some(id.clone()));
        soon("being blocked", async {
            use futures::StreamExt;
            while let Some(event) = events.next().await {
                if let Event::Blocked {
                    destination,
                    producer,
                    ..
                } = event
                {
                    assert_eq!((destination, producer), (Some(full.clone()), id.clone()));
                    break;
                }
            }
        })
        .await;
        let room = super::session(&connection, AcknowledgeMode::Auto).await;
        let consumer = consumer(&room, &full).await;
        for _ in 0..20 {
            receive(&consumer).await;
        }
        soon("sending", sending).await.unwrap();
        close(&other).await;
        close(&connection).await;
    }
}
