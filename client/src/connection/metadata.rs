//! Who is at the other end.

use std::sync::Arc;

use crate::wire::{BrokerInfo, WireFormat};

/// What is known of this library and of the broker (JMS `ConnectionMetaData` and ActiveMQ's `BrokerInfo`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionMetadata {
    wire_version: i32,
    broker_id: Option<Arc<str>>,
    broker_name: Option<Arc<str>>,
    broker_url: Option<Arc<str>>,
}

impl ConnectionMetadata {
    /// The name of this library (`getJMSProviderName`).
    pub fn provider_name(&self) -> &'static str {
        env!("CARGO_PKG_NAME")
    }

    /// The version of this library (`getProviderVersion`).
    pub fn provider_version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// The version of OpenWire agreed with the broker, 1 to 12.
    pub fn wire_version(&self) -> i32 {
        self.wire_version
    }

    /// The id of the broker, new at each of its starts. None until it has introduced itself, which it may do a moment
    /// after it has accepted the connection.
    pub fn broker_id(&self) -> Option<&str> {
        self.broker_id.as_deref()
    }

    /// The name of the broker; none as for [`broker_id`](Self::broker_id).
    pub fn broker_name(&self) -> Option<&str> {
        self.broker_name.as_deref()
    }

    /// A URI the broker can be reached by; none as for [`broker_id`](Self::broker_id).
    pub fn broker_url(&self) -> Option<&str> {
        self.broker_url.as_deref()
    }

    pub(super) fn opened(&mut self, format: &WireFormat) {
        self.wire_version = format.version;
    }

    pub(super) fn learn(&mut self, info: BrokerInfo) {
        self.broker_id = info.broker_id.and_then(|id| id.value);
        self.broker_name = info.broker_name;
        self.broker_url = info.broker_url;
    }
}
