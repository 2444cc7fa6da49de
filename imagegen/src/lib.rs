//! Recipe to image: the library behind the `imagegen` command.
//!
//! `archive`, `cache`, `resolve` and `deb` bring packages; `tree` and `build` put them together; `image` makes the disk; `tools` and
//! `machine` run other programs, QEMU among them; `commands` is the command line.

pub mod archive;
pub mod build;
pub mod cache;
pub mod commands;
pub mod deb;
pub mod flash;
pub mod image;
mod leftovers;
pub mod machine;
pub mod progress;
pub mod project;
pub mod reference;
pub mod report;
pub mod resolve;
pub mod sbom;
pub mod tools;
pub mod tree;
