//! The answer to a request that is on its way.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::Command;

pub(crate) fn runtime_gone() -> Error {
    Error::new(ErrorKind::Closed, "the runtime of the connection is gone")
}

/// Who is told when a request of its own is not unanswered any more.
pub(crate) trait Unanswered: std::fmt::Debug + Send + Sync {
    /// `size` is that of the [`Share`]; `confirmed` says that the broker has agreed.
    fn answered(&self, size: u32, confirmed: bool);
}

/// A request's share of what its owner may have unanswered, given back with the answer or when there will be none.
#[derive(Debug)]
pub(crate) struct Share {
    owner: Arc<dyn Unanswered>,
    size: u32,
    confirmed: bool,
}

impl Share {
    pub(crate) fn new(owner: Arc<dyn Unanswered>, size: u32) -> Self {
        Self {
            owner,
            size,
            confirmed: false,
        }
    }

    pub(super) fn confirm(&mut self) {
        self.confirmed = true;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.owner.answered(self.size, self.confirmed);
    }
}

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
            answer.unwrap_or_else(|_| Err(runtime_gone()))
        })
    }
}
