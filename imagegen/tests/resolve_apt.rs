//! Our closures against apt's own, on the real Debian 13 package lists.
//!
//! Needs a mirror (found as imagegen finds it); says why it is skipped else.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use common::judge;
use imagegen::archive::{Archive, ArchiveError, Expiry, Keyring, Mirror, Suite, SuiteIndex};
use imagegen::cache::{Cache, FetchOptions, Transport};
use imagegen::progress::Silent;
use imagegen::resolve::{Universe, resolve};

const CASES: &[&[&str]] = &[
    &["caddy"],
    &["mariadb-server"],
    &["mariadb-server-core"],
    &["slapd"],
    &["ldap-utils"],
    &["linux-image-cloud-amd64"],
    &["e2fsprogs"],
    &["nftables"],
    &["openssh-server"],
    &["postgresql-17"],
    &["nginx"],
    &["redis-server"],
    &["valkey-server"],
    &["php8.4-fpm"],
    &["exim4-daemon-light"],
    &["postfix"],
    &["systemd", "dbus"],
    &["debhelper"],
    &["qemu-system-x86", "ovmf", "mtools", "erofs-utils", "cryptsetup-bin"],
    &["slapd", "ldap-utils", "dash", "coreutils", "mariadb-server-core"],
];

fn real_indexes() -> Option<Vec<SuiteIndex>> {
    let mirror = match Mirror::discover() {
        Ok(mirror) => mirror,
        Err(error) => {
            eprintln!("skipped: {error}");
            return None;
        }
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("resolve-cache");
    let cache = Cache::open(folder).unwrap();
    let archive = Archive {
        mirror: &mirror,
        keyring: &Keyring::pinned().unwrap(),
        cache: &cache,
        transport: &Transport::new(Duration::from_secs(20)),
        options: &FetchOptions {
            retries: 1,
            ..FetchOptions::default()
        },
        now: SystemTime::now(),
        expiry: Expiry::Enforce,
    };
    match archive.indexes(&Suite::trixie(), "amd64", &Silent) {
        Ok(indexes) => Some(indexes),
        Err(error @ ArchiveError::Unreachable { .. }) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A folder that apt takes for the whole system: our lists, no package installed.
fn apt_tree(root: &Path, indexes: &[SuiteIndex]) -> Vec<String> {
    for part in [
        "state/lists/partial",
        "cache/archives/partial",
        "etc/apt.conf.d",
        "etc/preferences.d",
        "repo",
    ] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    fs::write(root.join("status"), "").unwrap();
    let mut sources = String::new();
    for index in indexes {
        let folder = root.join("repo").join(&index.name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("Packages"), &index.packages).unwrap();
        sources.push_str(&format!("deb [trusted=yes] copy:{} ./\n", folder.display()));
    }
    fs::write(root.join("sources.list"), sources).unwrap();
    let set = |name: &str, value: String| ["-o".to_owned(), format!("{name}={value}")];
    let at = |name: &str| root.join(name).display().to_string();
    [
        set("Dir::State", at("state")),
        set("Dir::State::status", at("status")),
        set("Dir::State::extended_states", at("extended")),
        set("Dir::Cache", at("cache")),
        set("Dir::Etc", at("etc")),
        set("Dir::Etc::sourcelist", at("sources.list")),
        set("Dir::Etc::sourceparts", "/dev/null".into()),
        set("APT::Architecture", "amd64".into()),
        set("APT::Architectures", "amd64".into()),
        set("APT::Install-Recommends", "false".into()),
        set("Acquire::Languages", "none".into()),
        set("APT::Sandbox::User", "root".into()),
        set("Debug::NoLocking", "true".into()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn closures_on_the_real_lists_are_those_of_apt() {
    let Some(indexes) = real_indexes() else { return };
    let started = Instant::now();
    let universe = Universe::new(&indexes, "amd64").unwrap();
    eprintln!("indexed {} packages in {:?}", universe.len(), started.elapsed());
    let root = tempfile::tempdir().unwrap();
    let options = apt_tree(root.path(), &indexes);
    let update = judge("apt-get")
        .args(&options)
        .arg("update")
        .env("APT_CONFIG", "/dev/null")
        .output()
        .unwrap();
    assert!(update.status.success(), "{}", String::from_utf8_lossy(&update.stderr));
    let mut different = Vec::new();
    for names in CASES {
        let output = judge("apt-get")
            .args(&options)
            .args(["-s", "-y", "--no-install-recommends", "install"])
            .args(*names)
            .env("APT_CONFIG", "/dev/null")
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{names:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let theirs: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("Inst ")?.split_once(" ("))
            .map(|(name, rest)| format!("{} {}", name.trim(), rest.split_whitespace().next().unwrap()))
            .collect();
        let started = Instant::now();
        let closure = resolve(&universe, names).unwrap_or_else(|error| panic!("{names:?}: {error}"));
        let took = started.elapsed();
        let ours: BTreeSet<String> = closure
            .packages
            .iter()
            .map(|picked| universe.get(picked.id))
            .map(|package| format!("{} {}", package.name, package.version))
            .collect();
        eprintln!("{names:?}: {} packages, ours in {took:?}", theirs.len());
        if ours != theirs {
            let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
            different.push(format!(
                "{names:?}: only ours {:?}, only apt's {:?}",
                only(&ours, &theirs),
                only(&theirs, &ours)
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
