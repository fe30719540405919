//! What of the settings is for the core.

use std::sync::Arc;

use super::Settings;
use crate::core::{Rules, SchedulerRules};
use crate::policy::{DispatchPolicy, Policy};

impl Settings {
    /// What the core is told.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        let limits = &self.limits;
        Arc::new(Rules {
            policies: self.policies.clone(),
            interceptors: self.interceptors.clone(),
            destinations: self.destinations.clone(),
            reject_durable_consumers: self.reject_durable_consumers,
            offline_durable_subscriber_timeout: self.offline_durable_subscriber_timeout,
            offline_durable_subscriber_task_schedule: self.offline_durable_subscriber_task_schedule,
            schedule_period_for_destination_purge: self.schedule_period_for_destination_purge,
            max_purged_destinations_per_sweep: self.max_purged_destinations_per_sweep,
            allow_temp_auto_creation_on_send: self.allow_temp_auto_creation_on_send,
            store_limit: limits.store_usage,
            send_fail_if_no_space: limits.send_fail_if_no_space,
            send_fail_if_no_space_after_timeout: limits.send_fail_if_no_space_after_timeout,
            max_destinations: limits
                .max_destinations
                .map_or(Rules::MAX_DESTINATIONS, |most| most as usize),
            timestamp: self.timestamp,
            force_persistency: self.force_persistency,
            redelivery: self.redelivery.clone(),
            scheduler: self.scheduler.as_ref().map(|scheduler| SchedulerRules {
                max_repeat: scheduler.max_repeat,
                zone: scheduler.time_zone.clone(),
            }),
            discard_dead_letters: self.discard_dead_letters.clone(),
        })
    }
}

/// The attributes of a policy that ask for what this broker does not do.
pub(super) fn not_served(policy: &Policy) -> impl Iterator<Item = &'static str> {
    let usual = Policy::default();
    let asked = [
        (
            policy.blocked_producer_warning_interval != usual.blocked_producer_warning_interval,
            "policy.blockedProducerWarningInterval",
        ),
        (policy.gc_with_network_consumers, "policy.gcWithNetworkConsumers"),
        (
            policy.send_duplicate_from_store_to_dlq,
            "policy.sendDuplicateFromStoreToDLQ",
        ),
        (
            policy.dispatch == DispatchPolicy::PriorityNetwork,
            "policy.dispatchPolicy priorityNetwork",
        ),
        (
            policy.network_replay.is_some(),
            "policy.networkBridgeFilterFactory",
        ),
        (policy.advisory_for_dispatched, "policy.advisoryForDispatched"),
        (!policy.use_prefetch_extension, "policy.usePrefetchExtension"),
        (policy.audit != usual.audit, "policy.enableAudit"),
    ];
    asked
        .into_iter()
        .filter(|(asked, _)| *asked)
        .map(|(_, name)| name)
}
