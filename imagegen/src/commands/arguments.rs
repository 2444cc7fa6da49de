//! The words of the command line, as types.

use std::ffi::OsString;
use std::path::PathBuf;

use cairn_unit::{Arch, Bytes, Format, Profile};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::tools::ToolSet;

/// Turns a list of services into one verified, bootable image.
#[derive(Debug, Parser)]
#[command(
    name = "imagegen",
    version,
    about = "Turns a list of services into one verified, bootable image",
    long_about = "Turns a list of services into one verified, bootable image.\n\nA recipe (appliances/NAME.toml) names \
                  units (units/NAME.toml); imagegen resolves their packages, writes a lock, and makes an image that is \
                  a function of that lock: the same bytes on any machine. It needs no root.",
    after_help = "Examples:\n  imagegen build                       build appliances/base.toml into build/\n  \
                  imagegen run                         build it if needed and boot it here\n  \
                  imagegen check appliances/mine.toml  everything that can be known without building\n\n\
                  Exit status: 0 done, 1 failed, 2 wrong arguments, 130 interrupted.",
    max_term_width = 100
)]
pub struct Arguments {
    /// Write one JSON document to standard output, also for an error; no bars
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image from a recipe
    #[command(
        after_help = "Examples:\n  imagegen build\n  imagegen build appliances/minimal.toml --format raw,qcow2\n  \
                      imagegen build --profile release -o out/\n  imagegen build --offline\n  \
                      imagegen build --arch arm64 --binaries prebuilt/arm64/"
    )]
    Build(Build),
    /// Write or refresh a recipe's lock, showing what changes
    #[command(
        after_help = "Examples:\n  imagegen lock\n  imagegen lock appliances/minimal.toml --arch arm64\n  \
                      imagegen lock --tools"
    )]
    Lock(Lock),
    /// Find everything wrong that can be known without building
    #[command(after_help = "Examples:\n  imagegen check\n  imagegen check appliances/minimal.toml --json")]
    Check(Check),
    /// Boot an image under QEMU, building it first if needed
    #[command(
        after_help = "Examples:\n  imagegen run\n  imagegen run --headless --port 8443:443\n  \
                      imagegen run --disk mine.raw --memory 4G --cpus 4\n\nCtrl-C shuts the guest down cleanly; a \
                      second Ctrl-C ends it at once. With --json the console goes to standard error."
    )]
    Run(Run),
    /// Show an image's partitions, root hash, units, packages and sizes
    #[command(after_help = "Examples:\n  imagegen inspect build/base-0.1.0.raw\n  \
                            imagegen inspect build/base-0.1.0.raw --json")]
    Inspect(Inspect),
    /// Show what differs between two images: packages, files, size
    #[command(after_help = "Examples:\n  imagegen diff old/base-0.1.0.raw build/base-0.1.0.raw")]
    Diff(Diff),
    /// Write an image's software bill of materials
    #[command(
        after_help = "Examples:\n  imagegen sbom build/base-0.1.0.raw --format spdx > base.spdx.json\n  \
                            imagegen sbom build/base-0.1.0.raw --format cyclonedx -o base.cdx.json"
    )]
    Sbom(Sbom),
    /// Publish images as releases that appliances upgrade to
    #[command(after_help = "Examples:\n  imagegen release init repo/ --keys keys/ --name base\n  \
                      imagegen release add repo/ build/base-1.1.0.raw --notes notes.txt\n  \
                      imagegen release promote repo/ 1.1.0 --channel stable --waves 10%@0h,50%@24h,100%@3d\n  \
                      imagegen release publish repo/ --keys keys/\n  \
                      imagegen release pause repo/ --reason \"mail is lost\"\n  \
                      imagegen release withdraw repo/ 1.1.0 --reason \"mail is lost\"\n  \
                      imagegen release status repo/\n  \
                      imagegen release bundle repo/ 1.1.0 -o base-1.1.0.cairn\n\n\
                      repo/ is plain files for any web server; keys/ must never lie on it. repo/metadata/1.root.json goes into the \
                      project, where the recipe's [upgrade] names it. docs/upgrades.md tells all of it.")]
    Release(Release),
    /// Make the keys by which the owner's firmware knows the owner's images
    #[command(
        after_help = "Example:\n  imagegen keys secureboot keys/secureboot --name Example\n\n\
                      The recipe names the folder: `secure_boot = \"keys/secureboot\"` below [image]. docs/imagegen.md tells all of it."
    )]
    Keys(Keys),
    /// Write an image to a disk, read it back and verify it
    #[command(
        after_help = "Examples:\n  imagegen flash build/base-0.1.0.raw /dev/sdX --dry-run\n  \
                      imagegen flash build/base-0.1.0.raw /dev/sdX\n\nA mounted, in-use or non-removable device is \
                      refused without --force; one that is too small always is."
    )]
    Flash(Flash),
    /// Make a unit of a systemd service file, and say what it could not carry over
    #[command(
        after_help = "Examples:\n  imagegen import-unit /usr/lib/systemd/system/ssh.service --package openssh-server\n  \
                      imagegen import-unit backup.service --package restic -o units/backup.toml\n\nThe timer, socket and \
                      path of the same name and the drop-ins in FILE.d are read too. The unit goes to standard output or \
                      to -o, notes to standard error: a `hint` is good to know; where a note says `decide` the unit \
                      behaves differently until you did.\n\nExit status: 0 done, 3 done with notes that say `decide`, 1 failed, \
                      2 wrong arguments."
    )]
    ImportUnit(ImportUnit),
    /// Print the JSON Schema of a format, so that an editor completes it
    #[command(after_help = "Examples:\n  imagegen schema unit > unit.schema.json\n  \
                            imagegen schema recipe --markdown")]
    Schema(Schema),
    /// Print a shell's completion script
    #[command(
        after_help = "Examples:\n  imagegen completions bash > ~/.local/share/bash-completion/completions/imagegen\n  \
                            imagegen completions fish > ~/.config/fish/completions/imagegen.fish"
    )]
    Completions(Completions),
    /// Run a program of imagegen's own tools on files of this machine
    #[command(after_help = "Examples:\n  imagegen tool qemu-img info build/base-0.1.0.qcow2\n  \
                      imagegen tool --set judges sgdisk -v build/base-0.1.0.raw\n  \
                      imagegen tool --set judges --wrappers target/judges\n\nThe program runs in a sandbox. It sees the \
                      current folder and the folders of its arguments, and can write there; its exit status is \
                      passed on.")]
    Tool(Tool),
    /// Look at or shrink the package cache
    #[command(after_help = "Examples:\n  imagegen cache info\n  imagegen cache gc\n  imagegen cache gc --keep-days 0")]
    Cache(Cache),
}

/// Where the recipe is, for every command that reads one.
#[derive(Debug, Clone, Args)]
pub struct RecipeFile {
    /// The recipe
    #[arg(value_name = "RECIPE", default_value = "appliances/base.toml")]
    pub recipe: PathBuf,
}

/// `imagegen build`.
#[derive(Debug, Clone, Args)]
pub struct Build {
    /// The recipe.
    #[command(flatten)]
    pub recipe: RecipeFile,
    /// File formats to write, by comma [default: the recipe's]
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', value_parser = format())]
    pub format: Vec<Format>,
    /// How hard to compress: fast (LZ4) or release (Zstandard) [default: the recipe's]
    #[arg(long, value_name = "PROFILE", value_parser = profile())]
    pub profile: Option<Profile>,
    /// The image's architecture: amd64 or arm64 [default: this machine's]
    #[arg(long, value_name = "ARCH", value_parser = arch())]
    pub arch: Option<Arch>,
    /// The folder that receives the image
    #[arg(short, long, value_name = "DIR", default_value = "build")]
    pub output: PathBuf,
    /// Choices by which the appliance sets itself up: `run` hands them to the guest, `build` puts them on the ESP
    #[arg(long, value_name = "FILE")]
    pub site: Option<PathBuf>,
    /// Use only what the cache holds; open no connection
    #[arg(long)]
    pub offline: bool,
    /// Take Cairn's own binaries from this folder instead of compiling them
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,
    /// Resolve anew what the lock names but the archive no longer carries, saying what changes
    #[arg(long)]
    pub relock_missing: bool,
}

/// `imagegen lock`.
#[derive(Debug, Clone, Args)]
pub struct Lock {
    /// The recipe.
    #[command(flatten)]
    pub recipe: RecipeFile,
    /// The architecture: amd64 or arm64 [default: this machine's]
    #[arg(long, value_name = "ARCH", value_parser = arch())]
    pub arch: Option<Arch>,
    /// Debian's release alone, without its updates and security fixes: to measure what an upgrade costs, not for an appliance
    #[arg(long, conflicts_with = "tools")]
    pub without_updates: bool,
    /// Lock imagegen's own tools instead (in the project's folder): imagegen/{tools,judges,peers,browser}.amd64.lock
    #[arg(long, conflicts_with_all = ["recipe", "arch"])]
    pub tools: bool,
}

/// `imagegen check`.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// The recipe.
    #[command(flatten)]
    pub recipe: RecipeFile,
    /// The architecture whose lock is looked at: amd64 or arm64 [default: this machine's]
    #[arg(long, value_name = "ARCH", value_parser = arch())]
    pub arch: Option<Arch>,
}

/// `imagegen run`.
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// What to build.
    #[command(flatten)]
    pub build: Build,
    /// Give the guest no graphics card (there is never a window; the serial console always comes to this terminal)
    #[arg(long)]
    pub headless: bool,
    /// Hand kernel and initrd to QEMU instead of going through firmware and boot loader
    #[arg(long)]
    pub direct_kernel: bool,
    /// Start by firmware with Secure Boot and without keys: it takes the image's, and refuses what is not signed by them (slow without KVM)
    #[arg(long, conflicts_with = "direct_kernel")]
    pub secure_boot: bool,
    /// Forward a port of this machine's loopback to the guest (repeat for more) [default: every published port]
    #[arg(long = "port", value_name = "HOST:GUEST", value_parser = port)]
    pub ports: Vec<(u16, u16)>,
    /// The guest's memory
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = memory)]
    pub memory: Bytes,
    /// The guest's processors
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub cpus: u32,
    /// Keep the guest's disk in this file and go on with it next time [default: a copy that is thrown away]
    #[arg(long, value_name = "FILE")]
    pub disk: Option<PathBuf>,
}

/// `imagegen inspect`.
#[derive(Debug, Clone, Args)]
pub struct Inspect {
    /// The image, in raw format
    pub image: PathBuf,
}

/// `imagegen diff`.
#[derive(Debug, Clone, Args)]
pub struct Diff {
    /// The image before
    pub a: PathBuf,
    /// The image after
    pub b: PathBuf,
}

/// `imagegen sbom`.
#[derive(Debug, Clone, Args)]
pub struct Sbom {
    /// The image
    pub image: PathBuf,
    /// The document's format
    #[arg(long, value_enum, default_value_t = SbomFormat::Spdx)]
    pub format: SbomFormat,
    /// The file to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A bill of materials' format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SbomFormat {
    /// SPDX 2.3 JSON
    Spdx,
    /// CycloneDX 1.6 JSON
    Cyclonedx,
}

/// `imagegen flash`.
#[derive(Debug, Clone, Args)]
pub struct Flash {
    /// The image, in raw format
    pub image: PathBuf,
    /// The disk that is overwritten
    pub device: PathBuf,
    /// Write also to a mounted, in-use or non-removable device
    #[arg(long)]
    pub force: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Print what would be done and stop
    #[arg(long)]
    pub dry_run: bool,
}

/// `imagegen import-unit`.
#[derive(Debug, Clone, Args)]
pub struct ImportUnit {
    /// The service file; a template's name ends with @.service
    #[arg(value_name = "FILE.service")]
    pub service: PathBuf,
    /// A Debian package that the unit is made of (repeat for more)
    #[arg(long = "package", value_name = "NAME")]
    pub packages: Vec<String>,
    /// The file to write, units/NAME.toml [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Overwrite the file
    #[arg(long)]
    pub force: bool,
}

/// `imagegen schema`.
#[derive(Debug, Clone, Args)]
pub struct Schema {
    /// Which format
    #[arg(value_enum)]
    pub format: SchemaOf,
    /// Print the reference as Markdown instead
    #[arg(long)]
    pub markdown: bool,
}

/// A text format that has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// A service: units/NAME.toml
    Unit,
    /// An appliance: appliances/NAME.toml
    Recipe,
    /// The owner's choices: site.toml and setup.toml
    Site,
    /// Units and recipes (with --markdown: the whole of docs/units.md)
    All,
}

/// `imagegen completions`.
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `imagegen tool`.
#[derive(Debug, Clone, Args)]
pub struct Tool {
    /// The set of tools: tools (what builds use), judges and browser (what tests use) or peers (what benchmarks use)
    #[arg(long, value_name = "SET", default_value = "tools", value_parser = tool_set())]
    pub set: ToolSet,
    /// Instead of running a program, write a script for each into this folder, to be put on a PATH
    #[arg(long, value_name = "DIR")]
    pub wrappers: Option<PathBuf>,
    /// The program and its arguments
    #[arg(
        value_name = "NAME [ARGS]",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required_unless_present = "wrappers",
        conflicts_with = "wrappers"
    )]
    pub command: Vec<OsString>,
}

/// `imagegen cache`.
#[derive(Debug, Clone, Args)]
pub struct Cache {
    /// What to do with the cache.
    #[command(subcommand)]
    pub action: CacheAction,
}

/// What to do with the cache.
#[derive(Debug, Clone, Subcommand)]
pub enum CacheAction {
    /// Say where the cache is and what it holds
    #[command(after_help = "Example:\n  imagegen cache info")]
    Info,
    /// Remove what no build has used lately
    #[command(after_help = "Examples:\n  imagegen cache gc\n  imagegen cache gc --keep-days 0")]
    Gc {
        /// Keep what was used within so many days
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        keep_days: u32,
    },
}

/// A parser of these words and no others. A wrong one is answered with all of them, and with the one that was meant.
fn one_of<T: Copy + Send + Sync + 'static, const N: usize>(
    words: [(&'static str, T); N],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words.map(|(word, _)| word)).try_map(move |text| {
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or("no such word")
    })
}

fn format() -> impl TypedValueParser<Value = Format> {
    one_of([Format::Raw, Format::Qcow2, Format::Vmdk, Format::Vhdx].map(|f| (f.extension(), f)))
}

fn profile() -> impl TypedValueParser<Value = Profile> {
    one_of([("fast", Profile::Fast), ("release", Profile::Release)])
}

fn arch() -> impl TypedValueParser<Value = Arch> {
    one_of([("amd64", Arch::Amd64), ("arm64", Arch::Arm64)])
}

fn tool_set() -> impl TypedValueParser<Value = ToolSet> {
    one_of(ToolSet::ALL.map(|set| (set.name(), set)))
}

/// The kernel, its initrd and the unpacking of both need this much.
const LEAST_MEMORY: u64 = 256 << 20;

fn memory(text: &str) -> Result<Bytes, String> {
    match text.parse::<Bytes>() {
        Err(why) => Err(why.to_string()),
        Ok(Bytes(size)) if size < LEAST_MEMORY => Err("an appliance needs 256M at least".into()),
        Ok(size) => Ok(size),
    }
}

fn port(text: &str) -> Result<(u16, u16), String> {
    let number = |s: &str| s.parse::<u16>().ok().filter(|n| *n != 0);
    text.split_once(':')
        .and_then(|(host, guest)| Some((number(host)?, number(guest)?)))
        .ok_or_else(|| format!("`{text}` is not HOST:GUEST: write for example 8443:443"))
}

/// `imagegen keys`.
#[derive(Debug, Clone, Args)]
pub struct Keys {
    /// Which keys.
    #[command(subcommand)]
    pub action: KeysAction,
}

/// Which keys are made.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysAction {
    /// PK, KEK and db for UEFI Secure Boot, with the files by which firmware takes them
    Secureboot {
        /// The folder to make: keys are never written over
        folder: PathBuf,
        /// Whose keys they are, as certificates and firmware's menus show it
        #[arg(long, default_value = "Cairn")]
        name: String,
    },
}

/// `imagegen release`.
#[derive(Debug, Clone, Args)]
pub struct Release {
    /// What is done.
    #[command(subcommand)]
    pub action: ReleaseAction,
}

/// For how long signatures are good.
#[derive(Debug, Clone, Args)]
pub struct Expires {
    /// Days until an appliance believes root.json no more
    #[arg(long, default_value_t = 3650, value_name = "DAYS")]
    pub root_days: i64,
    /// Days until it believes what there is no more
    #[arg(long, default_value_t = 365, value_name = "DAYS")]
    pub targets_days: i64,
    /// Days until it no more believes that there is nothing newer: publish again before
    #[arg(long, default_value_t = 30, value_name = "DAYS")]
    pub timestamp_days: i64,
}

/// What is done with a repository of releases.
#[derive(Debug, Clone, Subcommand)]
pub enum ReleaseAction {
    /// Make keys and an empty repository
    Init {
        /// The repository's folder
        repository: PathBuf,
        /// The folder of the keys
        #[arg(long)]
        keys: PathBuf,
        /// The appliance
        #[arg(long)]
        name: cairn_unit::Name,
        /// How many root keys and targets keys are made
        #[arg(long, default_value_t = 1, value_name = "NUMBER")]
        key_count: u32,
        /// How many of them must sign
        #[arg(long, default_value_t = 1, value_name = "NUMBER")]
        threshold: u32,
        /// Validity.
        #[command(flatten)]
        expires: Expires,
    },
    /// Add an image, with the manifest that lies beside it; needs no keys
    Add {
        /// The repository's folder
        repository: PathBuf,
        /// The image, in raw format
        image: PathBuf,
        /// A file with what is to be said of it
        #[arg(long, value_name = "FILE")]
        notes: Option<PathBuf>,
        /// The least version that can be upgraded from
        #[arg(long, value_name = "VERSION")]
        minimum: Option<String>,
        /// Make a delta for appliances of this version (repeat for more) [default: the newest before it]
        #[arg(long, value_name = "VERSION", conflicts_with = "no_delta")]
        delta_from: Vec<String>,
        /// Make none
        #[arg(long)]
        no_delta: bool,
    },
    /// Give a channel a version; in force when it is published
    Promote {
        /// The repository's folder
        repository: PathBuf,
        /// The version
        version: String,
        /// The channel
        #[arg(long, default_value = "stable")]
        channel: String,
        /// Give it to a part of all appliances first: `10%@0h,50%@24h,100%@3d` after it is published [default: to all at once]
        #[arg(long)]
        waves: Option<cairn_upgrade::waves::Waves>,
    },
    /// Offer a version no more: what a channel offered before takes its place; in force when it is published
    Withdraw {
        /// The repository's folder
        repository: PathBuf,
        /// The version
        version: String,
        /// Only from this channel [default: from all]
        #[arg(long)]
        channel: Option<String>,
        /// What owners are told
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Stop giving out what a channel offers; in force when it is published
    Pause {
        /// The repository's folder
        repository: PathBuf,
        /// The channel
        #[arg(long, default_value = "stable")]
        channel: String,
        /// What owners are told
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Go on giving out what a channel offers; waves to come are as much later as it was paused
    Resume {
        /// The repository's folder
        repository: PathBuf,
        /// The channel
        #[arg(long, default_value = "stable")]
        channel: String,
    },
    /// Show what the channels offer, how that is given out, and until when signatures are good
    Status {
        /// The repository's folder
        repository: PathBuf,
    },
    /// Sign what was added and promoted, and that it is the newest
    Publish {
        /// The repository's folder
        repository: PathBuf,
        /// The folder of the keys
        #[arg(long)]
        keys: PathBuf,
        /// Validity.
        #[command(flatten)]
        expires: Expires,
    },
    /// Remove packs and targets that neither a signed release nor one that waits to be published needs
    Gc {
        /// The repository's folder
        repository: PathBuf,
        /// Only say which
        #[arg(long)]
        dry_run: bool,
    },
    /// Give a role new keys in place of its own
    Keys {
        /// The repository's folder
        repository: PathBuf,
        /// The folder of the keys
        #[arg(long)]
        keys: PathBuf,
        /// The role
        #[arg(long, value_parser = ["root", "targets", "snapshot", "timestamp"])]
        rotate: String,
        /// Validity.
        #[command(flatten)]
        expires: Expires,
    },
    /// Write a published release as one file, for appliances without a network
    Bundle {
        /// The repository's folder
        repository: PathBuf,
        /// The version
        version: String,
        /// The architecture
        #[arg(long, default_value = "amd64")]
        arch: Arch,
        /// Leave out what this earlier version has: a smaller bundle, for appliances that run it
        #[arg(long, value_name = "VERSION")]
        since: Option<String>,
        /// The file to write
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}
