//! What a selector says, checked: the tree the parser builds and the evaluator walks.

use std::cmp::Ordering;

use regex_lite::Regex;

use super::Header;
use super::like::LikePattern;
use super::operand::Arithmetic;
use super::xpath::XPath;

/// What is true, false or unknown.
#[derive(Debug)]
pub(super) enum Condition {
    /// `TRUE`, `FALSE`, `NULL`
    Constant(Option<bool>),
    /// A field that stands for itself: true if it is a true `Boolean`.
    Field(Field),
    Not(Box<Self>),
    /// Two or more.
    And(Vec<Self>),
    /// Two or more.
    Or(Vec<Self>),
    Equal(Box<(Value, Value)>),
    Order(Relation, Box<(Value, Value)>),
    Between {
        negated: bool,
        /// The value and its two bounds.
        operands: Box<(Value, Value, Value)>,
    },
    Like(Box<(Value, LikePattern)>),
    In {
        negated: bool,
        field: Field,
        /// Sorted.
        list: Box<[Box<str>]>,
    },
    IsNull(Box<Value>),
    /// `REGEX`
    Find(Box<(Regex, Value)>),
    /// `INLIST`
    InList(Box<(Value, Value)>),
    /// Of the body as XML.
    XPath(XPath),
}

/// `>`, `>=`, `<`, `<=`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Relation {
    pub(super) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
        }
    }
}

/// What has a value.
#[derive(Debug)]
pub(super) enum Value {
    Int(i32),
    Long(i64),
    Double(f64),
    Text(Box<str>),
    Field(Field),
    Condition(Box<Condition>),
    Negative(Box<Self>),
    /// Done from left to right.
    Arithmetic(Box<Self>, Vec<(Arithmetic, Self)>),
    Replace(Box<Replace>),
    Split(Box<Split>),
    MakeList(Vec<Self>),
}

/// `REPLACE(text, pattern, replacement)`
#[derive(Debug)]
pub(super) struct Replace {
    pub(super) text: Value,
    pub(super) pattern: Regex,
    pub(super) replacement: Value,
}

/// `SPLIT(text, pattern, limit)`
#[derive(Debug)]
pub(super) struct Split {
    pub(super) text: Value,
    pub(super) pattern: Regex,
    pub(super) limit: Option<Value>,
}

/// What an identifier names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    Header(Header),
    Property(Box<str>),
}
