//! `/etc/ld.so.cache`, as glibc's loader reads it and `ldconfig` writes it.
//!
//! Format: `sysdeps/generic/dl-cache.h` of glibc 2.32 and later, the new format only ("glibc-ld.so.cache1.1"): a header
//! of 48 bytes, entries of 24 bytes in descending order by name, then the strings. Offsets count from the file's start.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use cairn_unit::Arch;

use super::elf::{EM_AARCH64, EM_X86_64, ElfInfo};
use super::{Kind, Node, Tree, TreeError};

/// `FLAG_ELF_LIBC6 | FLAG_X8664_LIB64`
const FLAGS_AMD64: u32 = 0x0303;
/// `FLAG_ELF_LIBC6 | FLAG_AARCH64_LIB64`
const FLAGS_ARM64: u32 = 0x0a03;
const HEADER: usize = 48;
const ENTRY: usize = 24;

pub(super) fn machine(arch: Arch) -> u16 {
    match arch {
        Arch::Amd64 => EM_X86_64,
        Arch::Arm64 => EM_AARCH64,
    }
}

/// The folders that the loader's cache covers, in the order of `ld.so.conf`, then the built-in ones.
pub(super) fn library_folders(tree: &Tree, arch: Arch) -> Result<Vec<String>, TreeError> {
    let mut folders = Vec::new();
    read_conf(tree, "etc/ld.so.conf", 0, &mut folders)?;
    // What Debian's loader searches without any configuration: a root without libc-bin has no ld.so.conf.
    let multiarch = arch.multiarch();
    folders.extend([
        format!("/lib/{multiarch}"),
        format!("/usr/lib/{multiarch}"),
        "/lib".into(),
        "/usr/lib".into(),
    ]);
    let mut seen = BTreeSet::new();
    folders.retain(|folder| {
        tree.lookup(folder)
            .filter(|(_, node)| node.is_folder())
            .is_some_and(|(path, _)| seen.insert(path))
    });
    Ok(folders)
}

fn read_conf(tree: &Tree, path: &str, depth: usize, folders: &mut Vec<String>) -> Result<(), TreeError> {
    let failed = |source| TreeError::Read {
        path: path.into(),
        source,
        help: "the cache may be damaged",
    };
    let Some(text) = tree.text(path).map_err(failed)? else {
        return Ok(());
    };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("").trim();
        if let Some(pattern) = line
            .strip_prefix("include")
            .filter(|r| r.starts_with(char::is_whitespace))
        {
            let pattern = pattern.trim();
            let pattern = if pattern.starts_with('/') {
                pattern.to_owned()
            } else {
                format!("/etc/{pattern}")
            };
            let Ok(glob) = super::Glob::new(&pattern) else { continue };
            let found: Vec<String> = tree
                .iter()
                .map(|(p, _)| p)
                .filter(|p| glob.matches(&format!("/{p}")))
                .map(str::to_owned)
                .collect();
            for path in found.iter().filter(|_| depth < 8) {
                read_conf(tree, path, depth + 1, folders)?;
            }
        } else if line.starts_with('/') {
            folders.push(line.trim_end_matches('/').to_owned());
        }
    }
    Ok(())
}

/// Every library that the cache names: name to path. Links that `ldconfig` would make for a library whose file has
/// another name are put into the tree.
pub fn cache_entries(tree: &mut Tree, arch: Arch) -> Result<BTreeMap<String, String>, TreeError> {
    let mut entries = BTreeMap::new();
    let mut links = Vec::new();
    for folder in library_folders(tree, arch)? {
        let Ok(real) = tree.resolve(&folder) else { continue };
        let mut sonames: BTreeMap<String, String> = BTreeMap::new();
        let names: Vec<(String, bool)> = tree
            .children(&real)
            .filter(|(name, _)| (name.starts_with("lib") || name.starts_with("ld-")) && name.contains(".so"))
            .map(|(name, node)| (name.to_owned(), matches!(node.kind, Kind::Link(_))))
            .collect();
        for (name, is_link) in names {
            let Some((path, node)) = tree.lookup(&format!("{real}/{name}")) else {
                continue;
            };
            let Some(content) = node.content() else { continue };
            let info = ElfInfo::read(content).map_err(|e| TreeError::Place {
                root: tree.name.clone(),
                path,
                origin: node.origin.to_string(),
                why: e.to_string(),
            })?;
            let Some(info) = info.filter(|i| i.machine == machine(arch)) else {
                continue;
            };
            let soname = info.soname.unwrap_or_else(|| name.clone());
            // As ldconfig: a link whose name is not the library's own is entered only for linking, by its name.
            if is_link && soname != name && !name.ends_with(".so") {
                continue;
            }
            if is_link {
                sonames.insert(name.clone(), name);
            } else {
                if soname != name && tree.get(&format!("{real}/{soname}")).is_none() && !soname.contains('/') {
                    links.push((format!("{real}/{soname}"), name));
                }
                sonames.insert(soname.clone(), soname);
            }
        }
        for (soname, name) in sonames {
            entries.entry(soname).or_insert_with(|| format!("{folder}/{name}"));
        }
    }
    for (path, target) in links {
        tree.put(&path, Node::link(&target, "imagegen"));
    }
    Ok(entries)
}

/// The cache's bytes for these libraries, all of `arch`.
pub fn loader_cache(entries: &BTreeMap<String, String>, arch: Arch) -> Vec<u8> {
    let flags = match arch {
        Arch::Amd64 => FLAGS_AMD64,
        Arch::Arm64 => FLAGS_ARM64,
    };
    let mut sorted: Vec<(&String, &String)> = entries.iter().collect();
    sorted.sort_by(|a, b| compare(b.0.as_bytes(), a.0.as_bytes()).then_with(|| b.cmp(a)));
    let base = HEADER + sorted.len() * ENTRY;
    let (mut table, mut strings) = (Vec::new(), Vec::new());
    for (name, path) in sorted {
        let mut add = |text: &str| {
            let at = (base + strings.len()) as u32;
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        let (key, value) = (add(name), add(path));
        for word in [flags, key, value, 0, 0, 0] {
            table.extend_from_slice(&word.to_le_bytes());
        }
    }
    let mut out = b"glibc-ld.so.cache1.1".to_vec();
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    out.extend_from_slice(&(strings.len() as u32).to_le_bytes());
    // Little-endian, and no extension.
    out.extend_from_slice(&[2, 0, 0, 0]);
    out.resize(HEADER, 0);
    out.extend_from_slice(&table);
    out.extend_from_slice(&strings);
    out
}

/// glibc's `_dl_cache_libcmp`: runs of digits compare as numbers.
fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    fn number(text: &mut &[u8]) -> u64 {
        let mut value = 0u64;
        while let Some(digit) = text.first().filter(|c| c.is_ascii_digit()) {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            *text = &text[1..];
        }
        value
    }
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => match (x.is_ascii_digit(), y.is_ascii_digit()) {
                (true, true) => match number(&mut a).cmp(&number(&mut b)) {
                    Ordering::Equal => {}
                    other => return other,
                },
                (true, false) => return Ordering::Greater,
                (false, true) => return Ordering::Less,
                (false, false) if x != y => return x.cmp(y),
                (false, false) => (a, b) = (&a[1..], &b[1..]),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn entries(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|n| ((*n).to_owned(), format!("/lib/x/{n}"))).collect()
    }

    #[test]
    fn digits_compare_as_numbers() {
        assert_eq!(compare(b"libx.so.9", b"libx.so.10"), Ordering::Less);
        assert_eq!(compare(b"libx.so.10", b"libx.so.10"), Ordering::Equal);
        assert_eq!(compare(b"lib2", b"liba"), Ordering::Greater);
        assert_eq!(compare(b"lib", b"liba"), Ordering::Less);
    }

    #[test]
    fn ldconfig_reads_the_cache() {
        if Command::new("ldconfig").arg("--version").output().is_err() {
            eprintln!("skipped: no ldconfig here to judge the cache");
            return;
        }
        let names = ["libc.so.6", "libstdc++.so.6", "libx.so.9", "libx.so.10"];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), loader_cache(&entries(&names), Arch::Amd64)).unwrap();
        let output = Command::new("ldconfig")
            .arg("-p")
            .arg("-C")
            .arg(file.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        for name in names {
            assert!(
                text.contains(&format!("{name} (libc6,x86-64) => /lib/x/{name}")),
                "{text}"
            );
        }
        assert!(text.starts_with("4 libs found"), "{text}");
    }
}
