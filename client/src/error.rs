//! What went wrong, and what to do now.

use std::fmt;
use std::sync::Arc;

use crate::wire::{Throwable, TransactionId, WireError};
use crate::xa::XaCode;

/// The error of every operation of this crate.
///
/// Ask it what it means ([`is_timeout`](Self::is_timeout), [`is_security`](Self::is_security), …) and what
/// to do ([`retry`](Self::retry)); the text is for people and may change.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    throwable: Option<Arc<Throwable>>,
    in_doubt: Option<Arc<CommitInDoubt>>,
    unfinished: Option<Arc<Unfinished>>,
    xa: Option<XaCode>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The result of every operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind an [`Error`] is of. Private: it grows with the library, while the questions stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// A URI that does not parse or has an option that does not exist.
    Uri,
    /// An argument or option that cannot be.
    Invalid,
    /// JMS `IllegalStateException`: not now, such as commit on a session without transactions.
    IllegalState,
    /// The connection, session, producer or consumer is closed.
    Closed,
    /// A deadline passed.
    Timeout,
    /// No connection, or it broke.
    Io,
    /// The peer does not keep to the protocol.
    Protocol,
    /// JMS `JMSSecurityException`.
    Security,
    /// The credentials provider failed.
    Credentials,
    /// JMS `InvalidClientIDException`.
    InvalidClientId,
    /// JMS `InvalidDestinationException`.
    InvalidDestination,
    /// JMS `InvalidSelectorException`.
    InvalidSelector,
    /// JMS `ResourceAllocationException`: the broker has no room.
    ResourceAllocation,
    /// JMS `TransactionRolledBackException`.
    TransactionRolledBack,
    /// A commit was sent and its outcome is not known.
    InDoubt,
    /// The connection broke between the delivery of a message and its acknowledgement.
    Interrupted,
    /// JMS `MessageFormatException`: a conversion that JMS does not allow.
    MessageFormat,
    /// JMS `MessageEOFException`.
    MessageEof,
    /// A step of a distributed transaction that cannot be; its code says more.
    Xa,
    /// Any other exception of the broker.
    Broker,
    /// Not possible with this library, and said so rather than ignored.
    Unsupported,
}

/// What to do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// The same call again can succeed: the cause passes.
    Again,
    /// A new connection is needed first.
    Reconnect,
    /// The transaction is gone: do its work again.
    RedoTransaction,
    /// Find out what happened before anything is done again.
    Examine,
    /// The same call will fail again.
    Never,
}

/// A commit that was sent, and whose outcome nobody could tell: everything of it has happened, or nothing.
///
/// What a session gets from [`commit`](crate::Session::commit) if the connection broke before the answer came, or if
/// the answer took too long. ActiveMQ's client calls that rolled back, which it may not be.
///
/// With brokers that keep the outcomes of transactions, as broker-lite does, the next one is asked and this does not
/// happen, unless none that shares the store comes back within
/// [`request_timeout`](crate::options::ConnectionOptions::request_timeout) or within the time that the outcomes are kept.
///
/// The transaction is over for the session. If it was not committed, what it received comes again, with the redelivered
/// flag: to this consumer or another one, at once if the connection broke, and otherwise when the connection breaks or
/// the consumer is closed. If it was committed, nothing of it comes again. Nothing hides what comes again. So these are
/// the ways on:
///
/// * Let the work be such that doing it twice does no harm, and do it again when its messages come again: a consumer
///   that writes the ids of the messages it has worked on ([`message_id`](crate::Message::message_id)) along with its
///   results recognises those.
/// * Ask where the work shows: whether the messages that the transaction sent have arrived, or whether what it received
///   comes again.
/// * Look for [`transaction`](Self::transaction) in the log of the broker, which names transactions so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitInDoubt {
    /// The transaction, as ActiveMQ prints it: `TX:ID:…:n`.
    pub transaction: String,
}

/// What was not out when a connection ended ([`Connection::close_within`](crate::Connection::close_within)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// Messages that were sent, to be answered, and were not: the broker may have them or not.
    pub unanswered: u64,
    /// Messages, at most, that were sent without waiting and that nothing proves the broker to have.
    pub unconfirmed: u64,
    /// Messages that were not sent.
    pub unsent: u64,
    /// Acknowledgements, of one message or several, that nothing proves the broker to have: what they are about may be
    /// delivered again.
    pub acknowledgements: u64,
    /// Commits and rollbacks without an answer.
    pub transactions: u64,
}

impl Unfinished {
    /// Everything was out.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// What was not out at several brokers.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            unanswered: self.unanswered + other.unanswered,
            unconfirmed: self.unconfirmed + other.unconfirmed,
            unsent: self.unsent + other.unsent,
            acknowledgements: self.acknowledgements + other.acknowledgements,
            transactions: self.transactions + other.transactions,
        }
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages unanswered, {} unconfirmed, {} unsent, {} acknowledgements and {} ends of transactions open",
            self.unanswered, self.unconfirmed, self.unsent, self.acknowledgements, self.transactions
        )
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            throwable: None,
            in_doubt: None,
            unfinished: None,
            xa: None,
            source: None,
        }
    }

    /// Nobody knows whether this transaction was committed.
    pub(crate) fn commit_in_doubt(transaction: &TransactionId, why: &str) -> Self {
        let what = format!("the commit of {transaction} may have happened or not: {why}");
        Self::branch_in_doubt(transaction, what)
    }

    /// Nobody knows how far this transaction is.
    pub(crate) fn branch_in_doubt(transaction: &TransactionId, message: String) -> Self {
        Self {
            in_doubt: Some(Arc::new(CommitInDoubt {
                transaction: transaction.to_string(),
            })),
            ..Self::new(ErrorKind::InDoubt, message)
        }
    }

    /// The end of a branch of a distributed transaction, or a step that cannot be.
    pub(crate) fn xa(code: XaCode, message: impl Into<String>) -> Self {
        Self {
            xa: Some(code),
            ..Self::new(code.kind(), message)
        }
    }

    /// What a transaction manager gets of it.
    pub(crate) fn with_xa(self, code: XaCode) -> Self {
        Self {
            xa: self.xa.or(Some(code)),
            ..self
        }
    }

    pub(crate) fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    pub(crate) fn with_unfinished(mut self, unfinished: Unfinished) -> Self {
        self.message = format!("{}: {unfinished}", self.message);
        self.unfinished = Some(Arc::new(unfinished));
        self
    }

    /// What was not out when the connection was closed, if this is the error of
    /// [`Connection::close_within`](crate::Connection::close_within).
    pub fn unfinished(&self) -> Option<&Unfinished> {
        self.unfinished.as_deref()
    }

    /// The error a broker answered with.
    pub(crate) fn from_throwable(throwable: Throwable) -> Self {
        // A broker may wrap the exception that says what is wrong into one that says nothing.
        let kind = std::iter::successors(Some(&throwable), |throwable| throwable.cause.as_deref())
            .find_map(kind_of)
            .unwrap_or(ErrorKind::Broker);
        let class = throwable
            .class
            .as_deref()
            .unwrap_or("an exception without a class");
        let message = match &throwable.message {
            Some(message) => format!("the broker answered with {class}: {message}"),
            None => format!("the broker answered with {class}"),
        };
        let xa = std::iter::successors(Some(&throwable), |throwable| throwable.cause.as_deref())
            .find_map(XaCode::of_throwable);
        let kind = match xa {
            Some(code) if kind == ErrorKind::Broker => code.kind(),
            _ => kind,
        };
        Self {
            throwable: Some(Arc::new(throwable)),
            xa,
            ..Self::new(kind, message)
        }
    }

    /// What the broker answered with, if it is the broker's error.
    pub fn throwable(&self) -> Option<&Throwable> {
        self.throwable.as_deref()
    }

    /// A deadline passed.
    pub fn is_timeout(&self) -> bool {
        self.kind == ErrorKind::Timeout
    }

    /// Wrong credentials, or not allowed (`JMSSecurityException`).
    pub fn is_security(&self) -> bool {
        self.kind == ErrorKind::Security
    }

    /// The credentials provider failed, or took too long.
    pub fn is_credentials(&self) -> bool {
        self.kind == ErrorKind::Credentials
    }

    /// The URI or an option of it is wrong.
    pub fn is_uri(&self) -> bool {
        self.kind == ErrorKind::Uri
    }

    /// The handle, or the connection it belongs to, was closed.
    pub fn is_closed(&self) -> bool {
        self.kind == ErrorKind::Closed
    }

    /// There is no connection, or it broke.
    pub fn is_io(&self) -> bool {
        self.kind == ErrorKind::Io
    }

    /// An argument or option cannot be (Java's `IllegalArgumentException`).
    pub fn is_invalid(&self) -> bool {
        self.kind == ErrorKind::Invalid
    }

    /// The operation is not allowed in this state (`IllegalStateException`).
    pub fn is_illegal_state(&self) -> bool {
        self.kind == ErrorKind::IllegalState
    }

    /// The client id is taken or missing (`InvalidClientIDException`).
    pub fn is_invalid_client_id(&self) -> bool {
        self.kind == ErrorKind::InvalidClientId
    }

    /// The destination does not exist or cannot be used so (`InvalidDestinationException`).
    pub fn is_invalid_destination(&self) -> bool {
        self.kind == ErrorKind::InvalidDestination
    }

    /// The selector does not parse (`InvalidSelectorException`).
    pub fn is_invalid_selector(&self) -> bool {
        self.kind == ErrorKind::InvalidSelector
    }

    /// The transaction was rolled back (`TransactionRolledBackException`).
    pub fn is_rolled_back(&self) -> bool {
        self.kind == ErrorKind::TransactionRolledBack
    }

    /// A commit was sent and its outcome is not known: it may have happened. [`in_doubt`](Self::in_doubt) says which. Or,
    /// with `jms.sendAcksAsync=false`, an acknowledgement was sent and not answered before the connection broke: the message is
    /// consumed, or comes again, and its consumer then acknowledges it once more and does not show it.
    pub fn is_in_doubt(&self) -> bool {
        self.kind == ErrorKind::InDoubt
    }

    /// The commit whose outcome is not known, if this is such an error.
    pub fn in_doubt(&self) -> Option<&CommitInDoubt> {
        self.in_doubt.as_deref()
    }

    /// The code that a transaction manager gets (`XAException.errorCode`), if this is the error of a step of a
    /// distributed transaction ([`XaSession`](crate::xa::XaSession)).
    pub fn xa_code(&self) -> Option<XaCode> {
        self.xa
    }

    /// The connection broke between the delivery of a message and its acknowledgement: the broker delivers it
    /// again.
    pub fn is_interrupted(&self) -> bool {
        self.kind == ErrorKind::Interrupted
    }

    /// A value cannot be converted so (`MessageFormatException`).
    pub fn is_message_format(&self) -> bool {
        self.kind == ErrorKind::MessageFormat
    }

    /// A stream or bytes body is at its end (`MessageEOFException`).
    pub fn is_message_eof(&self) -> bool {
        self.kind == ErrorKind::MessageEof
    }

    /// The broker has no room (`ResourceAllocationException`).
    pub fn is_resource_allocation(&self) -> bool {
        self.kind == ErrorKind::ResourceAllocation
    }

    /// This library or the broker cannot do what was asked.
    pub fn is_unsupported(&self) -> bool {
        self.kind == ErrorKind::Unsupported
    }

    /// What to do now.
    pub fn retry(&self) -> Retry {
        match self.kind {
            ErrorKind::Timeout | ErrorKind::ResourceAllocation => Retry::Again,
            ErrorKind::Io
            | ErrorKind::Closed
            | ErrorKind::Protocol
            | ErrorKind::Credentials
            | ErrorKind::InvalidClientId => Retry::Reconnect,
            ErrorKind::TransactionRolledBack => Retry::RedoTransaction,
            ErrorKind::InDoubt => Retry::Examine,
            ErrorKind::Xa if self.xa == Some(XaCode::Retry) => Retry::Again,
            _ => Retry::Never,
        }
    }
}

/// The kind that the class of an exception stands for.
fn kind_of(throwable: &Throwable) -> Option<ErrorKind> {
    Some(match throwable.simple_class() {
        "JMSSecurityException" | "SecurityException" => ErrorKind::Security,
        "InvalidClientIDException" => ErrorKind::InvalidClientId,
        "InvalidDestinationException" | "DestinationDoesNotExistException" => ErrorKind::InvalidDestination,
        "InvalidSelectorException" => ErrorKind::InvalidSelector,
        "ResourceAllocationException" => ErrorKind::ResourceAllocation,
        "TransactionRolledBackException" => ErrorKind::TransactionRolledBack,
        "IllegalStateException" => ErrorKind::IllegalState,
        _ => return None,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        Self::new(ErrorKind::Protocol, error.to_string()).with_source(error)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::new(crate::transport::error_kind(&error), error.to_string()).with_source(error)
    }
}
