//! The classic Sender and Receive in every pairing: our client and the real Java client, through our broker
//! and through a real ActiveMQ, over `tcp:`, `ssl:` and `failover:`, persistent and not.

use std::path::Path;
use std::process::Command;

use tests::certificates::{Certificate, STORE_PASSWORD};
use tests::peers::Peers;
use tests::process::{BrokerProcess, Ended, example, free_port, run};

const COUNT: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Client {
    Ours,
    Java,
}

#[derive(Clone, Copy, Debug)]
enum Transport {
    Tcp,
    Ssl,
    Failover,
}

/// A broker with a plain and a secure address.
struct Addresses {
    tcp: String,
    ssl: String,
}

impl Addresses {
    fn uri(&self, transport: Transport) -> String {
        match transport {
            Transport::Tcp => self.tcp.clone(),
            Transport::Ssl => self.ssl.clone(),
            // The first of the two is down.
            Transport::Failover => format!(
                "failover:(tcp://127.0.0.1:{},{})?randomize=false",
                free_port(),
                self.tcp
            ),
        }
    }
}

struct Pairings {
    peers: Peers,
    certificate: Certificate,
}

impl Pairings {
    fn java(&self, arguments: &[&str]) -> Ended {
        let store = self.certificate.trust_store();
        let trust = format!(
            "-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword={STORE_PASSWORD}",
            store.display()
        );
        self.peers.jms_with(&trust, arguments)
    }

    fn ours(&self, sample: &Path, uri: &str, queue: &str, more: &[&str]) -> Ended {
        let count = COUNT.to_string();
        let mut command = Command::new(sample);
        command
            .args(["--uri", uri, "--queue", queue, "--count", &count])
            .args(more);
        run(command.arg("--ca").arg(self.certificate.pem()))
    }

    fn send(&self, client: Client, uri: &str, queue: &str, persistent: bool) -> Ended {
        let count = COUNT.to_string();
        match client {
            Client::Ours => self.ours(
                &example("sender"),
                uri,
                queue,
                if persistent { &["--persistent"] } else { &[] },
            ),
            Client::Java => {
                let mode = if persistent {
                    "persistent"
                } else {
                    "non-persistent"
                };
                self.java(&[
                    "Sender",
                    uri,
                    queue,
                    &count,
                    "--delivery",
                    mode,
                    "--text",
                    "中文消息 ",
                ])
            }
        }
    }

    fn receive(&self, client: Client, uri: &str, queue: &str) -> Ended {
        let count = COUNT.to_string();
        match client {
            Client::Ours => self.ours(&example("receive"), uri, queue, &["--timeout", "10000"]),
            Client::Java => self.java(&["Receive", uri, queue, &count, "--timeout", "10000"]),
        }
    }

    fn check(&self, broker: &str, addresses: &Addresses) {
        for (transport, persistent) in [
            (Transport::Tcp, true),
            (Transport::Ssl, false),
            (Transport::Failover, true),
        ] {
            for sender in [Client::Ours, Client::Java] {
                for receiver in [Client::Ours, Client::Java] {
                    let pairing = format!("{sender:?}.{broker}.{receiver:?}.{transport:?}");
                    let uri = addresses.uri(transport);
                    // Every pairing is tried in both delivery modes, on two of its three transports.
                    let persistent = persistent == (sender == receiver);
                    let sent = self.send(sender, &uri, &pairing, persistent);
                    assert!(sent.success, "{pairing}: {}{}", sent.stdout, sent.stderr);
                    let received = self.receive(receiver, &uri, &pairing);
                    assert!(
                        received.success,
                        "{pairing}: {}{}",
                        received.stdout, received.stderr
                    );
                    let texts = |ended: &Ended, prefix: &str| -> Vec<String> {
                        let lines = ended.stdout.lines().filter_map(|line| line.strip_prefix(prefix));
                        lines.map(str::to_owned).collect()
                    };
                    let (sent, received) = (texts(&sent, "sent: "), texts(&received, "received: "));
                    assert_eq!((sent.len(), &sent), (COUNT, &received), "{pairing}");
                }
            }
        }
    }
}

#[test]
fn every_pairing_through_broker_lite() {
    let Some(peers) = Peers::find("every_pairing_through_broker_lite") else {
        return;
    };
    let pairings = Pairings {
        peers,
        certificate: Certificate::new(),
    };
    let data = tempfile::TempDir::new().unwrap();
    let (pem, key) = (pairings.certificate.pem(), pairings.certificate.key());
    let broker = BrokerProcess::start(&[
        "--data",
        &data.path().to_string_lossy(),
        "--listen",
        "tcp://127.0.0.1:0",
        "--listen",
        "ssl://127.0.0.1:0",
        "--tls-cert",
        &pem.to_string_lossy(),
        "--tls-key",
        &key.to_string_lossy(),
    ]);
    let addresses = Addresses {
        tcp: broker.addresses[0].clone(),
        ssl: broker.addresses[1].clone(),
    };
    pairings.check("broker-lite", &addresses);
}

#[test]
fn every_pairing_through_activemq() {
    let Some(peers) = Peers::find("every_pairing_through_activemq") else {
        return;
    };
    let pairings = Pairings {
        peers,
        certificate: Certificate::new(),
    };
    let data = tempfile::TempDir::new().unwrap();
    let keys = pairings.certificate.key_store();
    let java = format!(
        "-Xmx1G -Djavax.net.ssl.keyStore={} -Djavax.net.ssl.keyStorePassword={STORE_PASSWORD}",
        keys.display()
    );
    let ssl = format!("ssl://127.0.0.1:{}", free_port());
    let broker = pairings.peers.start(&[
        "--persistent",
        &data.path().to_string_lossy(),
        "--connector",
        &ssl,
        "--java-opts",
        &java,
    ]);
    pairings.check(
        "activemq",
        &Addresses {
            tcp: broker.url(),
            ssl,
        },
    );
}
