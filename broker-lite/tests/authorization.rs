//! Authorization against what ActiveMQ 5.17.2's own map of entries says; see `tests/data/README.md`.

use std::fs::File;
use std::io::{BufRead, BufReader};

use broker_lite::security::{Action, Authorization, AuthorizationEntry, Principal};
use flate2::read::GzDecoder;
use openwire_client::wire::{Destination, DestinationKind};
use serde_json::Value as Json;

fn vectors() -> impl Iterator<Item = Json> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/authorization.jsonl.gz");
    let lines = BufReader::new(GzDecoder::new(File::open(path).unwrap())).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

fn text(json: &Json) -> &str {
    json.as_str().unwrap()
}

fn destination(json: &Json) -> Destination {
    Destination::parse(text(json), DestinationKind::Queue)
}

fn authorization(vector: &Json) -> Authorization {
    let entries = vector["entries"].as_array().unwrap().iter().map(|entry| {
        let destination = destination(&entry[0]);
        let entry_for = if destination.is_queue() {
            AuthorizationEntry::queue
        } else {
            AuthorizationEntry::topic
        };
        entry_for(destination.name()).read(text(&entry[1]))
    });
    let default = vector["default"].as_str();
    let default = default.map(|groups| AuthorizationEntry::default_entry().read(groups));
    Authorization::new(entries.chain(default))
}

#[test]
fn the_same_may_as_with_activemq() {
    let (mut asked, mut allowed, mut composites) = (0, 0, 0);
    for vector in vectors() {
        let authorization = authorization(&vector);
        for question in vector["asked"].as_array().unwrap() {
            let destination = destination(&question[0]);
            for (group, answer) in ["a", "b", "c", "d"].into_iter().zip(text(&question[1]).chars()) {
                let principal = Principal::new("somebody", [group]);
                let may =
                    |destination: &Destination| authorization.may(&principal, Action::Read, destination);
                let (expected, what) = (answer == 'T', format!("{group} {destination}: {vector}"));
                asked += 1;
                allowed += usize::from(expected);
                if destination.is_composite() {
                    // ActiveMQ wants one entry that matches all parts, this broker a right for each.
                    composites += 1;
                    let parts = destination.name().split(',');
                    let each = parts.map(|part| Destination::parse(part, destination.kind()));
                    assert_eq!(
                        may(&destination),
                        each.into_iter().all(|part| may(&part)),
                        "{what}"
                    );
                    assert!(may(&destination) || !expected, "{what}");
                } else {
                    assert_eq!(may(&destination), expected, "{what}");
                }
            }
        }
    }
    assert!(
        asked >= 40_000 && allowed > 5_000 && composites > 1_000,
        "{asked} {allowed} {composites}"
    );
}
