//! Times given by the clock and the calendar: `AMQ_SCHEDULED_CRON`.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};

/// A cron entry never names more than this many minutes, hours, days and so on.
const WIDEST: u32 = 64;

/// Any day that comes at all comes within this time: the 29th of February can stay away for eight years.
const HORIZON_YEARS: i16 = 9;

/// The time zone a cron entry is read in. ActiveMQ takes that of its Java virtual machine, which is the system's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// The system's: `TZ`, or else `/etc/localtime`; UTC where neither says anything. This is the default.
    pub fn system() -> Self {
        Self(TimeZone::system())
    }

    /// A zone of the IANA database (`Europe/Berlin`), `system` or `UTC`.
    ///
    /// # Errors
    ///
    /// A text that says that there is no such zone.
    pub fn named(name: &str) -> Result<Self, String> {
        match name {
            "system" => Ok(Self::system()),
            "UTC" => Ok(Self::utc()),
            name => TimeZone::get(name)
                .map(Self)
                .map_err(|_| format!("there is no time zone {name}")),
        }
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::system()
    }
}

/// A cron entry of five fields: minute (0–59), hour (0–23), day of the month (1–31), month (1–12), day of the week (0–6
/// from Sunday).
///
/// A field is `*` or `?` for all, a number, a range `1-5`, a list `1,3-5`, or any of these with a step behind it. As
/// in ActiveMQ, a step picks the numbers that it divides, not each so many from the first: `1-10/3` is 3, 6, 9. It
/// holds for the whole of the field. There are no names of months or days.
///
/// If both the day of the month and the day of the week are restricted, a day needs to fit one of them.
///
/// It differs from ActiveMQ's `CronParser` where that misses what the entry says: the parser skips to a later minute of
/// the hour at first (`0,30 5 * * *` asked for at 3:15 gives 5:30), takes 60, 24 and 32 for a minute, hour and day,
/// computes some other day for one that does not exist (`0 0 31 2 *`), and with both kinds of days restricted
/// goes to the nearer one and from there to the other; and its times have the milliseconds of the time it was asked at. Here the entry is always kept to, and one that never comes is
/// refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cron {
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
}

/// Numbers below 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Set(u64);

impl Set {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| number < WIDEST && self.0 >> number & 1 == 1)
    }

    /// The first one that is not less.
    fn from(self, number: i8) -> Option<i8> {
        let number = u32::try_from(number).ok().filter(|number| *number < WIDEST)?;
        let rest = self.0 >> number << number;
        (rest != 0).then(|| rest.trailing_zeros() as i8)
    }

    fn all(first: u32, last: u32) -> Self {
        Self((first..=last).fold(0, |set, number| set | 1 << number))
    }
}

/// Why a text is no cron entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronError(String);

impl fmt::Display for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CronError {}

const FIELDS: [(&str, u32, u32); 5] = [
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("day of the week", 0, 6),
];

impl Cron {
    /// The longest entry, in bytes.
    pub const MAX_LENGTH: usize = 1024;

    /// Reads a cron entry.
    ///
    /// # Errors
    ///
    /// A [`CronError`] for anything else, for numbers out of range, and for an entry that never comes. A client gets
    /// it as `MessageFormatException`.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(CronError(format!(
                "a cron entry has at most {} bytes",
                Self::MAX_LENGTH
            )));
        }
        let tokens = text.split_ascii_whitespace().collect::<Vec<_>>();
        if tokens.len() != FIELDS.len() {
            return Err(CronError(format!(
                "a cron entry has five fields, not {}: {text}",
                tokens.len()
            )));
        }
        let mut sets = [Set(0); FIELDS.len()];
        for ((set, token), (name, first, last)) in sets.iter_mut().zip(tokens).zip(FIELDS) {
            *set = field(token, first, last).map_err(|why| CronError(format!("{name} {token}: {why}")))?;
        }
        let [minutes, hours, days, months, weekdays] = sets;
        let cron = Self {
            minutes,
            hours,
            days,
            months,
            weekdays,
        };
        // Any leap year has every day there is.
        let leap = Date::constant(2000, 1, 1).at(0, 0, 0, 0);
        match cron.next_civil(leap) {
            Some(_) => Ok(cron),
            None => Err(CronError(format!("there is no such day: {text}"))),
        }
    }

    /// The first full minute after a time that the entry names. Times are milliseconds since 1970.
    ///
    /// Where clocks are put forward, what falls into the hour that is left out comes as much later; where they are
    /// put back, what falls into the hour that is there twice comes twice. ActiveMQ's `CronParser` leaves the first out
    /// (`30 2 * * *` comes again on the day after, and `30 2 31 3 *` on the 1st of April), and of an entry for once a
    /// day it gives the second once, the first time.
    ///
    /// `None` only for times beyond the year 9990 or before the year -9999.
    pub fn next(&self, after: i64, zone: &Zone) -> Option<i64> {
        let minute = after.div_euclid(60_000).checked_add(1)?;
        let from = Timestamp::from_millisecond(minute.checked_mul(60_000)?).ok()?;
        let mut offset = zone.0.to_offset(from);
        // The clock shows these from here on; in front of them lies what the clock left out.
        let mut civil = round_up(offset.to_datetime(from));
        let mut transitions = zone.0.following(from);
        loop {
            let transition = transitions.next();
            let found = self.next_civil(civil).and_then(|next| at(next, offset));
            let Some(transition) = transition else {
                return found.map(Timestamp::as_millisecond);
            };
            let (end, new) = (transition.timestamp(), transition.offset());
            if let Some(found) = found.filter(|found| *found < end) {
                return Some(found.as_millisecond());
            }
            // Nothing comes any more before the clocks change, as far as they go.
            let (old_end, new_start) = (offset.to_datetime(end), new.to_datetime(end));
            let left_out = self
                .next_civil(round_up(old_end))
                .filter(|next| *next < new_start)
                .and_then(|next| at(next, offset));
            let regular = self
                .next_civil(round_up(new_start))
                .and_then(|next| at(next, new));
            if let Some(left_out) = left_out {
                return Some(
                    regular
                        .map_or(left_out, |regular| regular.min(left_out))
                        .as_millisecond(),
                );
            }
            if from.as_second().abs_diff(end.as_second()) > HORIZON_SECONDS {
                return regular.map(Timestamp::as_millisecond);
            }
            offset = new;
            civil = round_up(new_start);
        }
    }

    fn day_fits(&self, date: Date) -> bool {
        let all_days = self.days == Set::all(FIELDS[2].1, FIELDS[2].2);
        let all_weekdays = self.weekdays == Set::all(FIELDS[4].1, FIELDS[4].2);
        let day = self.days.has(date.day());
        let weekday = self.weekdays.has(date.weekday().to_sunday_zero_offset());
        match (all_days, all_weekdays) {
            (true, _) => weekday,
            (_, true) => day,
            _ => day || weekday,
        }
    }

    /// The first time not before the given one, by a calendar in which clocks never change.
    fn next_civil(&self, from: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let mut time = Some(from.time());
        let last_year = date.year().checked_add(HORIZON_YEARS)?;
        while date.year() <= last_year {
            if !self.months.has(date.month()) {
                // To the first of the next month.
                date = date.last_of_month().tomorrow().ok()?;
                time = None;
                continue;
            }
            if self.day_fits(date)
                && let Some(time) = self.next_time(time.unwrap_or(Time::midnight()))
            {
                return Some(date.to_datetime(time));
            }
            date = date.tomorrow().ok()?;
            time = None;
        }
        None
    }

    /// The first time of a day not before the given one.
    fn next_time(&self, from: Time) -> Option<Time> {
        let hour = self.hours.from(from.hour())?;
        let minute = if hour == from.hour() { from.minute() } else { 0 };
        match self.minutes.from(minute) {
            Some(minute) => Time::new(hour, minute, 0, 0).ok(),
            None => {
                let hour = self.hours.from(hour + 1)?;
                Time::new(hour, self.minutes.from(0)?, 0, 0).ok()
            }
        }
    }
}

const HORIZON_SECONDS: u64 = HORIZON_YEARS as u64 * 366 * 24 * 3600;

/// When a clock with this offset shows it.
fn at(civil: DateTime, offset: Offset) -> Option<Timestamp> {
    offset.to_timestamp(civil).ok()
}

/// The next full minute, or this one.
fn round_up(civil: DateTime) -> DateTime {
    let time = civil.time();
    let full = civil.date().at(time.hour(), time.minute(), 0, 0);
    if full == civil {
        return full;
    }
    full.checked_add(jiff::Span::new().minutes(1)).unwrap_or(full)
}

fn field(token: &str, first: u32, last: u32) -> Result<Set, String> {
    let (token, step) = match token.split_once('/') {
        None => (token, None),
        Some((token, step)) => (token, Some(number(step)?)),
    };
    let mut set = 0;
    for item in token.split(',') {
        let (from, to) = match item.split_once('-') {
            _ if item == "*" || item == "?" => (first, last),
            None => {
                let only = number(item)?;
                (only, only)
            }
            Some((from, to)) => (number(from)?, number(to)?),
        };
        if from < first || to > last {
            return Err(format!("goes from {first} to {last}"));
        }
        if from > to {
            return Err("the first number of a range is not larger than the last".to_owned());
        }
        set |= Set::all(from, to).0;
    }
    match step {
        None => {}
        Some(0) => return Err("a step is at least 1".to_owned()),
        Some(step) => {
            let multiples = (first..=last).filter(|number| number % step == 0);
            set &= multiples.fold(0, |set, number| set | 1 << number);
        }
    }
    match set {
        0 => Err(format!("nothing from {first} to {last} fits")),
        set => Ok(Set(set)),
    }
}

fn number(text: &str) -> Result<u32, String> {
    // Not what parse takes besides: a sign, or a number without end.
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| format!("{text} is no number"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn berlin() -> Zone {
        Zone::named("Europe/Berlin").unwrap()
    }

    fn millis(text: &str, zone: &Zone) -> i64 {
        let civil: DateTime = text.parse().unwrap();
        zone.0.to_timestamp(civil).unwrap().as_millisecond()
    }

    fn next(entry: &str, after: &str) -> String {
        let zone = Zone::utc();
        let next = Cron::parse(entry)
            .unwrap()
            .next(millis(after, &zone), &zone)
            .unwrap();
        Timestamp::from_millisecond(next).unwrap().to_string()
    }

    #[test]
    fn what_an_entry_names() {
        for (entry, after, expected) in [
            ("* * * * *", "2011-03-07T09:15:30", "2011-03-07T09:16:00Z"),
            ("* * * * *", "2011-03-07T09:15:00", "2011-03-07T09:16:00Z"),
            ("50 20 * * 5", "2011-03-07T09:15:30", "2011-03-11T20:50:00Z"),
            ("50 20 * * 5", "2011-03-11T22:00:30", "2011-03-18T20:50:00Z"),
            ("0 20 * 4,5 0", "2011-03-07T09:15:30", "2011-04-03T20:00:00Z"),
            ("0 20 * 4,5 0", "2011-04-30T22:00:30", "2011-05-01T20:00:00Z"),
            ("0 20 * 4,5 0", "2011-05-30T22:00:30", "2012-04-01T20:00:00Z"),
            ("* * * 12 *", "2010-11-15T09:15:30", "2010-12-01T00:00:00Z"),
            ("0 0 1 * *", "2010-12-15T09:15:30", "2011-01-01T00:00:00Z"),
            ("*/5 * * * *", "2011-03-07T09:15:30", "2011-03-07T09:20:00Z"),
            ("1-10/3 * * * ?", "2011-03-07T09:00:00", "2011-03-07T09:03:00Z"),
            ("0,30 5 * * *", "2011-03-07T03:15:00", "2011-03-07T05:00:00Z"),
            ("0 0 29 2 *", "2096-03-01T00:00:00", "2104-02-29T00:00:00Z"),
            // The 15th or a Friday: Wednesday the 15th, then Friday the 17th.
            ("0 12 15 * 5", "2011-06-13T00:00:00", "2011-06-15T12:00:00Z"),
            ("0 12 15 * 5", "2011-06-15T12:00:00", "2011-06-17T12:00:00Z"),
        ] {
            assert_eq!(next(entry, after), expected, "{entry} after {after}");
        }
    }

    #[test]
    fn what_is_refused() {
        for entry in [
            "",
            "*",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * 0 *",
            "* * * * 7",
            "5-1 * * * *",
            "-5 * * * *",
            "5- * * * *",
            "1,, * * * *",
            "*/0 * * * *",
            "1/2 * * * *",
            "*/5,7 * * * *",
            "MON * * * *",
            "+1 * * * *",
            "0 0 31 2 *",
            "0 0 31 2,4 *",
            "99999999999 * * * *",
            "1-99999999999 * * * *",
        ] {
            assert!(Cron::parse(entry).is_err(), "{entry}");
        }
        assert!(Cron::parse(&"1,".repeat(10_000)).is_err());
        assert!(Zone::named("Europe/Nowhere").is_err());
    }

    #[test]
    fn far_away_times_have_no_next() {
        let cron = Cron::parse("* * * * *").unwrap();
        for zone in [Zone::utc(), berlin()] {
            for after in [i64::MAX, i64::MAX - 60_000] {
                assert_eq!(cron.next(after, &zone), None);
            }
        }
    }

    #[test]
    fn where_clocks_change() {
        let zone = berlin();
        let run = |entry: &str, after: &str| {
            let cron = Cron::parse(entry).unwrap();
            let mut at = millis(after, &zone);
            (0..3)
                .map(|_| {
                    at = cron.next(at, &zone).unwrap();
                    Timestamp::from_millisecond(at)
                        .unwrap()
                        .to_zoned(zone.0.clone())
                        .to_string()
                })
                .map(|text| text.split_once('[').unwrap().0.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            run("30 2 * * *", "2024-03-30T12:00:00"),
            [
                "2024-03-31T03:30:00+02:00",
                "2024-04-01T02:30:00+02:00",
                "2024-04-02T02:30:00+02:00"
            ]
        );
        assert_eq!(
            run("30 2 * * *", "2024-10-26T12:00:00"),
            [
                "2024-10-27T02:30:00+02:00",
                "2024-10-27T02:30:00+01:00",
                "2024-10-28T02:30:00+01:00"
            ]
        );
        assert_eq!(
            run("*/30 * * * *", "2024-03-31T01:29:00"),
            [
                "2024-03-31T01:30:00+01:00",
                "2024-03-31T03:00:00+02:00",
                "2024-03-31T03:30:00+02:00"
            ]
        );
    }

    fn entry() -> impl Strategy<Value = String> {
        let item = |first: u32, last: u32| {
            prop_oneof![
                3 => Just("*".to_owned()),
                2 => (first..=last).prop_map(|n| n.to_string()),
                1 => (first..=last, 0..8_u32).prop_map(move |(n, more)| format!("{n}-{}", (n + more).min(last))),
                1 => (first..=last, first..=last).prop_map(|(a, b)| format!("{a},{b}")),
                1 => (1..8_u32).prop_map(|step| format!("*/{step}")),
            ]
        };
        (item(0, 59), item(0, 23), item(1, 31), item(1, 12), item(0, 6))
            .prop_map(|(m, h, d, mo, w)| format!("{m} {h} {d} {mo} {w}"))
    }

    /// What a field names, read in a way of its own.
    fn named(token: &str, number: i8) -> bool {
        let number = i64::from(number);
        let (token, step) = token.split_once('/').unwrap_or((token, "1"));
        number % step.parse::<i64>().unwrap() == 0
            && token.split(',').any(|item| match item.split_once('-') {
                _ if item == "*" => true,
                None => item.parse() == Ok(number),
                Some((a, b)) => (a.parse().unwrap()..=b.parse::<i64>().unwrap()).contains(&number),
            })
    }

    fn shows(entry: &str, clock: DateTime) -> bool {
        let fields = entry.split(' ').collect::<Vec<_>>();
        let weekday = clock.weekday().to_sunday_zero_offset();
        let all = |token: &str, first, last| (first..=last).all(|number| named(token, number));
        let day = match (all(fields[2], 1, 31), all(fields[4], 0, 6)) {
            (true, _) => named(fields[4], weekday),
            (_, true) => named(fields[2], clock.day()),
            _ => named(fields[2], clock.day()) || named(fields[4], weekday),
        };
        clock.second() == 0
            && named(fields[0], clock.minute())
            && named(fields[1], clock.hour())
            && day
            && named(fields[3], clock.month())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        // A walker that goes from minute to minute, over the days round a change of clocks. What the clock leaves
        // out is found by a clock that did not change.
        #[test]
        fn next_is_the_first_minute_that_fits(
            entry in entry(),
            day in 0..4_i64,
            millis_of_day in 0..86_400_000_i64,
            start in prop::sample::select(vec!["2024-03-29T00:00:00", "2024-10-25T00:00:00", "2024-02-27T00:00:00"]),
            zone in prop::sample::select(vec!["Europe/Berlin", "UTC", "Australia/Lord_Howe", "America/New_York"]),
        ) {
            let Ok(cron) = Cron::parse(&entry) else { return Ok(()) };
            let zone = Zone::named(zone).unwrap();
            let after = millis(start, &Zone::utc()) + day * 86_400_000 + millis_of_day;
            let found = cron.next(after, &zone).unwrap();
            prop_assert!(found > after);
            let fits = |at: i64| {
                let now = Timestamp::from_millisecond(at).unwrap();
                let offset = zone.0.to_offset(now);
                if shows(&entry, offset.to_datetime(now)) {
                    return true;
                }
                // Within the time that was left out just before, by the clock as it was.
                let before = zone.0.preceding(now + jiff::SignedDuration::from_secs(1)).next();
                let Some(change) = before else { return false };
                let old = zone.0.to_offset(change.timestamp() - jiff::SignedDuration::from_secs(1));
                let clock = old.to_datetime(now);
                clock < offset.to_datetime(change.timestamp()) && shows(&entry, clock)
            };
            prop_assert!(fits(found), "{} is not named by {entry}", found);
            let first = (after.div_euclid(60_000) + 1) * 60_000;
            let walked = (0..3 * 24 * 60).map(|minute| first + minute * 60_000).find(|at| fits(*at));
            match walked {
                Some(walked) => prop_assert_eq!(walked, found),
                None => prop_assert!(found >= first + 3 * 24 * 3_600_000),
            }
        }
    }
}
