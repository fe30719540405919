//! Random branches, refusals and restarts against a naive account of what must be where.

use std::collections::{BTreeMap, BTreeSet};

use openwire_client::wire::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::rig::{Client, Rig};
use super::xa::{acknowledge, in_doubt, send_in, step};

#[derive(Debug, Default)]
struct Branch {
    sent: Vec<i64>,
    taken: Vec<i64>,
    prepared: bool,
}

struct Account {
    rig: Rig,
    sender: Client,
    receiver: Client,
    next_message: i64,
    next_branch: u8,
    /// What is on the queue or with the receiver.
    there: BTreeSet<i64>,
    branches: BTreeMap<u8, Branch>,
    /// What the receiver has and has not acknowledged, in order.
    hand: Vec<i64>,
}

impl Account {
    fn look(&mut self) {
        for (_, number, _) in self.rig.dispatched(self.receiver) {
            assert!(self.there.contains(&number), "message {number} is not there");
            assert!(!self.hand.contains(&number), "message {number} came twice");
            self.hand.push(number);
        }
    }

    fn begin(&mut self) -> u8 {
        let branch = self.next_branch;
        self.next_branch = self.next_branch.wrapping_add(1);
        self.branches.insert(branch, Branch::default());
        assert_eq!(
            step(&mut self.rig, self.receiver, branch, TransactionInfo::BEGIN),
            Ok(0)
        );
        branch
    }

    /// A branch that is open, or a new one.
    fn open(&mut self, random: &mut StdRng) -> u8 {
        let open: Vec<u8> = self
            .branches
            .iter()
            .filter(|(_, branch)| !branch.prepared)
            .map(|(number, _)| *number)
            .collect();
        match open.is_empty() || random.random_bool(0.3) {
            true => self.begin(),
            false => open[random.random_range(0..open.len())],
        }
    }

    fn send(&mut self, random: &mut StdRng) {
        let number = self.next_message;
        self.next_message += 1;
        let message = Rig::message(self.sender, number, true);
        if random.random_bool(0.5) {
            let refused = self.rig.ask(self.sender, std::sync::Arc::new(message)).is_err();
            assert_eq!(refused, self.rig.refusing);
            if !refused {
                self.there.insert(number);
            }
            return;
        }
        let branch = self.open(random);
        let large = Message {
            content: Some(vec![0; 3 * 1024 * 1024].into()),
            ..message
        };
        send_in(&mut self.rig, self.sender, branch, large);
        self.branches.get_mut(&branch).unwrap().sent.push(number);
    }

    fn acknowledge(&mut self, random: &mut StdRng) {
        if self.hand.is_empty() {
            return;
        }
        let branch = self.open(random);
        self.look();
        let at = random.random_range(0..self.hand.len());
        let number = self.hand.remove(at);
        acknowledge(&mut self.rig, self.receiver, branch, self.sender, number, number);
        self.branches.get_mut(&branch).unwrap().taken.push(number);
    }

    fn end(&mut self, random: &mut StdRng) {
        let known: Vec<u8> = self.branches.keys().copied().collect();
        if known.is_empty() {
            return;
        }
        let number = known[random.random_range(0..known.len())];
        let branch = &self.branches[&number];
        let next = match (branch.prepared, random.random_range(0..3)) {
            (false, 0) => TransactionInfo::COMMIT_ONE_PHASE,
            (false, 1) => TransactionInfo::PREPARE,
            (true, 0 | 1) => TransactionInfo::COMMIT_TWO_PHASE,
            _ => TransactionInfo::ROLLBACK,
        };
        let answer = step(&mut self.rig, self.receiver, number, next);
        if next == TransactionInfo::PREPARE && answer == Ok(0) {
            self.branches.get_mut(&number).unwrap().prepared = true;
            return;
        }
        let may_fail = self.rig.refusing;
        match (next, answer) {
            (TransactionInfo::PREPARE, Ok(3)) => {}
            // Refused, and still there: open or prepared.
            (_, Err(4 | -3 | -7)) if may_fail => return,
            // Rolled back: what it sent was refused before, or its commit is now.
            (TransactionInfo::COMMIT_ONE_PHASE | TransactionInfo::PREPARE, Err(100 | 101)) => {
                return self.rolled_back(number);
            }
            (TransactionInfo::ROLLBACK, Ok(0)) => return self.rolled_back(number),
            (_, Ok(0)) => {}
            (_, answer) => panic!("branch {number}, step {next}: {answer:?}"),
        }
        let branch = self.branches.remove(&number).unwrap();
        self.there.extend(branch.sent);
        for number in branch.taken {
            assert!(self.there.remove(&number));
        }
    }

    /// The receiver, if it still has them, delivers again itself what it acknowledged.
    fn rolled_back(&mut self, number: u8) {
        let branch = self.branches.remove(&number).unwrap();
        self.rig.make_space();
        self.look();
        let missing = branch
            .taken
            .into_iter()
            .filter(|number| !self.hand.contains(number));
        let missing: Vec<_> = missing.collect();
        self.hand.extend(missing);
    }

    /// The receiver's connection or the whole broker begins anew.
    fn begin_anew(&mut self, restart: Option<bool>) {
        match restart {
            None => self.rig.lose(self.receiver),
            Some(clean) => {
                if clean {
                    self.rig.lose(self.receiver);
                    self.rig.lose(self.sender);
                }
                let rig = std::mem::replace(&mut self.rig, Rig::new(true));
                let clients = rig.next_client;
                self.rig = rig.restart(clean);
                self.rig.next_client = clients;
                self.sender = self.rig.reconnect(self.sender);
            }
        }
        self.branches.retain(|_, branch| branch.prepared);
        self.hand.clear();
        self.receiver = self.rig.connect();
        self.rig.consume(self.receiver, 1, 1_000_000);
        self.look();
    }

    fn check(&mut self) {
        self.look();
        let held: usize = self.branches.values().map(|branch| branch.taken.len()).sum();
        assert_eq!(self.hand.len() + held, self.there.len());
        let prepared = self.branches.values().filter(|branch| branch.prepared).count();
        assert_eq!(in_doubt(&mut self.rig, self.receiver).len(), prepared);
    }
}

fn run(seed: u64, steps: usize) {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut rig = Rig::with_config(true, 20 * 1024, 20 * 1024 * 1024);
    let (sender, receiver) = (rig.connect(), rig.connect());
    rig.consume(receiver, 1, 1_000_000);
    let mut account = Account {
        rig,
        sender,
        receiver,
        next_message: 1,
        next_branch: 0,
        there: BTreeSet::new(),
        branches: BTreeMap::new(),
        hand: Vec::new(),
    };
    for _ in 0..steps {
        account.rig.refusing = random.random_bool(0.15);
        match random.random_range(0..100) {
            0..40 => account.send(random),
            40..65 => account.acknowledge(random),
            65..94 => account.end(random),
            _ => {
                account.rig.make_space();
                let restart = random.random_bool(0.5).then(|| random.random_bool(0.5));
                account.begin_anew(restart);
            }
        }
        account.rig.make_space();
        account.check();
    }
    for (number, branch) in std::mem::take(&mut account.branches) {
        let receiver = account.receiver;
        let answer = step(&mut account.rig, receiver, number, TransactionInfo::ROLLBACK);
        assert_eq!(answer, Ok(0), "branch {number}: {branch:?}");
    }
    account.begin_anew(None);
    assert_eq!(account.hand.len(), account.there.len());
    for number in std::mem::take(&mut account.hand) {
        account
            .rig
            .consumed(account.receiver, 1, account.sender, number, number)
            .unwrap();
    }
    let stats = account.rig.stats();
    assert_eq!(
        (account.rig.stored(), account.rig.resident(), stats.memory_used),
        (0, 0, 0),
        "seed {seed}"
    );
}

#[test]
fn no_branch_loses_doubles_or_leaves_anything() {
    for seed in 0..30 {
        run(seed, 600);
    }
}
