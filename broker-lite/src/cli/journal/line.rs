//! The lines of an export.
//!
//! Each is a JSON object with a `kind`: first `journal`, then every `destination`, then the messages, and last what is
//! `prepared`. A `message` has its headers and properties to be read by people, its body in base64, and everything else
//! marshalled as OpenWire in base64, which is what an import goes by. A `share` is a message that lies at another key as
//! well.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// The version of these lines.
pub(super) const FORMAT: u32 = 1;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub(super) enum Line {
    /// The first line.
    Journal { format: u32 },
    /// A destination, by the key that the other lines know it by.
    Destination {
        key: u32,
        /// Up to which sequence messages may have been shown to a consumer.
        dispatched: u64,
        is: Described,
    },
    Message {
        destination: u32,
        sequence: u64,
        /// How often delivery failed.
        redelivered: u32,
        /// When a scheduled message is due, and how often it fired.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        due: Option<(i64, u32)>,
        /// For people only.
        #[serde(default)]
        headers: BTreeMap<String, Json>,
        /// For people only.
        #[serde(default)]
        properties: BTreeMap<String, Json>,
        body: Option<Base64>,
        /// The message without its body.
        openwire: Base64,
    },
    Share {
        destination: u32,
        sequence: u64,
        redelivered: u32,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        due: Option<(i64, u32)>,
        /// Destination and sequence of the same message.
        of: (u32, u64),
    },
    /// A transaction is prepared.
    Prepared {
        destination: u32,
        format_id: i32,
        global_transaction_id: Base64,
        branch_qualifier: Base64,
        /// Destinations and sequences of what it acknowledged.
        acknowledged: Vec<(u32, u64)>,
    },
}

/// What a destination is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub(super) enum Described {
    Queue(String),
    DurableSubscription {
        client_id: String,
        name: String,
        destination: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        selector: Option<String>,
        no_local: bool,
    },
    Transaction,
    Schedule,
    Retained(String),
}

/// Bytes that stand as base64 in JSON.
#[derive(Debug)]
pub(super) struct Base64(pub(super) Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}
