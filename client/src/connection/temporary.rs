//! JMS `TemporaryQueue` and `TemporaryTopic`.

use std::ops::Deref;
use std::sync::Arc;

use super::ConnectionInner;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::{Destination, DestinationInfo, DestinationKind};

/// A queue or topic that lives as long as the connection that made it (JMS `TemporaryQueue`, `TemporaryTopic`).
///
/// It is used like any other [`Destination`]. Dropping the handle deletes nothing: the broker does that when the
/// connection ends. After a failover it exists on the new broker, under the same name and empty.
#[derive(Debug, Clone)]
pub struct TemporaryDestination {
    connection: Arc<ConnectionInner>,
    destination: Destination,
}

impl TemporaryDestination {
    pub(crate) async fn create(connection: &Arc<ConnectionInner>, kind: DestinationKind) -> Result<Self> {
        let name = format!("{}:{}", connection.id, connection.next_temporary());
        let this = Self {
            connection: connection.clone(),
            destination: Destination::new(kind, &name),
        };
        connection.call(this.info(DestinationInfo::ADD)).await?;
        Ok(this)
    }

    /// The destination itself.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Deletes it at the broker (`TemporaryQueue.delete`).
    ///
    /// # Errors
    ///
    /// [`is_illegal_state`](crate::Error::is_illegal_state) if there are consumers still; what the broker answers;
    /// [`is_timeout`](crate::Error::is_timeout); [`is_closed`](crate::Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped it may be deleted or not.
    pub async fn delete(&self) -> Result<()> {
        // A broker would take it away from under them.
        if self.connection.hub.consumes_from(&self.destination) {
            return Err(Error::new(
                ErrorKind::IllegalState,
                format!("a consumer is still consuming from {}", self.destination),
            ));
        }
        self.connection
            .call(self.info(DestinationInfo::REMOVE))
            .await
            .map(drop)
    }

    fn info(&self, operation_type: i8) -> DestinationInfo {
        DestinationInfo {
            connection_id: Some(self.connection.id.clone()),
            destination: Some(self.destination.clone()),
            operation_type,
            ..DestinationInfo::default()
        }
    }
}

impl Deref for TemporaryDestination {
    type Target = Destination;

    fn deref(&self) -> &Destination {
        &self.destination
    }
}
