//! VMDK, `streamOptimized` (VMware, "Virtual Disk Format 5.0"): grains of 64 KiB, each deflated, tables after them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use cairn_disk::Guid;
use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::Source;

pub(super) const MAGIC: &[u8] = b"KDMV";
const SECTOR: u64 = 512;
const GRAIN: u64 = 64 << 10;
const PER_TABLE: u64 = 512;
/// Where the grains start, in sectors: after the header and the descriptor.
const OVERHEAD: u64 = 128;
const DESCRIPTOR: u64 = 20;
/// The directory's place is told in the footer only.
const AT_END: u64 = u64::MAX;
/// Valid line-end bytes, compressed grains, markers.
const FLAGS: u32 = 1 | 1 << 16 | 1 << 17;

/// Kinds of metadata markers.
#[derive(Clone, Copy)]
enum Marker {
    EndOfStream = 0,
    Table = 1,
    Directory = 2,
    Footer = 3,
}

/// Writes in whole sectors and knows where it is.
struct Out<'a> {
    file: BufWriter<&'a File>,
    sector: u64,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let at = self.sector;
        let padded = (bytes.len() as u64).next_multiple_of(SECTOR);
        self.file.write_all(bytes)?;
        self.file
            .write_all(&[0; SECTOR as usize][..(padded - bytes.len() as u64) as usize])?;
        self.sector += padded / SECTOR;
        Ok(at)
    }

    fn marker(&mut self, sectors: u64, kind: Marker) -> io::Result<u64> {
        let mut bytes = sectors.to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend((kind as u32).to_le_bytes());
        self.put(&bytes)
    }
}

fn deflate(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(GRAIN as usize / 2), Compression::new(6));
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn le32(entries: &[u32]) -> Vec<u8> {
    entries.iter().flat_map(|e| e.to_le_bytes()).collect()
}

pub(super) fn write(source: &Source<'_>, to: &File, identity: Guid, path: &Path) -> io::Result<()> {
    let sectors = source.size.div_ceil(SECTOR);
    let grains = source.size.div_ceil(GRAIN);
    let mut out = Out {
        file: BufWriter::with_capacity(1 << 20, to),
        sector: 0,
    };
    out.put(&header(sectors, AT_END))?;
    let descriptor = descriptor(sectors, identity, path);
    if descriptor.len() as u64 > DESCRIPTOR * SECTOR {
        return Err(io::Error::other("the file name is too long for a VMDK descriptor"));
    }
    out.put(descriptor.as_bytes())?;
    while out.sector < OVERHEAD {
        out.put(&[0; SECTOR as usize])?;
    }
    let mut places = vec![0_u32; grains.next_multiple_of(PER_TABLE) as usize];
    source.each(
        GRAIN,
        |bytes| deflate(&bytes),
        |number, small| {
            let mut grain = (number * (GRAIN / SECTOR)).to_le_bytes().to_vec();
            grain.extend((small.len() as u32).to_le_bytes());
            grain.extend(small);
            let at = out.put(&grain)?;
            places[number as usize] =
                u32::try_from(at).map_err(|_| io::Error::other("a VMDK cannot be larger than 2 TiB"))?;
            Ok(())
        },
    )?;
    let mut directory = Vec::new();
    for table in places.chunks(PER_TABLE as usize) {
        if table.iter().all(|e| *e == 0) {
            directory.push(0);
            continue;
        }
        out.marker(PER_TABLE * 4 / SECTOR, Marker::Table)?;
        directory.push(out.put(&le32(table))? as u32);
    }
    let directory = le32(&directory);
    out.marker((directory.len() as u64).div_ceil(SECTOR), Marker::Directory)?;
    let directory_at = out.put(&directory)?;
    out.marker(1, Marker::Footer)?;
    out.put(&header(sectors, directory_at))?;
    out.marker(0, Marker::EndOfStream)?;
    out.file.flush()
}

fn header(capacity: u64, directory: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(FLAGS.to_le_bytes());
    for field in [capacity, GRAIN / SECTOR, 1, DESCRIPTOR] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend((PER_TABLE as u32).to_le_bytes());
    for field in [0, directory, OVERHEAD] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(b"\0\n \r\n"); // clean shutdown; bytes that a text transfer would change
    bytes.extend(1_u16.to_le_bytes()); // deflate
    bytes
}

fn descriptor(sectors: u64, identity: Guid, path: &Path) -> String {
    let id = identity.bytes();
    let content = u32::from_be_bytes([id[0], id[1], id[2], id[3]]);
    // All ones means "no parent", all but the last bit is reserved too.
    let content = content.min(0xffff_fff0);
    let name: String = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .replace(['"', '\n'], "_");
    let cylinders = (sectors / (16 * 63)).clamp(1, 16383);
    let uuid: Vec<String> = id.iter().map(|b| format!("{b:02x}")).collect();
    let uuid = format!("{}-{}", uuid[..8].join(" "), uuid[8..].join(" "));
    format!(
        "# Disk DescriptorFile\nversion=1\nCID={content:08x}\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n\
         # Extent description\nRW {sectors} SPARSE \"{name}\"\n\n\
         # The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"16\"\nddb.geometry.sectors = \"63\"\nddb.uuid = \"{uuid}\"\n\
         ddb.virtualHWVersion = \"13\"\n"
    )
}
