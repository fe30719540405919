//! Transactions that consume and produce, while the connection or the broker goes at a stage of their commit: each has one
//! outcome, nothing is lost or doubled, and whoever commits is told the truth.

use std::time::Duration;

use openwire_client::{AcknowledgeMode, Connection, ConnectionFactory, Destination, Error};
use tests::peers::Peers;
use tests::process::{BrokerProcess, free_port};
use tests::proxy::CuttingProxy;
use tests::soon;
use tokio::task::block_in_place;

/// How many messages a transaction moves.
const BATCH: usize = 2;

/// How many connections are cut: each stage comes twenty times.
const CUTS: usize = 60;

/// A queue is empty when nothing came for this long.
const EMPTY: Duration = Duration::from_secs(3);

/// When it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    BeforeItLeft,
    /// The broker has answered, and the answer is withheld.
    Unanswered,
    Answered,
}

const STAGES: [Stage; 3] = [Stage::BeforeItLeft, Stage::Unanswered, Stage::Answered];

/// How the commits ended, by stage.
#[derive(Debug, Default)]
struct Outcomes {
    committed: Vec<Stage>,
    rolled_back: Vec<Stage>,
    in_doubt: Vec<Stage>,
}

fn input() -> Destination {
    Destination::queue("commits.in")
}

fn output() -> Destination {
    Destination::queue("commits.out")
}

async fn connect(address: &str) -> Connection {
    let uri = format!(
        "failover:({address})?initialReconnectDelay=10&maxReconnectDelay=100&jms.redeliveryPolicy.initialRedeliveryDelay=10"
    );
    let factory = ConnectionFactory::new(&uri).expect("the URI is fine");
    let connection = factory.create_connection().await.expect("the broker lives");
    connection.start().await.expect("it is open");
    connection
}

async fn fill(connection: &Connection, count: usize) -> Result<(), Error> {
    let session = connection.create_session(AcknowledgeMode::Transacted).await?;
    let producer = session.create_producer(&input()).await?;
    for number in 0..count {
        producer.send(number.to_string()).await?;
    }
    session.commit().await
}

/// Moves everything in transactions. `fault` happens in each of the first, at the stages in turn.
async fn move_all(
    connection: &Connection,
    proxy: &CuttingProxy,
    faults: usize,
    mut fault: impl FnMut(),
) -> Result<Outcomes, Error> {
    let session = connection.create_session(AcknowledgeMode::Transacted).await?;
    let consumer = session.create_consumer(&input()).await?;
    let producer = session.create_producer(&output()).await?;
    let mut outcomes = Outcomes::default();
    let mut stages = STAGES.into_iter().cycle().take(faults);
    loop {
        let mut count = 0;
        while count < BATCH
            && let Some(message) = consumer.receive_timeout(EMPTY).await?
        {
            producer.send(message).await?;
            count += 1;
        }
        if count == 0 {
            return Ok(outcomes);
        }
        let Some(stage) = stages.next() else {
            session.commit().await?;
            continue;
        };
        let committed = match stage {
            Stage::BeforeItLeft => {
                block_in_place(&mut fault);
                session.commit().await
            }
            Stage::Unanswered => {
                let cut = proxy.cut_next_answer();
                let (committed, ()) = tokio::join!(session.commit(), async {
                    soon("the cut", cut).await.expect("the proxy lives");
                    block_in_place(&mut fault);
                });
                committed
            }
            Stage::Answered => {
                let committed = session.commit().await;
                block_in_place(&mut fault);
                committed
            }
        };
        match committed {
            Ok(()) => outcomes.committed.push(stage),
            Err(error) if error.is_rolled_back() => outcomes.rolled_back.push(stage),
            Err(error) if error.is_in_doubt() => outcomes.in_doubt.push(stage),
            Err(error) => return Err(error),
        }
    }
}

/// What is in the output queue.
async fn moved(connection: &Connection) -> Result<Vec<usize>, Error> {
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_consumer(&output()).await?;
    let mut numbers = Vec::new();
    while let Some(message) = consumer.receive_timeout(EMPTY).await? {
        let text = message.as_text()?.expect("it is a text");
        numbers.push(text.parse().expect("it is a number"));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Everything is moved, once, whatever happens to the broker, which listens at `address`.
async fn everything_is_moved_once(address: &str, faults: usize, fault: impl FnMut()) -> Outcomes {
    let (_, authority) = address.split_once("://").expect("it is a URI");
    let proxy = CuttingProxy::start(authority.to_owned(), 0, 0..1).await;
    proxy.calm_down();
    // One round more than faults, in which all is well.
    let count = BATCH * (faults + 1);
    let direct = connect(address).await;
    fill(&direct, count).await.expect("it is sent");
    let connection = connect(&proxy.uri()).await;
    let outcomes = move_all(&connection, &proxy, faults, fault)
        .await
        .expect("it is moved in the end");
    let moved = moved(&direct).await.expect("it is received");
    assert_eq!(moved, (0..count).collect::<Vec<_>>(), "{outcomes:?}");
    for connection in [connection, direct] {
        connection.close().await.expect("closing always works");
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broker_lite_tells_the_outcome_after_a_cut() {
    let broker = BrokerProcess::start(&["--memory", "--listen", "tcp://127.0.0.1:0"]);
    let outcomes = everything_is_moved_once(&broker.addresses[0], CUTS, || {}).await;
    assert_eq!(outcomes.committed.len(), CUTS, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broker_lite_tells_the_outcome_after_it_was_killed() {
    let data = tempfile::TempDir::new().expect("there is room for temporary files");
    let directory = data.path().to_string_lossy().into_owned();
    let listen = format!("tcp://127.0.0.1:{}", free_port());
    let start = || BrokerProcess::start(&["--data", &directory, "--listen", &listen]);
    let mut broker = Some(start());
    let outcomes = everything_is_moved_once(&listen, 15, || {
        broker.take().expect("it runs").kill();
        broker = Some(start());
    })
    .await;
    assert_eq!(outcomes.committed.len(), 15, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_doubt_is_reported_when_activemq_is_killed() {
    let Some(peers) = Peers::find("every_doubt_is_reported_when_activemq_is_killed") else {
        return;
    };
    let store = tempfile::TempDir::new().expect("there is room for temporary files");
    let broker = block_in_place(|| peers.start(&["--persistent", &store.path().display().to_string()]));
    let outcomes = everything_is_moved_once(&broker.url(), 6, || broker.restart()).await;
    // It has committed, and cannot say so any more; of what was answered there is no doubt.
    let doubts = outcomes.in_doubt.iter();
    assert_eq!(
        doubts.filter(|stage| **stage == Stage::Unanswered).count(),
        2,
        "{outcomes:?}"
    );
    let answered = outcomes.committed.iter();
    assert_eq!(
        answered.filter(|stage| **stage == Stage::Answered).count(),
        2,
        "{outcomes:?}"
    );
}
