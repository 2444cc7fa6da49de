//! qcow2, version 3 (QEMU, docs/interop/qcow2.rst): clusters of 64 KiB, compressed with zstd where that helps.
//!
//! Data comes first and the tables after it, so that everything but the header is written once, in order.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Source;

pub(super) const MAGIC: &[u8] = b"QFI\xfb";
const BITS: u32 = 16;
const CLUSTER: u64 = 1 << BITS;
const PER_L2: u64 = CLUSTER / 8;
const PER_REFCOUNT_BLOCK: u64 = CLUSTER / 2;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// In a compressed entry, the number of further sectors stands from this bit on.
const SECTORS_SHIFT: u32 = 62 - (BITS - 8);
/// Compressed data is packed; what saves less than an eighth is stored as it is.
const WORTH: usize = (CLUSTER - CLUSTER / 8) as usize;
const LEVEL: i32 = 3;

enum Cluster {
    Plain(Vec<u8>),
    Compressed(Vec<u8>),
}

/// Where the next byte goes, and how often each cluster of the file is referred to.
#[derive(Default)]
struct Allocator {
    refcounts: Vec<u16>,
    /// Where compressed data may go on: position and end of the open stretch.
    open: (u64, u64),
}

impl Allocator {
    fn end(&self) -> u64 {
        self.refcounts.len() as u64 * CLUSTER
    }

    fn clusters(&mut self, count: u64) -> u64 {
        let at = self.end();
        self.refcounts.resize(self.refcounts.len() + count as usize, 1);
        at
    }

    /// A place for compressed bytes: behind the last ones, over into a new cluster if that one is adjacent.
    fn packed(&mut self, length: u64) -> u64 {
        if self.open.0 + length > self.open.1 {
            let fresh = self.end();
            if self.open.1 != fresh {
                self.open.0 = fresh;
            }
            self.refcounts.push(0);
            self.open.1 = fresh + CLUSTER;
        }
        let at = self.open.0;
        self.open.0 += length;
        // QEMU counts a reference to each cluster that the data's sectors touch.
        for cluster in at / CLUSTER..=(at + length - 1) / CLUSTER {
            self.refcounts[cluster as usize] += 1;
        }
        at
    }
}

fn table(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|e| e.to_be_bytes()).collect()
}

pub(super) fn write(source: &Source<'_>, to: &File) -> io::Result<()> {
    let clusters = source.size.div_ceil(CLUSTER);
    let l1_size = clusters.div_ceil(PER_L2).max(1);
    let mut l2 = vec![0_u64; (l1_size * PER_L2) as usize];
    let mut space = Allocator::default();
    space.clusters(1); // the header
    let compress = |bytes: Vec<u8>| {
        let small = zstd::bulk::compress(&bytes, LEVEL)?;
        Ok(if small.len() <= WORTH {
            Cluster::Compressed(small)
        } else {
            Cluster::Plain(bytes)
        })
    };
    source.each(CLUSTER, compress, |number, cluster| {
        l2[number as usize] = match cluster {
            Cluster::Plain(bytes) => {
                let at = space.clusters(1);
                to.write_all_at(&bytes, at)?;
                at | COPIED
            }
            Cluster::Compressed(bytes) => {
                let at = space.packed(bytes.len() as u64);
                to.write_all_at(&bytes, at)?;
                let further = (at + bytes.len() as u64 - 1) / 512 - at / 512;
                at | further << SECTORS_SHIFT | COMPRESSED
            }
        };
        Ok(())
    })?;
    let mut l1 = vec![0; l1_size as usize];
    for (entry, part) in l1.iter_mut().zip(l2.chunks(PER_L2 as usize)) {
        if part.iter().any(|e| *e != 0) {
            let at = space.clusters(1);
            to.write_all_at(&table(part), at)?;
            *entry = at | COPIED;
        }
    }
    let l1_at = space.clusters((l1_size * 8).div_ceil(CLUSTER));
    to.write_all_at(&table(&l1), l1_at)?;
    // The refcount structures count themselves: add until they cover everything.
    let used = space.refcounts.len() as u64;
    let (mut blocks, mut tables) = (0, 0);
    loop {
        let needed = (used + blocks + tables).div_ceil(PER_REFCOUNT_BLOCK);
        let needed_tables = (needed * 8).div_ceil(CLUSTER);
        if (needed, needed_tables) == (blocks, tables) {
            break;
        }
        (blocks, tables) = (needed, needed_tables);
    }
    let blocks_at = space.clusters(blocks);
    let tables_at = space.clusters(tables);
    let counts: Vec<u8> = space.refcounts.iter().flat_map(|c| c.to_be_bytes()).collect();
    to.write_all_at(&counts, blocks_at)?;
    let places: Vec<u64> = (0..blocks).map(|n| blocks_at + n * CLUSTER).collect();
    to.write_all_at(&table(&places), tables_at)?;
    to.set_len(space.end())?;
    to.write_all_at(&header(source.size, l1_size as u32, l1_at, tables_at, tables as u32), 0)
}

fn header(size: u64, l1_size: u32, l1_at: u64, tables_at: u64, tables: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(112 + 8);
    bytes.extend(MAGIC);
    bytes.extend(3_u32.to_be_bytes());
    bytes.extend([0; 12]); // no backing file
    bytes.extend(BITS.to_be_bytes());
    bytes.extend(size.to_be_bytes());
    bytes.extend(0_u32.to_be_bytes()); // no encryption
    bytes.extend(l1_size.to_be_bytes());
    bytes.extend(l1_at.to_be_bytes());
    bytes.extend(tables_at.to_be_bytes());
    bytes.extend(tables.to_be_bytes());
    bytes.extend([0; 12]); // no snapshots
    bytes.extend((1_u64 << 3).to_be_bytes()); // incompatible: the compression type below is not zlib
    bytes.extend([0; 16]); // compatible, autoclear
    bytes.extend(4_u32.to_be_bytes()); // refcounts of 2^4 bits
    bytes.extend(112_u32.to_be_bytes()); // this header's length
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]); // zstd
    bytes.extend([0; 8]); // end of extensions
    bytes
}
