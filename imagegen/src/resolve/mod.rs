//! From package names to the exact set of packages: parsing, choosing, and the lock file.
//!
//! Everything here is a pure function of the package lists; only [`Lock::read`] and [`Lock::write`] touch a disk.
//!
//! A closure is what `apt-get install --no-install-recommends` would add to a system without any package: the named
//! packages and what they need through `Depends` and `Pre-Depends`. Essential packages are in it only where something
//! depends on them: apt does not add them on its own either, and a service root does not need them (a shell, for one, is
//! there only where a unit names it).

mod closure;
mod conflict;
mod control;
mod lock;
mod relation;
mod universe;
mod version;

pub use closure::{Closure, Picked, resolve};
pub use control::Stanza;
pub use lock::{Change, Ids, Lock, LockError, LockedPackage, LockedSuite, LockedUnit, Request, diff, lock};
pub use relation::{Alternative, Operator, Relation, parse_relations};
pub use universe::{Package, PackageId, Universe};
pub use version::compare_versions;

/// Why there is no closure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// No suite has a package of this name.
    #[error("there is no package {name}{hint}", hint = hint(.near))]
    Unknown {
        /// The name asked for.
        name: String,
        /// Names that look like it, best first.
        near: Vec<String>,
    },
    /// Several packages provide the name, none bears it.
    #[error("{name} is a virtual package; name one of those that provide it: {providers}", providers = .providers.join(", "))]
    Virtual {
        /// The name asked for.
        name: String,
        /// The packages that provide it.
        providers: Vec<String>,
    },
    /// A dependency cannot be met.
    #[error("{chain} cannot be met: {reason}; name another package, or correct the mirror's suites", chain = .chain.join(" -> "))]
    Unsatisfiable {
        /// From the named package to the relation that fails.
        chain: Vec<String>,
        /// What there is instead.
        reason: String,
    },
    /// Two packages of the closure exclude each other.
    #[error("{relation}: {a} and {b} cannot be together; leave out one of the two, or put them into different units", a = .first.join(" -> "), b = .second.join(" -> "))]
    Conflict {
        /// `X conflicts with Y (<< 2)`.
        relation: String,
        /// From the named package to the one that declares the conflict.
        first: Vec<String>,
        /// From the named package to the other.
        second: Vec<String>,
    },
    /// A package list breaks its format.
    #[error("the package list of {suite} cannot be read: {reason}")]
    Malformed {
        /// The suite.
        suite: String,
        /// What is wrong, and where.
        reason: String,
    },
}

impl ResolveError {
    /// The package that was asked for, from which the failure follows.
    pub fn named(&self) -> Option<&str> {
        let first = match self {
            Self::Unknown { name, .. } | Self::Virtual { name, .. } => name,
            Self::Unsatisfiable { chain, .. } => chain.first()?,
            Self::Conflict { first, .. } => first.first()?,
            Self::Malformed { .. } => return None,
        };
        first.split_whitespace().next()
    }

    /// What is wrong, and what to do.
    pub fn message_and_help(&self) -> (String, String) {
        let text = self.to_string();
        match text.split_once("; ") {
            Some((message, help)) => (message.to_owned(), help.to_owned()),
            None => (text, "name another package".to_owned()),
        }
    }
}

fn hint(names: &[String]) -> String {
    if names.is_empty() {
        "; search for it at https://packages.debian.org".into()
    } else {
        format!("; did you mean {}?", names.join(", "))
    }
}
