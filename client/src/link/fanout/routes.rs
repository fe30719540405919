//! Who gets a command, and what counts as its answer.

use std::sync::Arc;

use super::books::{Broker, Consumer, Open, State, consumer_key};
use super::brokers::Shared;
use super::quorum::{Asker, Quorum, Terms};
use crate::error::Result;
use crate::link::doubt::Moment;
use crate::link::guard::{Guard, TransactionGuard};
use crate::link::outbox::{Reply, Respond};
use crate::link::traffic::{interrupted, response, rolled_back};
use crate::wire::{Command, ConsumerId, ConsumerInfo, EntityId, Message, RemoveInfo, TransactionInfo};

/// A consumer waits for its first answer, or was told to a new primary.
#[derive(Debug)]
struct Consuming {
    shared: Arc<Shared>,
    id: ConsumerId,
}

impl Respond for Consuming {
    fn is_closed(&self) -> bool {
        false
    }

    fn matters(&self) -> bool {
        true
    }

    fn respond(&self, _: u64, answer: Result<Command>) {
        self.shared.consumes(&self.id, answer);
    }
}

impl Shared {
    pub(super) fn route(
        self: &Arc<Self>,
        state: &mut State,
        command: Command,
        guard: Guard,
        asker: Option<Asker>,
    ) -> Result<()> {
        state.check_open()?;
        match command {
            Command::Message(message) => return self.send(state, &message, &guard, asker),
            Command::TransactionInfo(info) => self.transact(state, info, &guard, asker),
            Command::ConsumerInfo(info) if matches!(guard, Guard::Always) => {
                self.consume(state, info, asker);
            }
            Command::ConsumerInfo(_) | Command::MessageAck(_) | Command::MessagePull(_) => {
                self.to_primary(state, command, &guard, asker);
            }
            Command::RemoveInfo(RemoveInfo {
                object_id: Some(EntityId::Consumer(ref id)),
                ..
            }) => {
                state.consumers.remove(&consumer_key(id));
                self.to_primary(state, command, &Guard::Always, asker);
            }
            Command::SessionInfo(_)
            | Command::ProducerInfo(_)
            | Command::DestinationInfo(_)
            | Command::RemoveInfo(_) => self.to_joined(state, &command, asker),
            // Those that do not have the subscription say so, which is nothing new.
            Command::RemoveSubscriptionInfo(_) => self.to_live(state, &command, asker, 1),
            command => self.to_live(state, &command, asker, self.need),
        }
        Ok(())
    }

    /// What belongs to the consumers goes to the primary, over the physical connection it belongs to.
    fn to_primary(&self, state: &State, command: Command, guard: &Guard, asker: Option<Asker>) {
        let current = match guard {
            Guard::Connection(number) => *number == self.number(),
            _ => true,
        };
        let reply = |asker: Asker| Reply::new(asker.sender, asker.share);
        match state.primary().filter(|_| current) {
            // A link that has just ended ends the request with it.
            Some(broker) => drop(broker.post_bound(command, asker.map(reply))),
            None => {
                let removed = matches!(command, Command::RemoveInfo(_));
                if let Some(asker) = asker {
                    asker.answer(if removed {
                        Ok(response())
                    } else {
                        Err(interrupted())
                    });
                }
            }
        }
    }

    /// The state of the connection: told to those that are away as well, whose links keep it for them.
    fn to_joined(self: &Arc<Self>, state: &mut State, command: &Command, asker: Option<Asker>) {
        state.tracker.observe(command, None);
        if let Command::RemoveInfo(RemoveInfo {
            object_id: Some(EntityId::Session(id)),
            ..
        }) = command
        {
            state.consumers.retain(|(session, _), _| *session != id.value);
        }
        let overdue: Vec<u64> = state
            .brokers
            .iter()
            .filter(|broker| broker.joined && !broker.live && broker.is_full())
            .map(|broker| broker.id)
            .collect();
        for id in overdue {
            // What waits for one that is away must not grow without end: it begins anew when it comes back.
            self.begin_anew(state, id);
        }
        let joined = state.brokers.iter().filter(|broker| broker.joined).collect();
        self.to_all(command, asker, joined, self.need, &Guard::Always);
    }

    fn to_live(&self, state: &State, command: &Command, asker: Option<Asker>, need: usize) {
        self.to_all(command, asker, state.live().collect(), need, &Guard::Always);
    }

    fn to_all(
        &self,
        command: &Command,
        asker: Option<Asker>,
        brokers: Vec<&Broker>,
        need: usize,
        guard: &Guard,
    ) {
        let terms = Terms {
            need,
            ..Terms::default()
        };
        self.ask_all(command, asker, &brokers, terms, |_| guard.clone());
    }

    fn ask_all(
        &self,
        command: &Command,
        asker: Option<Asker>,
        brokers: &[&Broker],
        terms: Terms,
        guard: impl Fn(&Broker) -> Guard,
    ) {
        let quorum = match asker {
            Some(asker) => match Quorum::ask(asker, terms, brokers.len(), self.upper.clone()) {
                Some(quorum) => Some(quorum),
                None => return,
            },
            None => None,
        };
        for broker in brokers {
            let reply = quorum
                .clone()
                .map(|quorum| Reply::Respond(quorum as Arc<dyn Respond>, broker.id));
            let posted = broker.post(command.clone(), reply, guard(broker));
            if let (Err(error), Some(quorum)) = (posted, &quorum) {
                quorum.respond(broker.id, Err(error));
            }
        }
    }

    /// A message: for a topic to all that are connected, for a queue to one.
    pub(super) fn send(
        &self,
        state: &mut State,
        message: &Arc<Message>,
        guard: &Guard,
        asker: Option<Asker>,
    ) -> Result<()> {
        let queue = message
            .destination
            .as_ref()
            .is_some_and(|destination| destination.is_queue());
        let one = queue && !self.fan_out_queues;
        let need = if one { 1 } else { self.need };
        let command = Command::Message(message.clone());
        let Some(transaction) = guard.transaction() else {
            let brokers = match one {
                true => state.primary().into_iter().collect(),
                false => state.live().collect(),
            };
            self.to_all(&command, asker, brokers, need, guard);
            return Ok(());
        };
        let open = |open: &Open| Arc::ptr_eq(&open.guard, transaction);
        let Some(at) = state.transactions.iter().position(open) else {
            // It was given up meanwhile.
            return Err(rolled_back());
        };
        self.enter(state, at)?;
        let Some(open) = state.transactions.get_mut(at) else {
            return Err(rolled_back());
        };
        if one && open.queues.is_none() {
            let primary = state.primary.filter(|primary| open.members.contains(primary));
            open.queues = primary.or_else(|| open.members.first().copied());
        }
        let (members, queues) = (open.members.clone(), open.queues);
        let chosen = members.iter().filter(|id| !one || Some(**id) == queues);
        let brokers = chosen.filter_map(|id| state.broker(*id)).collect();
        self.to_all(&command, asker, brokers, need, guard);
        Ok(())
    }

    /// Makes those that are connected members of a transaction that has none, and leaves out those that are away.
    fn enter(&self, state: &mut State, at: usize) -> Result<()> {
        let Some(open) = state.transactions.get(at) else {
            return Err(rolled_back());
        };
        if open.members.is_empty() {
            let members: Vec<u64> = state.live().map(|broker| broker.id).collect();
            for broker in state.live() {
                // A link that has just ended is left out by the next message.
                let _ = broker.post(Command::from(open.begin.clone()), None, open.guard());
            }
            if let Some(open) = state.transactions.get_mut(at) {
                open.members = members;
            }
        }
        match self.is_complete(state, at) {
            true => Ok(()),
            false => Err(state.abandon(at)),
        }
    }

    /// The begin of a transaction is kept until there is something in it; its end goes to all that have it.
    fn transact(&self, state: &mut State, info: TransactionInfo, guard: &Guard, asker: Option<Asker>) {
        let (Some(id), Some(transaction)) = (&info.transaction_id, guard.transaction()) else {
            return self.to_live(state, &Command::from(info), asker, self.need);
        };
        if info.step == TransactionInfo::BEGIN {
            state.transactions.push(Open {
                id: id.clone(),
                begin: info,
                guard: transaction.clone(),
                members: Vec::new(),
                queues: None,
            });
            return;
        }
        let answer = |asker: Option<Asker>, answer: Result<Command>| {
            if let Some(asker) = asker {
                asker.answer(answer);
            }
        };
        let Some(at) = state.transactions.iter().position(|open| open.id == *id) else {
            let commit = info.step != TransactionInfo::ROLLBACK;
            return answer(
                asker,
                if commit {
                    Err(rolled_back())
                } else {
                    Ok(response())
                },
            );
        };
        if info.step == TransactionInfo::ROLLBACK {
            let open = state.transactions.swap_remove(at);
            state.roll_back(&open, &open.members);
            // Whatever happens to the rollback: nobody commits.
            return answer(asker, Ok(response()));
        }
        if state
            .transactions
            .get(at)
            .is_some_and(|open| open.members.is_empty())
        {
            state.transactions.swap_remove(at);
            return answer(asker, Ok(response()));
        }
        if transaction.is_dead() || !self.is_complete(state, at) {
            return answer(asker, Err(state.abandon(at)));
        }
        let open = state.transactions.swap_remove(at);
        if !transaction.begin_commit() {
            state.roll_back(&open, &open.members);
            return answer(asker, Err(rolled_back()));
        }
        let terms = Terms {
            need: self.need,
            required: open.queues,
            commit: Some((id.clone(), open.guard.clone())),
        };
        let brokers: Vec<&Broker> = open.members.iter().filter_map(|id| state.broker(*id)).collect();
        let command = Command::from(info);
        let since = transaction.committing_since().unwrap_or_else(Moment::now);
        // Each link decides for itself whether its commit has left, so each has a guard of its own.
        let own = |_: &Broker| {
            let guard = TransactionGuard::default();
            guard.committing_from(since);
            Guard::Transaction(Arc::new(guard))
        };
        self.ask_all(&command, asker, &brokers, terms, own);
    }

    /// Leaves those out that are away. True if enough are left that have all of the transaction.
    fn is_complete(&self, state: &mut State, at: usize) -> bool {
        state.expel_absent(at);
        state.transactions.get(at).is_some_and(|open| {
            let queues = open.queues.is_none_or(|id| open.members.contains(&id));
            open.members.len() >= self.need && queues
        })
    }

    /// A consumer, which every primary is told of.
    fn consume(self: &Arc<Self>, state: &mut State, info: Box<ConsumerInfo>, asker: Option<Asker>) {
        let Some(id) = info.consumer_id.clone() else {
            return;
        };
        let key = consumer_key(&id);
        state.consumers.insert(key, Consumer { info, asker });
        self.introduce(state, key);
    }

    /// Tells the primary of a consumer.
    pub(super) fn introduce(self: &Arc<Self>, state: &State, key: (i64, i64)) {
        let (Some(primary), Some(consumer)) = (state.primary(), state.consumers.get(&key)) else {
            return;
        };
        let consuming = Consuming {
            shared: self.clone(),
            id: consumer.info.consumer_id.clone().unwrap_or_default(),
        };
        let reply = Reply::Respond(Arc::new(consuming), primary.id);
        // A link that has just ended makes room for another primary.
        let _ = primary.post_bound(Command::from(consumer.info.clone()), Some(reply));
    }

    /// A broker has answered to a consumer.
    fn consumes(&self, id: &ConsumerId, answer: Result<Command>) {
        let mut state = self.state.lock();
        let key = consumer_key(id);
        let Some(consumer) = state.consumers.get_mut(&key) else {
            return;
        };
        let refused = match answer {
            Ok(answer) => {
                if let Some(asker) = consumer.asker.take() {
                    asker.answer(Ok(answer));
                }
                return;
            }
            // The next primary is told of it.
            Err(error) if error.throwable().is_none() => return,
            Err(error) => error,
        };
        let asker = consumer.asker.take();
        state.consumers.remove(&key);
        drop(state);
        match asker {
            Some(asker) => asker.answer(Err(refused)),
            None => self.upper.not_restored(&EntityId::Consumer(id.clone()), refused),
        }
    }
}
