//! Times of the calendar, in the form of systemd.time(7): `Mon..Fri 03:00`, `*-*-01 04:30`, `hourly`. Always in UTC.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::values::ValueError;

/// The last year in which a next time is looked for.
const LAST_YEAR: i16 = 2199;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const LONG_DAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];
const WORDS: [(&str, &str); 8] = [
    ("minutely", "*-*-* *:*:00"),
    ("hourly", "*-*-* *:00:00"),
    ("daily", "*-*-* 00:00:00"),
    ("weekly", "Mon *-*-* 00:00:00"),
    ("monthly", "*-*-01 00:00:00"),
    ("quarterly", "*-01,04,07,10-01 00:00:00"),
    ("semiannually", "*-01,07-01 00:00:00"),
    ("yearly", "*-01-01 00:00:00"),
];

/// Times that come again: `[WEEKDAYS] [[YEAR-]MONTH-DAY] [HOUR:MINUTE[:SECOND]]`. Each number may be `*`, a list with `,`, a
/// range with `..`, and have a step with `/`. Left out: any day; 00:00:00.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    text: String,
    /// From Monday.
    weekdays: [bool; 7],
    year: Field,
    month: Field,
    day: Field,
    hour: Field,
    minute: Field,
    second: Field,
}

/// The values that one number may have; none listed: all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Field(Vec<Span>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: i16,
    to: i16,
    step: i16,
}

impl Field {
    fn has(&self, value: i16) -> bool {
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|s| (s.from..=s.to).contains(&value) && (value - s.from) % s.step == 0)
    }

    /// Reads `*`, `5`, `1..5`, `0/15`, `1,3..5`; `None` if it is none of these or outside `low..=high`.
    fn parse(text: &str, low: i16, high: i16) -> Option<Field> {
        let number = |text: &str| -> Option<i16> {
            let plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
            let value: i16 = plain.then(|| text.parse().ok()).flatten()?;
            (low..=high).contains(&value).then_some(value)
        };
        if text == "*" {
            return Some(Field::default());
        }
        let mut spans = Vec::new();
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(step)),
                None => (part, None),
            };
            let (from, to) = match range.split_once("..") {
                Some((from, to)) => (number(from)?, number(to)?),
                None if range == "*" => (low, high),
                // A step without an end goes on to the last value.
                None if step.is_some() => (number(range)?, high),
                None => (number(range)?, number(range)?),
            };
            let step = match step {
                Some(step) => step.parse().ok().filter(|s| (1..=high).contains(s))?,
                None => 1,
            };
            if from > to {
                return None;
            }
            spans.push(Span { from, to, step });
        }
        Some(Field(spans))
    }
}

pub(crate) fn weekdays(text: &str) -> Option<[bool; 7]> {
    let day = |word: &str| {
        let word = word.to_ascii_lowercase();
        let short = DAYS.iter().position(|d| *d == word);
        short.or_else(|| LONG_DAYS.iter().position(|d| *d == word))
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (from, to) = match part.split_once("..") {
            Some((from, to)) => (day(from)?, day(to)?),
            None => (day(part)?, day(part)?),
        };
        if from > to {
            return None;
        }
        days[from..=to].fill(true);
    }
    Some(days)
}

impl Calendar {
    /// The first such time after `after`, both in seconds since 1970; `None` if there is none before the year 2200.
    pub fn next(&self, after: u64) -> Option<u64> {
        let start = Timestamp::from_second(i64::try_from(after).ok()?.checked_add(1)?).ok()?;
        let start: DateTime = TimeZone::UTC.to_datetime(start);
        let mut day = start.date();
        loop {
            if !self.year.has(day.year()) {
                // Years are skipped whole, so that a far one costs little.
                day = Date::new(day.year().checked_add(1)?, 1, 1).ok()?;
            } else if self.on(day) {
                let from = if day == start.date() {
                    start.time()
                } else {
                    Time::midnight()
                };
                if let Some(time) = self.within_day(from) {
                    let at = day.to_datetime(time).to_zoned(TimeZone::UTC).ok()?;
                    return u64::try_from(at.timestamp().as_second()).ok();
                }
                day = day.tomorrow().ok()?;
            } else {
                day = day.tomorrow().ok()?;
            }
            if day.year() > LAST_YEAR {
                return None;
            }
        }
    }

    fn on(&self, day: Date) -> bool {
        self.month.has(day.month().into())
            && self.day.has(day.day().into())
            && usize::try_from(day.weekday().to_monday_zero_offset()).is_ok_and(|d| self.weekdays[d])
    }

    /// The first time of a day at or after `from`.
    fn within_day(&self, from: Time) -> Option<Time> {
        for hour in (from.hour()..24).filter(|h| self.hour.has((*h).into())) {
            let first = if hour == from.hour() { from.minute() } else { 0 };
            for minute in (first..60).filter(|m| self.minute.has((*m).into())) {
                let same = hour == from.hour() && minute == from.minute();
                let first = if same { from.second() } else { 0 };
                if let Some(second) = (first..60).find(|s| self.second.has((*s).into())) {
                    return Time::new(hour, minute, second, 0).ok();
                }
            }
        }
        None
    }

    fn read(text: &str) -> Option<Calendar> {
        let lower = text.trim().to_ascii_lowercase();
        let form = WORDS
            .iter()
            .find(|(word, _)| *word == lower)
            .map_or(text, |(_, form)| form);
        let mut words: Vec<&str> = form.split_whitespace().collect();
        if words.last() == Some(&"UTC") {
            words.pop();
        }
        let mut calendar = Calendar {
            text: text.trim().to_owned(),
            weekdays: [true; 7],
            year: Field::default(),
            month: Field::default(),
            day: Field::default(),
            hour: Field::parse("0", 0, 23)?,
            minute: Field::parse("0", 0, 59)?,
            second: Field::parse("0", 0, 59)?,
        };
        let mut rest = words.as_slice();
        if rest.is_empty() {
            return None;
        }
        if let [first, more @ ..] = rest
            && first.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            calendar.weekdays = weekdays(first)?;
            rest = more;
        }
        if let [first, more @ ..] = rest
            && first.contains('-')
        {
            let parts: Vec<&str> = first.split('-').collect();
            let (year, month, day) = match parts.as_slice() {
                [year, month, day] => (*year, *month, *day),
                [month, day] => ("*", *month, *day),
                _ => return None,
            };
            calendar.year = Field::parse(year, 1970, LAST_YEAR)?;
            calendar.month = Field::parse(month, 1, 12)?;
            calendar.day = Field::parse(day, 1, 31)?;
            rest = more;
        }
        if let [first, more @ ..] = rest {
            let parts: Vec<&str> = first.split(':').collect();
            let (hour, minute, second) = match parts.as_slice() {
                [hour, minute, second] => (*hour, *minute, *second),
                [hour, minute] => (*hour, *minute, "0"),
                _ => return None,
            };
            calendar.hour = Field::parse(hour, 0, 23)?;
            calendar.minute = Field::parse(minute, 0, 59)?;
            calendar.second = Field::parse(second, 0, 59)?;
            rest = more;
        }
        // A form that no day has, like the 31st of June, would never start anything.
        (rest.is_empty() && calendar.next(0).is_some()).then_some(calendar)
    }
}

impl FromStr for Calendar {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        Calendar::read(text).ok_or_else(|| {
            ValueError::new(format!(
                "`{text}` is not a time of the calendar: write for example `daily`, `Mon..Fri 03:00` or `*-*-01 04:30`, in UTC"
            ))
        })
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Calendar {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Calendar {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Calendar {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Calendar".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[A-Za-z0-9*.,:/ -]+$",
            "description": "Times of the calendar in UTC, as in systemd.time(7): `[WEEKDAYS] [[YEAR-]MONTH-DAY] [HOUR:MINUTE[:SECOND]]` with `*`, \
                            `,`, `..` and `/`, or `hourly`, `daily`, `weekly`, `monthly`, `yearly`.",
            "examples": ["daily", "Mon..Fri 03:00", "*-*-01 04:30"],
        })
    }
}
