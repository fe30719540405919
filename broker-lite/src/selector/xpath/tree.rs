//! An XML tree as XPath sees it, and the account of what looking at it costs.

use std::cell::Cell;
use std::cmp::Ordering;

use roxmltree::NodeType;
use xpath_eval::{ExpandedName, NodeKind};

/// Bytes of text that count as one step.
const BYTES_PER_STEP: usize = 16;

/// How many steps an evaluation may still take.
///
/// When it is spent the tree seems to end: every walk that is under way stops, and what comes of it is thrown away.
pub(super) struct Work(Cell<usize>);

impl Work {
    pub(super) fn new(steps: usize) -> Self {
        Self(Cell::new(steps))
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    fn spend(&self, steps: usize) -> bool {
        self.0.set(self.0.get().saturating_sub(steps));
        !self.is_spent()
    }
}

/// A node of the tree, an attribute or a namespace. Comments are left out, as ActiveMQ does.
#[derive(Clone, Copy)]
pub(super) struct Node<'t> {
    /// The node, or the element it belongs to.
    tree: roxmltree::Node<'t, 't>,
    part: Part<'t>,
    work: &'t Work,
}

#[derive(Clone, Copy)]
enum Part<'t> {
    Itself,
    Namespace(usize, &'t roxmltree::Namespace<'t>),
    Attribute(usize, roxmltree::Attribute<'t, 't>),
}

impl<'t> Node<'t> {
    pub(super) fn root(document: &'t roxmltree::Document<'t>, work: &'t Work) -> Self {
        Self::of(document.root(), work)
    }

    fn of(tree: roxmltree::Node<'t, 't>, work: &'t Work) -> Self {
        Self {
            tree,
            part: Part::Itself,
            work,
        }
    }

    /// Its place in document order: namespaces, then attributes, after their element.
    fn place(self) -> (u32, usize, usize) {
        let (rank, index) = match self.part {
            Part::Itself => (0, 0),
            Part::Namespace(index, _) => (1, index),
            Part::Attribute(index, _) => (2, index),
        };
        (self.tree.id().get(), rank, index)
    }

    fn name(self) -> Option<(Option<&'t str>, &'t str)> {
        match self.part {
            Part::Namespace(_, namespace) => Some((None, namespace.name().unwrap_or_default())),
            Part::Attribute(_, attribute) => Some((attribute.namespace(), attribute.name())),
            Part::Itself => match self.tree.node_type() {
                NodeType::Element => {
                    let name = self.tree.tag_name();
                    Some((name.namespace(), name.name()))
                }
                NodeType::PI => Some((None, self.tree.pi()?.target)),
                NodeType::Root | NodeType::Text | NodeType::Comment => None,
            },
        }
    }

    /// The text of a node that has one of its own.
    fn text(self) -> Option<&'t str> {
        let text = match self.part {
            Part::Namespace(_, namespace) => namespace.uri(),
            Part::Attribute(_, attribute) => attribute.value(),
            Part::Itself => match self.tree.node_type() {
                NodeType::Root | NodeType::Element => return None,
                NodeType::Text => self.tree.text().unwrap_or_default(),
                NodeType::PI => self.tree.pi().and_then(|pi| pi.value).unwrap_or_default(),
                NodeType::Comment => "",
            },
        };
        let affordable = self.work.spend(1 + text.len() / BYTES_PER_STEP);
        Some(if affordable { text } else { "" })
    }
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Node<'_> {}

impl<'t> xpath_eval::Node<'t> for Node<'t> {
    fn kind(self) -> NodeKind {
        match self.part {
            Part::Namespace(..) => NodeKind::Namespace,
            Part::Attribute(..) => NodeKind::Attribute,
            Part::Itself => match self.tree.node_type() {
                NodeType::Root => NodeKind::Root,
                NodeType::Element => NodeKind::Element,
                NodeType::PI => NodeKind::ProcessingInstruction,
                NodeType::Comment => NodeKind::Comment,
                NodeType::Text => NodeKind::Text,
            },
        }
    }

    fn parent(self) -> Option<Self> {
        let affordable = self.work.spend(1);
        match self.part {
            // Always there: whoever asks relies on it.
            Part::Namespace(..) | Part::Attribute(..) => Some(Self::of(self.tree, self.work)),
            Part::Itself if affordable => Some(Self::of(self.tree.parent()?, self.work)),
            Part::Itself => None,
        }
    }

    fn children(self) -> impl Iterator<Item = Self> + 't {
        let children = matches!(self.part, Part::Itself).then(|| self.tree.children());
        children
            .into_iter()
            .flatten()
            .take_while(move |_| self.work.spend(1))
            .filter(|child| !child.is_comment())
            .map(move |child| Self::of(child, self.work))
    }

    fn attributes(self) -> impl Iterator<Item = Self> + 't {
        let attributes = matches!(self.part, Part::Itself).then(|| self.tree.attributes());
        attributes
            .into_iter()
            .flatten()
            .enumerate()
            .take_while(move |_| self.work.spend(1))
            .map(move |(index, attribute)| Self {
                part: Part::Attribute(index, attribute),
                ..self
            })
    }

    fn namespaces(self) -> impl Iterator<Item = Self> + 't {
        let namespaces = matches!(self.part, Part::Itself).then(|| self.tree.namespaces());
        namespaces
            .into_iter()
            .flatten()
            .enumerate()
            .take_while(move |_| self.work.spend(1))
            .map(move |(index, namespace)| Self {
                part: Part::Namespace(index, namespace),
                ..self
            })
    }

    fn expanded_name(self) -> Option<ExpandedName> {
        self.work.spend(1);
        self.name().map(|(uri, local)| ExpandedName {
            namespace_uri: uri.map(Into::into),
            local_name: local.into(),
        })
    }

    fn has_expanded_name(self, namespace_uri: Option<&str>, local_name: &str) -> bool {
        self.name() == Some((namespace_uri, local_name))
    }

    fn string_value(self) -> String {
        if let Some(text) = self.text() {
            return text.into();
        }
        let mut value = String::new();
        for node in self.tree.descendants() {
            let text = Some(node)
                .filter(roxmltree::Node::is_text)
                .and_then(|node| node.text());
            let text = text.unwrap_or_default();
            if !self.work.spend(1 + text.len() / BYTES_PER_STEP) {
                break;
            }
            value.push_str(text);
        }
        value
    }

    fn with_string_value<R>(self, f: impl FnOnce(&str) -> R) -> R {
        match self.text() {
            Some(text) => f(text),
            None => f(&self.string_value()),
        }
    }

    fn document_order(self, other: Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}
