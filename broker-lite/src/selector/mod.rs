//! JMS message selectors in the language of ActiveMQ Classic.
//!
//! A [`Selector`] is parsed once and cannot hold nonsense; whatever is wrong with a text is a
//! [`SelectorError`] with the place. It is evaluated against anything that has [`Properties`]: a wire
//! [`Message`] has them, and its properties stay marshalled.
//!
//! ```
//! use broker_lite::selector::Selector;
//! use openwire_client::wire::Message;
//!
//! let selector = Selector::parse("JMSPriority > 3 AND colour IS NULL")?;
//! let message = Message { priority: 4, ..Message::default() };
//! assert!(selector.matches(&message)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The language is that of ActiveMQ 5.17, its odd corners included (`NOT x = 5` is `(NOT x) = 5`). What differs,
//! on purpose:
//!
//! * numbers of any two types compare; ActiveMQ says false, or fails, for some pairs in one of the two orders;
//! * with `convert_string_expressions:` a boolean on the left compares with a text, which fails in ActiveMQ;
//! * an integer beyond `Long` is refused; ActiveMQ compares its low bits;
//! * `XPATH` needs the cargo feature `xpath` and is refused without it, as by an ActiveMQ without the evaluator's
//!   classes. With it, an expression that cannot be evaluated is refused when the selector is parsed; ActiveMQ accepts
//!   it and selects nothing. A document with a DTD selects nothing, so there are no entities to expand;
//! * the pattern of `REGEX`, `REPLACE` and `SPLIT` must be a text that stands in the selector. It is compiled when
//!   the selector is parsed, and refused if it needs what [`regex_lite`] lacks: looking around, back references,
//!   classes of Unicode.

mod equality;
mod evaluate;
mod expression;
mod function;
mod lexer;
mod like;
mod message;
mod operand;
mod parser;
#[cfg_attr(not(feature = "xpath"), path = "no_xpath.rs")]
mod xpath;

#[cfg(test)]
mod tests;

use std::fmt;

use openwire_client::wire::{Message, WireError};

pub(crate) use equality::{Constant, Equality, Given};
use expression::Condition;
pub(crate) use expression::Field;
pub use message::Redelivered;
pub use operand::Operand;

/// A text at the start of a selector that makes texts numbers where they are compared with numbers.
const CONVERT_PREFIX: &str = "convert_string_expressions:";

/// A parsed message selector.
#[derive(Debug)]
pub struct Selector {
    text: Box<str>,
    condition: Condition,
    /// Texts become numbers or booleans where they are compared with such.
    convert: bool,
}

impl Selector {
    /// The longest selector, in bytes: what a `ConsumerInfo` can carry.
    pub const MAX_LENGTH: usize = 65_535;

    /// Parses a selector. The text may begin with `convert_string_expressions:`.
    ///
    /// An empty or blank text is no selector; JMS takes it for none, which is for the caller to decide.
    ///
    /// # Errors
    ///
    /// A [`SelectorError`] for anything that is not a selector; a client gets it as `InvalidSelectorException`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let (convert, condition) = parser::parse(text)?;
        Ok(Self {
            text: text.into(),
            condition,
            convert,
        })
    }

    /// True if the message is selected: the result is true, neither false nor unknown.
    ///
    /// Allocates nothing but texts that have to be built: `JMSDestination`, `JMSReplyTo`, `JMSMessageID`,
    /// concatenations, the results of functions.
    ///
    /// # Errors
    ///
    /// An [`EvaluationError`] if the selector does not fit this message. Such a message is not selected; it must
    /// not be lost.
    pub fn matches(&self, message: &impl Properties) -> Result<bool, EvaluationError> {
        let text = xpath::Text::default();
        evaluate::Evaluation {
            message,
            convert: self.convert,
            document: &xpath::Document::new(&text, message.message()),
        }
        .matches(&self.condition)
    }

    /// The text it was parsed from.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::str::FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a selector can ask of a message.
pub trait Properties {
    /// A header field; [`Operand::Null`] if it has no value.
    fn header(&self, header: Header) -> Result<Operand<'_>, EvaluationError>;

    /// An application property; [`Operand::Null`] if there is none of this name.
    fn property(&self, name: &str) -> Result<Operand<'_>, EvaluationError>;

    /// The message whose body `XPATH` looks into. Default none, and then `XPATH` is false.
    fn message(&self) -> Option<&Message> {
        None
    }
}

macro_rules! headers {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The header fields a selector can name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Header {
            $($(#[$doc])* $variant,)*
        }

        impl Header {
            /// The field with this name. Case matters.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

headers! {
    /// `JMSDestination`: the qualified name, of the original destination if there is one.
    Destination = "JMSDestination",
    /// `JMSReplyTo`: the qualified name.
    ReplyTo = "JMSReplyTo",
    /// `JMSType`
    Type = "JMSType",
    /// `JMSDeliveryMode`: `PERSISTENT` or `NON_PERSISTENT`.
    DeliveryMode = "JMSDeliveryMode",
    /// `JMSPriority`
    Priority = "JMSPriority",
    /// `JMSMessageID`
    MessageId = "JMSMessageID",
    /// `JMSTimestamp`
    Timestamp = "JMSTimestamp",
    /// `JMSCorrelationID`
    CorrelationId = "JMSCorrelationID",
    /// `JMSExpiration`
    Expiration = "JMSExpiration",
    /// `JMSRedelivered`
    Redelivered = "JMSRedelivered",
    /// `JMSXDeliveryCount`
    DeliveryCount = "JMSXDeliveryCount",
    /// `JMSXGroupID`
    GroupId = "JMSXGroupID",
    /// `JMSXGroupSeq`
    GroupSequence = "JMSXGroupSeq",
    /// `JMSXGroupFirstForConsumer`
    GroupFirstForConsumer = "JMSXGroupFirstForConsumer",
    /// `JMSXUserID`
    UserId = "JMSXUserID",
    /// `JMSXProducerTXID`: the id of the transaction it was sent in.
    ProducerTransactionId = "JMSXProducerTXID",
    /// `JMSActiveMQBrokerInTime`
    BrokerInTime = "JMSActiveMQBrokerInTime",
    /// `JMSActiveMQBrokerOutTime`
    BrokerOutTime = "JMSActiveMQBrokerOutTime",
    /// `JMSActiveMQBrokerPath`
    BrokerPath = "JMSActiveMQBrokerPath",
}

/// Why a text is not a selector, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorError {
    kind: SelectorErrorKind,
    line: usize,
    column: usize,
    reason: String,
}

/// The kinds of [`SelectorError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SelectorErrorKind {
    /// The text does not follow the grammar.
    Syntax,
    /// What stands there cannot be compared, called or taken for a condition.
    Type,
    /// A number that no Java type has.
    Number,
    /// ActiveMQ knows it, this broker does not.
    Unsupported,
    /// Too long, or nested too deeply.
    Limit,
}

impl SelectorError {
    /// An error at byte `at` of the text.
    fn new(kind: SelectorErrorKind, text: &str, at: usize, reason: impl Into<String>) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            kind,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            reason: reason.into(),
        }
    }

    /// What kind of error this is.
    pub fn kind(&self) -> SelectorErrorKind {
        self.kind
    }

    /// The line, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column, in characters from 1. A prefix counts.
    pub fn column(&self) -> usize {
        self.column
    }
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at line {}, column {}: {}",
            self.line, self.column, self.reason
        )
    }
}

impl std::error::Error for SelectorError {}

/// Why a selector has no result for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvaluationError {
    /// A value is not of a type that this can be done with.
    Operand(&'static str),
    /// The message's properties cannot be read.
    Properties(WireError),
    /// A limit on work or memory was reached: the texts are too long.
    TooMuch,
}

impl fmt::Display for EvaluationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operand(why) => f.write_str(why),
            Self::Properties(error) => write!(f, "the properties cannot be read: {error}"),
            Self::TooMuch => f.write_str("the texts are too long"),
        }
    }
}

impl std::error::Error for EvaluationError {}
