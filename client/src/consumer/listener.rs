//! JMS `MessageListener`.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{ConsumerInner, Patience};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::session::AcknowledgeMode;

/// A running listener, made by [`Consumer::listen`](crate::Consumer::listen). Dropping it closes the consumer once the
/// message in hand is done.
#[derive(Debug)]
pub struct Listener {
    consumer: Arc<ConsumerInner>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Listener {
    pub(super) fn start<F, R, T, E>(consumer: Arc<ConsumerInner>, listener: F) -> Result<Self>
    where
        F: FnMut(Message) -> R + Send + 'static,
        R: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        if consumer.mailbox.pulls() {
            return Err(Error::new(
                ErrorKind::IllegalState,
                "a consumer with a prefetch of 0 cannot listen: nothing comes unasked",
            ));
        }
        if consumer.session.enlisted.is_some() && consumer.mailbox.mode() == AcknowledgeMode::Transacted {
            return Err(Error::new(
                ErrorKind::IllegalState,
                "a consumer of an XA session cannot listen without jms.xaAckMode: nothing comes outside of a branch",
            ));
        }
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| Error::new(ErrorKind::IllegalState, error.to_string()).with_source(error))?;
        let (stop, stopped) = oneshot::channel();
        let task = runtime.spawn(run(consumer.clone(), listener, stopped));
        Ok(Self {
            consumer,
            stop: Some(stop),
            task,
        })
    }

    /// Closes the consumer and waits until the message in hand, if there is one, is done.
    ///
    /// # Errors
    ///
    /// [`is_illegal_state`](Error::is_illegal_state) if the listener has panicked.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the listener ends by itself.
    pub async fn close(mut self) -> Result<()> {
        self.stop.take();
        let done = (&mut self.task).await;
        self.consumer.close();
        done.map_err(|error| match error.is_cancelled() {
            true => Error::new(ErrorKind::Closed, "the runtime of the listener is gone").with_source(error),
            false => Error::new(ErrorKind::IllegalState, "the listener has panicked").with_source(error),
        })
    }
}

async fn run<F, R, T, E>(consumer: Arc<ConsumerInner>, mut listener: F, mut stopped: oneshot::Receiver<()>)
where
    F: FnMut(Message) -> R,
    R: Future<Output = Result<T, E>>,
    E: std::fmt::Display,
{
    loop {
        let taken = tokio::select! {
            biased;
            _ = &mut stopped => break,
            taken = consumer.take(Patience::Forever, true) => taken,
        };
        let result = match taken {
            Ok(Some(taken)) => {
                let wire = taken.message.clone();
                match consumer.deliver(taken).await {
                    Ok(message) => match listener(message).await {
                        Ok(_) => match consumer.mailbox.processed(&wire, consumer.out()) {
                            Ok(receipts) => consumer.settled(receipts).await,
                            Err(error) => Err(error),
                        },
                        Err(error) => {
                            let why = error.to_string();
                            tracing::debug!(consumer = %consumer.mailbox.id(), %why, "a listener failed");
                            consumer.mailbox.failed(&wire, &why, consumer.out())
                        }
                    },
                    Err(error) => Err(error),
                }
            }
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            // The end of the connection is told to whoever watches its events.
            tracing::debug!(consumer = %consumer.mailbox.id(), %error, "a listener ends");
            break;
        }
    }
    consumer.close();
}
