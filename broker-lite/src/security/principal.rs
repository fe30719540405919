//! Who a connection belongs to.

use std::sync::Arc;

/// A user who was let in, with the groups it had then. Cheap to clone.
///
/// ActiveMQ's `SecurityContext` with its `UserPrincipal` and `GroupPrincipal`s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    user: Arc<str>,
    groups: Arc<[Arc<str>]>,
}

impl Principal {
    /// A user with its groups. A group that is named twice counts once.
    pub fn new<G: AsRef<str>>(user: impl Into<Arc<str>>, groups: impl IntoIterator<Item = G>) -> Self {
        let mut groups: Vec<Arc<str>> = groups.into_iter().map(|group| group.as_ref().into()).collect();
        groups.sort_unstable();
        groups.dedup();
        Self {
            user: user.into(),
            groups: groups.into(),
        }
    }

    /// The user's name, which ActiveMQ puts into `JMSXUserID`.
    pub fn user(&self) -> &Arc<str> {
        &self.user
    }

    /// The user's groups, sorted.
    pub fn groups(&self) -> &[Arc<str>] {
        &self.groups
    }
}
