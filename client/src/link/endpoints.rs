//! Which address to try next.

use rand::Rng;
use rand::seq::SliceRandom;

use crate::uri::Endpoint;

/// A broker or a discovery agent may tell of so many addresses; a longer list is cut. No cluster is that large.
const MAX_PUSHED: usize = 1024;

/// The addresses of the brokers: those of the URI, those a broker has told of, and those a discovery agent has found.
#[derive(Debug)]
pub(crate) struct Endpoints {
    configured: Vec<Endpoint>,
    pushed: Vec<Endpoint>,
    discovered: Vec<Endpoint>,
    randomize: bool,
    /// The one that failed last goes to the end of the next pass.
    failed: Option<Endpoint>,
}

impl Endpoints {
    pub(crate) fn new(configured: Vec<Endpoint>, randomize: bool) -> Self {
        Self {
            configured: distinct(configured),
            pushed: Vec::new(),
            discovered: Vec::new(),
            randomize,
            failed: None,
        }
    }

    /// The addresses of one pass, in the order to try them.
    pub(crate) fn pass(&mut self, mut rng: &mut dyn Rng) -> Vec<Endpoint> {
        let mut list = self.known();
        let failed = self.failed.take().and_then(|failed| {
            let at = list.iter().position(|endpoint| same_address(endpoint, &failed))?;
            Some(list.remove(at))
        });
        if self.randomize {
            list.shuffle(&mut rng);
        }
        list.extend(failed);
        list
    }

    /// Each address once, in the order in which the lists count.
    fn known(&self) -> Vec<Endpoint> {
        let lists = [&self.discovered, &self.pushed, &self.configured];
        distinct(lists.into_iter().flatten().cloned())
    }

    /// The connection to this address broke.
    pub(crate) fn failed(&mut self, endpoint: &Endpoint) {
        self.failed = Some(endpoint.clone());
    }

    /// The brokers of the cluster, as one of them says (`connectedBrokers`). An empty list is no news.
    pub(crate) fn push(&mut self, endpoints: Vec<Endpoint>) {
        if !endpoints.is_empty() {
            self.pushed = distinct(endpoints.into_iter().take(MAX_PUSHED));
        }
    }

    /// What the discovery agent finds now, instead of what it found before. True if there is an address among them
    /// that was not known.
    pub(crate) fn discover(&mut self, endpoints: Vec<Endpoint>) -> bool {
        let before = self.known();
        self.discovered = distinct(endpoints.into_iter().take(MAX_PUSHED));
        let known = |endpoint: &Endpoint| before.iter().any(|known| same_address(known, endpoint));
        !self.discovered.iter().all(known)
    }

    /// A broker sends its clients elsewhere (`reconnectTo`): only that address counts from now on.
    pub(crate) fn redirect(&mut self, endpoint: Endpoint) {
        self.configured = vec![endpoint];
        self.pushed.clear();
        self.discovered.clear();
        self.failed = None;
    }
}

fn distinct(endpoints: impl IntoIterator<Item = Endpoint>) -> Vec<Endpoint> {
    let mut list: Vec<Endpoint> = Vec::new();
    for endpoint in endpoints {
        if !list.iter().any(|known| same_address(known, &endpoint)) {
            list.push(endpoint);
        }
    }
    list
}

/// Options do not make another broker of the same address.
pub(crate) fn same_address(a: &Endpoint, b: &Endpoint) -> bool {
    a.scheme == b.scheme && a.port == b.port && a.host.eq_ignore_ascii_case(&b.host)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::uri::Scheme;

    fn endpoint(host: &str) -> Endpoint {
        Endpoint::new(Scheme::Tcp, host, 61616)
    }

    fn endpoints(hosts: &[&str], randomize: bool) -> Endpoints {
        Endpoints::new(hosts.iter().map(|host| endpoint(host)).collect(), randomize)
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
    fn what_a_broker_pushes_comes_first_and_an_empty_list_changes_nothing() {
        let mut list = endpoints(&["a", "b"], false);
        list.push(vec![endpoint("c"), endpoint("b")]);
        assert_eq!(hosts(&list.pass(&mut rng())), ["c", "b", "a"]);
        list.push(Vec::new());
        assert_eq!(hosts(&list.pass(&mut rng())), ["c", "b", "a"]);
    }

    #[test]
    fn what_an_agent_finds_comes_first_and_goes_when_it_is_gone() {
        let mut list = endpoints(&["a"], false);
        list.push(vec![endpoint("b")]);
        assert!(list.discover(vec![endpoint("c"), endpoint("a")]));
        assert_eq!(hosts(&list.pass(&mut rng())), ["c", "a", "b"]);
        assert!(!list.discover(vec![endpoint("b")]));
        assert_eq!(hosts(&list.pass(&mut rng())), ["b", "a"]);
        assert!(!list.discover(Vec::new()));
        assert_eq!(hosts(&list.pass(&mut rng())), ["b", "a"]);
    }

    #[test]
    fn a_redirection_replaces_the_list() {
        let mut list = endpoints(&["a", "b"], true);
        list.push(vec![endpoint("c")]);
        list.redirect(endpoint("d"));
        assert_eq!(hosts(&list.pass(&mut rng())), ["d"]);
    }

    #[test]
    fn a_failed_address_that_is_gone_does_not_come_back() {
        let mut list = endpoints(&["a"], false);
        list.failed(&endpoint("x"));
        assert_eq!(hosts(&list.pass(&mut rng())), ["a"]);
    }
}
