//! The recipe of an appliance, in `appliances/NAME.toml`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{UpgradeMode, Window};
use crate::problem::{Problems, Source};
use crate::values::{Bytes, Name, Path, Seconds};

/// An appliance: which units, which kernel, what the host root holds, sizes and formats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The appliance's name; it is also the file's.
    pub name: Name,
    /// The version of the appliance, digits and dots: `1.4.0`.
    pub version: String,
    /// One line that says what the appliance is.
    pub description: String,
    /// The services, each a file in `units/`.
    pub units: Vec<Name>,
    /// The unit by which the owner sets the appliance up at its first start: until that is done, only it and what it needs run. Left
    /// out: there is no setup, and every unit runs from the first start on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Name>,
    /// What PID 1 itself lives in.
    #[serde(default)]
    pub host: HostTree,
    /// Sizes, formats and the time that the image carries.
    #[serde(default)]
    pub image: ImageSpec,
    /// How it boots.
    #[serde(default)]
    pub boot: Boot,
    /// What of the packages' contents is left out.
    #[serde(default)]
    pub exclude: Exclude,
    /// Where later versions come from and whom they are believed. Left out: the appliance cannot be upgraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Upgrade>,
    /// For images that tests drive; never in one that is handed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestOptions>,
}

/// The host root: our binaries, the kernel's modules, and a few packages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HostTree {
    /// The kernel's package; `{arch}` stands for the architecture.
    pub kernel: String,
    /// Packages of the host root.
    pub packages: Vec<String>,
    /// Folders under `overlays/` laid on the host root, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<Name>,
}

impl Default for HostTree {
    fn default() -> Self {
        HostTree {
            kernel: "linux-image-cloud-{arch}".into(),
            packages: vec!["e2fsprogs".into(), "nftables".into()],
            overlays: Vec::new(),
        }
    }
}

/// Sizes, formats and the time that the image carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImageSpec {
    /// Which files to write. `raw` is always made first.
    pub formats: Vec<Format>,
    /// How hard to compress the root.
    pub profile: Profile,
    /// The EFI system partition's size.
    pub esp: Bytes,
    /// What a slot's root partition becomes at first boot: room for every later version.
    pub slot: Bytes,
    /// The least size of the data partition; a smaller disk is refused at first boot.
    pub data_min: Bytes,
    /// The folder of the owner's keys for Secure Boot, which `imagegen keys secureboot` makes, as a path from the folder that holds
    /// `appliances/`: boot loader and boot entries are signed by them. Left out: nothing is signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<String>,
    /// When firmware that has no keys (setup mode) is given these, before anything else is started. Left out: `if-safe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_boot_enroll: Option<Enroll>,
    /// How the data partition is encrypted (LUKS2), from its making on: `tpm` has the machine's TPM 2 keep the key, for a machine that was started
    /// with Secure Boot and these keys. It needs `secure_boot`. Left out: it is not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_encryption: Option<Encryption>,
    /// The time, in seconds since 1970, of everything that the build makes. Left out: 0 is never used; the newest
    /// time of the locked indexes is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_date_epoch: Option<u64>,
}

impl Default for ImageSpec {
    fn default() -> Self {
        ImageSpec {
            formats: vec![Format::Raw],
            profile: Profile::Fast,
            esp: Bytes(64 << 20),
            slot: Bytes(1 << 30),
            data_min: Bytes(256 << 20),
            secure_boot: None,
            secure_boot_enroll: None,
            data_encryption: None,
            source_date_epoch: None,
        }
    }
}

/// How it boots.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Boot {
    /// Words added to the kernel's command line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command_line: Vec<String>,
    /// Modules that the initrd carries beyond those for common disks and controllers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub initrd_modules: Vec<String>,
}

/// What of the packages' contents is left out. Patterns are paths in which `*` stands for any characters but `/`,
/// and `**` for any characters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exclude {
    /// Paths left out of every root.
    pub paths: Vec<String>,
    /// Paths kept although a pattern of `paths` matches.
    pub keep: Vec<String>,
}

impl Default for Exclude {
    fn default() -> Self {
        let list = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect();
        Exclude {
            paths: list(&[
                "/usr/share/doc/**",
                "/usr/share/man/**",
                "/usr/share/info/**",
                "/usr/share/locale/**",
                "/usr/share/lintian/**",
                "/usr/share/bug/**",
                "/usr/share/doc-base/**",
                "/usr/share/bash-completion/**",
                "/usr/share/zsh/**",
                "/usr/share/fish/**",
                "/usr/share/apport/**",
                "/usr/include/**",
                "/usr/lib/**.a",
                "/usr/lib/**.la",
                "/usr/lib/systemd/**",
                "/etc/init.d/**",
                "/etc/cron.*/**",
                "/etc/logrotate.d/**",
                "/etc/apparmor.d/**",
            ]),
            keep: list(&["/usr/share/doc/*/copyright", "/usr/lib/systemd/boot/**"]),
        }
    }
}

/// Where later versions come from, whom they are believed, and when one has proved itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// The publisher's root.json, as a path from the folder that holds `appliances/`: whoever these keys sign for is believed.
    pub root: String,
    /// The repository's address, `https://` or `http://`. Left out: the owner brings bundles. A name server's or a certificate authority's
    /// word is not needed for trust, but `https://` needs the package `ca-certificates` in `host.packages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The channel that is followed.
    #[serde(default = "stable")]
    pub channel: String,
    /// What the appliance does by itself: `automatic` looks every day, installs and restarts in the window; `notify` looks every day and tells;
    /// `off` does nothing. The owner's `site.toml` may say otherwise, here and in the next two.
    #[serde(default)]
    pub mode: UpgradeMode,
    /// When the appliance may restart by itself. None: it leaves that to its owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub window: Vec<Window>,
    /// How many bytes a second may be fetched. Left out: as many as come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bytes>,
    /// For how long every enabled unit must be ready and healthy before a new version is kept.
    #[serde(default = "healthy")]
    pub healthy: Seconds,
    /// How long a new version has for that; then the version of before is started again.
    #[serde(default = "deadline")]
    pub deadline: Seconds,
}

fn stable() -> String {
    "stable".to_owned()
}

fn healthy() -> Seconds {
    Seconds::from_secs(30)
}

fn deadline() -> Seconds {
    Seconds::from_secs(600)
}

/// For images that tests drive.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TestOptions {
    /// Puts the test agent, which does whatever the machine's control channel asks, into the host root.
    pub agent: bool,
}

/// A file format of the finished image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Format {
    Raw,
    Qcow2,
    Vmdk,
    Vhdx,
}

impl Format {
    /// The file name's ending, which is also the format's name.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Vmdk => "vmdk",
            Format::Vhdx => "vhdx",
        }
    }
}

/// When the boot loader gives firmware in setup mode the owner's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Enroll {
    /// Never: they are not on the image.
    Off,
    /// By itself in a virtual machine; elsewhere if somebody chooses it in the boot loader's menu (hold the space bar).
    #[default]
    IfSafe,
    /// By itself everywhere, after 15 seconds in which a key stops it. A machine whose graphics or disk controller has firmware of its
    /// maker's, signed for Microsoft's keys, may not start any more.
    Force,
}

impl Enroll {
    /// As loader.conf(5) has it in `secure-boot-enroll`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::IfSafe => "if-safe",
            Self::Force => "force",
        }
    }
}

/// How the data partition is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// The machine's TPM 2 keeps the key; a recovery key, which is shown once, opens it elsewhere.
    Tpm,
}

impl Encryption {
    /// The recipe's word, and that of `cairn.encryption=` on the kernel's command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
        }
    }

    /// What the host root holds for it: LUKS2's programs, what seals a key, and the TPM's library, which is loaded by name.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Tpm => &[
                "cryptsetup-bin",
                "systemd-cryptsetup",
                "libtss2-esys-3.0.2-0t64",
                "libtss2-rc0t64",
            ],
        }
    }

    /// What Debian's dependencies bring with these and the host root does without, unless the recipe names it: the TPM's library depends on
    /// rules for udev, and so on an init system with its accounts and logins.
    pub fn left_out(self) -> &'static [&'static str] {
        match self {
            Self::Tpm => &[
                "adduser",
                "debconf",
                "dmsetup",
                "libpam-modules",
                "libpam-modules-bin",
                "login.defs",
                "mount",
                "passwd",
                "systemd",
                "tpm-udev",
                "udev",
            ],
        }
    }
}

/// How hard to compress the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// LZ4: fast to build and to read.
    Fast,
    /// Zstandard: small to ship.
    Release,
}

/// A processor architecture, by Debian's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    /// Debian's name: `amd64` or `arm64`.
    pub fn debian(self) -> &'static str {
        match self {
            Arch::Amd64 => "amd64",
            Arch::Arm64 => "arm64",
        }
    }

    /// Debian's multiarch folder, `x86_64-linux-gnu` or `aarch64-linux-gnu`.
    pub fn multiarch(self) -> &'static str {
        match self {
            Arch::Amd64 => "x86_64-linux-gnu",
            Arch::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// Rust's target for the binaries that go into the image.
    pub fn rust_target(self) -> &'static str {
        match self {
            Arch::Amd64 => "x86_64-unknown-linux-gnu",
            Arch::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The architecture of the machine that this program was built for, if Cairn knows it.
    pub fn host() -> Option<Arch> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Arch::Amd64),
            "aarch64" => Some(Arch::Arm64),
            _ => None,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.debian())
    }
}

impl FromStr for Arch {
    type Err = String;
    fn from_str(text: &str) -> Result<Arch, String> {
        match text {
            "amd64" => Ok(Arch::Amd64),
            "arm64" => Ok(Arch::Arm64),
            _ => Err(format!(
                "`{text}` is not an architecture that Cairn builds for: amd64 or arm64"
            )),
        }
    }
}

impl Recipe {
    /// Parses a recipe and checks every rule that it alone can break.
    pub fn parse(source: &Source) -> Result<Recipe, Problems> {
        let recipe: Recipe = source.parse()?;
        let mut found = Problems::default();
        let mut refuse = |path: &[&str], message: String, help: String| {
            found.0.push(source.problem_at(path, message, Some(help)));
        };
        let stem = source.file.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        if stem != recipe.name.as_str() {
            refuse(
                &["name"],
                format!("the name is `{}` but the file is `{stem}.toml`", recipe.name),
                "name both alike".into(),
            );
        }
        let version = recipe
            .version
            .split('.')
            .all(|p| !p.is_empty() && p.chars().all(|c| c.is_ascii_digit()));
        if !version || recipe.version.len() > 32 {
            refuse(
                &["version"],
                format!("`{}` is not a version", recipe.version),
                "digits and dots: 1.4.0".into(),
            );
        }
        for (i, unit) in recipe.units.iter().enumerate() {
            if recipe.units[..i].contains(unit) {
                refuse(
                    &["units", &i.to_string()],
                    format!("`{unit}` is named twice"),
                    "name each unit once".into(),
                );
            }
        }
        // FAT32 needs 65,525 clusters of at least 512 bytes; below 34 MiB no conforming one can be made.
        if recipe.image.esp.0 < 34 << 20 {
            refuse(
                &["image", "esp"],
                "the EFI system partition is too small for FAT32".into(),
                "at least 34M".into(),
            );
        }
        if recipe.image.formats.is_empty() {
            refuse(
                &["image", "formats"],
                "no format is named".into(),
                "for example [\"raw\"]".into(),
            );
        }
        for (i, word) in recipe.boot.command_line.iter().enumerate() {
            if word.is_empty() || word.contains(char::is_whitespace) || word.starts_with("roothash=") {
                refuse(
                    &["boot", "command_line", &i.to_string()],
                    format!("`{word}` cannot be added to the command line"),
                    "one word each, and the root hash is set by the build".into(),
                );
            }
        }
        for (list, patterns) in [("paths", &recipe.exclude.paths), ("keep", &recipe.exclude.keep)] {
            for (i, pattern) in patterns.iter().enumerate() {
                if pattern.parse::<Path>().is_err() {
                    refuse(
                        &["exclude", list, &i.to_string()],
                        format!("`{pattern}` is not an absolute pattern"),
                        "patterns start with `/` and have no `..`".into(),
                    );
                }
            }
        }
        crate::checks::recipe(&recipe, &mut |path: &[&str], message, help| {
            refuse(path, message, help.to_owned())
        });
        found.or(recipe)
    }
}
