//! OpenWire, versions 1 to 12, without any I/O: what stands on the wire between a client and a broker.
//!
//! * [`Command`] is everything a frame can carry; the struct of each command is declared once, and its
//!   tight and loose encodings follow from that declaration (see `fields.rs`).
//! * [`Encoder`] and [`Decoder`] turn commands into frames and back, with the settings that
//!   [`negotiate`] computes from the two [`WireFormatInfo`]s.
//! * [`marshal`] and [`unmarshal`] are the stand-alone form of a message, as stores keep it.
//! * [`Value`] and its maps are the tagged values of properties, map and stream bodies.
//!
//! Nothing here panics on what a peer sends. Sizes are checked against the frame before anything is
//! allocated, nesting is bounded, and a [`Throwable`] is only ever data.

#[macro_use]
mod fields;

mod cache;
mod command;
mod commands;
mod destination;
mod error;
mod format;
mod ids;
mod loose;
mod message;
mod mutf8;
mod negotiate;
mod peek;
mod read;
mod throwable;
mod tight;
mod value;
mod write;

#[cfg(test)]
mod tests;

pub use command::Command;
pub use commands::*;
pub use destination::{Destination, DestinationKind};
pub use error::{WireError, WireErrorKind};
pub use format::{Decoder, Encoder, TransactionOutcomes, WireFormat, marshal, unmarshal};
pub use ids::{
    BrokerId, ConnectionId, ConsumerId, EntityId, LocalTransactionId, MessageId, ProducerId, SessionId,
    TransactionId, XaTransactionId,
};
pub use message::{BlobReference, Message, MessageKind};
pub use mutf8::{decode_mutf8, encode_mutf8};
pub use negotiate::{WireFormatOptions, negotiate};
pub use peek::{ValueRef, find_value};
pub use throwable::{StackTraceElement, Throwable};
pub use value::{Value, ValueMap, decode_map, encode_map, read_value, write_value};

/// The highest version of the protocol this library speaks.
pub const MAX_VERSION: i32 = 12;

/// The version in which stores keep messages (`storeOpenWireVersion`); what ActiveMQ's own stores use.
pub const STORE_VERSION: i32 = 11;
