//! What starts a unit other than the appliance's own start.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::calendar::Calendar;
use crate::values::Seconds;

/// Starts the unit by time. It is then not started with the appliance.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timer {
    /// Times of the calendar, in UTC; any of them starts the unit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calendar: Vec<Calendar>,
    /// The time from the unit's last end to its next start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Seconds>,
    /// The time from the appliance's start to the unit's first start; left out with `interval`: as long as that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_boot: Option<Seconds>,
    /// Whether a time of the calendar that passed while the appliance was off is made up for at its start.
    pub persistent: bool,
    /// At most so much is added to each time, at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Seconds>,
}
