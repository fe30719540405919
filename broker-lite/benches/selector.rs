//! What a selector costs a message whose properties are marshalled.
//!
//! `cargo bench -p broker-lite --bench selector`

use std::hint::black_box;
use std::time::Instant;

use broker_lite::selector::Selector;
use bytes::BytesMut;
use openwire_client::wire::*;

const EVALUATIONS: u32 = 1_000_000;

fn main() {
    let mut properties: ValueMap = (0..10).map(|at| (format!("property{at}"), at)).collect();
    properties.insert("colour", "blue");
    properties.insert("weight", 2500_i64);
    let mut marshalled = BytesMut::new();
    encode_map(&properties, &mut marshalled).expect("a small map");
    let message = Message {
        marshalled_properties: Some(marshalled.freeze()),
        message_type: Some("car".into()),
        priority: 4,
        ..Message::default()
    };
    for text in [
        "JMSType = 'car' AND JMSPriority > 3",
        "colour = 'blue'",
        "JMSType = 'car' AND colour = 'blue' AND weight > 2500",
        "colour LIKE '%lu%' OR weight BETWEEN 1 AND 5",
        "colour IN ('red', 'green', 'yellow', 'black', 'blue')",
        "REGEX('^bl', colour)",
        "nothing IS NULL",
    ] {
        let selector = Selector::parse(text).expect("a selector");
        let start = Instant::now();
        for _ in 0..EVALUATIONS {
            black_box(selector.matches(black_box(&message))).expect("it fits");
        }
        let nanos = start.elapsed().as_nanos() / u128::from(EVALUATIONS);
        println!("{nanos:5} ns  {text}");
    }
}
