//! Times as people write them. All in UTC: an appliance has no time zone of its own.

use crate::error::Error;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// `2026-01-31T23:59:59.123456` with so many digits of the second, and `zone` after it.
pub(crate) fn iso_utc(nanoseconds: u64, digits: usize, zone: &str) -> String {
    let (seconds, fraction) = (nanoseconds / SECOND, nanoseconds % SECOND);
    let (days, second) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = civil(days);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = &format!("{fraction:09}")[..digits.min(9)];
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{fraction}{zone}")
}

/// Year, month and day of a day after 1970-01-01, counted in eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The day after 1970-01-01 of a date; `None` if there is no such date since then.
fn day_number(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=2500).contains(&year) || !(1..=12).contains(&month) || day > 31 {
        return None;
    }
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted_year / 400, shifted_year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    let days = (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)?;
    (civil(days) == (year, month, day)).then_some(days)
}

/// Reads a time for `--since` and `--until`, in nanoseconds since 1970: `2026-01-31`, `2026-01-31 23:59[:59[.5]]` (also with
/// `T` and a final `Z`), `23:59` of today, `now`, `today`, `yesterday`, `@SECONDS`, or a span back from `now`: `-90s`, `-5m`,
/// `10 min ago`, `2 hours ago`.
///
/// # Errors
/// It is none of these.
pub fn parse_time(text: &str, now: u64) -> Result<u64, Error> {
    let word = text.trim();
    let midnight = now - now % (DAY * SECOND);
    let found = match word {
        "now" => Some(now),
        "today" => Some(midnight),
        "yesterday" => midnight.checked_sub(DAY * SECOND),
        _ => match (word.strip_prefix('@'), word.strip_prefix('-'), word.strip_suffix("ago")) {
            (Some(seconds), ..) => decimal(seconds),
            (_, Some(span), _) | (_, _, Some(span)) => parse_span(span.trim()).map(|span| now.saturating_sub(span)),
            _ if word.contains('-') => date_time(word),
            _ => clock_time(word).and_then(|time| midnight.checked_add(time)),
        },
    };
    found.ok_or_else(|| {
        Error::text(
            text,
            "a time: 2026-01-31, 2026-01-31 23:59:59, 23:59, now, today, yesterday, @SECONDS, -5m or 2h ago (UTC)",
        )
    })
}

fn parse_span(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let seconds = match text[digits..].trim() {
        "" | "s" | "sec" | "second" | "seconds" => 1,
        "m" | "min" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => 7 * DAY,
        _ => return None,
    };
    number(&text[..digits])?.checked_mul(seconds)?.checked_mul(SECOND)
}

fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Seconds with up to nine digits after a point, in nanoseconds.
fn decimal(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let nanoseconds = (fraction.len() <= 9)
        .then(|| number(&format!("{fraction:0<9}")))
        .flatten()?;
    number(whole)?.checked_mul(SECOND)?.checked_add(nanoseconds)
}

fn date_time(text: &str) -> Option<u64> {
    let text = text
        .strip_suffix('Z')
        .or_else(|| text.strip_suffix("+00:00"))
        .unwrap_or(text);
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00"));
    let mut parts = date.split('-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() {
        return None;
    }
    Some(day_number(year, month, day)? * DAY * SECOND + clock_time(time)?)
}

/// `23:59`, `23:59:59.5`: nanoseconds after midnight.
fn clock_time(text: &str) -> Option<u64> {
    let mut clock = text.splitn(3, ':');
    let (hour, minute) = (number(clock.next()?)?, number(clock.next()?)?);
    let second = decimal(clock.next().unwrap_or("0"))?;
    let fits = hour <= 23 && minute <= 59 && second < 61 * SECOND;
    fits.then(|| (hour * 3600 + minute * 60) * SECOND + second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = parse_time("2026-11-22 08:32:02.5", 0).unwrap();
        assert_eq!(now, 1_795_336_322_500_000_000);
        let back = |text: &str| (now - parse_time(text, now).unwrap()) / SECOND;
        assert_eq!(
            (back("-90s"), back("2h ago"), back("now"), back("-1w")),
            (90, 7200, 0, 604_800)
        );
        assert_eq!(parse_time("today", now).unwrap(), parse_time("2026-11-22", 0).unwrap());
        assert_eq!(
            parse_time("yesterday", now).unwrap(),
            parse_time("2026-11-21T00:00Z", 0).unwrap()
        );
        assert_eq!((back("10 min ago"), back("3 hours ago")), (600, 10_800));
        assert_eq!(
            parse_time("08:00", now).unwrap(),
            parse_time("2026-11-22 08:00", 0).unwrap()
        );
        assert_eq!(parse_time("@1.25", 0).unwrap(), 1_250_000_000);
        for bad in [
            "",
            "tomorrow",
            "2026-02-30",
            "2026-13-01",
            "1969-01-01",
            "25:00",
            "-5y",
            "@",
            "@1.1234567890",
            "2026-1-1 9",
            "12222222222222220:00",
            "2026-01-18446744073709551615",
        ] {
            assert!(parse_time(bad, now).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(seconds in 0..16_000_000_000_u64, fraction in 0..1_000_000_u64) {
            let time = seconds * SECOND + fraction * 1000;
            prop_assert_eq!(parse_time(&iso_utc(time, 6, "Z"), 0).unwrap(), time);
        }
    }
}
