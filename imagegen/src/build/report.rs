//! What a build did.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

/// One stage's time and bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageTime {
    /// The stage's name.
    pub stage: &'static str,
    /// How long it took, in milliseconds. Stages overlap: the sum may be more than the whole.
    pub milliseconds: u64,
    /// Bytes that it read or made; 0 where there are none to tell.
    pub bytes: u64,
}

/// What a build did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether everything was there already, from the same inputs.
    pub unchanged: bool,
    /// The image's files, the raw one first.
    pub images: Vec<PathBuf>,
    /// The manifest beside them, for `inspect`, `diff` and `sbom`.
    pub manifest: PathBuf,
    /// Kernel, for booting without firmware.
    pub kernel: PathBuf,
    /// Its initrd.
    pub initrd: PathBuf,
    /// A file with its command line.
    pub command_line: PathBuf,
    /// The root hash, 64 hexadecimal digits.
    pub root_hash: String,
    /// The stages, in the order in which they ended.
    pub stages: Vec<StageTime>,
    /// The whole time, in milliseconds.
    pub milliseconds: u64,
}

/// Measures one stage.
pub(super) struct Watch(&'static str, Instant);

impl Watch {
    pub(super) fn start(stage: &'static str) -> Watch {
        Watch(stage, Instant::now())
    }

    pub(super) fn stop(self, bytes: u64) -> StageTime {
        StageTime {
            stage: self.0,
            milliseconds: milliseconds(self.1.elapsed()),
            bytes,
        }
    }
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
