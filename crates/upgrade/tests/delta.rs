//! Differences between the files of two versions: they save what they can, and whatever is wrong with them the new version is whole.

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use cairn_upgrade::Error;
use cairn_upgrade::delta::Delta;
use cairn_upgrade::index::Index;
use cairn_upgrade::install::{Install, Progress};
use cairn_upgrade::metadata::Trusted;
use cairn_upgrade::plan::plan;
use cairn_upgrade::publish::{Expiry, Threshold};
use cairn_upgrade::source::{Folder, Source, Stream};
use cairn_upgrade::units::LEVEL;
use common::*;

/// What a compiler may have made: it compresses to about half.
fn program(seed: u64) -> Vec<u8> {
    noise(seed, 20).iter().map(|byte| byte & 15).collect()
}

/// The same compiled anew: all the way something is put in.
fn changed(program: &[u8]) -> Vec<u8> {
    program.chunks(700).flat_map(|piece| [piece, &[99]].concat()).collect()
}

/// As EROFS stores a file's pieces.
fn stored(program: &[u8]) -> Vec<u8> {
    let frame = zstd::bulk::compress(program, LEVEL).unwrap();
    [vec![0; frame.len().next_multiple_of(BLOCK) - frame.len()], frame].concat()
}

/// Two versions, of which the second has every program anew.
fn versions() -> (Version, Version) {
    let programs: Vec<Vec<u8>> = (0..7).map(|n| program(1000 + n)).collect();
    let root = |programs: Vec<Vec<u8>>| [noise(1, 3), programs.concat(), noise(2, 9)].concat();
    let old = root(programs.iter().map(|p| stored(p)).collect());
    let new = root(programs.iter().map(|p| stored(&changed(p))).collect());
    (Version::holding("1.0.0", old), Version::holding("2.0.0", new))
}

struct Scene {
    old: Version,
    new: Version,
    index: Index,
    delta: Delta,
    source: Folder,
    repository: Repository,
}

fn scene() -> Scene {
    let repository = Repository::new(Threshold { keys: 1, sign: 1 });
    let (old, new) = versions();
    old.add_to(&repository.publisher);
    new.add_to(&repository.publisher);
    let made = repository
        .publisher
        .difference("1.0.0", "2.0.0", "amd64")
        .unwrap()
        .unwrap();
    assert!(made.bytes * 5 < made.instead, "{made:?}");
    repository.publisher.promote("2.0.0", "stable", None).unwrap();
    repository.publisher.publish(Expiry::default()).unwrap();
    let index = repository.publisher.file(NAME, "2.0.0", "amd64", "index").unwrap();
    let index = Index::decode(&index).unwrap();
    let source: Arc<dyn Source> = Arc::new(Folder(repository.path()));
    let trusted = Trusted::load(&source, &repository.first_root(), &repository.known()).unwrap();
    let delta = trusted.delta(&index, "1.0.0", old.root.len() as u64).unwrap();
    assert_eq!(trusted.delta(&index, "1.1.0", old.root.len() as u64), None);
    Scene {
        source: Folder(repository.path()),
        old,
        new,
        index,
        delta,
        repository,
    }
}

fn install(
    scene: &Scene,
    disk: &mut MemoryDisk,
    esp: &mut MemoryEsp,
    source: &dyn Source,
    delta: Option<&Delta>,
) -> Result<Progress, Error> {
    let plan = plan(&found(disk, esp, &scene.old), &scene.index)?;
    let last = Mutex::new(None);
    Install {
        disk,
        entries: esp,
        source,
        delta,
        tell: &mut |progress| *last.lock().unwrap() = Some(progress),
    }
    .run(&plan, &scene.index)?;
    Ok(last.into_inner().unwrap().unwrap())
}

/// Notes which packs were asked for.
struct Noted<'a>(&'a Folder, Mutex<BTreeSet<String>>);

impl Source for Noted<'_> {
    fn open(&self, name: &str, range: Option<(u64, u64)>) -> Result<Stream, Error> {
        self.1.lock().unwrap().insert(name.to_owned());
        self.0.open(name, range)
    }
}

/// Installs into a fresh machine: what was fetched, and from where. The new version is whole, or this fails.
fn whole(scene: &Scene, delta: Option<&Delta>) -> (u64, BTreeSet<String>) {
    let (bytes, files) = machine(&scene.old, &Version::new("0.9.0"));
    let power = Power::lasting(u64::MAX);
    let (mut disk, mut esp) = (disk_of(bytes, power.clone()), esp_of(files, power));
    let source = Noted(&scene.source, Mutex::default());
    let done = install(scene, &mut disk, &mut esp, &source, delta).unwrap();
    assert!(verifies(&disk.durable, &scene.new.tree.root) && verifies(&disk.durable, &scene.old.tree.root));
    assert_eq!(esp.files["box_2.0.0+3.efi"], scene.new.uki);
    assert_eq!(done.done, done.total);
    (done.fetched, source.1.into_inner().unwrap())
}

#[test]
fn programs_that_were_compiled_anew_are_made_from_those_of_before() {
    let scene = scene();
    let (plain, packs) = whole(&scene, None);
    assert_eq!(packs.into_iter().collect::<Vec<_>>(), ["packs/box-2.0.0-amd64.pack"]);
    let (fetched, packs) = whole(&scene, Some(&scene.delta));
    assert!(fetched * 4 < plain, "{fetched} of {plain}");
    assert!(packs.contains("packs/box-2.0.0-amd64.from-1.0.0.pack"));
}

#[test]
fn whatever_is_wrong_with_a_delta_the_new_version_is_whole() {
    let scene = scene();
    let (plain, _) = whole(&scene, None);
    // Frames made of something else, in another order, to another place; frames that are not there, or not those; nothing at all.
    let cases: [&dyn Fn(&mut Delta); 6] = [
        &|d| d.groups.iter_mut().for_each(|g| g.base.reverse()),
        &|d| d.groups.iter_mut().for_each(|g| g.made.reverse()),
        &|d| {
            d.groups
                .iter_mut()
                .for_each(|g| g.made.iter_mut().for_each(|unit| unit.block += 1))
        },
        &|d| d.pack = "box-3.0.0-amd64.pack".into(),
        &|d| d.groups.iter_mut().for_each(|g| g.sha256 = "00".repeat(32)),
        &|d| d.groups.clear(),
    ];
    for (nth, change) in cases.into_iter().enumerate() {
        let mut delta = scene.delta.clone();
        change(&mut delta);
        let (fetched, _) = whole(&scene, Some(&delta));
        assert!(fetched >= plain, "case {nth}: {fetched}, without a delta {plain}");
    }
}

#[test]
fn a_delta_to_another_running_version_is_not_looked_at() {
    let scene = scene();
    let mut delta = scene.delta.clone();
    delta.from = "ab".repeat(32);
    let (plain, packs) = whole(&scene, None);
    assert_eq!(whole(&scene, Some(&delta)), (plain, packs));
}

#[test]
fn a_power_cut_while_a_delta_is_applied_costs_neither_version() {
    let scene = scene();
    let (bytes, files) = machine(&scene.old, &Version::new("0.9.0"));
    let fresh = |power: &Arc<Power>| {
        (
            disk_of(bytes.clone(), power.clone()),
            esp_of(files.clone(), power.clone()),
        )
    };
    let power = Power::lasting(u64::MAX);
    let (mut disk, mut esp) = fresh(&power);
    install(&scene, &mut disk, &mut esp, &scene.source, Some(&scene.delta)).unwrap();
    let mut random = Random(0xde17a);
    for point in 0..power.used(u64::MAX) {
        let power = Power::lasting(point);
        let (mut disk, mut esp) = fresh(&power);
        assert!(install(&scene, &mut disk, &mut esp, &scene.source, Some(&scene.delta)).is_err());
        let (now, there) = (disk.cut(&mut random), esp.cut(&mut random));
        assert!(
            verifies(&now, &scene.old.tree.root),
            "after a cut before change {point}"
        );
        let power = Power::lasting(u64::MAX);
        let (mut disk, mut esp) = (disk_of(now, power.clone()), esp_of(there, power));
        install(&scene, &mut disk, &mut esp, &scene.source, Some(&scene.delta)).unwrap();
        assert!(
            verifies(&disk.durable, &scene.new.tree.root),
            "after a cut before change {point}"
        );
    }
}

#[test]
fn a_delta_belongs_to_the_repository_and_not_to_a_bundle() {
    let scene = scene();
    assert_eq!(scene.repository.publisher.unused().unwrap(), []);
    let bundle = scene.repository.folder.path().join("box.cairn");
    scene
        .repository
        .publisher
        .bundle("2.0.0", "amd64", &bundle, None)
        .unwrap();
    let file = std::fs::File::open(&bundle).unwrap();
    let mut archive = tar::Archive::new(file);
    let names = archive
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().display().to_string());
    let with: Vec<String> = names.filter(|name| name.contains("from-1.0.0")).collect();
    assert_eq!(with, [""; 0]);
}

#[test]
fn versions_that_share_no_content_have_no_delta() {
    let repository = Repository::new(Threshold { keys: 1, sign: 1 });
    Version::holding("1.0.0", noise(1, 50)).add_to(&repository.publisher);
    Version::holding("2.0.0", noise(2, 50)).add_to(&repository.publisher);
    assert_eq!(
        repository.publisher.difference("1.0.0", "2.0.0", "amd64").unwrap(),
        None
    );
    assert_eq!(
        repository.publisher.unused().unwrap_err().to_string(),
        "nothing is published yet; nothing was changed"
    );
    let why = repository
        .publisher
        .difference("0.9.0", "2.0.0", "amd64")
        .unwrap_err()
        .to_string();
    assert!(
        why.starts_with("the repository has no version 0.9.0 for amd64"),
        "{why}"
    );
    let left: Vec<_> = std::fs::read_dir(repository.path().join("incoming"))
        .unwrap()
        .flatten()
        .collect();
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().ends_with(".new")),
        "{left:?}"
    );
}
