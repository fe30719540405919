//! A check, and how it ends.

use std::fmt::{self, Debug};
use std::panic::Location;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use openwire_client::{Error, Result};

use crate::scene::Scene;

/// A check that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(60);

/// As above, for one that restarts its broker or waits for a full minute.
const LONG: Duration = Duration::from_secs(120);

/// What a check does with the broker of its scene.
pub(crate) type Body = for<'a> fn(&'a Scene) -> LocalBoxFuture<'a, Outcome>;

/// How a check ends.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Something every broker has to do.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) limit: Duration,
    /// It restarts its broker, which has to be one of its own with a store.
    pub(crate) restarts: bool,
    /// It waits for a minute, so it runs only if it is asked for.
    pub(crate) slow: bool,
    pub(crate) body: Body,
}

impl Check {
    pub(crate) const fn new(name: &'static str, body: Body) -> Self {
        Self {
            name,
            limit: LIMIT,
            restarts: false,
            slow: false,
            body,
        }
    }

    /// One that waits for a minute.
    pub(crate) const fn slow(name: &'static str, body: Body) -> Self {
        Self {
            slow: true,
            limit: LONG,
            ..Self::new(name, body)
        }
    }

    /// One that restarts its broker.
    pub(crate) const fn restarting(name: &'static str, body: Body) -> Self {
        Self {
            restarts: true,
            limit: LONG,
            ..Self::new(name, body)
        }
    }
}

/// Why a check failed, and where.
pub(crate) struct Failure {
    why: String,
    place: &'static Location<'static>,
}

impl Failure {
    #[track_caller]
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            place: Location::caller(),
        }
    }

    /// Adds something that may explain it.
    pub(crate) fn add(&mut self, more: &str) {
        self.why.push_str("; ");
        self.why.push_str(more);
    }
}

impl From<Error> for Failure {
    #[track_caller]
    fn from(error: Error) -> Self {
        Self::new(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at {})", self.why, self.place)
    }
}

impl Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Fails unless something is so.
#[track_caller]
pub(crate) fn ensure(so: bool, what: impl fmt::Display) -> Outcome {
    match so {
        true => Ok(()),
        false => Err(Failure::new(format!("not so: {what}"))),
    }
}

/// Fails unless `actual` is what it should be.
#[track_caller]
pub(crate) fn same<A, B>(what: impl fmt::Display, actual: A, expected: B) -> Outcome
where
    A: PartialEq<B> + Debug,
    B: Debug,
{
    match actual == expected {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "{what}: expected {}, got {}",
            short(&expected),
            short(&actual)
        ))),
    }
}

/// Fails unless the error is there and answers the question with yes.
#[track_caller]
pub(crate) fn refused<T>(
    what: impl fmt::Display,
    result: Result<T>,
    question: impl FnOnce(&Error) -> bool,
) -> Outcome {
    match result {
        Err(error) if question(&error) => Ok(()),
        Err(error) => Err(Failure::new(format!("{what}: refused in the wrong way: {error}"))),
        Ok(_) => Err(Failure::new(format!("{what} was not refused"))),
    }
}

/// A value that may be large.
fn short(value: &impl Debug) -> String {
    const MOST: usize = 300;
    let text = format!("{value:?}");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}
