//! Settings: what the owner can choose for one unit. The unit says what there is (`[settings.NAME]`), the site what was chosen
//! (`[units.UNIT.settings]`), and the unit's templates see it as `settings.NAME`.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::manifest::Manifest;
use crate::unit::Unit;
use crate::values::{Domain, Name};

/// One thing that the owner can choose for the unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// One line that says what it does, shown to the owner beside the field.
    pub description: String,
    /// Its form.
    pub is: SettingKind,
    /// What holds until the owner chooses. Left out: a flag is `false`, a list is empty, and templates see `none` for all else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<SettingValue>,
    /// The only values that it can have; left out: every one of its form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Whether it is a list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub many: bool,
}

/// The form of a setting. None but `text` has a character that a configuration file could take for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SettingKind {
    /// `true` or `false`.
    Flag,
    /// A whole number, not below 0.
    Number,
    /// Letters, digits, `.`, `_` and `-`.
    Word,
    /// One line, without quotes, backslashes, backticks and `$`.
    Line,
    /// Several lines, such as a certificate in PEM: for a file of its own.
    Text,
    /// A domain of the DNS in lower case, in its ASCII form.
    Domain,
    /// An address for mail: `NAME@DOMAIN`.
    Mail,
    /// An address that begins with `https://` or `http://`.
    Url,
}

/// What was chosen for a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "true or false, a number, a text or a list of texts")]
pub enum SettingValue {
    /// Of a flag.
    Flag(bool),
    /// Of a number.
    Number(i64),
    /// Of everything else.
    Text(String),
    /// Of a list.
    Many(Vec<String>),
}

impl fmt::Display for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingValue::Flag(flag) => flag.fmt(f),
            SettingValue::Number(number) => number.fmt(f),
            SettingValue::Text(text) => text.fmt(f),
            SettingValue::Many(all) => all.join(", ").fmt(f),
        }
    }
}

/// What the owner chose for a unit, by setting.
pub type Chosen = BTreeMap<Name, SettingValue>;

impl Setting {
    /// The longest value, in bytes. `text` may have 64 KiB.
    const LONGEST: usize = 255;
    const LONGEST_TEXT: usize = 64 << 10;
    /// The most values of a list.
    const MOST: usize = 64;

    /// Whether a value is one that it can have, or what it has to be.
    ///
    /// # Errors
    /// A sentence's end: "must be ...".
    pub fn check(&self, value: &SettingValue) -> Result<(), String> {
        match (self.is, self.many, value) {
            (SettingKind::Flag, false, SettingValue::Flag(_)) => Ok(()),
            (SettingKind::Flag, ..) => Err("must be `true` or `false`, without quotes".to_owned()),
            (SettingKind::Number, false, SettingValue::Number(0..)) => Ok(()),
            (SettingKind::Number, ..) => Err("must be a whole number, not below 0".to_owned()),
            (_, false, SettingValue::Text(text)) => self.check_text(text),
            (_, false, _) => Err("must be a text in quotes".to_owned()),
            (_, true, SettingValue::Many(all)) if all.len() > Setting::MOST => {
                Err(format!("must have at most {} values", Setting::MOST))
            }
            (_, true, SettingValue::Many(all)) => all.iter().try_for_each(|text| self.check_text(text)),
            (_, true, _) => Err("must be a list of texts, such as [\"a\", \"b\"]".to_owned()),
        }
    }

    fn check_text(&self, text: &str) -> Result<(), String> {
        let longest = match self.is {
            SettingKind::Text => Setting::LONGEST_TEXT,
            _ => Setting::LONGEST,
        };
        if text.len() > longest {
            return Err(format!("must be at most {longest} characters long"));
        }
        let word = |text: &str, more: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
            !text.is_empty() && text.chars().all(plain)
        };
        let (good, form) = match self.is {
            SettingKind::Word => (word(text, "._-"), "must be letters, digits, `.`, `_` and `-`"),
            SettingKind::Line => (
                !text.trim().is_empty() && !text.chars().any(|c| c.is_control() || "\"'\\`$".contains(c)),
                "must be one line without quotes, backslashes, backticks and `$`",
            ),
            SettingKind::Text => (
                !text.trim().is_empty() && !text.chars().any(|c| c.is_control() && !"\n\r\t".contains(c)),
                "must be text without control characters",
            ),
            SettingKind::Domain => (
                text.parse::<Domain>().is_ok(),
                "must be a domain in lower case, such as `mail.example.org`",
            ),
            SettingKind::Mail => {
                let parts = text.split_once('@');
                let good = |(name, domain): (&str, &str)| word(name, "._%+-") && domain.parse::<Domain>().is_ok();
                (parts.is_some_and(good), "must be an address such as `ada@example.org`")
            }
            SettingKind::Url => {
                let rest = text.strip_prefix("https://").or(text.strip_prefix("http://"));
                let good = |rest: &str| word(rest, "-._~:/?#[]@!&()*+,;=%") && !rest.starts_with('/');
                (rest.is_some_and(good), "must be an address that begins with `https://`")
            }
            SettingKind::Flag | SettingKind::Number => (true, ""),
        };
        if !good {
            return Err(form.to_owned());
        }
        if !self.values.is_empty() && !self.values.iter().any(|known| known == text) {
            return Err(format!("must be one of {}", self.values.join(", ")));
        }
        Ok(())
    }

    /// What somebody wrote into a field, as a value of this form: a list's values between commas, spaces or on lines of their own. None
    /// for nothing. What does not fit stays a text, which [`Setting::check`] refuses.
    pub fn read(&self, text: &str) -> Option<SettingValue> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return None;
        }
        let as_text = || SettingValue::Text(trimmed.to_owned());
        Some(match self.is {
            SettingKind::Flag => trimmed.parse().map_or_else(|_| as_text(), SettingValue::Flag),
            SettingKind::Number => trimmed.parse().map_or_else(|_| as_text(), SettingValue::Number),
            SettingKind::Line | SettingKind::Text if self.many => {
                let lines = trimmed.lines().map(str::trim).filter(|line| !line.is_empty());
                SettingValue::Many(lines.map(str::to_owned).collect())
            }
            SettingKind::Text => SettingValue::Text(format!("{}\n", trimmed.replace("\r\n", "\n"))),
            _ if self.many => {
                let parts = trimmed.split(|c: char| c == ',' || c.is_whitespace());
                SettingValue::Many(parts.filter(|part| !part.is_empty()).map(str::to_owned).collect())
            }
            _ => as_text(),
        })
    }

    /// What holds if the owner has chosen nothing.
    pub fn otherwise(&self) -> Option<SettingValue> {
        let natural = match self.is {
            SettingKind::Flag => Some(SettingValue::Flag(false)),
            _ if self.many => Some(SettingValue::Many(Vec::new())),
            _ => None,
        };
        self.default.clone().or(natural)
    }
}

impl Manifest {
    /// What holds for each setting of a unit.
    pub fn settings(&self, unit: &str) -> BTreeMap<Name, Option<SettingValue>> {
        let chosen = self.chosen.get(unit);
        let settings = self.units.get(unit).into_iter().flat_map(|unit| &unit.unit.settings);
        let value = |name: &Name, setting: &Setting| {
            let value = chosen.and_then(|chosen| chosen.get(name.as_str()));
            value.cloned().or_else(|| setting.otherwise())
        };
        settings
            .map(|(name, setting)| (name.clone(), value(name, setting)))
            .collect()
    }
}

/// What is wrong with the settings that a unit offers.
pub(crate) fn offered(unit: &Unit, refuse: &mut crate::checks::Refuse<'_>) {
    for (name, setting) in &unit.settings {
        let mut refuse = |key: &str, message: String, help: &str| {
            refuse(&["settings", name.as_str(), key], message, help);
        };
        if setting.description.trim().is_empty() || setting.description.contains('\n') {
            let message = format!("`{name}` is not described in one line");
            refuse("description", message, "say what it does: the owner reads it");
        }
        if matches!(setting.is, SettingKind::Flag | SettingKind::Number) && (setting.many || !setting.values.is_empty())
        {
            let message = format!("`{name}` is a flag or a number, so it has neither `many` nor `values`");
            refuse("is", message, "leave them out");
        }
        if let Some(Err(why)) = setting.default.as_ref().map(|default| setting.check(default)) {
            refuse(
                "default",
                format!("`{name}` cannot have its default: it {why}"),
                "write another one",
            );
        }
        for value in &setting.values {
            if let Err(why) = setting.check_text(value) {
                refuse(
                    "values",
                    format!("`{name}` cannot be `{value}`: it {why}"),
                    "write another one",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(is: SettingKind) -> Setting {
        Setting {
            description: "x".into(),
            is,
            default: None,
            values: Vec::new(),
            many: false,
        }
    }

    fn text(text: &str) -> SettingValue {
        SettingValue::Text(text.to_owned())
    }

    #[test]
    fn nothing_that_a_configuration_file_could_take_for_its_own_is_accepted() {
        use SettingKind::*;
        let good = [
            (Word, "a.b_c-D9"),
            (Line, "Büro <a@b> & {co}"),
            (Text, "-----BEGIN-----\n\"'$\n"),
            (Domain, "mail.example.org"),
            (Mail, "ada.b+c@example.org"),
            (Url, "https://ca.example.org:14000/dir?a=b"),
        ];
        for (is, value) in good {
            assert_eq!(setting(is).check(&text(value)), Ok(()), "{value}");
        }
        let bad = [
            (Word, "a b"),
            (Word, ""),
            (Line, "a\nb"),
            (Line, "a\"b"),
            (Line, "$(x)"),
            (Line, " "),
            (Text, "a\0"),
            (Domain, "Mail.example.org"),
            (Domain, "-x"),
            (Mail, "ada"),
            (Mail, "a b@example.org"),
            (Mail, "ada@"),
            (Url, "ftp://x"),
            (Url, "https://"),
            (Url, "https:///dir"),
            (Url, "https://x/\"y"),
            (Url, "https://x y"),
        ];
        for (is, value) in bad {
            assert!(setting(is).check(&text(value)).is_err(), "{is:?} {value:?}");
        }
        assert!(setting(Word).check(&text(&"a".repeat(256))).is_err());
        assert!(setting(Text).check(&text(&"a".repeat(256))).is_ok());
        assert!(setting(Text).check(&text(&"a".repeat((64 << 10) + 1))).is_err());
    }

    #[test]
    fn a_value_of_another_form_is_refused_with_what_it_has_to_be() {
        let flag = setting(SettingKind::Flag);
        assert_eq!(
            flag.check(&text("true")).unwrap_err(),
            "must be `true` or `false`, without quotes"
        );
        assert_eq!(flag.check(&SettingValue::Flag(true)), Ok(()));
        let number = setting(SettingKind::Number);
        assert_eq!(
            number.check(&SettingValue::Number(-1)).unwrap_err(),
            "must be a whole number, not below 0"
        );
        let word = setting(SettingKind::Word);
        assert!(word.check(&SettingValue::Number(1)).is_err() && word.check(&SettingValue::Many(vec![])).is_err());
        let one_of = Setting {
            values: vec!["http-01".into(), "dns-01".into()],
            ..word
        };
        assert_eq!(one_of.check(&text("x")).unwrap_err(), "must be one of http-01, dns-01");
        let many = Setting {
            many: true,
            ..setting(SettingKind::Domain)
        };
        assert!(
            many.check(&SettingValue::Many(vec!["a.example".into(), "B".into()]))
                .is_err()
        );
        assert!(
            many.check(&SettingValue::Many(vec!["a.example".to_owned(); 65]))
                .is_err()
        );
    }

    #[test]
    fn what_somebody_writes_into_a_field_is_read_by_the_form() {
        let domains = Setting {
            many: true,
            ..setting(SettingKind::Domain)
        };
        let both = SettingValue::Many(vec!["a.example".into(), "b.example".into()]);
        assert_eq!(domains.read(" a.example,\r\n b.example "), Some(both));
        assert_eq!(domains.read(" "), None);
        assert_eq!(setting(SettingKind::Flag).read("true"), Some(SettingValue::Flag(true)));
        assert_eq!(setting(SettingKind::Flag).read("yes"), Some(text("yes")));
        assert_eq!(setting(SettingKind::Number).read("7"), Some(SettingValue::Number(7)));
        assert_eq!(setting(SettingKind::Text).read("a\r\nb"), Some(text("a\nb\n")));
    }

    #[test]
    fn a_list_in_a_file_is_told_from_a_text() {
        let read: Chosen = toml::from_str("a = true\nb = 3\nc = \"x\"\nd = [\"x\", \"y\"]\n").unwrap();
        let kinds: Vec<String> = read.values().map(ToString::to_string).collect();
        assert_eq!(kinds, ["true", "3", "x", "x, y"]);
        let wrong = toml::from_str::<Chosen>("a = 1.5\n").unwrap_err().to_string();
        assert!(
            wrong.contains("true or false, a number, a text or a list of texts"),
            "{wrong}"
        );
    }
}
