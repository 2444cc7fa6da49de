//! The software bill of materials: every package of an image with version, source, hash, licence, and the units that
//! need it, and every crate that is compiled into our own programs, as SPDX 2.3 or CycloneDX 1.6 JSON.
//!
//! Promises: the same inventory gives the same bytes (times come from the image, identifiers from the content); a licence
//! is stated only where the package's copyright file states it in the machine-readable form, or the crate declares it, otherwise
//! NOASSERTION.

mod copyright;
mod cyclonedx;
mod spdx;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use copyright::{License, read_copyright};
pub use cyclonedx::cyclonedx;
pub use spdx::spdx;

/// The name under which the host root's packages are listed, beside the units.
pub const HOST: &str = "host";

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// The appliance's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The image's time, in seconds since 1970.
    pub built: u64,
    /// SHA-256 of the image file, in lower case hexadecimal, where it is known.
    pub sha256: Option<String>,
    /// The units (and [`HOST`]), with a line on what each is.
    pub units: BTreeMap<String, String>,
    /// The packages.
    pub packages: Vec<Package>,
    /// The crates that are compiled into our programs; empty for programs of a folder that does not say them, and of an image from before
    /// they were listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crates: Vec<Crate>,
}

/// One crate that is compiled into programs of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Crate {
    /// Its name; `std` is the standard library of the compiler.
    pub name: String,
    /// Its version; that of `std` is the compiler's.
    pub version: String,
    /// Whether it comes from crates.io; else it is of our own workspace, or `std`.
    pub registry: bool,
    /// SHA-256 of the crate file, in lower case hexadecimal, if it comes from there.
    pub sha256: Option<String>,
    /// The SPDX licence expression that it declares.
    pub license: Option<String>,
    /// The units (or [`HOST`]) that have programs with it.
    pub units: BTreeSet<String>,
}

impl Crate {
    /// The crate's URL, as the purl specification writes it; none for a crate of our own, which is published nowhere.
    fn purl(&self) -> Option<String> {
        let (name, version) = (quote(&self.name), quote(&self.version));
        match self.registry {
            true => Some(format!("pkg:cargo/{name}@{version}")),
            false if self.name == "std" => Some(format!("pkg:generic/rust-std@{version}")),
            false => None,
        }
    }
}

/// One binary package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Debian's version.
    pub version: String,
    /// Debian's architecture, or `all`.
    pub architecture: String,
    /// The source package's name.
    pub source: String,
    /// The source package's version.
    pub source_version: String,
    /// SHA-256 of the package file, in lower case hexadecimal.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
    /// The units (or [`HOST`]) whose closure it is in.
    pub units: BTreeSet<String>,
    /// What its copyright file says.
    pub license: License,
}

impl Package {
    /// The package's URL, as the purl specification writes Debian packages.
    fn purl(&self) -> String {
        format!(
            "pkg:deb/debian/{}@{}?arch={}",
            quote(&self.name),
            quote(&self.version),
            quote(&self.architecture)
        )
    }
}

/// Percent-encodes what a purl's parts do not hold as it is.
fn quote(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_~".contains(&b);
    text.bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

impl Inventory {
    /// An identifier that depends on the whole content, in the form of a version 8 UUID (RFC 9562).
    fn uuid(&self) -> String {
        let content = (
            &self.name,
            &self.version,
            self.built,
            &self.sha256,
            &self.units,
            self.sorted(),
            self.sorted_crates(),
        );
        let mut bytes: [u8; 32] = Sha256::digest(serde_json::to_vec(&content).unwrap_or_default()).into();
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes[..16].iter().map(|b| format!("{b:02x}")).collect();
        format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }

    /// The packages in one order, whatever order they came in.
    fn sorted(&self) -> Vec<&Package> {
        let mut all: Vec<&Package> = self.packages.iter().collect();
        all.sort();
        all
    }

    /// The crates in one order.
    fn sorted_crates(&self) -> Vec<&Crate> {
        let mut all: Vec<&Crate> = self.crates.iter().collect();
        all.sort();
        all
    }

    /// The image's time as ISO 8601 in UTC.
    fn timestamp(&self) -> String {
        timestamp(self.built)
    }
}

/// Seconds since 1970 as ISO 8601 in UTC. The calendar is Howard Hinnant's `civil_from_days`.
fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// A small appliance with the awkward cases, for the tests of both formats.
#[cfg(test)]
pub(crate) fn sample() -> Inventory {
    serde_json::from_str(include_str!("sample.json")).expect("the sample parses")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_calendar_dates() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(timestamp(1_760_000_000), "2025-10-09T08:53:20Z");
    }

    #[test]
    fn the_order_of_packages_does_not_change_a_document() {
        let mut turned = sample();
        turned.packages.reverse();
        turned.crates.reverse();
        assert_eq!(spdx(&turned), spdx(&sample()));
        assert_eq!(cyclonedx(&turned), cyclonedx(&sample()));
    }

    #[test]
    fn another_content_is_another_document() {
        let mut other = sample();
        other.crates[0].version.push('1');
        assert_ne!(spdx(&other)["documentNamespace"], spdx(&sample())["documentNamespace"]);
        other = sample();
        other.packages[0].version.push('1');
        assert_ne!(spdx(&other)["documentNamespace"], spdx(&sample())["documentNamespace"]);
        assert_ne!(cyclonedx(&other)["serialNumber"], cyclonedx(&sample())["serialNumber"]);
    }
}
