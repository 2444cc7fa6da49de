//! The answers about the versions of the owner's choices.

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
