//! The words of a selector.

/// What a selector is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Not,
    And,
    Or,
    Between,
    Like,
    Escape,
    In,
    Is,
    True,
    False,
    Null,
    XPath,
    XQuery,
    /// A property, a header field or a function.
    Name(&'a str),
    /// What stands between the quotes; a quote in it is doubled.
    Text(&'a str),
    /// The digits of an integer.
    Integer {
        digits: &'a str,
        radix: u32,
    },
    Float(&'a str),
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Plus,
    Minus,
    Times,
    Divide,
    Remainder,
    Open,
    Close,
    Comma,
    End,
}

const KEYWORDS: [(&str, Token<'static>); 13] = [
    ("NOT", Token::Not),
    ("AND", Token::And),
    ("OR", Token::Or),
    ("BETWEEN", Token::Between),
    ("LIKE", Token::Like),
    ("ESCAPE", Token::Escape),
    ("IN", Token::In),
    ("IS", Token::Is),
    ("TRUE", Token::True),
    ("FALSE", Token::False),
    ("NULL", Token::Null),
    ("XPATH", Token::XPath),
    ("XQUERY", Token::XQuery),
];

/// Longer operators first: `<>` is not `<`.
const OPERATORS: [(&str, Token<'static>); 14] = [
    ("<>", Token::NotEqual),
    (">=", Token::GreaterOrEqual),
    ("<=", Token::LessOrEqual),
    ("=", Token::Equal),
    (">", Token::Greater),
    ("<", Token::Less),
    ("+", Token::Plus),
    ("-", Token::Minus),
    ("*", Token::Times),
    ("/", Token::Divide),
    ("%", Token::Remainder),
    ("(", Token::Open),
    (")", Token::Close),
    (",", Token::Comma),
];

/// Cuts text into tokens; of two that fit the longer one counts.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Where the last line ends: a line comment needs the end of its line.
    last_line_end: usize,
    /// Where the last block comment can end.
    last_comment_end: usize,
}

/// No token begins at this byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoToken(pub(super) usize);

impl<'a> Lexer<'a> {
    /// Begins at byte `at` of the text.
    pub(super) fn new(text: &'a str, at: usize) -> Self {
        Self {
            text,
            at,
            last_line_end: text.rfind(['\n', '\r']).unwrap_or(0),
            last_comment_end: text.rfind("*/").unwrap_or(0),
        }
    }

    /// The next token, and the byte where it begins.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'a>), NoToken> {
        self.skip();
        let start = self.at;
        let rest = &self.text[start..];
        let Some(first) = rest.bytes().next() else {
            return Ok((start, Token::End));
        };
        let (length, token) = match first {
            b'\'' => text(rest),
            b'0'..=b'9' | b'.' => number(rest),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' => Some(word(rest)),
            _ => OPERATORS
                .iter()
                .find(|(operator, _)| rest.starts_with(operator))
                .map(|&(operator, token)| (operator.len(), token)),
        }
        .ok_or(NoToken(start))?;
        self.at += length;
        Ok((start, token))
    }

    /// Steps over white space and comments.
    fn skip(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            self.at += match rest.as_bytes() {
                [b' ' | b'\t' | b'\n' | b'\r' | 0x0C, ..] => 1,
                [b'-', b'-', ..] if self.at < self.last_line_end => {
                    rest.find(['\n', '\r']).unwrap_or(rest.len())
                }
                [b'/', b'*', inside @ ..] if self.at + 2 <= self.last_comment_end => {
                    let end = inside.windows(2).position(|pair| pair == b"*/");
                    end.map_or(rest.len(), |end| end + 4)
                }
                _ => return,
            };
        }
    }
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Length of `e5`, `E-5`; none if it is not an exponent.
fn exponent(text: &str) -> Option<usize> {
    let rest = text.strip_prefix(['e', 'E'])?;
    let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    match digits(rest) {
        0 => None,
        count => Some(text.len() - rest.len() + count),
    }
}

fn number(text: &str) -> Option<(usize, Token<'_>)> {
    let whole = digits(text);
    let mut length = whole;
    if let Some(fraction) = text[whole..].strip_prefix('.') {
        let fraction = digits(fraction);
        if whole + fraction == 0 {
            return None;
        }
        length += 1 + fraction;
    }
    let power = exponent(&text[length..]);
    length += power.unwrap_or(0);
    if length > whole {
        return Some((length, Token::Float(&text[..length])));
    }
    let hex = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_hexdigit).count());
    let (length, from, radix) = if hex > 0 {
        (2 + hex, 2, 16)
    } else if text.starts_with('0') {
        // `08` is an octal zero and an eight that fits nowhere.
        (
            text.bytes()
                .take_while(|byte| (b'0'..=b'7').contains(byte))
                .count(),
            0,
            8,
        )
    } else {
        let suffix = usize::from(text[whole..].starts_with(['l', 'L']));
        let digits = &text[..whole];
        return Some((whole + suffix, Token::Integer { digits, radix: 10 }));
    };
    let digits = &text[from..length];
    Some((length, Token::Integer { digits, radix }))
}

fn text(rest: &str) -> Option<(usize, Token<'_>)> {
    let bytes = rest.as_bytes();
    let mut at = 1;
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == b'\'')?;
        if bytes.get(at + 1) != Some(&b'\'') {
            return Some((at + 1, Token::Text(&rest[1..at])));
        }
        at += 2;
    }
}

fn word(rest: &str) -> (usize, Token<'_>) {
    let length = rest
        .bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'))
        .count();
    let word = &rest[..length];
    let keyword = KEYWORDS
        .iter()
        .find(|(keyword, _)| keyword.eq_ignore_ascii_case(word));
    (length, keyword.map_or(Token::Name(word), |&(_, token)| token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<Token<'_>>, NoToken> {
        let mut lexer = Lexer::new(text, 0);
        let mut tokens = Vec::new();
        loop {
            match lexer.next()?.1 {
                Token::End => return Ok(tokens),
                token => tokens.push(token),
            }
        }
    }

    fn integer(digits: &str, radix: u32) -> Token<'_> {
        Token::Integer { digits, radix }
    }

    #[test]
    fn numbers_are_as_long_as_they_can_be() {
        for (text, expected) in [
            ("0", vec![integer("0", 8)]),
            ("010", vec![integer("010", 8)]),
            ("08", vec![integer("0", 8), integer("8", 10)]),
            ("08.5", vec![Token::Float("08.5")]),
            ("0x1Fg", vec![integer("1F", 16), Token::Name("g")]),
            ("0x", vec![integer("0", 8), Token::Name("x")]),
            ("12L", vec![integer("12", 10)]),
            ("5.", vec![Token::Float("5.")]),
            (".5e1", vec![Token::Float(".5e1")]),
            ("1e+3", vec![Token::Float("1e+3")]),
            ("1e", vec![integer("1", 10), Token::Name("e")]),
            ("1.5.5", vec![Token::Float("1.5"), Token::Float(".5")]),
        ] {
            assert_eq!(tokens(text), Ok(expected), "{text}");
        }
        assert_eq!(tokens("a .b"), Err(NoToken(2)));
    }

    #[test]
    fn a_comment_needs_its_end() {
        assert_eq!(tokens("1-- one\r\n"), Ok(vec![integer("1", 10)]));
        assert_eq!(
            tokens("--x"),
            Ok(vec![Token::Minus, Token::Minus, Token::Name("x")])
        );
        assert_eq!(tokens("/*a*//***/ /**/x"), Ok(vec![Token::Name("x")]));
        assert_eq!(
            tokens("/*/"),
            Ok(vec![Token::Divide, Token::Times, Token::Divide])
        );
    }

    #[test]
    fn a_text_ends_at_a_single_quote() {
        assert_eq!(
            tokens("'it''s' ''"),
            Ok(vec![Token::Text("it''s"), Token::Text("")])
        );
        assert_eq!(tokens("a 'b''"), Err(NoToken(2)));
    }
}
