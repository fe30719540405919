//! Messages that a broker delivers later, once or again and again (`ScheduledMessage`).
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use openwire_client::schedule::Schedule;
//! use openwire_client::{Connection, Destination, Message, Session};
//!
//! # async fn example(connection: Connection, session: Session) -> openwire_client::Result<()> {
//! let producer = session.create_producer(&Destination::queue("Reminders")).await?;
//! let mut message = Message::text("stand up");
//! // In an hour, and twice more, each 10 minutes later.
//! let schedule = Schedule::after(Duration::from_secs(3600)).every(Duration::from_secs(600)).repeat(2);
//! message.set_schedule(&schedule)?;
//! producer.send(message).await?;
//!
//! let scheduler = connection.scheduler().await?;
//! for waiting in scheduler.browse().await? {
//!     println!("{:?} for {:?}", waiting.schedule()?, waiting.original_destination());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The broker has to have `schedulerSupport="true"`; one that has not delivers such messages at once, and its
//! [`Scheduler`] is empty. A message of a transaction is scheduled when that is committed, and the time counts from then.

mod scheduler;

use std::sync::Arc;
use std::time::Duration;

pub use scheduler::Scheduler;

use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::wire::Value;

/// The property with the delay in milliseconds (`ScheduledMessage.AMQ_SCHEDULED_DELAY`).
pub const DELAY: &str = "AMQ_SCHEDULED_DELAY";
/// The property with the period in milliseconds (`ScheduledMessage.AMQ_SCHEDULED_PERIOD`).
pub const PERIOD: &str = "AMQ_SCHEDULED_PERIOD";
/// The property with the number of repetitions (`ScheduledMessage.AMQ_SCHEDULED_REPEAT`).
pub const REPEAT: &str = "AMQ_SCHEDULED_REPEAT";
/// The property with the cron entry (`ScheduledMessage.AMQ_SCHEDULED_CRON`).
pub const CRON: &str = "AMQ_SCHEDULED_CRON";
/// The property by which a broker names what it has scheduled (`scheduledJobId`).
pub const JOB_ID: &str = "scheduledJobId";

/// When a message is delivered, and how often.
///
/// Times are sent in whole milliseconds. A broker refuses more repetitions than its `maxSchedulerRepeatAllowed`, 1000
/// unless configured otherwise, when the message is sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    delay: Option<Duration>,
    period: Option<Duration>,
    repeat: Option<u32>,
    cron: Option<Arc<str>>,
}

impl Schedule {
    /// Once, after a time.
    pub fn after(delay: Duration) -> Self {
        Self {
            delay: Some(delay),
            ..Self::default()
        }
    }

    /// Whenever a cron entry says, for ever: minute, hour, day of the month, month and day of the week in the broker's time
    /// zone, such as `0 9 * * 1-5`. With [`every`](Self::every) and [`repeat`](Self::repeat) those begin each time.
    pub fn cron(entry: impl Into<Arc<str>>) -> Self {
        Self {
            cron: Some(entry.into()),
            ..Self::default()
        }
    }

    /// With this time between the deliveries. Without [`repeat`](Self::repeat) they go on for ever.
    #[must_use]
    pub fn every(mut self, period: Duration) -> Self {
        self.period = Some(period);
        self
    }

    /// So many more deliveries after the first one.
    #[must_use]
    pub fn repeat(mut self, times: u32) -> Self {
        self.repeat = Some(times);
        self
    }

    /// The time before the first delivery.
    pub fn delay(&self) -> Option<Duration> {
        self.delay
    }

    /// The time between deliveries.
    pub fn period(&self) -> Option<Duration> {
        self.period
    }

    /// How many deliveries follow the first one; none says that they go on for ever if there is a period, and are none
    /// otherwise.
    pub fn repetitions(&self) -> Option<u32> {
        self.repeat
    }

    /// The cron entry.
    pub fn cron_entry(&self) -> Option<&str> {
        self.cron.as_deref()
    }

    fn check(&self) -> Result<()> {
        let wrong = if self.repeat.is_some_and(|times| times > 0)
            && self.period.is_none_or(|period| period.is_zero())
        {
            "repetitions need a time between them"
        } else if self
            .cron
            .as_deref()
            .is_some_and(|entry| entry.split_whitespace().count() != 5)
        {
            "a cron entry has five fields"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Invalid, wrong))
    }
}

impl Message {
    /// Has the broker deliver the message later (the properties `AMQ_SCHEDULED_…`).
    ///
    /// # Errors
    ///
    /// [`is_invalid`](Error::is_invalid) for repetitions without a time between them, and for a cron entry without five
    /// fields; [`is_message_format`](Error::is_message_format) if the properties of a received message are malformed.
    pub fn set_schedule(&mut self, schedule: &Schedule) -> Result<()> {
        schedule.check()?;
        self.clear_schedule()?;
        if let Some(delay) = schedule.delay {
            self.set_property(DELAY, millis(delay))?;
        }
        if let Some(period) = schedule.period {
            self.set_property(PERIOD, millis(period))?;
        }
        if let Some(times) = schedule.repeat {
            self.set_property(REPEAT, i32::try_from(times).unwrap_or(i32::MAX))?;
        } else if schedule.period.is_some() {
            // How the broker writes for ever.
            self.set_property(REPEAT, -1)?;
        }
        if let Some(entry) = &schedule.cron {
            self.set_property(CRON, Value::from(&**entry))?;
        }
        Ok(())
    }

    /// Has the broker deliver the message at once. A message that was delivered late comes without a schedule already.
    ///
    /// # Errors
    ///
    /// [`is_message_format`](Error::is_message_format) if the properties of a received message are malformed.
    pub fn clear_schedule(&mut self) -> Result<()> {
        for name in [DELAY, PERIOD, REPEAT, CRON] {
            self.remove_property(name)?;
        }
        Ok(())
    }

    /// When the message is to be delivered; none if at once. [`Scheduler::browse`] shows messages that have it.
    ///
    /// # Errors
    ///
    /// [`is_message_format`](Error::is_message_format) if the properties are malformed, or not of the right type.
    pub fn schedule(&self) -> Result<Option<Schedule>> {
        let schedule = Schedule {
            delay: self.millis_of(DELAY)?,
            period: self.millis_of(PERIOD)?,
            repeat: match self.property(REPEAT)? {
                Some(value) => u32::try_from(value.i32()?).ok(),
                None => None,
            },
            cron: match self.property(CRON)? {
                Some(value) => value.string()?.filter(|entry| !entry.is_empty()),
                None => None,
            },
        };
        Ok((schedule != Schedule::default()).then_some(schedule))
    }

    /// The name that the broker has given what it has scheduled, of a message that it delivers late or shows
    /// (`scheduledJobId`).
    ///
    /// # Errors
    ///
    /// [`is_message_format`](Error::is_message_format) if the properties of a received message are malformed.
    pub fn scheduled_job_id(&self) -> Result<Option<Arc<str>>> {
        self.property_string(JOB_ID)
    }

    fn millis_of(&self, name: &str) -> Result<Option<Duration>> {
        let Some(value) = self.property(name)? else {
            return Ok(None);
        };
        Ok(u64::try_from(value.i64()?).ok().map(Duration::from_millis))
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_schedule_is_read_as_it_was_set() {
        for schedule in [
            Schedule::after(seconds(1)),
            Schedule::after(Duration::ZERO),
            Schedule::after(seconds(1)).every(seconds(2)).repeat(3),
            Schedule::default().every(seconds(2)),
            Schedule::cron("0 9 * * 1-5"),
            Schedule::cron("0 9 * * *").every(seconds(1)).repeat(1),
        ] {
            let mut message = Message::text("x");
            message
                .set_schedule(&Schedule::after(seconds(99)).every(seconds(9)).repeat(9))
                .unwrap();
            message.set_schedule(&schedule).unwrap();
            assert_eq!(message.schedule().unwrap(), Some(schedule));
            message.clear_schedule().unwrap();
            assert_eq!(message.schedule().unwrap(), None);
            assert!(message.properties().unwrap().is_empty());
        }
    }

    #[test]
    fn the_properties_have_the_types_that_brokers_want() {
        let mut message = Message::text("x");
        message
            .set_schedule(&Schedule::after(seconds(1)).every(seconds(2)).repeat(3))
            .unwrap();
        assert_eq!(message.property(DELAY).unwrap(), Some(Value::Long(1000)));
        assert_eq!(message.property(PERIOD).unwrap(), Some(Value::Long(2000)));
        assert_eq!(message.property(REPEAT).unwrap(), Some(Value::Int(3)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for schedule in [
            Schedule::after(seconds(1)).repeat(2),
            Schedule::after(seconds(1)).every(Duration::ZERO).repeat(2),
            Schedule::cron("0 9 *"),
            Schedule::cron(""),
        ] {
            let error = Message::new().set_schedule(&schedule).unwrap_err();
            assert!(error.is_invalid(), "{schedule:?}: {error}");
        }
    }
}
