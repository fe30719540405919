//! Ids that no other client has.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::environment::{now_millis, random, simulated_id};

/// Makes connection ids and client ids: `ID:host-number-milliseconds-kind:count`.
#[derive(Debug)]
pub(crate) struct IdGenerator {
    /// 0 for client ids and 1 for connection ids, as in ActiveMQ's client.
    kind: u8,
    count: AtomicU64,
}

pub(crate) static CLIENT_IDS: IdGenerator = IdGenerator {
    kind: 0,
    count: AtomicU64::new(0),
};
pub(crate) static CONNECTION_IDS: IdGenerator = IdGenerator {
    kind: 1,
    count: AtomicU64::new(0),
};

impl IdGenerator {
    pub(crate) fn next(&self, prefix: Option<&str>) -> String {
        let (process, count) = match simulated_id() {
            None => (process(), self.count.fetch_add(1, Ordering::Relaxed) + 1),
            Some(count) => ("simulated-1-1", count),
        };
        format!("{}:{process}-{}:{count}", prefix.unwrap_or("ID"), self.kind)
    }
}

/// The part that is the same for all ids of this process.
fn process() -> &'static str {
    static PROCESS: OnceLock<String> = OnceLock::new();
    PROCESS.get_or_init(|| {
        // ActiveMQ takes a port that it has bound for a moment; a random number is as unique among processes that start
        // in the same millisecond.
        let number: u16 = random();
        format!("{}-{number}-{}", host(), now_millis())
    })
}

fn host() -> String {
    let name = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .unwrap_or_default();
    // What other parts of an id are cut at has no place in it.
    let name: String = name
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))
        .collect();
    if name.is_empty() { "localhost".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MessageId;

    #[test]
    fn ids_differ_and_their_parts_can_be_told_apart() {
        let (a, b) = (CONNECTION_IDS.next(None), CONNECTION_IDS.next(None));
        assert_ne!(a, b);
        let id = MessageId::parse(&format!("{a}:1:2:3"));
        assert_eq!(
            id.producer_id.and_then(|id| id.connection_id).as_deref(),
            Some(a.as_str())
        );
        assert!(CLIENT_IDS.next(Some("shop")).starts_with("shop:"));
    }
}
