//! The accounts that units have at others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The accounts that units have at others by their bindings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Accounts {
    /// Each of them.
    pub accounts: Vec<Account>,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// What it is called there.
    pub name: String,
    /// The unit that it belongs to.
    pub unit: String,
    /// That unit's name for the binding.
    pub need: String,
    /// The unit that has it.
    pub provider: String,
    /// What of that unit it is for.
    pub provide: String,
    /// `granted`, `waiting` (for its provider), `failing`, `changing` (its password), `gone` (no binding needs it) or `leaving` (its rights are
    /// still to be taken away).
    pub state: String,
    /// Why it is failing.
    pub why: String,
}
