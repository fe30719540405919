//! Why a command is refused, in the words and classes ActiveMQ's clients know.

use openwire_client::wire::{Command, ExceptionResponse, Throwable};

use crate::selector::SelectorError;
use crate::store::StoreError;

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

    pub(super) fn selector(error: &SelectorError) -> Self {
        Self::new(
            "javax.jms.InvalidSelectorException",
            format!("the selector is invalid {error}"),
        )
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

/// The answer to a request whose changes could not be stored, in place of the response.
pub(crate) fn not_stored(response: &Command, failure: &StoreError) -> Command {
    let refusal = match failure {
        StoreError::Full(_) => Refusal::resources(failure.to_string()),
        _ => Refusal::io(failure.to_string()),
    };
    refusal.answer_to(response)
}
