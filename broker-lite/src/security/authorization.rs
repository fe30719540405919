//! Who may do what: ActiveMQ's `authorizationPlugin` with its map of entries.

use std::fmt;

use openwire_client::wire::Destination;
use rustc_hash::FxHashMap;

use super::entry::{AuthorizationEntry, Rights, Scope};
use super::pattern::Patterns;
use super::principal::Principal;

/// Destinations of which a connection remembers what it may do there. Beyond it all are forgotten and asked for
/// again, which is what a client that uses ever new names costs.
const REMEMBERED: usize = 1024;

/// The topics that every client listens to for itself, or it could not use temporary destinations of others.
const FOR_EVERY_CLIENT: [&str; 2] = ["ActiveMQ.Advisory.TempQueue", "ActiveMQ.Advisory.TempTopic"];

/// Something that needs a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// To consume or to browse: needs `read`.
    Read,
    /// To make a producer, and to send: needs `write`.
    Write,
    /// To make a destination that is not there: needs `admin`. To use one that is there does not.
    Create,
    /// To remove a destination: needs `admin`.
    Remove,
}

impl Action {
    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn groups(self, rights: &Rights) -> &super::entry::Groups {
        match self {
            Self::Read => &rights.read,
            Self::Write => &rights.write,
            Self::Create | Self::Remove => &rights.admin,
        }
    }
}

/// The entries of a broker, made ready to be asked.
///
/// A principal may do what *any* entry that matches the destination gives to one of its groups, and what the
/// default entry does; without either, nothing. What matches is what matches in ActiveMQ: `A.>` also matches
/// `A`, and of a wildcard destination an entry need only touch a part, because a consumer that gets one is
/// checked again for each destination it then reads. Three things are different on purpose:
///
/// * A composite destination is allowed if each of its parts is. ActiveMQ wants one entry that matches them all.
/// * To remove a destination needs `admin`. ActiveMQ asks only if the destination is not there.
/// * Everybody may read `ActiveMQ.Advisory.TempQueue` and `ActiveMQ.Advisory.TempTopic`, which each client
///   does when it connects, unless an entry names topics below `ActiveMQ`. With ActiveMQ nobody gets as far as
///   connecting without such an entry.
#[derive(Debug)]
pub struct Authorization {
    queues: Patterns,
    topics: Patterns,
    rights: Vec<Rights>,
    default: Option<Rights>,
    temporary: Option<Rights>,
    advisories_named: bool,
}

impl Authorization {
    /// Makes entries ready. Of several default entries, or entries for temporary destinations, the last counts.
    pub fn new(entries: impl IntoIterator<Item = AuthorizationEntry>) -> Self {
        let mut authorization = Self {
            queues: Patterns::default(),
            topics: Patterns::default(),
            rights: Vec::new(),
            default: None,
            temporary: None,
            advisories_named: false,
        };
        for AuthorizationEntry { scope, rights } in entries {
            let patterns = match scope {
                Scope::Default => {
                    authorization.default = Some(rights);
                    continue;
                }
                Scope::Temporary => {
                    authorization.temporary = Some(rights);
                    continue;
                }
                Scope::Queue(name) => (&mut authorization.queues, name),
                Scope::Topic(name) => {
                    authorization.advisories_named |= name.split('.').next() == Some("ActiveMQ");
                    (&mut authorization.topics, name)
                }
            };
            let (patterns, name) = patterns;
            patterns.insert(&name, authorization.rights.len());
            authorization.rights.push(rights);
        }
        authorization
    }

    /// True if the principal may do it. Takes time in proportion to the entries that match; see [`Grants`].
    ///
    /// To temporary destinations only their own entry applies, and without one everybody may do everything. That
    /// nobody reads the temporary destination of another connection is the core's affair.
    pub fn may(&self, principal: &Principal, action: Action, destination: &Destination) -> bool {
        if destination.is_composite() {
            let mut parts = destination
                .name()
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .peekable();
            return parts.peek().is_some()
                && parts.all(|part| {
                    self.may_one(principal, action, &Destination::parse(part, destination.kind()))
                });
        }
        self.may_one(principal, action, destination)
    }

    fn may_one(&self, principal: &Principal, action: Action, destination: &Destination) -> bool {
        let gives = |rights: &Rights| action.groups(rights).has(principal);
        if destination.is_temporary() {
            return self.temporary.as_ref().is_none_or(gives);
        }
        if self.default.as_ref().is_some_and(gives) {
            return true;
        }
        if action == Action::Read
            && !self.advisories_named
            && destination.is_topic()
            && FOR_EVERY_CLIENT.contains(&destination.name())
        {
            return true;
        }
        let patterns = if destination.is_queue() {
            &self.queues
        } else {
            &self.topics
        };
        patterns.any(destination.name(), |entry| gives(&self.rights[entry]))
    }
}

/// What a connection found out about its rights, so that each message needs only a look. Bounded.
///
/// Entries do not change while a broker runs, and neither do the groups of a connection.
#[derive(Debug, Default)]
pub struct Grants(FxHashMap<Destination, Known>);

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    asked: u8,
    allowed: u8,
}

impl Grants {
    /// The same as [`Authorization::may`], remembered.
    pub fn may(
        &mut self,
        authorization: &Authorization,
        principal: &Principal,
        action: Action,
        destination: &Destination,
    ) -> bool {
        let bit = action.bit();
        if let Some(known) = self.0.get(destination)
            && known.asked & bit != 0
        {
            return known.allowed & bit != 0;
        }
        let may = authorization.may(principal, action, destination);
        if self.0.len() >= REMEMBERED && !self.0.contains_key(destination) {
            self.0.clear();
        }
        let known = self.0.entry(destination.clone()).or_default();
        known.asked |= bit;
        if may {
            known.allowed |= bit;
        }
        may
    }
}

/// Why something was refused, in ActiveMQ's words. Clients throw it as a `JMSSecurityException`.
#[derive(Debug, Clone, Copy)]
pub struct Denied<'a> {
    /// Who wanted it; nobody who has said who it is, if none.
    pub principal: Option<&'a Principal>,
    /// What.
    pub action: Action,
    /// Where.
    pub destination: &'a Destination,
}

impl fmt::Display for Denied<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(principal) = self.principal else {
            return f.write_str("User is not authenticated.");
        };
        let action = match self.action {
            Action::Read => "read from",
            Action::Write => "write to",
            Action::Create => "create",
            Action::Remove => "remove",
        };
        write!(f, "User {} is not authorized to {action}: ", principal.user())?;
        if self.destination.is_composite() {
            f.write_str(self.destination.name())
        } else {
            self.destination.fmt(f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorization(entries: &[&str]) -> Authorization {
        Authorization::new(entries.iter().map(|entry| entry.parse().unwrap()))
    }

    fn ada() -> Principal {
        Principal::new("ada", ["users", "makers"])
    }

    #[test]
    fn without_an_entry_nothing_is_allowed() {
        let authorization = authorization(&["queue=A;read=users"]);
        let may = |action, destination: &Destination| authorization.may(&ada(), action, destination);
        assert!(may(Action::Read, &Destination::queue("A")));
        assert!(!may(Action::Write, &Destination::queue("A")));
        assert!(!may(Action::Create, &Destination::queue("A")));
        assert!(!may(Action::Read, &Destination::topic("A")));
        assert!(!may(Action::Read, &Destination::queue("B")));
        let nobody = Principal::new("ada", [""; 0]);
        assert!(!authorization.may(&nobody, Action::Read, &Destination::queue("A")));
    }

    #[test]
    fn a_user_is_not_the_group_of_the_same_name() {
        let authorization = authorization(&["queue=A;read=ada"]);
        assert!(!authorization.may(&ada(), Action::Read, &Destination::queue("A")));
    }

    #[test]
    fn every_entry_that_matches_gives_something() {
        let authorization = authorization(&[
            "queue=>;read=admins",
            "queue=A.>;write=users",
            "queue=A.*;admin=makers",
            "default;read=boss",
        ]);
        let a = Destination::queue("A.B");
        assert!(authorization.may(&ada(), Action::Write, &a));
        assert!(authorization.may(&ada(), Action::Create, &a));
        assert!(authorization.may(&ada(), Action::Remove, &a));
        assert!(!authorization.may(&ada(), Action::Read, &a));
        for group in ["admins", "boss"] {
            assert!(authorization.may(&Principal::new("x", [group]), Action::Read, &a));
        }
    }

    #[test]
    fn a_composite_needs_the_right_for_each_of_its_parts() {
        let authorization = authorization(&[
            "queue=A;write=users",
            "queue=B;write=makers",
            "topic=C;write=users",
        ]);
        let may = |name: &str| authorization.may(&ada(), Action::Write, &Destination::queue(name));
        assert!(may("A,B"));
        assert!(may("A, topic://C"));
        assert!(!may("A,C"));
        assert!(!may("A,D"));
        assert!(!may(","));
    }

    #[test]
    fn temporary_destinations_have_an_entry_of_their_own() {
        let temporary =
            Destination::parse("temp-queue://ID:1", openwire_client::wire::DestinationKind::Queue);
        let open = authorization(&["queue=>;read=admins"]);
        assert!(open.may(&ada(), Action::Create, &temporary));
        let closed = authorization(&["default;admin=users", "temporary;read=users;write=*"]);
        assert!(closed.may(&ada(), Action::Read, &temporary));
        assert!(closed.may(&Principal::new("x", [""; 0]), Action::Write, &temporary));
        assert!(!closed.may(&ada(), Action::Create, &temporary));
    }

    #[test]
    fn clients_may_hear_of_temporary_destinations_unless_told_otherwise() {
        let both = Destination::topic("ActiveMQ.Advisory.TempQueue,ActiveMQ.Advisory.TempTopic");
        let other = Destination::topic("ActiveMQ.Advisory.Connection");
        let silent = authorization(&["topic=>;read=admins"]);
        assert!(silent.may(&ada(), Action::Read, &both));
        assert!(!silent.may(&ada(), Action::Write, &both));
        assert!(!silent.may(&ada(), Action::Read, &other));
        let stated = authorization(&["topic=ActiveMQ.Advisory.>;read=admins"]);
        assert!(!stated.may(&ada(), Action::Read, &both));
    }

    #[test]
    fn what_was_asked_once_is_remembered_within_bounds() {
        let authorization = authorization(&["queue=A.>;write=users"]);
        let mut grants = Grants::default();
        for round in 0..3 {
            for name in 0..REMEMBERED {
                let (yes, no) = (format!("A.{name}"), format!("B.{round}.{name}"));
                let mut may = |action, name: &str| {
                    grants.may(&authorization, &ada(), action, &Destination::queue(name))
                };
                assert!(may(Action::Write, &yes));
                assert!(!may(Action::Read, &yes));
                assert!(!may(Action::Write, &no));
                assert!(grants.0.len() <= REMEMBERED);
            }
        }
    }

    #[test]
    fn refusals_are_in_activemqs_words() {
        let denied = |action, destination: &Destination| {
            Denied {
                principal: Some(&ada()),
                action,
                destination,
            }
            .to_string()
        };
        let queue = Destination::queue("X");
        for (action, words) in [
            (Action::Read, "User ada is not authorized to read from: queue://X"),
            (Action::Write, "User ada is not authorized to write to: queue://X"),
            (Action::Create, "User ada is not authorized to create: queue://X"),
            (Action::Remove, "User ada is not authorized to remove: queue://X"),
        ] {
            assert_eq!(denied(action, &queue), words);
        }
        let both = Destination::topic("A,B");
        assert_eq!(
            denied(Action::Read, &both),
            "User ada is not authorized to read from: A,B"
        );
    }
}
