//! The clock of leases.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time since the machine was started, which nobody can set. It goes on while the machine sleeps, unlike
/// [`std::time::Instant`]: others may have taken over meanwhile.
pub(super) fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // Neither is ever negative, and there are less than a second of the latter.
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_goes_on() {
        let before = super::now();
        let mut after = super::now();
        while after == before {
            after = super::now();
        }
        assert!(after > before);
    }
}
