//! Who is told of what. The expected advisories are those that ActiveMQ 5.17 sent for the same commands.

use std::sync::Arc;

use openwire_client::wire::*;

use super::rig::{Client, QUEUE, Rig};
use crate::policy::{Pattern, Policies, Policy};

const LISTENER: i64 = 9;

fn advisories(name: &str) -> Destination {
    Destination::topic(&format!("ActiveMQ.Advisory.{name}"))
}

/// A client that listens to this from now on; what was there before is taken away.
fn listener(rig: &mut Rig, names: &Destination) -> Client {
    let listener = rig.connect();
    rig.consume_from(listener, LISTENER, 10_000, names.clone())
        .unwrap();
    rig.dispatches(listener);
    listener
}

fn properties(message: &Message) -> ValueMap {
    let marshalled = message.marshalled_properties.clone();
    marshalled.map_or_else(ValueMap::new, |bytes| decode_map(bytes).unwrap())
}

/// What an advisory tells of, in short.
fn data(message: &Message) -> String {
    match message.data_structure.as_deref() {
        None => "-".into(),
        Some(Command::ConnectionInfo(info)) => format!("+{}", info.connection_id.as_ref().unwrap()),
        Some(Command::ConsumerInfo(info)) => format!("+{}", info.consumer_id.as_ref().unwrap().value),
        Some(Command::ProducerInfo(info)) => format!("+{}", info.producer_id.as_ref().unwrap().value),
        Some(Command::RemoveSubscriptionInfo(_)) => "-subscription".into(),
        Some(Command::RemoveInfo(info)) => {
            assert_eq!(info.last_delivered_sequence_id, RemoveInfo::UNKNOWN_DELIVERED);
            match info.object_id.as_ref().unwrap() {
                EntityId::Connection(id) => format!("-{id}"),
                EntityId::Consumer(id) => format!("-{}", id.value),
                EntityId::Producer(id) => format!("-{}", id.value),
                EntityId::Session(id) => panic!("no advisory tells of sessions: {id}"),
            }
        }
        Some(Command::DestinationInfo(info)) => {
            let sign = if info.operation_type == DestinationInfo::ADD {
                '+'
            } else {
                '-'
            };
            format!("{sign}{}", info.destination.as_ref().unwrap())
        }
        Some(Command::Message(message)) => {
            format!("#{}", message.message_id.as_ref().unwrap().producer_sequence_id)
        }
        other => panic!("{other:?}"),
    }
}

/// What a listener was told since the last look: topic, what it is about, and the count.
fn told(rig: &mut Rig, listener: Client) -> Vec<String> {
    let dispatches = rig.dispatches(listener).into_iter();
    let messages = dispatches.map(|dispatch| dispatch.message.expect("a message"));
    messages
        .map(|message| {
            let topic = message.destination.as_ref().unwrap().name();
            let topic = topic.strip_prefix("ActiveMQ.Advisory.").unwrap_or(topic);
            let properties = properties(&message);
            let count = ["consumerCount", "producerCount", "discardedCount", "usageCount"]
                .into_iter()
                .find_map(|name| match properties.get(name) {
                    Some(Value::Int(count)) => Some(format!(" {count}")),
                    Some(Value::Long(count)) => Some(format!(" {count}")),
                    _ => None,
                });
            format!("{topic} {}{}", data(&message), count.unwrap_or_default())
        })
        .collect()
}

fn send(rig: &mut Rig, client: Client, number: i64, change: impl FnOnce(&mut Message)) {
    let mut message = Rig::message(client, number, false);
    change(&mut message);
    rig.ask(client, Arc::new(message)).unwrap();
}

fn produce(rig: &mut Rig, client: Client, value: i64, destination: Destination) {
    let info = ProducerInfo {
        producer_id: Some(ProducerId {
            value,
            ..client.producer()
        }),
        destination: Some(destination),
        ..ProducerInfo::default()
    };
    rig.ask(client, info).unwrap();
}

fn remove(rig: &mut Rig, client: Client, id: EntityId) {
    let info = RemoveInfo {
        object_id: Some(id),
        ..RemoveInfo::default()
    };
    rig.ask(client, info).unwrap();
}

fn advising(stored: bool, policy: Policy) -> Rig {
    Rig::with(stored, |config| {
        Arc::make_mut(&mut config.rules).policies = Policies::new()
            .with(Pattern::queue(">"), policy.clone())
            .with(Pattern::topic(">"), policy);
    })
}

#[test]
fn connections_are_told_of_without_their_passwords() {
    let mut rig = Rig::new(false);
    let listener = listener(&mut rig, &advisories("Connection"));
    let client = Client {
        key: rig.socket(),
        number: 7,
    };
    let info = ConnectionInfo {
        connection_id: Some(ConnectionId::new(client.id())),
        client_id: Some("me".into()),
        user_name: Some("user".into()),
        password: Some("secret".into()),
        ..ConnectionInfo::default()
    };
    rig.ask(client, Box::new(info)).unwrap();
    let dispatches = rig.dispatches(listener);
    let message = dispatches[0].message.clone().unwrap();
    let Some(Command::ConnectionInfo(info)) = message.data_structure.as_deref() else {
        panic!("{message:?}");
    };
    assert_eq!(info.password.as_deref(), Some(""));
    assert_eq!(info.user_name.as_deref(), Some("user"));
    assert_eq!(info.client_ip.as_deref(), Some("test"));
    assert_eq!(message.message_type.as_deref(), Some("Advisory"));
    assert!(!message.persistent && message.content.is_none());
    assert_eq!(
        (message.priority, message.timestamp, message.expiration),
        (0, 0, 0)
    );
    assert_eq!(message.target_consumer_id, None);
    let properties = properties(&message);
    for (name, value) in [
        ("originBrokerName", "test"),
        ("originBrokerId", "ID:test"),
        ("originBrokerURL", "vm://test"),
    ] {
        assert_eq!(properties.get(name), Some(&Value::from(value)));
    }
    rig.lose(client);
    assert_eq!(told(&mut rig, listener), ["Connection -ID:client-7"]);
}

#[test]
fn destinations_are_told_of_once_and_by_whom() {
    let mut rig = Rig::new(true);
    let listener = listener(
        &mut rig,
        &advisories("Queue,topic://ActiveMQ.Advisory.Topic,ActiveMQ.Advisory.TempQueue"),
    );
    let client = rig.connect();
    rig.send(client, 1);
    rig.send(client, 2);
    rig.consume_from(client, 1, 1, Destination::topic("T")).unwrap();
    let dispatches = rig.dispatches(listener);
    let seen: Vec<_> = dispatches
        .iter()
        .map(|dispatch| dispatch.message.as_ref().unwrap())
        .map(|message| data(message))
        .collect();
    assert_eq!(seen, ["+queue://Q", "+topic://T"]);
    let message = dispatches[0].message.as_ref().unwrap();
    let Some(Command::DestinationInfo(info)) = message.data_structure.as_deref() else {
        panic!("{message:?}");
    };
    assert_eq!(info.connection_id.as_ref().unwrap().as_str(), client.id());
    let info = DestinationInfo {
        destination: Some(Destination::queue(QUEUE)),
        operation_type: DestinationInfo::REMOVE,
        ..DestinationInfo::default()
    };
    rig.ask(client, info).unwrap();
    assert_eq!(told(&mut rig, listener), ["Queue -queue://Q"]);
}

#[test]
fn consumers_are_told_of_with_their_count() {
    let mut rig = Rig::new(true);
    let listener = listener(&mut rig, &advisories("Consumer.>"));
    let client = rig.connect();
    rig.consume(client, 1, 10);
    rig.consume_from(client, 2, 10, Destination::queue("Q,R"))
        .unwrap();
    rig.consume_from(client, 3, 10, Destination::queue("Q.>"))
        .unwrap();
    assert_eq!(
        told(&mut rig, listener),
        [
            "Consumer.Queue.Q +1 1",
            "Consumer.Queue.Q&sbquo;R +2 3",
            "Consumer.Queue.Q.> +3 3"
        ]
    );
    rig.stop_consuming(client, 2, -1);
    rig.stop_consuming(client, 3, -1);
    let browser = ConsumerInfo {
        consumer_id: Some(client.consumer(4)),
        destination: Some(Destination::queue(QUEUE)),
        prefetch_size: 10,
        browser: true,
        ..ConsumerInfo::default()
    };
    rig.ask(client, Box::new(browser)).unwrap();
    rig.stop_consuming(client, 4, -1);
    assert_eq!(
        told(&mut rig, listener),
        [
            "Consumer.Queue.Q&sbquo;R -2 2",
            "Consumer.Queue.Q.> -3 1",
            "Consumer.Queue.Q +4 2",
            "Consumer.Queue.Q -4 1",
        ]
    );
    // Those who listen to advisories are not told of.
    rig.consume_from(client, 5, 10, advisories("Queue")).unwrap();
    rig.lose(client);
    assert_eq!(told(&mut rig, listener), ["Consumer.Queue.Q -1 0"]);
}

#[test]
fn durable_subscriptions_count_until_they_are_ended() {
    let mut rig = Rig::new(true);
    let listener = listener(&mut rig, &advisories("Consumer.Topic.T"));
    let client = rig.connect();
    let durable = ConsumerInfo {
        consumer_id: Some(client.consumer(1)),
        destination: Some(Destination::topic("T")),
        prefetch_size: 10,
        subscription_name: Some("S".into()),
        ..ConsumerInfo::default()
    };
    rig.ask(client, Box::new(durable)).unwrap();
    rig.stop_consuming(client, 1, -1);
    let ended = RemoveSubscriptionInfo {
        subscription_name: Some("S".into()),
        client_id: Some(client.id().into()),
        ..RemoveSubscriptionInfo::default()
    };
    rig.ask(client, ended).unwrap();
    assert_eq!(
        told(&mut rig, listener),
        [
            "Consumer.Topic.T +1 1",
            "Consumer.Topic.T -1 1",
            "Consumer.Topic.T -subscription 0"
        ]
    );
}

#[test]
fn producers_are_told_of_for_each_destination() {
    let mut rig = Rig::with(false, |config| config.advisories.anonymous_producers = true);
    let listener = listener(&mut rig, &advisories("Producer.>"));
    let client = rig.connect();
    produce(&mut rig, client, 2, Destination::queue(QUEUE));
    produce(&mut rig, client, 3, Destination::queue("Q,R"));
    produce(&mut rig, client, 4, advisories("Queue"));
    assert_eq!(
        told(&mut rig, listener),
        [
            "Producer.Anonymous +1 0",
            "Producer.Queue.Q +2 1",
            "Producer.Queue.Q +3 2",
            "Producer.Queue.R +3 1",
        ]
    );
    let id = ProducerId {
        value: 3,
        ..client.producer()
    };
    remove(&mut rig, client, EntityId::Producer(id));
    assert_eq!(
        told(&mut rig, listener),
        ["Producer.Queue.Q -3 1", "Producer.Queue.R -3 0"]
    );
    let session = SessionId {
        connection_id: Some(client.id().into()),
        value: 1,
    };
    remove(&mut rig, client, EntityId::Session(session));
    let mut last = told(&mut rig, listener);
    last.sort();
    assert_eq!(last, ["Producer.Anonymous -1 0", "Producer.Queue.Q -2 0"]);
}

#[test]
fn messages_are_told_of_where_policies_ask_for_it() {
    let policy = Policy::new()
        .advisory_for_delivery(true)
        .advisory_for_consumed(true)
        .send_advisory_if_no_consumers(true);
    let mut rig = advising(false, policy);
    let listener = listener(&mut rig, &advisories(">"));
    let client = rig.connect();
    told(&mut rig, listener);
    rig.send(client, 1);
    assert_eq!(
        told(&mut rig, listener),
        ["Queue +queue://Q", "MessageDelivered.Queue.Q #1"]
    );
    send(&mut rig, client, 2, |message| {
        message.content = Some("body".into());
    });
    let dispatches = rig.dispatches(listener);
    let [delivered, nobody] = &dispatches[..] else {
        panic!("{dispatches:?}");
    };
    let delivered = delivered.message.as_ref().unwrap();
    let map = properties(delivered);
    assert_eq!(map.get("orignalDestination"), Some(&Value::from("queue://Q")));
    assert_eq!(
        map.get("orignalMessageId"),
        Some(&Value::from("ID:client-2:1:1:2"))
    );
    let Some(Command::Message(told_of)) = delivered.data_structure.as_deref() else {
        panic!("{delivered:?}");
    };
    assert_eq!(
        (told_of.content.as_ref(), told_of.kind),
        (None, MessageKind::Text)
    );
    // The message itself.
    let nobody = nobody.message.as_ref().unwrap();
    assert_eq!(nobody.destination, Some(advisories("NoConsumer.Queue.Q")));
    assert_eq!(nobody.content.as_deref(), Some(&b"body"[..]));
    rig.consume(client, 1, 10);
    rig.consumed(client, 1, client, 1, 2).unwrap();
    assert_eq!(
        told(&mut rig, listener),
        [
            "Consumer.Queue.Q +1 1",
            "MessageConsumed.Queue.Q #1",
            "MessageConsumed.Queue.Q #2"
        ]
    );
    let topic = Destination::topic("T");
    send(&mut rig, client, 3, |message| message.destination = Some(topic));
    assert_eq!(
        told(&mut rig, listener),
        [
            "Topic +topic://T",
            "NoConsumer.Topic.T -",
            "MessageDelivered.Topic.T #3"
        ]
    );
}

#[test]
fn expired_and_dead_messages_are_told_of_always() {
    let mut rig = Rig::new(true);
    let names = "Expired.>,topic://ActiveMQ.Advisory.MessageDLQd.>,ActiveMQ.Advisory.MessageConsumed.>";
    let listener = listener(&mut rig, &advisories(names));
    let client = rig.connect();
    let expiration = rig.now + 10;
    send(&mut rig, client, 1, |message| {
        (message.persistent, message.expiration) = (true, expiration);
    });
    rig.now += 20;
    rig.consume(client, 1, 10);
    assert_eq!(
        told(&mut rig, listener),
        ["MessageDLQd.Queue.Q #1", "Expired.Queue.Q #1"]
    );
    rig.send(client, 2);
    let poison = rig.ack(client, 1, MessageAck::POISON, client, 2, 2);
    rig.ask(client, Box::new(poison)).unwrap();
    assert_eq!(told(&mut rig, listener), ["MessageDLQd.Queue.Q #2"]);
    send(&mut rig, client, 3, |message| {
        message.destination = Some(Destination::topic("T"));
        message.expiration = expiration;
    });
    assert_eq!(told(&mut rig, listener), ["Expired.Topic.T #3"]);
}

#[test]
fn slow_subscribers_are_told_of_once_until_they_have_caught_up() {
    let mut rig = advising(true, Policy::new().advisory_for_slow_consumers(true));
    let listener = listener(&mut rig, &advisories("SlowConsumer.>"));
    let client = rig.connect();
    let topic = Destination::topic("T");
    rig.consume_from(client, 1, 2, topic.clone()).unwrap();
    let mut number = 0;
    let mut publish = |rig: &mut Rig| {
        number += 1;
        let topic = topic.clone();
        send(rig, client, number, |message| message.destination = Some(topic));
    };
    (0..5).for_each(|_| publish(&mut rig));
    assert!(told(&mut rig, listener).is_empty());
    (0..3).for_each(|_| publish(&mut rig));
    assert_eq!(told(&mut rig, listener), ["SlowConsumer.Topic.T +1"]);
    for first in [1, 3, 5, 7] {
        rig.consumed(client, 1, client, first, first + 1).unwrap();
    }
    assert_eq!(rig.numbers(client).len(), 8);
    (0..6).for_each(|_| publish(&mut rig));
    assert_eq!(told(&mut rig, listener), ["SlowConsumer.Topic.T +1"]);
}

#[test]
fn no_room_is_told_of() {
    let policy = Policy::new()
        .advisory_when_full(true)
        .advisory_for_fast_producers(true);
    let mut rig = Rig::with(false, |config| {
        config.memory_limit = 2048;
        Arc::make_mut(&mut config.rules).policies = Policies::new().with_default(policy);
    });
    let names = "FULL.>,ActiveMQ.Advisory.FastProducer.>";
    let listener = listener(&mut rig, &advisories(names));
    let client = rig.connect();
    for number in 1..=2 {
        send(&mut rig, client, number, |_| {});
    }
    // These wait: the edge is told of once.
    for number in 3..=4 {
        rig.say(client, Arc::new(Rig::message(client, number, false)));
    }
    assert_eq!(
        told(&mut rig, listener),
        ["FULL.Queue.Q - 2048", "FastProducer.Queue.Q +1"]
    );
}

#[test]
fn a_new_listener_alone_is_told_of_what_is_there() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    produce(&mut rig, client, 2, Destination::queue(QUEUE));
    rig.consume(client, 1, 10);
    rig.consume_from(client, 2, 10, Destination::topic("T")).unwrap();
    let temporary = Destination::new(DestinationKind::TempQueue, &format!("{}:1", client.id()));
    let info = DestinationInfo {
        destination: Some(temporary.clone()),
        ..DestinationInfo::default()
    };
    rig.ask(client, info).unwrap();
    let early = listener(&mut rig, &advisories("Consumer.Queue.Q"));
    let late = rig.connect();
    let mut hear = |names: Destination| {
        rig.consume_from(late, LISTENER, 10_000, names).unwrap();
        let heard = rig.dispatches(late);
        let target = heard.iter().all(|dispatch| {
            let message = dispatch.message.as_ref().unwrap();
            let target = message.target_consumer_id.as_ref();
            message.destination == Some(advisories("MasterBroker"))
                || target == Some(&late.consumer(LISTENER))
        });
        assert!(target, "it is for nobody else");
        rig.stop_consuming(late, LISTENER, -1);
        let told = heard.iter().map(|dispatch| dispatch.message.as_ref().unwrap());
        told.map(|message| {
            let topic = message.destination.as_ref().unwrap().name();
            format!("{} {}", &topic["ActiveMQ.Advisory.".len()..], data(message))
        })
        .collect::<Vec<_>>()
    };
    let connections = [
        "Connection +ID:client-1",
        "Connection +ID:client-2",
        "Connection +ID:client-3",
    ];
    let temporary = format!("TempQueue +{temporary}");
    assert_eq!(hear(advisories("Connection")), connections);
    assert_eq!(hear(advisories("Queue")), ["Queue +queue://Q"]);
    assert_eq!(
        hear(advisories("TempQueue,ActiveMQ.Advisory.TempTopic")),
        [&*temporary]
    );
    assert_eq!(hear(advisories("Producer.Queue.Q")), ["Producer.Queue.Q +2"]);
    assert_eq!(hear(advisories("Producer.Queue.R")), [""; 0]);
    let consumers = ["Consumer.Queue.Q +1", "Consumer.Topic.T +2"];
    assert_eq!(hear(advisories("Consumer.>")), consumers);
    assert_eq!(hear(advisories("MasterBroker")), ["MasterBroker -"]);
    let mut all = vec!["MasterBroker -".to_owned()];
    all.extend(connections.map(String::from));
    all.extend(["Queue +queue://Q".into(), "Topic +topic://T".into(), temporary]);
    all.push("Producer.Queue.Q +2".into());
    all.extend(consumers.map(String::from));
    assert_eq!(hear(advisories(">")), all);
    assert!(told(&mut rig, early).is_empty());
    // As in ActiveMQ such a consumer is like any other, and hears of itself.
    let all = Destination::topic("ActiveMQ.>");
    rig.consume_from(late, LISTENER, 10_000, all).unwrap();
    assert_eq!(
        told(&mut rig, late),
        ["MasterBroker -", "Consumer.Topic.ActiveMQ.> +9 9"]
    );
}

#[test]
fn a_broker_without_advisories_tells_nothing() {
    let mut rig = Rig::with(false, |config| config.advisories.enabled = false);
    let client = rig.connect();
    let listener = rig.connect();
    rig.consume_from(listener, LISTENER, 100, advisories(">"))
        .unwrap();
    rig.consume(client, 1, 10);
    rig.send(client, 1);
    rig.lose(client);
    assert!(told(&mut rig, listener).is_empty());
}

#[test]
fn an_advisory_makes_no_topic_and_its_topics_go_with_what_they_are_about() {
    let mut rig = Rig::new(false);
    let wild = listener(&mut rig, &advisories("Consumer.>"));
    let client = rig.connect();
    rig.consume(client, 1, 10);
    assert_eq!(told(&mut rig, wild), ["Consumer.Queue.Q +1 1"]);
    assert_eq!(rig.stats().destinations, 1);
    let exact = listener(&mut rig, &advisories("Consumer.Queue.Q"));
    assert_eq!(rig.stats().destinations, 2);
    rig.stop_consuming(client, 1, -1);
    assert_eq!(told(&mut rig, wild), ["Consumer.Queue.Q -1 0"]);
    assert_eq!(told(&mut rig, exact), ["Consumer.Queue.Q -1 0"]);
    rig.stop_consuming(exact, LISTENER, -1);
    let info = DestinationInfo {
        destination: Some(Destination::queue(QUEUE)),
        operation_type: DestinationInfo::REMOVE,
        ..DestinationInfo::default()
    };
    rig.ask(client, info).unwrap();
    assert_eq!(rig.stats().destinations, 0);
}

#[test]
fn what_a_slow_listener_does_not_take_is_bounded() {
    let mut rig = Rig::with_config(false, usize::MAX, 20_000);
    let listener = rig.connect();
    rig.consume_from(listener, LISTENER, 1, advisories("Consumer.>"))
        .unwrap();
    let client = rig.connect();
    for value in 1..=100 {
        rig.consume(client, value, 10);
    }
    let stats = rig.stats();
    assert!(stats.memory_used <= 20_000, "{}", stats.memory_used);
    assert!(stats.discarded > 50, "{}", stats.discarded);
    rig.lose(listener);
    assert_eq!(rig.stats().memory_used, 0);
}

#[test]
fn the_messages_of_a_large_transaction_are_told_of_when_it_is_committed() {
    for consumed in [false, true] {
        let mut rig = advising(true, Policy::new().advisory_for_delivery(true));
        let listener = listener(&mut rig, &advisories("MessageDelivered.>"));
        let client = rig.connect();
        if consumed {
            rig.consume(client, 1, 10);
        }
        rig.transact(client, 1, TransactionInfo::BEGIN).unwrap();
        for number in 1..=200 {
            let sent = Message {
                transaction_id: Some(client.transaction(1)),
                content: Some(vec![0; 128 * 1024].into()),
                ..Rig::message(client, number, true)
            };
            rig.say(client, Arc::new(sent));
        }
        assert_eq!(told(&mut rig, listener).len(), 0);
        rig.transact(client, 1, TransactionInfo::COMMIT_ONE_PHASE)
            .unwrap();
        let expected = (1..=200).map(|number| format!("MessageDelivered.Queue.Q #{number}"));
        assert_eq!(told(&mut rig, listener), expected.collect::<Vec<_>>());
        // A body that was read for that only does not stay.
        if !consumed {
            assert!(rig.resident() <= 9 * 1024 * 1024, "{}", rig.resident());
        }
    }
}
