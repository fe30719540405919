//! The options of a URI: taken one by one, by name and type, until none may be left.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::place::Place;
use crate::error::{Error, Result};

/// No delay that a URI gives is longer: about a century, so that whoever adds it to a clock cannot overflow.
/// People write Java's largest `long` for "never".
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The options behind the `?` of a URI.
///
/// Each part of the library takes those it knows, and the last one calls [`finish`](Self::finish), which
/// refuses what nobody took:
///
/// ```
/// # fn main() -> openwire_client::Result<()> {
/// use openwire_client::uri::Uri;
///
/// let mut uri = Uri::parse("tcp://0.0.0.0:61616?maximumConnections=5&wireFormat.maxFrameSize=1048576")?;
/// let mut maximum_connections = u32::MAX;
/// let mut max_frame_size = 0;
/// uri.query.read("maximumConnections", &mut maximum_connections)?;
/// let mut wire_format = uri.query.take_prefix("wireFormat.");
/// wire_format.read("maxFrameSize", &mut max_frame_size)?;
/// wire_format.finish("the wire format")?;
/// uri.query.finish("tcp:")?;
/// assert_eq!((maximum_connections, max_frame_size), (5, 1_048_576_i64));
/// # Ok(())
/// # }
/// ```
///
/// As in ActiveMQ, the first letter of a name (behind its prefixes) may be of either case, and of options given
/// twice the last one counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    options: Vec<QueryOption>,
    /// The names that were asked for, to suggest when an unknown one is left.
    known: Vec<&'static str>,
}

/// One option of a URI.
#[derive(Clone)]
pub struct QueryOption {
    full_name: String,
    prefix: usize,
    value: Option<String>,
    place: Place,
}

/// An option that is known, to be refused with the reason. A name that ends in `.` stands for all that begin with it.
pub type Refused = (&'static str, &'static str);

impl Query {
    /// Parses what stands behind the `?`, which is the text of `place` up to byte `end`.
    pub(super) fn parse(place: &Place, end: usize) -> Result<Self> {
        let mut options: Vec<QueryOption> = Vec::new();
        let mut seen = HashMap::new();
        let mut pair = place.clone();
        for text in place.text_to(end).split('&') {
            if !text.trim().is_empty() {
                let option = QueryOption::parse(&pair, text)?;
                match seen.get(&option.full_name) {
                    // Of thousands of copies only one is kept, so that applying them to others stays cheap.
                    Some(&index) => options[index] = option,
                    None => {
                        seen.insert(option.full_name.clone(), options.len());
                        options.push(option);
                    }
                }
            }
            pair = pair.forward(text.len() + 1);
        }
        Ok(Self {
            options,
            known: Vec::new(),
        })
    }

    /// Whether there is no option (left).
    pub fn is_empty(&self) -> bool {
        self.options.is_empty()
    }

    /// The options, in the order of the URI.
    pub fn iter(&self) -> impl Iterator<Item = &QueryOption> {
        self.options.iter()
    }

    /// Whether there is (still) an option `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.options.iter().any(|option| option.is(name))
    }

    /// Takes the option `name` out, if it is there.
    pub fn take(&mut self, name: &'static str) -> Option<QueryOption> {
        self.known.push(name);
        let last = self.options.iter().rposition(|option| option.is(name))?;
        let taken = self.options.remove(last);
        self.options.retain(|option| !option.is(name));
        Some(taken)
    }

    /// Takes all options out whose names begin with `prefix`, which their names then lack.
    pub fn take_prefix(&mut self, prefix: &str) -> Self {
        let (mut taken, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.options)
            .into_iter()
            .partition(|option| option.name().starts_with(prefix));
        self.options = left;
        for option in &mut taken {
            option.prefix += prefix.len();
        }
        Self {
            options: taken,
            known: Vec::new(),
        }
    }

    /// Takes the option `name` out and puts its value where it belongs; without it, changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::is_uri`] if it has no value or one that is not of this type.
    pub fn read<T: OptionValue>(&mut self, name: &'static str, into: &mut T) -> Result<()> {
        self.read_with(name, into, T::from_text)
    }

    /// As [`read`](Self::read), with its own idea of what a value is; its error says what is wrong with it, such
    /// as "is not a number".
    ///
    /// # Errors
    ///
    /// [`Error::is_uri`] if there is no value or `parse` refuses it.
    pub fn read_with<T>(
        &mut self,
        name: &'static str,
        into: &mut T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<()> {
        if let Some(option) = self.take(name) {
            *into = option.parse_with(parse)?;
        }
        Ok(())
    }

    /// Refuses those options that are known but not supported.
    ///
    /// # Errors
    ///
    /// [`Error::is_uri`] for the first of them, with the reason.
    pub fn refuse(&self, refused: &[Refused]) -> Result<()> {
        for option in &self.options {
            for (name, why) in refused {
                if option.is(name) || (name.ends_with('.') && option.name().starts_with(name)) {
                    return Err(option.error(&format!("is known to ActiveMQ but not supported here: {why}")));
                }
            }
        }
        Ok(())
    }

    /// Refuses what nobody took; `of` is whose options these are.
    ///
    /// # Errors
    ///
    /// [`Error::is_uri`] if there is anything, with the name and place of the first.
    pub fn finish(self, of: &str) -> Result<()> {
        let Some(option) = self.options.first() else {
            return Ok(());
        };
        let similar = |known: &&&str| known.eq_ignore_ascii_case(option.name());
        Err(match self.known.iter().find(similar) {
            Some(known) => option.error(&format!("is not an option of {of}; did you mean {known}?")),
            None => option.error(&format!("is not an option of {of}")),
        })
    }

    /// Adds the options of `other`, which then count more than these.
    pub(super) fn extend(&mut self, other: &Self) {
        self.options.extend_from_slice(&other.options);
    }
}

impl QueryOption {
    fn parse(place: &Place, text: &str) -> Result<Self> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let at = place.forward(name.len() - name.trim_start().len());
        let full_name = decode(name, place)?;
        if full_name.is_empty() {
            return Err(at.error("an option has no name"));
        }
        let value = match value {
            Some(value) => Some(decode(value, &place.forward(name.len() + 1))?),
            None => None,
        };
        Ok(Self {
            full_name,
            prefix: 0,
            value,
            place: at,
        })
    }

    /// The name, without the prefixes that were taken.
    pub fn name(&self) -> &str {
        self.full_name.get(self.prefix..).unwrap_or_default()
    }

    /// The value, decoded; none without a `=`.
    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// The value as a type.
    ///
    /// # Errors
    ///
    /// [`Error::is_uri`] if there is none or it is not of the type.
    pub fn parse_as<T: OptionValue>(&self) -> Result<T> {
        self.parse_with(T::from_text)
    }

    /// An error about this option that names it and its place; `what` goes behind the name.
    pub fn error(&self, what: &str) -> Error {
        self.place.error(&format!("option {} {what}", self.full_name))
    }

    pub(super) fn parse_with<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T> {
        let Some(value) = &self.value else {
            return Err(self.error("has no value"));
        };
        parse(value).map_err(|what| self.error(&what))
    }

    fn is(&self, name: &str) -> bool {
        let mut given = self.name().chars();
        let mut wanted = name.chars();
        match (given.next(), wanted.next()) {
            (Some(given), Some(wanted)) if !given.eq_ignore_ascii_case(&wanted) => return false,
            (None, _) | (_, None) => return false,
            _ => {}
        }
        given.as_str() == wanted.as_str()
    }
}

impl PartialEq for QueryOption {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.value == other.value
    }
}

impl fmt::Debug for QueryOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if super::place::is_secret(&self.full_name) {
            Some("***")
        } else {
            self.value()
        };
        match value {
            Some(value) => write!(f, "{}={value:?}", self.full_name),
            None => f.write_str(&self.full_name),
        }
    }
}

/// Resolves `%xx` and `+`, after blanks around the text are dropped.
fn decode(text: &str, place: &Place) -> Result<String> {
    let start = text.len() - text.trim_start().len();
    let text = text.trim();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.char_indices();
    while let Some((at, char)) = rest.next() {
        match char {
            '+' => bytes.push(b' '),
            '%' => {
                let byte = text.get(at + 1..at + 3).and_then(hex_byte);
                let Some(byte) = byte else {
                    let place = place.forward(start + at);
                    return Err(place.error("a % is not followed by two hexadecimal digits"));
                };
                bytes.push(byte);
                rest.nth(1);
            }
            _ if char.is_whitespace() => {
                let place = place.forward(start + at);
                return Err(place.error("a blank within an option has to be written as %20"));
            }
            '?' => {
                let place = place.forward(start + at);
                return Err(place.error("a second ? within a URI has to be written as %3F"));
            }
            _ => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    String::from_utf8(bytes).map_err(|_| place.forward(start).error("an option is not UTF-8 once decoded"))
}

fn hex_byte(digits: &str) -> Option<u8> {
    if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// A type that options have.
pub trait OptionValue: Sized {
    /// The value that a text stands for.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to be put behind the option's name: "is not a number".
    fn from_text(text: &str) -> Result<Self, String>;
}

impl OptionValue for bool {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("true") {
            Ok(true)
        } else if text.eq_ignore_ascii_case("false") {
            Ok(false)
        } else {
            Err("is neither true nor false".into())
        }
    }
}

impl OptionValue for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

/// Whole milliseconds.
impl OptionValue for Duration {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(millis) => Ok(Self::from_millis(millis).min(MAX_DURATION)),
            Err(_) => Err("is not a number of milliseconds".into()),
        }
    }
}

impl OptionValue for f64 {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.parse::<Self>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err("is not a number".into()),
        }
    }
}

macro_rules! integers {
    ($($type:ident),*) => {$(
        impl OptionValue for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse()
                    .map_err(|_| format!("is not a whole number from {} to {}", Self::MIN, Self::MAX))
            }
        }
    )*};
}

integers!(u8, u16, u32, usize, i32, i64);

/// An option that need not be there.
impl<T: OptionValue> OptionValue for Option<T> {
    fn from_text(text: &str) -> Result<Self, String> {
        T::from_text(text).map(Some)
    }
}

/// A limit that 0 or `infinite` lifts.
pub(crate) fn limit(text: &str) -> Result<Option<Duration>, String> {
    if text == "infinite" {
        return Ok(None);
    }
    match Duration::from_text(text) {
        Ok(limit) => Ok(Some(limit).filter(|limit| !limit.is_zero())),
        Err(what) => Err(what + " or infinite"),
    }
}

/// A number that -1, or any other negative one, switches off.
pub(crate) fn unless_negative<T: OptionValue>(text: &str) -> Result<Option<T>, String> {
    match text.strip_prefix('-') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) => Ok(None),
        _ => T::from_text(text).map(Some),
    }
}

/// A number that 0 switches off.
pub(crate) fn unless_zero<T: OptionValue + Default + PartialEq>(text: &str) -> Result<Option<T>, String> {
    T::from_text(text).map(|value| Some(value).filter(|value| *value != T::default()))
}

/// What a delay is multiplied with.
pub(crate) fn multiplier(text: &str) -> Result<f64, String> {
    match f64::from_text(text) {
        Ok(value) if value >= 1.0 => Ok(value),
        Ok(_) => Err("is less than 1".into()),
        Err(what) => Err(what),
    }
}
