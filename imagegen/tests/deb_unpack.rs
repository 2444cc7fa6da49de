//! What unpacking promises, on packages made here: sound ones and ones that lie.

#[path = "common/deb.rs"]
mod deb;

use std::fs;

use deb::{deb_of, tar_of};
use imagegen::cache::{Cache, Digest};
use imagegen::deb::{DebError, Job, Kind, Unpacked, unpack_all};
use imagegen::progress::Silent;

fn unpack(deb: &[u8]) -> Result<Unpacked, DebError> {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let sha256 = Digest::of(deb);
    cache.write(&cache.blob_path(&sha256), deb).unwrap();
    let job = Job {
        label: "p 1".into(),
        sha256,
        size: deb.len() as u64,
    };
    let first = unpack_all(&cache, std::slice::from_ref(&job), 2, &Silent)?.remove(0);
    let again = unpack_all(&cache, &[job], 2, &Silent)?.remove(0);
    assert_eq!(first, again, "what the index gives back is what was unpacked");
    let tar = fs::read(&first.tar).unwrap();
    for entry in &first.index.entries {
        if let Kind::File { offset, size, sha256 } = entry.kind {
            assert_eq!(Digest::of(&tar[offset as usize..(offset + size) as usize]), sha256);
        }
    }
    Ok(first)
}

fn reason(entries: &[(&str, tar::EntryType, &str)]) -> String {
    unpack(&deb_of(&tar_of(entries), "data.tar")).unwrap_err().to_string()
}

use tar::EntryType::{Directory, Link, Regular, Symlink};

const SOUND: &[(&str, tar::EntryType, &str)] = &[
    ("./", Directory, ""),
    ("./etc/", Directory, ""),
    ("./etc/p.conf", Regular, "one"),
    ("./etc/abs", Symlink, "/../etc/shadow"),
    ("./etc/hard", Link, "./etc/p.conf"),
];

#[test]
fn every_compression_gives_the_same_index() {
    let data = tar_of(SOUND);
    let xz = liblzma::encode_all(data.as_slice(), 1).unwrap();
    let zst = zstd::encode_all(data.as_slice(), 1).unwrap();
    let plain = unpack(&deb_of(&data, "data.tar")).unwrap();
    let paths: Vec<&str> = plain.index.entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["", "etc", "etc/p.conf", "etc/abs", "etc/hard"]);
    let file = &plain.index.entries[2];
    assert_eq!((file.mode, file.uid, file.gid, file.mtime), (0o4755, 7, 8, 9));
    assert_eq!(plain.index.entries[3].kind, Kind::Symlink("/../etc/shadow".into()));
    assert_eq!(plain.index.entries[4].kind, Kind::Hardlink("etc/p.conf".into()));
    assert_eq!(plain.index.control.field("Description"), Some("x\n more"));
    assert_eq!(plain.index.control.conffiles, ["etc/p.conf"]);
    for (packed, ending) in [(xz, "data.tar.xz"), (zst, "data.tar.zst")] {
        assert_eq!(unpack(&deb_of(&packed, ending)).unwrap().index, plain.index, "{ending}");
    }
}

#[test]
fn paths_out_of_the_root_are_refused() {
    assert!(reason(&[("./../x", Regular, "")]).contains("leaves"));
    assert!(reason(&[("a/../../x", Regular, "")]).contains("leaves"));
    assert!(reason(&[("./a", Regular, ""), ("./b", Link, "../../etc/passwd")]).contains("leaves"));
    assert!(reason(&[("./b", Link, "./absent")]).contains("no earlier file"));
}

#[test]
fn the_last_of_two_entries_holds_and_impossible_pairs_are_refused() {
    let twice = [
        ("./a", Regular, "old"),
        ("./b", Regular, "b"),
        ("./a", Regular, "newer"),
    ];
    let index = unpack(&deb_of(&tar_of(&twice), "data.tar")).unwrap().index;
    assert_eq!(index.entries.len(), 2);
    assert!(matches!(index.entries[1].kind, Kind::File { size: 5, .. }));
    assert!(reason(&[("./a", Directory, ""), ("./a", Regular, "")]).contains("both"));
    assert!(reason(&[("./a", Regular, ""), ("./l", Link, "./a"), ("./a", Regular, "")]).contains("hard link"));
}

#[test]
fn package_cut_off_anywhere_is_refused() {
    let data = tar_of(SOUND);
    let xz = liblzma::encode_all(data.as_slice(), 1).unwrap();
    for end in [0, 512, 1024, data.len() - 1024, data.len() - 600] {
        assert!(
            unpack(&deb_of(&data[..end], "data.tar")).is_err(),
            "tar cut off at {end}"
        );
    }
    for end in [0, 20, xz.len() / 2, xz.len() - 1] {
        assert!(
            unpack(&deb_of(&xz[..end], "data.tar.xz")).is_err(),
            "xz cut off at {end}"
        );
    }
    let deb = deb_of(&xz, "data.tar.xz");
    for end in [0, 7, 8, 50, 100, deb.len() - 10] {
        assert!(unpack(&deb[..end]).is_err(), "package cut off at {end}");
    }
}

#[test]
fn damaged_blob_is_found_before_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let mut deb = deb_of(&tar_of(SOUND), "data.tar");
    let (sha256, size) = (Digest::of(&deb), deb.len() as u64);
    deb[2000] ^= 1;
    cache.write(&cache.blob_path(&sha256), &deb).unwrap();
    let error = unpack_all(
        &cache,
        &[Job {
            label: "p".into(),
            sha256,
            size,
        }],
        2,
        &Silent,
    )
    .unwrap_err();
    assert!(matches!(error, DebError::Damaged { .. }), "{error}");
    assert_eq!(fs::read_dir(cache.unpacked()).unwrap().count(), 0);
}

/// A cache with the sound package in it, and the job to unpack that.
fn stored() -> (tempfile::TempDir, Cache, Job) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let deb = deb_of(&tar_of(SOUND), "data.tar");
    let job = Job {
        label: "p 1".into(),
        sha256: Digest::of(&deb),
        size: deb.len() as u64,
    };
    cache.write(&cache.blob_path(&job.sha256), &deb).unwrap();
    (folder, cache, job)
}

/// As if the machine had been started anew since the index was written.
fn start_anew(cache: &Cache, job: &Job) {
    let idx = cache.unpacked().join(format!("{}.idx", job.sha256));
    let text = fs::read_to_string(&idx).unwrap();
    let (head, body) = text.split_once('\n').unwrap();
    let digest = head.split(' ').next().unwrap();
    fs::write(&idx, format!("{digest} another-boot\n{body}")).unwrap();
}

#[test]
fn a_power_cut_of_the_build_machine_puts_no_wrong_bytes_into_an_image() {
    let (_folder, cache, job) = stored();
    let jobs = [job];
    let first = unpack_all(&cache, &jobs, 1, &Silent).unwrap().remove(0);
    let right = fs::read(&first.tar).unwrap();
    // The tar has its length, but its blocks never reached the disk.
    fs::write(&first.tar, vec![0; right.len()]).unwrap();
    start_anew(&cache, &jobs[0]);
    let again = unpack_all(&cache, &jobs, 1, &Silent).unwrap().remove(0);
    assert_eq!(again, first);
    assert!(fs::read(&first.tar).unwrap() == right, "it was unpacked again");
}

#[test]
fn an_index_that_a_power_cut_damaged_is_made_anew() {
    let (_folder, cache, job) = stored();
    let jobs = [job];
    let first = unpack_all(&cache, &jobs, 1, &Silent).unwrap().remove(0);
    let idx = cache.unpacked().join(format!("{}.idx", jobs[0].sha256));
    let right = fs::read(&idx).unwrap();
    let mut turned = right.clone();
    let at = right.len() - 20;
    turned[at] ^= 1;
    for damaged in [
        Vec::new(),
        vec![0; right.len()],
        right[..right.len() / 2].to_vec(),
        turned,
    ] {
        fs::write(&idx, damaged).unwrap();
        assert_eq!(unpack_all(&cache, &jobs, 1, &Silent).unwrap()[0], first);
        assert_eq!(fs::read(&idx).unwrap(), right);
    }
}

#[test]
fn after_a_new_start_contents_are_compared_once_and_kept() {
    let (_folder, cache, job) = stored();
    let jobs = [job];
    let first = unpack_all(&cache, &jobs, 1, &Silent).unwrap().remove(0);
    start_anew(&cache, &jobs[0]);
    // Without the package nothing can be unpacked again: what is there must do.
    fs::remove_file(cache.blob_path(&jobs[0].sha256)).unwrap();
    for _ in 0..2 {
        assert_eq!(unpack_all(&cache, &jobs, 1, &Silent).unwrap()[0], first);
    }
    let idx = fs::read_to_string(cache.unpacked().join(format!("{}.idx", jobs[0].sha256))).unwrap();
    assert!(idx.lines().next().unwrap().ends_with(" compared"));
}
