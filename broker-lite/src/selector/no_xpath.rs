//! `XPATH` in a broker that was built without it.

use std::convert::Infallible;
use std::marker::PhantomData;

use openwire_client::wire::Message;

use super::{EvaluationError, SelectorErrorKind};

/// An XPath expression: there is none.
#[derive(Debug)]
pub(super) struct XPath(Infallible);

impl XPath {
    pub(super) fn parse(_: &str) -> Result<Self, (SelectorErrorKind, String)> {
        Err((
            SelectorErrorKind::Unsupported,
            "XPATH needs a broker that is built with the cargo feature `xpath`".to_owned(),
        ))
    }

    pub(super) fn matches(&self, _: &Document<'_>) -> Result<bool, EvaluationError> {
        match self.0 {}
    }
}

/// The text of a body, which nobody asks for.
#[derive(Default)]
pub(super) struct Text(());

/// A body as XML, which nobody asks for.
pub(super) struct Document<'a>(PhantomData<&'a Text>);

impl<'a> Document<'a> {
    pub(super) fn new(_: &'a Text, _: Option<&'a Message>) -> Self {
        Self(PhantomData)
    }
}
