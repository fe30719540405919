//! Destinations that nobody uses any more are removed, if their policies say so (`gcInactiveDestinations`).

use openwire_client::wire::Destination;
use rustc_hash::FxHashSet;

use super::destinations::Target;
use super::expiry::millis;
use super::timer::Alarm;
use super::{Core, Turn};

impl Core {
    /// It will be looked for destinations that are not used (`schedulePeriodForDestinationPurge`).
    pub(super) fn watch_unused(&mut self, now: i64) {
        if let Some(period) = self.config.rules.schedule_period_for_destination_purge {
            let at = now.saturating_add(millis(period).max(1));
            self.alarms.set(at, Alarm::Purge);
        }
    }

    /// Removes destinations that have not been used for as long as their policies say.
    pub(super) fn purge_unused(&mut self, turn: &mut Turn<'_>) {
        let rules = self.config.rules.clone();
        let most = rules
            .max_purged_destinations_per_sweep
            .map_or(usize::MAX, |most| most as usize);
        let unused = self.mark_unused(turn.now);
        for destination in unused.into_iter().take(most) {
            tracing::info!(%destination, "nobody uses the destination: it is removed");
            self.remove_destination(&destination, turn);
        }
        self.watch_unused(turn.now);
    }

    /// Looks for what is not used now, and says what has not been for long enough.
    fn mark_unused(&mut self, now: i64) -> Vec<Destination> {
        let named: FxHashSet<Destination> = self
            .connections
            .iter()
            .flat_map(|(_, connection)| connection.producers.values())
            .filter_map(|producer| producer.info.destination.clone())
            .collect();
        let mut unused = Vec::new();
        for (destination, target) in &self.destinations {
            let (policy, used, since) = match target {
                Target::Queue(key) => {
                    let queue = &mut self.queues[key.0];
                    let used = queue.consumers().len() > 0
                        || !queue.browsers.is_empty()
                        || !queue.backlog.is_empty()
                        || queue.in_flight > 0;
                    (&queue.policy, used, &mut queue.unused_since)
                }
                Target::Topic(key) => {
                    let topic = &mut self.topics[key.0];
                    let used = !topic.subscribers.is_empty() || !topic.durables.is_empty();
                    (&topic.policy, used, &mut topic.unused_since)
                }
            };
            if !policy.gc_inactive_destinations {
                continue;
            }
            if used || named.contains(destination) || destination.is_temporary() {
                *since = None;
                continue;
            }
            let since = *since.get_or_insert(now);
            if now.saturating_sub(since) >= millis(policy.inactive_timeout_before_gc) {
                unused.push(destination.clone());
            }
        }
        unused.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        unused
    }
}
