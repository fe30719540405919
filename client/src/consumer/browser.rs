//! JMS `QueueBrowser`.

use std::sync::Arc;

use super::{ConsumerInner, Patience};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::wire::{ConsumerId, Destination};

/// Looks at the messages of a queue, in their order, without consuming them (JMS `QueueBrowser`).
///
/// Made by [`Session::create_browser`](crate::Session::create_browser). It sees what was in the queue when it was made, as
/// far as the broker lets it see: ActiveMQ shows no more than `maxBrowsePageSize` messages at a time. Nothing is shown before
/// [`Connection::start`](crate::Connection::start), and it takes no part in the transaction of its session.
///
/// ```no_run
/// # async fn example(session: openwire_client::Session) -> openwire_client::Result<()> {
/// use openwire_client::Destination;
///
/// let mut browser = session.create_browser(&Destination::queue("Orders")).await?;
/// while let Some(message) = browser.next().await? {
///     println!("{:?}", message.message_id());
/// }
/// # Ok(())
/// # }
/// ```
///
/// A browser does not outlive the break of a `failover:` connection, since another broker cannot know how far it was: it
/// says so, and is made again.
///
/// Dropping it closes it without waiting.
#[derive(Debug)]
pub struct Browser {
    inner: Arc<ConsumerInner>,
    ended: bool,
}

impl Browser {
    pub(crate) fn new(inner: ConsumerInner) -> Self {
        Self {
            inner: Arc::new(inner),
            ended: false,
        }
    }

    /// The next message, `None` at the end (`Enumeration.nextElement`, `hasMoreElements`).
    ///
    /// Waits for the broker no longer than
    /// [`request_timeout`](crate::options::ConnectionOptions::request_timeout).
    ///
    /// # Errors
    ///
    /// [`is_interrupted`](Error::is_interrupted) if the connection broke: browse again;
    /// [`is_timeout`](Error::is_timeout) if nothing more comes and no end either, which is so as well while the connection
    /// is not started; [`is_closed`](Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is either returned or still there.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        if self.ended {
            return Ok(None);
        }
        let limit = self.inner.session.connection.options.request_timeout;
        let patience = limit.map_or(Patience::Forever, Patience::For);
        match self.inner.next(patience).await? {
            Some(message) => Ok(Some(message)),
            None if self.inner.mailbox.empty_answers() > 0 => {
                self.ended = true;
                Ok(None)
            }
            None => Err(Error::new(
                ErrorKind::Timeout,
                format!("the broker showed neither a message nor the end for {limit:?}"),
            )),
        }
    }

    /// The queue (`getQueue`).
    pub fn queue(&self) -> &Destination {
        self.inner.mailbox.destination()
    }

    /// The selector (`getMessageSelector`).
    pub fn selector(&self) -> Option<&str> {
        self.inner.selector.as_deref()
    }

    /// The id of the browser at the broker, which takes it for a consumer.
    pub fn id(&self) -> &ConsumerId {
        self.inner.mailbox.id()
    }

    /// Closes the browser (`close`). Does not wait for the broker, so there is nothing to be cancelled.
    ///
    /// # Errors
    ///
    /// None today.
    pub async fn close(self) -> Result<()> {
        self.inner.close();
        Ok(())
    }
}
