//! systemd's values in Cairn's forms: booleans, spans of time, sizes, percentages.

/// `1`, `yes`, `y`, `true`, `t`, `on` and their opposites, in any case (systemd.syntax(7)).
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    Milliseconds(u64),
    Infinity,
}

impl Span {
    /// In the form that a Cairn unit has it; `None` without an end.
    pub(crate) fn text(self) -> Option<String> {
        match self {
            Span::Milliseconds(ms) => Some(cairn_unit::Seconds::from_millis(ms).to_string()),
            Span::Infinity => None,
        }
    }
}

/// A span of time by systemd.time(7): numbers with units, added up; a number without a unit is seconds. Less than a millisecond
/// counts as one, since Cairn knows nothing shorter.
pub(crate) fn span(text: &str) -> Option<Span> {
    let mut rest = text.trim();
    if rest == "infinity" {
        return Some(Span::Infinity);
    }
    let mut nanoseconds = 0u128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (digits, tail) = rest.split_at(end);
        let tail = tail.trim_start();
        let end = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        nanoseconds = nanoseconds.checked_add(scaled(digits, nanos(unit)?)?)?;
        rest = tail.trim_start();
    }
    let whole = u64::try_from(nanoseconds / 1_000_000).ok()?;
    let less = nanoseconds > 0 && whole == 0;
    Some(Span::Milliseconds(if less { 1 } else { whole }))
}

/// A decimal number times a whole one, rounded down.
fn scaled(digits: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if digits.is_empty() || digits.ends_with('.') || fraction.contains('.') || fraction.len() > 12 {
        return None;
    }
    let number = |text: &str| {
        if text.is_empty() {
            Some(0u128)
        } else {
            text.parse().ok()
        }
    };
    let part = number(fraction)?.checked_mul(factor)? / 10u128.pow(u32::try_from(fraction.len()).ok()?);
    number(whole)?.checked_mul(factor)?.checked_add(part)
}

fn nanos(unit: &str) -> Option<u128> {
    const SECOND: u128 = 1_000_000_000;
    Some(match unit {
        "" | "s" | "sec" | "second" | "seconds" => SECOND,
        "ns" | "nsec" => 1,
        "us" | "\u{3bc}s" | "\u{b5}s" | "usec" => 1_000,
        "ms" | "msec" => 1_000_000,
        "m" | "min" | "minute" | "minutes" => 60 * SECOND,
        "h" | "hr" | "hour" | "hours" => 3_600 * SECOND,
        "d" | "day" | "days" => 86_400 * SECOND,
        "w" | "week" | "weeks" => 7 * 86_400 * SECOND,
        // A month is 30.44 days and a year 365.25 (systemd.time(7)).
        "M" | "month" | "months" => 2_629_800 * SECOND,
        "y" | "year" | "years" => 31_557_600 * SECOND,
        _ => return None,
    })
}

/// A size: a number, with a fraction if need be, and `K`, `M`, `G`, `T`, `P` or `E` for powers of 1024; in bytes.
pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let power = match unit.trim() {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        "E" => 60,
        _ => return None,
    };
    u64::try_from(scaled(digits, 1u128 << power)?).ok()
}

/// A percentage in whole percent, at least 1 for any that is above 0.
pub(crate) fn percent(text: &str) -> Option<u32> {
    let digits = text.trim().strip_suffix('%')?;
    let hundredths = scaled(digits, 100)?;
    u32::try_from(hundredths.div_ceil(100)).ok()
}

/// A size in the form that a Cairn unit has it: the largest unit that is exact.
pub(crate) fn size_text(bytes: u64) -> String {
    cairn_unit::Bytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Option<u64> {
        match span(text)? {
            Span::Milliseconds(ms) => Some(ms),
            Span::Infinity => None,
        }
    }

    #[test]
    fn spans_are_those_of_systemd_time() {
        // The examples of systemd.time(7).
        assert_eq!(ms("2 h"), Some(7_200_000));
        assert_eq!(ms("2hours"), Some(7_200_000));
        assert_eq!(ms("48hr"), Some(172_800_000));
        assert_eq!(ms("1y 12month"), Some((31_557_600 + 12 * 2_629_800) * 1000));
        assert_eq!(ms("55s500ms"), Some(55_500));
        assert_eq!(ms("300ms20s 5day"), Some(300 + 20_000 + 5 * 86_400_000));
        // And of its rules.
        assert_eq!(ms("50"), Some(50_000), "a number without a unit is seconds");
        assert_eq!(ms("1.5min"), Some(90_000));
        assert_eq!(ms("1min 30"), Some(90_000));
        assert_eq!(ms(".5s"), Some(500));
        assert_eq!(ms("10us"), Some(1), "Cairn knows nothing shorter than a millisecond");
        assert_eq!(ms("0"), Some(0));
        assert_eq!(span("infinity"), Some(Span::Infinity));
        for wrong in ["", "5 parsecs", "s", "-5", "1..2", ".", "5."] {
            assert_eq!(span(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_span_has_the_form_of_a_unit() {
        assert_eq!(span("1min 30s").and_then(Span::text).as_deref(), Some("90s"));
        assert_eq!(span("120").and_then(Span::text).as_deref(), Some("2m"));
        assert_eq!(span("infinity").and_then(Span::text), None);
    }

    #[test]
    fn sizes_and_percentages_are_those_of_systemd() {
        assert_eq!(size("512M"), Some(512 << 20));
        assert_eq!(size("1.5G"), Some(3 << 29));
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(size("1k"), None, "systemd refuses small letters");
        assert_eq!(size("50%"), None);
        assert_eq!(size_text(3 << 29), "1536M");
        assert_eq!(percent("150%"), Some(150));
        assert_eq!(percent("0.5%"), Some(1));
        assert_eq!(percent("20"), None);
        assert_eq!(boolean("Yes"), Some(true));
        assert_eq!(boolean("off"), Some(false));
        assert_eq!(boolean("strict"), None);
    }
}
