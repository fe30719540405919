//! `XPATH '…'`: XPath 1.0 on the body of a text or bytes message (ActiveMQ's `JAXPXPathEvaluator`).
//!
//! Whoever may consume writes the expression, whoever may produce writes the document, and the broker serves nobody
//! else meanwhile. So both are bounded before they are looked at, and the work is counted while it is done.

mod check;
mod tree;

#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::io::Read;

use flate2::read::ZlibDecoder;
use openwire_client::wire::{Message, MessageKind, decode_mutf8};
use xpath_eval::{EvaluationContext, Expr, evaluate_boolean, parse};

use super::{EvaluationError, SelectorErrorKind};
use tree::{Node, Work};

/// The longest document, in bytes.
const MAX_DOCUMENT: usize = 1024 * 1024;
/// The most elements, texts and attributes in one. Comparing two sets of nodes looks at each pair.
const MAX_NODES: usize = 10_000;
/// The most attributes of one element: the parser compares each with each.
const MAX_ATTRIBUTES: usize = 256;
/// The most declarations of namespaces: the parser copies those in scope for each.
const MAX_NAMESPACES: usize = 256;
/// The steps of one evaluation: nodes seen, and every 16 bytes of text copied.
const MAX_WORK: usize = 250_000;

/// A checked XPath expression. Boxed, because the conditions beside it are small and their stack frames many.
#[derive(Debug)]
pub(super) struct XPath(Box<Expr>);

impl XPath {
    /// Parses an expression, and refuses one that could never be evaluated.
    pub(super) fn parse(text: &str) -> Result<Self, (SelectorErrorKind, String)> {
        check::size(text)?;
        let expression =
            parse(text).map_err(|error| (SelectorErrorKind::Syntax, format!("no XPath: {error}")))?;
        check::expression(&expression)?;
        Ok(Self(Box::new(expression)))
    }

    /// False without a document. One that is too large, or too much work, is an error.
    pub(super) fn matches(&self, document: &Document<'_>) -> Result<bool, EvaluationError> {
        let Some(tree) = document.tree()? else {
            return Ok(false);
        };
        let work = Work::new(MAX_WORK);
        let result = evaluate_boolean(&self.0, &EvaluationContext::new(Node::root(tree, &work)));
        match work.is_spent() {
            true => Err(EvaluationError::TooMuch),
            // What is left to go wrong is a value of another type than a function takes.
            false => Ok(result.unwrap_or(false)),
        }
    }
}

/// The text of a body. It stands beside the [`Document`], which borrows from it.
#[derive(Default)]
pub(super) struct Text(OnceCell<String>);

/// A body as XML. It is parsed when it is first asked for, and once for all that a selector asks.
pub(super) struct Document<'a> {
    message: Option<&'a Message>,
    text: &'a Text,
    tree: OnceCell<Result<Option<roxmltree::Document<'a>>, EvaluationError>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a Text, message: Option<&'a Message>) -> Self {
        Self {
            message,
            text,
            tree: OnceCell::new(),
        }
    }

    fn tree(&self) -> Result<Option<&roxmltree::Document<'a>>, EvaluationError> {
        let tree = self.tree.get_or_init(|| {
            let Some(text) = self.message.map_or(Ok(None), body)? else {
                return Ok(None);
            };
            build(self.text.0.get_or_init(|| text))
        });
        tree.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }
}

/// The body as text; none if it is no text.
fn body(message: &Message) -> Result<Option<String>, EvaluationError> {
    let (content, prefix) = match (message.kind, &message.content) {
        // The length of the text, and of the bytes if they are deflated, stands before it.
        (MessageKind::Text, Some(content)) => (content, 4),
        (MessageKind::Bytes, Some(content)) if message.compressed => (content, 4),
        (MessageKind::Bytes, Some(content)) => (content, 0),
        _ => return Ok(None),
    };
    let mut inflated = Vec::new();
    let bytes = if message.compressed {
        let start = if message.kind == MessageKind::Bytes {
            prefix
        } else {
            0
        };
        let limit = (MAX_DOCUMENT + prefix + 1) as u64;
        let Some(deflated) = content.get(start..) else {
            return Ok(None);
        };
        if ZlibDecoder::new(deflated)
            .take(limit)
            .read_to_end(&mut inflated)
            .is_err()
        {
            return Ok(None);
        }
        match message.kind {
            MessageKind::Text => inflated.get(prefix..),
            // Java deflates its whole buffer: what comes after the declared length is padding.
            _ => declared(content).map(|length| &inflated[..length.min(inflated.len())]),
        }
    } else {
        content.get(prefix..)
    };
    let Some(bytes) = bytes else { return Ok(None) };
    if bytes.len() > MAX_DOCUMENT {
        return Err(EvaluationError::TooMuch);
    }
    Ok(match message.kind {
        MessageKind::Text => decode_mutf8(bytes).ok().map(Into::into),
        _ => std::str::from_utf8(bytes).ok().map(Into::into),
    })
}

fn declared(content: &[u8]) -> Option<usize> {
    let length = i32::from_be_bytes(*content.first_chunk()?);
    usize::try_from(length).ok()
}

/// The tree; none if the text is not XML.
fn build(text: &str) -> Result<Option<roxmltree::Document<'_>>, EvaluationError> {
    let namespaces = text.matches("xmlns").count();
    if namespaces > MAX_NAMESPACES || text.split('<').any(|tag| attributes(tag) > MAX_ATTRIBUTES) {
        return Err(EvaluationError::TooMuch);
    }
    let options = roxmltree::ParsingOptions {
        allow_dtd: false,
        nodes_limit: MAX_NODES as u32,
        ..Default::default()
    };
    match roxmltree::Document::parse_with_options(text, options) {
        Ok(tree) => {
            let attributes: usize = tree.descendants().map(|node| node.attributes().len()).sum();
            match attributes > MAX_NODES {
                true => Err(EvaluationError::TooMuch),
                false => Ok(Some(tree)),
            }
        }
        Err(roxmltree::Error::NodesLimitReached) => Err(EvaluationError::TooMuch),
        Err(_) => Ok(None),
    }
}

/// How many attributes what follows a `<` can have, were it a tag: no `<` stands in one.
fn attributes(tag: &str) -> usize {
    let mut values = 0;
    let mut quote = None;
    for byte in tag.bytes() {
        match (quote, byte) {
            (None, b'>') => break,
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                values += 1;
            }
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    values
}
