//! The account of a world: what was sent, shown and settled, and the rules that this must keep to.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Names a message.
pub(crate) type Number = u64;

/// Names a transaction.
pub(crate) type Work = usize;

/// What a producer knows of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nobody has said anything.
    Open,
    /// The broker has it.
    Confirmed,
    /// It was sent in a transaction.
    Within(Work),
}

/// What became of a message that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Nothing yet, or it was given back.
    No,
    /// It may have been acknowledged: the answer was an error.
    Unsure,
    /// It was acknowledged, and nobody waited for the broker.
    OneWay,
    /// It was acknowledged, and the broker said so.
    Confirmed,
    /// It was received in a transaction.
    Within(Work),
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Open,
    /// `commit` was called.
    Completing,
    Committed,
    RolledBack,
    InDoubt,
}

/// To whom a message is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reader {
    pub(crate) consumer: u64,
    pub(crate) queue: usize,
    /// The logical connection.
    pub(crate) connection: u64,
}

#[derive(Debug)]
struct Sent {
    producer: u64,
    sequence: u64,
    fate: Fate,
}

#[derive(Debug)]
struct Showing {
    reader: Reader,
    settled: Settled,
}

#[derive(Debug)]
struct Transaction {
    outcome: Outcome,
    sent: Vec<Number>,
    /// With which showing.
    received: Vec<(Number, usize)>,
}

/// What happened in a world, in figures.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) sent: u64,
    pub(crate) shown_again: u64,
    pub(crate) committed: u64,
    pub(crate) rolled_back: u64,
    pub(crate) in_doubt: u64,
}

pub(crate) struct Ledger {
    books: Mutex<Books>,
    pub(crate) failed: Notify,
    start: Instant,
    verbose: bool,
}

#[derive(Default)]
struct Books {
    sent: BTreeMap<Number, Sent>,
    sequences: BTreeMap<u64, u64>,
    shown: BTreeMap<Number, Vec<Showing>>,
    /// The last number of a producer that a consumer has seen for the first time.
    last: BTreeMap<(u64, u64), u64>,
    /// How many consumers a queue has had.
    readers: BTreeMap<usize, usize>,
    /// Consumers that wait for a message whose acknowledgement they wait for as well.
    taking: BTreeSet<u64>,
    /// Consumers that have gone, and with them what they remembered.
    gone: BTreeSet<u64>,
    work: Vec<Transaction>,
    violations: Vec<String>,
    hash: u64,
}

impl Ledger {
    pub(crate) fn new(verbose: bool) -> Self {
        Self {
            books: Mutex::default(),
            failed: Notify::new(),
            start: Instant::now(),
            verbose,
        }
    }

    /// Notes an event: the course of a world is what was noted, when.
    pub(crate) fn note(&self, what: &str, a: u64, b: u64) {
        let now = self.start.elapsed().as_millis() as u64;
        let books = &mut *self.books.lock();
        let text = what.bytes().fold(0, |hash, byte| mix(hash, byte.into()));
        for value in [now, text, a, b] {
            books.hash = mix(books.hash, value);
        }
        if self.verbose {
            println!("{now:>8} {what} {a} {b}");
        }
    }

    /// Stands for the whole course so far.
    pub(crate) fn hash(&self) -> u64 {
        self.books.lock().hash
    }

    /// A rule was broken.
    pub(crate) fn violation(&self, what: String) {
        let now = self.start.elapsed();
        if self.verbose {
            println!("{:>8} VIOLATION {what}", now.as_millis());
        }
        self.books
            .lock()
            .violations
            .push(format!("after {now:?}: {what}"));
        self.failed.notify_one();
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.books.lock().violations.clone()
    }

    /// A producer is about to send a message, in a transaction or not.
    pub(crate) fn sending(&self, producer: u64, work: Option<Work>) -> Number {
        let books = &mut *self.books.lock();
        let number = books.sent.len() as Number + 1;
        let sequence = books.sequences.entry(producer).or_default();
        *sequence += 1;
        let sent = Sent {
            producer,
            sequence: *sequence,
            fate: work.map_or(Fate::Open, Fate::Within),
        };
        books.sent.insert(number, sent);
        if let Some(work) = work {
            books.work[work].sent.push(number);
        }
        number
    }

    /// The broker has confirmed a message.
    pub(crate) fn confirmed(&self, number: Number) {
        if let Some(sent) = self.books.lock().sent.get_mut(&number) {
            sent.fate = Fate::Confirmed;
        }
    }

    /// A transaction begins.
    pub(crate) fn begin(&self) -> Work {
        let books = &mut *self.books.lock();
        books.work.push(Transaction {
            outcome: Outcome::Open,
            sent: Vec::new(),
            received: Vec::new(),
        });
        books.work.len() - 1
    }

    /// A transaction goes on, or is over.
    pub(crate) fn outcome(&self, work: Work, outcome: Outcome) {
        self.books.lock().work[work].outcome = outcome;
    }

    /// A consumer comes to a queue.
    pub(crate) fn reads(&self, queue: usize) {
        *self.books.lock().readers.entry(queue).or_default() += 1;
    }

    /// A consumer waits for a message, and then for the answer to its acknowledgement, or has it. One that is stopped
    /// while it waits has acknowledged at most one message that nobody sees.
    pub(crate) fn takes(&self, reader: Reader, waits: bool) {
        let books = &mut *self.books.lock();
        match waits {
            true => books.taking.insert(reader.consumer),
            false => books.taking.remove(&reader.consumer),
        };
    }

    /// A consumer goes.
    pub(crate) fn leaves(&self, reader: Reader) {
        self.books.lock().gone.insert(reader.consumer);
    }

    /// A message is shown. Says which showing of it that is.
    pub(crate) fn shown(&self, number: Number, redelivered: bool, reader: Reader) -> usize {
        let (showing, broken) = self.books.lock().shown(number, redelivered, reader);
        self.note("shown", number, showing as u64);
        if let Some(broken) = broken {
            self.violation(broken);
        }
        showing
    }

    /// What was shown is settled, or not.
    pub(crate) fn settle(&self, number: Number, showing: usize, settled: Settled) {
        let books = &mut *self.books.lock();
        if let Settled::Within(work) = settled {
            books.work[work].received.push((number, showing));
        }
        if let Some(showing) = books.shown.get_mut(&number).and_then(|all| all.get_mut(showing)) {
            showing.settled = settled;
        }
    }

    /// Everything is drained: the account must come out even.
    pub(crate) fn audit(&self) {
        let mut books = self.books.lock();
        for transaction in &mut books.work {
            transaction.outcome = match transaction.outcome {
                // Whoever worked on it was stopped.
                Outcome::Open => Outcome::RolledBack,
                Outcome::Completing => Outcome::InDoubt,
                outcome => outcome,
            };
        }
        let mut broken = Vec::new();
        let mut stopped = books.taking.len();
        let none = Vec::new();
        let shown = |number: &Number| books.shown.get(number).unwrap_or(&none);
        for (number, sent) in &books.sent {
            let showings = shown(number);
            let sure = showings
                .iter()
                .filter(|showing| is_sure(&books.work, showing.settled));
            if sure.count() > 1 {
                broken.push(format!("message {number} was consumed twice: {showings:?}"));
            }
            let outcome = match sent.fate {
                Fate::Within(work) => Some(books.work[work].outcome),
                _ => None,
            };
            let confirmed = sent.fate == Fate::Confirmed || outcome == Some(Outcome::Committed);
            let consumed = showings
                .iter()
                .any(|showing| may_be_consumed(&books.work, showing.settled));
            if confirmed && !consumed && stopped > 0 {
                stopped -= 1;
            } else if confirmed && !consumed {
                broken.push(format!("message {number} is lost: {sent:?} {showings:?}"));
            }
            if outcome == Some(Outcome::RolledBack) && !showings.is_empty() {
                broken.push(format!(
                    "message {number} was rolled back and shown: {showings:?}"
                ));
            }
        }
        for (work, transaction) in books.work.iter().enumerate() {
            if transaction.outcome != Outcome::InDoubt {
                continue;
            }
            // All of it happened, or nothing: what was sent is there, and what was received is not consumed afterwards. To
            // be shown in between proves nothing: somebody who gave it back may have had it while the connection was down.
            let sent = transaction.sent.iter().map(|number| !shown(number).is_empty());
            let received = transaction.received.iter().filter_map(|(number, showing)| {
                let showings = shown(number);
                let consumed = showings
                    .iter()
                    .skip(showing + 1)
                    .any(|later| is_sure(&books.work, later.settled));
                // Who was shown it before may have consumed it after, without being shown it again.
                let open = showings
                    .iter()
                    .enumerate()
                    .any(|(at, other)| at != *showing && may_be_consumed(&books.work, other.settled));
                (consumed || !open).then_some(!consumed)
            });
            let mut happened: Vec<_> = sent.chain(received).collect();
            happened.dedup();
            if happened.len() > 1 {
                broken.push(format!("half of transaction {work} happened: {transaction:?}"));
            }
        }
        drop(books);
        broken.into_iter().for_each(|what| self.violation(what));
    }

    pub(crate) fn figures(&self) -> Figures {
        let books = self.books.lock();
        let count = |wanted| {
            let outcomes = books.work.iter().map(|work| work.outcome);
            outcomes.filter(|outcome| *outcome == wanted).count() as u64
        };
        let shown: usize = books.shown.values().map(Vec::len).sum();
        Figures {
            sent: books.sent.len() as u64,
            shown_again: (shown - books.shown.len()) as u64,
            committed: count(Outcome::Committed),
            rolled_back: count(Outcome::RolledBack),
            in_doubt: count(Outcome::InDoubt),
        }
    }
}

impl Books {
    /// Says which showing it is, and what is wrong with it.
    fn shown(&mut self, number: Number, redelivered: bool, reader: Reader) -> (usize, Option<String>) {
        let Some(sent) = self.sent.get(&number) else {
            return (
                0,
                Some(format!("message {number} is shown, and nobody has sent it")),
            );
        };
        let mut broken = None;
        if let Fate::Within(work) = sent.fate {
            match self.work[work].outcome {
                Outcome::Open => broken = Some("its transaction is open"),
                Outcome::RolledBack => broken = Some("it was rolled back"),
                Outcome::Completing | Outcome::Committed | Outcome::InDoubt => {}
            }
        }
        let showings = self.shown.entry(number).or_default();
        if !showings.is_empty() && !redelivered {
            broken = Some("it was shown before, and is not flagged");
        }
        for before in &*showings {
            if is_sure(&self.work, before.settled) {
                broken = Some("it was surely consumed before");
            }
            if before.settled == Settled::OneWay
                && before.reader.connection == reader.connection
                && !self.gone.contains(&before.reader.consumer)
            {
                broken = Some("the same connection has acknowledged it");
            }
        }
        // What one consumer gives back comes late to the others: JMS promises no order to several.
        if !redelivered && self.readers.get(&reader.queue) == Some(&1) {
            let last = self.last.entry((reader.consumer, sent.producer)).or_default();
            if sent.sequence < *last {
                broken = Some("it is out of order");
            }
            *last = sent.sequence;
        }
        let broken = broken.map(|why| {
            format!(
                "message {number} is shown to {reader:?}, but {why}: {sent:?}, shown before: {showings:?}"
            )
        });
        showings.push(Showing {
            reader,
            settled: Settled::No,
        });
        (showings.len() - 1, broken)
    }
}

/// The broker has said that it was consumed.
fn is_sure(work: &[Transaction], settled: Settled) -> bool {
    match settled {
        Settled::Confirmed => true,
        Settled::Within(number) => work[number].outcome == Outcome::Committed,
        _ => false,
    }
}

fn may_be_consumed(work: &[Transaction], settled: Settled) -> bool {
    match settled {
        Settled::No => false,
        Settled::Unsure | Settled::OneWay | Settled::Confirmed => true,
        Settled::Within(number) => {
            matches!(work[number].outcome, Outcome::Committed | Outcome::InDoubt)
        }
    }
}

/// One step of a hash that is the same everywhere.
fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}
