//! The answers about certificates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The appliance's certificate authority and the units' certificates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Certificates {
    /// The authority; null while it is not made yet, or its key is lost.
    pub authority: Option<Authority>,
    /// The certificates, by unit.
    pub certificates: Vec<Certificate>,
    /// The certificates that were imported.
    pub imported: Vec<Imported>,
    /// What could not be done, in sentences.
    pub errors: Vec<String>,
}

/// A certificate that somebody else issued, with its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImportCertificate {
    /// The private key and the chain, the service's own certificate first, in PEM.
    pub pem: String,
}

/// A certificate that was imported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Imported {
    /// What it is called here.
    pub id: String,
    /// What it is for.
    pub names: Vec<String>,
    /// Who issued it; empty where it cannot be read.
    pub issuer: String,
    /// Its beginning, as in RFC 3339; empty where it cannot be read.
    pub from: String,
    /// Its end, as in RFC 3339; empty where it cannot be read.
    pub until: String,
    /// The units that show it to those who connect from outside.
    pub used_by: Vec<String>,
    /// Why it is not used, if it is not.
    pub unused: Option<String>,
}

/// The appliance's certificate authority.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Authority {
    /// Its name, as browsers show it.
    pub name: String,
    /// The SHA-256 of its certificate, as browsers show it.
    pub fingerprint: String,
    /// The domains that it is for, with all below them; private addresses are always permitted.
    pub permitted: Vec<String>,
    /// Its certificate, in PEM.
    pub pem: String,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// Whose it is.
    pub unit: String,
    /// The unit's name for it.
    pub secret: String,
    /// What it is for.
    pub names: Vec<String>,
    /// Who issued it; empty while it is not issued.
    pub issuer: String,
    /// Its beginning, as in RFC 3339; empty while it is not issued.
    pub from: String,
    /// Its end, as in RFC 3339; empty while it is not issued.
    pub until: String,
    /// What has to be done about it and why, if something has to.
    pub due: Option<String>,
    /// The imported certificate that is shown to those who connect from outside, if there is one.
    pub imported: Option<String>,
}
