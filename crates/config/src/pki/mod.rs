//! The appliance's certificate authority, and the certificates of its services.
//!
//! A folder holds the authority (`authority.pem`) and a file for each use (`issued/USE.pem`). Each file has a private key and the
//! certificate for it, and is replaced as a whole, so that key and certificate never disagree. [`Found::read`] says what is there,
//! [`plan()`] what is to be done about it, and [`apply`] does it; [`ensure`] is the three together.
//!
//! The rules:
//!
//! - The authority is made once. Its key is never replaced unless that is asked for by [`Wanted::replace`]: people may trust it. Its
//!   certificate is written again, with the same key, when other names are permitted. It has no end, and begins in 1970: what bounds
//!   it is the names.
//! - A service's certificate holds for 30 days and is renewed when a third is left. It begins a day before it was issued, because a
//!   machine whose clock keeps local time is up to 14 hours off.
//! - The appliance goes by its own clock. Where that stands before a certificate's beginning it was set back, where it stands behind
//!   the end it was set forward or the time has come: both ways the certificate is renewed by the time that the clock shows now.
//! - What somebody else issued lies in a folder of its own, checked when it is imported and whenever it is read.

mod apply;
mod import;
mod imported;
mod make;
mod names;
mod plan;
mod read;

pub use apply::{apply, authority_certificate, ensure, issued};
pub use import::{Imported, Refusal, examine, import, root_name};
pub use imported::{choose, import_id, imported, keep_imported, remove_imported};
pub use names::{AltName, Names, Permitted};
pub use plan::{BACKDATED, Certificate, LIFETIME, Step, Wanted, plan};
pub use read::{Authority, Facts, Found, Held, fingerprint};

#[cfg(test)]
mod judge_tests;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod power_tests;
