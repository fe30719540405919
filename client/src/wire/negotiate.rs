//! What two peers agree on from the `WireFormatInfo` each of them sends first.

use bytes::BytesMut;

use super::MAX_VERSION;
use super::cache::MIN_CACHE_SIZE;
use super::commands::WireFormatInfo;
use super::error::{WireError, WireErrorKind};
use super::format::{TransactionOutcomes, WireFormat};
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
    /// `cacheSize`, in values: 100 to 32767, or 0 for 16383. Default 1024. Smaller ones are refused because
    /// they make a Java peer hang.
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
    /// `maxFrameSizeEnabled`: false switches our own limit off, the peer's still counts. Default true.
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
    /// [`WireErrorKind::Negotiation`] for a version or cache size that cannot be offered,
    /// [`WireErrorKind::TooLong`] if the host name has no encoding.
    pub fn to_info(&self) -> Result<WireFormatInfo, WireError> {
        self.check()?;
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

    fn check(&self) -> Result<(), WireError> {
        if !(1..=MAX_VERSION).contains(&self.version) {
            return Err(refused(format!(
                "version {} is not one of 1 to {MAX_VERSION}",
                self.version
            )));
        }
        // An index into the cache is a signed 16-bit number.
        if self.cache_size != 0 && !(MIN_CACHE_SIZE..=i16::MAX.into()).contains(&self.cache_size) {
            return Err(refused(format!("a cache size of {}", self.cache_size)));
        }
        Ok(())
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
/// many of them, or what cannot be offered; any other kind if the peer's options do not decode.
pub fn negotiate(ours: &WireFormatOptions, theirs: &WireFormatInfo) -> Result<WireFormat, WireError> {
    ours.check()?;
    if theirs.magic != MAGIC {
        return Err(refused("the peer does not speak OpenWire"));
    }
    let version = ours.version.min(theirs.version);
    if version < 1 {
        return Err(refused(format!("the peer offers version {version}")));
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
    // The smaller number, even if it is the 0 that stands for many: so Java computes it, and both sides
    // must come to the same size.
    let cache_size = ours.cache_size.min(options.int("CacheSize")?);
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
        transaction_outcomes: options.transaction_outcomes()?,
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

    fn transaction_outcomes(&self) -> Result<Option<TransactionOutcomes>, WireError> {
        let store = match self.0.get("TransactionOutcomes") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(store)) => store,
            Some(_) => return Err(refused("option TransactionOutcomes is not a string")),
        };
        let kept = u64::try_from(self.long("TransactionOutcomesKept")?).unwrap_or(0);
        Ok((!store.is_empty()).then(|| TransactionOutcomes {
            store: store.clone(),
            kept,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(version: i32, options: impl IntoIterator<Item = (&'static str, Value)>) -> WireFormatInfo {
        let mut properties = BytesMut::new();
        encode_map(&options.into_iter().collect(), &mut properties).unwrap();
        WireFormatInfo {
            magic: MAGIC,
            version,
            marshalled_properties: Some(properties.freeze()),
        }
    }

    fn with(options: impl IntoIterator<Item = (&'static str, Value)>) -> Result<WireFormat, WireError> {
        negotiate(&WireFormatOptions::default(), &offer(12, options))
    }

    #[test]
    fn two_of_us_agree_on_what_both_offer() {
        let ours = WireFormatOptions::default();
        let expected = WireFormat {
            version: 12,
            tight: true,
            cache: Some(1024),
            stack_trace: true,
            size_prefix_disabled: false,
            max_frame_size: 104_857_600,
            tcp_no_delay: true,
            max_inactivity_duration: 30_000,
            max_inactivity_duration_initial_delay: 10_000,
            transaction_outcomes: None,
        };
        assert_eq!(negotiate(&ours, &ours.to_info().unwrap()), Ok(expected));
    }

    #[test]
    fn each_option_is_the_smaller_of_the_two() {
        let ours = WireFormatOptions {
            version: 9,
            tight_encoding_enabled: false,
            cache_enabled: false,
            stack_trace_enabled: false,
            tcp_no_delay_enabled: false,
            max_inactivity_duration: 5,
            max_inactivity_duration_initial_delay: 4,
            max_frame_size: 1000,
            ..WireFormatOptions::default()
        };
        let theirs = WireFormatOptions::default();
        let one = negotiate(&ours, &theirs.to_info().unwrap()).unwrap();
        let other = negotiate(&theirs, &ours.to_info().unwrap()).unwrap();
        assert_eq!(one, other, "both sides come to the same settings");
        let expected = WireFormat {
            version: 9,
            max_frame_size: 1000,
            tcp_no_delay: false,
            max_inactivity_duration: 5,
            max_inactivity_duration_initial_delay: 4,
            ..WireFormat::handshake()
        };
        assert_eq!(one, expected);
    }

    #[test]
    fn what_a_peer_does_not_mention_is_off() {
        let expected = WireFormat {
            version: 3,
            max_frame_size: 104_857_600,
            tcp_no_delay: false,
            ..WireFormat::handshake()
        };
        let silent = WireFormatInfo {
            marshalled_properties: None,
            ..offer(3, [])
        };
        for info in [
            silent,
            offer(3, []),
            offer(3, [("Unknown", Value::Null), ("CacheSize", 1024.into())]),
        ] {
            assert_eq!(
                negotiate(&WireFormatOptions::default(), &info).as_ref(),
                Ok(&expected)
            );
        }
    }

    #[test]
    fn a_peer_may_keep_the_outcomes_of_transactions() {
        let outcomes = |store: Value, kept: Value| {
            with([("TransactionOutcomes", store), ("TransactionOutcomesKept", kept)])
                .map(|agreed| agreed.transaction_outcomes)
        };
        let known = |kept| {
            Some(TransactionOutcomes {
                store: "s".into(),
                kept,
            })
        };
        assert_eq!(outcomes("s".into(), 5_i64.into()), Ok(known(5)));
        assert_eq!(outcomes("s".into(), Value::Null), Ok(known(0)));
        assert_eq!(outcomes("s".into(), (-1_i64).into()), Ok(known(0)));
        assert_eq!(outcomes("".into(), 5_i64.into()), Ok(None));
        assert_eq!(outcomes(Value::Null, 5_i64.into()), Ok(None));
        assert!(outcomes(5.into(), 5_i64.into()).is_err());
        assert!(outcomes("s".into(), 5.into()).is_err());
    }

    #[test]
    fn cache_sizes_are_computed_as_java_does() {
        for (ours, theirs, agreed) in [
            (1024, 1024, Some(1024)),
            (1024, 100, Some(100)),
            (200, 1024, Some(200)),
            // 0 is the smaller number, though it stands for 16383.
            (1024, 0, Some(0)),
            (0, 1024, Some(0)),
            // Fewer than Java keeps free, or nonsense.
            (1024, 99, None),
            (1024, 1, None),
            (1024, -1, None),
        ] {
            let options = WireFormatOptions {
                cache_size: ours,
                ..WireFormatOptions::default()
            };
            let info = offer(12, [("CacheEnabled", true.into()), ("CacheSize", theirs.into())]);
            assert_eq!(
                negotiate(&options, &info).unwrap().cache,
                agreed,
                "{ours} and {theirs}"
            );
        }
    }

    #[test]
    fn the_limit_of_a_frame_is_the_smaller_one() {
        let limit = |ours: WireFormatOptions, theirs: i64| {
            let info = offer(12, [("MaxFrameSize", theirs.into())]);
            negotiate(&ours, &info).unwrap().max_frame_size
        };
        let ours = WireFormatOptions::default();
        assert_eq!(limit(ours.clone(), i64::MAX), 104_857_600);
        assert_eq!(limit(ours.clone(), 5000), 5000);
        assert_eq!(limit(ours.clone(), 0), 104_857_600);
        let off = WireFormatOptions {
            max_frame_size_enabled: false,
            ..ours
        };
        assert_eq!(limit(off.clone(), 5000), 5000);
        assert_eq!(limit(off, -1), i64::MAX as u64);
    }

    #[test]
    fn a_peer_that_cannot_be_talked_to_is_refused() {
        let ours = WireFormatOptions::default();
        let kind = |info| negotiate(&ours, &info).unwrap_err().kind();
        let other_magic = WireFormatInfo {
            magic: *b"ActiveM!",
            ..offer(12, [])
        };
        assert_eq!(kind(other_magic), WireErrorKind::Negotiation);
        assert_eq!(kind(offer(0, [])), WireErrorKind::Negotiation);
        assert_eq!(kind(offer(-1, [])), WireErrorKind::Negotiation);

        // Java casts without conversion.
        assert!(with([("MaxInactivityDuration", 1.into())]).is_err());
        assert!(with([("CacheSize", 1024_i64.into())]).is_err());
        assert!(with([("CacheEnabled", "true".into())]).is_err());

        assert!(with([("Host", "h".repeat(512).into())]).is_ok());
        assert!(with([("Host", "h".repeat(513).into())]).is_err());
        assert!(with([("Odd", vec![0; 513].into())]).is_err());
        assert!(with([("Odd", ValueMap::new().into())]).is_err());
        assert!(with([("Odd", Value::List(Vec::new()))]).is_err());
        let names: Vec<String> = (0..65).map(|n| n.to_string()).collect();
        let many = |count: usize| {
            let mut properties = BytesMut::new();
            let map = names[..count]
                .iter()
                .map(|name| (name.as_str(), Value::Null))
                .collect();
            encode_map(&map, &mut properties).unwrap();
            let info = WireFormatInfo {
                marshalled_properties: Some(properties.freeze()),
                ..offer(12, [])
            };
            negotiate(&WireFormatOptions::default(), &info)
        };
        assert!(many(64).is_ok());
        assert!(many(65).is_err());

        let garbage = WireFormatInfo {
            marshalled_properties: Some(vec![0, 0, 0, 1].into()),
            ..offer(12, [])
        };
        assert_eq!(kind(garbage), WireErrorKind::Truncated);
    }

    #[test]
    fn what_would_hang_or_confuse_a_peer_is_not_offered() {
        let options = |version, cache_size| WireFormatOptions {
            version,
            cache_size,
            ..WireFormatOptions::default()
        };
        for good in [options(1, 0), options(12, 100), options(12, 32767)] {
            assert!(good.to_info().is_ok());
        }
        for bad in [
            options(0, 0),
            options(13, 0),
            options(12, 1),
            options(12, 99),
            options(12, -1),
            options(12, 32768),
        ] {
            assert_eq!(bad.to_info().unwrap_err().kind(), WireErrorKind::Negotiation);
            assert!(negotiate(&bad, &offer(12, [])).is_err());
        }
    }
}
