//! `LIKE` patterns.

use super::EvaluationError;

/// A match gives up after this many steps, some ten milliseconds: long patterns on long texts must not hold
/// up a broker.
const MAX_STEPS: usize = 4_000_000;

/// A pattern of `LIKE`, with its escapes resolved.
#[derive(Debug)]
pub(super) struct LikePattern(Box<[Piece]>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// `_`
    One,
    /// `%`
    Any,
}

impl LikePattern {
    /// The escape character acts before `%`, `_` and itself; elsewhere it is a character like others.
    pub(super) fn new(pattern: &str, escape: Option<char>) -> Self {
        let mut pieces = Vec::new();
        let mut rest = pattern.chars().peekable();
        while let Some(c) = rest.next() {
            let escaped = (Some(c) == escape)
                .then(|| rest.next_if(|&next| matches!(next, '%' | '_') || Some(next) == escape))
                .flatten();
            pieces.push(match (escaped, c) {
                (Some(literal), _) => Piece::Char(literal),
                (None, '%') => Piece::Any,
                (None, '_') => Piece::One,
                (None, c) => Piece::Char(c),
            });
        }
        // A second `%` adds nothing but work.
        pieces.dedup_by(|next, piece| *next == Piece::Any && *piece == Piece::Any);
        Self(pieces.into())
    }

    /// True if the pattern fits the whole text.
    pub(super) fn matches(&self, text: &str) -> Result<bool, EvaluationError> {
        let pieces = &*self.0;
        let mut rest = text.chars();
        let mut at = 0;
        // Where to go on if what follows the last `%` does not fit: one character further.
        let mut retry = None;
        for _ in 0..MAX_STEPS {
            let here = rest.clone();
            match (pieces.get(at), rest.next()) {
                (Some(Piece::Any), _) => {
                    rest = here.clone();
                    at += 1;
                    if at == pieces.len() {
                        return Ok(true);
                    }
                    retry = Some((at, here));
                }
                (Some(Piece::One), Some(_)) => at += 1,
                (Some(Piece::Char(expected)), Some(c)) if *expected == c => at += 1,
                (None, None) => return Ok(true),
                (_, None) => return Ok(false),
                _ => {
                    let Some((after, from)) = &mut retry else {
                        return Ok(false);
                    };
                    from.next();
                    rest = from.clone();
                    at = *after;
                }
            }
        }
        Err(EvaluationError::TooMuch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn like(text: &str, pattern: &str, escape: Option<char>) -> bool {
        LikePattern::new(pattern, escape).matches(text).unwrap()
    }

    #[test]
    fn patterns_match_as_in_sql() {
        for (text, pattern, expected) in [
            ("", "", true),
            ("", "%", true),
            ("", "_", false),
            ("abc", "abc", true),
            ("abc", "a%", true),
            ("abc", "%b", false),
            ("abc", "_b_", true),
            ("a\nb", "a%b", true),
            ("a\u{1F600}b", "a_b", true),
            ("aab", "%ab", true),
            ("abab", "%ab", true),
            ("abcabd", "%ab_", true),
            ("mississippi", "m%iss%ip%i", true),
            ("mississippi", "m%iss%ipx%", false),
            ("A", "a", false),
            ("a.c", "a.c", true),
            ("abc", "a.c", false),
        ] {
            assert_eq!(like(text, pattern, None), expected, "{text} {pattern}");
        }
    }

    #[test]
    fn an_escape_acts_only_before_what_it_can_escape() {
        assert!(like("a_b", r"a\_b", Some('\\')));
        assert!(!like("acb", r"a\_b", Some('\\')));
        assert!(like(r"a\b", r"a\b", Some('\\')));
        assert!(like(r"a\b", r"a\\b", Some('\\')));
        assert!(like("100%", "%!%", Some('!')));
        assert!(like("%", "%%", Some('%')));
        assert!(!like("ab", "%%", Some('%')));
    }

    #[test]
    fn a_match_has_an_end() {
        let pattern = LikePattern::new(&format!("%{}b", "a".repeat(30_000)), None);
        let text = "a".repeat(1_000_000);
        assert!(matches!(pattern.matches(&text), Err(EvaluationError::TooMuch)));
    }

    /// The definition, without any wit.
    fn naive(text: &[char], pattern: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|at| naive(&text[at..], rest)),
            Some((first, rest)) => text
                .split_first()
                .is_some_and(|(c, text)| (*first == '_' || first == c) && naive(text, rest)),
        }
    }

    proptest! {
        #[test]
        fn matching_follows_the_definition(text in "[ab]{0,10}", pattern in "[ab%_]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(like(&text, &pattern, None), naive(&chars(&text), &chars(&pattern)));
        }
    }
}
