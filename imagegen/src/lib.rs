//! Placeholder.

pub mod archive;
pub mod cache;
pub mod image;
pub mod machine;
pub mod deb;
pub mod progress;
pub mod resolve;
pub mod tree;
pub mod commands;
pub mod reference;
pub mod report;
pub mod sbom;
pub mod flash;
pub mod build;
pub mod tools;
