//! The core against a naive model: after every step the model says what may have gone to whom, what must have, and what
//! is where.
//!
//! `state` is the model, `run` and `steps` are the random clients, `world` is the core with its store, `judge` compares.
//! `MODEL_SEEDS` and `MODEL_STEPS` are how many runs there are and how long each is, `MODEL_FIRST_SEED` is the first.

mod judge;
mod run;
mod state;
mod steps;
mod world;

use run::{Manner, Run};

fn wish(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Every eighth seed goes the same way.
fn manner(seed: u64) -> Manner {
    Manner {
        resident_limit: [usize::MAX, 0, 8 * 1024, 0][seed as usize % 4],
        slow: [0, 70, 40, 95][seed as usize / 2 % 4],
        full: [0, 0, 3][seed as usize % 3],
        restarts: [200, 1000][seed as usize % 2],
    }
}

#[test]
fn the_core_does_what_a_naive_model_says() {
    let (first, seeds) = (wish("MODEL_FIRST_SEED", 0), wish("MODEL_SEEDS", 40));
    let steps = wish("MODEL_STEPS", 2500) as usize;
    for seed in first..first + seeds {
        Run::new(seed, manner(seed)).steps(steps);
    }
}
