//! One entry of an authorization map, as ActiveMQ's `authorizationEntry` has it.

use std::fmt;
use std::str::FromStr;

use super::principal::Principal;

/// Gives rights on destinations to groups: `authorizationEntry`, `tempDestinationAuthorizationEntry`,
/// `defaultEntry`.
///
/// Groups are names separated by commas; `*` is everybody. As text, for the command line:
/// `queue=ORDERS.>;read=clerks;write=clerks,shops;admin=admins`, where `topic=PATTERN`, `temporary` or `default`
/// can stand in place of `queue=PATTERN`.
///
/// ```
/// use broker_lite::security::AuthorizationEntry;
///
/// let entry = AuthorizationEntry::queue("ORDERS.>").read("clerks").write("clerks,shops").admin("admins");
/// let text = "queue=ORDERS.>;read=clerks;write=clerks,shops;admin=admins";
/// assert_eq!(text.parse(), Ok(entry));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct AuthorizationEntry {
    pub(super) scope: Scope,
    pub(super) rights: Rights,
}

/// What an entry is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    Queue(String),
    Topic(String),
    Temporary,
    Default,
}

/// Who may do what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) read: Groups,
    pub(super) write: Groups,
    pub(super) admin: Groups,
}

/// Groups that have a right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Groups {
    everybody: bool,
    /// Sorted.
    names: Vec<Box<str>>,
}

impl Groups {
    fn parse(text: &str) -> Self {
        let mut groups = Self::default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name == "*" {
                groups.everybody = true;
            } else {
                groups.names.push(name.into());
            }
        }
        groups.names.sort_unstable();
        groups.names.dedup();
        groups
    }

    pub(super) fn has(&self, principal: &Principal) -> bool {
        let named = |group: &str| self.names.binary_search_by(|name| (**name).cmp(group)).is_ok();
        self.everybody || principal.groups().iter().any(|group| named(group))
    }
}

impl AuthorizationEntry {
    fn new(scope: Scope) -> Self {
        Self {
            scope,
            rights: Rights::default(),
        }
    }

    /// For the queues of a name or pattern: `*` stands for one part between dots, `>` for all that follow.
    pub fn queue(pattern: impl Into<String>) -> Self {
        Self::new(Scope::Queue(pattern.into()))
    }

    /// For the topics of a name or pattern. `ActiveMQ.Advisory.>` are those on which the broker tells what happens
    /// to it; if no entry is for topics below `ActiveMQ`, everybody may read what clients need of them.
    pub fn topic(pattern: impl Into<String>) -> Self {
        Self::new(Scope::Topic(pattern.into()))
    }

    /// `tempDestinationAuthorizationEntry`, for temporary destinations. Without it everybody may use them.
    pub fn temporary() -> Self {
        Self::new(Scope::Temporary)
    }

    /// `defaultEntry`: holds for every destination but temporary ones, beside the entries that match.
    pub fn default_entry() -> Self {
        Self::new(Scope::Default)
    }

    /// `read`: these groups may consume and browse. Nobody by default, as for the others.
    pub fn read(mut self, groups: &str) -> Self {
        self.rights.read = Groups::parse(groups);
        self
    }

    /// `write`: these groups may send.
    pub fn write(mut self, groups: &str) -> Self {
        self.rights.write = Groups::parse(groups);
        self
    }

    /// `admin`: these groups may make and remove the destination. Whoever uses one first makes it.
    pub fn admin(mut self, groups: &str) -> Self {
        self.rights.admin = Groups::parse(groups);
        self
    }
}

/// A text is not an [`AuthorizationEntry`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEntry(String);

impl fmt::Display for InvalidEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidEntry {}

impl FromStr for AuthorizationEntry {
    type Err = InvalidEntry;

    fn from_str(text: &str) -> Result<Self, InvalidEntry> {
        let (mut scope, mut read, mut write, mut admin) = (None, None, None, None);
        let twice = |what: &str| InvalidEntry(format!("an authorization entry says {what} twice: {text}"));
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (part, None),
            };
            let groups = match (name, value) {
                ("queue" | "topic", Some("")) => {
                    return Err(InvalidEntry(format!("{name}= names no destination: {text}")));
                }
                ("queue", Some(pattern)) => {
                    if scope.replace(Self::queue(pattern)).is_some() {
                        return Err(twice("what it is for"));
                    }
                    continue;
                }
                ("topic", Some(pattern)) => {
                    if scope.replace(Self::topic(pattern)).is_some() {
                        return Err(twice("what it is for"));
                    }
                    continue;
                }
                ("temporary", None) => {
                    if scope.replace(Self::temporary()).is_some() {
                        return Err(twice("what it is for"));
                    }
                    continue;
                }
                ("default", None) => {
                    if scope.replace(Self::default_entry()).is_some() {
                        return Err(twice("what it is for"));
                    }
                    continue;
                }
                ("read", Some(groups)) => (&mut read, groups),
                ("write", Some(groups)) => (&mut write, groups),
                ("admin", Some(groups)) => (&mut admin, groups),
                _ => {
                    return Err(InvalidEntry(format!(
                        "an authorization entry has queue=, topic=, temporary or default, and read=, write=, \
                         admin=, but not {part}"
                    )));
                }
            };
            if groups.0.replace(groups.1).is_some() {
                return Err(twice(name));
            }
        }
        let entry = scope.ok_or_else(|| {
            InvalidEntry(format!(
                "an authorization entry needs queue=, topic=, temporary or default: {text}"
            ))
        })?;
        Ok(entry
            .read(read.unwrap_or_default())
            .write(write.unwrap_or_default())
            .admin(admin.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_as_text() {
        let parse = |text: &str| text.parse::<AuthorizationEntry>();
        assert_eq!(
            parse(" topic = A.* ; write = a , b,, a; read=* "),
            Ok(AuthorizationEntry::topic("A.*").read("*").write("b,a"))
        );
        assert_eq!(
            parse("temporary;admin=x"),
            Ok(AuthorizationEntry::temporary().admin("x"))
        );
        assert_eq!(parse("default"), Ok(AuthorizationEntry::default_entry()));
        for (wrong, says) in [
            ("", "needs queue="),
            ("read=a", "needs queue="),
            ("queue=;read=a", "names no destination"),
            ("queue=A;topic=B", "twice"),
            ("queue=A;read=a;read=b", "read twice"),
            ("queue=A;delete=a", "delete=a"),
            ("temporary=A", "temporary=A"),
            ("queue;read=a", "not queue"),
        ] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
