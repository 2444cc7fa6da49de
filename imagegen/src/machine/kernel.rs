//! The kernel of a direct boot, unpacked: QEMU can start an x86 ELF through its PVH entry, and then nothing is unpacked inside the
//! machine. Emulated, that is two seconds of a boot.

use std::io::Read;

/// More than any kernel; what claims to be larger is left packed.
const LARGEST: u32 = 512 << 20;

/// `XEN_ELFNOTE_PHYS32_ENTRY` (xen/include/public/elfnote.h): the 32-bit entry that PVH boots use.
const PVH_ENTRY: u32 = 18;

/// The ELF inside a bzImage (Documentation/arch/x86/boot.rst), if QEMU can start it; otherwise the image is to be used as it is.
pub(super) fn unpack(image: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?));
    let version = u16::from_le_bytes(image.get(0x206..0x208)?.try_into().ok()?);
    if image.get(0x202..0x206)? != b"HdrS" || version < 0x0208 {
        return None;
    }
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        n => usize::from(n),
    };
    let start = (sectors + 1) * 512 + word(0x248)? as usize;
    let payload = image.get(start..start.checked_add(word(0x24c)? as usize)?)?;
    // The unpacked length stands behind the packed bytes.
    let (payload, length) = payload.split_last_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    if length > LARGEST {
        return None;
    }
    let mut elf = Vec::new();
    let read = if payload.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        zstd::Decoder::new(payload)
            .ok()?
            .take(length.into())
            .read_to_end(&mut elf)
    } else if payload.starts_with(b"\xfd7zXZ\0") {
        liblzma::read::XzDecoder::new(payload)
            .take(length.into())
            .read_to_end(&mut elf)
    } else {
        return None;
    };
    (read.ok()? == length as usize && has_pvh_entry(&elf)?).then_some(elf)
}

/// Whether one of the notes of a 64-bit little-endian ELF is Xen's entry for PVH (elf(5)).
fn has_pvh_entry(elf: &[u8]) -> Option<bool> {
    let bytes = |at: usize, n: usize| elf.get(at..at.checked_add(n)?);
    let half = |at: usize| Some(u16::from_le_bytes(bytes(at, 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_le_bytes(bytes(at, 4)?.try_into().ok()?));
    let long = |at: usize| usize::try_from(u64::from_le_bytes(bytes(at, 8)?.try_into().ok()?)).ok();
    if bytes(0, 6)? != b"\x7fELF\x02\x01" {
        return Some(false);
    }
    let (table, size, count) = (long(0x20)?, half(0x36)?, half(0x38)?);
    for n in 0..usize::from(count) {
        let header = table.checked_add(n * usize::from(size))?;
        // PT_NOTE
        if word(header)? != 4 {
            continue;
        }
        let (mut at, end) = (long(header + 8)?, long(header + 8)?.checked_add(long(header + 32)?)?);
        while at.checked_add(12)? <= end {
            let (name, contents) = (word(at)? as usize, word(at + 4)? as usize);
            if word(at + 8)? == PVH_ENTRY && bytes(at + 12, name)? == b"Xen\0" {
                return Some(true);
            }
            at = at + 12 + name.next_multiple_of(4) + contents.next_multiple_of(4);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF with one note, in a bzImage.
    fn image(note: u32) -> (Vec<u8>, Vec<u8>) {
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[0x20] = 64;
        elf[0x36] = 56;
        elf[0x38] = 1;
        let mut header = vec![0; 56];
        header[0] = 4;
        header[8] = 120;
        header[32] = 20;
        elf.extend(header);
        elf.extend([4, 0, 0, 0, 4, 0, 0, 0]);
        elf.extend(note.to_le_bytes());
        elf.extend(b"Xen\0\x01\x02\x03\x04");
        let packed = zstd::encode_all(&elf[..], 3).unwrap();
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(packed.len() as u32 + 4).to_le_bytes());
        image.extend(packed);
        image.extend((elf.len() as u32).to_le_bytes());
        (image, elf)
    }

    #[test]
    fn a_kernel_with_a_pvh_entry_is_unpacked() {
        let (image, elf) = image(PVH_ENTRY);
        assert_eq!(unpack(&image), Some(elf));
    }

    #[test]
    fn a_kernel_that_qemu_cannot_start_unpacked_stays_packed() {
        assert_eq!(unpack(&image(PVH_ENTRY + 1).0), None);
        let (mut old, _) = image(PVH_ENTRY);
        old[0x206] = 7;
        assert_eq!(unpack(&old), None);
        assert_eq!(unpack(b"MZ"), None);
    }

    #[test]
    fn a_damaged_kernel_stays_packed() {
        let (whole, _) = image(PVH_ENTRY);
        for cut in 0..whole.len() {
            assert_eq!(unpack(&whole[..cut]), None);
        }
        for at in 1024..whole.len() {
            let mut image = whole.clone();
            image[at] ^= 0x55;
            // Whatever comes out, it is no panic and no more than was promised.
            assert!(unpack(&image).is_none_or(|elf| elf.len() <= LARGEST as usize));
        }
    }
}
