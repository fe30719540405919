//! Where something stands in a URI, and how to say so without telling secrets.

use std::fmt::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};

/// How much of a URI an error shows around the place, in bytes.
const BEFORE: usize = 24;
const AFTER: usize = 40;

/// A byte of a URI.
#[derive(Clone)]
pub(super) struct Place {
    text: Arc<str>,
    at: usize,
}

impl Place {
    pub(super) fn start(text: &str) -> Self {
        Self {
            text: text.into(),
            at: 0,
        }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn to(&self, at: usize) -> Self {
        Self {
            text: self.text.clone(),
            at,
        }
    }

    pub(super) fn forward(&self, by: usize) -> Self {
        self.to(self.at + by)
    }

    /// The text from here up to byte `end`.
    pub(super) fn text_to(&self, end: usize) -> &str {
        self.text.get(self.at..end).unwrap_or_default()
    }

    pub(super) fn error(&self, what: &str) -> Error {
        self.error_of(ErrorKind::Uri, what)
    }

    pub(super) fn error_of(&self, kind: ErrorKind, what: &str) -> Error {
        let text = &*self.text;
        let at = text.floor_char_boundary(self.at);
        let start = text.floor_char_boundary(at.saturating_sub(BEFORE));
        let end = text.floor_char_boundary(at.saturating_add(AFTER));
        let mut message = format!("{what} (byte {at} of the URI: ");
        if start > 0 {
            message.push('…');
        }
        write_masked(&mut message, text, start..at);
        message.push_str(" →");
        write_masked(&mut message, text, at..end);
        if end < text.len() {
            message.push('…');
        }
        message.push(')');
        Error::new(kind, message)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}", self.at)
    }
}

/// Whether the value of an option must not be shown.
pub(super) fn is_secret(name: &str) -> bool {
    name.to_ascii_lowercase().contains("password")
}

/// The text with `***` for what must not be shown.
pub(super) fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    write_masked(&mut masked, text, 0..text.len());
    masked
}

fn write_masked(out: &mut String, text: &str, range: Range<usize>) {
    let mut from = range.start;
    for secret in secrets(text) {
        if secret.end <= from || secret.start >= range.end {
            continue;
        }
        out.push_str(text.get(from..secret.start).unwrap_or_default());
        out.push_str("***");
        from = secret.end;
    }
    let _ = out.write_str(text.get(from..range.end).unwrap_or_default());
}

/// What must not be shown, in order: the values of options that are passwords, however their names are spelt,
/// and what stands before the `@` of an authority.
///
/// This works on texts that are no URIs as well, and rather hides too much.
fn secrets(text: &str) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find(['?', '&', '/'])) {
        let start = at + found;
        let rest = &text[start..];
        at = start + 1;
        if let Some(authority) = rest.strip_prefix("//") {
            let authority = &authority[..authority.find(['?', '#']).unwrap_or(authority.len())];
            at += 1;
            match authority.rfind('@') {
                Some(end) => {
                    secrets.push(at..at + end);
                    at += end;
                }
                None => at += authority.len(),
            }
        } else if !rest.starts_with('/') {
            let pair = &rest[1..];
            let pair = &pair[..pair.find('&').unwrap_or(pair.len())];
            if let Some((name, value)) = pair.split_once('=')
                && is_secret(&unescaped(name))
            {
                at += name.len() + 1;
                secrets.push(at..at + value.len());
                at += value.len();
            }
        }
    }
    secrets
}

/// `%xx` resolved as far as it can be.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_however_they_are_spelt() {
        for (text, shown) in [
            (
                "tcp://h:1?jms.password=se:c@r,e)t&x=1",
                "tcp://h:1?jms.password=***&x=1",
            ),
            ("tcp://h:1?jms.Password=secret", "tcp://h:1?jms.Password=***"),
            (
                "tcp://h:1?jms.%70assword=secret#f",
                "tcp://h:1?jms.%70assword=***",
            ),
            ("tcp://user:secret@h:1?x=1", "tcp://***@h:1?x=1"),
            (
                "failover:(tcp://u:p@a:1,tcp://b:1)",
                "failover:(tcp://***@a:1,tcp://b:1)",
            ),
            ("tcp://h:1?jms.userName=me@home", "tcp://h:1?jms.userName=me@home"),
            (
                "tcp://h:1?trustStorePassword=x?y",
                "tcp://h:1?trustStorePassword=***",
            ),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    #[test]
    fn an_error_shows_the_place_but_no_secret() {
        let text = "tcp://h:1?jms.password=secret&bogus=1";
        let error = Place::start(text).to(30).error("wrong");
        assert_eq!(
            error.to_string(),
            "wrong (byte 30 of the URI: …h:1?jms.password=***& →bogus=1)"
        );
    }

    #[test]
    fn an_excerpt_that_begins_within_a_secret_hides_it() {
        let text = format!("tcp://h:1?jms.password={}&bogus=1", "s".repeat(100));
        let error = Place::start(&text).to(text.len() - 7).error("wrong").to_string();
        assert!(!error.contains("ss"), "{error}");
    }

    #[test]
    fn a_place_within_or_behind_the_text_is_shown_whole() {
        let place = Place::start("tcp://ä:1");
        for at in 0..20 {
            assert!(place.to(at).error("wrong").is_uri());
        }
    }
}
