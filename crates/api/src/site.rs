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
