//! When the appliance upgrades itself: windows, holds, and who decides.

mod common;

use cairn_unit::{Bytes, Hold, Manifest, Moment, Site, Upgrade, UpgradeMode, UpgradePolicy, Window};
use common::source;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// 2026-11-22 00:00 UTC, a Sunday.
const SUNDAY: u64 = 1_795_305_600;

fn window(text: &str) -> Window {
    text.parse().unwrap()
}

fn built() -> Upgrade {
    serde_json::from_value(serde_json::json!({
        "root": "keys/root.json", "mode": "automatic", "window": ["Sun 02:00-05:00"], "bandwidth": "1M",
    }))
    .unwrap()
}

fn manifest(upgrade: bool) -> Manifest {
    let mut all = serde_json::json!({"name": "a", "version": "1", "description": "x", "built": 0, "units": {}});
    if upgrade {
        all["upgrade"] = serde_json::to_value(built()).unwrap();
    }
    serde_json::from_value(all).unwrap()
}

#[test]
fn a_window_is_open_from_its_beginning_to_before_its_end() {
    for (text, at, open) in [
        ("Sun 02:00-05:00", SUNDAY + 2 * HOUR - 1, false),
        ("Sun 02:00-05:00", SUNDAY + 2 * HOUR, true),
        ("Sun 02:00-05:00", SUNDAY + 5 * HOUR - 1, true),
        ("Sun 02:00-05:00", SUNDAY + 5 * HOUR, false),
        ("Sun 02:00-05:00", SUNDAY + DAY + 2 * HOUR, false),
        ("Sun 02:00-05:00", SUNDAY + 7 * DAY + 2 * HOUR, true),
        ("02:00-05:00", SUNDAY + 3 * DAY + 3 * HOUR, true),
        // Over midnight: the weekday is the one on which it begins.
        ("Sat 23:00-02:00", SUNDAY + HOUR, true),
        ("Sat 23:00-02:00", SUNDAY - HOUR, true),
        ("Sat 23:00-02:00", SUNDAY + 2 * HOUR, false),
        ("Sun 23:00-02:00", SUNDAY + HOUR, false),
        ("Sat 00:00-24:00", SUNDAY - 1, true),
        ("Sat 00:00-24:00", SUNDAY, false),
        ("Sat,Mon 12:00-13:00", SUNDAY + DAY + 12 * HOUR, true),
        ("Mon..Fri 12:00-12:30", SUNDAY + 12 * HOUR, false),
        // The first day of all, which had none before it.
        ("Wed 23:00-02:00", HOUR, false),
        ("Thu 00:00-02:00", HOUR, true),
    ] {
        assert_eq!(window(text).is_open(at), open, "{text} {at}");
    }
}

#[test]
fn the_next_beginning_of_a_window_is_found() {
    for (text, now, next) in [
        ("Sun 02:00-05:00", SUNDAY, SUNDAY + 2 * HOUR),
        ("Sun 02:00-05:00", SUNDAY + 2 * HOUR, SUNDAY + 7 * DAY + 2 * HOUR),
        ("Sun 02:00-05:00", SUNDAY + 3 * HOUR, SUNDAY + 7 * DAY + 2 * HOUR),
        ("02:00-05:00", SUNDAY + 3 * HOUR, SUNDAY + DAY + 2 * HOUR),
        ("Mon..Fri 01:30-04:00", SUNDAY + 3 * HOUR, SUNDAY + DAY + 3 * HOUR / 2),
    ] {
        assert_eq!(window(text).next(now), next, "{text} {now}");
    }
}

#[test]
fn what_is_no_window_and_no_moment_is_refused() {
    for bad in [
        "",
        "02:00",
        "02:00-02:00",
        "24:00-01:00",
        "2:00-3:00",
        "02:60-03:00",
        "02:00-24:01",
        "Sum 02:00-03:00",
        "Sun",
        "Sun Mon 02:00-03:00",
        "Fri..Mon 02:00-03:00",
        "é2:00-03:00",
    ] {
        assert!(bad.parse::<Window>().is_err(), "{bad}");
    }
    assert_eq!("2026-11-22".parse(), Ok(Moment(SUNDAY)));
    assert_eq!("2026-11-22T03:00:00+02:00".parse(), Ok(Moment(SUNDAY + HOUR)));
    assert_eq!(Moment(SUNDAY).to_string(), "2026-11-22T00:00:00Z");
    for bad in ["", "tomorrow", "2026-13-01", "1969-01-01"] {
        assert!(bad.parse::<Moment>().is_err(), "{bad}");
    }
}

#[test]
fn the_owner_decides_and_what_is_left_out_is_as_it_was_built() {
    let site = |text: &str| Site::parse(&source("site.toml", text), &manifest(true)).unwrap();
    let policy = |text: &str| UpgradePolicy::of(&built(), site(text).upgrade.as_ref());
    let own = policy("");
    assert_eq!(
        (own.mode, own.window, own.bandwidth),
        (
            UpgradeMode::Automatic,
            vec![window("Sun 02:00-05:00")],
            Some(Bytes(1 << 20))
        )
    );
    let other = policy("[upgrade]\nmode = \"off\"\nwindow = []\n");
    assert_eq!(
        (other.mode, other.window, other.bandwidth),
        (UpgradeMode::Off, vec![], Some(Bytes(1 << 20)))
    );
    // A recipe that says nothing looks and tells.
    let plain: Upgrade = serde_json::from_value(serde_json::json!({"root": "r"})).unwrap();
    assert_eq!(UpgradePolicy::of(&plain, None), UpgradePolicy::default());
    assert_eq!(UpgradePolicy::default().mode, UpgradeMode::Notify);
}

#[test]
fn a_hold_ends_when_it_says_so_and_otherwise_not() {
    let policy = |until| UpgradePolicy {
        hold: Some(Hold {
            until,
            reason: String::new(),
        }),
        ..UpgradePolicy::default()
    };
    assert!(policy(None).held(u64::MAX).is_some());
    assert!(policy(Some(Moment(SUNDAY))).held(SUNDAY - 1).is_some());
    assert!(policy(Some(Moment(SUNDAY))).held(SUNDAY).is_none());
    assert!(UpgradePolicy::default().held(0).is_none());
}

#[test]
fn choices_that_cannot_be_are_refused_where_they_stand() {
    let refused = |text: &str, upgrade: bool| {
        let problems = Site::parse(&source("site.toml", text), &manifest(upgrade))
            .unwrap_err()
            .0;
        assert_eq!(problems.len(), 1, "{problems:?}");
        (problems[0].at.unwrap().0, problems[0].message.clone())
    };
    let (line, message) = refused("[upgrade]\nmode = \"off\"\nbandwidth = \"1K\"\n", true);
    assert_eq!(
        (line, message.as_str()),
        (3, "1K a second is too little for an image to arrive")
    );
    assert!(
        refused("[upgrade]\nwindow = [\"Sun\"]\n", true)
            .1
            .contains("is not a window")
    );
    let (_, message) = refused("[upgrade]\nmode = \"off\"\n", false);
    assert_eq!(message, "the appliance was built without upgrades");
}
