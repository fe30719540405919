//! Helpers of the tests that need both crates or a real peer.

pub mod certificates;
pub mod databases;
pub mod load;
pub mod peers;
pub mod process;
pub mod proxy;
pub mod scripted;
pub mod small_disk;

use std::time::Duration;

/// No step of a test takes longer than this, unless something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Long enough for a peer on the same machine to say whatever it is going to say.
pub const QUIET: Duration = Duration::from_millis(300);

/// Runs a step of a test, and fails the test if it hangs.
///
/// # Panics
///
/// After [`PATIENCE`].
pub async fn soon<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took longer than {PATIENCE:?}"),
    }
}
