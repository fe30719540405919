//! ActiveMQ's functions with regular expressions: `REGEX`, `REPLACE`, `SPLIT`.

use std::borrow::Cow;
use std::fmt::Write;

use regex_lite::{Captures, Regex, RegexBuilder};

use super::operand::Bounded;
use super::{EvaluationError, Operand};

/// The memory a compiled pattern may take, in bytes. It bounds the work for each character of a text, too.
const MAX_PATTERN: usize = 64 * 1024;
/// Patterns nested deeper are refused.
const MAX_NESTING: u32 = 50;
/// Texts longer than this, in bytes, are not searched.
const MAX_SUBJECT: usize = 64 * 1024;
/// Each search may run to the end of its text, so many of them in one text are as many times its length of
/// work: this many bytes together.
const MAX_SEARCHED: usize = 64 * 1024 * 1024;

/// Compiles a pattern, which is written almost as in Java.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_PATTERN)
        .nest_limit(MAX_NESTING)
        .build()
        .map_err(|error| format!("this broker cannot use this regular expression: {error}"))
}

/// `REGEX`: the pattern is found somewhere in the value's text.
pub(super) fn find(pattern: &Regex, value: &Operand<'_>) -> Result<bool, EvaluationError> {
    match value {
        Operand::Null => Ok(false),
        Operand::Text(text) if text.len() > MAX_SUBJECT => Err(EvaluationError::TooMuch),
        Operand::Text(text) => Ok(pattern.is_match(text)),
        other => Ok(pattern.is_match(&other.to_string())),
    }
}

/// `REPLACE`: the text with all matches replaced.
pub(super) fn replace<'a>(
    text: &Operand<'_>,
    pattern: &Regex,
    replacement: &Operand<'_>,
) -> Result<Operand<'a>, EvaluationError> {
    const TEXTS_ONLY: EvaluationError = EvaluationError::Operand("REPLACE takes texts only");
    let Operand::Text(text) = text else {
        return Err(TEXTS_ONLY);
    };
    let replacement = match replacement {
        Operand::Text(replacement) => Some(replacement),
        // Nobody minds unless it is needed.
        Operand::Null => None,
        _ => return Err(TEXTS_ONLY),
    };
    let mut result = String::new();
    let mut kept = 0;
    let mut search = Search::new(text)?;
    while let Some(captures) = search.next(pattern)? {
        let (start, end) = span(&captures);
        push(&mut result, &text[kept..start])?;
        let replacement = replacement.ok_or(TEXTS_ONLY)?;
        expand(&mut result, replacement, &captures, pattern.captures_len())?;
        kept = end;
    }
    push(&mut result, &text[kept..])?;
    Ok(Operand::Text(Cow::Owned(result)))
}

/// Appends the replacement of one match: `$1` and `${name}` are groups, a backslash takes away all meaning.
fn expand(
    result: &mut String,
    replacement: &str,
    captures: &Captures<'_>,
    groups: usize,
) -> Result<(), EvaluationError> {
    const NO_GROUP: EvaluationError = EvaluationError::Operand("REPLACE names a group that is not there");
    let mut rest = replacement;
    while let Some(at) = rest.find(['$', '\\']) {
        push(result, &rest[..at])?;
        let special = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        if special == b'\\' {
            let literal = rest.chars().next().ok_or(NO_GROUP)?;
            push(result, &rest[..literal.len_utf8()])?;
            rest = &rest[literal.len_utf8()..];
        } else if let Some(named) = rest.strip_prefix('{') {
            let (name, after) = named.split_once('}').ok_or(NO_GROUP)?;
            if let Some(group) = captures.name(name) {
                push(result, group.as_str())?;
            }
            rest = after;
        } else {
            // As many digits as name a group that is there, at least one.
            let mut digits = rest.bytes().map_while(|byte| char::from(byte).to_digit(10));
            let mut group = digits.next().ok_or(NO_GROUP)? as usize;
            let mut length = 1;
            for digit in digits {
                let longer = group * 10 + digit as usize;
                if longer >= groups {
                    break;
                }
                group = longer;
                length += 1;
            }
            if group >= groups {
                return Err(NO_GROUP);
            }
            if let Some(group) = captures.get(group) {
                push(result, group.as_str())?;
            }
            rest = &rest[length..];
        }
    }
    push(result, rest)
}

fn push(result: &mut String, text: &str) -> Result<(), EvaluationError> {
    Bounded(result)
        .write_str(text)
        .map_err(|_| EvaluationError::TooMuch)
}

/// `SPLIT`: the parts of the text between the matches, as Java's `String.split` gives them.
pub(super) fn split<'a>(
    text: Operand<'a>,
    pattern: &Regex,
    limit: &Operand<'_>,
) -> Result<Operand<'a>, EvaluationError> {
    let (Operand::Text(text), Operand::Int(limit)) = (text, limit) else {
        return Err(EvaluationError::Operand("SPLIT takes texts and an Integer"));
    };
    let most = usize::try_from(*limit).ok().filter(|&limit| limit > 0);
    let mut cuts = Vec::new();
    let mut search = Search::new(&text)?;
    while most.is_none_or(|most| cuts.len() + 1 < most) {
        let Some(captures) = search.next(pattern)? else {
            break;
        };
        let (start, end) = span(&captures);
        // A match of nothing at the start does not make an empty first part.
        if end > 0 {
            cuts.push((start, end));
        }
    }
    let mut parts = Vec::with_capacity(cuts.len() + 1);
    let mut from = 0;
    for (start, end) in cuts {
        parts.push(part(&text, from, start));
        from = end;
    }
    parts.push(part(&text, from, text.len()));
    if *limit == 0 {
        let is_empty = |part: &Operand<'_>| matches!(part, Operand::Text(text) if text.is_empty());
        let full = parts.iter().rposition(|part| !is_empty(part));
        // A text that was not cut stays as it is, empty or not.
        if parts.len() > 1 {
            parts.truncate(full.map_or(0, |last| last + 1));
        }
    }
    Ok(Operand::List(parts))
}

fn part<'a>(text: &Cow<'a, str>, from: usize, to: usize) -> Operand<'a> {
    Operand::Text(match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[from..to]),
        Cow::Owned(text) => Cow::Owned(text[from..to].into()),
    })
}

fn span(captures: &Captures<'_>) -> (usize, usize) {
    captures.get(0).map_or((0, 0), |all| (all.start(), all.end()))
}

/// All matches in a text, as Java finds them: one of nothing may follow another match at once.
struct Search<'t> {
    text: &'t str,
    /// Where the next search begins; none after the end of the text.
    from: Option<usize>,
    searched: usize,
}

impl<'t> Search<'t> {
    fn new(text: &'t str) -> Result<Self, EvaluationError> {
        if text.len() > MAX_SUBJECT {
            return Err(EvaluationError::TooMuch);
        }
        Ok(Self {
            text,
            from: Some(0),
            searched: 0,
        })
    }

    fn next(&mut self, pattern: &Regex) -> Result<Option<Captures<'t>>, EvaluationError> {
        let Some(from) = self.from else { return Ok(None) };
        self.searched += self.text.len() - from;
        if self.searched > MAX_SEARCHED {
            return Err(EvaluationError::TooMuch);
        }
        let captures = pattern.captures_at(self.text, from);
        self.from = captures.as_ref().map(span).and_then(|(start, end)| {
            if end > start {
                return Some(end);
            }
            self.text[end..].chars().next().map(|c| end + c.len_utf8())
        });
        Ok(captures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str, pattern: &str, replacement: &str) -> Option<String> {
        let pattern = compile(pattern).unwrap();
        let result = replace(&text.into(), &pattern, &replacement.into()).ok()?;
        Some(result.to_string())
    }

    #[test]
    fn matches_are_replaced_as_in_java() {
        for (text, pattern, replacement, expected) in [
            ("1,2/3", "[,/]", ";", Some("1;2;3")),
            ("abc", "b*", "x", Some("xaxxcx")),
            ("abc", "(b)(c)", "$2$1", Some("acb")),
            ("abc", "(b)", "$10", Some("ab0c")),
            ("abc", "(?<one>b)", "<${one}>", Some("a<b>c")),
            ("abc", "b", r"\$1\\", Some(r"a$1\c")),
            ("abc", "b", "$1", None),
            ("abc", "b", "$", None),
            ("abc", "b", r"\", None),
            ("abc", "x", "$1", Some("abc")),
            ("", "", "x", Some("x")),
        ] {
            assert_eq!(
                replaced(text, pattern, replacement).as_deref(),
                expected,
                "{text} {pattern}"
            );
        }
    }

    #[test]
    fn texts_are_split_as_in_java() {
        for (text, pattern, limit, expected) in [
            ("a,b", ",", 0, "[a, b]"),
            (",a,,b,,", ",", 0, "[, a, , b]"),
            (",a,,b,,", ",", -1, "[, a, , b, , ]"),
            ("a,b,c", ",", 2, "[a, b,c]"),
            ("a,b,c", ",", 1, "[a,b,c]"),
            ("", ",", 0, "[]"),
            (",", ",", 0, "[]"),
            ("abc", "", 0, "[a, b, c]"),
            ("abc", "x", 0, "[abc]"),
        ] {
            let list = split(text.into(), &compile(pattern).unwrap(), &Operand::Int(limit)).unwrap();
            assert_eq!(list.to_string(), expected, "{text} {pattern} {limit}");
        }
        let comma = compile(",").unwrap();
        let count = |text: &str| match split(text.into(), &comma, &Operand::Int(0)) {
            Ok(Operand::List(list)) => list.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!((count(""), count(",")), (1, 0));
    }

    #[test]
    fn work_is_bounded() {
        assert!(compile(r"\w{1000}{1000}").is_err());
        assert!(compile(&"(".repeat(1000)).is_err());
        let any = compile(".").unwrap();
        let long = "x".repeat(MAX_SUBJECT);
        let list = split((&*long).into(), &any, &Operand::Int(0));
        assert!(matches!(list, Err(EvaluationError::TooMuch)));
        let longer = "x".repeat(MAX_SUBJECT + 1);
        assert!(matches!(
            find(&any, &(&*longer).into()),
            Err(EvaluationError::TooMuch)
        ));
    }
}
