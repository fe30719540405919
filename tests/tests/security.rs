//! What a broker refuses, and in which words: broker-lite and a real ActiveMQ with the same users and entries, asked
//! by our client and by the Java client.

use std::fs;

use openwire_client::{AcknowledgeMode, Connection, ConnectionFactory, Destination, Error, Message};
use tempfile::TempDir;
use tests::peers::{ActiveMq, Peers};
use tests::process::BrokerProcess;
use tests::soon;

/// Users with their passwords, and groups with their users.
const USERS: [(&str, &str); 2] = [("ada", "lovelace"), ("bob", "builder")];
const GROUPS: [(&str, &str); 2] = [("makers", "ada"), ("users", "ada,bob")];

/// Destination, then who may read, write, administrate.
const ENTRIES: [(&str, &str, [&str; 3]); 6] = [
    ("queue", ">", ["makers", "makers", "makers"]),
    ("queue", "OPEN.>", ["users", "users", "users"]),
    ("queue", "KEPT.>", ["users", "users", "makers"]),
    ("queue", "IN.>", ["", "users", "users"]),
    ("topic", "NEWS.>", ["users", "makers", "users"]),
    ("topic", "ActiveMQ.Advisory.>", ["*", "*", "*"]),
];

fn activemq(peers: &Peers, dir: &TempDir) -> ActiveMq {
    let groups_of = |user: &str| -> String {
        let groups = GROUPS
            .iter()
            .filter(|(_, users)| users.split(',').any(|one| one == user));
        groups.map(|(group, _)| *group).collect::<Vec<_>>().join(",")
    };
    let users: String = USERS
        .iter()
        .map(|(user, password)| {
            let groups = groups_of(user);
            format!("<authenticationUser username='{user}' password='{password}' groups='{groups}'/>")
        })
        .collect();
    let entries: String = ENTRIES
        .iter()
        .map(|(kind, pattern, [read, write, admin])| {
            let pattern = pattern.replace('>', "&gt;");
            let rights = [("read", read), ("write", write), ("admin", admin)];
            let rights = rights.iter().filter(|(_, groups)| !groups.is_empty());
            let rights: String = rights
                .map(|(right, groups)| format!(" {right}='{groups}'"))
                .collect();
            format!("<authorizationEntry {kind}='{pattern}'{rights}/>")
        })
        .collect();
    let file = dir.path().join("activemq.xml");
    let text = format!(
        "<beans xmlns='http://www.springframework.org/schema/beans' \
         xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xsi:schemaLocation='\
         http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans.xsd \
         http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd'>\
         <bean class='org.springframework.beans.factory.config.PropertyPlaceholderConfigurer'/>\
         <broker xmlns='http://activemq.apache.org/schema/core' brokerName='peer' persistent='false' useJmx='false'>\
         <plugins><simpleAuthenticationPlugin><users>{users}</users></simpleAuthenticationPlugin>\
         <authorizationPlugin><map><authorizationMap><authorizationEntries>{entries}</authorizationEntries>\
         </authorizationMap></map></authorizationPlugin></plugins><transportConnectors>\
         <transportConnector uri='tcp://127.0.0.1:${{activemq.port}}'/></transportConnectors></broker></beans>"
    );
    fs::write(&file, text).unwrap();
    peers.start(&["--config", &file.to_string_lossy()])
}

fn broker_lite(dir: &TempDir) -> BrokerProcess {
    let (users, groups) = (
        dir.path().join("users.properties"),
        dir.path().join("groups.properties"),
    );
    let lines = |entries: &[(&str, &str)]| -> String {
        entries
            .iter()
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect()
    };
    fs::write(&users, lines(&USERS)).unwrap();
    fs::write(&groups, lines(&GROUPS)).unwrap();
    let mut arguments = vec![
        "--memory".to_owned(),
        "--listen=tcp://127.0.0.1:0".to_owned(),
        format!("--users-file={}", users.display()),
        format!("--groups-file={}", groups.display()),
    ];
    for (kind, pattern, [read, write, admin]) in ENTRIES {
        arguments.push(format!(
            "--authorize={kind}={pattern};read={read};write={write};admin={admin}"
        ));
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    BrokerProcess::start(&arguments)
}

/// What was refused: whether it is a matter of security, and the words.
fn told<T>(result: Result<T, Error>) -> Option<(bool, String)> {
    let error = result.err()?;
    let text = error.to_string();
    // Both clients say more around the broker's words.
    let words = text.find("User ").map_or("", |at| &text[at..]);
    Some((
        error.is_security(),
        words.lines().next().unwrap_or_default().to_owned(),
    ))
}

async fn connect(uri: &str, user: Option<(&str, &str)>) -> Result<Connection, Error> {
    let mut factory = ConnectionFactory::new(uri)?;
    if let Some((user, password)) = user {
        factory = factory.credentials(user, password);
    }
    let connection = soon("connecting", factory.create_connection()).await?;
    connection.start().await?;
    Ok(connection)
}

/// Does a number of things with our client and gives what was refused.
async fn with_our_client(uri: &str) -> Vec<(String, Option<(bool, String)>)> {
    let mut report = Vec::new();
    for (user, password) in [("bob", "wrong"), ("eve", "")] {
        let refused = told(connect(uri, Some((user, password))).await);
        report.push((format!("{user} connects"), refused));
    }
    report.push(("nobody connects".to_owned(), told(connect(uri, None).await)));

    let mut connections = Vec::new();
    for user in [USERS[1], USERS[0], USERS[1]] {
        let connection = connect(uri, Some(user)).await.expect("it is a user");
        let session = connection.create_session(AcknowledgeMode::Auto).await.unwrap();
        for destination in [
            Destination::queue("OPEN.Q"),
            Destination::queue("SECRET"),
            Destination::queue("KEPT.Q"),
            Destination::queue("IN.Q"),
            Destination::topic("NEWS.T"),
            Destination::topic("OTHER.T"),
        ] {
            let producer = soon("a producer", session.create_producer(&destination)).await;
            let sent = match producer {
                Ok(producer) => soon("sending", producer.send(Message::text("x"))).await.map(drop),
                Err(error) => Err(error),
            };
            report.push((format!("{} sends to {destination}", user.0), told(sent)));
            let consumer = soon("a consumer", session.create_consumer(&destination)).await;
            report.push((
                format!("{} reads from {destination}", user.0),
                told(consumer.as_ref().map(drop).map_err(Clone::clone)),
            ));
            if let Ok(consumer) = consumer {
                consumer.close().await.unwrap();
            }
        }
        let temporary = soon("a temporary queue", session.create_temporary_queue()).await;
        report.push((
            format!("{} makes a temporary queue", user.0),
            told(temporary.map(drop)),
        ));
        connections.push(connection);
    }
    for connection in connections {
        connection.close().await.unwrap();
    }
    report
}

/// The same with the Java client, in fewer words.
fn with_the_java_client(peers: &Peers, uri: &str) -> Vec<(String, Option<String>)> {
    let mut report = Vec::new();
    for (user, password, queue) in [
        ("bob", "builder", "OPEN.J"),
        ("bob", "builder", "SECRET.J"),
        ("bob", "builder", "KEPT.J"),
        ("bob", "wrong", "OPEN.J"),
    ] {
        let mut failures = Vec::new();
        for program in [&["Sender"][..], &["Receive", "--timeout", "5000"]] {
            let mut arguments = vec![
                program[0],
                uri,
                queue,
                "1",
                "--user",
                user,
                "--password",
                password,
            ];
            arguments.extend(&program[1..]);
            let ended = peers.jms(&arguments);
            let failure = ended
                .stderr
                .lines()
                .find_map(|line| line.split_once("JMSSecurityException: "));
            assert_eq!(
                ended.success,
                failure.is_none(),
                "{program:?} {queue}: {}",
                ended.stderr
            );
            failures.push(failure.map(|(_, words)| words.to_owned()));
        }
        for (what, failure) in ["sends to", "reads from"].into_iter().zip(failures) {
            report.push((format!("{user} {what} {queue}"), failure));
        }
    }
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn both_brokers_refuse_the_same_in_the_same_words() {
    let Some(peers) = Peers::find("both_brokers_refuse_the_same_in_the_same_words") else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let (theirs, ours) = (activemq(&peers, &dir), broker_lite(&dir));

    let expected = with_our_client(&theirs.url()).await;
    let refused = expected.iter().filter(|(_, refused)| refused.is_some()).count();
    assert!(refused >= 15 && expected.len() - refused >= 15, "{expected:#?}");
    for (what, refused) in &expected {
        let is_told = |(security, words): &(bool, String)| *security && !words.is_empty();
        assert!(refused.as_ref().is_none_or(is_told), "{what}: {refused:?}");
    }
    assert_eq!(with_our_client(&ours.addresses[0]).await, expected);

    let expected = with_the_java_client(&peers, &theirs.url());
    let refused = expected.iter().filter(|(_, refused)| refused.is_some()).count();
    assert!(refused == 6 && expected.len() == 8, "{expected:#?}");
    assert_eq!(with_the_java_client(&peers, &ours.addresses[0]), expected);
}

/// The Java client's own checks, where everybody has to log in and everything is allowed by an entry.
#[test]
fn the_java_client_works_as_a_user() {
    let Some(peers) = Peers::find("the_java_client_works_as_a_user") else {
        return;
    };
    let broker = BrokerProcess::start(&[
        "--memory",
        "--listen=tcp://127.0.0.1:0",
        "--user=bob:builder",
        "--group=users=bob",
        "--authorize=default;read=users;write=users;admin=users",
        "--authorize=temporary;read=users;write=users;admin=users",
    ]);
    let ended = peers.jms(&[
        "Interop",
        "--url",
        &broker.addresses[0],
        "--user",
        "bob",
        "--password",
        "builder",
        "--only",
        "connection.*,temp.*,topic.pubsub,queue.listener",
    ]);
    assert!(ended.success, "{}{}", ended.stdout, ended.stderr);
}
