//! One answer out of several.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::link::Upper;
use crate::link::guard::TransactionGuard;
use crate::link::outbox::Respond;
use crate::link::receipt::Share;
use crate::link::traffic::rolled_back;
use crate::wire::{Command, TransactionId};

/// Who asked.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) sender: oneshot::Sender<Result<Command>>,
    /// Given back once it is decided.
    pub(super) share: Option<Share>,
}

impl Asker {
    pub(super) fn answer(mut self, answer: Result<Command>) {
        if let (Some(share), Ok(_)) = (&mut self.share, &answer) {
            share.confirm();
        }
        // Whoever asked may have lost interest.
        let _ = self.sender.send(answer);
    }
}

/// What must come together for a request to be answered well.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    /// So many brokers must confirm it.
    pub(super) need: usize,
    /// This one must be among them.
    pub(super) required: Option<u64>,
    /// It is a commit: if some have done it and others not, nobody can say that it has not happened.
    pub(super) commit: Option<(TransactionId, Arc<TransactionGuard>)>,
}

/// A request that went to several brokers.
pub(super) struct Quorum {
    votes: Mutex<Votes>,
    upper: Arc<dyn Upper>,
}

impl std::fmt::Debug for Quorum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.votes.lock().fmt(f)
    }
}

#[derive(Debug)]
struct Votes {
    /// None once it is decided.
    asker: Option<Asker>,
    terms: Terms,
    confirmed: usize,
    outstanding: usize,
    errors: Vec<Error>,
}

impl Quorum {
    /// `asked` brokers are going to be asked. None if that can lead to nothing, which is answered.
    pub(super) fn ask(asker: Asker, terms: Terms, asked: usize, upper: Arc<dyn Upper>) -> Option<Arc<Self>> {
        let mut votes = Votes {
            asker: None,
            terms,
            confirmed: 0,
            outstanding: asked,
            errors: Vec::new(),
        };
        if votes.is_hopeless() {
            asker.answer(Err(votes.failure()));
            return None;
        }
        votes.asker = Some(asker);
        Some(Arc::new(Self {
            votes: Mutex::new(votes),
            upper,
        }))
    }
}

impl Respond for Quorum {
    fn is_closed(&self) -> bool {
        let votes = self.votes.lock();
        votes.asker.as_ref().is_none_or(|asker| asker.sender.is_closed())
    }

    fn matters(&self) -> bool {
        let votes = self.votes.lock();
        let matters = |asker: &Asker| asker.share.is_some() || !asker.sender.is_closed();
        votes.asker.as_ref().is_some_and(matters)
    }

    fn respond(&self, from: u64, answer: Result<Command>) {
        let ignored = self.votes.lock().count(from, answer);
        // What one broker refuses and enough others do is nobody's answer.
        for error in ignored {
            self.upper.broker_error(error);
        }
    }
}

impl Votes {
    /// Returns the refusals that are not the outcome.
    fn count(&mut self, from: u64, answer: Result<Command>) -> Vec<Error> {
        self.outstanding = self.outstanding.saturating_sub(1);
        match &answer {
            Ok(_) => {
                self.confirmed += 1;
                self.terms.required.take_if(|required| *required == from);
            }
            Err(error) => self.errors.push(error.clone()),
        }
        let Some(asker) = self.asker.take() else {
            return self.refusals();
        };
        match answer {
            Ok(answer) if self.confirmed >= self.terms.need && self.terms.required.is_none() => {
                asker.answer(Ok(answer));
                return self.refusals();
            }
            _ if self.is_hopeless() => asker.answer(Err(self.failure())),
            _ => self.asker = Some(asker),
        }
        Vec::new()
    }

    fn refusals(&mut self) -> Vec<Error> {
        let errors = std::mem::take(&mut self.errors).into_iter();
        errors.filter(|error| error.throwable().is_some()).collect()
    }

    fn is_hopeless(&self) -> bool {
        match self.terms.commit {
            // Whether it has happened anywhere is known from all of them only.
            Some(_) => self.outstanding == 0,
            None => self.outstanding == 0 || self.confirmed + self.outstanding < self.terms.need,
        }
    }

    fn failure(&self) -> Error {
        let first = self.errors.iter().find(|error| error.throwable().is_some());
        let first = first.or_else(|| self.errors.first()).cloned();
        let Some((transaction, guard)) = &self.terms.commit else {
            return first.unwrap_or_else(too_few);
        };
        if self.confirmed > 0 || self.errors.iter().any(Error::is_in_doubt) {
            let why = format!(
                "{} of the {} brokers that are needed have confirmed it",
                self.confirmed, self.terms.need
            );
            let error = Error::commit_in_doubt(transaction, &why);
            return match first {
                Some(cause) => error.with_source(cause),
                None => error,
            };
        }
        // Nobody has done it, and none of those that hold it still shall.
        guard.withdraw_commit();
        guard.kill();
        match first {
            Some(refused) if refused.throwable().is_some() => refused,
            Some(cause) => rolled_back().with_source(cause),
            None => rolled_back(),
        }
    }
}

fn too_few() -> Error {
    Error::new(
        ErrorKind::Io,
        "fewer brokers are connected than minAckCount asks for",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::fanout::tests::Nobody;
    use crate::wire::{LocalTransactionId, Response, Throwable};

    fn quorum(terms: Terms, asked: usize) -> (Arc<Quorum>, oneshot::Receiver<Result<Command>>) {
        let (sender, receiver) = oneshot::channel();
        let asker = Asker { sender, share: None };
        (
            Quorum::ask(asker, terms, asked, Arc::new(Nobody)).unwrap(),
            receiver,
        )
    }

    fn needing(need: usize) -> Terms {
        Terms {
            need,
            ..Terms::default()
        }
    }

    fn commit(need: usize) -> Terms {
        let id = LocalTransactionId::default();
        Terms {
            need,
            commit: Some((TransactionId::Local(id), Arc::default())),
            ..Terms::default()
        }
    }

    fn yes() -> Result<Command> {
        Ok(Command::from(Response::default()))
    }

    fn no() -> Result<Command> {
        Err(Error::from_throwable(Throwable::default()))
    }

    fn gone() -> Result<Command> {
        Err(Error::new(ErrorKind::Io, "gone"))
    }

    #[test]
    fn enough_that_confirm_are_enough() {
        let (quorum, mut answer) = quorum(needing(2), 3);
        quorum.respond(1, yes());
        quorum.respond(2, no());
        assert!(answer.try_recv().is_err(), "undecided");
        assert!(!quorum.is_closed());
        quorum.respond(3, yes());
        assert!(answer.try_recv().unwrap().is_ok());
        assert!(quorum.is_closed());
    }

    #[test]
    fn it_fails_as_soon_as_enough_are_out_of_reach() {
        let (quorum, mut answer) = quorum(needing(2), 3);
        quorum.respond(1, gone());
        assert!(answer.try_recv().is_err(), "undecided");
        quorum.respond(2, no());
        let error = answer.try_recv().unwrap().unwrap_err();
        assert!(error.throwable().is_some(), "what a broker said counts most");
    }

    #[test]
    fn the_required_one_must_confirm() {
        let terms = Terms {
            required: Some(1),
            ..commit(1)
        };
        let (quorum, mut answer) = quorum(terms, 2);
        quorum.respond(2, yes());
        assert!(answer.try_recv().is_err(), "undecided");
        quorum.respond(1, no());
        assert!(answer.try_recv().unwrap().unwrap_err().is_in_doubt());
    }

    #[test]
    fn a_commit_that_some_have_done_is_in_doubt() {
        let (quorum, mut answer) = quorum(commit(2), 2);
        quorum.respond(1, no());
        assert!(answer.try_recv().is_err(), "the other one may have done it");
        quorum.respond(2, yes());
        assert!(answer.try_recv().unwrap().unwrap_err().is_in_doubt());
    }

    #[test]
    fn a_commit_that_reached_nobody_is_rolled_back_for_good() {
        let terms = commit(2);
        let guard = terms.commit.as_ref().unwrap().1.clone();
        assert!(guard.begin_commit());
        let (quorum, mut answer) = quorum(terms, 2);
        quorum.respond(1, gone());
        quorum.respond(2, gone());
        assert!(answer.try_recv().unwrap().unwrap_err().is_rolled_back());
        assert!(guard.is_dead());
    }

    #[test]
    fn a_commit_that_none_has_done_is_refused() {
        let (quorum, mut answer) = quorum(commit(2), 2);
        quorum.respond(1, gone());
        quorum.respond(2, no());
        assert!(answer.try_recv().unwrap().unwrap_err().throwable().is_some());
    }
}
