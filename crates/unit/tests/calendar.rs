//! Times of the calendar: what is read, what is refused, and when they come.

use cairn_unit::Calendar;

/// 2026-01-31 22:59:59 UTC, a Saturday.
const BASE: u64 = 1_769_900_399;

fn next(text: &str, after: u64) -> u64 {
    let calendar: Calendar = text.parse().unwrap_or_else(|e| panic!("{e}"));
    calendar.next(after).unwrap_or_else(|| panic!("{text} never comes"))
}

#[test]
fn the_next_time_is_after_the_given_one_and_the_first_there_is() {
    let hour = 3600;
    let midnight = BASE + hour + 1;
    for (text, seconds) in [
        ("minutely", BASE + 1),
        ("hourly", BASE + 1),
        ("daily", midnight),
        ("weekly", midnight + 24 * hour),
        ("monthly", midnight),
        ("*-*-* 23:30", BASE + 1 + hour / 2),
        ("Sat 23:30", BASE + 1 + hour / 2),
        ("Mon..Fri 03:00", midnight + 27 * hour),
        ("Sun,Sat 22:59:59", BASE + 24 * hour),
        ("*:0/15", BASE + 1),
        ("*:7/15:30", BASE + 1 + 7 * 60 + 30),
        ("*-*-01 04:30", midnight + 4 * hour + hour / 2),
        ("02-01 UTC", midnight),
        ("2027-02-01", 1_801_440_000),
        ("*-02-29", 1_835_395_200),
    ] {
        assert_eq!(next(text, BASE), seconds, "{text}");
    }
}

#[test]
fn a_time_that_is_now_comes_again_later() {
    let once = next("hourly", BASE);
    assert_eq!(next("hourly", once), once + 3600);
    assert_eq!(next("hourly", once - 1), once);
}

#[test]
fn a_year_that_is_past_never_comes_again() {
    let calendar: Calendar = "2020-01-01".parse().unwrap();
    assert_eq!(calendar.next(BASE), None);
}

#[test]
fn what_is_no_time_is_refused() {
    for text in [
        "",
        " ",
        "never",
        "25:00",
        "12:60",
        "*-13-01",
        "*-02-30",
        "Mon..",
        "Fri..Mon",
        "1..",
        "*:*:*:*",
        "12",
        "*-*-* 1:2 x",
        "*:0/0",
        "*:5..1",
        "2300-01-01",
        "+1:00",
        "12:00 CET",
        "\u{663}:00",
    ] {
        let refused = text.parse::<Calendar>();
        assert!(refused.is_err(), "{text:?} was read as {refused:?}");
    }
    let error = "25:00".parse::<Calendar>().unwrap_err().to_string();
    assert!(error.starts_with("`25:00` is not a time of the calendar"), "{error}");
}

#[test]
fn a_time_keeps_the_form_in_which_it_was_written() {
    assert_eq!(
        "Mon..Fri 03:00".parse::<Calendar>().unwrap().to_string(),
        "Mon..Fri 03:00"
    );
}
