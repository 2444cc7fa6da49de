//! From a recipe and its lock to an image.
//!
//! [`plan`] says what a build will do, as a plain value; [`run`] does it. An image is a function of the plan's inputs:
//! the lock, the recipe, the units, the overlays and the programs. Everything that a build keeps gets its name by a
//! rename at the end; a failure or an interruption leaves the cache and an earlier image as they were.

mod binaries;
pub(crate) mod contents;
mod crates;
mod error;
mod host;
mod ids;
mod initrd;
mod manifest;
mod outputs;
mod plan;
mod report;
mod roots;
mod run;
mod stamp;
mod states;
mod templates;

pub use binaries::Binaries;
pub use error::BuildError;
pub use ids::{assign_ids, complete_lock};
pub use manifest::{FileEntry, ImageManifest, PackageEntry, RootEntry};
pub use plan::{BuildPlan, Options, RootPlan, lock_path, lock_request, plan};
pub use report::{Report, StageTime};
pub use run::{Services, preview_root, run};
