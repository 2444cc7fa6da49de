//! What the helper is asked to do, as it stands on descriptor 3.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::enter::Enter;
use crate::plan::Plan;

/// The helper's job: a plan as it is, or `{"enter": ...}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Job {
    /// Make a sandbox and start its command.
    Start(Box<Plan>),
    /// Start a command in a running sandbox.
    Enter {
        /// Where and what.
        enter: Box<Enter>,
    },
}

impl Job {
    /// Reads a job from JSON.
    ///
    /// # Errors
    /// What is wrong with the plan or the entering, with its place. (Not an untagged enum, whose errors name neither.)
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Kind {
            enter: Option<IgnoredAny>,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Entering {
            enter: Box<Enter>,
        }
        if serde_json::from_slice::<Kind>(text)?.enter.is_some() {
            serde_json::from_slice(text).map(|Entering { enter }| Self::Enter { enter })
        } else {
            serde_json::from_slice(text).map(|plan| Self::Start(Box::new(plan)))
        }
    }
}

impl From<Enter> for Job {
    fn from(enter: Enter) -> Self {
        Self::Enter { enter: Box::new(enter) }
    }
}
