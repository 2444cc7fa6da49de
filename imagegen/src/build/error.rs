//! Why an image cannot be built.

use std::path::PathBuf;

use cairn_unit::{Arch, Problems};

use crate::cache::{CacheError, FetchError};
use crate::resolve::LockError;
use crate::tools::ToolsError;
use crate::tree::TreeError;

/// A build failed. The cache and an earlier image are whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The recipe or a unit is wrong.
    #[error("{0}")]
    Problems(#[from] Problems),
    /// There is no lock, or it cannot be read.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The recipe asks for something else than the lock holds.
    #[error(
        "the lock {path} was made from other packages than {recipe} and its units now name: run `imagegen lock {recipe}`"
    )]
    Stale {
        /// The lock.
        path: PathBuf,
        /// The recipe.
        recipe: String,
    },
    /// The lock lacks an id.
    #[error("the lock {path} holds no {what}: run `imagegen lock`")]
    NoId {
        /// The lock.
        path: PathBuf,
        /// What it lacks.
        what: String,
    },
    /// A tree cannot be put together.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A pattern of the recipe is none.
    #[error("the recipe's `exclude`: {0}")]
    Pattern(#[from] crate::tree::GlobError),
    /// A package could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A package could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] crate::deb::DebError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The tools cannot be had.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// A part of the image cannot be made.
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    /// No mirror is known.
    #[error("{0}")]
    Mirror(String),
    /// A program for the image is missing.
    #[error("there is no program {path}: build it for the image's architecture and name its folder with --binaries")]
    NoProgram {
        /// Where it should be.
        path: PathBuf,
    },
    /// A unit asks for a program that the workspace does not have.
    #[error(
        "unit `{unit}`: the workspace {} has no program `{program}`: correct `programs`, or add a package of that name with a \
         binary below crates/; it has: {offered}", folder.display()
    )]
    NoWorkspaceProgram {
        /// The unit.
        unit: String,
        /// The program.
        program: String,
        /// The workspace.
        folder: PathBuf,
        /// The programs that it has.
        offered: String,
    },
    /// A unit's program would lie where its root already has a file.
    #[error("unit `{unit}`: both its `programs` and a package or overlay of it hold /{path}: leave one of them out")]
    TwoPrograms {
        /// The unit.
        unit: String,
        /// The path.
        path: String,
    },
    /// The compiler cannot build for the architecture.
    #[error(
        "Cairn's own programs cannot be built for {arch} here: Rust's target {target} is not installed; run \
         `rustup target add {target}` (and install a linker for it), or name a folder with the programs with --binaries"
    )]
    NoTarget {
        /// Rust's name.
        target: String,
        /// The architecture.
        arch: Arch,
    },
    /// The programs did not compile.
    #[error("Cairn's own programs cannot be built: {program}: {why}")]
    Cargo {
        /// Which program failed.
        program: String,
        /// What it said.
        why: String,
    },
    /// The recipe is in no checkout of Cairn.
    #[error(
        "{} has no `supervisor`, so Cairn's own programs cannot be built from it: name a folder with the programs with --binaries, or \
         put the recipe into a checkout of Cairn", folder.display()
    )]
    NoSources {
        /// The project's folder.
        folder: PathBuf,
    },
    /// A file that a boot needs is in none of the locked packages.
    #[error("no locked package holds {what}: check `host.kernel` in the recipe, then run `imagegen lock`")]
    NoBootFile {
        /// The file.
        what: String,
    },
    /// A program that a unit names is not in its root.
    #[error(
        "unit `{unit}`: {path} is not in the service root: correct the path, or add the package that has it to `packages`"
    )]
    NoCommand {
        /// The unit.
        unit: String,
        /// The program.
        path: String,
    },
    /// A package whose version a state has says none.
    #[error(
        "unit `{unit}`: its state has the version of {package}, and {version} has fewer than {numbers} numbers: lower `numbers` in [migration]"
    )]
    NoStateVersion {
        /// The unit.
        unit: String,
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// How many are wanted.
        numbers: usize,
    },
    /// A template that cannot be parsed.
    #[error("unit `{unit}`: the template {path}: {why}")]
    Template {
        /// The unit.
        unit: String,
        /// The template, in the root.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The output's file system is full.
    #[error(
        "no space left while writing {path}: free at least {needed} bytes and build again; an earlier image is whole"
    )]
    Full {
        /// What was being written.
        path: PathBuf,
        /// About how many bytes the build needs there.
        needed: u64,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// The step, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl BuildError {
    /// For `map_err` where a file fails.
    pub(super) fn io(doing: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> BuildError {
        let path = path.to_owned();
        move |source| BuildError::Io { doing, path, source }
    }
}
