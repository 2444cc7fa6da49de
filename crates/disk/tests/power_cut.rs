//! Power cuts while a partition table is written: every state that the disk can be left in holds a whole table.

use std::collections::BTreeMap;
use std::io;

use cairn_disk::gpt::{Arch, CopyState, PartitionType, Size, Table};
use cairn_disk::{BlockDevice, Guid, SectorSize};

/// A disk in memory: the sectors that are not zero, by number.
type Sectors = BTreeMap<u64, Vec<u8>>;

/// A disk that remembers every write since the start, split at flushes.
#[derive(Clone)]
struct Recorder {
    sectors: Sectors,
    size: u64,
    sector: SectorSize,
    /// Per flush: the sectors written before it, in order.
    epochs: Vec<Vec<(u64, Vec<u8>)>>,
}

impl Recorder {
    fn new(sectors: Sectors, size: u64, sector: SectorSize) -> Self {
        Self {
            sectors,
            size,
            sector,
            epochs: vec![Vec::new()],
        }
    }
}

impl BlockDevice for Recorder {
    fn size(&self) -> u64 {
        self.size
    }
    fn sector(&self) -> SectorSize {
        self.sector
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let unit = self.sector.bytes();
        if offset + buf.len() as u64 > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let lbas = offset / unit..(offset + buf.len() as u64).div_ceil(unit);
        let all: Vec<u8> = lbas
            .flat_map(|n| self.sectors.get(&n).cloned().unwrap_or_else(|| vec![0; unit as usize]))
            .collect();
        let skip = (offset % unit) as usize;
        buf.copy_from_slice(&all[skip..skip + buf.len()]);
        Ok(())
    }
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let unit = self.sector.bytes();
        assert_eq!((offset % unit, data.len() as u64 % unit), (0, 0), "only whole sectors");
        assert!(offset + data.len() as u64 <= self.size);
        for (lba, part) in (offset / unit..).zip(data.chunks(unit as usize)) {
            self.epochs.last_mut().unwrap().push((lba, part.to_vec()));
            self.sectors.insert(lba, part.to_vec());
        }
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
fn each_crash(before: &Sectors, epochs: &[Vec<(u64, Vec<u8>)>], see: &mut impl FnMut(&Sectors)) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut base = before.clone();
    for epoch in epochs {
        let apply = |keep: &mut dyn FnMut(usize) -> usize| {
            let mut disk = base.clone();
            for (i, (lba, data)) in epoch.iter().enumerate() {
                let share = data.len() * keep(i) / 2;
                let sector = disk.entry(*lba).or_insert_with(|| vec![0; data.len()]);
                sector[..share].copy_from_slice(&data[..share]);
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

/// The image as shipped, on a disk of `size` bytes.
fn written(table: &Table, size: u64) -> Recorder {
    let mut dev = Recorder::new(Sectors::new(), size, table.sector);
    table.write(&mut dev).unwrap();
    dev
}

/// Writes `new` over `disk` and checks every crash; each must read as one of `allowed`.
fn survives(disk: &Sectors, new: &Table, allowed: &[&Table]) -> Recorder {
    let mut dev = Recorder::new(disk.clone(), LARGE, new.sector);
    new.write(&mut dev).unwrap();
    let (mut states, mut seen) = (0, vec![0; allowed.len()]);
    each_crash(disk, &dev.epochs, &mut |crashed| {
        states += 1;
        let found = Table::read(&Recorder::new(crashed.clone(), LARGE, new.sector));
        let found = found.unwrap_or_else(|e| panic!("state {states}: {e}"));
        let which = allowed.iter().position(|t| **t == found.table);
        seen[which.unwrap_or_else(|| panic!("state {states}: a third table: {found:?}"))] += 1;
    });
    assert!(seen.iter().all(|n| *n > 0), "every outcome occurs: {seen:?}");
    dev
}

#[test]
fn power_cut_at_any_sector_of_first_boot_leaves_the_old_table_or_the_new() {
    for sector in [SectorSize::B512, SectorSize::B4096] {
        let old = shipped(sector, SMALL);
        let mut disk = written(&old, SMALL);
        disk.size = LARGE;
        let found = Table::read(&disk).unwrap();
        assert_eq!((found.backup, &found.table), (CopyState::Misplaced, &old));
        let new = installed(&old, LARGE);
        let found = Table::read(&survives(&disk.sectors, &new, &[&old, &new])).unwrap();
        assert!(!found.needs_repair());
        assert_eq!(found.table, new);
    }
}

#[test]
fn power_cut_while_repairing_a_broken_primary_keeps_the_backup() {
    let old = shipped(SectorSize::B512, LARGE);
    let mut disk = written(&old, LARGE);
    disk.sectors.get_mut(&1).unwrap()[60] ^= 1;
    let found = Table::read(&disk).unwrap();
    assert!(
        matches!(found.primary, CopyState::Bad(_)) && found.backup == CopyState::Good,
        "{found:?}"
    );
    let new = installed(&found.table, LARGE);
    survives(&disk.sectors, &new, &[&old, &new]);
}

#[test]
fn power_cut_during_a_second_attempt_after_a_first_cut_is_survived_too() {
    for sector in [SectorSize::B512, SectorSize::B4096] {
        let old = shipped(sector, LARGE);
        let image = written(&old, LARGE);
        let new = installed(&old, LARGE);
        let mut first = Recorder::new(image.sectors.clone(), LARGE, sector);
        new.write(&mut first).unwrap();
        let mut cuts = Vec::new();
        each_crash(&image.sectors, &first.epochs, &mut |disk| cuts.push(disk.clone()));
        for cut in cuts.iter().step_by(53) {
            let mut second = Recorder::new(cut.clone(), LARGE, sector);
            let found = Table::read(&second).unwrap();
            let again = if found.table == new {
                new.clone()
            } else {
                installed(&found.table, LARGE)
            };
            again.write(&mut second).unwrap();
            each_crash(cut, &second.epochs, &mut |disk| {
                let found = Table::read(&Recorder::new(disk.clone(), LARGE, sector)).unwrap();
                assert!(found.table == old || found.table == new);
            });
        }
    }
}

#[test]
fn writing_what_is_already_there_writes_nothing() {
    let table = shipped(SectorSize::B512, SMALL);
    let mut again = Recorder::new(written(&table, SMALL).sectors, SMALL, table.sector);
    table.write(&mut again).unwrap();
    assert!(again.epochs.iter().all(Vec::is_empty));
}

#[test]
fn any_flipped_bit_in_one_copy_is_found_and_the_other_copy_taken() {
    let table = shipped(SectorSize::B512, SMALL);
    let mut dev = written(&table, SMALL);
    let end = SMALL as usize;
    for at in (512..512 + 92)
        .chain((1024..1024 + 16384).step_by(97))
        .chain(end - 512..end - 512 + 92)
    {
        for bit in [0, 7] {
            let flip = |dev: &mut Recorder| dev.sectors.get_mut(&(at as u64 / 512)).unwrap()[at % 512] ^= 1 << bit;
            flip(&mut dev);
            let found = Table::read(&dev).unwrap_or_else(|e| panic!("byte {at}: {e}"));
            assert_eq!(found.table, table, "byte {at}");
            assert!(found.needs_repair(), "byte {at}");
            flip(&mut dev);
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(7);
    for _ in 0..500 {
        let mut dev = Recorder::new(Sectors::new(), 1 << 20, SectorSize::B512);
        for lba in 0..34 {
            dev.sectors.insert(lba, (0..512).map(|_| random.next() as u8).collect());
        }
        let header = dev.sectors.get_mut(&1).unwrap();
        header[..12].copy_from_slice(b"EFI PART\0\0\x01\0");
        header[12..16].copy_from_slice(&92_u32.to_le_bytes());
        header[16..20].fill(0);
        header[24..32].copy_from_slice(&1_u64.to_le_bytes());
        header[72..80].copy_from_slice(&2_u64.to_le_bytes());
        header[80..84].copy_from_slice(&128_u32.to_le_bytes());
        header[84..88].copy_from_slice(&128_u32.to_le_bytes());
        let array: Vec<u8> = (2..34).flat_map(|lba| dev.sectors[&lba].clone()).collect();
        let header = dev.sectors.get_mut(&1).unwrap();
        header[88..92].copy_from_slice(&crc32fast::hash(&array).to_le_bytes());
        let crc = crc32fast::hash(&header[..92]);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        let error = Table::read(&dev).unwrap_err().to_string();
        assert!(error.contains("primary: bad partition entry"), "{error}");
    }
}
