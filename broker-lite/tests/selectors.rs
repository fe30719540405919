//! Selectors against what ActiveMQ 5.17.2's own evaluator said of them; see `tests/data/README.md`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use broker_lite::selector::Selector;
use bytes::Bytes;
use flate2::read::GzDecoder;
use openwire_client::wire::{Message, unmarshal};
use serde_json::Value as Json;

fn vectors() -> impl Iterator<Item = Json> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/selectors.jsonl.gz");
    let lines = BufReader::new(GzDecoder::new(File::open(path).unwrap())).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

fn message(hex: &str) -> Arc<Message> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes: Bytes = (0..hex.len()).step_by(2).map(byte).collect();
    unmarshal(bytes).unwrap()
}

/// The letter the vectors use.
fn result(selector: &Selector, message: &Message) -> char {
    match selector.matches(message) {
        Ok(true) => 'T',
        Ok(false) => 'F',
        Err(_) => 'E',
    }
}

#[test]
fn every_selector_gives_what_activemq_gives() {
    let mut messages = Vec::new();
    let mut wrong = Vec::new();
    let (mut equal, mut better, mut invalid) = (0, 0, 0);
    for vector in vectors() {
        if let Some(hex) = vector["message"].as_str() {
            messages.push(message(hex));
            continue;
        }
        let text = vector["selector"].as_str().unwrap();
        let expected = vector["matches"].as_str().filter(|_| vector["beyond"] != true);
        let (selector, expected) = match (Selector::parse(text), expected) {
            (Ok(selector), Some(expected)) => (selector, expected),
            (Err(_), None) => {
                invalid += 1;
                continue;
            }
            (parsed, _) => {
                let error = parsed.err().map(|error| error.to_string());
                wrong.push(format!(
                    "{text:?}: {}",
                    error.as_deref().unwrap_or("it was accepted")
                ));
                continue;
            }
        };
        assert_eq!(expected.len(), messages.len());
        for (at, (message, expected)) in messages.iter().zip(expected.chars()).enumerate() {
            let found = result(&selector, message);
            if expected.is_ascii_lowercase() {
                // Numbers of two types that ActiveMQ does not compare in this order.
                better += 1;
            } else if found == expected {
                equal += 1;
            } else {
                wrong.push(format!("{text:?}: message {at} gives {found}, not {expected}"));
            }
        }
    }
    println!("{equal} results equal, {better} known to differ, {invalid} selectors refused by both");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(equal > 100_000 && invalid > 500, "the vectors are not all there");
}
