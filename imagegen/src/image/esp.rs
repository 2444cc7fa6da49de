//! The EFI system partition: what stands on it, as a plain value, and its file system.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use cairn_disk::gpt::Arch;
use cairn_unit::Enroll;

use super::{Error, fat};

/// How often a new entry is tried before systemd-boot prefers another.
pub const TRIES: u8 = 3;
/// No menu, and no default entry: systemd-boot then takes the newest entry that still has tries.
const LOADER_CONF: &str = "timeout 0\n";
/// Where systemd-boot looks for the keys that it may give to firmware by itself (loader.conf(5), `secure-boot-enroll`).
const KEYS: &str = "loader/keys/auto";

/// What is put on an ESP.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Names the removable-media path of the boot loader.
    pub arch: Arch,
    /// The appliance's name: letters, digits, `-`.
    pub name: &'a str,
    /// Its version: letters, digits, `.`, `~`, `^`, `-`.
    pub version: &'a str,
    /// systemd-boot.
    pub loader: &'a [u8],
    /// The UKI.
    pub uki: &'a [u8],
    /// The UKI of recovery, for an appliance that has one.
    pub recovery: Option<&'a [u8]>,
    /// The time of all files, in seconds since 1970.
    pub epoch: u64,
    /// First choices, by which the appliance sets itself up: `setup.toml`.
    pub setup: Option<&'a str>,
    /// Keys for Secure Boot. Loader and UKIs are signed already.
    pub keys: Option<Keys<'a>>,
}

/// Keys that firmware is given.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// When.
    pub enroll: Enroll,
    /// `PK.auth` and the others, by name.
    pub files: &'a BTreeMap<String, Vec<u8>>,
}

/// The file name of a UKI that is to be tried [`TRIES`] times: `NAME_VERSION+3.efi`.
///
/// # Errors
/// Name or version has a character that would change the meaning of the file name.
pub fn uki_name(name: &str, version: &str) -> Result<String, Error> {
    let fine = |text: &str, extra: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
    };
    if !fine(name, "-") || !fine(version, ".~^-") || name.len() + version.len() > 100 {
        let why = "use letters, digits and `-`, in versions also `.`, `~`, `^`; at most 100 characters together";
        return Err(Error::input(format!("appliance `{name}`, version `{version}`"), why));
    }
    Ok(format!("{name}_{version}+{TRIES}.efi"))
}

/// The boot loader's files: they are the same for all entries, and each version's root has a copy of them. Without keys for firmware: an upgrade
/// may leave a loader there that is not signed for them, and firmware that took them would start nothing any more.
pub fn loader(arch: Arch, loader: &[u8], enroll: Enroll) -> BTreeMap<String, Vec<u8>> {
    let (boot, own) = match arch {
        Arch::X86_64 => ("EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"),
        Arch::Arm64 => ("EFI/BOOT/BOOTAA64.EFI", "EFI/systemd/systemd-bootaa64.efi"),
    };
    let conf = match enroll {
        Enroll::Off => LOADER_CONF.to_owned(),
        when => format!("{LOADER_CONF}secure-boot-enroll {}\n", when.word()),
    };
    BTreeMap::from([
        (boot.to_owned(), loader.to_vec()),
        (own.to_owned(), loader.to_vec()),
        ("loader/loader.conf".to_owned(), conf.into_bytes()),
        // Tells systemd's tools that entries on this partition are UKIs and drop-ins of the common specification.
        ("loader/entries.srel".to_owned(), b"type1\n".to_vec()),
    ])
}

/// All files of the ESP, with a serial number computed from them.
///
/// # Errors
/// As [`uki_name`].
pub fn contents(inputs: &Inputs<'_>) -> Result<fat::Contents, Error> {
    let keys = inputs.keys.filter(|keys| keys.enroll != Enroll::Off);
    let mut files = loader(inputs.arch, inputs.loader, keys.map_or(Enroll::Off, |keys| keys.enroll));
    for (name, content) in keys.iter().flat_map(|keys| keys.files) {
        files.insert(format!("{KEYS}/{name}"), content.clone());
    }
    files.insert(
        format!("EFI/Linux/{}", uki_name(inputs.name, inputs.version)?),
        inputs.uki.to_vec(),
    );
    files.extend(
        inputs
            .recovery
            .map(|uki| (format!("EFI/Linux/{}", cairn_disk::efivars::RECOVERY), uki.to_vec())),
    );
    files.extend(
        inputs
            .setup
            .map(|text| ("setup.toml".to_owned(), text.as_bytes().to_vec())),
    );
    let mut contents = fat::Contents {
        label: "ESP".to_owned(),
        serial: 0,
        epoch: inputs.epoch,
        files,
    };
    let digest = digest(&contents);
    contents.serial = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]);
    Ok(contents)
}

/// A hash over all names and contents.
pub fn digest(contents: &fat::Contents) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for (name, content) in &contents.files {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update((content.len() as u64).to_le_bytes());
        hasher.update(content);
    }
    hasher.update(contents.epoch.to_le_bytes());
    hasher.finalize().into()
}

/// What an ESP needs beside its files, and a later version's UKI may have more than this one's, in bytes.
const SPARE: u64 = 4 << 20;

/// That an ESP of `size` bytes has room for the UKI of a second version, of the same size as this one's.
///
/// # Errors
/// It has not.
pub fn check_room(contents: &fat::Contents, uki: u64, size: u64) -> Result<(), Error> {
    let files: u64 = contents.files.values().map(|f| f.len() as u64).sum();
    let needs = files + uki + SPARE;
    if needs <= size {
        return Ok(());
    }
    let why = format!(
        "its {} MiB have no room for the boot entries of two versions and of recovery; raise `image.esp` in the recipe to {}M or more",
        size >> 20,
        needs.div_ceil(1 << 20)
    );
    Err(Error::input("EFI system partition", why))
}

/// A size in bytes that holds the files and two more UKIs of twice the size: what upgrades need.
pub fn size_for(contents: &fat::Contents) -> u64 {
    let files: u64 = contents.files.values().map(|f| f.len() as u64).sum();
    let largest = contents.files.values().map(|f| f.len() as u64).max().unwrap_or(0);
    (files + 4 * largest)
        .next_multiple_of(1 << 20)
        .saturating_add(4 << 20)
        .max(64 << 20)
}
