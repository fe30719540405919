//! How consumers of every kind come to be: what the broker is told, and what is waiting when its first message comes.

use std::sync::Arc;

use super::{AcknowledgeMode, SessionInner};
use crate::connection::within;
use crate::consumer::{ConsumerInner, ConsumerOptions, Mailbox, Rules};
use crate::error::{Error, ErrorKind, Result};
use crate::link::Guard;
use crate::options::ConnectionOptions;
use crate::wire::{ConsumerId, ConsumerInfo, Destination};

/// What kind of consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Plain,
    /// Of the durable subscription of this name.
    Durable(&'a str),
    Browser,
}

impl SessionInner {
    /// A name may be used for a durable subscription.
    pub(super) fn check_durable(&self, name: &str) -> Result<()> {
        self.check_open()?;
        if self.connection.options.client_id.is_none() {
            return Err(Error::new(
                ErrorKind::IllegalState,
                "a durable subscription belongs to a client id, and none was given",
            ));
        }
        if name.is_empty() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "a durable subscription needs a name",
            ));
        }
        Ok(())
    }

    /// Makes a consumer known to the broker.
    pub(super) async fn subscribe(
        self: &Arc<Self>,
        destination: &Destination,
        options: ConsumerOptions,
        kind: Kind<'_>,
    ) -> Result<ConsumerInner> {
        self.check_open()?;
        if destination.name().is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidDestination,
                "a destination needs a name",
            ));
        }
        let options = options.overridden_by(destination)?;
        self.connection.check_owner(destination)?;
        if self.mode == AcknowledgeMode::Transacted
            && kind != Kind::Browser
            && self.connection.link.is_fanout()
        {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a transacted session of a fanout: connection only sends: what it consumes from one broker and sends \
                 to several cannot be committed as one",
            ));
        }
        let prefetch = options
            .prefetch
            .unwrap_or_else(|| self.prefetch(destination, kind));
        let rules = match kind {
            Kind::Browser => Rules::browser(prefetch),
            _ => self.rules(prefetch, destination, matches!(kind, Kind::Durable(_))),
        };
        within(self.connection.options.request_timeout, async {
            loop {
                let info = self.consumer_info(destination, &options, prefetch, kind);
                match self.introduce(info, destination, rules.clone(), kind).await {
                    // A browser starts anew with the next broker, and nobody has seen anything of it yet.
                    Err(error) if kind == Kind::Browser && error.is_interrupted() => {}
                    result => return result,
                }
            }
        })
        .await
    }

    async fn introduce(
        self: &Arc<Self>,
        info: ConsumerInfo,
        destination: &Destination,
        rules: Rules,
        kind: Kind<'_>,
    ) -> Result<ConsumerInner> {
        let connection = &self.connection;
        let over = connection.link.connection();
        let mailbox = Arc::new(Mailbox::new(
            info.consumer_id.clone().unwrap_or_default(),
            destination.clone(),
            rules,
            connection.hub.audit.clone(),
        ));
        connection
            .hub
            .add_consumer(mailbox.clone(), || connection.link.connection());
        self.add_consumer(mailbox.clone());
        // From here on dropping it takes leave of the broker, also if the answer is not waited for.
        let consumer = ConsumerInner {
            session: self.clone(),
            mailbox,
            selector: info.selector.clone(),
            browses_over: (kind == Kind::Browser).then_some(over),
        };
        let guard = match kind {
            Kind::Browser => Guard::Connection(over),
            _ => Guard::Always,
        };
        let answered = async { connection.link.request(Box::new(info), guard).await?.await };
        match answered.await {
            Ok(_) => {
                self.acknowledge_on_time(&consumer.mailbox)?;
                Ok(consumer)
            }
            Err(error) => {
                if error.throwable().is_some() || error.is_interrupted() {
                    // The broker does not know it.
                    self.forget_consumer(consumer.mailbox.id());
                }
                Err(error)
            }
        }
    }

    /// Sends batches of acknowledgements from time to time, if that is wanted.
    fn acknowledge_on_time(self: &Arc<Self>, mailbox: &Arc<Mailbox>) -> Result<()> {
        let Some(every) = self.connection.options.optimized_ack_scheduled_ack_interval else {
            return Ok(());
        };
        if self.mode != AcknowledgeMode::Auto || !mailbox.collects() {
            return Ok(());
        }
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| Error::new(ErrorKind::IllegalState, error.to_string()).with_source(error))?;
        let (session, mailbox) = (Arc::downgrade(self), Arc::downgrade(mailbox));
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                let (Some(session), Some(mailbox)) = (session.upgrade(), mailbox.upgrade()) else {
                    break;
                };
                if !mailbox.flush_finished(session.out()).unwrap_or(false) {
                    break;
                }
            }
        });
        Ok(())
    }

    fn consumer_info(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
        prefetch: u16,
        kind: Kind<'_>,
    ) -> ConsumerInfo {
        let defaults: &ConnectionOptions = &self.connection.options;
        let pending_limit = options
            .maximum_pending_message_limit
            .unwrap_or(defaults.prefetch_policy.maximum_pending_message_limit);
        let subscription_name = match kind {
            Kind::Durable(name) => Some(name.into()),
            _ => None,
        };
        ConsumerInfo {
            consumer_id: Some(ConsumerId {
                connection_id: self.id.connection_id.clone(),
                session_id: self.id.value,
                value: self.next_consumer(),
            }),
            browser: kind == Kind::Browser,
            destination: Some(destination.clone()),
            prefetch_size: prefetch.into(),
            maximum_pending_message_limit: i32::try_from(pending_limit).unwrap_or(i32::MAX),
            dispatch_async: options.dispatch_async.unwrap_or(defaults.dispatch_async),
            selector: options.selector.clone(),
            client_id: matches!(kind, Kind::Durable(_)).then(|| self.connection.client_id.clone()),
            subscription_name,
            no_local: options.no_local,
            exclusive: options.exclusive.unwrap_or(defaults.exclusive_consumer),
            retroactive: options.retroactive.unwrap_or(defaults.use_retroactive_consumer),
            priority: options.priority,
            ..ConsumerInfo::default()
        }
    }

    /// The connection's prefetch for such a consumer.
    fn prefetch(&self, destination: &Destination, kind: Kind<'_>) -> u16 {
        let options = &self.connection.options;
        let policy = &options.prefetch_policy;
        match kind {
            Kind::Browser => policy.queue_browser_prefetch,
            // One that acknowledges by itself is seldom behind.
            Kind::Durable(_) if self.mode == AcknowledgeMode::Auto && options.optimized_message_dispatch => {
                policy.optimize_durable_topic_prefetch
            }
            Kind::Durable(_) => policy.durable_topic_prefetch,
            Kind::Plain if destination.is_queue() => policy.queue_prefetch,
            Kind::Plain => policy.topic_prefetch,
        }
    }
}
