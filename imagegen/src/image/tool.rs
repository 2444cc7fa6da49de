//! How this module runs the few tools of others that it needs: through [`ToolRunner`], so that where they come from
//! and what they may touch is decided elsewhere (the sandboxed tools tree).

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Output;

/// A path that a tool may see, under the same name inside as outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// An existing file or folder, absolute.
    pub path: PathBuf,
    /// Whether the tool may write there.
    pub writable: bool,
}

impl Bind {
    /// A path to read.
    pub fn read(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            writable: false,
        }
    }

    /// A path to read and write.
    pub fn write(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            writable: true,
        }
    }
}

/// A tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started.
    #[error("cannot run {tool}: {source}")]
    Start {
        /// Which.
        tool: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{tool} failed ({status}): {said}")]
    Failed {
        /// Which.
        tool: String,
        /// How it ended.
        status: String,
        /// The end of what it wrote to standard error.
        said: String,
    },
}

/// Runs tools.
pub trait ToolRunner: Sync {
    /// Runs `tool` (a name, not a path) to its end, without a shell. It reads `stdin` (nothing if `None`) and sees of
    /// the build machine only `binds`. Returns what it wrote.
    ///
    /// # Errors
    /// It cannot be started, or ends with anything but success.
    fn run(&self, tool: &str, args: &[OsString], stdin: Option<OwnedFd>, binds: &[Bind]) -> Result<Output, ToolError>;
}

/// Turns a failed run into an error; for implementations of [`ToolRunner`].
///
/// # Errors
/// [`ToolError::Failed`] unless the status is success.
pub fn check(tool: &str, output: Output) -> Result<Output, ToolError> {
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said
        .trim()
        .chars()
        .rev()
        .take(1000)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    Err(ToolError::Failed {
        tool: tool.to_owned(),
        status: output.status.to_string(),
        said,
    })
}
