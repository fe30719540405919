//! A load on brokers while something happens to them.

use std::time::{Duration, Instant};

use broker_lite::cli::soak::Control;

/// How often is looked.
const OFTEN: Duration = Duration::from_millis(5);

/// Waits until so many more messages are confirmed and have come, `before` something.
///
/// # Panics
///
/// If that takes longer than `patience`.
pub async fn goes_on(control: &Control, more: u64, patience: Duration, before: &str) {
    let (counts, began) = (control.counts(), Instant::now());
    loop {
        let now = control.counts();
        if now.confirmed >= counts.confirmed + more && now.received >= counts.received + more {
            return;
        }
        assert!(
            began.elapsed() < patience,
            "the load does not go on before {before}: {counts:?}, and now {now:?}"
        );
        tokio::time::sleep(OFTEN).await;
    }
}
