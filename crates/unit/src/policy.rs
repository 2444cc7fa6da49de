//! When the appliance upgrades itself: what a recipe's `[upgrade]` proposes and the owner's `site.toml` decides.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::calendar::weekdays;
use crate::recipe::Upgrade;
use crate::values::{Bytes, ValueError};

const DAY: u64 = 24 * 60;
const WEEK: u64 = 7 * DAY;

/// What the appliance does by itself about later versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpgradeMode {
    /// It looks every day, installs what is its own, and restarts in the window.
    Automatic,
    /// It looks every day and tells.
    #[default]
    Notify,
    /// Nothing.
    Off,
}

impl fmt::Display for UpgradeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UpgradeMode::Automatic => "automatic",
            UpgradeMode::Notify => "notify",
            UpgradeMode::Off => "off",
        })
    }
}

/// A stretch of time that comes every week: `[WEEKDAYS] HH:MM-HH:MM`, in UTC. One that ends no later than it begins ends on the next day; the
/// weekdays are those on which it begins. Left out: every day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    text: String,
    /// From Monday.
    weekdays: [bool; 7],
    /// In minutes of the day.
    from: u64,
    /// How many minutes, at most a day.
    length: u64,
}

impl Window {
    /// Where `now`, in seconds since 1970, stands in the week of the day that lies `back` days before: that day, and the seconds since it began.
    fn day(now: u64, back: u64) -> Option<(usize, u64)> {
        let begun = (now / (DAY * 60)).checked_sub(back)?;
        // 1970 began on a Thursday.
        let weekday = usize::try_from((begun + 3) % 7).unwrap_or(0);
        Some((weekday, now - begun * DAY * 60))
    }

    /// Whether it is open at this time, in seconds since 1970.
    pub fn is_open(&self, now: u64) -> bool {
        (0..=1).filter_map(|back| Self::day(now, back)).any(|(weekday, since)| {
            self.weekdays[weekday] && (self.from * 60..(self.from + self.length) * 60).contains(&since)
        })
    }

    /// When it next begins after this time, both in seconds since 1970.
    pub fn next(&self, now: u64) -> u64 {
        let midnight = now - now % (DAY * 60);
        let starts = (0..=7).map(|day| midnight + day * DAY * 60 + self.from * 60);
        let fits = |at: &u64| *at > now && Self::day(*at, 0).is_some_and(|(weekday, _)| self.weekdays[weekday]);
        // Every window has a weekday.
        starts.into_iter().find(fits).unwrap_or(now + WEEK * 60)
    }

    fn read(text: &str) -> Option<Window> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (days, hours) = match words.as_slice() {
            [hours] => ([true; 7], hours),
            [days, hours] => (weekdays(days)?, hours),
            _ => return None,
        };
        let minutes = |text: &str| -> Option<u64> {
            let (hour, minute) = text.split_once(':')?;
            let number = |text: &str| {
                (text.len() == 2)
                    .then(|| text.parse::<u8>().ok())
                    .flatten()
                    .map(u64::from)
            };
            let all = number(hour)? * 60 + number(minute).filter(|minute| *minute < 60)?;
            (all <= DAY).then_some(all)
        };
        let (from, to) = hours.split_once('-')?;
        let (from, to) = (minutes(from).filter(|from| *from < DAY)?, minutes(to)?);
        if from == to {
            return None;
        }
        Some(Window {
            text: words.join(" "),
            weekdays: days,
            from,
            length: if to > from { to - from } else { to + DAY - from },
        })
    }
}

impl FromStr for Window {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        Window::read(text).ok_or_else(|| {
            ValueError::new(format!(
                "`{text}` is not a window: write for example `Sun 02:00-05:00`, `Mon..Fri 01:30-04:00` or `23:00-02:00`, in UTC"
            ))
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A moment, written as a day (its beginning in UTC) or as in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl FromStr for Moment {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let day = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok();
        let at = text.parse::<Timestamp>().ok().or_else(|| Some(day()?.timestamp()));
        let seconds = at.and_then(|at| u64::try_from(at.as_second()).ok());
        seconds.map(Moment).ok_or_else(|| {
            ValueError::new(format!(
                "`{text}` is not a moment: write for example 2027-01-31 or 2027-01-31T06:00:00Z"
            ))
        })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = i64::try_from(self.0)
            .ok()
            .and_then(|at| Timestamp::from_second(at).ok());
        write!(f, "{}", at.unwrap_or_default().strftime("%FT%TZ"))
    }
}

macro_rules! text_form {
    ($name:ident, $pattern:literal, $form:literal, $examples:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string", "pattern": $pattern, "description": $form, "examples": $examples,
                })
            }
        }
    };
}
text_form!(
    Window,
    "^([A-Za-z.,]+ +)?[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$",
    "`[WEEKDAYS] HH:MM-HH:MM` in UTC; the weekdays as in a calendar, and every day if left out. A window that ends no later than it begins \
     ends on the next day.",
    ["Sun 02:00-05:00", "Mon..Fri 01:30-04:00", "23:00-02:00"]
);
text_form!(
    Moment,
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?$",
    "A day, meaning its beginning in UTC, or a time as in RFC 3339.",
    ["2027-01-31", "2027-01-31T06:00:00Z"]
);

/// The owner's choices for upgrades; what is left out is as the appliance was built.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteUpgrade {
    /// As in the recipe: `automatic`, `notify` or `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<UpgradeMode>,
    /// As in the recipe: when the appliance may restart by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Vec<Window>>,
    /// As in the recipe: bytes a second at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bytes>,
    /// Nothing is installed by itself, and nothing at all without `--force`. `cairn upgrade hold` writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// The owner lets nothing be installed for now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hold {
    /// Until when. Left out: until it is taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// Why; told to whoever would install.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What holds in the end.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpgradePolicy {
    /// What is done by itself.
    pub mode: UpgradeMode,
    /// When the appliance may restart by itself; never, if there is none.
    pub window: Vec<Window>,
    /// Bytes a second at most; `None`: as fast as it goes.
    pub bandwidth: Option<Bytes>,
    /// Whether the owner lets nothing be installed.
    pub hold: Option<Hold>,
}

impl UpgradePolicy {
    /// What the owner decided, and for the rest what the recipe proposes.
    pub fn of(built: &Upgrade, site: Option<&SiteUpgrade>) -> UpgradePolicy {
        let site = site.cloned().unwrap_or_default();
        UpgradePolicy {
            mode: site.mode.unwrap_or(built.mode),
            window: site.window.unwrap_or_else(|| built.window.clone()),
            bandwidth: site.bandwidth.or(built.bandwidth),
            hold: site.hold,
        }
    }

    /// The hold that is in force at this time, in seconds since 1970.
    pub fn held(&self, now: u64) -> Option<&Hold> {
        self.hold
            .as_ref()
            .filter(|hold| hold.until.is_none_or(|until| until.0 > now))
    }
}

/// The least bandwidth: with less, an image takes weeks and every request its whole time.
pub(crate) const LEAST_BANDWIDTH: Bytes = Bytes(16 << 10);
