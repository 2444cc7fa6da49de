//! The two clocks: monotonic for decisions, real for people.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the kernel started.
pub fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// The real time in seconds since 1970.
pub fn seconds() -> u64 {
    u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or(0)
}

/// Now, as `2026-01-31T23:59:59.123Z`.
pub fn stamp() -> String {
    let now = clock_gettime(ClockId::Realtime);
    format(now.tv_sec, now.tv_nsec / 1_000_000)
}

/// Seconds since 1970 in the proleptic Gregorian calendar; the day count is by the well-known era arithmetic.
fn format(seconds: i64, ms: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let z = days + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(format(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(format(951_782_400, 7), "2000-02-29T00:00:00.007Z");
        assert_eq!(format(1_798_761_599, 999), "2026-12-31T23:59:59.999Z");
    }
}
