//! What the archive module promises against a mirror that errs or lies. Mirrors are made here, signed by a key made here.

mod archive_mirror;

use std::time::{Duration, SystemTime};

use archive_mirror::{Server, TestMirror};
use imagegen::archive::{
    Archive, ArchiveError, Expiry, Keyring, Mirror, ReleaseError, SignatureError, Suite, SuiteIndex,
};
use imagegen::cache::{Cache, FetchError, FetchOptions, Transport};
use imagegen::progress::Silent;

const LIST: &str = "Package: a\nVersion: 1\nArchitecture: amd64\n\n";

struct World {
    mirror: TestMirror,
    cache: Cache,
    /// How many of the three suites are asked for.
    suites: usize,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mirror = TestMirror::new(folder.path());
        mirror.publish("trixie", LIST, "");
        let cache = Cache::open(folder.path().join("cache")).unwrap();
        Self {
            mirror,
            cache,
            suites: 1,
            _folder: folder,
        }
    }

    fn load_from(&self, address: &str, offline: bool) -> Result<Vec<SuiteIndex>, ArchiveError> {
        let mut keyring = Keyring::empty();
        keyring.add_folder(&self.mirror.keys()).unwrap();
        self.load_with(&keyring, address, offline)
    }

    fn load_with(&self, keyring: &Keyring, address: &str, offline: bool) -> Result<Vec<SuiteIndex>, ArchiveError> {
        let archive = Archive {
            mirror: &Mirror::new(address, None),
            keyring,
            cache: &self.cache,
            transport: &Transport::new(Duration::from_secs(5)),
            options: &FetchOptions {
                retries: 1,
                back_off: Duration::from_millis(5),
                offline,
                ..FetchOptions::default()
            },
            now: SystemTime::now(),
            expiry: Expiry::Enforce,
        };
        archive.indexes(&Suite::trixie()[..self.suites], "amd64", &Silent)
    }

    fn load(&self) -> Result<Vec<SuiteIndex>, ArchiveError> {
        self.load_from(&self.mirror.url(), false)
    }
}

#[test]
fn signed_index_is_taken_over_file_and_http_and_offline_afterwards() {
    let world = World::new();
    assert!(matches!(
        world.load_from(&world.mirror.url(), true),
        Err(ArchiveError::Offline { .. })
    ));
    assert_eq!(world.load().unwrap()[0].packages, LIST);
    assert_eq!(
        world.load_from("file:///nowhere/debian", true).unwrap()[0].packages,
        LIST
    );
    let other = World::new();
    let server = Server::new(&other.mirror.root(), true);
    assert_eq!(other.load_from(&server.url("debian"), false).unwrap()[0].packages, LIST);
}

#[test]
fn tampered_index_is_refused() {
    let world = World::new();
    let path = world.mirror.path("dists/trixie/InRelease");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("Origin: Test", "Origin: Tesu");
    std::fs::write(&path, text).unwrap();
    let error = world.load().unwrap_err();
    assert!(
        matches!(
            error,
            ArchiveError::Signature {
                source: SignatureError::Bad { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn index_signed_by_a_stranger_is_refused_and_both_keys_are_named() {
    let world = World::new();
    let pinned = Keyring::pinned().unwrap();
    let error = world
        .load_with(&pinned, &world.mirror.url(), false)
        .unwrap_err()
        .to_string();
    assert!(error.contains(&world.mirror.fingerprint()), "{error}");
    assert!(error.contains("B8E5F13176D2A7A75220028078DBA3BC47EF2265"), "{error}");
    assert!(error.contains("41587F7DB8C774BCCF131416762F67A0B2C39DE4"), "{error}");
}

#[test]
fn text_outside_the_signature_is_not_read() {
    let world = World::new();
    let path = world.mirror.path("dists/trixie/InRelease");
    let text = format!("{}\nCodename: evil\n", std::fs::read_to_string(&path).unwrap());
    std::fs::write(&path, text).unwrap();
    // Refused or ignored are both right; believed is not.
    if let Ok(indexes) = world.load() {
        assert_eq!(indexes[0].packages, LIST);
    }
}

#[test]
fn expired_future_and_misplaced_indexes_are_refused() {
    let world = World::new();
    let reason = |world: &World| match world.load().unwrap_err() {
        ArchiveError::Release { source, .. } => source,
        other => panic!("{other}"),
    };
    world
        .mirror
        .publish("trixie", LIST, "Valid-Until: Thu, 01 Jan 2026 00:00:00 UTC\n");
    assert!(matches!(reason(&world), ReleaseError::Expired { .. }));
    world
        .mirror
        .publish_dated("trixie", "Thu, 01 Jan 2099 00:00:00 UTC", LIST, "");
    assert!(matches!(reason(&world), ReleaseError::Future { .. }));
    world.mirror.publish("forky", LIST, "");
    std::fs::rename(
        world.mirror.path("dists/forky/InRelease"),
        world.mirror.path("dists/trixie/InRelease"),
    )
    .unwrap();
    assert!(matches!(reason(&world), ReleaseError::OtherSuite { .. }));
}

#[test]
fn package_list_with_other_bytes_than_signed_is_refused_and_nothing_is_kept() {
    let world = World::new();
    std::fs::write(
        world.mirror.path("dists/trixie/main/binary-amd64/Packages"),
        LIST.replace('a', "b"),
    )
    .unwrap();
    let error = world.load().unwrap_err();
    assert!(
        matches!(
            error,
            ArchiveError::Fetch {
                source: FetchError::Mismatch { .. },
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(
        world.load_from(&world.mirror.url(), true),
        Err(ArchiveError::Offline { .. })
    ));
}

#[test]
fn lagging_mirror_does_not_take_us_back() {
    let world = World::new();
    world.load().unwrap();
    world.mirror.publish_dated(
        "trixie",
        "Thu, 01 Jan 2026 00:00:00 UTC",
        "Package: old\nVersion: 0\nArchitecture: all\n\n",
        "",
    );
    assert_eq!(world.load().unwrap()[0].packages, LIST);
}

#[test]
fn unreachable_mirror_says_what_to_do() {
    let world = World::new();
    let error = world.load_from("http://127.0.0.1:9/debian", false).unwrap_err();
    assert!(matches!(error, ArchiveError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("IMAGEGEN_MIRROR"));
}

#[test]
fn suites_with_the_same_list_do_not_take_it_from_each_other() {
    let mut world = World::new();
    world.suites = 3;
    // Long enough that one thread is at it while the others come.
    let list: String = (0..20_000).map(|n| LIST.replace(": a", &format!(": a{n}"))).collect();
    for suite in ["trixie", "trixie-updates", "trixie-security"] {
        world.mirror.publish(suite, &list, "");
    }
    // The security suite lies at the sibling address.
    std::fs::rename(world.mirror.path("dists"), world.mirror.root().join("dists")).unwrap();
    for archive in ["debian", "debian-security"] {
        let dists = world.mirror.root().join(archive).join("dists");
        std::fs::create_dir_all(dists.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("../dists", dists).unwrap();
    }
    for _ in 0..10 {
        let found = world.load().unwrap();
        assert!(found.iter().all(|suite| suite.packages == list));
        for entry in std::fs::read_dir(world.cache.indexes().join("sha256")).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}
