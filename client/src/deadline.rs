//! Waiting with an end, also where there is no runtime to wait in.

use std::pin::Pin;
use std::time::Duration;

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use crate::error::{Error, ErrorKind, Result};

/// Waits until `end` at most; none is for ever.
///
/// # Errors
///
/// Something has to be waited for, and there is no runtime to do it.
pub(crate) async fn timeout_at<T>(end: Option<Instant>, work: impl Future<Output = T>) -> Result<Option<T>> {
    let Some(end) = end else {
        return Ok(Some(work.await));
    };
    if let Err(error) = check_runtime() {
        // Whatever needs no waiting, such as the error of a closed connection, needs no runtime either.
        return work.now_or_never().map(Some).ok_or(error);
    }
    Ok(tokio::time::timeout_at(end, work).await.ok())
}

/// A timer.
///
/// # Errors
///
/// There is no runtime.
pub(crate) fn sleep(time: Duration) -> Result<Pin<Box<Sleep>>> {
    check_runtime()?;
    Ok(Box::pin(tokio::time::sleep(time)))
}

fn check_runtime() -> Result<()> {
    match Handle::try_current() {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::new(ErrorKind::IllegalState, error.to_string()).with_source(error)),
    }
}
