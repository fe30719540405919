//! Java's properties files, which hold ActiveMQ's users and groups.

use std::borrow::Cow;

/// The entries of a properties file in their order, with all escapes resolved.
///
/// The text is UTF-8 or else, as Java has it, ISO 8859-1. An entry ends at the end of its line unless that is
/// escaped; a key ends at `=`, `:` or a blank; `#` and `!` begin a comment line; `\uXXXX` is a character of
/// UTF-16.
///
/// # Errors
///
/// The line and what is wrong there, which can only be a `\u` without a character. Nothing of the file's text is
/// told: there are passwords in it.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text: Cow<'_, str> = match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.iter().copied().map(char::from).collect::<String>().into(),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut entries = Vec::new();
    let mut lines = lines(text).enumerate();
    while let Some((index, line)) = lines.next() {
        let line = line.trim_start_matches(is_blank);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut entry = line.to_owned();
        while ends_escaped(&entry) {
            entry.pop();
            let Some((_, next)) = lines.next() else {
                break;
            };
            entry.push_str(next.trim_start_matches(is_blank));
        }
        let (key, value) = split(&entry);
        let unescape = |text| unescape(text).map_err(|why| format!("line {}: {why}", index + 1));
        entries.push((unescape(key)?, unescape(value)?));
    }
    Ok(entries)
}

/// Lines that end with `\n`, `\r` or `\r\n`. An empty one after `\r` changes nothing but the count, which is
/// why it is left out.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').flat_map(|line| {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        line.split('\r')
    })
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// True if the last character is a backslash that is not itself escaped.
fn ends_escaped(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

/// The key and the value, still escaped.
fn split(entry: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = entry
        .char_indices()
        .find(|&(_, c)| {
            let ends = !escaped && (is_blank(c) || matches!(c, '=' | ':'));
            escaped = c == '\\' && !escaped;
            ends
        })
        .map_or(entry.len(), |(end, _)| end);
    let (key, rest) = entry.split_at(end);
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start_matches(is_blank))
}

fn unescape(text: &str) -> Result<String, &'static str> {
    const INVALID: &str = "\\u is not followed by a character's four hexadecimal digits";
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    // Characters beyond the first plane are written as two halves.
    let mut units = Vec::with_capacity(text.len());
    let mut buffer = [0; 2];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some('u') => {
                    let mut unit = 0;
                    for _ in 0..4 {
                        let digit = chars.next().and_then(|digit| digit.to_digit(16)).ok_or(INVALID)?;
                        unit = unit << 4 | digit as u16;
                    }
                    units.push(unit);
                    continue;
                }
                Some(other) => other,
                None => continue,
            },
            c => c,
        };
        units.extend_from_slice(c.encode_utf16(&mut buffer));
    }
    String::from_utf16(&units).map_err(|_| INVALID)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &[u8]) -> Vec<(String, String)> {
        parse(text).unwrap()
    }

    fn one(text: &str) -> (String, String) {
        let mut entries = parsed(text.as_bytes());
        assert_eq!(entries.len(), 1, "{text}");
        entries.remove(0)
    }

    #[test]
    fn as_java_reads_them() {
        for (text, key, value) in [
            ("system=manager", "system", "manager"),
            ("  system = manager ", "system", "manager "),
            ("system:manager", "system", "manager"),
            ("system manager", "system", "manager"),
            ("system == manager", "system", "= manager"),
            ("system", "system", ""),
            ("a\\=b\\:c\\ d=e", "a=b:c d", "e"),
            ("a=b=c:d e", "a", "b=c:d e"),
            ("a=\\tb\\\\c\\q\\#", "a", "\tb\\cq#"),
            ("a=b,\\\n   c,\\\r\n\td", "a", "b,c,d"),
            ("a=b\\\\\n#", "a", "b\\"),
            ("a=\\u0041\\ud83d\\ude00", "a", "A\u{1f600}"),
            ("a=b\\", "a", "b"),
            ("# comment \\\n! another\r\r\n\n a=b", "a", "b"),
            ("a=#b!", "a", "#b!"),
            ("=b", "", "b"),
            ("\u{feff}a=b", "a", "b"),
            ("é=ß", "é", "ß"),
        ] {
            assert_eq!(one(text), (key.to_owned(), value.to_owned()), "{text:?}");
        }
        assert_eq!(parsed(b"a=\xe9"), [("a".to_owned(), "é".to_owned())]);
        assert_eq!(parsed(b""), []);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_text() {
        for wrong in ["ok=1\nsecret=\\u12x4", "ok=1\nsecret=\\ud83d"] {
            let error = parse(wrong.as_bytes()).unwrap_err();
            assert!(
                error.starts_with("line 2: ") && !error.contains("secret"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_escaped_comes_back(key in "[^\\x00]{1,20}", value in "[^\\x00]{0,20}") {
            let escape = |text: &str| -> String {
                text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
            };
            let text = format!("{}={}", escape(&key), escape(&value));
            prop_assert_eq!(parsed(text.as_bytes()), [(key, value)]);
        }
    }
}
