//! Who of two brokers serves, and when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use openwire_client::{AcknowledgeMode, ConnectionFactory, Destination};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::PATIENCE;
use crate::pair::{Pair, Place};

/// How long one waits for an answer of a broker that may not serve.
const PROBE: Duration = Duration::from_secs(10);

/// Asks both brokers all the time, and notes who answers.
pub(crate) struct Witness {
    seen: Arc<watch::Sender<BTreeMap<Life, Span>>>,
    asking: JoinSet<()>,
}

/// A broker from one start to its end: at which place, and which time there.
type Life = (usize, u32);

/// Within these it has served for certain, so two that overlap are two masters.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// When it had answered first.
    from: Instant,
    /// When it was asked last what it then answered.
    to: Instant,
    answers: u64,
}

impl Witness {
    pub(crate) fn of(pair: &Pair) -> Self {
        let seen = Arc::new(watch::Sender::new(BTreeMap::new()));
        let mut asking = JoinSet::new();
        for (place, Place { listen, life, .. }) in pair.places.iter().enumerate() {
            let (seen, listen, life) = (seen.clone(), listen.clone(), life.clone());
            asking.spawn(async move {
                let mut questions = JoinSet::new();
                let mut often = tokio::time::interval(Duration::from_millis(50));
                loop {
                    often.tick().await;
                    while questions.try_join_next().is_some() {}
                    let (seen, listen, life) = (seen.clone(), listen.clone(), life.clone());
                    questions.spawn(async move {
                        let number = life.load(Ordering::SeqCst);
                        let asked = Instant::now();
                        // One that does not answer in time is stopped for longer than any of this takes.
                        let answer = timeout(PROBE, ask(&listen)).await;
                        if matches!(answer, Ok(Ok(()))) && life.load(Ordering::SeqCst) == number {
                            let span = Span {
                                from: Instant::now(),
                                to: asked,
                                answers: 0,
                            };
                            seen.send_modify(|seen| {
                                let span = seen.entry((place, number)).or_insert(span);
                                span.to = span.to.max(asked);
                                span.answers += 1;
                            });
                        }
                    });
                }
            });
        }
        Self { seen, asking }
    }

    /// Waits until the broker at a place has answered: one that serves for a moment only would not be seen.
    pub(crate) async fn sees(&self, place: &Place, at: usize) {
        let life = (at, place.life.load(Ordering::SeqCst));
        let mut seen = self.seen.subscribe();
        let answers = seen.wait_for(|seen| seen.contains_key(&life));
        let answered = timeout(PATIENCE, answers).await;
        assert!(
            answered.is_ok_and(|seen| seen.is_ok()),
            "{life:?} does not answer"
        );
    }

    /// Fails if two have served at once, and says how often the one that served changed.
    pub(crate) fn judge(mut self) -> usize {
        self.asking.abort_all();
        let mut spans: Vec<_> = self.seen.borrow().clone().into_iter().collect();
        spans.sort_by_key(|(_, span)| span.from);
        for (index, (one, span)) in spans.iter().enumerate() {
            for (other, later) in &spans[index + 1..] {
                assert!(
                    later.from >= span.to.min(later.to),
                    "{one:?} has answered what it was asked after {other:?} had answered: {span:?}, {later:?}"
                );
            }
        }
        println!("served, as place, life and answers: {:?}", served(&spans));
        spans.len()
    }
}

fn served(spans: &[(Life, Span)]) -> Vec<(usize, u32, u64)> {
    let each = spans.iter();
    each.map(|((place, life), span)| (*place, *life, span.answers))
        .collect()
}

/// Does something at a broker that only a master answers.
async fn ask(listen: &str) -> openwire_client::Result<()> {
    let connection = ConnectionFactory::new(listen)?.create_connection().await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_consumer(&Destination::topic("witness")).await?;
    drop(consumer);
    connection.close().await
}
