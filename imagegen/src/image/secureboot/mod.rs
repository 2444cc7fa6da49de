//! Secure Boot with keys of the owner's: the keys, signatures of EFI programs, and the variables by which firmware takes the keys.
//!
//! Firmware that has the platform key (PK), a key exchange key (KEK) and the signature database (db) starts only programs that are signed by a
//! key of the db. Everything here is a function of its inputs, signatures too: RSA with PKCS #1 v1.5 padding, and no time in them.

mod authenticode;
mod keys;
mod pkcs7;
mod variables;

pub use authenticode::{Signed, digest, sign, signed, unsigned};
pub use keys::{Created, Enrolment, SigningKey, create, enrolment};
pub use variables::{FILES, Owner};
