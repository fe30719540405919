//! Runs the seeds of the fuzzer, its former findings among them, through what it fuzzes.

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "it is a library elsewhere")]
mod targets;

use std::path::Path;

fn run(seeds: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(seeds);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        target(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 10, "{count} seeds in {}", folder.display());
}

#[test]
fn frames_are_decoded() {
    run("frames", targets::decode_frame);
}

#[test]
fn frames_make_round_trips() {
    run("frames", targets::round_trip);
}

#[test]
fn values_make_round_trips() {
    run("values", targets::value_map);
}

#[test]
fn text_makes_round_trips() {
    run("text", targets::mutf8);
}

#[test]
fn uris_are_parsed() {
    run("uris", targets::uri);
}
