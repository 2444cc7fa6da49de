//! What can be wrong with a tree.

use std::path::PathBuf;

/// A tree cannot be put together. Every variant names the path in the tree or on the host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Two packages hold the same path and neither says that it replaces the other.
    #[error(
        "root `{root}`: /{path} is in package {first} and in package {second}, and neither declares Replaces: \
         leave one of them out of the unit's packages"
    )]
    TwoPackages {
        /// The root.
        root: String,
        /// The path in it.
        path: String,
        /// One package.
        first: String,
        /// The other package.
        second: String,
    },
    /// Two overlays of one root hold the same file.
    #[error(
        "root `{root}`: /{path} is in overlay `{first}` and in overlay `{second}`: \
         keep the file in one of them, or leave one out of the root's `overlays`"
    )]
    TwoOverlays {
        /// The root.
        root: String,
        /// The path in it.
        path: String,
        /// One overlay.
        first: String,
        /// The other overlay.
        second: String,
    },
    /// A path leads through something that is no folder, out of the root, or round in circles.
    #[error("root `{root}`: /{path} from {origin} cannot be placed: {why}")]
    Place {
        /// The root.
        root: String,
        /// The path.
        path: String,
        /// The package or overlay.
        origin: String,
        /// What is in the way.
        why: String,
    },
    /// A file of the host could not be read.
    #[error("cannot read {path}: {source}; {help}")]
    Read {
        /// The file on the host.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
        /// What to do.
        help: &'static str,
    },
    /// A file of an overlay that cannot be part of an image.
    #[error("{path}: {why}")]
    Overlay {
        /// The file on the host.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A text file of a package or overlay has a line that is not understood.
    #[error("root `{root}`: /{path}, line {line}: {why}")]
    Line {
        /// The root.
        root: String,
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A program or library needs a library that the root does not hold.
    #[error(
        "root `{root}`: /{file} needs the library {library}, which the root does not hold: \
         add the package that has it to the unit's packages"
    )]
    MissingLibrary {
        /// The root.
        root: String,
        /// The program or library.
        file: String,
        /// The library's name.
        library: String,
    },
    /// An account that nothing defines, or that two define differently.
    #[error("root `{root}`: account `{name}`: {why}")]
    Account {
        /// The root.
        root: String,
        /// The account or group.
        name: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A package's file belongs to an account that the root does not have.
    #[error(
        "root `{root}`: /{path} of package {package} belongs to the {kind} `{name}` ({id} where it was built), which the root \
         does not have: declare it in the unit's `users`"
    )]
    Owner {
        /// The root.
        root: String,
        /// The path in it.
        path: String,
        /// The package.
        package: String,
        /// `user` or `group`.
        kind: &'static str,
        /// The name in the package.
        name: String,
        /// The number in the package.
        id: u32,
    },
    /// A kernel module that is damaged.
    #[error("kernel module /{path}: {why}; the cache may be damaged: run `imagegen cache gc --all` and build again")]
    Module {
        /// Its path.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A link that cannot be made.
    #[error("root `{root}`: the alternative {link} -> {target}: {why}")]
    Alternative {
        /// The root.
        root: String,
        /// The link.
        link: String,
        /// Its target.
        target: String,
        /// What is wrong, and what to do.
        why: String,
    },
}
