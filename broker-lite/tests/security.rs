//! Who may connect to a broker, and who may do what there.

mod common;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use broker_lite::core::UserIds;
use broker_lite::security::{AuthorizationEntry, hash_password};
use broker_lite::{Broker, BrokerBuilder};
use common::{AnyRaw, Raw, exception, ok};
use openwire_client::transport::TlsOptions;
use openwire_client::wire::*;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

fn builder() -> BrokerBuilder {
    Broker::builder().listen("tcp://127.0.0.1:0")
}

/// Users, makers who may do everything, and a place where users may do less.
fn guarded() -> BrokerBuilder {
    builder()
        .user("ada", "lovelace")
        .user("bob", "builder")
        .group("makers", ["ada"])
        .group("users", ["ada", "bob"])
        .authorize(
            AuthorizationEntry::queue(">")
                .read("makers")
                .write("makers")
                .admin("makers"),
        )
        .authorize(
            AuthorizationEntry::queue("OPEN.>")
                .read("users")
                .write("users")
                .admin("users"),
        )
        .authorize(AuthorizationEntry::queue("KEPT.>").read("users").write("users"))
        .authorize(AuthorizationEntry::queue("IN.>").write("users").admin("users"))
        .authorize(AuthorizationEntry::topic("NEWS.>").read("users"))
}

async fn log_in(uri: &str, user: &str, password: &str) -> Raw {
    let mut client = Raw::connect(uri).await.unwrap();
    let response = introduce(&mut client, Some(user), Some(password)).await;
    ok(response);
    client
}

/// Says who it is, and opens session 1 if it is let in.
async fn introduce<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Raw<S>,
    user: Option<&str>,
    password: Option<&str>,
) -> Command {
    let mut info = client.connection_info();
    info.user_name = user.map(Into::into);
    info.password = password.map(Into::into);
    let response = client.request(Box::new(info)).await;
    if matches!(response, Command::Response(_)) {
        let session = SessionInfo {
            session_id: Some(client.session_id()),
            ..SessionInfo::default()
        };
        ok(client.request(session).await);
    }
    response
}

fn consumer(client: &Raw, number: i64, destination: &Destination) -> Command {
    Box::new(ConsumerInfo {
        consumer_id: Some(ConsumerId {
            value: number,
            ..client.consumer_id()
        }),
        destination: Some(destination.clone()),
        prefetch_size: 1,
        ..ConsumerInfo::default()
    })
    .into()
}

fn producer(client: &Raw, number: i64, destination: &Destination) -> Command {
    ProducerInfo {
        producer_id: Some(ProducerId {
            value: number,
            ..client.producer_id()
        }),
        destination: Some(destination.clone()),
        ..ProducerInfo::default()
    }
    .into()
}

fn destination_info(destination: &Destination, operation_type: i8) -> Command {
    DestinationInfo {
        destination: Some(destination.clone()),
        operation_type,
        ..DestinationInfo::default()
    }
    .into()
}

#[track_caller]
fn denied(response: &Command, words: &str) {
    assert_eq!(
        exception(response),
        ("java.lang.SecurityException".to_owned(), words.to_owned())
    );
}

#[tokio::test]
async fn what_no_entry_allows_is_refused() {
    let broker = guarded().start().await.unwrap();
    let mut bob = log_in(broker.uri(), "bob", "builder").await;
    let queue = Destination::queue;

    // What every client does when it connects.
    let advisories = Destination::topic("ActiveMQ.Advisory.TempQueue,ActiveMQ.Advisory.TempTopic");
    let command = consumer(&bob, 90, &advisories);
    ok(bob.request(command).await);

    let mut number = 0;
    for (destination, reads, writes) in [
        (queue("OPEN.1"), None, None),
        (queue("SECRET"), Some("read from"), Some("write to")),
        (queue("KEPT.1"), Some("create"), Some("create")),
        (queue("IN.1"), Some("read from"), None),
        (Destination::topic("NEWS.1"), Some("create"), Some("write to")),
        (Destination::topic("OPEN.1"), Some("read from"), Some("write to")),
    ] {
        number += 1;
        let commands = [
            (consumer(&bob, number, &destination), reads),
            (producer(&bob, number, &destination), writes),
            (bob.message(number, &destination, true, b"x"), writes),
        ];
        for (command, refused) in commands {
            let response = bob.request(command).await;
            match refused {
                None => ok(response),
                Some(what) => denied(
                    &response,
                    &format!("User bob is not authorized to {what}: {destination}"),
                ),
            }
        }
    }
    assert_eq!(broker.stats().core.denied, 13);
    assert_eq!(broker.queue_depth("SECRET"), None);
    assert_eq!(broker.queue_depth("KEPT.1"), None);

    // What somebody else made can be used.
    let mut ada = log_in(broker.uri(), "ada", "lovelace").await;
    let kept = queue("KEPT.1");
    ok(ada.request(destination_info(&kept, DestinationInfo::ADD)).await);
    let message = bob.message(50, &kept, true, b"x");
    ok(bob.request(message).await);
    assert_eq!(broker.queue_depth("KEPT.1"), Some(1));
    ok(bob.request(destination_info(&kept, DestinationInfo::ADD)).await);
    let words = "User bob is not authorized to remove: queue://KEPT.1";
    denied(
        &bob.request(destination_info(&kept, DestinationInfo::REMOVE))
            .await,
        words,
    );
    ok(ada
        .request(destination_info(&kept, DestinationInfo::REMOVE))
        .await);
    broker.stop().await.unwrap();
}

/// Nobody waits for the answer to a send in a transaction, so the commit has to tell.
#[tokio::test]
async fn a_transaction_with_a_message_that_is_refused_does_not_commit() {
    let broker = guarded().start().await.unwrap();
    let mut bob = log_in(broker.uri(), "bob", "builder").await;
    let id = bob.send_transaction(1, &Destination::queue("SECRET"), 2).await;
    let (class, message) = exception(&bob.response(id).await);
    assert_eq!(class, "javax.jms.TransactionRolledBackException");
    assert!(
        message.contains("not authorized to write to: queue://SECRET"),
        "{message}"
    );
    assert_eq!(broker.stats().core.denied, 2);
}

#[tokio::test]
async fn temporary_destinations_have_an_entry_of_their_own() {
    let temporary = |client: &Raw, number: i64| {
        Destination::new(DestinationKind::TempQueue, &format!("{}:{number}", client.id()))
    };
    let open = guarded().start().await.unwrap();
    let mut bob = log_in(open.uri(), "bob", "builder").await;
    let destination = temporary(&bob, 1);
    ok(bob
        .request(destination_info(&destination, DestinationInfo::ADD))
        .await);
    let command = consumer(&bob, 1, &destination);
    ok(bob.request(command).await);

    let entry = AuthorizationEntry::temporary()
        .read("users")
        .write("users")
        .admin("makers");
    let closed = guarded().authorize(entry).start().await.unwrap();
    let mut bob = log_in(closed.uri(), "bob", "builder").await;
    let destination = temporary(&bob, 1);
    let response = bob
        .request(destination_info(&destination, DestinationInfo::ADD))
        .await;
    denied(
        &response,
        &format!("User bob is not authorized to create: {destination}"),
    );
}

#[tokio::test]
async fn messages_say_who_sent_them() {
    for (user_ids, expected) in [
        (UserIds::AsSent, Some("somebody")),
        (UserIds::Given, Some("ada")),
        (UserIds::Authenticated, Some("ada")),
    ] {
        let broker = builder()
            .user("ada", "lovelace")
            .user_ids(user_ids)
            .start()
            .await
            .unwrap();
        let mut ada = log_in(broker.uri(), "ada", "lovelace").await;
        let queue = Destination::queue("Q");
        ada.consumer(&queue, 1).await;
        let Command::Message(message) = ada.message(1, &queue, false, b"x") else {
            unreachable!("it is a message");
        };
        let message = Message {
            user_id: Some("somebody".into()),
            ..(*message).clone()
        };
        ok(ada.request(Arc::new(message)).await);
        assert_eq!(ada.dispatch().await.user_id.as_deref(), expected, "{user_ids:?}");
    }
}

#[tokio::test]
async fn who_says_nothing_is_anonymous_where_that_is_allowed() {
    let broker = guarded()
        .anonymous("guest", "guests")
        .authorize(AuthorizationEntry::queue("GUESTS").read("guests"))
        .start()
        .await
        .unwrap();
    let mut guest = Raw::connect(broker.uri()).await.unwrap();
    ok(introduce(&mut guest, None, None).await);
    let command = consumer(&guest, 1, &Destination::queue("OPEN.1"));
    let words = "User guest is not authorized to read from: queue://OPEN.1";
    denied(&guest.request(command).await, words);
    let command = consumer(&guest, 1, &Destination::queue("GUESTS"));
    let words = "User guest is not authorized to create: queue://GUESTS";
    denied(&guest.request(command).await, words);

    let mut named = Raw::connect(broker.uri()).await.unwrap();
    let words = "User name [guest] or password is invalid.";
    denied(&introduce(&mut named, Some("guest"), None).await, words);
}

/// Without users, everybody is anonymous by name, and can be given rights.
#[tokio::test]
async fn authorization_without_users() {
    let entry = || {
        AuthorizationEntry::queue("Q")
            .read("all")
            .write("all")
            .admin("all")
    };
    let broker = builder()
        .anonymous("anybody", "all")
        .authorize(entry())
        .start()
        .await
        .unwrap();
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    client.introduce().await;
    client.producer(&Destination::queue("Q")).await;
    let command = consumer(&client, 1, &Destination::queue("R"));
    let words = "User anybody is not authorized to read from: queue://R";
    denied(&client.request(command).await, words);

    let error = builder().authorize(entry()).start().await.unwrap_err();
    assert!(
        error.is_config() && error.to_string().contains("needs users"),
        "{error}"
    );
}

#[tokio::test]
async fn users_and_groups_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let (users, groups) = (
        dir.path().join("users.properties"),
        dir.path().join("groups.properties"),
    );
    let hash = hash_password("löve lace").unwrap();
    fs::write(&users, format!("# the users\nada = {hash}\n")).unwrap();
    fs::write(&groups, "makers=ada\n").unwrap();
    let broker = builder()
        .users_file(&users)
        .groups_file(&groups)
        .authorize(AuthorizationEntry::queue(">").read("makers").admin("makers"))
        .start()
        .await
        .unwrap();
    let queue = Destination::queue("Q");
    let mut ada = log_in(broker.uri(), "ada", "löve lace").await;
    let command = consumer(&ada, 1, &queue);
    ok(ada.request(command).await);

    fs::write(&users, format!("ada = {hash}\nbob = builder\n")).unwrap();
    fs::write(&groups, "makers=ada,\\\n  bob\n").unwrap();
    // Files are looked at once a second at most.
    let bob = timeout(Duration::from_secs(30), async {
        loop {
            let mut bob = Raw::connect(broker.uri()).await.unwrap();
            if let Command::Response(_) = introduce(&mut bob, Some("bob"), Some("builder")).await {
                return bob;
            }
        }
    });
    let mut bob = bob.await.expect("the new user is let in");
    let command = consumer(&bob, 1, &queue);
    ok(bob.request(command).await);

    fs::write(&users, "ada = $6$not-ours\n").unwrap();
    let error = builder().users_file(&users).start().await.unwrap_err();
    assert!(
        error.is_config() && !error.to_string().contains("not-ours"),
        "{error}"
    );
    let error = builder()
        .users_file(dir.path().join("none"))
        .start()
        .await
        .unwrap_err();
    assert!(error.is_config() && error.to_string().contains("none"), "{error}");
}

struct Certificates {
    ca: String,
    chain: String,
    key: String,
}

/// A certificate with this common name, and its authority.
fn certificates(name: &str) -> Certificates {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(ca, ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "Acme, Inc.");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    Certificates {
        chain: params.signed_by(&key, &ca).unwrap().pem(),
        ca: ca.pem(),
        key: key.serialize_pem(),
    }
}

#[tokio::test]
async fn a_certificate_says_who_somebody_is() {
    let ours = certificates("Ada");
    let broker = builder()
        .listen("ssl://localhost:0?wantClientAuth=true")
        .tls(
            ours.chain.as_str(),
            ours.key.as_str(),
            Some(ours.ca.clone().into()),
        )
        .user("bob", "builder")
        .certificate("ada", "CN=Ada, O=\"Acme, Inc.\"")
        .group("makers", ["ada"])
        .authorize(AuthorizationEntry::queue("Q").write("makers").admin("makers"))
        .user_ids(UserIds::Authenticated)
        .start()
        .await
        .unwrap();
    let uri = broker.addresses()[1].replace("127.0.0.1", "localhost");
    let nobody = TlsOptions::new().ca_pem(&ours.ca).unwrap();
    let known = nobody
        .clone()
        .client_certificate_pem(&ours.chain, &ours.key)
        .unwrap();

    let queue = Destination::queue("Q");
    let mut ada = AnyRaw::connect_any(&uri, &known).await.unwrap();
    ok(introduce(&mut ada, None, None).await);
    let message = ada.message(1, &queue, false, b"x");
    ok(ada.request(message).await);

    let mut bob = AnyRaw::connect_any(&uri, &nobody).await.unwrap();
    ok(introduce(&mut bob, Some("bob"), Some("builder")).await);
    let message = bob.message(1, &queue, false, b"x");
    let words = "User bob is not authorized to write to: queue://Q";
    denied(&bob.request(message).await, words);

    let mut guest = AnyRaw::connect_any(&uri, &nobody).await.unwrap();
    let words = "User name [null] or password is invalid.";
    denied(&introduce(&mut guest, None, None).await, words);
    assert_eq!(broker.stats().listeners.failed_authentications, 1);
    broker.stop().await.unwrap();
}

/// The answers get slower and in the end the broker does not even look.
#[tokio::test]
async fn guessing_is_slowed_down_and_counted() {
    let broker = builder().user("ada", "lovelace").start().await.unwrap();
    let guess = |number: usize| {
        let uri = broker.uri().to_owned();
        async move {
            let mut client = Raw::connect(&uri).await.unwrap();
            introduce(&mut client, Some("ada"), Some(&format!("guess {number}"))).await
        }
    };
    // Enough failures for the longest pause.
    let failed = futures::future::join_all((0..7).map(&guess)).await;
    for response in &failed {
        denied(response, "User name [ada] or password is invalid.");
    }
    let started = std::time::Instant::now();
    denied(&guess(8).await, "User name [ada] or password is invalid.");
    assert!(
        started.elapsed() > Duration::from_millis(1500),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(broker.stats().listeners.failed_authentications, 8);
    broker.stop().await.unwrap();
}
