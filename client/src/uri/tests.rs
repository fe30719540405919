mod composite;
mod endpoint;
mod grammar;
mod properties;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::wire::WireFormatOptions;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn parse(text: &str) -> ClientUri {
    ClientUri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The error for a URI that must not parse.
fn refused(text: &str) -> String {
    match ClientUri::parse(text) {
        Ok(uri) => panic!("{text} gave {uri:?}"),
        Err(error) => {
            assert!(error.is_uri(), "{error}");
            error.to_string()
        }
    }
}

/// Asserts that `text` is refused at byte `at` with an error that has `what` in it.
fn refused_at(text: &str, at: usize, what: &str) {
    let error = refused(text);
    assert!(
        error.contains(&format!("(byte {at} of")) && error.contains(what),
        "{text}: {error}"
    );
}

fn single(text: &str) -> Endpoint {
    match parse(text).transport {
        TransportUri::Single(endpoint) => endpoint,
        other => panic!("{text} gave {other:?}"),
    }
}

fn failover(text: &str) -> FailoverUri {
    match parse(text).transport {
        TransportUri::Failover(uri) => uri,
        other => panic!("{text} gave {other:?}"),
    }
}

fn discovery(text: &str) -> DiscoveryUri {
    match parse(text).transport {
        TransportUri::Discovery(uri) => uri,
        other => panic!("{text} gave {other:?}"),
    }
}

fn addresses(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(Endpoint::to_string).collect()
}

fn texts(uri: &Uri) -> Vec<&str> {
    match &uri.body {
        Body::List(list) => list.iter().map(Uri::text).collect(),
        _ => panic!("{uri:?} has no list"),
    }
}

fn options(query: &Query) -> Vec<(&str, Option<&str>)> {
    query
        .iter()
        .map(|option| (option.name(), option.value()))
        .collect()
}
