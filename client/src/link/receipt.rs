//! The answer to a request that is on its way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::Command;

/// Resolves to the broker's answer. Dropping it gives up the answer, not the request.
#[derive(Debug)]
pub(crate) struct Receipt {
    answer: oneshot::Receiver<Result<Command>>,
}

impl Receipt {
    pub(super) fn new(answer: oneshot::Receiver<Result<Command>>) -> Self {
        Self { answer }
    }
}

impl Future for Receipt {
    type Output = Result<Command>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx).map(|answer| {
            // The link answers everything before it ends, unless its runtime ends first.
            answer.unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::Closed,
                    "the runtime of the connection is gone",
                ))
            })
        })
    }
}
