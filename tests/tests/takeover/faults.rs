//! What happens to the two brokers.

use std::fs;

use tests::process::Signal;

use crate::PATIENCE;
use crate::ground::Ground;
use crate::pair::{Pair, other};

/// The status with which a master ends that is none any more.
const MASTERSHIP_LOST: i32 = 4;

/// What happens in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The master is killed.
    Kill,
    /// The master is stopped for longer than its lease, and nobody takes over: it has the lock.
    Pause,
    /// The master is stopped until the standby has taken the lease, and then goes on.
    Outlast,
    /// The master is stopped, its lock file deleted, the standby takes over, and the former master goes on.
    Replace,
    /// The lock file is deleted while the master serves.
    Delete,
    /// The master does not reach the database any more.
    Cut,
    /// The database is killed, and starts again when the master has found out.
    Server,
    /// The master stops in order.
    Stop,
    /// The standby is killed.
    Standby,
}

impl Pair {
    /// Does it, and returns who is master then. The other one stands by when the round is over.
    pub(crate) fn suffer(&mut self, fault: Fault, master: usize) -> usize {
        let standby = other(master);
        match fault {
            Fault::Kill => {
                self.signal(master, Signal::KILL);
                self.takes_over(standby);
                self.places[master].broker.end(PATIENCE);
            }
            Fault::Stop => {
                self.signal(master, Signal::TERM);
                self.takes_over(standby);
                self.ends(master, 0);
            }
            Fault::Delete => {
                fs::remove_file(self.ground.lock()).expect("there is a lock file");
                self.ends(master, MASTERSHIP_LOST);
                self.takes_over(standby);
            }
            Fault::Replace => {
                self.signal(master, Signal::STOP);
                fs::remove_file(self.ground.lock()).expect("there is a lock file");
                self.outlasted(master);
            }
            Fault::Outlast => {
                self.signal(master, Signal::STOP);
                self.outlasted(master);
            }
            Fault::Cut => {
                self.gate(master, |gate| gate.cut());
                self.ends(master, MASTERSHIP_LOST);
                self.takes_over(standby);
                self.gate(master, |gate| gate.heal());
            }
            Fault::Server => {
                let Ground::Database { server, .. } = &mut self.ground else {
                    panic!("there is no server");
                };
                server.kill();
                let (status, errors) = self.places[master].broker.end(PATIENCE);
                assert_eq!(status, Some(MASTERSHIP_LOST), "{errors}");
                server.restart();
                self.takes_over(standby);
            }
            Fault::Pause => {
                self.signal(master, Signal::STOP);
                // As long as this is what happens to it, not something that is waited for.
                std::thread::sleep(3 * self.ground.interval());
                self.signal(master, Signal::CONT);
                assert!(
                    !self.places[standby].broker.has_said("ready"),
                    "there are two masters"
                );
                return master;
            }
            Fault::Standby => {
                self.signal(standby, Signal::KILL);
                self.places[standby].broker.end(PATIENCE);
                self.restart(standby);
                return master;
            }
        }
        self.restart(master);
        standby
    }

    /// A master that is stopped goes on when the other one serves, and finds that it is none any more.
    fn outlasted(&mut self, master: usize) {
        self.takes_over(other(master));
        // Who asks the old one now is in its queue when it goes on.
        std::thread::sleep(self.ground.interval());
        self.signal(master, Signal::CONT);
        self.ends(master, MASTERSHIP_LOST);
    }
}
