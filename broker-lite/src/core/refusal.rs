//! Why a command is refused, in the words and classes ActiveMQ's clients know.

use openwire_client::wire::{Command, ExceptionResponse, Throwable};

use crate::selector::SelectorError;
use crate::store::StoreError;

/// The error codes of `XAException`: the commit had no effect, and can be tried again.
pub(super) const XA_RETRY: i32 = 4;
/// The branch was rolled back.
pub(super) const XA_RBROLLBACK: i32 = 100;
/// The branch was rolled back because the store refused it.
pub(super) const XA_RBCOMMFAIL: i32 = 101;
/// The step had no effect.
pub(super) const XAER_RMERR: i32 = -3;
/// There is no such branch.
pub(super) const XAER_NOTA: i32 = -4;
/// The branch is not where this step could follow.
pub(super) const XAER_PROTO: i32 = -6;
/// The step can be tried again, or its effect is not known.
pub(super) const XAER_RMFAIL: i32 = -7;

/// A command that is refused and had no effect.
#[derive(Debug)]
pub(super) struct Refusal {
    class: &'static str,
    message: String,
}

impl Refusal {
    fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }

    pub(super) fn jms(message: impl Into<String>) -> Self {
        Self::new("javax.jms.JMSException", message)
    }

    pub(super) fn illegal_state(message: impl Into<String>) -> Self {
        Self::new("java.lang.IllegalStateException", message)
    }

    pub(super) fn client_id(message: impl Into<String>) -> Self {
        Self::new("javax.jms.InvalidClientIDException", message)
    }

    pub(super) fn destination(message: impl Into<String>) -> Self {
        Self::new("javax.jms.InvalidDestinationException", message)
    }

    pub(super) fn no_such_temporary(name: &str) -> Self {
        Self::new(
            "org.apache.activemq.DestinationDoesNotExistException",
            format!("The destination {name} does not exist."),
        )
    }

    pub(super) fn resources(message: impl Into<String>) -> Self {
        Self::new("javax.jms.ResourceAllocationException", message)
    }

    pub(super) fn io(message: impl Into<String>) -> Self {
        Self::new("java.io.IOException", message)
    }

    /// Clients throw it as a `JMSSecurityException`.
    pub(super) fn security(message: impl Into<String>) -> Self {
        Self::new("java.lang.SecurityException", message)
    }

    /// Properties that cannot be used.
    pub(super) fn message_format(why: impl std::fmt::Display) -> Self {
        Self::new("javax.jms.MessageFormatException", why.to_string())
    }

    pub(super) fn selector(error: &SelectorError) -> Self {
        Self::new(
            "javax.jms.InvalidSelectorException",
            format!("the selector is invalid {error}"),
        )
    }

    /// A step of a distributed transaction is refused. Clients read the code in the message.
    pub(super) fn xa(message: impl Into<String>, code: i32) -> Self {
        let message = format!("{} xaErrorCode:{code}", message.into());
        Self::new("javax.transaction.xa.XAException", message)
    }

    pub(super) fn rolled_back(message: impl Into<String>) -> Self {
        Self::new("javax.jms.TransactionRolledBackException", message)
    }

    /// Something ActiveMQ can do and this broker cannot.
    pub(super) fn unsupported(what: &str) -> Self {
        Self::jms(format!("{what} not supported by this broker"))
    }

    /// The answer to a request that is refused, in place of the response.
    pub(super) fn answer_to(&self, response: &Command) -> Command {
        Box::new(ExceptionResponse {
            correlation_id: response.correlation_id().unwrap_or_default(),
            exception: Some(self.throwable()),
            ..ExceptionResponse::default()
        })
        .into()
    }

    pub(super) fn throwable(&self) -> Throwable {
        Throwable::new(self.class, &self.message)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// The answer to a step of a branch that could not be stored, in place of the response: with this code if it had no
/// effect.
pub(super) fn branch_not_stored(response: &Command, failure: &StoreError, code: i32) -> Command {
    let code = match failure {
        StoreError::Full(_) | StoreError::Refused(_) => code,
        _ => XAER_RMFAIL,
    };
    Refusal::xa(failure.to_string(), code).answer_to(response)
}

/// The answer to a request whose changes could not be stored, in place of the response.
pub(crate) fn not_stored(response: &Command, failure: &StoreError) -> Command {
    let refusal = match failure {
        StoreError::Full(_) => Refusal::resources(failure.to_string()),
        _ => Refusal::io(failure.to_string()),
    };
    refusal.answer_to(response)
}
