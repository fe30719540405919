//! The answer to one message.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use crate::connection::no_answer;
use crate::deadline::sleep;
use crate::error::Result;
use crate::link;
use crate::wire::MessageId;

/// The broker's answer to a message, as a future.
///
/// Dropping it gives up the answer, not the message.
#[derive(Debug)]
#[must_use = "it tells whether the broker has the message"]
pub struct Receipt {
    pub(super) message_id: MessageId,
    pub(super) answer: Option<link::Receipt>,
    pub(super) limit: Option<Duration>,
    pub(super) deadline: Option<Pin<Box<Sleep>>>,
}

impl Receipt {
    /// The id the message got.
    pub fn message_id(&self) -> &MessageId {
        &self.message_id
    }
}

/// Resolves when the broker has the message. The errors are those of [`Producer::send`](super::Producer::send).
impl Future for Receipt {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        let Some(answer) = &mut this.answer else {
            return Poll::Ready(Ok(()));
        };
        if let Poll::Ready(result) = Pin::new(answer).poll(cx) {
            return Poll::Ready(result.map(drop));
        }
        if let Some(limit) = this.limit {
            // Most answers are there when they are asked for, and need no timer.
            let deadline = match &mut this.deadline {
                Some(deadline) => deadline,
                none => none.insert(sleep(limit)?),
            };
            std::task::ready!(deadline.as_mut().poll(cx));
            return Poll::Ready(Err(no_answer(limit)));
        }
        Poll::Pending
    }
}
