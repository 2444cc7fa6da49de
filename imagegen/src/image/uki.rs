//! Unified kernel images: systemd's stub with sections added
//! (<https://uapi-group.org/specifications/specs/unified_kernel_image/>), and the sections read back.
//!
//! PE fields are those of Microsoft's "PE Format". Only 64-bit images (PE32+) occur here.

use super::Error;

const SECTION_HEADER: usize = 40;
const CODE_READ_EXECUTE: u32 = 0x6000_0020;
const DATA_READ: u32 = 0x4000_0040;
const NX_COMPAT: u16 = 0x0100;

/// What goes into a UKI, beside the stub.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The text of os-release; systemd-boot takes the menu's title and version from it.
    pub osrel: &'a str,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// The kernel's release, as `uname -r` prints it.
    pub uname: &'a str,
    /// The initrd, compressed or not.
    pub initrd: &'a [u8],
    /// The kernel: an EFI binary (bzImage, or Image on arm64).
    pub linux: &'a [u8],
}

/// A section of a PE file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    /// With its dot.
    pub name: &'a str,
    /// Its content, without padding.
    pub data: &'a [u8],
}

/// The places in a PE file that we need.
pub(super) struct Pe {
    coff: usize,
    pub(super) optional: usize,
    pub(super) table: usize,
    pub(super) sections: usize,
    section_alignment: usize,
    file_alignment: usize,
    pub(super) headers_end: usize,
}

fn bad(why: &str) -> Error {
    Error::input(
        "EFI binary",
        format!("{why}; is it the 64-bit stub or a UKI, unsigned and whole?"),
    )
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Error> {
    let found = bytes.get(at..at + 2).and_then(|b| b.try_into().ok());
    found.map(u16::from_le_bytes).ok_or_else(|| bad("it ends too early"))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Error> {
    let found = bytes.get(at..at.saturating_add(4)).and_then(|b| b.try_into().ok());
    found.map(u32::from_le_bytes).ok_or_else(|| bad("it ends too early"))
}

pub(super) fn usize_at(bytes: &[u8], at: usize) -> Result<usize, Error> {
    Ok(u32_at(bytes, at)? as usize)
}

/// Every place of these lies in the headers, whose length [`Pe::parse`] has checked.
pub(super) fn put32(bytes: &mut [u8], at: usize, value: usize) -> Result<(), Error> {
    let value = u32::try_from(value).map_err(|_| bad("it would grow over 4 GiB"))?;
    bytes
        .get_mut(at..at + 4)
        .ok_or_else(|| bad("it ends too early"))?
        .copy_from_slice(&value.to_le_bytes());
    Ok(())
}

impl Pe {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.get(..2) != Some(b"MZ") {
            return Err(bad("no MZ signature"));
        }
        let pe = usize_at(bytes, 0x3c)?;
        if bytes.get(pe..pe.saturating_add(4)) != Some(b"PE\0\0") {
            return Err(bad("no PE signature"));
        }
        let coff = pe + 4;
        let optional = coff + 20;
        if u16_at(bytes, optional)? != 0x20b {
            return Err(bad("not PE32+"));
        }
        let parsed = Self {
            coff,
            optional,
            table: optional + usize::from(u16_at(bytes, coff + 16)?),
            sections: u16_at(bytes, coff + 2)?.into(),
            section_alignment: usize_at(bytes, optional + 32)?,
            file_alignment: usize_at(bytes, optional + 36)?,
            headers_end: usize_at(bytes, optional + 60)?,
        };
        let aligned = |n: usize| n.is_power_of_two() && (512..=1 << 16).contains(&n);
        if !aligned(parsed.file_alignment) || !aligned(parsed.section_alignment) {
            return Err(bad("odd alignment"));
        }
        if parsed.table + parsed.sections * SECTION_HEADER > bytes.len() {
            return Err(bad("it ends inside its section table"));
        }
        Ok(parsed)
    }

    /// Name, address, length in memory, place in the file and length there, of section `index`.
    pub(super) fn section<'a>(&self, bytes: &'a [u8], index: usize) -> Result<(&'a str, [usize; 4]), Error> {
        let at = self.table + index * SECTION_HEADER;
        let name = bytes.get(at..at + 8).ok_or_else(|| bad("it ends too early"))?;
        let length = name.iter().position(|b| *b == 0).unwrap_or(8);
        let name = std::str::from_utf8(&name[..length]).map_err(|_| bad("a section name is not text"))?;
        let field = |offset| usize_at(bytes, at + offset);
        Ok((name, [field(12)?, field(8)?, field(20)?, field(16)?]))
    }
}

/// Puts a UKI together. `epoch` (seconds since 1970) becomes the PE's time stamp.
///
/// # Errors
/// The stub is not an unsigned 64-bit EFI binary with room for five more section headers.
pub fn build(stub: &[u8], parts: &Parts<'_>, epoch: u32) -> Result<Vec<u8>, Error> {
    let pe = Pe::parse(stub)?;
    let mut uki = stub.to_vec();
    let (mut address, mut end, mut first_data) = (0, 0, usize::MAX);
    for index in 0..pe.sections {
        let (name, [start, size, file_start, file_size]) = pe.section(stub, index)?;
        if matches!(name, ".osrel" | ".cmdline" | ".uname" | ".initrd" | ".linux") {
            return Err(bad(&format!("it has a section {name} already")));
        }
        if file_start + file_size > stub.len() || file_start % pe.file_alignment != 0 {
            return Err(bad(&format!("section {name} lies outside the file or is not aligned")));
        }
        address = address.max(start + size.max(file_size));
        end = end.max(file_start + file_size);
        first_data = first_data.min(if file_size == 0 { usize::MAX } else { file_start });
    }
    // The security directory is the fifth; its first field is where the signature is.
    if usize_at(stub, pe.optional + 112 + 4 * 8)? != 0 {
        return Err(bad("it is signed"));
    }
    // Anything after the sections would be a symbol table, which EFI images do not use.
    uki.truncate(end.next_multiple_of(pe.file_alignment));
    uki.resize(end.next_multiple_of(pe.file_alignment), 0);
    put32(&mut uki, pe.coff + 8, 0)?;
    put32(&mut uki, pe.coff + 12, 0)?;
    let osrel = parts.osrel.as_bytes();
    // The kernel stands last: one that runs in place may then grow behind its section.
    let added: [(&[u8; 8], &[u8], u32); 5] = [
        (b".osrel\0\0", osrel, DATA_READ),
        (b".cmdline", parts.cmdline.as_bytes(), DATA_READ),
        (b".uname\0\0", parts.uname.as_bytes(), DATA_READ),
        (b".initrd\0", parts.initrd, DATA_READ),
        (b".linux\0\0", parts.linux, CODE_READ_EXECUTE),
    ];
    let headers_end = pe.headers_end.next_multiple_of(pe.file_alignment).min(first_data);
    if pe.table + (pe.sections + added.len()) * SECTION_HEADER > headers_end.min(uki.len()) {
        return Err(bad("its headers have no room for five more sections"));
    }
    put32(&mut uki, pe.optional + 60, headers_end)?;
    let mut initialised = usize_at(stub, pe.optional + 8)?;
    let mut code = usize_at(stub, pe.optional + 4)?;
    for (index, (name, data, flags)) in (pe.sections..).zip(added) {
        let header = pe.table + index * SECTION_HEADER;
        let padded = data.len().next_multiple_of(pe.file_alignment);
        address = address.next_multiple_of(pe.section_alignment);
        let place = uki.len();
        uki[header..header + SECTION_HEADER].fill(0);
        uki[header..header + 8].copy_from_slice(name);
        put32(&mut uki, header + 8, data.len())?;
        put32(&mut uki, header + 12, address)?;
        put32(&mut uki, header + 16, padded)?;
        put32(&mut uki, header + 20, place)?;
        put32(&mut uki, header + 36, flags as usize)?;
        uki.extend_from_slice(data);
        uki.resize(place + padded, 0);
        address += data.len();
        *(if flags == DATA_READ {
            &mut initialised
        } else {
            &mut code
        }) += padded;
    }
    let count = (pe.sections + 5) as u16;
    uki[pe.coff + 2..pe.coff + 4].copy_from_slice(&count.to_le_bytes());
    put32(&mut uki, pe.coff + 4, epoch as usize)?;
    put32(&mut uki, pe.optional + 4, code)?;
    put32(&mut uki, pe.optional + 8, initialised)?;
    put32(
        &mut uki,
        pe.optional + 56,
        address.next_multiple_of(pe.section_alignment),
    )?;
    agree_on_nx(&mut uki, &pe, parts.linux)?;
    put32(&mut uki, pe.optional + 64, 0)?;
    let sum = checksum(&uki);
    put32(&mut uki, pe.optional + 64, sum as usize)?;
    Ok(uki)
}

/// Stub and kernel must say the same about non-executable data, or firmware that enforces it cannot start the kernel.
fn agree_on_nx(uki: &mut [u8], pe: &Pe, linux: &[u8]) -> Result<(), Error> {
    let ready = Pe::parse(linux)
        .and_then(|kernel| u16_at(linux, kernel.optional + 70))
        .is_ok_and(|f| f & NX_COMPAT != 0);
    let flags = u16_at(uki, pe.optional + 70)?;
    if !ready {
        uki[pe.optional + 70..pe.optional + 72].copy_from_slice(&(flags & !NX_COMPAT).to_le_bytes());
    }
    Ok(())
}

/// The PE checksum: the 16-bit words added with end-around carry, plus the length; its own field counts as zero.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let words = bytes
        .chunks(2)
        .map(|w| u64::from(w[0]) | u64::from(w.get(1).copied().unwrap_or(0)) << 8);
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (sum as u32).wrapping_add(bytes.len() as u32)
}

/// All sections of a UKI (or any 64-bit EFI binary), in file order.
///
/// # Errors
/// It is not one, or it is cut short.
pub fn read(bytes: &[u8]) -> Result<Vec<Section<'_>>, Error> {
    let pe = Pe::parse(bytes)?;
    (0..pe.sections)
        .map(|index| {
            let (name, [_, size, start, file_size]) = pe.section(bytes, index)?;
            let data = bytes
                .get(start..start + size.min(file_size))
                .ok_or_else(|| bad("a section is cut short"))?;
            Ok(Section { name, data })
        })
        .collect()
}

/// The text of one section, without trailing zeros and line breaks.
pub fn text<'a>(sections: &[Section<'a>], name: &str) -> Option<&'a str> {
    let data = sections.iter().find(|s| s.name == name)?.data;
    Some(std::str::from_utf8(data).ok()?.trim_end_matches(['\0', '\n']))
}
