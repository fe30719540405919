//! What two peers agree on from the `WireFormatInfo` each of them sends first.

use bytes::BytesMut;

use super::MAX_VERSION;
use super::cache::MIN_CACHE_SIZE;
use super::commands::WireFormatInfo;
use super::error::{WireError, WireErrorKind};
use super::format::WireFormat;
use super::value::{Value, ValueMap, decode_map, encode_map};

const MAGIC: [u8; 8] = *b"ActiveMQ";

/// A `WireFormatInfo` with more options or longer ones is refused, as ActiveMQ 6 does.
const MAX_OPTIONS: usize = 64;
const MAX_OPTION_LEN: usize = 512;

/// What one side offers: the `wireFormat.*` options.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WireFormatOptions {
    /// `version`: the highest version to speak, 1 to 12. Default 12.
    pub version: i32,
    /// `tightEncodingEnabled`. Default true.
    pub tight_encoding_enabled: bool,
    /// `cacheEnabled`. Default true.
    pub cache_enabled: bool,
    /// `cacheSize`, in values. Default 1024; 0 stands for 16383, and 1 to 99 are refused because they make
    /// a Java peer hang.
    pub cache_size: i32,
    /// `sizePrefixDisabled`. Default false.
    pub size_prefix_disabled: bool,
    /// `stackTraceEnabled`. Default true.
    pub stack_trace_enabled: bool,
    /// `tcpNoDelayEnabled`. Default true.
    pub tcp_no_delay_enabled: bool,
    /// `maxInactivityDuration`, in milliseconds; 0 never takes a silent peer for dead. Default 30000.
    pub max_inactivity_duration: i64,
    /// `maxInactivityDurationInitalDelay` (the spelling is ActiveMQ's), in milliseconds. Default 10000.
    pub max_inactivity_duration_initial_delay: i64,
    /// `maxFrameSize`, in bytes. Default 104857600, what ActiveMQ's shipped configuration has.
    pub max_frame_size: i64,
    /// `maxFrameSizeEnabled`: false switches the limit off. Default true.
    pub max_frame_size_enabled: bool,
    /// `host`: the host that was dialled, for information.
    pub host: Option<String>,
    /// `includePlatformDetails`: sends the name of the platform. Default false.
    pub include_platform_details: bool,
}

impl Default for WireFormatOptions {
    fn default() -> Self {
        Self {
            version: MAX_VERSION,
            tight_encoding_enabled: true,
            cache_enabled: true,
            cache_size: 1024,
            size_prefix_disabled: false,
            stack_trace_enabled: true,
            tcp_no_delay_enabled: true,
            max_inactivity_duration: 30_000,
            max_inactivity_duration_initial_delay: 10_000,
            max_frame_size: 104_857_600,
            max_frame_size_enabled: true,
            host: None,
            include_platform_details: false,
        }
    }
}

impl WireFormatOptions {
    /// The frame that makes the offer.
    ///
    /// # Errors
    ///
    /// [`WireErrorKind::TooLong`] if the host name has no encoding.
    pub fn to_info(&self) -> Result<WireFormatInfo, WireError> {
        let mut map = ValueMap::new();
        map.insert("TightEncodingEnabled", self.tight_encoding_enabled);
        map.insert("CacheEnabled", self.cache_enabled);
        map.insert("CacheSize", self.cache_size);
        map.insert("SizePrefixDisabled", self.size_prefix_disabled);
        map.insert("StackTraceEnabled", self.stack_trace_enabled);
        map.insert("TcpNoDelayEnabled", self.tcp_no_delay_enabled);
        map.insert("MaxInactivityDuration", self.max_inactivity_duration);
        map.insert(
            "MaxInactivityDurationInitalDelay",
            self.max_inactivity_duration_initial_delay,
        );
        map.insert("MaxFrameSize", self.frame_limit());
        map.insert("MaxFrameSizeEnabled", self.max_frame_size_enabled);
        if let Some(host) = &self.host {
            map.insert("Host", host.as_str());
        }
        map.insert("ProviderName", "openwire-client");
        map.insert("ProviderVersion", env!("CARGO_PKG_VERSION"));
        if self.include_platform_details {
            map.insert(
                "PlatformDetails",
                format!("Rust, {} {}", std::env::consts::OS, std::env::consts::ARCH),
            );
        }
        let mut properties = BytesMut::new();
        encode_map(&map, &mut properties)?;
        Ok(WireFormatInfo {
            magic: MAGIC,
            version: self.version,
            marshalled_properties: Some(properties.freeze()),
        })
    }

    fn frame_limit(&self) -> i64 {
        if self.max_frame_size_enabled && self.max_frame_size > 0 {
            self.max_frame_size
        } else {
            i64::MAX
        }
    }
}

/// The settings that follow from our offer and the peer's frame.
///
/// # Errors
///
/// [`WireErrorKind::Negotiation`] for a bad magic, a version below 1, an option of the wrong type or too
/// many of them; any other kind if the options do not decode.
pub fn negotiate(ours: &WireFormatOptions, theirs: &WireFormatInfo) -> Result<WireFormat, WireError> {
    if theirs.magic != MAGIC {
        return Err(refused("the peer does not speak OpenWire"));
    }
    let version = if theirs.version <= 0 {
        0
    } else {
        ours.version.min(theirs.version)
    };
    if version < 1 {
        return Err(refused(format!("the peer offers version {}", theirs.version)));
    }
    let options = Options(match &theirs.marshalled_properties {
        Some(bytes) => decode_map(bytes.clone())?,
        None => ValueMap::new(),
    });
    options.check()?;
    let their_frame_size = match options.long("MaxFrameSize")? {
        ..=0 => i64::MAX,
        size => size,
    };
    let cache_size = match (ours.cache_size, options.int("CacheSize")?) {
        (0, size) | (size, 0) => size,
        (our_size, their_size) => our_size.min(their_size),
    };
    // A peer that has fewer slots than Java keeps free would spin; without the cache it works.
    let cache = ours.cache_enabled
        && options.bool("CacheEnabled")?
        && (cache_size == 0 || cache_size >= MIN_CACHE_SIZE);
    let inactivity = ours
        .max_inactivity_duration
        .min(options.long("MaxInactivityDuration")?)
        .max(0);
    let initial_delay = ours
        .max_inactivity_duration_initial_delay
        .min(options.long("MaxInactivityDurationInitalDelay")?)
        .max(0);
    Ok(WireFormat {
        version,
        tight: ours.tight_encoding_enabled && options.bool("TightEncodingEnabled")?,
        cache: cache.then_some(cache_size),
        stack_trace: ours.stack_trace_enabled && options.bool("StackTraceEnabled")?,
        size_prefix_disabled: ours.size_prefix_disabled && options.bool("SizePrefixDisabled")?,
        max_frame_size: ours.frame_limit().min(their_frame_size) as u64,
        tcp_no_delay: ours.tcp_no_delay_enabled && options.bool("TcpNoDelayEnabled")?,
        max_inactivity_duration: inactivity,
        max_inactivity_duration_initial_delay: initial_delay,
    })
}

fn refused(why: impl Into<String>) -> WireError {
    WireError::new(WireErrorKind::Negotiation, why)
}

/// The peer's options: absent is false or 0, another type than Java's is refused.
struct Options(ValueMap);

impl Options {
    fn check(&self) -> Result<(), WireError> {
        if self.0.len() > MAX_OPTIONS {
            return Err(refused(format!(
                "{} options where {MAX_OPTIONS} is the limit",
                self.0.len()
            )));
        }
        let fits = |value: &Value| match value {
            Value::String(text) => text.len() <= MAX_OPTION_LEN,
            Value::Bytes(bytes) => bytes.len() <= MAX_OPTION_LEN,
            Value::Map(_) | Value::List(_) => false,
            _ => true,
        };
        match self.0.iter().find(|(_, value)| !fits(value)) {
            Some((name, _)) => Err(refused(format!("option {name:.32} is not a short simple value"))),
            None => Ok(()),
        }
    }

    fn bool(&self, name: &str) -> Result<bool, WireError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => Err(refused(format!("option {name} is not a boolean"))),
        }
    }

    fn int(&self, name: &str) -> Result<i32, WireError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(0),
            Some(Value::Int(value)) => Ok(*value),
            Some(_) => Err(refused(format!("option {name} is not an int"))),
        }
    }

    fn long(&self, name: &str) -> Result<i64, WireError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(0),
            Some(Value::Long(value)) => Ok(*value),
            Some(_) => Err(refused(format!("option {name} is not a long"))),
        }
    }
}
