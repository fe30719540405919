//! What is counted, and what requests for statistics are answered with.

use std::sync::Arc;

use openwire_client::wire::*;

use super::rig::{Client, QUEUE, Rig};
use crate::core::{DestinationStats, Rules, StatisticsOptions};
use crate::policy::{Pattern, Policies, Policy};

fn stats(rig: &Rig, destination: &Destination) -> DestinationStats {
    rig.core.destination_stats(destination).expect("it is there")
}

#[test]
fn a_queue_counts() {
    let mut rig = Rig::new(false);
    let queue = Destination::queue(QUEUE);
    assert_eq!(rig.core.destination_stats(&queue), None);
    let client = rig.connect();
    for number in 1..=4 {
        rig.send(client, number);
    }
    let counted = stats(&rig, &queue);
    assert_eq!(
        (counted.size, counted.enqueued, counted.memory_used),
        (4, 4, 4096)
    );
    assert_eq!((counted.average_message_size, counted.consumers), (1024.0, 0));
    rig.now += 30;
    rig.consume(client, 1, 2);
    rig.now += 30;
    rig.consumed(client, 1, client, 1, 1).unwrap();
    let counted = stats(&rig, &queue);
    assert_eq!((counted.size, counted.in_flight, counted.dequeued), (3, 2, 1));
    assert_eq!(
        (counted.dispatched, counted.consumers, counted.memory_used),
        (3, 1, 3072)
    );
    assert_eq!((counted.min_enqueue_time, counted.max_enqueue_time), (30, 60));
    assert_eq!(counted.average_enqueue_time, 40.0);
    rig.lose(client);
    let counted = stats(&rig, &queue);
    assert_eq!((counted.size, counted.in_flight, counted.consumers), (3, 0, 0));
}

#[test]
fn what_the_store_refuses_does_not_count() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.send(client, 1);
    rig.consume(client, 1, 10);
    rig.refusing = true;
    let message = Arc::new(Rig::message(client, 2, true));
    assert!(rig.ask(client, message).is_err());
    assert!(rig.consumed(client, 1, client, 1, 1).is_err());
    let counted = stats(&rig, &Destination::queue(QUEUE));
    assert_eq!((counted.enqueued, counted.dequeued, counted.size), (1, 0, 1));
}

#[test]
fn a_topic_counts_what_its_subscribers_do() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    let (one, other) = (Destination::topic("A.1"), Destination::topic("A.2"));
    rig.consume_from(client, 1, 10, one.clone()).unwrap();
    rig.consume_from(client, 2, 10, Destination::topic("A.*"))
        .unwrap();
    let durable = ConsumerInfo {
        consumer_id: Some(client.consumer(3)),
        destination: Some(one.clone()),
        prefetch_size: 10,
        subscription_name: Some("S".into()),
        ..ConsumerInfo::default()
    };
    rig.ask(client, Box::new(durable)).unwrap();
    for (number, topic) in [(1, &one), (2, &other), (3, &one)] {
        let message = Message {
            destination: Some(topic.clone()),
            ..Rig::message(client, number, true)
        };
        rig.ask(client, Arc::new(message)).unwrap();
    }
    let counted = stats(&rig, &one);
    assert_eq!(
        (counted.enqueued, counted.dispatched, counted.in_flight),
        (2, 6, 6)
    );
    assert_eq!((counted.consumers, counted.size), (3, 0));
    rig.consumed(client, 2, client, 1, 2).unwrap();
    rig.consumed(client, 3, client, 1, 1).unwrap();
    let counted = stats(&rig, &one);
    assert_eq!((counted.dequeued, counted.in_flight), (2, 4));
    let counted = stats(&rig, &other);
    assert_eq!(
        (counted.enqueued, counted.dispatched, counted.dequeued),
        (1, 1, 1)
    );
    rig.lose(client);
    assert_eq!(stats(&rig, &one).in_flight, 0);
}

fn requesting() -> (Rig, Client) {
    let mut rig = Rig::with(false, |config| {
        config.statistics = Some(StatisticsOptions {
            connectors: vec!["stomp://h:1".into(), "tcp://h:2".into()],
            data_directory: "/data".into(),
        });
    });
    let client = rig.connect();
    rig.consume_from(client, 1, 100, Destination::queue("ANSWERS"))
        .unwrap();
    (rig, client)
}

fn request(rig: &mut Rig, client: Client, to: &Destination, property: Option<&str>) -> Vec<ValueMap> {
    let properties: ValueMap = property.iter().map(|name| (*name, true)).collect();
    let mut marshalled = bytes::BytesMut::new();
    encode_map(&properties, &mut marshalled).unwrap();
    let message = Message {
        destination: Some(to.clone()),
        reply_to: Some(Destination::queue("ANSWERS")),
        correlation_id: Some("mine".into()),
        marshalled_properties: Some(marshalled.freeze()),
        ..Rig::message(client, 1, false)
    };
    rig.ask(client, Arc::new(message)).unwrap();
    let answers = rig.dispatches(client).into_iter();
    answers
        .map(|dispatch| {
            let message = dispatch.message.unwrap();
            assert_eq!(message.kind, MessageKind::Map);
            assert_eq!(message.correlation_id.as_deref(), Some("mine"));
            assert_eq!(message.message_type.as_deref(), Some("Advisory"));
            let content = message.content.clone();
            content.map_or_else(ValueMap::new, |bytes| decode_map(bytes).unwrap())
        })
        .collect()
}

fn has(map: &ValueMap, expected: &[(&str, Value)]) {
    for (name, value) in expected {
        assert_eq!(map.get(name), Some(value), "{name}");
    }
}

fn names(map: &ValueMap) -> Vec<&str> {
    let mut names: Vec<_> = map.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names
}

const OF_DESTINATION: [&str; 19] = [
    "averageEnqueueTime",
    "averageMessageSize",
    "brokerId",
    "brokerName",
    "consumerCount",
    "dequeueCount",
    "destinationName",
    "dispatchCount",
    "enqueueCount",
    "expiredCount",
    "inflightCount",
    "maxEnqueueTime",
    "memoryLimit",
    "memoryPercentUsage",
    "memoryUsage",
    "messagesCached",
    "minEnqueueTime",
    "producerCount",
    "size",
];

#[test]
fn destinations_are_asked_for_by_name() {
    let (mut rig, client) = requesting();
    for number in [1, 2] {
        rig.send(client, number);
    }
    let ask = |rig: &mut Rig, of: &str, property| {
        let to = Destination::queue(&format!("ActiveMQ.Statistics.Destination.{of}"));
        request(rig, client, &to, property)
    };
    let answers = ask(&mut rig, QUEUE, None);
    let [answer] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(names(answer), OF_DESTINATION);
    has(
        answer,
        &[
            ("brokerName", "test".into()),
            ("destinationName", "queue://Q".into()),
            ("size", Value::Long(2)),
            ("enqueueCount", Value::Long(2)),
            ("averageMessageSize", Value::Long(1024)),
            ("memoryUsage", Value::Long(2048)),
            ("memoryPercentUsage", Value::Int(0)),
            ("averageEnqueueTime", Value::Double(0.0)),
            ("consumerCount", Value::Long(0)),
        ],
    );
    assert_eq!(ask(&mut rig, "*", None).len(), 2);
    assert!(ask(&mut rig, "nobody", None).is_empty());
    assert!(ask(&mut rig, "topic://Q", None).is_empty());
    let end = "ActiveMQ.Statistics.Destination.List.End.With.Null";
    assert_eq!(ask(&mut rig, "nobody", Some(end)), [ValueMap::new()]);
    assert_eq!(ask(&mut rig, &format!("nobody{end}"), None), [ValueMap::new()]);
    let first = "ActiveMQ.Statistics.Destination.Include.First.Message.Timestamp";
    let answers = ask(&mut rig, QUEUE, Some(first));
    has(&answers[0], &[("firstMessageTimestamp", Value::Long(rig.now))]);
    // A request is no message: nothing is made for it.
    assert_eq!(rig.stats().destinations, 2);
}

#[test]
fn the_broker_tells_of_its_temporary_store() {
    let mut rig = Rig::with(true, |config| {
        config.statistics = Some(StatisticsOptions::default());
        config.temp_limit = Some(4096);
        let at_once = Policy::new().cursor_memory_high_water_mark(0);
        config.rules = Arc::new(Rules {
            policies: Policies::new().with(Pattern::queue(QUEUE), at_once),
            ..Rules::default()
        });
    });
    let client = rig.connect();
    rig.consume_from(client, 1, 100, Destination::queue("ANSWERS"))
        .unwrap();
    rig.send_with(client, 1, |message| message.persistent = false);
    let broker = Destination::queue("ActiveMQ.Statistics.Broker");
    let of_queue = Destination::queue(&format!("ActiveMQ.Statistics.Destination.{QUEUE}"));
    has(
        &request(&mut rig, client, &broker, None)[0],
        &[
            ("tempPercentUsage", Value::Int(25)),
            ("tempUsage", Value::Long(1024)),
            ("tempLimit", Value::Long(4096)),
            ("memoryUsage", Value::Long(0)),
        ],
    );
    has(
        &request(&mut rig, client, &of_queue, None)[0],
        &[("memoryUsage", Value::Long(0)), ("size", Value::Long(1))],
    );
}

#[test]
fn the_broker_and_its_subscriptions_are_asked_for() {
    let (mut rig, client) = requesting();
    rig.send(client, 1);
    rig.consume_from(client, 2, 10, Destination::topic("T")).unwrap();
    let answers = request(
        &mut rig,
        client,
        &Destination::topic("ActiveMQ.Statistics.Broker"),
        None,
    );
    let mut expected: Vec<_> = OF_DESTINATION.to_vec();
    expected.retain(|name| *name != "destinationName");
    expected.extend(["dataDirectory", "openwire", "ssl", "stomp", "stomp+ssl", "vm"]);
    expected.extend(["storeLimit", "storePercentUsage", "storeUsage"]);
    expected.extend(["tempLimit", "tempPercentUsage", "tempUsage"]);
    expected.sort_unstable();
    assert_eq!(names(&answers[0]), expected);
    has(
        &answers[0],
        &[
            ("size", Value::Long(1)),
            ("consumerCount", Value::Long(2)),
            ("openwire", "tcp://h:2".into()),
            ("ssl", "".into()),
            ("vm", "vm://test".into()),
            ("dataDirectory", "/data".into()),
        ],
    );
    let to = Destination::queue("ActiveMQ.Statistics.Subscription");
    let answers = request(&mut rig, client, &to, None);
    assert_eq!(answers.len(), 2);
    has(
        &answers[0],
        &[
            ("destinationName", "ANSWERS".into()),
            ("clientId", client.id().into()),
            ("connectionId", client.id().into()),
            ("sessionId", Value::Long(1)),
            ("prefetchSize", Value::Int(100)),
            ("dispatchedCounter", Value::Long(1)),
            ("dispatchedQueueSize", Value::Long(1)),
            ("selector", Value::Null),
            ("exclusive", Value::Bool(false)),
            ("slowConsumer", Value::Bool(false)),
        ],
    );
    assert_eq!(answers[0].len(), 16);
    let to = Destination::queue("ActiveMQ.Statistics.Broker");
    let answers = request(&mut rig, client, &to, Some("ActiveMQ.Statistics.Broker.Reset"));
    has(
        &answers[0],
        &[("enqueueCount", Value::Long(0)), ("size", Value::Long(4))],
    );
}

#[test]
fn a_broker_that_was_not_told_to_answers_nothing() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    let to = Destination::queue("ActiveMQ.Statistics.Broker");
    assert!(request(&mut rig, client, &to, None).is_empty());
    assert_eq!(rig.core.queue_depth(&to), Some(1));
}
