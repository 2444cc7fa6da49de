//! Power cuts while a partition table is written: every state that the disk can be left in holds a whole table.

use std::io;

use cairn_disk::gpt::{Arch, CopyState, PartitionType, Size, Table};
use cairn_disk::{BlockDevice, Guid, SectorSize};

/// A disk in memory that remembers every write since the start, split at flushes.
#[derive(Clone)]
struct Recorder {
    bytes: Vec<u8>,
    sector: SectorSize,
    /// Per flush: the sectors written before it, in order.
    epochs: Vec<Vec<(usize, Vec<u8>)>>,
}

impl Recorder {
    fn new(bytes: Vec<u8>, sector: SectorSize) -> Self {
        Self {
            bytes,
            sector,
            epochs: vec![Vec::new()],
        }
    }
}

impl BlockDevice for Recorder {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn sector(&self) -> SectorSize {
        self.sector
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let from = self.bytes.get(offset as usize..offset as usize + buf.len());
        buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let size = self.sector.bytes() as usize;
        assert_eq!(
            (offset as usize % size, data.len() % size),
            (0, 0),
            "only whole sectors"
        );
        for (i, part) in data.chunks(size).enumerate() {
            self.epochs
                .last_mut()
                .unwrap()
                .push((offset as usize + i * size, part.to_vec()));
        }
        self.bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.epochs.push(Vec::new());
        Ok(())
    }
}

/// A small generator, so that a failure comes back with the same seed.
struct Random(u64);
impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Calls `see` with every state that a cut can leave: within the last unflushed stretch each prefix, each single
/// missing or half-written sector, and many random subsets (the disk may reorder freely between flushes).
fn each_crash(before: &[u8], epochs: &[Vec<(usize, Vec<u8>)>], see: &mut impl FnMut(&[u8])) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut base = before.to_vec();
    for epoch in epochs {
        let apply = |keep: &mut dyn FnMut(usize) -> usize| {
            let mut disk = base.clone();
            for (i, (at, data)) in epoch.iter().enumerate() {
                let share = data.len() * keep(i) / 2;
                disk[*at..at + share].copy_from_slice(&data[..share]);
            }
            disk
        };
        for n in 0..=epoch.len() {
            see(&apply(&mut |i| if i < n { 2 } else { 0 }));
            see(&apply(&mut |i| if i == n { 0 } else { 2 }));
            see(&apply(&mut |i| if i == n { 1 } else { 2 }));
            see(&apply(&mut |i| if i == n { 1 } else { 0 }));
        }
        for _ in 0..60 {
            see(&apply(&mut |_| (random.next() >> 33) as usize % 3));
        }
        base = apply(&mut |_| 2);
    }
}

fn id(n: u128) -> Guid {
    Guid::from_u128(0x1000 + n)
}

fn shipped(sector: SectorSize, bytes: u64) -> Table {
    let mut table = Table::new(sector, bytes, id(0)).unwrap();
    table
        .add(PartitionType::Esp, id(1), "esp", Size::Bytes(1 << 20))
        .unwrap();
    table
        .add(
            PartitionType::RootVerity(Arch::X86_64),
            id(2),
            "verity A",
            Size::Bytes(1 << 20),
        )
        .unwrap();
    table
        .add(PartitionType::Root(Arch::X86_64), id(3), "root A", Size::Bytes(2 << 20))
        .unwrap();
    table
}

/// What a first boot makes of the shipped table on a larger disk.
fn installed(old: &Table, bytes: u64) -> Table {
    let mut new = old.clone();
    new.fit_disk(bytes).unwrap();
    new.grow(3, 3 << 20).unwrap();
    new.add(
        PartitionType::RootVerity(Arch::X86_64),
        id(4),
        "verity B",
        Size::Bytes(1 << 20),
    )
    .unwrap();
    new.add(PartitionType::LinuxGeneric, id(5), "data", Size::Rest).unwrap();
    new
}

const SMALL: u64 = 7 << 20;
const LARGE: u64 = 12 << 20;

/// Writes `new` over `disk` and checks every crash; each must read as one of `allowed`.
fn survives(disk: &[u8], sector: SectorSize, new: &Table, allowed: &[&Table]) -> Vec<u8> {
    let mut dev = Recorder::new(disk.to_vec(), sector);
    new.write(&mut dev).unwrap();
    let (mut states, mut seen) = (0, vec![0; allowed.len()]);
    each_crash(disk, &dev.epochs, &mut |crashed| {
        states += 1;
        let crashed = Recorder::new(crashed.to_vec(), sector);
        let found = Table::read(&crashed).unwrap_or_else(|e| panic!("state {states}: {e}"));
        let which = allowed.iter().position(|t| **t == found.table);
        seen[which.unwrap_or_else(|| panic!("state {states}: a third table: {found:?}"))] += 1;
    });
    assert!(seen.iter().all(|n| *n > 0), "every outcome occurs: {seen:?}");
    dev.bytes
}

#[test]
fn power_cut_at_any_sector_of_first_boot_leaves_the_old_table_or_the_new() {
    for sector in [SectorSize::B512, SectorSize::B4096] {
        let old = shipped(sector, SMALL);
        let mut image = Recorder::new(vec![0; SMALL as usize], sector);
        old.write(&mut image).unwrap();
        let mut disk = image.bytes;
        disk.resize(LARGE as usize, 0);
        let found = Table::read(&Recorder::new(disk.clone(), sector)).unwrap();
        assert_eq!((found.backup, &found.table), (CopyState::Misplaced, &old));
        let new = installed(&old, LARGE);
        let done = survives(&disk, sector, &new, &[&old, &new]);
        let found = Table::read(&Recorder::new(done, sector)).unwrap();
        assert!(!found.needs_repair());
        assert_eq!(found.table, new);
    }
}

#[test]
fn power_cut_while_repairing_a_broken_primary_keeps_the_backup() {
    let sector = SectorSize::B512;
    let old = shipped(sector, LARGE);
    let mut image = Recorder::new(vec![0; LARGE as usize], sector);
    old.write(&mut image).unwrap();
    image.bytes[512 + 60] ^= 1;
    let found = Table::read(&image).unwrap();
    assert!(
        matches!(found.primary, CopyState::Bad(_)) && found.backup == CopyState::Good,
        "{found:?}"
    );
    let new = installed(&found.table, LARGE);
    survives(&image.bytes, sector, &new, &[&old, &new]);
}

#[test]
fn power_cut_during_a_second_attempt_after_a_first_cut_is_survived_too() {
    let sector = SectorSize::B4096;
    let old = shipped(sector, LARGE);
    let mut image = Recorder::new(vec![0; LARGE as usize], sector);
    old.write(&mut image).unwrap();
    let new = installed(&old, LARGE);
    let mut first = Recorder::new(image.bytes.clone(), sector);
    new.write(&mut first).unwrap();
    let mut cuts = Vec::new();
    each_crash(&image.bytes, &first.epochs, &mut |disk| cuts.push(disk.to_vec()));
    for cut in cuts.iter().step_by(23) {
        let found = Table::read(&Recorder::new(cut.clone(), sector)).unwrap();
        let again = if found.table == new {
            new.clone()
        } else {
            installed(&found.table, LARGE)
        };
        let mut second = Recorder::new(cut.clone(), sector);
        again.write(&mut second).unwrap();
        each_crash(cut, &second.epochs, &mut |disk| {
            let found = Table::read(&Recorder::new(disk.to_vec(), sector)).unwrap();
            assert!(found.table == old || found.table == new);
        });
    }
}

#[test]
fn writing_what_is_already_there_writes_nothing() {
    let sector = SectorSize::B512;
    let table = shipped(sector, SMALL);
    let mut dev = Recorder::new(vec![0; SMALL as usize], sector);
    table.write(&mut dev).unwrap();
    let mut again = Recorder::new(dev.bytes, sector);
    table.write(&mut again).unwrap();
    assert!(again.epochs.iter().all(Vec::is_empty));
}

#[test]
fn any_flipped_bit_in_one_copy_is_found_and_the_other_copy_taken() {
    let sector = SectorSize::B512;
    let table = shipped(sector, SMALL);
    let mut dev = Recorder::new(vec![0; SMALL as usize], sector);
    table.write(&mut dev).unwrap();
    let end = SMALL as usize;
    for at in (512..512 + 92)
        .chain((1024..1024 + 16384).step_by(97))
        .chain(end - 512..end - 512 + 92)
    {
        for bit in [0, 7] {
            dev.bytes[at] ^= 1 << bit;
            let found = Table::read(&dev).unwrap_or_else(|e| panic!("byte {at}: {e}"));
            assert_eq!(found.table, table, "byte {at}");
            assert!(found.needs_repair(), "byte {at}");
            dev.bytes[at] ^= 1 << bit;
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let sector = SectorSize::B512;
    let mut dev = Recorder::new(vec![0; 1 << 20], sector);
    let mut random = Random(7);
    for _ in 0..200 {
        for byte in &mut dev.bytes[..34 * 512] {
            *byte = random.next() as u8;
        }
        dev.bytes[512..520].copy_from_slice(b"EFI PART");
        dev.bytes[524..528].copy_from_slice(&92_u32.to_le_bytes());
        dev.bytes[528..532].fill(0);
        let crc = crc32fast::hash(&dev.bytes[512..512 + 92]);
        dev.bytes[528..532].copy_from_slice(&crc.to_le_bytes());
        assert!(Table::read(&dev).is_err());
    }
}
