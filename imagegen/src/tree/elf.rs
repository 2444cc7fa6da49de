//! What the build needs to know of an ELF file: what it is called, what it needs, and its sections.
//!
//! Formats: the System V gABI, chapters 4 and 5, little-endian 64-bit files only (both of Cairn's architectures).
//! Every offset is checked; a damaged file is an error, never a panic.

use std::io;

use super::Content;

/// A file that starts like ELF but cannot be read as it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The file could not be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// A header points outside of the file or contradicts itself.
    #[error("is a damaged ELF file: {0}")]
    Damaged(&'static str),
}

/// Machine number of x86-64.
pub(crate) const EM_X86_64: u16 = 62;
/// Machine number of AArch64.
pub(crate) const EM_AARCH64: u16 = 183;

/// What the dynamic section of a program or library says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ElfInfo {
    /// The machine number (`EM_...`).
    pub machine: u16,
    /// Its name as a library.
    pub soname: Option<String>,
    /// The libraries that it needs.
    pub needed: Vec<String>,
    /// Where they are searched first; `$ORIGIN` not yet replaced.
    pub runpath: Vec<String>,
    /// The program that loads it.
    pub interpreter: Option<String>,
}

const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_SONAME: u64 = 14;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

pub(super) fn string_at(bytes: &[u8], at: usize) -> Option<String> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|b| *b == 0)?;
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

/// Whether these first bytes are a 64-bit little-endian ELF file.
pub(super) fn is_elf64(head: &[u8]) -> bool {
    head.len() >= 64 && head.starts_with(b"\x7fELF\x02\x01")
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

impl ElfInfo {
    /// Reads what the dynamic section says; `None` if the content is no 64-bit little-endian ELF file.
    pub fn read(content: &Content) -> Result<Option<ElfInfo>, ElfError> {
        const LIMIT: u64 = 16 << 20;
        if content.len < 64 {
            return Ok(None);
        }
        let head = content.read_at(0, 4096)?;
        if !is_elf64(&head) {
            return Ok(None);
        }
        let damaged = ElfError::Damaged;
        let mut info = ElfInfo {
            machine: u16_at(&head, 18).unwrap_or(0),
            ..ElfInfo::default()
        };
        let (table, count) = match (u64_at(&head, 32), u16_at(&head, 54), u16_at(&head, 56)) {
            (Some(offset), Some(56), Some(count)) if count > 0 => {
                (content.read_at(offset, u64::from(count) * 56)?, count)
            }
            _ => return Ok(Some(info)),
        };
        let mut segments = Vec::new();
        for i in 0..usize::from(count) {
            let field = |at| u64_at(&table, i * 56 + at).ok_or(damaged("its program headers are cut off"));
            segments.push(Segment {
                kind: field(0)? as u32,
                offset: field(8)?,
                address: field(16)?,
                size: field(32)?,
            });
        }
        let of = |kind| segments.iter().find(|s: &&Segment| s.kind == kind);
        if let Some(interp) = of(PT_INTERP) {
            let text = content.read_at(interp.offset, interp.size.min(4096))?;
            info.interpreter = string_at(&text, 0);
        }
        let Some(dynamic) = of(PT_DYNAMIC) else {
            return Ok(Some(info));
        };
        let entries = content.read_at(dynamic.offset, dynamic.size.min(LIMIT))?;
        let (mut strings, mut strings_size) = (None, 0);
        let (mut needed, mut soname, mut paths) = (Vec::new(), None, Vec::new());
        for entry in entries.chunks_exact(16) {
            let (tag, value) = (u64_at(entry, 0).unwrap_or(0), u64_at(entry, 8).unwrap_or(0));
            match tag {
                0 => break,
                DT_NEEDED => needed.push(value),
                DT_STRTAB => strings = Some(value),
                DT_STRSZ => strings_size = value,
                DT_SONAME => soname = Some(value),
                DT_RPATH | DT_RUNPATH => paths.push(value),
                _ => {}
            }
        }
        let Some(address) = strings else { return Ok(Some(info)) };
        let offset = segments
            .iter()
            .filter(|s| s.kind == PT_LOAD)
            .find_map(|s| {
                address
                    .checked_sub(s.address)
                    .filter(|d| *d < s.size)
                    .and_then(|d| s.offset.checked_add(d))
            })
            .ok_or(damaged("its string table is in no segment"))?;
        let table = content.read_at(offset, strings_size.min(LIMIT))?;
        let text = |at: u64| string_at(&table, at as usize).ok_or(damaged("a name lies outside of its string table"));
        info.needed = needed.into_iter().map(text).collect::<Result<_, _>>()?;
        info.soname = soname.map(text).transpose()?;
        for path in paths {
            info.runpath
                .extend(text(path)?.split(':').filter(|p| !p.is_empty()).map(str::to_owned));
        }
        Ok(Some(info))
    }
}

/// The bytes of the section called `name` in a whole ELF file; `None` if there is no such section.
pub(super) fn section<'a>(bytes: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, ElfError> {
    let damaged = ElfError::Damaged;
    if !is_elf64(bytes) {
        return Err(damaged("it does not start like one"));
    }
    let table = u64_at(bytes, 40).unwrap_or(0) as usize;
    let (size, count, names) = (u16_at(bytes, 58), u16_at(bytes, 60), u16_at(bytes, 62));
    let (Some(64), Some(count), Some(names)) = (size, count, names) else {
        return Err(damaged("its section headers have an unknown size"));
    };
    let header = |i: usize| -> Option<(usize, &'a [u8])> {
        let at = table.checked_add(i.checked_mul(64)?)?;
        let offset = u64_at(bytes, at.checked_add(24)?)? as usize;
        let len = u64_at(bytes, at.checked_add(32)?)? as usize;
        let kind = u32_at(bytes, at.checked_add(4)?)?;
        // A section without bytes in the file (SHT_NOBITS) has an offset and a size of its own.
        let data = if kind == 8 {
            &bytes[..0]
        } else {
            bytes.get(offset..offset.checked_add(len)?)?
        };
        Some((u32_at(bytes, at)? as usize, data))
    };
    let (_, strings) = header(usize::from(names)).ok_or(damaged("its section names are missing"))?;
    for i in 0..usize::from(count) {
        let (at, data) = header(i).ok_or(damaged("a section lies outside of the file"))?;
        if string_at(strings, at).as_deref() == Some(name) {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_program_of_this_machine_tells_what_it_needs() {
        let content = Content::file(Path::new("/proc/self/exe")).unwrap();
        let info = ElfInfo::read(&content).unwrap().unwrap();
        assert!(info.needed.iter().any(|n| n == "libc.so.6"), "{info:?}");
        assert!(info.interpreter.is_some());
    }

    #[test]
    fn text_is_no_elf_file() {
        assert_eq!(ElfInfo::read(&Content::bytes(vec![b'x'; 100])).unwrap(), None);
    }

    #[test]
    fn a_cut_off_file_is_an_error_and_no_panic() {
        let whole = Content::file(Path::new("/proc/self/exe"))
            .unwrap()
            .read_at(0, 8192)
            .unwrap();
        for len in [64, 100, 500, 4096] {
            let _ = ElfInfo::read(&Content::bytes(&whole[..len]));
            let _ = section(&whole[..len], ".modinfo");
        }
        assert!(section(&whole[..4096], ".modinfo").is_err());
    }
}
