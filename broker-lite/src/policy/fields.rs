//! Named values of a configuration, whatever it is written in.
//!
//! A reader of files turns what it finds into [`Fields`]; who knows what the names mean takes them out one after the
//! other, and [`Fields::finish`] refuses what nobody took. So each name is known in one place, and none is overlooked.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// A value as it is written. Numbers and truth values may be written as texts, as in XML.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    Text(String),
    /// Several values.
    List(Vec<Self>),
    /// Named values.
    Table(Fields),
}

/// What is wrong with a configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    at: Option<usize>,
    message: String,
}

impl FieldError {
    /// An error at a place that the caller knows.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            at: None,
            message: message.into(),
        }
    }

    /// An error at a byte of the text.
    pub fn at(at: usize, message: impl Into<String>) -> Self {
        Self {
            at: Some(at),
            message: message.into(),
        }
    }

    /// The byte of the text at which it is, if that is known.
    pub fn offset(&self) -> Option<usize> {
        self.at
    }

    /// What is wrong, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    fn within(self, name: &str, at: usize) -> Self {
        match self.at {
            Some(_) => self,
            None => Self::at(at, format!("{name}: {}", self.message)),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FieldError {}

impl From<String> for FieldError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for FieldError {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

/// Named values, each to be taken once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fields {
    at: usize,
    entries: Vec<Entry>,
    asked: BTreeSet<&'static str>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    name: String,
    at: usize,
    value: FieldValue,
}

impl Fields {
    /// None yet; they begin at a byte of a text.
    pub fn new(at: usize) -> Self {
        Self {
            at,
            ..Self::default()
        }
    }

    /// Adds a value that stands at a byte of the text.
    pub fn insert(&mut self, name: impl Into<String>, at: usize, value: FieldValue) {
        self.entries.push(Entry {
            name: name.into(),
            at,
            value,
        });
    }

    /// The byte of the text at which they begin.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// True if nothing is left to take.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The names that are left.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// Takes a value out, if it is there.
    ///
    /// # Errors
    ///
    /// What `convert` says, with the name and the place; a name that is there twice.
    pub fn take<T>(
        &mut self,
        name: &'static str,
        convert: impl FnOnce(FieldValue) -> Result<T, FieldError>,
    ) -> Result<Option<T>, FieldError> {
        self.asked.insert(name);
        let Some(place) = self.entries.iter().position(|entry| entry.name == name) else {
            return Ok(None);
        };
        let entry = self.entries.remove(place);
        if let Some(again) = self.entries.iter().find(|entry| entry.name == name) {
            return Err(FieldError::at(again.at, format!("{name} is there twice")));
        }
        convert(entry.value)
            .map(Some)
            .map_err(|error| error.within(name, entry.at))
    }

    /// Takes a value out and puts it where it belongs; what is there stays if it is not given.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub fn take_into<T>(
        &mut self,
        name: &'static str,
        place: &mut T,
        convert: impl FnOnce(FieldValue) -> Result<T, FieldError>,
    ) -> Result<(), FieldError> {
        if let Some(value) = self.take(name, convert)? {
            *place = value;
        }
        Ok(())
    }

    /// Refuses names that are known, but mean nothing here, with the reason.
    ///
    /// # Errors
    ///
    /// For the first of them that is there.
    pub fn refuse(&self, reasons: &[(&str, &str)]) -> Result<(), FieldError> {
        for entry in &self.entries {
            if let Some((name, why)) = reasons.iter().find(|(name, _)| entry.name == *name) {
                return Err(FieldError::at(entry.at, format!("{name} is not needed: {why}")));
            }
        }
        Ok(())
    }

    /// To be called when all has been taken.
    ///
    /// # Errors
    ///
    /// For a name that nobody asked for, with those that were.
    pub fn finish(self) -> Result<(), FieldError> {
        match self.entries.first() {
            None => Ok(()),
            Some(entry) => {
                let known = self.asked.into_iter().collect::<Vec<_>>().join(", ");
                Err(FieldError::at(
                    entry.at,
                    format!("there is no {} here, but: {known}", entry.name),
                ))
            }
        }
    }

    /// An error about all of them.
    pub fn error(&self, message: impl Into<String>) -> FieldError {
        FieldError::at(self.at, message)
    }
}

impl FieldValue {
    fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a truth value",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }

    fn is_not(&self, wanted: &str) -> FieldError {
        match self {
            Self::Text(text) => FieldError::new(format!("{text} is not {wanted}")),
            other => FieldError::new(format!("{} is not {wanted}", other.kind())),
        }
    }
}

/// `true` or `false`, in any case.
///
/// # Errors
///
/// For anything else.
pub fn flag(value: FieldValue) -> Result<bool, FieldError> {
    match &value {
        FieldValue::Bool(flag) => Ok(*flag),
        FieldValue::Text(text) if text.trim().eq_ignore_ascii_case("true") => Ok(true),
        FieldValue::Text(text) if text.trim().eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(value.is_not("true or false")),
    }
}

/// A whole number that the type can hold.
///
/// # Errors
///
/// For anything else.
pub fn number<T: TryFrom<i64>>(value: FieldValue) -> Result<T, FieldError> {
    let number = match &value {
        FieldValue::Integer(number) => Some(*number),
        FieldValue::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| value.is_not("a whole number"))?;
    T::try_from(number).map_err(|_| FieldError::new(format!("{number} is out of range")))
}

/// As [`number`], where -1 says that there is no limit.
///
/// # Errors
///
/// For anything else.
pub fn limit<T: TryFrom<i64>>(value: FieldValue) -> Result<Option<T>, FieldError> {
    match number::<i64>(value.clone())? {
        -1 => Ok(None),
        _ => number(value).map(Some),
    }
}

/// A number, with or without a fraction.
///
/// # Errors
///
/// For anything else, and for what is not finite.
pub fn fraction(value: FieldValue) -> Result<f64, FieldError> {
    let number = match &value {
        FieldValue::Integer(number) => Some(*number as f64),
        FieldValue::Float(number) => Some(*number),
        FieldValue::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .filter(|number| number.is_finite())
        .ok_or_else(|| value.is_not("a number"))
}

/// A share in percent, 0 to 100.
///
/// # Errors
///
/// For anything else.
pub fn percent(value: FieldValue) -> Result<u8, FieldError> {
    match number(value)? {
        percent @ 0..=100 => Ok(percent),
        more => Err(FieldError::new(format!("{more} is more than 100 percent"))),
    }
}

/// Milliseconds.
///
/// # Errors
///
/// For anything but a whole number that is not negative.
pub fn millis(value: FieldValue) -> Result<Duration, FieldError> {
    number(value).map(Duration::from_millis)
}

/// Milliseconds, where -1 says never.
///
/// # Errors
///
/// For anything else.
pub fn millis_or_never(value: FieldValue) -> Result<Option<Duration>, FieldError> {
    Ok(limit(value)?.map(Duration::from_millis))
}

/// Bytes: a number, or one with `b`, `k`, `kb`, `m`, `mb`, `g` or `gb` behind it, in any case and with a factor of
/// 1024, as in ActiveMQ.
///
/// # Errors
///
/// For anything else; there are no fractions.
pub fn bytes(value: FieldValue) -> Result<u64, FieldError> {
    let text = match &value {
        FieldValue::Integer(_) => return number(value),
        FieldValue::Text(text) => text.trim(),
        _ => return Err(value.is_not("a size")),
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        _ => return Err(value.is_not("a size such as 64 mb")),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| value.is_not("a size such as 64 mb"))
}

/// A text.
///
/// # Errors
///
/// For anything else.
pub fn text(value: FieldValue) -> Result<String, FieldError> {
    match value {
        FieldValue::Text(text) => Ok(text),
        other => Err(other.is_not("a text")),
    }
}

/// A table.
///
/// # Errors
///
/// For anything else.
pub fn table(value: FieldValue) -> Result<Fields, FieldError> {
    match value {
        FieldValue::Table(fields) => Ok(fields),
        other => Err(other.is_not("a table")),
    }
}

/// A list, or one value that stands for a list of one.
///
/// # Errors
///
/// What `convert` says of a member.
pub fn list<T>(
    convert: impl Fn(FieldValue) -> Result<T, FieldError>,
) -> impl Fn(FieldValue) -> Result<Vec<T>, FieldError> {
    move |value| match value {
        FieldValue::List(values) => values.into_iter().map(&convert).collect(),
        value => Ok(vec![convert(value)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> FieldValue {
        FieldValue::Text(text.to_owned())
    }

    #[test]
    fn sizes_as_activemq_reads_them() {
        for (text, expected) in [
            ("100 gb", 100 << 30),
            ("64m", 64 << 20),
            ("1048576", 1_048_576),
            (" 20 MB ", 20 << 20),
            ("7b", 7),
            ("3 k", 3072),
        ] {
            assert_eq!(bytes(said(text)), Ok(expected), "{text}");
        }
        for text in [
            "1.5gb",
            "1 t",
            "",
            "mb",
            "-1",
            "9999999999999999999",
            "9999999999 gb",
            "1 mb x",
        ] {
            assert!(bytes(said(text)).is_err(), "{text}");
        }
        assert_eq!(bytes(FieldValue::Integer(5)), Ok(5));
        assert!(bytes(FieldValue::Integer(-5)).is_err());
    }

    #[test]
    fn numbers_and_truth_values_may_be_texts() {
        assert_eq!(flag(said("TRUE")), Ok(true));
        assert!(flag(said("yes")).is_err());
        assert_eq!(number::<u32>(said("7")), Ok(7));
        assert!(number::<u8>(FieldValue::Integer(256)).is_err());
        assert_eq!(limit::<u32>(said("-1")), Ok(None));
        assert!(limit::<u32>(said("-2")).is_err());
        assert_eq!(millis_or_never(said("5")), Ok(Some(Duration::from_millis(5))));
        assert_eq!(fraction(said("0.5")), Ok(0.5));
        assert!(fraction(said("NaN")).is_err());
        assert!(percent(FieldValue::Integer(101)).is_err());
    }

    #[test]
    fn what_nobody_takes_is_refused_with_its_place() {
        let mut fields = Fields::new(1);
        fields.insert("known", 10, FieldValue::Integer(1));
        fields.insert("unknown", 20, FieldValue::Integer(1));
        fields.insert("bad", 30, said("x"));
        assert_eq!(fields.take("known", number::<u32>), Ok(Some(1)));
        assert_eq!(fields.take("missing", number::<u32>), Ok(None));
        let error = fields.take("bad", number::<u32>).unwrap_err();
        assert_eq!(error.offset(), Some(30));
        assert_eq!(error.message(), "bad: x is not a whole number");
        let error = fields
            .refuse(&[("unknown", "there is no such thing")])
            .unwrap_err();
        assert_eq!(error.message(), "unknown is not needed: there is no such thing");
        let error = fields.finish().unwrap_err();
        assert_eq!(error.offset(), Some(20));
        assert_eq!(
            error.message(),
            "there is no unknown here, but: bad, known, missing"
        );
    }
}
