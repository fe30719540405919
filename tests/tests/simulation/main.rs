//! Many worlds, each from a seed: clients and brokers as they are, in virtual time, over a network, disks and machines
//! that fail. Nothing that was confirmed may be lost, nothing committed twice or by halves, and nobody may wait for
//! ever.
//!
//! A failure prints the command that repeats it. `SIMULATION_SEED` runs one seed and prints its course,
//! `SIMULATION_SEEDS` says how many to run, and `SIMULATION_FIRST` with which to begin.

mod brokers;
mod client;
mod disk;
mod faults;
mod ledger;
mod network;
mod work;
mod world;

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use world::{Course, Options, run};

/// How many seeds are run unless `SIMULATION_SEEDS` says otherwise; CI runs more.
const SEEDS: u64 = 200;

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

/// Runs the seeds on all processors. What each says goes to `look` in any order.
fn each(seeds: impl Iterator<Item = u64> + Send, options: Options, look: impl Fn(u64, Course) + Sync) {
    let seeds = Mutex::new(seeds);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(seed) = seeds.lock().next() else { break };
                    look(seed, run(seed, options));
                }
            });
        }
    });
}

fn report(seed: u64, course: &Course) -> String {
    let violations = course.violations.join("\n  ");
    format!(
        "seed {seed} broke a rule:\n  {violations}\n  repeat it with: SIMULATION_SEED={seed} cargo test -p tests --test simulation nothing_confirmed_is_lost -- --nocapture"
    )
}

#[test]
fn nothing_confirmed_is_lost() {
    if let Some(seed) = number("SIMULATION_SEED") {
        let options = Options {
            verbose: true,
            ..Options::default()
        };
        let course = run(seed, options);
        println!("{course:?}");
        assert!(course.violations.is_empty(), "{}", report(seed, &course));
        return;
    }
    let count = number("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let first = number("SIMULATION_FIRST").unwrap_or(0);
    let failures = Mutex::new(Vec::new());
    let [faults, sent, again, committed, rolled_back, in_doubt, hours] = [const { AtomicU64::new(0) }; 7];
    each(first..first + count, Options::default(), |seed, course| {
        let figures = course.figures;
        let sums = [
            (&faults, course.faults),
            (&sent, figures.sent),
            (&again, figures.shown_again),
            (&committed, figures.committed),
            (&rolled_back, figures.rolled_back),
            (&in_doubt, figures.in_doubt),
            (&hours, course.time.as_secs()),
        ];
        for (sum, value) in sums {
            sum.fetch_add(value, Ordering::Relaxed);
        }
        if !course.violations.is_empty() {
            failures.lock().push(report(seed, &course));
        }
    });
    println!(
        "{count} seeds: {faults:?} faults, {sent:?} messages, {again:?} shown again, {committed:?} transactions \
         committed, {rolled_back:?} rolled back, {in_doubt:?} in doubt, {} hours",
        hours.load(Ordering::Relaxed) / 3_600
    );
    let failures = failures.into_inner();
    let shown: Vec<_> = failures.iter().take(5).cloned().collect();
    assert!(
        failures.is_empty(),
        "{} seeds failed\n{}",
        failures.len(),
        shown.join("\n")
    );
}

#[test]
fn a_seed_takes_the_same_course_again() {
    each(0..10, Options::default(), |seed, course| {
        assert_eq!(run(seed, Options::default()).hash, course.hash, "seed {seed}");
    });
}

/// What the simulation is worth: a broker whose disk lies loses messages, and that is seen.
#[test]
fn a_disk_that_lies_is_found_out() {
    let options = Options {
        lying_disk: true,
        ..Options::default()
    };
    let caught = AtomicU64::new(0);
    each(0..40, options, |_, course| {
        caught.fetch_add(u64::from(!course.violations.is_empty()), Ordering::Relaxed);
    });
    assert!(caught.into_inner() > 0, "nothing was noticed");
}
