//! The binary as a person, a script or an init system sees it.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{DEADLINE, Raw, exception, ok};
use openwire_client::wire::{Command as Protocol, Destination, MessagePull};

fn broker_lite(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker-lite"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A broker in a process of its own; killed if a test fails.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    addresses: Vec<String>,
}

impl Running {
    /// Starts it and waits until it is ready.
    fn start(arguments: &[&str]) -> Self {
        Self::spawn(&mut broker_lite(arguments))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut running = Self {
            child,
            stdout,
            addresses: Vec::new(),
        };
        loop {
            let line = running.line().expect("it ended before it was ready");
            match line.strip_prefix("listening on ") {
                Some(address) => running.addresses.push(address.to_owned()),
                None => {
                    assert_eq!(line, "ready");
                    return running;
                }
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.stdout.read_line(&mut line).unwrap() > 0).then(|| line.trim_end().to_owned())
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Sends a signal and waits for the end; gives the status, the rest of stdout, and stderr.
    fn stop(mut self, signal: rustix::process::Signal) -> (Option<i32>, String, String) {
        self.signal(signal);
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < DEADLINE, "it does not stop");
            std::thread::yield_now();
        };
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let mut errors = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut errors)
            .unwrap();
        (status.code(), rest, errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already if the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it to an end that is expected to come by itself.
fn run(arguments: &[&str]) -> Output {
    broker_lite(arguments).output().unwrap()
}

/// It failed with one line on stderr that names `what`.
#[track_caller]
fn fails(arguments: &[&str], what: &str) {
    fails_with(1, arguments, what);
}

#[track_caller]
fn fails_with(status: i32, arguments: &[&str], what: &str) {
    let output = run(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(
        errors.starts_with("broker-lite: ") && errors.contains(what),
        "{errors}"
    );
    assert!(output.stdout.is_empty());
}

#[track_caller]
fn accepts(address: &str) {
    let (_, host_port) = address.split_once("://").unwrap();
    TcpStream::connect(host_port).unwrap();
}

#[test]
fn it_says_where_it_listens_and_stops_in_order() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let broker = Running::start(&[
            "--memory",
            "--listen",
            "tcp://127.0.0.1:0",
            "--listen",
            "tcp://localhost:0?maximumConnections=5",
        ]);
        assert_eq!(broker.addresses.len(), 2, "{:?}", broker.addresses);
        broker.addresses.iter().for_each(|address| accepts(address));
        let (status, rest, errors) = broker.stop(signal);
        assert_eq!(status, Some(0), "{errors}");
        assert_eq!(rest, "", "nothing follows the ready line");
    }
}

#[test]
fn clients_do_not_keep_it_from_stopping() {
    let broker = Running::start(&["start", "--memory", "--listen", "tcp://127.0.0.1:0"]);
    let (_, host_port) = broker.addresses[0].split_once("://").unwrap();
    let silent = TcpStream::connect(host_port).unwrap();
    let mut half = TcpStream::connect(host_port).unwrap();
    half.write_all(b"\0\0\0\x40\x01Active").unwrap();
    let started = Instant::now();
    let (status, _, errors) = broker.stop(rustix::process::Signal::TERM);
    assert_eq!(status, Some(0), "{errors}");
    assert!(started.elapsed() < Duration::from_secs(5));
    drop((silent, half));
}

#[test]
fn the_ports_file_holds_the_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ports");
    fs::write(&file, "tcp://of.an.earlier.run:1\n").unwrap();
    let broker = Running::start(&[
        "--memory",
        "--listen",
        "tcp://127.0.0.1:0",
        "--ports-file",
        file.to_str().unwrap(),
    ]);
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        format!("{}\n", broker.addresses[0])
    );
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "nothing temporary is left"
    );
}

#[test]
fn a_ports_file_that_cannot_be_written_is_an_error() {
    fails(
        &[
            "--memory",
            "--listen",
            "tcp://127.0.0.1:0",
            "--log",
            "off",
            "--ports-file",
            "/nowhere/at/all",
        ],
        "/nowhere/at/all",
    );
}

#[test]
fn a_taken_port_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("tcp://{}", taken.local_addr().unwrap());
    fails(&["--memory", "--listen", &uri], &uri);
}

#[test]
fn what_cannot_be_is_an_error_of_one_line() {
    let memory = ["--memory", "--listen"];
    for (uri, what) in [
        ("tcp://127.0.0.1:0?bogus=1", "bogus"),
        ("tcp://127.0.0.1", "port"),
        ("ssl://127.0.0.1:0", "certificate"),
    ] {
        fails(&[&memory[..], &[uri]].concat(), what);
    }
    fails(&["--memory", "--log", "broker_lite=loud"], "loud");
    fails(
        &["--memory", "--tls-cert", "/no/chain", "--tls-key", "/no/key"],
        "/no/chain",
    );
}

#[test]
fn a_configuration_file_is_followed_and_the_command_line_wins() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broker-lite.toml");
    let file = path.to_str().unwrap();
    let write = |text: &str| fs::write(&path, text).unwrap();
    write(
        "persistent = false\nlisten = [\"tcp://127.0.0.1:0\", \"tcp://127.0.0.1:0?maximumConnections=5\"]\n",
    );
    let broker = Running::start(&["--config", file]);
    assert_eq!(broker.addresses.len(), 2);
    broker.stop(rustix::process::Signal::TERM);
    let broker = Running::start(&["--config", file, "--listen", "tcp://127.0.0.1:0"]);
    assert_eq!(broker.addresses.len(), 1);
    broker.stop(rustix::process::Signal::TERM);

    write("persistent = false\nlisten = [\"tcp://127.0.0.1:0\"]\nbrokername = \"a\"\n");
    fails(
        &["--config", file],
        "broker-lite.toml:3:1: there is no brokername here",
    );
    write("[tls]\ncertificate = \"/no/chain\"\nkey = \"/no/key\"\n");
    fails(&["--config", file, "--memory"], "/no/chain");
    fails(&["--config", "/no/file"], "/no/file");
}

#[test]
fn a_password_is_never_shown() {
    let output = run(&["--memory", "--user", "secret-without-a-colon"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        !String::from_utf8(output.stderr)
            .unwrap()
            .contains("secret-without")
    );
    let broker = Running::start(&[
        "--memory",
        "--listen",
        "tcp://127.0.0.1:0",
        "--log",
        "trace",
        "--user",
        "system:top-secret",
    ]);
    let (_, _, errors) = broker.stop(rustix::process::Signal::TERM);
    assert!(!errors.contains("top-secret"), "{errors}");
}

#[test]
fn what_it_does_not_know_ends_with_status_2() {
    for arguments in [
        &["--bogus"][..],
        &["bogus"],
        &["--memory", "--data", "x"],
        &["--tls-cert", "x"],
        &["--authorize", "read=a"],
        &["--group", "=a"],
        &["--anonymous=a"],
        &["--certificates-file", "x"],
        &["--user-ids", "x"],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_public_listener_without_users_is_warned_about() {
    let open = Running::start(&["--memory", "--listen", "tcp://0.0.0.0:0"]);
    let (_, _, errors) = open.stop(rustix::process::Signal::TERM);
    assert!(errors.contains("WARN") && errors.contains("0.0.0.0"), "{errors}");
    for told in [&["--user", "a:b"][..], &["--anonymous"], &["--anonymous=a:b"]] {
        let closed = Running::start(&[&["--memory", "--listen", "tcp://0.0.0.0:0"], told].concat());
        let (_, _, errors) = closed.stop(rustix::process::Signal::TERM);
        assert!(!errors.contains("WARN"), "{told:?}: {errors}");
    }
}

#[test]
fn access_on_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let (users, groups) = (file("users", "ada=lovelace\n"), file("groups", "users=ada\n"));
    let listen = ["--memory", "--listen", "tcp://127.0.0.1:0"];
    let rest = [
        "--users-file",
        &users,
        "--groups-file",
        &groups,
        "--user",
        "bob:a:b",
        "--group",
        "users=bob, carl",
        "--authorize",
        "queue=>;read=users;write=users;admin=users",
        "--authorize",
        "temporary;read=*",
        "--anonymous",
        "--user-ids=authenticated",
    ];
    let (status, _, errors) =
        Running::start(&[&listen[..], &rest].concat()).stop(rustix::process::Signal::TERM);
    assert_eq!(status, Some(0), "{errors}");
    assert!(!errors.contains("WARN"), "{errors}");

    fails(
        &[&listen[..], &["--users-file", "/no/users"]].concat(),
        "/no/users",
    );
    fails(
        &[&listen[..], &["--authorize", "default;read=a"]].concat(),
        "needs users",
    );
}

#[test]
fn a_password_is_hashed() {
    let hash = |password: &str| {
        let mut command = broker_lite(&["hash-password"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(password.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    };
    let output = hash("secret\nnot this\n");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.starts_with("$argon2id$") && text.lines().count() == 1,
        "{text}"
    );
    let user = format!("ada:{}", text.trim());
    let broker = Running::start(&["--memory", "--listen", "tcp://127.0.0.1:0", "--user", &user]);
    broker.stop(rustix::process::Signal::TERM);
    assert!(!hash("").status.success());
}

#[test]
fn nothing_is_made_in_memory_mode() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = broker_lite(&["--memory", "--listen", "tcp://127.0.0.1:0", "--log", "off"]);
    command.current_dir(directory.path());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    while line != "ready\n" {
        line.clear();
        assert!(stdout.read_line(&mut line).unwrap() > 0);
    }
    assert!(is_empty(directory.path()));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

/// Starts a broker on a journal.
fn on_journal(directory: &Path) -> Running {
    on_journal_with(directory, &[])
}

fn on_journal_with(directory: &Path, more: &[&str]) -> Running {
    let data = directory.to_str().unwrap();
    Running::start(&[&["--listen", "tcp://127.0.0.1:0", "--data", data], more].concat())
}

/// Sends persistent messages, each of which the broker confirms.
#[tokio::main(flavor = "current_thread")]
async fn send(address: &str, queue: &Destination, bodies: &[&str]) {
    let mut client = Raw::connect(address).await.unwrap();
    client.introduce().await;
    client.producer(queue).await;
    for (number, body) in (1..).zip(bodies) {
        let message = client.message(number, queue, true, body.as_bytes());
        ok(client.request(message).await);
    }
}

/// Receives and acknowledges so many messages; gives their bodies.
#[tokio::main(flavor = "current_thread")]
async fn receive(address: &str, queue: &Destination, count: usize) -> Vec<String> {
    let mut client = Raw::connect(address).await.unwrap();
    client.introduce().await;
    client.consumer(queue, 100).await;
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let message = client.dispatch().await;
        let ack = client.ack(queue, &message);
        ok(client.request(ack).await);
        let content = message.content.as_ref().unwrap();
        bodies.push(String::from_utf8(content[4..].to_vec()).unwrap());
    }
    bodies
}

#[test]
fn what_was_confirmed_outlives_it_however_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let queue = Destination::queue("outlives");
    let broker = on_journal(directory.path());
    send(&broker.addresses[0], &queue, &["one", "two", "three"]);
    drop(broker); // SIGKILL
    let broker = on_journal(directory.path());
    assert_eq!(receive(&broker.addresses[0], &queue, 1), ["one"]);
    let (status, _, errors) = broker.stop(rustix::process::Signal::TERM);
    assert_eq!(status, Some(0), "{errors}");
    let broker = on_journal_with(directory.path(), &["--threads", "2", "--durability", "os"]);
    assert_eq!(receive(&broker.addresses[0], &queue, 2), ["two", "three"]);
    let (status, _, errors) = broker.stop(rustix::process::Signal::TERM);
    assert_eq!(status, Some(0), "{errors}");
}

#[test]
fn the_journal_has_the_sizes_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let config = directory.path().join("broker.toml");
    fs::write(
        &config,
        "durability = \"os\"\n[journal]\njournalMaxFileLength = \"1 mb\"\nspareFiles = 1\n",
    )
    .unwrap();
    let longest = |more: &[&str]| {
        let config = ["--config", config.to_str().unwrap()];
        let broker = on_journal_with(&data, &[&config, more].concat());
        let files = fs::read_dir(&data).unwrap().map(|file| file.unwrap());
        let longest = files.map(|file| file.metadata().unwrap().len()).max();
        let (status, _, errors) = broker.stop(rustix::process::Signal::TERM);
        assert_eq!(status, Some(0), "{errors}");
        longest.unwrap()
    };
    assert_eq!(longest(&[]), 1 << 20);
    assert_eq!(longest(&["--journal-max-file-length", "2m"]), 2 << 20);
    for arguments in [["--journal-max-file-length", "1 tb"], ["--store-usage", "much"]] {
        assert_eq!(run(&arguments).status.code(), Some(2));
    }
    let data = data.to_str().unwrap();
    fails(
        &[
            "--data",
            data,
            "--listen",
            "tcp://127.0.0.1:0",
            "--journal-max-file-length",
            "1k",
        ],
        "segment size of 1024 bytes",
    );
}

/// Commits again over a new connection, and says whether the broker says that it is done.
#[tokio::main(flavor = "current_thread")]
async fn commit_again(address: &str, id: &str, transaction: i64) -> bool {
    let mut client = Raw::connect(address).await.unwrap();
    client.come_again(id).await;
    match client.commit(transaction).await {
        Protocol::Response(_) => true,
        refused => {
            let (class, message) = exception(&refused);
            assert_eq!(class, "javax.jms.JMSException");
            assert!(message.contains("has not been started"), "{message}");
            false
        }
    }
}

#[test]
fn a_commit_without_an_answer_is_answered_after_a_kill() {
    const MESSAGES: i64 = 3;
    let directory = tempfile::tempdir().unwrap();
    let queue = Destination::queue("outcomes");
    let mut committed = 0;
    for round in 0..4 {
        let broker = on_journal(directory.path());
        let id = tokio::runtime::Runtime::new().unwrap().block_on(async {
            let address = &broker.addresses[0];
            let mut client = Raw::connect(address).await.unwrap();
            client.introduce().await;
            client.producer(&queue).await;
            client.send_transaction(round, &queue, MESSAGES).await;
            if round % 2 == 0 {
                // Who sees the message knows that the commit is durable.
                let mut consumer = Raw::connect(address).await.unwrap();
                consumer.introduce().await;
                consumer.consumer(&queue, 1).await;
                consumer.dispatch().await;
            }
            client.id().to_owned()
        });
        drop(broker); // SIGKILL
        let broker = on_journal(directory.path());
        let done = commit_again(&broker.addresses[0], &id, round);
        assert!(done || round % 2 == 1, "round {round}: it was committed");
        assert_eq!(commit_again(&broker.addresses[0], &id, round), done);
        let there = if done { MESSAGES } else { 0 };
        assert_eq!(
            receive(&broker.addresses[0], &queue, there as usize).len(),
            there as usize
        );
        assert!(nothing_left(&broker.addresses[0], &queue), "round {round}");
        committed += u32::from(done);
    }
    assert!(committed >= 2);
}

/// No message is on the queue: a pull that does not wait comes back empty.
#[tokio::main(flavor = "current_thread")]
async fn nothing_left(address: &str, queue: &Destination) -> bool {
    let mut client = Raw::connect(address).await.unwrap();
    client.introduce().await;
    client.consumer(queue, 0).await;
    let pull = MessagePull {
        consumer_id: Some(client.consumer_id()),
        destination: Some(queue.clone()),
        timeout: -1,
        ..MessagePull::default()
    };
    client.send(Box::new(pull), false).await.unwrap();
    client
        .read_until(|command| match command {
            Protocol::MessageDispatch(dispatch) => Some(dispatch.message.is_none()),
            _ => None,
        })
        .await
}

#[test]
fn a_journal_that_is_in_use_is_an_error_for_who_is_not_to_wait() {
    let directory = tempfile::tempdir().unwrap();
    let first = on_journal(directory.path());
    let data = directory.path().to_str().unwrap();
    let second = [
        "--listen",
        "tcp://127.0.0.1:0",
        "--data",
        data,
        "--fail-if-locked",
    ];
    fails_with(3, &second, data);
    drop(first);
    on_journal(directory.path());
}

#[test]
fn a_damaged_journal_is_an_error_that_says_where() {
    let directory = tempfile::tempdir().unwrap();
    let broker = on_journal(directory.path());
    let queue = Destination::queue("damaged");
    send(
        &broker.addresses[0],
        &queue,
        &["first", "the second message", "third"],
    );
    broker.stop(rustix::process::Signal::TERM);
    let needle = b"the second message";
    let (file, mut content, at) = fs::read_dir(directory.path())
        .unwrap()
        .find_map(|entry| {
            let path = entry.unwrap().path();
            let content = fs::read(&path).unwrap();
            let at = content
                .windows(needle.len())
                .position(|window| window == needle)?;
            Some((path, content, at))
        })
        .expect("the message is in no file");
    content[at] ^= 0x20;
    fs::write(&file, content).unwrap();
    let data = directory.path().to_str().unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    fails_with(5, &["--listen", "tcp://127.0.0.1:0", "--data", data], name);
}

#[test]
fn a_directory_that_cannot_be_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let data = file.path().to_str().unwrap();
    fails(&["--listen", "tcp://127.0.0.1:0", "--data", data], data);
    for durability in ["sometimes", "interval:0", "interval:x", "interval"] {
        assert_eq!(run(&["--durability", durability]).status.code(), Some(2));
    }
}

#[test]
fn it_goes_on_when_it_had_no_file_descriptors_left() {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -n 24 && exec \"$0\" --memory --listen tcp://127.0.0.1:0",
        ])
        .arg(env!("CARGO_BIN_EXE_broker-lite"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut broker = Running::spawn(&mut command);
    let (_, host_port) = broker.addresses[0].split_once("://").unwrap();
    let crowd: Vec<_> = (0..50).map(|_| TcpStream::connect(host_port).unwrap()).collect();
    let mut errors = BufReader::new(broker.child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("cannot accept") {
        line.clear();
        assert!(errors.read_line(&mut line).unwrap() > 0, "it ended");
    }
    drop(crowd);
    send(
        &broker.addresses[0],
        &Destination::queue("after-the-crowd"),
        &["hello"],
    );
    broker.child.stderr = Some(errors.into_inner());
    let (status, _, errors) = broker.stop(rustix::process::Signal::TERM);
    assert_eq!(status, Some(0), "{errors}");
    // It says so once, not at each attempt.
    assert!(errors.matches("cannot accept").count() < 10, "{errors}");
}
