//! How an appliance is set up at its first start.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::NetworkChoices;

/// Whether the appliance is set up, what it can run, and on what machine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Setup {
    /// Whether it waits to be set up: only what is needed for that runs.
    pub open: bool,
    /// The appliance's name; before it is set up, the one that it was built with.
    pub name: String,
    /// The addresses at which it can be reached.
    pub addresses: Vec<String>,
    /// The machine.
    pub machine: Machine,
    /// What it can run.
    pub parts: Vec<Part>,
    /// What was wrong with choices that were found at the start, in sentences.
    pub problems: Vec<String>,
}

/// What a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Its memory, in bytes.
    pub memory: u64,
    /// What is free for data, in bytes.
    pub disk: u64,
    /// Its processors.
    pub cpus: u32,
}

/// A unit that can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// The unit.
    pub unit: String,
    /// What it is, in one line.
    pub description: String,
    /// The most memory that it may use, in bytes.
    pub memory_max: u64,
    /// The units that have to be chosen with it.
    pub needs: Vec<String>,
    /// Whether it runs in any case.
    pub required: bool,
}

/// The code that the console shows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetupCode {
    /// As it was typed: case, spaces and dashes do not matter.
    pub code: String,
}

/// The first choices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetupAnswers {
    /// The code that the console shows.
    pub code: String,
    /// The appliance's name: it is reached as `NAME.local`.
    pub name: String,
    /// The domain that it serves, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The outside network, if it is not to be as DHCP has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkChoices>,
    /// The units that are to run, beside those that run in any case.
    pub units: Vec<String>,
}

/// What first choices that came without a person say of accounts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct FirstAccount {
    /// The owner's account, until it is taken.
    pub administrator: Option<Administrator>,
}

/// The owner's account, as first choices that came without a person say it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Administrator {
    /// Its name.
    pub name: String,
    /// Its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The password's Argon2id hash (PHC string format), if that was given instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
}

// A password is in no log.
impl std::fmt::Debug for Administrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Administrator")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
