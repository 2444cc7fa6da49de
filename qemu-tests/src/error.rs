//! What can go wrong in the harness itself, apart from what a test asserts.

use std::path::PathBuf;
use std::time::Duration;

use imagegen::machine::MachineError;

/// A failure of the harness or of what it waits for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// The machine could not be started or driven.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A line did not come on the console.
    #[error("the console did not say {pattern:?} within {} s; its last lines:\n{tail}", .after.as_secs())]
    NotSaid {
        /// What was waited for.
        pattern: String,
        /// How long.
        after: Duration,
        /// The last lines.
        tail: String,
    },
    /// The machine ended first.
    #[error("the machine ended before its console said {pattern:?}; its last lines:\n{tail}")]
    EndedSilent {
        /// What was waited for.
        pattern: String,
        /// The last lines.
        tail: String,
    },
    /// The agent in the image does not answer as it should.
    #[error("the test agent cannot {what}: {reason}; is the image built with `[test] agent = true`?")]
    Agent {
        /// What it was asked.
        what: String,
        /// Why not.
        reason: String,
    },
    /// A service answered wrongly or not at all.
    #[error("{service} at {address}: {reason}")]
    Service {
        /// The protocol.
        service: &'static str,
        /// Where.
        address: String,
        /// What happened.
        reason: String,
    },
    /// An image could not be built.
    #[error("cannot build the test image {name}: {reason}")]
    Image {
        /// The recipe.
        name: String,
        /// Why, with what imagegen said.
        reason: String,
    },
    /// The tools that tests run cannot be had.
    #[error("the tests' tools: {reason}")]
    Tools {
        /// Why.
        reason: String,
    },
    /// A file operation of the host's failed.
    #[error("cannot {what} {}: {source}", .path.display())]
    Io {
        /// A verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl HarnessError {
    /// For `map_err`.
    pub fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> HarnessError {
        let path = path.into();
        move |source| HarnessError::Io { what, path, source }
    }
}
