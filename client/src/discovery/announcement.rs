//! What the datagrams say: `GROUP.ActiveMQ-4.alive.%localhost%URI`, and `dead.` from one that leaves.

const TYPE: &str = ".ActiveMQ-4.";
const ALIVE: &str = "alive.";
const DEAD: &str = "dead.";
/// Between the delimiters stands a name that every ActiveMQ writes so and none reads.
const NAME: &str = "%localhost%";

/// The longest datagram that is read; ActiveMQ's buffer.
pub(super) const MAX_DATAGRAM: usize = 8192;

/// The longest URI that is taken seriously.
const MAX_SERVICE: usize = 2048;

/// What a datagram turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// A broker is there.
    Alive(&'a str),
    /// A broker leaves.
    Dead(&'a str),
    /// It is meant for another group.
    Foreign,
    /// It makes no sense.
    Garbage,
}

/// Reads a datagram for those who listen to `group`.
pub(super) fn read<'a>(datagram: &'a [u8], group: &str) -> Heard<'a> {
    let Ok(text) = std::str::from_utf8(datagram) else {
        return Heard::Garbage;
    };
    let Some(announced) = text.strip_prefix(group).and_then(|rest| rest.strip_prefix(TYPE)) else {
        return match text.contains(TYPE) {
            true => Heard::Foreign,
            false => Heard::Garbage,
        };
    };
    let heard = match (announced.strip_prefix(ALIVE), announced.strip_prefix(DEAD)) {
        (Some(rest), _) => service(rest).map(Heard::Alive),
        (None, Some(rest)) => service(rest).map(Heard::Dead),
        (None, None) => None,
    };
    heard.unwrap_or(Heard::Garbage)
}

/// The URI behind the name.
fn service(text: &str) -> Option<&str> {
    let (_, service) = text.strip_prefix('%')?.split_once('%')?;
    is_service(service).then_some(service)
}

/// Whether a text can be announced as the URI of a broker.
pub(super) fn is_service(text: &str) -> bool {
    let strange = |c: char| c.is_control() || c.is_whitespace();
    !text.is_empty() && text.len() <= MAX_SERVICE && !text.contains(strange)
}

/// The datagram that announces a broker, or that it leaves.
pub(super) fn write(group: &str, alive: bool, service: &str) -> Vec<u8> {
    let state = if alive { ALIVE } else { DEAD };
    [group, TYPE, state, NAME, service].concat().into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn datagrams_of_a_real_broker_are_read_and_written() {
        let alive = b"default.ActiveMQ-4.alive.%localhost%tcp://localhost:61716";
        let dead = b"default.ActiveMQ-4.dead.%localhost%tcp://localhost:61716";
        assert_eq!(read(alive, "default"), Heard::Alive("tcp://localhost:61716"));
        assert_eq!(read(dead, "default"), Heard::Dead("tcp://localhost:61716"));
        assert_eq!(write("default", true, "tcp://localhost:61716"), alive);
        assert_eq!(write("default", false, "tcp://localhost:61716"), dead);
    }

    #[test]
    fn only_the_group_counts() {
        let other = write("other", true, "tcp://a:1");
        assert_eq!(read(&other, "default"), Heard::Foreign);
        assert_eq!(read(&other, "othe"), Heard::Foreign);
        assert_eq!(read(&other, "other"), Heard::Alive("tcp://a:1"));
    }

    #[test]
    fn any_name_will_do_and_the_uri_may_contain_anything_else() {
        let text = b"g.ActiveMQ-4.alive.%broker.one%tcp://a:1?x=50%25&y=%";
        assert_eq!(read(text, "g"), Heard::Alive("tcp://a:1?x=50%25&y=%"));
    }

    #[test]
    fn what_makes_no_sense_is_garbage() {
        let long = write("g", true, &"x".repeat(MAX_SERVICE + 1));
        for garbage in [
            &b""[..],
            b"hello",
            b"g.ActiveMQ-4.",
            b"g.ActiveMQ-4.alive.",
            b"g.ActiveMQ-4.alive.%",
            b"g.ActiveMQ-4.alive.%localhost",
            b"g.ActiveMQ-4.alive.%localhost%",
            b"g.ActiveMQ-4.alive.tcp://a:1",
            b"g.ActiveMQ-4.undead.%localhost%tcp://a:1",
            b"g.ActiveMQ-4.alive.%localhost%tcp://a:1\n",
            b"g.ActiveMQ-4.alive.%localhost%tcp://\xff",
            &long,
        ] {
            assert_eq!(read(garbage, "g"), Heard::Garbage, "{garbage:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(group in "[a-z.%]{1,9}", alive: bool, uri in "[!-~]{1,99}") {
            let expected = if alive { Heard::Alive(&uri) } else { Heard::Dead(&uri) };
            let datagram = write(&group, alive, &uri);
            prop_assert_eq!(read(&datagram, &group), expected);
        }

        #[test]
        fn nothing_that_comes_does_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, "g");
            let mut announced = b"g.ActiveMQ-4.alive.%".to_vec();
            announced.extend(bytes);
            if let Heard::Alive(service) = read(&announced, "g") {
                prop_assert!(is_service(service));
            }
        }

        #[test]
        fn a_damaged_announcement_does_no_harm(at in 0_usize..60, byte: u8, length in 0_usize..60) {
            let mut datagram = write("default", true, "tcp://localhost:61716?a=b");
            datagram.truncate(length);
            if let Some(damaged) = datagram.get_mut(at) {
                *damaged = byte;
            }
            if let Heard::Alive(service) | Heard::Dead(service) = read(&datagram, "default") {
                prop_assert!(is_service(service));
            }
        }
    }
}
