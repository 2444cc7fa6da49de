//! Test disks: sparse copies of an image, grown; and judging what is on them from outside.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use imagegen::image::tool::{Bind, ToolRunner};
use rustix::fs::{SeekFrom as Region, copy_file_range, ioctl_ficlone, seek};

use crate::error::HarnessError;
use crate::tools;

/// Copies a raw image to `to`, holes as holes (or all of it by reference where the file system can), and grows it to `size` bytes.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy_grown(from: &Path, to: &Path, size: u64) -> Result<(), HarnessError> {
    let source = File::open(from).map_err(HarnessError::io("open", from))?;
    let target = File::create(to).map_err(HarnessError::io("create", to))?;
    let length = source.metadata().map_err(HarnessError::io("look at", from))?.len();
    if ioctl_ficlone(&target, &source).is_err() {
        copy_data(&source, 0..length, &target).map_err(HarnessError::io("copy to", to))?;
    }
    target.set_len(size.max(length)).map_err(HarnessError::io("grow", to))
}

/// Copies a region to the beginning of another file, but for its holes.
fn copy_data(source: &File, region: Range<u64>, target: &File) -> std::io::Result<()> {
    let mut at = region.start;
    while at < region.end {
        let start = match seek(source, Region::Data(at)) {
            Ok(start) => start,
            // No data after here.
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        if start >= region.end {
            break;
        }
        let end = seek(source, Region::Hole(start))?.min(region.end);
        let (mut from, mut to) = (start, start - region.start);
        while from < end {
            let wanted = usize::try_from(end - from).unwrap_or(usize::MAX);
            if copy_file_range(source, Some(&mut from), target, Some(&mut to), wanted)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        at = end;
    }
    Ok(())
}

/// The first byte in which two raw disks differ; `None` when none does.
///
/// # Errors
/// When one cannot be read.
pub fn same_data(one: &Path, other: &Path) -> Result<Option<u64>, HarnessError> {
    let open = |path: &Path| File::open(path).map_err(HarnessError::io("open", path));
    let (files, mut at) = ([open(one)?, open(other)?], 0);
    let mut rooms = [vec![0; 1 << 20], vec![0; 1 << 20]];
    loop {
        let mut lengths = [0; 2];
        for ((file, room), length) in files.iter().zip(&mut rooms).zip(&mut lengths) {
            *length = file.read_at(room, at).map_err(HarnessError::io("read", one))?;
        }
        // A short read is the end, or cut again at the next one.
        let length = lengths[0].min(lengths[1]);
        let [first, second] = &rooms;
        if first[..length] != second[..length] {
            let same = first.iter().zip(second).take_while(|(a, b)| a == b).count();
            return Ok(Some(at + same as u64));
        }
        if length == 0 {
            return Ok((lengths[0] != lengths[1]).then_some(at));
        }
        at += length as u64;
    }
}

/// A partition of a raw disk, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its type, as lower-case text.
    pub kind: String,
    /// Its unique id, likewise.
    pub id: String,
    /// Its first byte.
    pub start: u64,
    /// Its length.
    pub length: u64,
    /// Its label.
    pub label: String,
}

/// The Discoverable Partitions Specification's types for x86-64.
pub const ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
/// The data partition is of the type for generic Linux data.
pub const DATA: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";

/// Reads the primary GPT. On purpose not the project's own reader: this one judges what that one wrote.
///
/// # Errors
/// When there is no GPT.
pub fn partitions(disk: &Path) -> Result<Vec<Partition>, HarnessError> {
    let mut file = File::open(disk).map_err(HarnessError::io("open", disk))?;
    let mut header = [0; 512];
    file.seek(SeekFrom::Start(512))
        .map_err(HarnessError::io("read", disk))?;
    file.read_exact(&mut header).map_err(HarnessError::io("read", disk))?;
    if &header[..8] != b"EFI PART" {
        let none = std::io::Error::new(std::io::ErrorKind::InvalidData, "it has no GPT");
        return Err(HarnessError::io("read", disk)(none));
    }
    let count = u32::from_le_bytes([header[80], header[81], header[82], header[83]]).min(256) as usize;
    file.seek(SeekFrom::Start(number(&header, 72) * 512))
        .map_err(HarnessError::io("read", disk))?;
    let mut table = vec![0; count * 128];
    file.read_exact(&mut table).map_err(HarnessError::io("read", disk))?;
    Ok(entries(&table))
}

/// The used entries of a GPT's table.
pub(crate) fn entries(table: &[u8]) -> Vec<Partition> {
    let used = table.chunks_exact(128).filter(|entry| entry[..16] != [0; 16]);
    used.map(|entry| {
        let start = number(entry, 32) * 512;
        Partition {
            kind: guid(&entry[..16]),
            id: guid(&entry[16..32]),
            start,
            length: (number(entry, 40) + 1) * 512 - start,
            label: label(&entry[56..]),
        }
    })
    .collect()
}

/// UTF-16, ended by a zero.
fn label(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn guid(b: &[u8]) -> String {
    let hex = |order: &[usize]| {
        order
            .iter()
            .map(|index| format!("{:02x}", b[*index]))
            .collect::<String>()
    };
    [
        hex(&[3, 2, 1, 0]),
        hex(&[5, 4]),
        hex(&[7, 6]),
        hex(&[8, 9]),
        hex(&[10, 11, 12, 13, 14, 15]),
    ]
    .join("-")
}

/// The first partition of this type.
///
/// # Errors
/// When the disk has none.
pub fn find(disk: &Path, kind: &str) -> Result<Partition, HarnessError> {
    let found = partitions(disk)?.into_iter().find(|partition| partition.kind == kind);
    found.ok_or_else(|| {
        let none = std::io::Error::new(
            std::io::ErrorKind::NotFound,
            format!("it has no partition of type {kind}"),
        );
        HarnessError::io("read", disk)(none)
    })
}

/// The byte of the disk in which a file of the EROFS root lies, in the middle of one of the file's blocks, as dump.erofs sees it.
///
/// # Errors
/// When dump.erofs does not know the file, or shows no extent of it.
pub fn byte_of_root_file(disk: &Path, file: &str) -> Result<u64, HarnessError> {
    let root = find(disk, ROOT)?;
    let args = [
        format!("--path={file}").into(),
        "-e".into(),
        format!("--offset={}", root.start).into(),
        disk.into(),
    ];
    let output = tools::tools()?.run("dump.erofs", &args, None, &[Bind::read(disk)]);
    let output =
        output.map_err(|error| HarnessError::io("look into", disk)(std::io::Error::other(error.to_string())))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // `   0:        0..    7157 |    7157 :   79298560..  79302656 |    4096`
    let extent = text.lines().find_map(|line| {
        let (_, physical) = line.strip_prefix("   0:")?.split_once('|')?.1.split_once(':')?;
        physical.split_once("..")?.0.trim().parse::<u64>().ok()
    });
    let at = extent.ok_or_else(|| {
        HarnessError::io("look into", disk)(std::io::Error::other(format!("no extent of {file} in:\n{text}")))
    })?;
    Ok(root.start + at + 2048)
}

/// Inverts one bit.
///
/// # Errors
/// When the disk cannot be read or written there.
pub fn flip_bit(disk: &Path, at: u64, bit: u8) -> Result<(), HarnessError> {
    let flip = || {
        let mut file = File::options().read(true).write(true).open(disk)?;
        let mut byte = [0];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut byte)?;
        byte[0] ^= 1 << (bit % 8);
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&byte)
    };
    flip().map_err(HarnessError::io("flip a bit of", disk))
}

/// Overwrites a region with zeros.
///
/// # Errors
/// When the disk cannot be written there.
pub fn wipe(disk: &Path, start: u64, length: u64) -> Result<(), HarnessError> {
    let wipe = || {
        let mut file = File::options().write(true).open(disk)?;
        file.seek(SeekFrom::Start(start))?;
        std::io::copy(&mut std::io::repeat(0).take(length), &mut file).map(drop)
    };
    wipe().map_err(HarnessError::io("wipe a part of", disk))
}

/// What `e2fsck -fn` says of the data partition of a disk that is not running: `Ok` when it is clean and its journal is empty.
///
/// # Errors
/// With e2fsck's own words.
pub fn check_data(disk: &Path) -> Result<(), HarnessError> {
    let data = find(disk, DATA)?;
    let mut features = [0; 4];
    let mut superblock = || {
        let mut file = File::open(disk)?;
        // s_feature_incompat of the superblock at 1024; bit 2 is needs_recovery: the file system was not unmounted.
        file.seek(SeekFrom::Start(data.start + 1024 + 0x60))?;
        file.read_exact(&mut features)
    };
    superblock().map_err(HarnessError::io("read", disk))?;
    let bad = |reason: String| HarnessError::io("accept", disk)(std::io::Error::other(reason));
    if u32::from_le_bytes(features) & 4 != 0 {
        return Err(bad(
            "the data file system was not unmounted: its journal needs recovery".into(),
        ));
    }
    // e2fsck reads a file system inside of a larger file by this suffix.
    let place = format!("{}?offset={}", disk.display(), data.start);
    let judged = tools::judges()?.run("e2fsck", &["-fn".into(), place.into()], None, &[Bind::read(disk)]);
    judged.map(drop).map_err(|error| bad(error.to_string()))
}

/// Every file below a folder of the data partition of a disk whose machine was cut off: its path there and its content. The journal is
/// played on a copy. Nothing where the partition or its file system has not been made yet.
///
/// # Errors
/// When the file system cannot be read.
pub fn data_files(disk: &Path, folder: &str) -> Result<BTreeMap<PathBuf, Vec<u8>>, HarnessError> {
    let mut files = BTreeMap::new();
    let data = match find(disk, DATA) {
        Ok(data) if data.label == "data" => data,
        _ => return Ok(files),
    };
    let failed = |error: std::io::Error| HarnessError::io("read the data of", disk)(error);
    let scratch = tempfile::tempdir_in(disk.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    let (copy, out) = (scratch.path().join("data.raw"), scratch.path().join("out"));
    let (source, target) = (File::open(disk).map_err(failed)?, File::create(&copy).map_err(failed)?);
    copy_data(&source, data.start..data.start + data.length, &target).map_err(failed)?;
    target.set_len(data.length).map_err(failed)?;
    std::fs::create_dir(&out).map_err(failed)?;
    let run = |tool: &str, args: &[std::ffi::OsString]| {
        let binds = [Bind::write(&copy), Bind::write(&out)];
        let ran = tools::judges()?.run(tool, args, None, &binds);
        ran.map_err(|error| failed(std::io::Error::other(error.to_string())))
    };
    // Before the journal is played the bitmaps may be newer than their checksums, so debugfs, which reads them first, cannot play it.
    run(
        "e2fsck",
        &["-E".into(), "journal_only".into(), "-y".into(), copy.clone().into()],
    )?;
    let dump = format!("rdump {folder} {}", out.display());
    let said = run("debugfs", &["-R".into(), dump.into(), copy.clone().into()])?;
    // It ends with success whatever happens, and says what went wrong after its name and version.
    let said = String::from_utf8_lossy(&said.stderr)
        .lines()
        .skip(1)
        .collect::<Vec<_>>()
        .join(" ");
    if !(said.is_empty() || said.contains("File not found")) {
        return Err(failed(std::io::Error::other(format!("debugfs: {said}"))));
    }
    gather(&out.join(folder.trim_start_matches('/')), Path::new(""), &mut files).map_err(failed)?;
    Ok(files)
}

fn gather(folder: &Path, under: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = under.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            gather(&entry.path(), &name, files)?;
        } else {
            files.insert(name, std::fs::read(entry.path())?);
        }
    }
    Ok(())
}
