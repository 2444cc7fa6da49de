//! What the firmware, systemd-boot and dm-verity would make of a disk after a power cut. On purpose none of the project's own code reads it
//! here: this judges what that wrote.

use std::io::{self, Read};
use std::path::Path;

use crate::crash::{Cut, Medium};
use crate::disk::{self, ROOT};

/// The Discoverable Partitions Specification's type for the hash tree of a root on x86-64.
pub const VERITY: &str = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";
/// UEFI's type of an EFI system partition.
pub const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
const LOADERS: [&str; 2] = ["EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"];
const BLOCK: usize = 4096;

/// All that a version has on a disk.
#[derive(Debug)]
pub struct Version {
    /// Its number.
    pub version: String,
    /// Its boot entry's file name and bytes.
    pub entry: (String, Vec<u8>),
    /// Its root's file system.
    pub root: Vec<u8>,
    /// The root's hash tree, with its superblock.
    pub tree: Vec<u8>,
    /// The root hash, in hexadecimal.
    pub hash: String,
    /// Of the root and of its hash tree: the two halves of the root hash.
    ids: [String; 2],
}

/// What would start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The version.
    pub version: String,
    /// The file of its boot entry.
    pub entry: String,
    /// How many entries there are.
    pub entries: usize,
}

fn bad(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

fn word(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length]
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// `8-4-4-4-12`, of 32 digits.
fn id(digits: &str) -> String {
    [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..32],
    ]
    .join("-")
}

/// The partitions as the kernel finds them: by the first table if its sums are right, else by the one at the disk's end.
fn partitions(cut: &Cut<'_>) -> io::Result<Vec<disk::Partition>> {
    let table = |sector: u64| -> io::Result<Vec<u8>> {
        let mut header = [0; 512];
        cut.read_at(&mut header, sector * 512)?;
        let length = word(&header, 12, 4) as usize;
        if &header[..8] != b"EFI PART" || !(92..=512).contains(&length) || word(&header, 24, 8) != sector {
            return Err(bad("no GPT"));
        }
        let sum = word(&header, 16, 4);
        header[16..20].fill(0);
        if u64::from(crc32fast::hash(&header[..length])) != sum {
            return Err(bad("the GPT's header has a wrong sum"));
        }
        let mut table = vec![0; word(&header, 80, 4).min(256) as usize * 128];
        cut.read_at(&mut table, word(&header, 72, 8) * 512)?;
        if u64::from(crc32fast::hash(&table)) != word(&header, 88, 4) {
            return Err(bad("the GPT has a wrong sum"));
        }
        Ok(table)
    };
    let found = table(1).or_else(|_| table(cut.size() / 512 - 1))?;
    Ok(disk::entries(&found))
}

fn only<'a>(partitions: &'a [disk::Partition], kind: &str) -> io::Result<&'a disk::Partition> {
    let found = partitions.iter().find(|partition| partition.kind == kind);
    found.ok_or_else(|| bad(format!("no partition of type {kind}")))
}

type Files<'a> = fatfs::FileSystem<crate::crash::Partition<'a>>;

fn files<'a>(cut: &'a Cut<'a>, esp: &disk::Partition) -> io::Result<Files<'a>> {
    let options = fatfs::FsOptions::new().update_accessed_date(false);
    fatfs::FileSystem::new(cut.partition(esp.start, esp.length), options)
}

fn file(files: &Files<'_>, path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    files.root_dir().open_file(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files below `EFI/Linux` that are boot entries.
fn entries(files: &Files<'_>) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in files.root_dir().open_dir("EFI/Linux")?.iter() {
        let name = entry?.file_name();
        let small = name.to_ascii_lowercase();
        // Recovery is no version's.
        if small.ends_with(".efi") && small != "recovery.efi" {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether systemd-boot takes a file for a UKI: a PE program that says in a section of its own what it is. It passes over any other.
fn is_program(file: &[u8]) -> bool {
    let head = &file[..file.len().min(BLOCK)];
    head.starts_with(b"MZ") && head.windows(8).any(|name| name == b".osrel\0\0")
}

/// `NAME_VERSION+LEFT-DONE.efi`: the version, and how many tries are left.
fn parse(entry: &str) -> Option<(&str, Option<u32>)> {
    let stem = &entry[..entry.len() - 4];
    let (stem, left) = match stem.split_once('+') {
        None => (stem, None),
        Some((stem, counter)) => (stem, Some(counter.split('-').next()?.parse().ok()?)),
    };
    Some((stem.split_once('_')?.1, left))
}

/// The loaders' files as they should stay.
pub type Loaders = Vec<(&'static str, Vec<u8>)>;

/// The boot loader on a disk.
///
/// # Errors
/// When it has none.
pub fn loaders(image: &Path) -> io::Result<Loaders> {
    let medium = Medium::reading(image)?;
    let cut = medium.at_flush();
    let found = partitions(&cut)?;
    let files = files(&cut, only(&found, ESP)?)?;
    let there = LOADERS
        .iter()
        .filter_map(|path| Some((*path, file(&files, path).ok()?)));
    let there: Loaders = there.collect();
    (!there.is_empty())
        .then_some(there)
        .ok_or_else(|| bad("no boot loader"))
}

impl Version {
    /// From the image that was built of it.
    ///
    /// # Errors
    /// When it is not such an image.
    pub fn of(image: &Path) -> io::Result<Self> {
        let medium = Medium::reading(image)?;
        let cut = medium.at_flush();
        let found = partitions(&cut)?;
        let files = files(&cut, only(&found, ESP)?)?;
        let names = entries(&files)?;
        let [name] = names.as_slice() else {
            return Err(bad(format!("entries {names:?} instead of one")));
        };
        let version = parse(name).ok_or_else(|| bad(name.as_str()))?.0.to_owned();
        let uki = file(&files, &format!("EFI/Linux/{name}"))?;
        let mark = b"roothash=";
        let at = uki.windows(mark.len()).position(|window| window == mark);
        let hash = at.and_then(|at| std::str::from_utf8(uki.get(at + mark.len()..at + mark.len() + 64)?).ok());
        let hash = hash.ok_or_else(|| bad("no root hash in its UKI"))?.to_owned();
        let (place, tree) = (only(&found, ROOT)?, only(&found, VERITY)?);
        // dm-verity's superblock: the number of data blocks at byte 72.
        let mut superblock = [0; BLOCK];
        cut.read_at(&mut superblock, tree.start)?;
        let data = word(&superblock, 72, 8);
        let (mut level, mut hashes) = (data, 0);
        while level > 1 {
            level = level.div_ceil(128);
            hashes += level;
        }
        let read = |start: u64, length: u64| {
            let mut bytes = vec![0; length as usize];
            cut.read_at(&mut bytes, start).map(|()| bytes)
        };
        Ok(Self {
            version,
            root: read(place.start, data * BLOCK as u64)?,
            tree: read(tree.start, (hashes + 1) * BLOCK as u64)?,
            ids: [id(&hash[..32]), id(&hash[32..])],
            entry: Some((name.clone(), uki))
                .filter(|(_, uki)| is_program(uki))
                .ok_or_else(|| bad("its boot entry is no UKI"))?,
            hash,
        })
    }
}

/// Follows every place where a version may lie.
///
/// # Errors
/// When the disk cannot be read.
pub fn watch(medium: &mut Medium, versions: &[Version]) -> io::Result<()> {
    let found = partitions(&medium.at_flush())?;
    for place in &found {
        for version in versions {
            match place.kind.as_str() {
                ROOT => medium.watch(place.start, &version.root)?,
                VERITY => medium.watch(place.start, &version.tree)?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Where the data partition lies: what is written there is its file system's affair.
///
/// # Errors
/// When there is none.
pub fn data(medium: &Medium) -> io::Result<disk::Partition> {
    Ok(only(&partitions(&medium.at_flush())?, disk::DATA)?.clone())
}

/// Which version would start, if each that could be tried is whole: its UKI, its root and its hash tree, bit for bit.
///
/// # Errors
/// The sentence that says what is wrong.
pub fn judge(cut: &Cut<'_>, versions: &[Version], loaders: &Loaders) -> io::Result<Verdict> {
    let found = partitions(cut)?;
    let files = files(cut, only(&found, ESP)?)?;
    for (path, known) in loaders {
        if file(&files, path)? != *known {
            return Err(bad(format!("{path} is not what it was")));
        }
    }
    let mut there = Vec::new();
    for entry in entries(&files)? {
        let (number, left) = parse(&entry).ok_or_else(|| bad(format!("what is {entry}?")))?;
        let uki = file(&files, &format!("EFI/Linux/{entry}"))?;
        if !is_program(&uki) {
            continue;
        }
        let version = versions.iter().find(|version| version.version == number);
        let version = version.ok_or_else(|| bad(format!("{entry} is of no version")))?;
        if version.entry.1 != uki {
            let same = version.entry.1.iter().zip(&uki).take_while(|(a, b)| a == b).count();
            let (has, wants) = (uki.len(), version.entry.1.len());
            return Err(bad(format!(
                "{entry} is not the UKI of {number}: {has} bytes instead of {wants}, and other ones from byte {same} on"
            )));
        }
        let place = |id: &str, kind: &str| {
            let place = found.iter().find(|place| place.id == id && place.kind == kind);
            place.ok_or_else(|| bad(format!("{entry} leads nowhere: there is no partition {id}")))
        };
        let (root, tree) = (place(&version.ids[0], ROOT)?, place(&version.ids[1], VERITY)?);
        for (what, start, known) in [
            ("root", root.start, &version.root),
            ("hash tree", tree.start, &version.tree),
        ] {
            if cut.holds(start, known) != Some(true) {
                return Err(bad(format!("{entry} leads to a {what} that is not whole")));
            }
        }
        let parts: Vec<u64> = number.split('.').filter_map(|part| part.parse().ok()).collect();
        there.push((left != Some(0), parts, number.to_owned(), entry.clone()));
    }
    // Those that were given up come last; of the others the newest comes first.
    let entries = there.len();
    let (_, _, version, entry) = there.into_iter().max().ok_or_else(|| bad("there is no boot entry"))?;
    Ok(Verdict {
        version,
        entry,
        entries,
    })
}
