//! Why a boot stops in the initrd: each a sentence for the person at the console, with what to do.

use std::io;

use super::layout::LayoutError;

/// Why this boot cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the kernel's command line has no roothash=; install the boot entry again")]
    NoRootHash,
    #[error("`{word}` on the kernel's command line is wrong: write {wanted}")]
    CommandLine { word: String, wanted: &'static str },
    #[error("cannot {doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error(
        "no disk holds the root partition {root} that this boot entry belongs to (disks: {disks}); \
         attach the disk, choose another boot entry, or flash the image again"
    )]
    NoRoot { root: String, disks: String },
    #[error(
        "disk {disk} holds the root partition but not its hash tree {verity}; choose another boot entry or flash the image again"
    )]
    NoVerity { disk: String, verity: String },
    #[error(
        "the hash tree of the root on {device} is not usable ({why}); choose another boot entry or flash the image again"
    )]
    BadVerity { device: String, why: String },
    #[error(
        "the root on {device} is damaged: its content is not what the root hash stands for ({doing}: {source}); \
         choose another boot entry or flash the image again"
    )]
    Corrupted {
        device: String,
        doing: String,
        source: io::Error,
    },
    #[error("cannot set up the data partition on {disk}: {source}")]
    Layout { disk: String, source: LayoutError },
    #[error(
        "the kernel does not see partition {number} of {disk} where the table has it; start the machine again, and if this stays, flash the image again"
    )]
    KernelTable { disk: String, number: u32 },
    #[error(
        "the data partition {device} cannot be repaired ({why}); restore it from a backup or repair it from another machine"
    )]
    Data { device: String, why: String },
    #[error("the data partition {device} is not used: {why}")]
    Encryption {
        device: String,
        why: String,
        of_this_version: bool,
    },
    #[error("somebody at the console asked for a restart")]
    Asked,
    #[error("{program} failed ({why}) on {device}; the disk may be failing or read-only")]
    Tool {
        program: &'static str,
        device: String,
        why: String,
    },
}

impl Failure {
    /// Whether another version of the appliance may do better: the data partition is the same for all.
    pub(crate) fn is_of_this_version(&self) -> bool {
        match self {
            Self::Encryption { of_this_version, .. } => *of_this_version,
            Self::Layout { .. } | Self::KernelTable { .. } | Self::Data { .. } | Self::Tool { .. } | Self::Asked => {
                false
            }
            _ => true,
        }
    }
}

/// Adds what was being done to an I/O error.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::Io {
            doing: what(),
            source: error.into(),
        })
    }
}
