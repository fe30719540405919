//! Which address to try next.

use std::collections::hash_map::Entry;

use rand::Rng;
use rand::seq::SliceRandom;
use rustc_hash::{FxHashMap, FxHashSet};

use super::status::{EndpointFailure, EndpointSource, EndpointState, EndpointStatus};
use crate::environment::now;
use crate::error::Error;
use crate::uri::{Endpoint, FailoverOptions, Scheme};

/// A list of addresses that was learnt may have this many; a longer one is cut. No cluster is that large.
const MAX_LEARNT: usize = 1024;

/// The addresses of the brokers: those of the URI, and those that were learnt since; and how they have done.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// In the order in which they are tried.
    lists: [(EndpointSource, Vec<Endpoint>); 4],
    randomize: bool,
    /// The preferred ones; none if there is no preference.
    priority: Option<Vec<Endpoint>>,
    /// The one that failed last goes to the end of the next pass.
    failed: Option<Address>,
    current: Option<Address>,
    records: FxHashMap<Address, Record>,
}

/// What makes a broker of its own: options do not.
type Address = (Scheme, String, u16);

/// How an address has done.
#[derive(Debug, Default)]
struct Record {
    failed_attempts: u64,
    last_failure: Option<EndpointFailure>,
    spare: bool,
}

impl Endpoints {
    pub(crate) fn new(configured: Vec<Endpoint>, options: Option<&FailoverOptions>) -> Self {
        Self {
            lists: [
                (EndpointSource::Discovered, Vec::new()),
                (EndpointSource::Broker, Vec::new()),
                (EndpointSource::UpdateUrl, Vec::new()),
                (EndpointSource::Configured, distinct(configured)),
            ],
            randomize: options.is_some_and(|options| options.randomize),
            priority: options
                .filter(|options| options.priority_backup)
                .map(|options| options.priority_uris.clone()),
            failed: None,
            current: None,
            records: FxHashMap::default(),
        }
    }

    /// The addresses of one pass, in the order to try them.
    pub(crate) fn pass(&mut self, mut rng: &mut dyn Rng) -> Vec<Endpoint> {
        let mut list = self.known();
        let failed = self.failed.take().and_then(|failed| {
            let at = list.iter().position(|endpoint| address(endpoint) == failed)?;
            Some(list.remove(at))
        });
        if self.randomize {
            list.shuffle(&mut rng);
        }
        list.extend(failed);
        list
    }

    /// The addresses to open spare connections to, in the order to try them: the preferred ones, which need not be in
    /// any list, and then, unless `preferred_only`, the others. Those in use are left out.
    pub(crate) fn spare_pass(&self, preferred_only: bool, mut rng: &mut dyn Rng) -> Vec<Endpoint> {
        let mut others = self.known();
        if self.randomize {
            others.shuffle(&mut rng);
        }
        let (mut list, others): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|endpoint| self.is_priority(endpoint));
        list.splice(0..0, self.priority.iter().flatten().cloned());
        if !preferred_only {
            list.extend(others);
        }
        let mut list = distinct(list);
        list.retain(|endpoint| {
            let address = address(endpoint);
            let spare = self.records.get(&address).is_some_and(|record| record.spare);
            !spare && self.current.as_ref() != Some(&address)
        });
        list
    }

    /// Every address once.
    fn known(&self) -> Vec<Endpoint> {
        distinct(self.lists.iter().flat_map(|(_, list)| list).cloned())
    }

    /// The address is one of the preferred ones: of `priorityURIs`, or else the first of the list.
    pub(crate) fn is_priority(&self, endpoint: &Endpoint) -> bool {
        let Some(priority) = &self.priority else {
            return false;
        };
        let first = || self.list(EndpointSource::Configured).first();
        match priority.as_slice() {
            [] => first().is_some_and(|first| same_address(first, endpoint)),
            list => list.iter().any(|priority| same_address(priority, endpoint)),
        }
    }

    /// Whether a client that was asked to spread may stay where it is.
    pub(crate) fn may_stay(&mut self, here: &Endpoint, rng: &mut dyn Rng) -> bool {
        self.is_priority(here)
            || self
                .pass(rng)
                .first()
                .is_some_and(|first| same_address(first, here))
    }

    /// The connection to this address broke: it is tried last.
    pub(crate) fn failed(&mut self, endpoint: &Endpoint) {
        self.failed = Some(address(endpoint));
    }

    /// There is an address to try before the one that failed last.
    pub(crate) fn has_another(&self) -> bool {
        self.lists
            .iter()
            .flat_map(|(_, list)| list)
            .any(|endpoint| self.failed.as_ref() != Some(&address(endpoint)))
    }

    /// There is a connection to this address now, or none at all.
    pub(crate) fn set_current(&mut self, endpoint: Option<&Endpoint>) {
        self.current = endpoint.map(address);
    }

    /// A spare connection to this address was opened, or is gone.
    pub(crate) fn set_spare(&mut self, endpoint: &Endpoint, spare: bool) {
        self.record(endpoint).spare = spare;
    }

    /// An attempt to connect failed, or a connection broke.
    pub(crate) fn attempt_failed(&mut self, endpoint: &Endpoint, error: &Error) {
        let record = self.record(endpoint);
        record.failed_attempts += 1;
        record.last_failure = Some(EndpointFailure {
            error: error.clone(),
            at: now(),
        });
    }

    fn record(&mut self, endpoint: &Endpoint) -> &mut Record {
        match self.records.entry(address(endpoint)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Record::default()),
        }
    }

    /// Replaces what was learnt from `source`. True if there is an address among it that was not known.
    pub(crate) fn learn(&mut self, source: EndpointSource, endpoints: Vec<Endpoint>) -> bool {
        let before = self.known();
        let learnt = distinct(endpoints.into_iter().take(MAX_LEARNT));
        let Some((_, list)) = self.lists.iter_mut().find(|(of, _)| *of == source) else {
            return false;
        };
        let known: FxHashSet<Address> = before.iter().map(address).collect();
        let news = learnt.iter().any(|endpoint| !known.contains(&address(endpoint)));
        *list = learnt;
        self.forget_strangers();
        news
    }

    /// A broker sends its clients elsewhere (`reconnectTo`): only that address counts from now on.
    pub(crate) fn redirect(&mut self, endpoint: Endpoint) {
        for (source, list) in &mut self.lists {
            list.clear();
            if *source == EndpointSource::Configured {
                list.push(endpoint.clone());
            }
        }
        self.failed = None;
        self.forget_strangers();
    }

    /// Of addresses that are in no list any more, nothing is kept.
    fn forget_strangers(&mut self) {
        let mut known: FxHashSet<Address> = self.known().iter().map(address).collect();
        known.extend(self.priority.iter().flatten().map(address));
        known.extend(self.current.clone());
        self.records
            .retain(|address, record| record.spare || known.contains(address));
    }

    fn list(&self, source: EndpointSource) -> &[Endpoint] {
        self.lists
            .iter()
            .find(|(of, _)| *of == source)
            .map_or(&[], |(_, list)| list)
    }

    /// Every known address, each once, and how it does.
    pub(crate) fn status(&self) -> Vec<EndpointStatus> {
        let mut seen = FxHashSet::default();
        let preferred = (
            EndpointSource::Configured,
            self.priority.as_deref().unwrap_or_default(),
        );
        self.lists
            .iter()
            .map(|(source, list)| (*source, list.as_slice()))
            .chain([preferred])
            .flat_map(|(source, list)| list.iter().map(move |endpoint| (source, endpoint)))
            .filter(|(_, endpoint)| seen.insert(address(endpoint)))
            .map(|(source, endpoint)| {
                let address = address(endpoint);
                let record = self.records.get(&address);
                EndpointStatus {
                    endpoint: endpoint.clone(),
                    source,
                    state: match record {
                        _ if self.current.as_ref() == Some(&address) => EndpointState::Current,
                        Some(record) if record.spare => EndpointState::Backup,
                        _ => EndpointState::Idle,
                    },
                    failed_attempts: record.map_or(0, |record| record.failed_attempts),
                    last_failure: record.and_then(|record| record.last_failure.clone()),
                }
            })
            .collect()
    }
}

fn distinct(endpoints: impl IntoIterator<Item = Endpoint>) -> Vec<Endpoint> {
    let mut seen = FxHashSet::default();
    endpoints
        .into_iter()
        .filter(|endpoint| seen.insert(address(endpoint)))
        .collect()
}

fn address(endpoint: &Endpoint) -> Address {
    (endpoint.scheme, endpoint.host.to_ascii_lowercase(), endpoint.port)
}

pub(crate) fn same_address(a: &Endpoint, b: &Endpoint) -> bool {
    a.scheme == b.scheme && a.port == b.port && a.host.eq_ignore_ascii_case(&b.host)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::error::ErrorKind;

    fn endpoint(host: &str) -> Endpoint {
        Endpoint::new(Scheme::Tcp, host, 61616)
    }

    fn endpoints(hosts: &[&str], randomize: bool) -> Endpoints {
        with(hosts, |options| options.randomize = randomize)
    }

    fn with(hosts: &[&str], change: impl FnOnce(&mut FailoverOptions)) -> Endpoints {
        let mut options = FailoverOptions {
            randomize: false,
            ..FailoverOptions::default()
        };
        change(&mut options);
        let list = hosts.iter().map(|host| endpoint(host)).collect();
        Endpoints::new(list, Some(&options))
    }

    fn error(text: &str) -> Error {
        Error::new(ErrorKind::Io, text)
    }

    fn hosts(pass: &[Endpoint]) -> Vec<&str> {
        pass.iter().map(|endpoint| endpoint.host.as_str()).collect()
    }

    fn rng() -> StdRng {
        StdRng::seed_from_u64(1)
    }

    #[test]
    fn without_randomize_the_order_of_the_uri_is_kept() {
        let mut list = endpoints(&["a", "b", "a", "c"], false);
        assert_eq!(hosts(&list.pass(&mut rng())), ["a", "b", "c"]);
        assert_eq!(hosts(&list.pass(&mut rng())), ["a", "b", "c"]);
    }

    #[test]
    fn randomize_tries_every_order() {
        let mut list = endpoints(&["a", "b", "c"], true);
        let mut rng = rng();
        let orders: HashSet<_> = (0..200).map(|_| hosts(&list.pass(&mut rng)).join("")).collect();
        assert_eq!(orders.len(), 6);
    }

    #[test]
    fn the_one_that_failed_goes_last_once() {
        let mut list = endpoints(&["a", "b", "c"], false);
        list.failed(&endpoint("a"));
        assert_eq!(hosts(&list.pass(&mut rng())), ["b", "c", "a"]);
        assert_eq!(hosts(&list.pass(&mut rng())), ["a", "b", "c"]);
    }

    #[test]
    fn the_one_that_failed_is_never_shuffled_in() {
        let mut list = endpoints(&["a", "b", "c"], true);
        let mut rng = rng();
        for _ in 0..50 {
            list.failed(&endpoint("b"));
            assert_eq!(
                list.pass(&mut rng).last().map(|e| e.host.clone()),
                Some("b".into())
            );
        }
    }

    #[test]
    fn what_was_learnt_comes_first_and_what_was_discovered_before_all() {
        let mut list = endpoints(&["a", "b"], false);
        assert!(list.learn(EndpointSource::UpdateUrl, vec![endpoint("d")]));
        assert!(list.learn(EndpointSource::Broker, vec![endpoint("c"), endpoint("b")]));
        assert_eq!(hosts(&list.pass(&mut rng())), ["c", "b", "d", "a"]);
        assert!(list.learn(EndpointSource::Discovered, vec![endpoint("a"), endpoint("f")]));
        assert_eq!(hosts(&list.pass(&mut rng())), ["a", "f", "c", "b", "d"]);
        // Neither another order nor an address that is known from elsewhere is news.
        assert!(!list.learn(EndpointSource::Broker, vec![endpoint("b"), endpoint("C")]));
        assert!(!list.learn(EndpointSource::Broker, vec![endpoint("f")]));
        assert!(!list.learn(EndpointSource::Discovered, Vec::new()));
        assert_eq!(hosts(&list.pass(&mut rng())), ["f", "d", "a", "b"]);
    }

    #[test]
    fn a_list_without_end_is_cut() {
        let mut list = endpoints(&["a"], false);
        let many = (0..5000).map(|host| endpoint(&host.to_string())).collect();
        list.learn(EndpointSource::Broker, many);
        assert_eq!(list.pass(&mut rng()).len(), MAX_LEARNT + 1);
    }

    #[test]
    fn there_is_another_address_than_the_one_that_failed_or_not() {
        let mut list = endpoints(&["a", "b"], false);
        list.failed(&endpoint("a"));
        assert!(list.has_another());
        let mut list = endpoints(&["a"], false);
        list.failed(&endpoint("a"));
        assert!(!list.has_another());
    }

    #[test]
    fn a_redirection_replaces_all_lists() {
        let mut list = endpoints(&["a", "b"], true);
        list.learn(EndpointSource::Broker, vec![endpoint("c")]);
        list.learn(EndpointSource::UpdateUrl, vec![endpoint("e")]);
        list.attempt_failed(&endpoint("c"), &error("x"));
        list.redirect(endpoint("d"));
        assert_eq!(hosts(&list.pass(&mut rng())), ["d"]);
        assert!(list.records.is_empty());
    }

    #[test]
    fn the_first_of_the_list_is_preferred_unless_others_are_named() {
        let list = with(&["a", "b"], |options| options.priority_backup = true);
        assert!(list.is_priority(&endpoint("A")) && !list.is_priority(&endpoint("b")));
        let named = with(&["a", "b"], |options| {
            options.priority_backup = true;
            options.priority_uris = vec![endpoint("b"), endpoint("x")];
        });
        assert!(named.is_priority(&endpoint("b")) && !named.is_priority(&endpoint("a")));
        assert!(!endpoints(&["a"], false).is_priority(&endpoint("a")));
    }

    #[test]
    fn spare_connections_go_to_preferred_addresses_first_and_never_to_one_in_use() {
        let mut list = with(&["a", "b", "c", "d"], |options| {
            options.priority_backup = true;
            options.priority_uris = vec![endpoint("x"), endpoint("c")];
        });
        list.set_current(Some(&endpoint("a")));
        list.set_spare(&endpoint("d"), true);
        assert_eq!(hosts(&list.spare_pass(false, &mut rng())), ["x", "c", "b"]);
        assert_eq!(hosts(&list.spare_pass(true, &mut rng())), ["x", "c"]);
        list.set_spare(&endpoint("d"), false);
        assert_eq!(hosts(&list.spare_pass(false, &mut rng())), ["x", "c", "b", "d"]);
    }

    #[test]
    fn whoever_is_first_or_preferred_may_stay() {
        let mut list = endpoints(&["a", "b"], false);
        assert!(list.may_stay(&endpoint("a"), &mut rng()));
        assert!(!list.may_stay(&endpoint("b"), &mut rng()));
        let mut list = with(&["a", "b"], |options| {
            options.priority_backup = true;
            options.priority_uris = vec![endpoint("b")];
        });
        assert!(list.may_stay(&endpoint("b"), &mut rng()));
    }

    #[test]
    fn the_status_tells_where_an_address_is_from_and_how_it_does() {
        let mut list = endpoints(&["a", "b"], false);
        list.learn(EndpointSource::Broker, vec![endpoint("b"), endpoint("c")]);
        list.set_current(Some(&endpoint("b")));
        list.set_spare(&endpoint("c"), true);
        list.attempt_failed(&endpoint("a"), &error("first"));
        list.attempt_failed(&endpoint("a"), &error("second"));
        let status = list.status();
        let told: Vec<_> = status
            .iter()
            .map(|s| (s.endpoint.host.as_str(), s.source, s.state, s.failed_attempts))
            .collect();
        assert_eq!(
            told,
            [
                ("b", EndpointSource::Broker, EndpointState::Current, 0),
                ("c", EndpointSource::Broker, EndpointState::Backup, 0),
                ("a", EndpointSource::Configured, EndpointState::Idle, 2),
            ]
        );
        let last = status[2].last_failure.as_ref().unwrap();
        assert_eq!(last.error.to_string(), "second");
    }

    #[test]
    fn a_failed_address_that_is_gone_does_not_come_back() {
        let mut list = endpoints(&["a"], false);
        list.failed(&endpoint("x"));
        assert_eq!(hosts(&list.pass(&mut rng())), ["a"]);
    }
}
