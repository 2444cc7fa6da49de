//! Upgrades by swapping the whole image: what a release is, how it is proved, and how it gets into the slot that does not run.
//!
//! The running slot, and the boot entry that leads to it, are never touched by an install. [`plan`](mod@plan) checks everything that can be known before
//! (space, names, versions) and says what will be done; [`install`](mod@install) does it, in the one order in which a power cut at any moment
//! leaves the old version as it was, and the next install goes on from there.

pub mod appliance;
pub mod bundle;
pub mod chunk;
pub mod delta;
pub mod device;
pub mod efi;
pub mod entries;
mod error;
pub mod esp;
mod fetch;
pub mod index;
pub mod install;
pub mod loader;
pub mod metadata;
pub mod offer;
pub mod pace;
pub mod plan;
pub mod publish;
pub mod record;
pub mod slots;
pub mod source;
#[cfg(test)]
mod testing;
pub mod units;
pub mod waves;

pub use error::Error;
