//! What an upgrade costs: base.toml with Debian's release as it came out, upgraded to the same with all updates and security fixes of today.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use cairn_disk::gpt::{PartitionType, Size, Table};
use cairn_disk::verity::RootHash;
use cairn_disk::{FileDevice, Guid};
use cairn_upgrade::delta::Delta;
use cairn_upgrade::device::RealDisk;
use cairn_upgrade::esp::{Entries as _, EspFolder};
use cairn_upgrade::index::Index;
use cairn_upgrade::install::{Install, Progress};
use cairn_upgrade::metadata::Trusted;
use cairn_upgrade::plan::{Found, plan};
use cairn_upgrade::publish::{Expiry, Publisher, Threshold};
use cairn_upgrade::slots::Slots;
use cairn_upgrade::source::{self, Source};
use imagegen::archive::Mirror;
use imagegen::cache::{Cache, FetchOptions};
use imagegen::image::tool::{Bind, ToolRunner as _};
use imagegen::progress::Silent;
use imagegen::tools::{ToolSet, ToolsTree, load_tools};
use qemu_tests::disk::copy_grown;
use qemu_tests::images;
use qemu_tests::served::Served;
use qemu_tests::verdict::Version;

use crate::build::{Bed, imagegen};
use crate::figure::{Goal, Row, Samples, Unit};
use crate::runs;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// casync's chunks: 16 KiB on average, as RAUC's guide has it for devices that fetch by HTTP.
const CASYNC: &str = "--chunk-size=16384";
const DISK: u64 = 4 << 30;

/// Two versions of base.toml, and the repository that has both.
struct Change {
    old: (PathBuf, Version),
    new: Version,
    repository: PathBuf,
    root: Vec<u8>,
    index: Index,
    packages: usize,
}

/// Runs our imagegen and gives its report.
fn command(folder: &Path, words: &[&OsString]) -> Outcome<()> {
    let mut command = Command::new(images::imagegen()?);
    let output = command.current_dir(folder).args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("imagegen {words:?} failed: {said}").into())
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

impl Change {
    fn make(folder: &Path) -> Outcome<Self> {
        let bed = Bed::new(folder)?;
        let recipe = bed.project.join("appliances/base.toml");
        let text = fs::read_to_string(&recipe)?;
        let build = |version: &str, lock: &[&str]| -> Outcome<PathBuf> {
            fs::write(
                &recipe,
                text.replacen("version = \"0.1.0\"", &format!("version = {version:?}"), 1),
            )?;
            let lock = words(&[&["lock", "--arch", "amd64", "appliances/base.toml"], lock].concat());
            command(&bed.project, &lock.iter().collect::<Vec<_>>())?;
            let out = folder.join("versions");
            let report = imagegen(&recipe, &out, None, Some(&bed.binaries), &["--profile", "release"])?;
            let image = report["build"]["images"][0]
                .as_str()
                .ok_or("imagegen did not name an image")?;
            Ok(image.into())
        };
        let old = build("1.0.0", &["--without-updates"])?;
        let lock = fs::read_to_string(bed.project.join("appliances/base.amd64.lock"))?;
        let new = build("1.1.0", &[])?;
        let now = fs::read_to_string(bed.project.join("appliances/base.amd64.lock"))?;
        let packages = changed(&lock, &now);
        let (repository, keys) = (folder.join("repository"), folder.join("keys"));
        for stale in [&repository, &keys] {
            if stale.exists() {
                fs::remove_dir_all(stale)?;
            }
        }
        Publisher::init(
            &repository,
            &keys,
            "base",
            Threshold { keys: 1, sign: 1 },
            Expiry::default(),
        )?;
        let place = repository.display().to_string();
        for (version, image) in [("1.0.0", &old), ("1.1.0", &new)] {
            let image = image.display().to_string();
            let add = words(&["release", "add", &place, &image]);
            command(&bed.project, &add.iter().collect::<Vec<_>>())?;
            let promote = words(&["release", "promote", &place, version]);
            command(&bed.project, &promote.iter().collect::<Vec<_>>())?;
            let publish = words(&["release", "publish", &place, "--keys", &keys.display().to_string()]);
            command(&bed.project, &publish.iter().collect::<Vec<_>>())?;
        }
        let publisher = Publisher::open(&repository, &keys)?;
        Ok(Self {
            index: Index::decode(
                &publisher
                    .file("base", "1.1.0", "amd64", "index")
                    .ok_or("there is no index")?,
            )?,
            root: fs::read(publisher.root()?)?,
            new: Version::of(&new)?,
            old: (old.clone(), Version::of(&old)?),
            repository,
            packages,
        })
    }

    /// A disk with the old version and an empty second slot, and its ESP.
    fn appliance(&self, folder: &Path) -> Outcome<(PathBuf, PathBuf)> {
        let (disk, esp) = (folder.join("appliance.raw"), folder.join("esp"));
        copy_grown(&self.old.0, &disk, DISK)?;
        let mut device = FileDevice::new(File::options().read(true).write(true).open(&disk)?)?;
        let mut table = Table::read(&device)?.table;
        table.fit_disk(DISK)?;
        for (nth, kind) in [PartitionType::RootVerity(ARCH), PartitionType::Root(ARCH)]
            .into_iter()
            .enumerate()
        {
            let own = table
                .by_type(kind)
                .next()
                .map(|(_, partition)| table.range(partition).1);
            let size = Size::Bytes(own.ok_or("the image lacks a slot")?);
            table.add(kind, Guid::from_u128(77 + nth as u128), "_empty", size)?;
        }
        table.write(&mut device)?;
        if esp.exists() {
            fs::remove_dir_all(&esp)?;
        }
        fs::create_dir_all(esp.join("EFI/Linux"))?;
        // It has proved itself: nothing counts its starts any more.
        let (name, bytes) = &self.old.1.entry;
        let name = name.split('+').next().unwrap_or(name).trim_end_matches(".efi");
        fs::write(esp.join("EFI/Linux").join(format!("{name}.efi")), bytes)?;
        File::open(&disk)?.sync_all()?;
        Ok((disk, esp))
    }

    /// Installs the new version; how long that took, and what was fetched.
    fn install(&self, folder: &Path, source: &dyn Source, delta: Option<&Delta>) -> Outcome<(f64, Progress)> {
        let (path, esp) = self.appliance(folder)?;
        let began = Instant::now();
        let mut disk = RealDisk::open(&path)?;
        let mut entries = EspFolder::new(&esp);
        let table = Table::read(&disk)?.table;
        let hash: RootHash = self.old.1.hash.parse()?;
        let found = Found {
            name: "base".into(),
            version: Some("1.0.0".into()),
            arch: "amd64".into(),
            slots: Slots::find(&table, hash)?,
            table,
            entries: entries.list()?,
            esp_free: entries.free()?,
            secure_boot: false,
            states: Default::default(),
        };
        let plan = plan(&found, &self.index)?;
        let mut last = None;
        Install {
            disk: &mut disk,
            entries: &mut entries,
            source,
            delta,
            tell: &mut |progress| last = Some(progress),
        }
        .run(&plan, &self.index)?;
        let took = began.elapsed().as_secs_f64();
        Ok((took, last.ok_or("an install that says nothing")?))
    }

    /// A plain copy of the same bytes to the same disk, flushed at the end.
    fn copy(&self, folder: &Path) -> Outcome<f64> {
        let (disk, esp) = self.appliance(folder)?;
        let table = Table::read(&FileDevice::new(File::open(&disk)?)?)?.table;
        let slots = Slots::find(&table, self.old.1.hash.parse()?)?;
        let (from, entry) = (folder.join("new.root"), folder.join("new.uki"));
        fs::write(&from, [&self.new.root[..], &self.new.tree].concat())?;
        fs::write(&entry, &self.new.entry.1)?;
        let began = Instant::now();
        for (from, to, seek) in [
            (&from, disk.clone(), slots.free.root.start),
            (&entry, esp.join("EFI/Linux/new.efi"), 0),
        ] {
            let status = Command::new("dd")
                .arg(format!("if={}", from.display()))
                .arg(format!("of={}", to.display()))
                .args([
                    &format!("seek={seek}"),
                    "oflag=seek_bytes",
                    "bs=1M",
                    "conv=notrunc,fsync",
                    "status=none",
                ])
                .status()?;
            if !status.success() {
                return Err("dd failed".into());
            }
        }
        Ok(began.elapsed().as_secs_f64())
    }
}

const ARCH: cairn_disk::gpt::Arch = cairn_disk::gpt::Arch::X86_64;

/// How many packages have another version in the second lock.
fn changed(one: &str, other: &str) -> usize {
    let versions = |lock: &str| -> std::collections::BTreeSet<String> {
        let packages = lock.split("[[package]]").skip(1);
        packages
            .map(|package| package.lines().take(3).collect::<Vec<_>>().join(" "))
            .collect()
    };
    versions(other).difference(&versions(one)).count()
}

/// What casync fetches for the same change: the chunks of root and UKI that are new in its store, and their index.
fn casync(change: &Change, folder: &Path) -> Outcome<(u64, u64)> {
    let discover = || Mirror::discover().map_err(|e| e.to_string());
    let (cache, fetch) = (Cache::from_env()?, FetchOptions::default());
    let helper = Some(images::imagegen()?);
    let tools = load_tools(ToolSet::Peers, &cache, &discover, &fetch, helper, &Silent)?;
    let work = folder.join("casync");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let mut sizes = Vec::new();
    for (name, version) in [("old", &change.old.1), ("new", &change.new)] {
        for (what, bytes) in [("root", &version.root), ("uki", &version.entry.1)] {
            fs::write(work.join(format!("{name}.{what}")), bytes)?;
            make(&tools, &work, &format!("{name}.{what}"))?;
        }
        sizes.push(stored(&work)?);
    }
    Ok((sizes[1] - sizes[0], sizes[1]))
}

fn make(tools: &ToolsTree, work: &Path, name: &str) -> Outcome<()> {
    let place = |file: String| work.join(file).into_os_string();
    let store: OsString = ["--store=", &work.join("store.castr").display().to_string()]
        .concat()
        .into();
    let index = place(format!("{name}.caibx"));
    let words = ["make".into(), CASYNC.into(), store, index, place(name.to_owned())];
    tools.run("casync", &words, None, &[Bind::write(work)])?;
    Ok(())
}

/// All bytes of casync's store and indexes.
fn stored(work: &Path) -> Outcome<u64> {
    let mut total = 0;
    let mut folders = vec![work.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|e| e == "caibx" || e == "cacnk") {
                total += entry.metadata()?.len();
            }
        }
    }
    Ok(total)
}

/// Delta, speed of an install, and what looking for news costs.
pub(crate) fn figures(folder: &Path) -> Outcome<Vec<Row>> {
    let folder = folder.join("upgrade");
    fs::create_dir_all(&folder)?;
    let change = Change::make(&folder)?;
    let served = Served::folder(&change.repository)?;
    let web = source::open(&format!("http://127.0.0.1:{}", served.port))?;
    let known = folder.join("known");
    let mut looks = Vec::new();
    for _ in 0..runs() {
        let sent = served.sent();
        let began = Instant::now();
        // With what an earlier look remembered, as every look but the first has it.
        Trusted::load(&web, &change.root, &known)?.latest("base", "amd64", "stable")?;
        looks.push((began.elapsed().as_secs_f64(), (served.sent() - sent) as f64));
    }
    let trusted = Trusted::load(&web, &change.root, &known)?;
    let sent = served.sent();
    trusted.index("base", "1.1.0", "amd64")?;
    let index = served.sent() - sent;
    let sent = served.sent();
    let delta = trusted.delta(&change.index, "1.0.0", change.old.1.root.len() as u64);
    // A medium has everything, and is read by chunks; a network goes by the delta.
    let (by_delta, _) = change.install(&folder, &*web, delta.as_ref())?;
    let fetched = served.sent() - sent + index;
    let (mut installs, mut copies) = (Vec::new(), Vec::new());
    let repository: Arc<dyn Source> = source::open(&change.repository.display().to_string())?;
    for _ in 0..runs() {
        installs.push(change.install(&folder, &*repository, None)?.0);
        copies.push(change.copy(&folder)?);
    }
    let mut full = index;
    let mut seen = std::collections::BTreeSet::new();
    for chunk in change.index.root().iter().chain(change.index.uki()) {
        full += if seen.insert(chunk.id) {
            u64::from(chunk.stored)
        } else {
            0
        };
    }
    let peer = casync(&change, &folder).map(|(delta, _)| ("casync 16K".to_owned(), Samples(vec![delta as f64])));
    let row = |what: String, unit, ours: Vec<f64>, peer, goal| Row {
        what,
        unit,
        ours: Samples(ours),
        peer,
        goal,
    };
    let none = || Err(String::new());
    let _ = std::io::stdout().flush();
    Ok(vec![
        row(
            format!("delta of {} updated packages of Debian, fetched", change.packages),
            Unit::Bytes,
            vec![fetched as f64],
            peer.map_err(|e| format!("casync: {e}")),
            Goal::Share(0.5),
        ),
        row(
            "the same beside the whole release".into(),
            Unit::Bytes,
            vec![fetched as f64],
            Ok(("whole".into(), Samples(vec![full as f64]))),
            Goal::Share(0.1),
        ),
        row(
            "install of it from a local repository, read back and proved".into(),
            Unit::Seconds,
            installs,
            Ok(("dd, synced".into(), Samples(copies))),
            Goal::Share(1.25),
        ),
        row(
            "the same from a web server by the delta, which is made and compressed anew".into(),
            Unit::Seconds,
            vec![by_delta],
            none(),
            Goal::None,
        ),
        row(
            "looking for news".into(),
            Unit::Millis,
            looks.iter().map(|look| look.0).collect(),
            none(),
            Goal::AtMost(0.05),
        ),
        row(
            "bytes of a look".into(),
            Unit::Bytes,
            looks.iter().map(|look| look.1).collect(),
            none(),
            Goal::AtMost(65536.0),
        ),
    ])
}
