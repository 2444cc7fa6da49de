//! The answers about the owner's choices and their versions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The versions of the owner's choices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SiteHistory {
    /// The versions, the newest first.
    pub versions: Vec<SiteVersion>,
    /// One sentence, if what is in force is not what the file says.
    pub instead: Option<String>,
}

/// One version of the owner's choices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SiteVersion {
    /// Its number, from 1.
    pub number: u64,
    /// When it was accepted, as in RFC 3339; empty where that is lost.
    pub when: String,
    /// By whom; empty where that is lost.
    pub who: String,
    /// Why, in words; empty where that is lost.
    pub why: String,
    /// Whether it is in force.
    pub in_force: bool,
    /// Why it cannot be used, if it cannot.
    pub damaged: Option<String>,
}

/// The owner's choices as they are written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SiteText {
    /// The text of `site.toml`; empty if nothing was chosen.
    pub text: String,
    /// The number of the version in force, if there is one.
    pub version: Option<u64>,
    /// One sentence, if what is in force is not what the file says.
    pub instead: Option<String>,
}

/// Other choices of the owner, as a whole text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteWritten {
    /// The text of `site.toml`.
    pub text: String,
    /// The version that was changed; if another one is in force by now, nothing is written. Left out: whatever is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// What differs between two versions of the owner's choices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SiteDiff {
    /// What it is compared with.
    pub from: String,
    /// What is compared.
    pub to: String,
    /// As `diff -u` shows it; empty if nothing differs.
    pub diff: String,
}

/// One thing that the owner can choose for a unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingState {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Its form: `flag`, `number`, `word`, `line`, `text`, `domain`, `mail` or `url`.
    pub is: String,
    /// Whether it is a list.
    pub many: bool,
    /// The only values that it can have; empty: every one of its form.
    pub values: Vec<String>,
    /// What holds; nothing if there is none.
    pub value: Option<serde_json::Value>,
    /// Whether the owner chose it.
    pub chosen: bool,
}

/// Values for what a unit offers as settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsWritten {
    /// By name: the value as in `site.toml`, or a text as one writes it into a field (a list's values between commas or on lines). `null` or
    /// an empty text: what holds if nothing is chosen. What is not named stays.
    pub settings: BTreeMap<String, serde_json::Value>,
}
