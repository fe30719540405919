//! From text to a checked tree. Binary operators are parsed by their rank.

use super::expression::{Condition, Field, Relation, Replace, Split, Value};
use super::lexer::{Lexer, NoToken, Token};
use super::like::LikePattern;
use super::operand::Arithmetic;
use super::xpath::XPath;
use super::{CONVERT_PREFIX, Header, Selector, SelectorError, SelectorErrorKind, function};

/// How deep expressions may nest: a third of a thread's 2 MiB stack, without optimisation too. Two levels are a
/// pair of parentheses; long chains of AND, OR and arithmetic count as one.
const MAX_DEPTH: u32 = 100;
/// Regular expressions in one selector. Each may take 64 KiB.
const MAX_PATTERNS: u32 = 32;

/// Ranks of operators, loosest first. The operand on the right is made of higher ranks only.
const OR: u8 = 1;
const AND: u8 = 2;
const EQUALITY: u8 = 3;
const COMPARISON: u8 = 4;
const SUM: u8 = 5;
const PRODUCT: u8 = 6;

/// Parses a selector; the first value tells if it asks for conversion.
pub(super) fn parse(text: &str) -> Result<(bool, Condition), SelectorError> {
    if text.len() > Selector::MAX_LENGTH {
        return Err(SelectorError::new(
            SelectorErrorKind::Limit,
            text,
            Selector::MAX_LENGTH,
            format!("a selector has at most {} bytes", Selector::MAX_LENGTH),
        ));
    }
    let convert = text.starts_with(CONVERT_PREFIX);
    let start = if convert { CONVERT_PREFIX.len() } else { 0 };
    let mut parser = Parser {
        text,
        lexer: Lexer::new(text, start),
        at: start,
        token: Token::End,
        depth: 0,
        patterns: 0,
    };
    parser.advance()?;
    let at = parser.at;
    let term = parser.expression(OR)?;
    if parser.token != Token::End {
        return Err(parser.unexpected("an operator or the end"));
    }
    Ok((convert, parser.condition(at, term)?))
}

/// A value and how deep it nests: evaluating and dropping it takes as many stack frames.
struct Term {
    value: Value,
    depth: u32,
}

impl Term {
    fn leaf(value: Value) -> Self {
        Self { value, depth: 1 }
    }
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    /// The token that is looked at, and the byte where it begins.
    token: Token<'a>,
    at: usize,
    depth: u32,
    patterns: u32,
}

impl<'a> Parser<'a> {
    fn error(&self, kind: SelectorErrorKind, at: usize, reason: impl Into<String>) -> SelectorError {
        SelectorError::new(kind, self.text, at, reason)
    }

    fn type_error(&self, at: usize, reason: impl Into<String>) -> SelectorError {
        self.error(SelectorErrorKind::Type, at, reason)
    }

    fn unexpected(&self, expected: &str) -> SelectorError {
        const SHOWN: usize = 20;
        let found = match self.token {
            Token::End => "the end".into(),
            _ => {
                let rest: String = self.text[self.at..].chars().take(SHOWN).collect();
                format!("\"{rest}\"")
            }
        };
        self.error(
            SelectorErrorKind::Syntax,
            self.at,
            format!("expected {expected}, found {found}"),
        )
    }

    fn too_deep(&self) -> SelectorError {
        self.error(
            SelectorErrorKind::Limit,
            self.at,
            format!("nested more than {MAX_DEPTH} levels deep"),
        )
    }

    /// Takes the token and looks at the next one.
    fn advance(&mut self) -> Result<Token<'a>, SelectorError> {
        let taken = self.token;
        (self.at, self.token) = self.lexer.next().map_err(|NoToken(at)| {
            let reason = match self.text[at..].chars().next() {
                Some('\'') => "a text without its closing quote".into(),
                c => format!(
                    "a character that is none of a selector's: {:?}",
                    c.unwrap_or_default()
                ),
            };
            self.error(SelectorErrorKind::Syntax, at, reason)
        })?;
        Ok(taken)
    }

    fn take_if(&mut self, token: Token<'_>) -> Result<bool, SelectorError> {
        let there = self.token == token;
        if there {
            self.advance()?;
        }
        Ok(there)
    }

    fn expect(&mut self, token: Token<'_>, name: &str) -> Result<(), SelectorError> {
        match self.take_if(token)? {
            true => Ok(()),
            false => Err(self.unexpected(name)),
        }
    }

    fn string(&mut self) -> Result<String, SelectorError> {
        match self.token {
            Token::Text(raw) => {
                self.advance()?;
                Ok(raw.replace("''", "'"))
            }
            _ => Err(self.unexpected("a text in quotes")),
        }
    }

    fn enter(&mut self) -> Result<(), SelectorError> {
        self.depth += 1;
        match self.depth > MAX_DEPTH {
            true => Err(self.too_deep()),
            false => Ok(()),
        }
    }

    /// A value made of others, the deepest of which is `depth` deep.
    fn node(&self, depth: u32, value: Value) -> Result<Term, SelectorError> {
        match depth >= MAX_DEPTH {
            true => Err(self.too_deep()),
            false => Ok(Term {
                value,
                depth: depth + 1,
            }),
        }
    }

    fn made(&self, depth: u32, condition: Condition) -> Result<Term, SelectorError> {
        self.node(depth, Value::Condition(Box::new(condition)))
    }

    /// Operands joined by operators of at least this rank.
    fn expression(&mut self, lowest: u8) -> Result<Term, SelectorError> {
        self.enter()?;
        let at = self.at;
        let mut left = self.unary()?;
        // After an operator only those of its rank or looser ones can follow.
        let mut highest = PRODUCT;
        loop {
            let rank = rank(self.token);
            if rank < lowest || rank > highest {
                break;
            }
            highest = rank;
            left = match rank {
                OR | AND => self.logic(at, left, rank)?,
                EQUALITY => self.equality(at, left)?,
                COMPARISON => self.comparison(at, left)?,
                _ => self.arithmetic(left, rank)?,
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    /// A value that is to be true or false.
    fn condition(&self, at: usize, term: Term) -> Result<Condition, SelectorError> {
        match term.value {
            Value::Condition(condition) => Ok(*condition),
            Value::Field(field) => Ok(Condition::Field(field)),
            _ => Err(self.type_error(at, "this is a value, where a condition belongs")),
        }
    }

    fn logic(&mut self, at: usize, left: Term, rank: u8) -> Result<Term, SelectorError> {
        self.advance()?;
        let right_at = self.at;
        let right = self.expression(rank + 1)?;
        let apart = left.depth.max(right.depth);
        let together = (left.depth - 1).max(right.depth);
        let left = self.condition(at, left)?;
        let right = self.condition(right_at, right)?;
        // A chain stays flat, however long it is.
        match (left, rank) {
            (Condition::And(mut parts), AND) => {
                parts.push(right);
                self.made(together, Condition::And(parts))
            }
            (Condition::Or(mut parts), OR) => {
                parts.push(right);
                self.made(together, Condition::Or(parts))
            }
            (left, AND) => self.made(apart, Condition::And(vec![left, right])),
            (left, _) => self.made(apart, Condition::Or(vec![left, right])),
        }
    }

    fn equality(&mut self, at: usize, left: Term) -> Result<Term, SelectorError> {
        let operator = self.advance()?;
        if operator == Token::Is {
            let negated = self.take_if(Token::Not)?;
            self.expect(Token::Null, "NULL")?;
            let term = self.made(left.depth, Condition::IsNull(Box::new(left.value)))?;
            return if negated { self.negated(term) } else { Ok(term) };
        }
        let right_at = self.at;
        let right = self.expression(EQUALITY + 1)?;
        let constant = |term: &Term| match &term.value {
            Value::Condition(condition) => match **condition {
                Condition::Constant(truth) => Some(truth),
                _ => None,
            },
            _ => None,
        };
        for (at, term) in [(at, &left), (right_at, &right)] {
            if constant(term) == Some(None) {
                return Err(self.type_error(at, "NULL compares with nothing; use IS NULL"));
            }
        }
        let is_literal = matches!(
            right.value,
            Value::Int(_) | Value::Long(_) | Value::Double(_) | Value::Text(_)
        );
        if constant(&left).is_some() && is_literal {
            return Err(self.type_error(right_at, "this is neither TRUE nor FALSE"));
        }
        let depth = left.depth.max(right.depth);
        let term = self.made(depth, Condition::Equal(Box::new((left.value, right.value))))?;
        match operator {
            Token::NotEqual => self.negated(term),
            _ => Ok(term),
        }
    }

    fn comparison(&mut self, at: usize, left: Term) -> Result<Term, SelectorError> {
        let negated = self.take_if(Token::Not)?;
        let relation = match (self.token, negated) {
            (Token::Like, _) => return self.like(left, negated),
            (Token::Between, _) => return self.between(at, left, negated),
            (Token::In, _) => return self.list(at, left, negated),
            (Token::Greater, false) => Relation::Greater,
            (Token::GreaterOrEqual, false) => Relation::GreaterOrEqual,
            (Token::Less, false) => Relation::Less,
            (Token::LessOrEqual, false) => Relation::LessOrEqual,
            _ => return Err(self.unexpected("LIKE, BETWEEN or IN")),
        };
        self.advance()?;
        let right = self.bound()?;
        self.check_ordered(at, &left)?;
        let depth = left.depth.max(right.depth);
        self.made(
            depth,
            Condition::Order(relation, Box::new((left.value, right.value))),
        )
    }

    /// What stands at one side of `<` must not be known to be no number.
    fn check_ordered(&self, at: usize, term: &Term) -> Result<(), SelectorError> {
        match &term.value {
            Value::Text(_) => Err(self.type_error(at, "a text is neither more nor less than anything")),
            Value::Condition(_) => {
                Err(self.type_error(at, "a condition is neither more nor less than anything"))
            }
            _ => Ok(()),
        }
    }

    fn bound(&mut self) -> Result<Term, SelectorError> {
        let at = self.at;
        let term = self.expression(COMPARISON + 1)?;
        self.check_ordered(at, &term)?;
        Ok(term)
    }

    fn between(&mut self, at: usize, value: Term, negated: bool) -> Result<Term, SelectorError> {
        self.advance()?;
        self.check_ordered(at, &value)?;
        let low = self.bound()?;
        self.expect(Token::And, "AND")?;
        let high = self.bound()?;
        let depth = value.depth.max(low.depth).max(high.depth);
        let operands = Box::new((value.value, low.value, high.value));
        self.made(depth, Condition::Between { negated, operands })
    }

    fn like(&mut self, value: Term, negated: bool) -> Result<Term, SelectorError> {
        self.advance()?;
        let pattern = self.string()?;
        let mut escape = None;
        if self.take_if(Token::Escape)? {
            let at = self.at;
            let text = self.string()?;
            let mut characters = text.chars();
            // Java counts UTF-16 units.
            escape = characters.next().filter(|c| c.len_utf16() == 1);
            if escape.is_none() || characters.next().is_some() {
                return Err(self.type_error(at, "ESCAPE takes one character"));
            }
        }
        let pattern = LikePattern::new(&pattern, escape);
        let term = self.made(value.depth, Condition::Like(Box::new((value.value, pattern))))?;
        if negated { self.negated(term) } else { Ok(term) }
    }

    fn list(&mut self, at: usize, left: Term, negated: bool) -> Result<Term, SelectorError> {
        let Value::Field(field) = left.value else {
            return Err(self.type_error(at, "only a property can be IN a list"));
        };
        self.advance()?;
        self.expect(Token::Open, "a list in parentheses")?;
        let mut list = vec![self.string()?.into_boxed_str()];
        while self.take_if(Token::Comma)? {
            list.push(self.string()?.into());
        }
        self.expect(Token::Close, "a comma or a closing parenthesis")?;
        list.sort_unstable();
        list.dedup();
        let list = list.into();
        self.made(left.depth, Condition::In { negated, field, list })
    }

    fn negated(&self, term: Term) -> Result<Term, SelectorError> {
        let depth = term.depth;
        let condition = self.condition(self.at, term)?;
        self.made(depth, Condition::Not(Box::new(condition)))
    }

    fn arithmetic(&mut self, left: Term, rank: u8) -> Result<Term, SelectorError> {
        let operator = match self.advance()? {
            Token::Plus => Arithmetic::Plus,
            Token::Minus => Arithmetic::Minus,
            Token::Times => Arithmetic::Times,
            Token::Divide => Arithmetic::Divide,
            _ => Arithmetic::Remainder,
        };
        let right = self.expression(rank + 1)?;
        match left.value {
            // What stands left is done first in any case, so the chain stays flat.
            Value::Arithmetic(first, mut rest) => {
                rest.push((operator, right.value));
                self.node((left.depth - 1).max(right.depth), Value::Arithmetic(first, rest))
            }
            first => {
                let chain = Value::Arithmetic(Box::new(first), vec![(operator, right.value)]);
                self.node(left.depth.max(right.depth), chain)
            }
        }
    }

    fn xpath(&mut self) -> Result<Term, SelectorError> {
        let at = self.at;
        let text = self.string()?;
        let xpath = XPath::parse(&text).map_err(|(kind, reason)| self.error(kind, at, reason))?;
        self.made(0, Condition::XPath(xpath))
    }

    fn unary(&mut self) -> Result<Term, SelectorError> {
        self.enter()?;
        let at = self.at;
        let term = match self.advance()? {
            Token::Plus => self.unary()?,
            Token::Minus => self.negative()?,
            Token::Not => {
                let at = self.at;
                let operand = self.unary()?;
                let depth = operand.depth;
                let condition = self.condition(at, operand)?;
                self.made(depth, Condition::Not(Box::new(condition)))?
            }
            Token::XPath => self.xpath()?,
            // ActiveMQ has no evaluator for these: they are never true.
            Token::XQuery => {
                self.string()?;
                self.made(0, Condition::Constant(Some(false)))?
            }
            Token::Open => {
                let inner = self.expression(OR)?;
                self.expect(Token::Close, "a closing parenthesis")?;
                inner
            }
            Token::Name(name) if self.token == Token::Open => self.function(at, name)?,
            Token::Name(name) => Term::leaf(Value::Field(match Header::from_name(name) {
                Some(header) => Field::Header(header),
                None => Field::Property(name.into()),
            })),
            Token::Text(raw) => Term::leaf(Value::Text(raw.replace("''", "'").into())),
            Token::Integer { digits, radix } => Term::leaf(self.integer(at, digits, radix)?),
            Token::Float(digits) => {
                let value = digits
                    .parse()
                    .map_err(|_| self.error(SelectorErrorKind::Number, at, "not a number"))?;
                Term::leaf(Value::Double(value))
            }
            Token::True => self.made(0, Condition::Constant(Some(true)))?,
            Token::False => self.made(0, Condition::Constant(Some(false)))?,
            Token::Null => self.made(0, Condition::Constant(None))?,
            token => {
                self.at = at;
                self.token = token;
                return Err(self.unexpected("a value"));
            }
        };
        self.depth -= 1;
        Ok(term)
    }

    fn negative(&mut self) -> Result<Term, SelectorError> {
        /// The one integer that is a `Long` only with its sign.
        const LONG_MIN_DIGITS: &str = "9223372036854775808";
        if let Token::Integer { digits, radix: 10 } = self.token
            && digits == LONG_MIN_DIGITS
        {
            self.advance()?;
            return Ok(Term::leaf(Value::Long(i64::MIN)));
        }
        let operand = self.unary()?;
        self.node(operand.depth, Value::Negative(Box::new(operand.value)))
    }

    fn integer(&self, at: usize, digits: &str, radix: u32) -> Result<Value, SelectorError> {
        let value = i64::from_str_radix(digits, radix).map_err(|_| {
            let reason = "an integer that is larger than a Long can be";
            self.error(SelectorErrorKind::Number, at, reason)
        })?;
        Ok(i32::try_from(value).map_or(Value::Long(value), Value::Int))
    }

    /// A function; its name was taken.
    fn function(&mut self, at: usize, name: &str) -> Result<Term, SelectorError> {
        self.expect(Token::Open, "an opening parenthesis")?;
        let mut depth = 0;
        let mut arguments = Vec::new();
        loop {
            let at = self.at;
            let argument = self.unary()?;
            depth = depth.max(argument.depth);
            arguments.push((at, argument.value));
            if !self.take_if(Token::Comma)? {
                break;
            }
        }
        self.expect(Token::Close, "a comma or a closing parenthesis")?;
        let count = arguments.len();
        let mut arguments = arguments.into_iter();
        let mut next = || arguments.next().unwrap_or((at, Value::MakeList(Vec::new())));
        match (name, count) {
            ("REGEX", 2) => {
                let pattern = self.pattern(next())?;
                self.made(depth, Condition::Find(Box::new((pattern, next().1))))
            }
            ("INLIST", 2) => self.made(depth, Condition::InList(Box::new((next().1, next().1)))),
            ("REPLACE", 3) => {
                let call = Replace {
                    text: next().1,
                    pattern: self.pattern(next())?,
                    replacement: next().1,
                };
                self.node(depth, Value::Replace(Box::new(call)))
            }
            ("SPLIT", 2 | 3) => {
                let call = Split {
                    text: next().1,
                    pattern: self.pattern(next())?,
                    limit: (count == 3).then(|| next().1),
                };
                self.node(depth, Value::Split(Box::new(call)))
            }
            ("MAKELIST", _) => self.node(
                depth,
                Value::MakeList(arguments.map(|(_, value)| value).collect()),
            ),
            ("REGEX" | "INLIST" | "REPLACE" | "SPLIT", _) => {
                Err(self.type_error(at, format!("{name} does not take {count} arguments")))
            }
            _ => Err(self.type_error(at, "there is no function of this name")),
        }
    }

    fn pattern(&mut self, (at, value): (usize, Value)) -> Result<regex_lite::Regex, SelectorError> {
        let Value::Text(pattern) = value else {
            let reason = "a regular expression must be a text that stands in the selector";
            return Err(self.error(SelectorErrorKind::Unsupported, at, reason));
        };
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            let reason = format!("more than {MAX_PATTERNS} regular expressions");
            return Err(self.error(SelectorErrorKind::Limit, at, reason));
        }
        function::compile(&pattern).map_err(|reason| self.error(SelectorErrorKind::Unsupported, at, reason))
    }
}

/// The rank of the operator that begins with this token; 0 if none does.
fn rank(token: Token<'_>) -> u8 {
    match token {
        Token::Or => OR,
        Token::And => AND,
        Token::Equal | Token::NotEqual | Token::Is => EQUALITY,
        Token::Greater
        | Token::GreaterOrEqual
        | Token::Less
        | Token::LessOrEqual
        | Token::Not
        | Token::Like
        | Token::Between
        | Token::In => COMPARISON,
        Token::Plus | Token::Minus => SUM,
        Token::Times | Token::Divide | Token::Remainder => PRODUCT,
        _ => 0,
    }
}
