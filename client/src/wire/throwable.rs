//! Java throwables as data.

use std::sync::Arc;

/// An exception as it stands on the wire: names and numbers, never a type to be created.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Throwable {
    /// The Java class name, such as `javax.jms.InvalidDestinationException`.
    pub class: Option<Arc<str>>,
    /// The message.
    pub message: Option<Arc<str>>,
    /// The stack trace; empty unless `StackTraceEnabled` was agreed.
    pub stack_trace: Vec<StackTraceElement>,
    /// The cause; absent unless `StackTraceEnabled` was agreed.
    pub cause: Option<Box<Self>>,
}

/// One line of a stack trace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StackTraceElement {
    /// The class.
    pub class: Option<Arc<str>>,
    /// The method.
    pub method: Option<Arc<str>>,
    /// The source file, if known.
    pub file: Option<Arc<str>>,
    /// The line; -1 unknown, -2 a native method.
    pub line: i32,
}

impl Throwable {
    /// A throwable of a class with a message.
    pub fn new(class: &str, message: impl AsRef<str>) -> Self {
        Self {
            class: Some(class.into()),
            message: Some(message.as_ref().into()),
            ..Self::default()
        }
    }

    /// The class name without its package: `InvalidDestinationException`.
    pub fn simple_class(&self) -> &str {
        let class = self.class.as_deref().unwrap_or_default();
        class.rsplit(['.', '$']).next().unwrap_or(class)
    }
}
