//! Installs into disks in memory: the new version is whole, the old one untouched, whatever fails and whenever the power goes.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cairn_upgrade::Error;
use cairn_upgrade::entries::EntryName;
use cairn_upgrade::esp::Entries as _;
use cairn_upgrade::index::Index;
use cairn_upgrade::install::{Install, Phase, Progress};
use cairn_upgrade::plan::plan;
use cairn_upgrade::slots::Slots;
use cairn_upgrade::source::{Folder, Source, Stream};
use common::*;

/// The running version, the new one, and where the new one comes from.
struct Scene {
    older: Version,
    old: Version,
    new: Version,
    index: Index,
    source: Folder,
    _repository: Repository,
}

fn scene() -> Scene {
    let repository = Repository::of(&["1.0.0", "2.0.0"]);
    let index = repository.publisher.file(NAME, "2.0.0", "amd64", "index").unwrap();
    Scene {
        older: Version::new("0.9.0"),
        old: Version::new("1.0.0"),
        new: Version::new("2.0.0"),
        index: Index::decode(&index).unwrap(),
        source: Folder(repository.path()),
        _repository: repository,
    }
}

fn install(scene: &Scene, disk: &mut MemoryDisk, esp: &mut MemoryEsp, source: &dyn Source) -> Result<Progress, Error> {
    let plan = plan(&found(disk, esp, &scene.old), &scene.index)?;
    let last = Mutex::new(None);
    Install {
        disk,
        entries: esp,
        source,
        delta: None,
        tell: &mut |progress| *last.lock().unwrap() = Some(progress),
    }
    .run(&plan, &scene.index)?;
    Ok(last.into_inner().unwrap().unwrap())
}

#[test]
fn the_new_version_is_whole_in_the_free_slot_and_the_old_one_is_as_it_was() {
    let scene = scene();
    let (bytes, files) = machine(&scene.old, &scene.older);
    let power = Power::lasting(u64::MAX);
    let (mut disk, mut esp) = (disk_of(bytes, power.clone()), esp_of(files.clone(), power));
    let last = install(&scene, &mut disk, &mut esp, &scene.source).unwrap();
    assert_eq!(last.phase, Phase::Done);
    assert!(verifies(&disk.durable, &scene.new.tree.root) && verifies(&disk.durable, &scene.old.tree.root));
    assert_eq!(
        esp.files.keys().collect::<Vec<_>>(),
        ["box_1.0.0.efi", "box_2.0.0+3.efi"]
    );
    assert_eq!(esp.files["box_2.0.0+3.efi"], scene.new.uki);
    assert_eq!(esp.files["box_1.0.0.efi"], files["box_1.0.0.efi"]);
    // Most of the root and of the UKI was there already.
    let all = (scene.new.root.len() + scene.new.uki.len()) as u64;
    assert!(last.reused * 2 > all && last.fetched * 2 < all, "{last:?} of {all}");
}

#[test]
fn where_firmware_starts_only_what_is_signed_no_other_version_is_installed() {
    let scene = scene();
    let (bytes, files) = machine(&scene.old, &scene.older);
    let power = Power::lasting(u64::MAX);
    let (mut disk, mut esp) = (disk_of(bytes, power.clone()), esp_of(files, power));
    let mut found = found(&disk, &esp, &scene.old);
    found.secure_boot = true;
    let plan = plan(&found, &scene.index).unwrap();
    let installed = Install {
        disk: &mut disk,
        entries: &mut esp,
        source: &scene.source,
        delta: None,
        tell: &mut |_| {},
    }
    .run(&plan, &scene.index);
    let why = installed.unwrap_err().to_string();
    assert!(why.contains("version 2.0.0 is not signed"), "{why}");
    // Nothing leads to it, and the old one is whole.
    let bootable: Vec<String> = esp
        .list()
        .unwrap()
        .into_iter()
        .filter(|e| e.root.is_some())
        .map(|e| e.file)
        .collect();
    assert_eq!(bootable, ["box_1.0.0.efi"]);
    assert!(verifies(&disk.durable, &scene.old.tree.root));
}

#[test]
fn where_nothing_runs_a_chosen_slot_is_written_and_the_other_is_not_touched() {
    let scene = scene();
    for free in [0, 1] {
        let (bytes, mut files) = machine(&scene.old, &scene.older);
        let entry = files.remove("box_1.0.0.efi").unwrap();
        files.insert("box_1.0.0+0-3.efi".into(), entry);
        let power = Power::lasting(u64::MAX);
        let (mut disk, mut esp) = (disk_of(bytes, power.clone()), esp_of(files, power));
        let mut found = found(&disk, &esp, &scene.old);
        found.version = None;
        found.slots = Slots::at_rest(&found.table, free).unwrap();
        let plan = plan(&found, &scene.index).unwrap();
        let mut last = None;
        Install {
            disk: &mut disk,
            entries: &mut esp,
            source: &scene.source,
            delta: None,
            tell: &mut |progress| last = Some(progress),
        }
        .run(&plan, &scene.index)
        .unwrap();
        let held = |id| found.table.partitions[&found.slots.kept.root.number].id == id;
        let kept = [(&scene.old, "box_1.0.0+0-3.efi"), (&scene.older, "box_0.9.0.efi")];
        let (version, entry) = kept
            .into_iter()
            .find(|(v, _)| held(v.tree.root.partuuid_root()))
            .unwrap();
        assert!(verifies(&disk.durable, &scene.new.tree.root) && verifies(&disk.durable, &version.tree.root));
        assert_eq!(esp.files.keys().collect::<Vec<_>>(), [entry, "box_2.0.0+3.efi"]);
        // The same version is not put beside itself: the table would name two roots by one id.
        let mut again = found.clone();
        (again.table, again.entries) = (plan.table.clone(), esp.list().unwrap());
        again.slots = Slots::at_rest(&again.table, 1 - free).unwrap();
        let why = cairn_upgrade::plan::plan(&again, &scene.index).unwrap_err().to_string();
        assert!(why.contains("lies in the other slot"), "{why}");
        // Over itself it may be written: that mends it.
        again.slots = found.slots.clone();
        assert_eq!(
            cairn_upgrade::plan::plan(&again, &scene.index).unwrap().remove,
            ["box_2.0.0+3.efi"]
        );
    }
}

/// Whatever is on disk and ESP, the machine starts: the old version is whole with its entry, and every other entry leads to a whole root.
fn starts(scene: &Scene, bytes: &[u8], esp: &MemoryEsp, old_files: &[u8], old_bytes: &[u8]) {
    let disk = disk_of(bytes.to_vec(), Power::lasting(0));
    let slots = found(&disk, esp, &scene.old).slots;
    for stretch in [slots.kept.root, slots.kept.verity, slots.esp] {
        let range = stretch.start as usize..(stretch.start + stretch.length) as usize;
        assert!(
            bytes[range.clone()] == old_bytes[range],
            "partition {} was touched",
            stretch.number
        );
    }
    assert_eq!(esp.files.get("box_1.0.0.efi").map(Vec::as_slice), Some(old_files));
    for (file, content) in &esp.files {
        let Some(entry) = EntryName::parse(file) else { continue };
        if !content.starts_with(b"MZ") {
            // The boot loader passes over what is no program.
            continue;
        }
        let versions = [&scene.older, &scene.old, &scene.new];
        let version = versions
            .into_iter()
            .find(|version| version.version == entry.version)
            .unwrap();
        assert!(*content == version.uki, "{file} is not whole");
        assert!(
            verifies(bytes, &version.tree.root),
            "{file} leads to a root that is not whole"
        );
    }
}

/// How many changes to disk and ESP a whole install makes.
fn changes(scene: &Scene, bytes: &[u8], files: &BTreeMap<String, Vec<u8>>) -> u64 {
    let power = Power::lasting(u64::MAX);
    let (mut disk, mut esp) = (
        disk_of(bytes.to_vec(), power.clone()),
        esp_of(files.clone(), power.clone()),
    );
    install(scene, &mut disk, &mut esp, &scene.source).unwrap();
    power.used(u64::MAX)
}

#[test]
fn a_power_cut_before_any_change_leaves_a_machine_that_starts_and_the_next_install_completes() {
    let scene = scene();
    let (bytes, files) = machine(&scene.old, &scene.older);
    let changes = changes(&scene, &bytes, &files);
    assert!(changes >= 20, "{changes}");
    let mut random = Random(0x0005_eed1);
    for point in 0..changes {
        let (mut now, mut there) = (bytes.clone(), files.clone());
        // Twice at the same place: what the first try left is the second's start.
        for _ in 0..2 {
            let power = Power::lasting(point);
            let (mut disk, mut esp) = (disk_of(now, power.clone()), esp_of(there, power));
            // The second goes on where the first was, so it may have less to do and end well.
            let _ = install(&scene, &mut disk, &mut esp, &scene.source);
            (now, there) = (disk.cut(&mut random), esp.cut(&mut random));
            let esp = esp_of(there.clone(), Power::lasting(0));
            starts(&scene, &now, &esp, &files["box_1.0.0.efi"], &bytes);
        }
        let power = Power::lasting(u64::MAX);
        let (mut disk, mut esp) = (disk_of(now, power.clone()), esp_of(there, power));
        install(&scene, &mut disk, &mut esp, &scene.source).unwrap();
        assert!(
            verifies(&disk.durable, &scene.new.tree.root),
            "after a cut before change {point}"
        );
        assert_eq!(esp.files["box_2.0.0+3.efi"], scene.new.uki);
    }
}

#[test]
fn what_an_interrupted_install_wrote_is_not_fetched_again() {
    let scene = scene();
    let (bytes, files) = machine(&scene.old, &scene.older);
    let power = Power::lasting(u64::MAX);
    let (mut disk, mut esp) = (disk_of(bytes, power.clone()), esp_of(files, power));
    let first = install(&scene, &mut disk, &mut esp, &scene.source).unwrap();
    let again = install(&scene, &mut disk, &mut esp, &scene.source).unwrap();
    let uki: u64 = scene.index.uki().iter().map(|c| u64::from(c.stored)).sum();
    assert!(
        again.fetched <= uki && again.fetched < first.fetched,
        "{again:?} after {first:?}"
    );
}

#[test]
fn a_disk_that_reads_back_wrongly_is_noticed_before_anything_leads_to_it() {
    let scene = scene();
    let (bytes, files) = machine(&scene.old, &scene.older);
    for (what, said) in [
        ("root", "what was written does not read back"),
        ("verity", "the hash tree does not read back"),
    ] {
        let power = Power::lasting(u64::MAX);
        let (mut disk, mut esp) = (disk_of(bytes.clone(), power.clone()), esp_of(files.clone(), power));
        let free = found(&disk, &esp, &scene.old).slots.free;
        disk.bad = Some(
            if what == "root" {
                free.root.start
            } else {
                free.verity.start
            } + 4097,
        );
        let why = install(&scene, &mut disk, &mut esp, &scene.source)
            .unwrap_err()
            .to_string();
        assert!(why.contains(said), "{why}");
        assert_eq!(esp.files.keys().collect::<Vec<_>>(), ["box_1.0.0.efi"]);
        assert!(!verifies(&disk.durable, &scene.new.tree.root));
    }
}

#[test]
fn a_disk_error_at_any_change_is_told_and_the_next_install_completes() {
    let scene = scene();
    let (bytes, files) = machine(&scene.old, &scene.older);
    for change in 0..changes(&scene, &bytes, &files) {
        let power = Power::failing_at(change);
        let (mut disk, mut esp) = (disk_of(bytes.clone(), power.clone()), esp_of(files.clone(), power));
        let why = install(&scene, &mut disk, &mut esp, &scene.source)
            .unwrap_err()
            .to_string();
        assert!(why.contains("Input/output error"), "change {change}: {why}");
        starts(&scene, &disk.bytes, &esp, &files["box_1.0.0.efi"], &bytes);
        install(&scene, &mut disk, &mut esp, &scene.source).unwrap();
        assert!(
            verifies(&disk.durable, &scene.new.tree.root),
            "after an error at change {change}"
        );
        assert_eq!(esp.files["box_2.0.0+3.efi"], scene.new.uki);
    }
}

/// A source that ends in the middle of a read when it has given this much.
struct Dying<'a> {
    inner: &'a Folder,
    left: Arc<Mutex<u64>>,
}

struct Counted {
    inner: Stream,
    left: Arc<Mutex<u64>>,
}

impl std::io::Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let mut left = self.left.lock().unwrap();
        if *left == 0 && !into.is_empty() {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(into.len()).min(1024);
        let got = self.inner.read(&mut into[..most])?;
        *left -= got as u64;
        Ok(got)
    }
}

impl Source for Dying<'_> {
    fn open(&self, name: &str, range: Option<(u64, u64)>) -> Result<Stream, Error> {
        Ok(Box::new(Counted {
            inner: self.inner.open(name, range)?,
            left: self.left.clone(),
        }))
    }
}

#[test]
fn a_network_that_dies_at_any_tenth_of_the_download_leaves_what_it_brought() {
    const ENOUGH: u64 = 1 << 40;
    let scene = scene();
    let (bytes, files) = machine(&scene.old, &scene.older);
    let source = |left: u64| Dying {
        inner: &scene.source,
        left: Arc::new(Mutex::new(left)),
    };
    let run = |disk: &mut MemoryDisk, esp: &mut MemoryEsp, left: u64| {
        let source = source(left);
        let result = install(&scene, disk, esp, &source);
        let given = left - *source.left.lock().unwrap();
        (result, given)
    };
    let fresh = || {
        let power = Power::lasting(u64::MAX);
        (disk_of(bytes.clone(), power.clone()), esp_of(files.clone(), power))
    };
    let (mut disk, mut esp) = fresh();
    let (whole, all) = run(&mut disk, &mut esp, ENOUGH);
    whole.unwrap();
    let one = &|tenth: u64| {
        let (mut disk, mut esp) = fresh();
        let (died, given) = run(&mut disk, &mut esp, all * tenth / 10);
        let why = died.unwrap_err().to_string();
        assert!(why.contains("cannot get packs/"), "{tenth}: {why}");
        assert_eq!(given, all * tenth / 10);
        starts(&scene, &disk.bytes, &esp, &files["box_1.0.0.efi"], &bytes);
        let (again, more) = run(&mut disk, &mut esp, ENOUGH);
        again.unwrap();
        assert!(verifies(&disk.durable, &scene.new.tree.root));
        assert_eq!(esp.files["box_2.0.0+3.efi"], scene.new.uki);
        // What is fetched twice is what was on its way, and the boot entry, which is written last and as a whole.
        let uki: u64 = scene.index.uki().iter().map(|c| u64::from(c.stored)).sum();
        let largest = scene.index.root().iter().map(|c| u64::from(c.stored)).max().unwrap();
        assert!(
            given + more <= all + uki + 4 * largest,
            "{tenth}: {given} and {more} of {all}"
        );
    };
    // Side by side: each waits between its tries.
    std::thread::scope(|scope| {
        for tenth in 0..10 {
            scope.spawn(move || one(tenth));
        }
    });
}

/// A source whose packs are not what they should be.
struct Broken<'a> {
    inner: &'a Folder,
    how: fn(Vec<u8>) -> Vec<u8>,
    opened: Mutex<u32>,
}

impl Source for Broken<'_> {
    fn open(&self, name: &str, range: Option<(u64, u64)>) -> Result<Stream, Error> {
        *self.opened.lock().unwrap() += 1;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut self.inner.open(name, range)?, &mut bytes).unwrap();
        Ok(Box::new(std::io::Cursor::new((self.how)(bytes))))
    }
}

#[test]
fn a_chunk_that_was_swapped_or_cut_off_is_refused() {
    let scene = scene();
    let (bytes, files) = machine(&scene.old, &scene.older);
    type Case = (fn(Vec<u8>) -> Vec<u8>, &'static str);
    let cases: [Case; 2] = [
        (|b| b.iter().map(|byte| byte ^ 1).collect(), "a chunk is damaged"),
        (|b| b[..b.len() / 2].to_vec(), "cannot get packs/"),
    ];
    for (how, said) in cases {
        let power = Power::lasting(u64::MAX);
        let (mut disk, mut esp) = (disk_of(bytes.clone(), power.clone()), esp_of(files.clone(), power));
        let source = Broken {
            inner: &scene.source,
            how,
            opened: Mutex::new(0),
        };
        let why = install(&scene, &mut disk, &mut esp, &source).unwrap_err().to_string();
        assert!(why.contains(said) && *source.opened.lock().unwrap() > 0, "{why}");
        assert_eq!(esp.files.keys().collect::<Vec<_>>(), ["box_1.0.0.efi"]);
    }
}

#[test]
fn everything_that_does_not_fit_is_told_before_anything_is_touched() {
    let scene = scene();
    let (bytes, files) = machine(&scene.old, &scene.older);
    let power: Arc<Power> = Power::lasting(u64::MAX);
    let disk = disk_of(bytes, power.clone());
    let mut esp = esp_of(files, power);
    let good = found(&disk, &esp, &scene.old);
    assert_eq!(
        plan(&good, &scene.index).unwrap().to_string(),
        format!(
            "remove the boot entry box_0.9.0.efi\nwrite version 2.0.0 to partitions 5 (root) and 4 (verity)\nread them back and compare with root hash {}\nadd the boot entry \
             box_2.0.0+3.efi\n",
            scene.new.tree.root
        )
    );
    let refused = |change: &dyn Fn(&mut Index), said: &str| {
        let mut index = scene.index.clone();
        change(&mut index);
        let why = plan(&good, &index).unwrap_err().to_string();
        assert!(
            why.contains(said) && why.ends_with("nothing was changed"),
            "{said}: {why}"
        );
    };
    refused(&|i| i.release.name = "bag".into(), "a release of `bag`");
    refused(&|i| i.release.arch = "arm64".into(), "is for arm64");
    refused(&|i| i.release.version = "1.0.0".into(), "runs already");
    refused(&|i| i.release.version = "0.9.9".into(), "older than 1.0.0");
    refused(&|i| i.release.version = "2.x".into(), "not a version");
    refused(
        &|i| i.release.version = "2.0.0.111111111111.111111111111".into(),
        "too long for a partition's label",
    );
    refused(&|i| i.release.minimum = Some("1.5".into()), "install 1.5 first");
    refused(
        &|i| i.release.root_hash = scene.old.tree.root.to_string(),
        "the root that runs already",
    );
    refused(
        &|i| i.release.root_size = 2 << 20,
        "the root of version 2.0.0 has 2 MiB, and the slot 1",
    );
    refused(
        &|i| i.release.uki_size = 1 << 20,
        "needs 2 MiB on the ESP, and there are 1",
    );
    // Data of a later version than the release reads; a unit that it does not have is no trouble.
    let mut wrote = good.clone();
    let version = |text: &str| text.parse::<cairn_unit::StateVersion>().unwrap();
    wrote.states = [("db", "11.8"), ("gone", "9")]
        .map(|(unit, v)| (unit.to_owned(), version(v)))
        .into();
    let mut index = scene.index.clone();
    for (reads, said) in [
        (
            "10.11",
            "version 2.0.0 cannot read the data of unit db: that has version 11.8, and it reads 10.11",
        ),
        ("11.8", ""),
        ("12.3", ""),
    ] {
        index.release.states = [("db".to_owned(), version(reads))].into();
        let why = plan(&wrote, &index).map_or_else(|e| e.to_string(), |_| String::new());
        assert!(
            why.starts_with(said) && why.is_empty() == said.is_empty(),
            "{reads}: {why}"
        );
    }
    index.release.states.clear();
    assert!(
        plan(&wrote, &index).is_err(),
        "a release that says nothing reads version 1"
    );
    // The entry of a version that is to be overwritten makes room, and goes first.
    esp.files.insert("box_1.5.0+0-3.efi".into(), vec![1; 1 << 20]);
    let with_stale = found(&disk, &esp, &scene.old);
    let mut index = scene.index.clone();
    index.release.uki_size = 1 << 20;
    assert_eq!(
        plan(&with_stale, &index).unwrap().remove,
        ["box_0.9.0.efi", "box_1.5.0+0-3.efi"]
    );
    let mut unproved = good.clone();
    unproved.entries[1].name.tries = Some((2, 1));
    let why = plan(&unproved, &scene.index).unwrap_err().to_string();
    assert!(why.contains("has not proved itself yet"), "{why}");
    let mut lost = good.clone();
    lost.entries.clear();
    assert!(
        plan(&lost, &scene.index)
            .unwrap_err()
            .to_string()
            .contains("no boot entry of the running version")
    );
}
