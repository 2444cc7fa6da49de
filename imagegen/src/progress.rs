//! What long work tells its caller: which stage, how much there is, how much is done.
//!
//! The library never prints. The command line implements [`Progress`] with bars, tests and scripts use [`Silent`].

/// A stage of a build that takes long enough to be shown. Totals and steps are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Cairn's own programs being compiled; nobody knows how much there is.
    Compile,
    /// Bytes received from the archive (indexes and packages).
    Download,
    /// Bytes of compressed packages that were unpacked.
    Unpack,
    /// Bytes of the image that were written.
    Write,
}

/// The receiver of progress. Stages may overlap and calls come from many threads.
pub trait Progress: Send + Sync {
    /// A stage begins, or learns of `total` more bytes: totals of one stage add up until it is finished.
    fn start(&self, stage: Stage, total: u64);
    /// `bytes` more are done.
    fn advance(&self, stage: Stage, bytes: u64);
    /// The stage is over, also when it failed.
    fn finish(&self, stage: Stage);
}

/// Progress that nobody looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _stage: Stage, _total: u64) {}
    fn advance(&self, _stage: Stage, _bytes: u64) {}
    fn finish(&self, _stage: Stage) {}
}
