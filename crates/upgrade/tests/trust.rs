//! Repositories that lie: each attack is made from an honest repository, and refused in words that say what was found.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_upgrade::Error;
use cairn_upgrade::metadata::Trusted;
use cairn_upgrade::publish::{Expiry, Role, Threshold};
use cairn_upgrade::source::{self, Source};
use common::*;

fn load(from: &Path, root: &[u8], known: &Path) -> Result<Trusted, Error> {
    let source: Arc<dyn Source> = source::open(&from.display().to_string())?;
    Trusted::load(&source, root, known)
}

fn why(from: &Path, root: &[u8], known: &Path) -> String {
    load(from, root, known).unwrap_err().to_string()
}

fn replace(path: PathBuf, from: &str, to: &str) {
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{} has no {from}", path.display());
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn an_honest_repository_says_what_is_newest() {
    let repository = Repository::of(&["1.0.0", "2.0.0"]);
    let trusted = load(&repository.path(), &repository.first_root(), &repository.known()).unwrap();
    assert_eq!(trusted.latest(NAME, "amd64", "stable").unwrap().unwrap(), "2.0.0");
    assert_eq!(trusted.index(NAME, "2.0.0", "amd64").unwrap().release.version, "2.0.0");
    assert_eq!(trusted.about(NAME, "1.0.0", "amd64").unwrap().notes, "Notes of 1.0.0");
    let said = |result: Result<Option<String>, Error>| result.unwrap_err().to_string();
    assert!(said(trusted.latest("bag", "amd64", "stable")).contains("a repository of `box`"));
    assert!(said(trusted.latest(NAME, "arm64", "stable")).contains("no release for arm64"));
    assert!(said(trusted.latest(NAME, "amd64", "beta")).contains("(channels: stable)"));
    assert!(
        trusted
            .index(NAME, "3.0.0", "amd64")
            .unwrap_err()
            .to_string()
            .contains("offers no box-3.0.0")
    );
}

#[test]
fn metadata_that_was_changed_is_refused() {
    for role in ["1.targets", "1.snapshot", "timestamp"] {
        let repository = Repository::of(&["1.0.0"]);
        let file = repository.path().join(format!("metadata/{role}.json"));
        replace(file, "\"spec_version\": \"1.0.0\"", "\"spec_version\": \"1.0.1\"");
        let why = why(&repository.path(), &repository.first_root(), &repository.known());
        assert!(
            why.contains("not signed by the keys") || why.contains("cannot be believed"),
            "{role}: {why}"
        );
    }
}

#[test]
fn metadata_of_a_stranger_is_refused() {
    let (ours, theirs) = (Repository::of(&["1.0.0"]), Repository::of(&["9.0.0"]));
    let why = why(&theirs.path(), &ours.first_root(), &ours.known());
    assert!(
        why.contains("metadata is not signed by the keys that this appliance trusts"),
        "{why}"
    );
}

#[test]
fn an_older_state_than_was_seen_is_refused() {
    let repository = Repository::of(&["1.0.0"]);
    let before = repository.folder.path().join("before");
    copy_folder(&repository.path(), &before);
    repository.publish("2.0.0");
    let root = repository.first_root();
    load(&repository.path(), &root, &repository.known()).unwrap();
    let why = why(&before, &root, &repository.known());
    assert!(why.contains("older than what was seen before"), "{why}");
    // Who never saw the newer one cannot know.
    load(&before, &root, &repository.folder.path().join("another")).unwrap();
}

#[test]
fn a_frozen_repository_is_refused_when_its_time_is_over() {
    let repository = Repository::of(&["1.0.0"]);
    let expiry = Expiry {
        timestamp: -1,
        ..Expiry::default()
    };
    repository.publisher.publish(expiry).unwrap();
    let why = why(&repository.path(), &repository.first_root(), &repository.known());
    assert!(why.contains("timestamp metadata has expired"), "{why}");
}

#[test]
fn metadata_of_two_states_does_not_mix() {
    let repository = Repository::of(&["1.0.0"]);
    let other = repository.folder.path().join("other");
    copy_folder(&repository.path(), &other);
    repository.publish("2.0.0");
    // The new timestamp and snapshot over the old targets under the new name.
    std::fs::copy(
        other.join("metadata/1.targets.json"),
        repository.path().join("metadata/2.targets.json"),
    )
    .unwrap();
    assert!(load(&repository.path(), &repository.first_root(), &repository.known()).is_err());
}

#[test]
fn a_target_that_was_changed_or_swapped_is_refused() {
    let repository = Repository::of(&["1.0.0", "2.0.0"]);
    let targets = repository.path().join("targets");
    let file = |version: &str| {
        let mut all = std::fs::read_dir(&targets).unwrap().map(|e| e.unwrap().path());
        all.find(|p| p.to_string_lossy().ends_with(&format!("box-{version}-amd64.index")))
            .unwrap()
    };
    std::fs::copy(file("1.0.0"), file("2.0.0")).unwrap();
    let trusted = load(&repository.path(), &repository.first_root(), &repository.known()).unwrap();
    assert!(trusted.index(NAME, "2.0.0", "amd64").is_err());
    assert!(trusted.index(NAME, "1.0.0", "amd64").is_ok());
}

#[test]
fn endless_data_ends_at_its_limit() {
    struct Endless(Arc<dyn Source>, &'static str);
    impl Source for Endless {
        fn open(&self, name: &str, range: Option<(u64, u64)>) -> Result<source::Stream, Error> {
            match name.ends_with(self.1) {
                true => Ok(Box::new(std::io::repeat(b' '))),
                false => self.0.open(name, range),
            }
        }
    }
    let repository = Repository::of(&["1.0.0"]);
    for file in ["timestamp.json", "1.snapshot.json", "1.targets.json", "2.root.json"] {
        let honest = source::open(&repository.path().display().to_string()).unwrap();
        let source: Arc<dyn Source> = Arc::new(Endless(honest, file));
        assert!(
            Trusted::load(&source, &repository.first_root(), &repository.known()).is_err(),
            "{file}"
        );
    }
}

#[test]
fn new_keys_are_followed_and_the_old_ones_no_longer_believed() {
    for role in Role::ALL {
        let repository = Repository::new(Threshold { keys: 2, sign: 2 });
        repository.publish("1.0.0");
        let stolen = repository.folder.path().join("stolen");
        copy_folder(&repository.folder.path().join("keys"), &stolen);
        repository.publisher.rotate(role, Expiry::default()).unwrap();
        repository.publish("2.0.0");
        let trusted = load(&repository.path(), &repository.first_root(), &repository.known()).unwrap();
        assert_eq!(
            trusted.latest(NAME, "amd64", "stable").unwrap().unwrap(),
            "2.0.0",
            "{role:?}"
        );
        if role == Role::Root {
            continue;
        }
        // A thief of the old keys signs the next state.
        let thief = cairn_upgrade::publish::Publisher::open(&repository.path(), &stolen).unwrap();
        let signed = thief.publish(Expiry::default());
        let known = repository.known();
        assert!(
            signed.is_err() || load(&repository.path(), &repository.first_root(), &known).is_err(),
            "{role:?}"
        );
    }
}

#[test]
fn fewer_keys_than_the_threshold_sign_nothing() {
    let repository = Repository::new(Threshold { keys: 2, sign: 2 });
    repository.publish("1.0.0");
    let lone = repository.folder.path().join("lone");
    copy_folder(&repository.folder.path().join("keys"), &lone);
    std::fs::remove_file(lone.join("targets-2.pem")).unwrap();
    let publisher = cairn_upgrade::publish::Publisher::open(&repository.path(), &lone).unwrap();
    assert!(publisher.publish(Expiry::default()).is_err());
    // And signatures that are taken away are missed.
    let file = repository.path().join("metadata/1.targets.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["signatures"].as_array_mut().unwrap().pop();
    std::fs::write(&file, value.to_string()).unwrap();
    assert!(load(&repository.path(), &repository.first_root(), &repository.known()).is_err());
}

#[test]
fn a_bundle_is_checked_as_the_repository_is() {
    let repository = Repository::of(&["1.0.0", "2.0.0"]);
    let file = repository.folder.path().join("box.cairn");
    repository.publisher.bundle("2.0.0", "amd64", &file, None).unwrap();
    let (root, known) = (repository.first_root(), repository.known());
    let trusted = load(&file, &root, &known).unwrap();
    assert_eq!(trusted.latest(NAME, "amd64", "stable").unwrap().unwrap(), "2.0.0");
    let index = trusted.index(NAME, "2.0.0", "amd64").unwrap();
    // It holds every pack that its chunks lie in, the earlier release's too.
    let bundle = source::open(&file.display().to_string()).unwrap();
    for chunk in &index.chunks {
        let pack = format!("packs/{}", index.release.packs[usize::from(chunk.pack)]);
        let stored = source::read_range(&*bundle, &pack, chunk.at, chunk.stored.into()).unwrap();
        cairn_upgrade::index::unpack(chunk, &stored).unwrap();
    }
    // One for those who run the earlier release leaves out what they have.
    let thin = repository.folder.path().join("thin.cairn");
    repository
        .publisher
        .bundle("2.0.0", "amd64", &thin, Some("1.0.0"))
        .unwrap();
    let bundle = source::open(&thin.display().to_string()).unwrap();
    assert!(
        bundle.open("packs/box-2.0.0-amd64.pack", None).is_ok()
            && bundle.open("packs/box-1.0.0-amd64.pack", None).is_err()
    );
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let why = why(&file, &root, &known);
    assert!(why.contains("not a whole bundle"), "{why}");
}

#[test]
fn a_name_that_leads_out_of_the_repository_is_not_opened() {
    let repository = Repository::of(&["1.0.0"]);
    let source = source::open(&repository.path().display().to_string()).unwrap();
    for name in [
        "../keys/root-1.pem",
        "/etc/passwd",
        "metadata/../../keys/root-1.pem",
        "",
        "metadata//x",
        "a b",
    ] {
        let why = source.open(name, None).err().unwrap().to_string();
        assert!(why.contains("not one of a repository's files"), "{name}: {why}");
    }
}
