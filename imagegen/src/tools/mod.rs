//! The build's own tools: mkfs.erofs, mtools, QEMU and its firmware, as packages in a tree of their own.
//!
//! `imagegen/tools.toml` names them, a lock beside it fixes them, and the cache holds them as plain files in
//! `tools/HASH/`, where HASH is the lock's. They run in a sandbox that shows them this tree and the files that they
//! work on. A tree appears whole, by a rename, or not at all.

mod folder;
mod host;
mod launch;
mod runner;
mod set;

use std::path::PathBuf;

pub use launch::helper_if_asked;
pub use set::{LIST_PATH, ToolSet, load_tools};

use crate::tree::TreeError;

/// A tools tree on the disk.
#[derive(Debug, Clone)]
pub struct ToolsTree {
    /// The folder that is the tools' `/`.
    pub root: PathBuf,
    /// The lock's hash, which names the tree.
    pub hash: String,
    /// The program that sets up the sandbox; `None` is this program itself, which must call [`helper_if_asked`] first in
    /// its `main`.
    pub helper: Option<PathBuf>,
}

/// The tools cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolsError {
    /// A file of the tree cannot be written.
    #[error(
        "cannot {doing} {path}: {source}; free some space or set IMAGEGEN_CACHE to another folder, then start again"
    )]
    Write {
        /// The step.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The list of tools or its lock is wrong.
    #[error("{path}: {why}")]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// The tree cannot be put together.
    #[error("the tools tree: {0}")]
    Tree(#[from] TreeError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] crate::cache::CacheError),
    /// A package could not be fetched.
    #[error("the tools' packages: {0}")]
    Fetch(#[from] crate::cache::FetchError),
    /// A package could not be unpacked or resolved.
    #[error("the tools' packages: {0}")]
    Package(String),
}
