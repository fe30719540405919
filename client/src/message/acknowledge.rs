//! What a received message needs to be acknowledged through its own handle.

use std::sync::Arc;

use async_trait::async_trait;

use super::Message;
use crate::error::Result;

/// What [`Message::acknowledge`] does, given by the consumer that received the message.
#[async_trait]
pub(crate) trait Acknowledger: Send + Sync {
    async fn acknowledge(&self) -> Result<()>;
}

impl Message {
    /// Acknowledges this message, and in `CLIENT_ACKNOWLEDGE` mode all that its session delivered before it
    /// (`Message.acknowledge`).
    ///
    /// What was delivered before the connection broke is not meant: the broker delivers it again.
    ///
    /// Does nothing, successfully, for a message that was not received or whose session acknowledges by
    /// itself or is transacted.
    ///
    /// # Errors
    ///
    /// What the broker answers, or that it did not. [`is_interrupted`](crate::Error::is_interrupted) if the connection has broken
    /// since the delivery: the message comes again. [`is_in_doubt`](crate::Error::is_in_doubt) if it broke before the answer came
    /// that is waited for with `jms.sendAcksAsync=false`: to this consumer the message is done with.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the acknowledgement may or may not have been sent.
    pub async fn acknowledge(&self) -> Result<()> {
        match &self.acknowledger {
            Some(acknowledger) => acknowledger.acknowledge().await,
            None => Ok(()),
        }
    }

    pub(crate) fn with_acknowledger(self, acknowledger: Arc<dyn Acknowledger>) -> Self {
        Self {
            acknowledger: Some(acknowledger),
            ..self
        }
    }
}
