//! Messages that are sent later, and again: ActiveMQ's `ScheduledMessage`.

use std::fmt;

use openwire_client::wire::{Message, ValueRef, WireError, find_value};

use super::cron::{Cron, CronError, Zone};

/// Property: milliseconds until the first delivery.
pub const SCHEDULED_DELAY: &str = "AMQ_SCHEDULED_DELAY";

/// Property: milliseconds from one delivery to the next.
pub const SCHEDULED_PERIOD: &str = "AMQ_SCHEDULED_PERIOD";

/// Property: how many deliveries follow the first one.
pub const SCHEDULED_REPEAT: &str = "AMQ_SCHEDULED_REPEAT";

/// Property: a cron entry.
pub const SCHEDULED_CRON: &str = "AMQ_SCHEDULED_CRON";

/// Property: the id of the job. A broker sets it on what it delivers; a message that has it is not scheduled again.
pub const SCHEDULED_ID: &str = "scheduledJobId";

/// `maxSchedulerRepeatAllowed`, by default.
pub const MAX_REPEAT: i32 = 1000;

/// When a message is to be delivered, as its properties say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    /// The clock times at which it begins; without them it begins at once.
    pub cron: Option<Cron>,
    /// Milliseconds from the beginning to the first delivery. 0: as long as the period.
    pub delay: i64,
    /// Milliseconds from one delivery to the next.
    pub period: i64,
    /// How many deliveries follow the first one; a negative number means without end.
    pub repeat: i32,
}

/// Why a message cannot be scheduled. A client gets it as `MessageFormatException`.
#[derive(Debug, Clone, PartialEq)]
pub enum ScheduleError {
    /// The cron entry is none, or never comes.
    Cron(CronError),
    /// A property, by name, has no value that can be used.
    Property(&'static str, String),
    /// More repetitions than `maxSchedulerRepeatAllowed`.
    TooManyRepeats(i32),
    /// It would be delivered without a pause, or begin without end again and again.
    Endless,
    /// The properties cannot be read.
    Properties(WireError),
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(error) => write!(f, "{SCHEDULED_CRON}: {error}"),
            Self::Property(name, why) => write!(f, "{name} {why}"),
            Self::TooManyRepeats(most) => {
                write!(f, "The scheduled repeat value is too large: at most {most}")
            }
            Self::Endless => f.write_str(
                "a message that repeats without end needs a period, and no cron entry that begins it again",
            ),
            Self::Properties(error) => write!(f, "the properties cannot be read: {error}"),
        }
    }
}

impl std::error::Error for ScheduleError {}

impl Schedule {
    /// What a message says of its delivery; `None` if it is delivered at once. Then it has neither a delay, a period
    /// nor a cron entry, or it is what a schedule delivers.
    ///
    /// Numbers may be of any whole type, or texts. `max_repeat` is `maxSchedulerRepeatAllowed`.
    ///
    /// # Errors
    ///
    /// A [`ScheduleError`] for properties that do not make a schedule.
    pub fn of(message: &Message, max_repeat: i32) -> Result<Option<Self>, ScheduleError> {
        let Some(properties) = &message.marshalled_properties else {
            return Ok(None);
        };
        let find = |name| find_value(properties, name).map_err(ScheduleError::Properties);
        let present = |value: &ValueRef<'_>| *value != ValueRef::Null;
        let delay = find(SCHEDULED_DELAY)?.filter(present);
        let period = find(SCHEDULED_PERIOD)?.filter(present);
        let cron = find(SCHEDULED_CRON)?.filter(present);
        if delay.is_none() && period.is_none() && cron.is_none() {
            return Ok(None);
        }
        if find(SCHEDULED_ID)?.filter(present).is_some() {
            return Ok(None);
        }
        let repeat = find(SCHEDULED_REPEAT)?.filter(present);
        let cron = match cron {
            None => None,
            Some(ValueRef::String(text)) if text.is_empty() => None,
            Some(ValueRef::String(text)) => Some(Cron::parse(&text).map_err(ScheduleError::Cron)?),
            Some(_) => {
                return Err(ScheduleError::Property(
                    SCHEDULED_CRON,
                    "is not a text".to_owned(),
                ));
            }
        };
        let repeat = number(SCHEDULED_REPEAT, repeat)?;
        let schedule = Self {
            cron,
            delay: millis(SCHEDULED_DELAY, delay)?,
            period: millis(SCHEDULED_PERIOD, period)?,
            repeat: i32::try_from(repeat).map_err(|_| ScheduleError::TooManyRepeats(max_repeat))?,
        };
        if schedule.repeat > max_repeat {
            return Err(ScheduleError::TooManyRepeats(max_repeat));
        }
        if schedule.repeat < 0 && (schedule.period == 0 || schedule.cron.is_some()) {
            return Err(ScheduleError::Endless);
        }
        Ok(Some(schedule))
    }

    /// True if each delivery needs a message id of its own.
    pub fn renews_message_id(&self) -> bool {
        self.repeat != 0 || self.cron.is_some()
    }
}

/// A message that waits for its time. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What the message asked for.
    pub schedule: Schedule,
    /// When it is due.
    pub due: i64,
    /// How many deliveries follow the next one; negative: without end.
    pub left: i32,
}

/// What is to be done with a job that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// Deliver the message now.
    pub deliver: bool,
    /// Begin a second job with the same message: the delay, period and repetitions that follow a cron time.
    pub follow_up: Option<Job>,
    /// The job is due again, at its new [`Job::due`]; otherwise it is over.
    pub again: bool,
}

impl Job {
    /// The job that a schedule makes of a message which comes now.
    ///
    /// First comes the next time of the cron entry, if there is one, and then the delay or, without one, the period.
    /// ActiveMQ rounds the result up to half a second, this broker does not.
    ///
    /// `None` if that time is beyond all calendars.
    pub fn new(schedule: Schedule, now: i64, zone: &Zone) -> Option<Self> {
        let begin = match &schedule.cron {
            Some(cron) => cron.next(now, zone)?,
            None => now,
        };
        let wait = match schedule.delay {
            0 => schedule.period,
            delay => delay,
        };
        Some(Self {
            due: begin.checked_add(wait)?,
            left: schedule.repeat,
            schedule,
        })
    }

    /// To be called when the job is due.
    ///
    /// Without a cron entry the message is delivered, and again after each period as long as repetitions are left. A
    /// delivery that was missed is made up for once. With a cron entry the message is delivered at each of its
    /// times; if it repeats, each of the times begins a follow-up job instead.
    pub fn fire(&mut self, now: i64, zone: &Zone) -> Firing {
        let Some(cron) = &self.schedule.cron else {
            let again = self.left != 0;
            if again {
                self.left = self.left.saturating_sub(i32::from(self.left > 0));
                let next = self.due.saturating_add(self.schedule.period);
                self.due = if next < now {
                    now.saturating_add(self.schedule.period)
                } else {
                    next
                };
            }
            return Firing {
                deliver: true,
                follow_up: None,
                again,
            };
        };
        let next = cron.next(now, zone);
        let follow_up = (self.schedule.repeat != 0).then(|| Schedule {
            cron: None,
            ..self.schedule.clone()
        });
        self.due = next.unwrap_or(self.due);
        Firing {
            deliver: follow_up.is_none(),
            follow_up: follow_up.and_then(|schedule| Self::new(schedule, now, zone)),
            again: next.is_some(),
        }
    }
}

fn millis(name: &'static str, value: Option<ValueRef<'_>>) -> Result<i64, ScheduleError> {
    match number(name, value)? {
        negative @ ..0 => Err(ScheduleError::Property(name, format!("is negative: {negative}"))),
        millis => Ok(millis),
    }
}

fn number(name: &'static str, value: Option<ValueRef<'_>>) -> Result<i64, ScheduleError> {
    match value {
        None => Ok(0),
        Some(ValueRef::Byte(value)) => Ok(value.into()),
        Some(ValueRef::Short(value)) => Ok(value.into()),
        Some(ValueRef::Int(value)) => Ok(value.into()),
        Some(ValueRef::Long(value)) => Ok(value),
        Some(ValueRef::String(text)) => text
            .parse()
            .map_err(|_| ScheduleError::Property(name, "is not a whole number".to_owned())),
        Some(_) => Err(ScheduleError::Property(name, "is not a whole number".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use openwire_client::wire::{Value, ValueMap, encode_map};

    use super::*;

    fn message(properties: &[(&str, Value)]) -> Message {
        let mut map = ValueMap::new();
        for (name, value) in properties {
            map.insert(*name, value.clone());
        }
        let mut out = BytesMut::new();
        encode_map(&map, &mut out).unwrap();
        Message {
            marshalled_properties: Some(out.freeze()),
            ..Message::default()
        }
    }

    fn of(properties: &[(&str, Value)]) -> Result<Option<Schedule>, ScheduleError> {
        Schedule::of(&message(properties), MAX_REPEAT)
    }

    #[test]
    fn numbers_of_any_kind() {
        let expected = Schedule {
            cron: None,
            delay: 5000,
            period: 100,
            repeat: 9,
        };
        for (delay, period, repeat) in [
            (Value::Long(5000), Value::Long(100), Value::Int(9)),
            (Value::Int(5000), Value::Byte(100), Value::Long(9)),
            ("5000".into(), "100".into(), "9".into()),
            (Value::Short(5000), Value::Short(100), Value::Byte(9)),
        ] {
            let schedule = of(&[
                (SCHEDULED_DELAY, delay),
                (SCHEDULED_PERIOD, period),
                (SCHEDULED_REPEAT, repeat),
            ]);
            assert_eq!(schedule, Ok(Some(expected.clone())));
        }
    }

    #[test]
    fn messages_without_a_schedule() {
        assert_eq!(Schedule::of(&Message::default(), MAX_REPEAT), Ok(None));
        assert_eq!(of(&[("a", Value::Int(1))]), Ok(None));
        assert_eq!(of(&[(SCHEDULED_REPEAT, Value::Int(5))]), Ok(None));
        assert_eq!(of(&[(SCHEDULED_DELAY, Value::Null)]), Ok(None));
        // What a schedule delivered is not scheduled again.
        assert_eq!(
            of(&[(SCHEDULED_DELAY, Value::Int(5)), (SCHEDULED_ID, "ID:1".into())]),
            Ok(None)
        );
        // An empty entry is no entry, but a schedule.
        assert_eq!(of(&[(SCHEDULED_CRON, "".into())]), Ok(Some(Schedule::default())));
    }

    #[test]
    fn what_cannot_be_scheduled() {
        for properties in [
            &[(SCHEDULED_DELAY, "soon".into())][..],
            &[(SCHEDULED_DELAY, Value::Double(1.0))],
            &[(SCHEDULED_DELAY, Value::Int(-1))],
            &[(SCHEDULED_PERIOD, Value::Long(-1))],
            &[(SCHEDULED_CRON, "every day".into())],
            &[(SCHEDULED_CRON, Value::Int(1))],
            &[
                (SCHEDULED_DELAY, Value::Int(1)),
                (SCHEDULED_REPEAT, Value::Int(1001)),
            ],
            &[
                (SCHEDULED_DELAY, Value::Int(1)),
                (SCHEDULED_REPEAT, Value::Long(i64::MAX)),
            ],
            &[
                (SCHEDULED_DELAY, Value::Int(1)),
                (SCHEDULED_REPEAT, Value::Int(-1)),
            ],
            &[
                (SCHEDULED_CRON, "* * * * *".into()),
                (SCHEDULED_PERIOD, Value::Int(1)),
                (SCHEDULED_REPEAT, Value::Int(-1)),
            ],
        ] {
            assert!(of(properties).is_err(), "{properties:?}");
        }
        let broken = Message {
            marshalled_properties: Some(bytes::Bytes::from_static(&[0, 0, 0, 9, 1])),
            ..Message::default()
        };
        assert!(matches!(
            Schedule::of(&broken, MAX_REPEAT),
            Err(ScheduleError::Properties(_))
        ));
    }

    /// When the message is delivered, up to so many times.
    fn deliveries(schedule: Schedule, now: i64, most: usize) -> Vec<i64> {
        let zone = Zone::utc();
        let mut jobs = vec![Job::new(schedule, now, &zone).unwrap()];
        let mut delivered = Vec::new();
        while delivered.len() < most && !jobs.is_empty() {
            jobs.sort_by_key(|job| job.due);
            let mut job = jobs.remove(0);
            let now = job.due;
            let firing = job.fire(now, &zone);
            delivered.extend(firing.deliver.then_some(now));
            jobs.extend(firing.follow_up);
            jobs.extend(firing.again.then_some(job));
        }
        delivered
    }

    fn schedule(cron: Option<&str>, delay: i64, period: i64, repeat: i32) -> Schedule {
        Schedule {
            cron: cron.map(|text| Cron::parse(text).unwrap()),
            delay,
            period,
            repeat,
        }
    }

    #[test]
    fn deliveries_of_a_schedule() {
        for (schedule, expected) in [
            (schedule(None, 500, 0, 0), &[1500][..]),
            (schedule(None, 0, 700, 0), &[1700]),
            (schedule(None, 500, 100, 2), &[1500, 1600, 1700]),
            (schedule(None, 0, 100, -1), &[1100, 1200, 1300, 1400, 1500, 1600]),
            (
                schedule(Some("* * * * *"), 0, 0, 0),
                &[60_000, 120_000, 180_000, 240_000, 300_000, 360_000],
            ),
            // The job is late by the delay once, its follow-ups each time.
            (
                schedule(Some("* * * * *"), 1000, 500, 1),
                &[62_000, 62_500, 121_000, 121_500, 181_000, 181_500],
            ),
        ] {
            assert_eq!(deliveries(schedule.clone(), 1000, 6), expected, "{schedule:?}");
        }
    }

    #[test]
    fn missed_deliveries_are_made_up_for_once() {
        let mut job = Job::new(schedule(None, 0, 100, 5), 0, &Zone::utc()).unwrap();
        let firing = job.fire(1050, &Zone::utc());
        assert!(firing.deliver && firing.again);
        assert_eq!((job.due, job.left), (1150, 4));
        assert_eq!(Job::new(schedule(None, i64::MAX, 0, 0), 1, &Zone::utc()), None);
    }
}
