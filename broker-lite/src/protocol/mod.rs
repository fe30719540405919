//! Frames to core commands and back, one module a protocol.

pub(crate) mod openwire;
