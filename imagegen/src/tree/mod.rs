//! A file tree in memory, from package contents to one canonical tar stream.
//!
//! Everything here is a function of its inputs: no maintainer script runs, nothing is mounted, and the caller's
//! user, umask, clock and folder do not show. File contents stay where they are (ranges of the cache's unpacked
//! packages) until the tar stream copies them.

mod certificates;
mod elf;
mod error;
mod finishers;
mod glob;
mod ldcache;
mod libraries;
mod modules;
mod node;
mod overlay;
mod packages;
mod rules;
mod tar;
mod users;

pub use certificates::certificate_bundle;
pub use elf::{ElfError, ElfInfo};
pub use error::TreeError;
pub use finishers::{
    Release, alternatives, base_links, empty_machine_id, host_release, mount_point, name_service, standard_folders,
};
pub use glob::{Glob, GlobError};
pub use ldcache::{cache_entries, loader_cache};
pub use libraries::check_libraries;
pub use modules::{KernelModules, Module};
pub use node::{Content, Kind, Node, Source, Tree};
pub use overlay::{OverlayFile, OverlaySet, lay_overlays};
pub use packages::{Owner, PackageFiles, lay_packages};
pub use rules::Rules;
pub use tar::{TarReport, write_tar};
pub use users::{Accounts, Declared, UserEntry, parse_sysusers};
