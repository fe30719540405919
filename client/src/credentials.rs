//! Who connects, asked for at each connect.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;

use crate::error::{Error, ErrorKind, Result};
use crate::options::Password;
use crate::uri::Endpoint;

/// Who connects.
#[derive(Debug, Clone, PartialEq)]
pub struct Credentials {
    /// The user name.
    pub user: String,
    /// The password, which is not shown.
    pub password: Password,
}

impl Credentials {
    /// Credentials of a user name and a password.
    pub fn new(user: impl Into<String>, password: impl Into<Password>) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
        }
    }
}

/// Knows who connects, for credentials that change: a secret that is rotated, a token that expires.
///
/// ```
/// use openwire_client::{Credentials, CredentialsProvider, Endpoint};
///
/// struct FromEnvironment;
///
/// #[async_trait::async_trait]
/// impl CredentialsProvider for FromEnvironment {
///     async fn credentials(
///         &self,
///         _broker: &Endpoint,
///     ) -> Result<Credentials, Box<dyn std::error::Error + Send + Sync>> {
///         Ok(Credentials::new("shop", std::env::var("BROKER_PASSWORD")?))
///     }
/// }
/// ```
#[async_trait]
pub trait CredentialsProvider: Send + Sync + 'static {
    /// The credentials for a connection to `broker`, which has been reached and waits.
    ///
    /// # Errors
    ///
    /// Any: the attempt to connect has failed then, and is repeated where the URI says so.
    async fn credentials(
        &self,
        broker: &Endpoint,
    ) -> Result<Credentials, Box<dyn std::error::Error + Send + Sync>>;
}

/// A provider, and how long it may take.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) provider: Arc<dyn CredentialsProvider>,
    pub(crate) timeout: Option<Duration>,
}

impl Provider {
    pub(crate) async fn ask(&self, broker: &Endpoint) -> Result<Credentials> {
        // It is not ours, and what it does must not take the connection down.
        let asked = AssertUnwindSafe(self.provider.credentials(broker)).catch_unwind();
        let answer = match self.timeout {
            None => asked.await,
            Some(limit) => tokio::time::timeout(limit, asked).await.map_err(|_| {
                failed(format!(
                    "the credentials provider did not answer within {limit:?}"
                ))
            })?,
        };
        match answer {
            Ok(Ok(credentials)) => Ok(credentials),
            Ok(Err(error)) => {
                Err(failed(format!("the credentials provider failed: {error}")).with_source(Boxed(error)))
            }
            Err(_) => Err(failed("the credentials provider panicked".into())),
        }
    }
}

fn failed(what: String) -> Error {
    Error::new(ErrorKind::Credentials, what)
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A boxed error is no error itself.
#[derive(Debug)]
struct Boxed(Box<dyn std::error::Error + Send + Sync>);

impl fmt::Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Boxed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
