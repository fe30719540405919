//! The wall clock, randomness and what ids are made of: whatever else would differ from one run to the next comes
//! through here, so that a simulation can hold it still. (What is measured, rather than dated, comes from
//! `tokio::time`, which a simulation can hold still by itself.)
//!
//! Hidden: for `broker-lite` and for tests.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::distr::{Distribution, StandardUniform};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::time::Instant;

/// When simulated time begins, in milliseconds since 1970.
const SIMULATED_EPOCH: u64 = 1_700_000_000_000;

thread_local! {
    static SIMULATED: RefCell<Option<State>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct State {
    random: StdRng,
    start: Instant,
    ids: u64,
}

/// Everything on this thread is simulated until this is dropped.
#[derive(Debug)]
pub struct Simulation {
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Simulation {
    /// Begins. Randomness follows from the seed and the wall clock from tokio's, so call it on the paused clock of a
    /// runtime of one thread.
    pub fn begin(seed: u64) -> Self {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            start: Instant::now(),
            ids: 0,
        };
        SIMULATED.with_borrow_mut(|simulated| *simulated = Some(state));
        Self { _thread: PhantomData }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        SIMULATED.with_borrow_mut(|simulated| *simulated = None);
    }
}

/// The wall clock.
pub fn now() -> SystemTime {
    SIMULATED.with_borrow(|simulated| match simulated {
        Some(state) => UNIX_EPOCH + Duration::from_millis(SIMULATED_EPOCH) + state.start.elapsed(),
        None => SystemTime::now(),
    })
}

/// The wall clock in milliseconds since 1970.
pub fn now_millis() -> i64 {
    now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A random value.
pub fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    with_rng(|rng| rng.random())
}

/// Does something with randomness.
pub fn with_rng<R>(work: impl FnOnce(&mut dyn Rng) -> R) -> R {
    SIMULATED.with_borrow_mut(|simulated| match simulated {
        Some(state) => work(&mut state.random),
        None => work(&mut rand::rng()),
    })
}

/// The name of this machine, which `real` finds out.
pub fn host_name(real: impl FnOnce() -> String) -> String {
    match SIMULATED.with_borrow(Option::is_some) {
        true => "simulated".to_owned(),
        false => real(),
    }
}

/// The number of the next id, where ids are simulated.
pub(crate) fn simulated_id() -> Option<u64> {
    SIMULATED.with_borrow_mut(|simulated| {
        let state = simulated.as_mut()?;
        state.ids += 1;
        Some(state.ids)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_seed_gives_the_same_again_and_its_end_is_the_end() {
        let course = || async {
            let _simulation = Simulation::begin(7);
            let first = (random::<u64>(), now_millis(), simulated_id());
            tokio::time::advance(Duration::from_millis(1500)).await;
            (first, random::<u64>(), now_millis() - first.1, simulated_id())
        };
        let once = course().await;
        assert_eq!(once, course().await);
        assert_eq!((once.2, once.3), (1500, Some(2)));
        assert_eq!(simulated_id(), None);
        assert_ne!(random::<u64>(), random::<u64>());
    }
}
