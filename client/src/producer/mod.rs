//! JMS `MessageProducer`.

mod flow;
mod receipt;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub(crate) use flow::Flow;
pub use receipt::Receipt;
use window::Window;

use crate::connection::within;
use crate::environment::now_millis;
use crate::error::{Error, ErrorKind, Result};
use crate::link::{Answer, Guard};
use crate::message::{DEFAULT_PRIORITY, DeliveryMode, Marshalling, Message};
use crate::session::SessionInner;
use crate::uri::Uri;
use crate::wire::{self, Destination, EntityId, MessageId, ProducerId, ProducerInfo, RemoveInfo};

/// What a message counts for besides body and properties, in a producer's window as well as in flight: the broker's own
/// number.
const MESSAGE_OVERHEAD: usize = 1024;

/// The longest string that every peer can read.
const MAX_STRING: usize = 32766;

/// Sends messages (JMS `MessageProducer`).
///
/// Made by [`Session::create_producer`](crate::Session::create_producer). Dropping it closes it without waiting.
#[derive(Debug)]
pub struct Producer {
    session: Arc<SessionInner>,
    id: ProducerId,
    destination: Option<Destination>,
    defaults: SendOptions,
    disable_timestamps: bool,
    sequence: AtomicI64,
    flow: Arc<Flow>,
    /// The broker did not let it be.
    refused: bool,
}

/// How a message is sent: the arguments of JMS's longer `send` methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendOptions {
    /// Whether the message outlives the broker. Default persistent.
    pub delivery_mode: DeliveryMode,
    /// 0 to 9. Default 4.
    pub priority: i8,
    /// After how long the message expires; zero is never. Default zero.
    pub time_to_live: Duration,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            delivery_mode: DeliveryMode::default(),
            priority: DEFAULT_PRIORITY,
            time_to_live: Duration::ZERO,
        }
    }
}

impl Producer {
    pub(crate) async fn create(session: Arc<SessionInner>, destination: Option<Destination>) -> Result<Self> {
        session.check_open()?;
        if destination
            .as_ref()
            .is_some_and(|destination| destination.name().is_empty())
        {
            return Err(Error::new(
                ErrorKind::InvalidDestination,
                "a destination needs a name",
            ));
        }
        let connection = session.connection.clone();
        let id = ProducerId {
            connection_id: session.id.connection_id.clone(),
            session_id: session.id.value,
            value: session.next_producer(),
        };
        let options = &connection.options;
        let (mut window_size, mut dispatch_async) = (options.producer_window_size, false);
        if let Some(text) = destination.as_ref().and_then(Destination::options) {
            let mut query = Uri::parse(&format!("destination://options?{text}"))?
                .query
                .take_prefix("producer.");
            query.read("windowSize", &mut window_size)?;
            query.read("dispatchAsync", &mut dispatch_async)?;
            query.finish("a producer")?;
        }
        let window = (window_size > 0).then(|| Window::new(window_size as usize));
        let flow = connection
            .hub
            .add_flow(|alarm, counters| Flow::new(id.clone(), destination.clone(), window, alarm, counters));
        let info = ProducerInfo {
            producer_id: Some(id.clone()),
            destination: destination.clone(),
            dispatch_async,
            window_size: i32::try_from(window_size).unwrap_or(i32::MAX),
            ..ProducerInfo::default()
        };
        // From here on dropping it takes leave of the broker, also if the answer is not waited for.
        let mut producer = Self {
            session,
            id,
            destination,
            defaults: SendOptions::default(),
            disable_timestamps: options.disable_time_stamps_by_default,
            sequence: AtomicI64::new(0),
            flow,
            refused: false,
        };
        match connection.call(info).await {
            Ok(_) => Ok(producer),
            Err(error) => {
                producer.refused = error.throwable().is_some();
                Err(error)
            }
        }
    }

    /// Where it sends to; `None` for an anonymous producer (`getDestination`).
    pub fn destination(&self) -> Option<&Destination> {
        self.destination.as_ref()
    }

    /// The id of the producer at the broker.
    pub fn id(&self) -> &ProducerId {
        &self.id
    }

    /// How messages are sent when the call does not say (`getDeliveryMode`, `getPriority`, `getTimeToLive`).
    pub fn defaults(&self) -> SendOptions {
        self.defaults
    }

    /// Sets whether messages outlive the broker (`setDeliveryMode`). Default persistent.
    pub fn set_delivery_mode(&mut self, mode: DeliveryMode) {
        self.defaults.delivery_mode = mode;
    }

    /// Sets the priority (`setPriority`), 0 to 9. Default 4.
    ///
    /// # Errors
    ///
    /// Another number.
    pub fn set_priority(&mut self, priority: i8) -> Result<()> {
        check_priority(priority)?;
        self.defaults.priority = priority;
        Ok(())
    }

    /// Sets after how long messages expire (`setTimeToLive`); zero is never, the default.
    pub fn set_time_to_live(&mut self, time: Duration) {
        self.defaults.time_to_live = time;
    }

    /// Sets whether messages go out without a timestamp (`setDisableMessageTimestamp`); they cannot expire then. The
    /// default is `jms.disableTimeStampsByDefault`.
    ///
    /// There is no `setDisableMessageID`: ActiveMQ ignores it, because its brokers need the ids.
    pub fn set_disable_message_timestamp(&mut self, disable: bool) {
        self.disable_timestamps = disable;
    }

    /// Sends a message (`send(Message)`) and returns the id it got.
    ///
    /// A persistent message outside a transaction is waited for until the broker has it. A non-persistent one, or one in
    /// a transaction, is not: `Ok` says that it is on its way. `jms.alwaysSyncSend`, `jms.useAsyncSend` and
    /// `jms.sendTimeout` change that.
    ///
    /// # Errors
    ///
    /// * what the broker answers, for instance [`is_security`](Error::is_security) or
    ///   [`is_resource_allocation`](Error::is_resource_allocation);
    /// * [`is_invalid_destination`](Error::is_invalid_destination): the temporary destination is deleted;
    /// * [`is_timeout`](Error::is_timeout): no answer in time. The broker may have the message or not;
    /// * [`is_rolled_back`](Error::is_rolled_back): the transaction is gone, roll back and do its work again;
    /// * [`is_closed`](Error::is_closed) and [`is_io`](Error::is_io): there is no connection any more. A message that was
    ///   being waited for may have arrived or not;
    /// * [`is_illegal_state`](Error::is_illegal_state) for an anonymous producer;
    /// * [`is_message_format`](Error::is_message_format) for a message that cannot be sent.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the message is sent or not, but never half.
    pub async fn send(&self, message: impl Into<Message>) -> Result<MessageId> {
        self.send_with(message, self.defaults).await
    }

    /// As [`send`](Self::send), with other options (`send(Message, int, int, long)`).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn send_with(&self, message: impl Into<Message>, options: SendOptions) -> Result<MessageId> {
        let destination = self.own_destination()?;
        self.send_message(destination, message.into(), options).await
    }

    /// As [`send`](Self::send), for an anonymous producer (`send(Destination, Message)`).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`is_illegal_state`](Error::is_illegal_state) for a producer that has a destination.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn send_to(&self, destination: &Destination, message: impl Into<Message>) -> Result<MessageId> {
        self.send_to_with(destination, message, self.defaults).await
    }

    /// As [`send_to`](Self::send_to), with other options (`send(Destination, Message, int, int, long)`).
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn send_to_with(
        &self,
        destination: &Destination,
        message: impl Into<Message>,
        options: SendOptions,
    ) -> Result<MessageId> {
        self.check_anonymous(destination)?;
        self.send_message(destination, message.into(), options).await
    }

    /// Sends a message and leaves the broker's answer to the [`Receipt`], so that many messages can be on their way at
    /// once (`send` with ActiveMQ's `AsyncCallback`). The broker answers every one of them.
    ///
    /// Waits only while this producer has some megabytes unanswered.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), apart from the broker's answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the message was not sent.
    pub async fn send_pipelined(&self, message: impl Into<Message>) -> Result<Receipt> {
        let destination = self.own_destination()?;
        self.pipeline(destination, message.into(), self.defaults).await
    }

    /// As [`send_pipelined`](Self::send_pipelined), for an anonymous producer.
    ///
    /// # Errors
    ///
    /// As [`send_pipelined`](Self::send_pipelined) and [`send_to`](Self::send_to).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the message was not sent.
    pub async fn send_to_pipelined(
        &self,
        destination: &Destination,
        message: impl Into<Message>,
    ) -> Result<Receipt> {
        self.check_anonymous(destination)?;
        self.pipeline(destination, message.into(), self.defaults).await
    }

    /// Closes the producer (`close`).
    ///
    /// Does not wait for the broker, so there is nothing to be cancelled.
    ///
    /// # Errors
    ///
    /// None today.
    pub async fn close(self) -> Result<()> {
        Ok(())
    }

    fn own_destination(&self) -> Result<&Destination> {
        self.destination.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::IllegalState,
                "an anonymous producer needs a destination",
            )
        })
    }

    fn check_anonymous(&self, destination: &Destination) -> Result<()> {
        if destination.name().is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidDestination,
                "a destination needs a name",
            ));
        }
        match &self.destination {
            None => Ok(()),
            Some(own) => Err(Error::new(
                ErrorKind::IllegalState,
                format!("this producer sends to {own} only"),
            )),
        }
    }

    #[tracing::instrument(
        name = "send",
        level = "trace",
        skip_all,
        fields(%destination, producer = %self.id, broker = self.session.connection.hub.publisher.broker(), message_id)
    )]
    async fn send_message(
        &self,
        destination: &Destination,
        message: Message,
        options: SendOptions,
    ) -> Result<MessageId> {
        let settings = &self.session.connection.options;
        let (message, guard) = self.prepare(destination, message, options)?;
        let one_way = settings.send_timeout.is_none()
            && !settings.always_sync_send
            && (!message.persistent || settings.use_async_send || message.transaction_id.is_some());
        self.session.connection.wait_connected().await?;
        if one_way {
            // A broker that has no room stops reading, or opens no window.
            let work = async {
                let charge = match self.flow.window() {
                    Some(window) => Some(window.enter(size(&message)).await),
                    None => None,
                };
                let (id, _) = self.enqueue(message, guard, Answer::None).await?;
                if let Some(charge) = charge {
                    charge.keep();
                }
                Ok(id)
            };
            return within(settings.request_timeout, self.flow.held(work)).await;
        }
        let limit = settings.send_timeout.or(settings.request_timeout);
        let work = async {
            let (id, receipt) = self.enqueue(message, guard, Answer::Wanted(None)).await?;
            if let Some(receipt) = receipt {
                receipt.await?;
                self.session.connection.hub.counters.confirmed.add(1);
            }
            Ok(id)
        };
        within(limit, self.flow.held(work)).await
    }

    #[tracing::instrument(
        name = "send_pipelined",
        level = "trace",
        skip_all,
        fields(%destination, producer = %self.id, broker = self.session.connection.hub.publisher.broker(), message_id)
    )]
    async fn pipeline(
        &self,
        destination: &Destination,
        message: Message,
        options: SendOptions,
    ) -> Result<Receipt> {
        let settings = &self.session.connection.options;
        let (message, guard) = self.prepare(destination, message, options)?;
        self.session.connection.wait_connected().await?;
        let limit = settings.send_timeout.or(settings.request_timeout);
        let work = async {
            let share = self.flow.share(size(&message)).await;
            let (message_id, answer) = self.enqueue(message, guard, Answer::Wanted(Some(share))).await?;
            Ok(Receipt {
                message_id,
                answer,
                limit,
                deadline: None,
            })
        };
        within(limit, self.flow.held(work)).await
    }

    /// Fills the header.
    fn prepare(
        &self,
        destination: &Destination,
        message: Message,
        options: SendOptions,
    ) -> Result<(Arc<wire::Message>, Guard)> {
        check_priority(options.priority)?;
        let connection = &self.session.connection;
        if connection.hub.is_deleted(destination) {
            return Err(Error::new(
                ErrorKind::InvalidDestination,
                format!("{destination} does not exist any more"),
            ));
        }
        let mut shared = message.into_wire(Marshalling {
            compress: connection.options.use_compression,
            nested_maps_and_lists: connection.options.nested_map_and_list_enabled,
        })?;
        let wire = Arc::make_mut(&mut shared);
        wire.destination = Some(destination.clone());
        wire.producer_id = Some(self.id.clone());
        wire.message_id = Some(MessageId {
            producer_id: Some(self.id.clone()),
            ..MessageId::default()
        });
        wire.persistent = options.delivery_mode == DeliveryMode::Persistent;
        wire.priority = options.priority;
        (wire.timestamp, wire.expiration) = (0, 0);
        if !self.disable_timestamps {
            wire.timestamp = now_millis();
            if !options.time_to_live.is_zero() {
                // A message that lives for less than a millisecond has expired already.
                let lives = i64::try_from(options.time_to_live.as_millis()).unwrap_or(i64::MAX);
                wire.expiration = wire.timestamp.saturating_add(lives);
            }
        }
        self.check_size(wire)?;
        let transaction = self.session.enter_to_send()?;
        let guard = transaction
            .as_ref()
            .map_or(Guard::Always, |transaction| transaction.guard());
        wire.transaction_id = transaction.map(|transaction| transaction.id);
        Ok((shared, guard))
    }

    /// Refuses what could not be written, here where the caller hears of it.
    fn check_size(&self, message: &wire::Message) -> Result<()> {
        let name = message.destination.as_ref().map(Destination::shared_name);
        let strings = [
            &message.correlation_id,
            &message.message_type,
            &message.group_id,
            &name,
        ];
        // In modified UTF-8 no character takes more than twice its bytes in UTF-8.
        if strings
            .into_iter()
            .flatten()
            .any(|text| text.len() > MAX_STRING / 2)
        {
            return Err(Error::new(
                ErrorKind::MessageFormat,
                "a destination, correlation id, type or group id is longer than the protocol allows",
            ));
        }
        let limit = self.session.connection.hub.max_frame_size();
        if (size(message) + 4 * MAX_STRING) as u64 > limit {
            let what = format!("a message of {} bytes, where {limit} is the limit", size(message));
            return Err(Error::new(ErrorKind::MessageFormat, what));
        }
        Ok(())
    }

    /// Numbers the message and puts it into the queue, both at once: the broker takes a message with a smaller number
    /// than the one before for a duplicate.
    async fn enqueue(
        &self,
        message: Arc<wire::Message>,
        guard: Guard,
        answer: Answer,
    ) -> Result<(MessageId, Option<crate::link::Receipt>)> {
        let connection = &self.session.connection;
        let mut sequence = 0;
        let receipt = connection
            .link
            .send_message(message, guard, answer, |message| {
                sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
                if let Some(id) = &mut message.message_id {
                    id.producer_sequence_id = sequence;
                }
            })
            .await?;
        connection.hub.counters.sent.add(1);
        let id = MessageId {
            producer_id: Some(self.id.clone()),
            producer_sequence_id: sequence,
            ..MessageId::default()
        };
        if tracing::enabled!(tracing::Level::TRACE) {
            tracing::Span::current().record("message_id", tracing::field::display(&id));
        }
        Ok((id, receipt))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.session.connection.hub.remove_flow(&self.id);
        // The broker does not know it, or has removed it with its session.
        if self.refused || self.session.check_open().is_err() {
            return;
        }
        let info = RemoveInfo {
            object_id: Some(EntityId::Producer(self.id.clone())),
            last_delivered_sequence_id: RemoveInfo::UNKNOWN_DELIVERED,
            ..RemoveInfo::default()
        };
        // An error says that the connection is closed, and the producer with it.
        let _ = self.session.connection.link.post(info, Guard::Always);
    }
}

fn check_priority(priority: i8) -> Result<()> {
    if (0..=9).contains(&priority) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Invalid,
        format!("a priority of {priority} is not in 0 to 9"),
    ))
}

/// The size of a message as brokers count it.
fn size(message: &wire::Message) -> usize {
    let content = message.content.as_ref().map_or(0, |bytes| bytes.len());
    let properties = message
        .marshalled_properties
        .as_ref()
        .map_or(0, |bytes| bytes.len());
    MESSAGE_OVERHEAD + content + properties
}
