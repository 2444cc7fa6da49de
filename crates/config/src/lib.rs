//! From the image, the site and the secrets to files: the part that needs no running machine.
//!
//! What is to be done is a plain value first ([`pki::Step`]); one small place performs it, by the few file operations of
//! [`Disk`]. A power cut between any two of them leaves whole files, and what is left of a broken write is harmless.

pub mod accounts;
pub mod context;
mod disk;
mod error;
pub mod history;
pub mod pki;
mod random;
pub mod template;
#[cfg(test)]
mod testing;

pub use disk::{Disk, Real, private_folder, put, write_atomically};
pub use error::Error;
pub use jiff::Timestamp;
pub use random::{random_bytes, random_text};
