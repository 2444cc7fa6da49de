//! What fetching promises against servers that break off, lie, or lack files, and when it may not fetch at all.

mod archive_mirror;

use std::collections::HashSet;
use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use archive_mirror::Server;
use imagegen::cache::{Cache, Digest, FetchError, FetchOptions, FetchReport, Transport, Want, fetch_all};
use imagegen::progress::Silent;

struct World {
    server: Server,
    cache: Cache,
    content: Vec<u8>,
    folder: tempfile::TempDir,
}

impl World {
    fn new(ranges: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..1_000_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        fs::create_dir(folder.path().join("www")).unwrap();
        fs::write(folder.path().join("www/a.deb"), &content).unwrap();
        let server = Server::new(&folder.path().join("www"), ranges);
        let cache = Cache::open(folder.path().join("cache")).unwrap();
        Self {
            server,
            cache,
            content,
            folder,
        }
    }

    fn want(&self, file: &str) -> Want {
        let sha256 = Digest::of(&self.content);
        Want {
            label: format!("{file} 1"),
            urls: vec![self.server.url(file)],
            sha256,
            size: self.content.len() as u64,
        }
    }

    fn fetch(&self, want: Want, offline: bool) -> Result<FetchReport, FetchError> {
        let options = FetchOptions {
            retries: 2,
            back_off: Duration::from_millis(5),
            offline,
            ..FetchOptions::default()
        };
        fetch_all(
            &self.cache,
            &Transport::new(Duration::from_secs(5)),
            &[want],
            &options,
            &Silent,
        )
    }

    fn leave_partial(&self, bytes: &[u8]) {
        let path = self
            .cache
            .root()
            .join("partial")
            .join(Digest::of(&self.content).to_string());
        fs::write(path, bytes).unwrap();
    }

    fn assert_stored(&self) {
        let path = self
            .cache
            .blob(&Digest::of(&self.content), self.content.len() as u64)
            .expect("stored");
        assert!(fs::read(path).unwrap() == self.content);
        assert_eq!(fs::read_dir(self.cache.root().join("partial")).unwrap().count(), 0);
    }
}

#[test]
fn interrupted_download_is_resumed_with_only_the_rest() {
    let world = World::new(true);
    world.server.breaks.store(2, Ordering::SeqCst);
    let report = world.fetch(world.want("a.deb"), false).unwrap();
    assert_eq!(report.received, 1_000_000);
    assert_eq!(world.server.requests.load(Ordering::SeqCst), 3);
    world.assert_stored();
}

#[test]
fn what_a_killed_run_left_is_resumed() {
    let world = World::new(true);
    world.leave_partial(&world.content[..700_000]);
    assert_eq!(world.fetch(world.want("a.deb"), false).unwrap().received, 300_000);
    world.assert_stored();
}

#[test]
fn server_without_ranges_is_read_from_the_start() {
    let world = World::new(false);
    world.leave_partial(&world.content[..700_000]);
    assert_eq!(world.fetch(world.want("a.deb"), false).unwrap().received, 1_000_000);
    world.assert_stored();
}

#[test]
fn damaged_partial_file_is_thrown_away() {
    for length in [500_000, 1_000_000, 2_000_000] {
        let world = World::new(true);
        world.leave_partial(&vec![7; length]);
        world.fetch(world.want("a.deb"), false).unwrap();
        world.assert_stored();
    }
}

#[test]
fn wrong_bytes_are_refused_and_not_kept() {
    let world = World::new(true);
    fs::write(world.folder.path().join("www/a.deb"), vec![1; 1_000_000]).unwrap();
    let error = world.fetch(world.want("a.deb"), false).unwrap_err();
    assert!(matches!(error, FetchError::Mismatch { .. }), "{error}");
    fs::write(world.folder.path().join("www/a.deb"), vec![1; 1_000_001]).unwrap();
    assert!(matches!(
        world.fetch(world.want("a.deb"), false),
        Err(FetchError::Mismatch { .. })
    ));
    assert!(!world.cache.blob_path(&Digest::of(&world.content)).exists());
    assert_eq!(fs::read_dir(world.cache.root().join("partial")).unwrap().count(), 0);
}

#[test]
fn offline_lists_what_is_missing_and_asks_nobody() {
    let world = World::new(true);
    let error = world.fetch(world.want("a.deb"), true).unwrap_err().to_string();
    assert!(error.contains("a.deb 1 (1000000 bytes)"), "{error}");
    assert_eq!(world.server.requests.load(Ordering::SeqCst), 0);
    world.fetch(world.want("a.deb"), false).unwrap();
    assert_eq!(world.fetch(world.want("a.deb"), true).unwrap().cached, 1);
}

#[test]
fn file_that_the_archive_dropped_is_named() {
    let world = World::new(true);
    match world.fetch(world.want("gone.deb"), false).unwrap_err() {
        FetchError::Gone { gone } => assert_eq!(gone[0].label, "gone.deb 1"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_mirror_that_cannot_be_reached_is_not_asked_for_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path().join("cache")).unwrap();
    // Takes every connection and hangs up: a mirror behind a broken network.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            drop(connection);
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let wants: Vec<Want> = (0..100u32)
        .map(|n| Want {
            label: format!("{n} 1"),
            urls: vec![format!("http://{address}/{n}.deb")],
            sha256: Digest::of(&n.to_le_bytes()),
            size: 4,
        })
        .collect();
    let options = FetchOptions {
        threads: 2,
        retries: 1,
        back_off: Duration::from_millis(5),
        offline: false,
    };
    let error = fetch_all(
        &cache,
        &Transport::new(Duration::from_secs(5)),
        &wants,
        &options,
        &Silent,
    )
    .unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    // Two threads with two attempts each, and what the second had begun when the first gave up.
    let asked = asked.load(Ordering::SeqCst);
    assert!((2..=10).contains(&asked), "{asked} connections");
}

#[test]
fn collection_keeps_what_is_named_and_waits_for_no_one() {
    let world = World::new(true);
    world.fetch(world.want("a.deb"), false).unwrap();
    let (keep, none) = ([Digest::of(&world.content)].into(), HashSet::new());
    assert_eq!(world.cache.gc(&keep, &none, Duration::ZERO).unwrap().removed, 0);
    let in_use = world.cache.in_use().unwrap();
    assert!(world.cache.gc(&keep, &none, Duration::ZERO).is_err());
    drop(in_use);
    let report = world.cache.gc(&HashSet::new(), &none, Duration::ZERO).unwrap();
    assert_eq!((report.removed, report.removed_bytes), (1, 1_000_000));
}

#[test]
fn collection_removes_tools_that_no_lock_names_and_what_was_never_finished() {
    let world = World::new(true);
    for name in ["named", "used-lately", ".tmp-half"] {
        let folder = world.cache.tools().join(name).join("usr/bin");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("tool"), "12345").unwrap();
    }
    let trees = || {
        let mut names: Vec<_> = fs::read_dir(world.cache.tools())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let named = ["named".to_owned()].into();
    let day = Duration::from_secs(86_400);
    let report = world.cache.gc(&HashSet::new(), &named, day).unwrap();
    assert_eq!((report.removed, report.removed_bytes), (1, 5));
    assert_eq!(trees(), ["named", "used-lately"]);
    world.cache.gc(&HashSet::new(), &named, Duration::ZERO).unwrap();
    assert_eq!(trees(), ["named"]);
}
