//! What a build will do, as a plain value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use cairn_unit::{Arch, Enroll, Format, Name, Profile, Recipe, Unit};
use serde::Serialize;

use super::binaries::Extras;
use super::{Binaries, BuildError};
use crate::archive::parse_date;
use crate::image::secureboot::{self, Enrolment};
use crate::project::Project;
use crate::resolve::{Lock, LockedPackage, Request};

/// What the caller chooses beyond the recipe.
#[derive(Debug, Clone)]
pub struct Options {
    /// The image's architecture.
    pub arch: Arch,
    /// File formats; `None`: the recipe's.
    pub formats: Option<Vec<Format>>,
    /// Compression; `None`: the recipe's.
    pub profile: Option<Profile>,
    /// The folder that receives the image.
    pub output: PathBuf,
    /// Cairn's own programs; `None`: built from the workspace that the recipe is in.
    pub binaries: Option<PathBuf>,
}

/// One root of the image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RootPlan {
    /// Its unit; `host` for the host root.
    pub name: String,
    /// Its packages, exactly.
    pub packages: Vec<LockedPackage>,
    /// Its overlays: name and folder, in the order in which they are laid.
    pub overlays: Vec<(String, PathBuf)>,
}

/// How the image is signed for Secure Boot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SecureBoot {
    /// The folder of the keys.
    pub folder: PathBuf,
    /// When firmware is given them.
    pub enroll: Enroll,
    /// How it is.
    pub enrolment: Enrolment,
}

/// What a build will do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BuildPlan {
    /// The recipe's file.
    pub recipe_file: PathBuf,
    /// The recipe.
    pub recipe: Recipe,
    /// The units.
    pub units: BTreeMap<Name, Unit>,
    /// For each unit, the units that are ready before it starts.
    pub waits_for: BTreeMap<Name, Vec<Name>>,
    /// The architecture.
    pub arch: Arch,
    /// The formats, `raw` first.
    pub formats: Vec<Format>,
    /// The compression.
    pub profile: Profile,
    /// The time that everything carries, in seconds since 1970.
    pub epoch: u64,
    /// The service roots, by unit.
    pub roots: BTreeMap<Name, RootPlan>,
    /// The host root.
    pub host: RootPlan,
    /// The kernel's packages.
    pub kernel: Vec<LockedPackage>,
    /// The boot loader's packages.
    pub loader: Vec<LockedPackage>,
    /// The lock's file.
    pub lock_file: PathBuf,
    /// The lock.
    #[serde(skip)]
    pub lock: Lock,
    /// The keys that later versions are believed by: the publisher's root.json.
    pub trusted: Option<String>,
    /// How it is signed.
    pub secure_boot: Option<SecureBoot>,
    /// Where Cairn's own programs come from.
    pub binaries: Binaries,
    /// First choices, put on the ESP.
    pub setup: Option<String>,
    /// The folder that receives the image.
    pub output: PathBuf,
}

/// Where the lock of a recipe for an architecture is: beside the recipe, `NAME.ARCH.lock`.
pub fn lock_path(recipe_file: &Path, arch: Arch) -> PathBuf {
    recipe_file.with_extension(format!("{arch}.lock"))
}

/// What the lock of a recipe is made from: the packages of each unit, of the host root (`host`), the kernel (`kernel`) and
/// the boot loader (`loader`).
pub fn lock_request(recipe: &Recipe, units: &BTreeMap<Name, Unit>, arch: Arch) -> Request {
    let mut all: BTreeMap<String, Vec<String>> = units
        .iter()
        .map(|(name, unit)| (name.to_string(), unit.packages.clone()))
        .collect();
    let mut host = recipe.host.packages.clone();
    let encryption = recipe.image.data_encryption.iter().flat_map(|how| how.packages());
    for package in encryption.map(|name| (*name).to_owned()) {
        if !host.contains(&package) {
            host.push(package);
        }
    }
    all.insert("@host".into(), host);
    all.insert(
        "@kernel".into(),
        vec![recipe.host.kernel.replace("{arch}", arch.debian())],
    );
    all.insert("@loader".into(), vec!["systemd-boot-efi".into()]);
    Request {
        arch: arch.debian().into(),
        units: all,
    }
}

/// Whether the host root holds a package of its closure.
fn in_host(recipe: &Recipe, package: &str) -> bool {
    let left_out = recipe.image.data_encryption.iter().flat_map(|how| how.left_out());
    recipe.host.packages.iter().any(|named| named == package) || !left_out.into_iter().any(|name| *name == package)
}

/// Plans the build of a recipe: reads recipe, units and lock, and checks that they fit each other.
pub fn plan(recipe_file: &Path, options: &Options) -> Result<BuildPlan, BuildError> {
    let project = Project::read(recipe_file)?;
    let (recipe, units) = (project.recipe.clone(), project.parsed_units());
    let lock_file = lock_path(recipe_file, options.arch);
    let lock = Lock::read(&lock_file)?;
    if !lock.is_current(&lock_request(&recipe, &units, options.arch)) {
        return Err(BuildError::Stale {
            path: lock_file,
            recipe: recipe_file.display().to_string(),
        });
    }
    let packages =
        |name: &str| -> Vec<LockedPackage> { lock.unit(name).unwrap_or_default().into_iter().cloned().collect() };
    let mut roots = BTreeMap::new();
    for (name, unit) in &units {
        roots.insert(
            name.clone(),
            RootPlan {
                name: name.to_string(),
                packages: packages(name.as_str()),
                overlays: project.overlays(name, unit),
            },
        );
    }
    let epoch = recipe.image.source_date_epoch.unwrap_or_else(|| {
        let seconds = |date: &str| parse_date(date)?.duration_since(UNIX_EPOCH).ok().map(|d| d.as_secs());
        lock.suites
            .iter()
            .filter_map(|suite| seconds(&suite.date))
            .max()
            .unwrap_or(1)
    });
    let mut formats = options.formats.clone().unwrap_or_else(|| recipe.image.formats.clone());
    formats.push(Format::Raw);
    formats.sort();
    formats.dedup();
    // Of the kernel's closure only the kernel itself: its other packages (initramfs-tools and the like) serve scripts
    // that never run here.
    let kernel = packages("@kernel")
        .into_iter()
        .filter(|p| p.source == "linux" || p.source.starts_with("linux-signed"));
    let binaries = match &options.binaries {
        Some(folder) => Binaries::Folder(folder.clone()),
        None => Binaries::Workspace(project.folder.clone()),
    };
    binaries.check(&units)?;
    let trusted = match &recipe.upgrade {
        None => None,
        Some(upgrade) => {
            let path = project.folder.join(&upgrade.root);
            Some(
                std::fs::read_to_string(&path)
                    .map_err(BuildError::io("read the keys of later versions from", &path))?,
            )
        }
    };
    let secure_boot = match &recipe.image.secure_boot {
        None => None,
        Some(folder) => {
            let folder = project.folder.join(folder);
            Some(SecureBoot {
                enrolment: secureboot::enrolment(&folder)?,
                enroll: recipe.image.secure_boot_enroll.unwrap_or_default(),
                folder,
            })
        }
    };
    Ok(BuildPlan {
        setup: None,
        secure_boot,
        host: RootPlan {
            name: "host".into(),
            packages: packages("@host")
                .into_iter()
                .filter(|p| in_host(&recipe, &p.name))
                .collect(),
            overlays: recipe
                .host
                .overlays
                .iter()
                .map(|name| project.overlay(name.as_str()))
                .collect(),
        },
        kernel: kernel.collect(),
        loader: packages("@loader")
            .into_iter()
            .filter(|p| p.name.starts_with("systemd-boot"))
            .collect(),
        waits_for: project.graph.before,
        binaries,
        trusted,
        profile: options.profile.unwrap_or(recipe.image.profile),
        recipe_file: recipe_file.to_owned(),
        arch: options.arch,
        output: options.output.clone(),
        recipe,
        units,
        formats,
        epoch,
        roots,
        lock_file,
        lock,
    })
}

impl BuildPlan {
    /// Every package that the build reads, once.
    pub fn packages(&self) -> Vec<&LockedPackage> {
        let roots = self.roots.values().chain([&self.host]).flat_map(|root| &root.packages);
        let mut all: Vec<&LockedPackage> = roots.chain(&self.kernel).chain(&self.loader).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.dedup_by(|a, b| a.name == b.name);
        all
    }

    /// Whether the image holds the test agent.
    pub(super) fn agent(&self) -> bool {
        self.recipe.test.as_ref().is_some_and(|test| test.agent)
    }

    /// Which programs it holds beyond those of every image.
    pub(super) fn extras(&self) -> Extras {
        Extras {
            agent: self.agent(),
            upgrade: self.recipe.upgrade.is_some(),
        }
    }

    /// The start of every output file's name: `NAME-VERSION`, and the architecture where it is not this machine's.
    pub fn stem(&self) -> String {
        let (name, version) = (&self.recipe.name, &self.recipe.version);
        match self.arch {
            Arch::Amd64 => format!("{name}-{version}"),
            arch => format!("{name}-{version}-{arch}"),
        }
    }

    /// The root's command line, but for the root hash.
    pub(super) fn command_line(&self, root_hash: &str) -> String {
        let image = &self.recipe.image;
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let slot = mib(image.slot.0) << 20;
        let verity = mib(cairn_disk::verity::hash_device_size(slot));
        let mut words = vec![
            format!("roothash={root_hash}"),
            format!("cairn.slot={}", mib(image.slot.0)),
            format!("cairn.verity={verity}"),
            format!("cairn.data-min={}", mib(image.data_min.0)),
        ];
        words.extend(
            image
                .data_encryption
                .map(|how| format!("cairn.encryption={}", how.word())),
        );
        words.extend(self.kernel_words());
        words.join(" ")
    }

    /// That of recovery.
    pub(super) fn recovery_command_line(&self) -> String {
        let mut words = vec![cairn_disk::efivars::RECOVERY_WORD.to_owned()];
        words.extend(self.kernel_words());
        words.join(" ")
    }

    /// What all kernels of the image are told.
    fn kernel_words(&self) -> Vec<String> {
        let mut words = vec![
            // The last console is /dev/console; the kernel writes to all of them, and cairn-init too.
            "console=tty0".to_owned(),
            match self.arch {
                Arch::Amd64 => "console=ttyS0".to_owned(),
                Arch::Arm64 => "console=ttyAMA0".to_owned(),
            },
            "quiet".into(),
            "panic=10".into(),
            // The self-tests of the kernel's ciphers cost up to a second, and are off in the kernel's own defaults.
            "cryptomgr.notests".into(),
            // So do these two, which test and calibrate what nothing here uses: the clock's jitter as a source for the kernel's own DRBG
            // (random numbers for programs do not come from there), and a key derivation.
            "initcall_blacklist=jent_mod_init,crypto_kdf108_init".into(),
        ];
        words.extend(self.recipe.boot.command_line.iter().cloned());
        words
    }
}
