//! Certificates from an authority that speaks ACME (RFC 8555), kept renewed.
//!
//! What is held, what is wanted and the time give the next step of each certificate, a plain value ([`plan`]); `run` carries it out.
//! Each step leaves a whole state on the disk, so a program that was killed goes on where it was: the account's key is kept before
//! the account is made, an order's key and address before it is answered, and a certificate before it is handed over.
//!
//! What this crate must not do: decide who uses a certificate (the manager does), or know an authority's address (it is configured).

mod account;
mod backoff;
pub mod challenge;
mod client;
mod config;
mod deliver;
mod held;
mod issue;
mod plan;
mod revoke;
mod run;
mod trouble;

pub use client::{Client, trusted};
pub use config::{Challenge, Config, Deliver, Dns, ExternalAccount, Wanted};
pub use held::{Failure, Held, Holding, Kept, Pending, Store, Window};
pub use plan::{Step, next, plan};
pub use revoke::revoke;
pub use run::{Clock, World, round, run};
pub use trouble::{Kind, Trouble};
