//! Bringing a release into the free slot.
//!
//! The order is the promise: the free slot's boot entry goes first, so that nothing leads to what is half written; then root and hash tree, flushed, read
//! back past the kernel's memory and compared with the root hash; then the partition table, both copies; and the new boot entry last, under
//! another name until it is whole on the disk. An install that was cut off is begun again: what lies in its place already is not written again.

use std::collections::HashMap;
use std::io::{self, Read};

use cairn_disk::verity::{self, Superblock};
use cairn_disk::{ReadAt, Window};

use crate::chunk::{ChunkId, cut};
use crate::delta::Delta;
use crate::device::Disk;
use crate::entries::{is_signed, root_of};
use crate::error::Error;
use crate::esp::{Entries, HEAD_SECTOR};
use crate::fetch::fetch;
use crate::index::{Chunk, Index};
use crate::plan::Plan;
use crate::slots::Stretch;
use crate::source::Source;

mod made;

/// So many bytes are written between two flushes, so that little waits in memory.
const FLUSH: u64 = 16 << 20;

/// What an install is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Looking at what the running version has in common with the new one.
    Compare,
    /// Writing the root.
    Write,
    /// Reading it back.
    Verify,
    /// Writing the boot entry.
    Boot,
    /// Everything is in place.
    Done,
}

/// How far an install is, in bytes of the new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is at.
    pub phase: Phase,
    /// Done of `total` in this phase.
    pub done: u64,
    /// All of this phase.
    pub total: u64,
    /// Taken from what the appliance had.
    pub reused: u64,
    /// Read from the repository or bundle, as it is stored there.
    pub fetched: u64,
}

/// What an install works with.
pub struct Install<'a, D, E> {
    /// The whole disk.
    pub disk: &'a mut D,
    /// The boot entries.
    pub entries: &'a mut E,
    /// Where chunks come from.
    pub source: &'a dyn Source,
    /// What leads from the running version to the new one, if the publisher made that.
    pub delta: Option<&'a Delta>,
    /// Is told how far it is.
    pub tell: &'a mut dyn FnMut(Progress),
}

/// Where content that is wanted lies already.
#[derive(Clone, Copy)]
enum Seed {
    Root(u64),
    Uki(u64),
}

impl<D: Disk + Sync, E: Entries + Sync> Install<'_, D, E> {
    /// Performs a plan.
    ///
    /// # Errors
    /// The disk's, the ESP's, the source's; the old version and its entry are as they were.
    pub fn run(&mut self, plan: &Plan, index: &Index) -> Result<(), Error> {
        let mut progress = Progress {
            phase: Phase::Compare,
            done: 0,
            total: 0,
            reused: 0,
            fetched: 0,
        };
        let esp = |doing: &'static str| Error::io(doing, "the EFI system partition");
        for file in &plan.remove {
            self.entries.remove(file).map_err(esp("remove a boot entry from"))?;
        }
        let seeds = self.seeds(plan, index, &mut progress)?;
        self.write_root(plan, index, &seeds, &mut progress)?;
        self.write_tree(plan, index, &mut progress)?;
        plan.table.write(&mut *self.disk)?;
        let head = self.write_uki(plan, index, &seeds, &mut progress)?;
        self.entries
            .write_head(&plan.entry.file(), &head)
            .map_err(esp("write the boot entry's start on"))?;
        progress.phase = Phase::Done;
        (self.tell)(progress);
        Ok(())
    }

    /// Cuts what runs, and notes where the chunks lie that the release has too.
    fn seeds(&mut self, plan: &Plan, index: &Index, progress: &mut Progress) -> Result<HashMap<ChunkId, Seed>, Error> {
        let wanted: std::collections::HashSet<ChunkId> = index.chunks.iter().map(|c| c.id).collect();
        let mut seeds = HashMap::new();
        // What does not run may be damaged, and is not read for hours to find out.
        if plan.slots.running.is_none() {
            return Ok(seeds);
        }
        let running = plan.slots.kept;
        let reader = Reads(self.disk);
        let hashes = Window::new(&reader, running.verity.start, running.verity.length);
        // A running root without a readable tree would not run; without one there is only less to reuse.
        let size = Superblock::read(&hashes).map_or(0, |s| s.data_blocks.saturating_mul(verity::BLOCK));
        let size = size.min(running.root.length);
        let uki = plan.own_uki.as_ref().map_or(0, |(_, size)| *size);
        progress.total = size + uki;
        let (mut at, tell) = (0, &mut *self.tell);
        let mut note = |chunk: &[u8], seed: fn(u64) -> Seed, at: u64| {
            let id = ChunkId::of(chunk);
            if wanted.contains(&id) {
                seeds.entry(id).or_insert(seed(at));
            }
            progress.done += chunk.len() as u64;
            tell(*progress);
        };
        let root = Window::new(&reader, running.root.start, size);
        cut(&mut sequential(&root, size), &mut |chunk| {
            note(chunk, Seed::Root, at);
            at += chunk.len() as u64;
            Ok(())
        })
        .map_err(Error::io("read", "the running root"))?;
        if let Some((file, size)) = &plan.own_uki {
            let own = FromEntry(&*self.entries, file);
            at = 0;
            cut(&mut sequential(&own, *size), &mut |chunk| {
                note(chunk, Seed::Uki, at);
                at += chunk.len() as u64;
                Ok(())
            })
            .map_err(Error::io("read", file))?;
        }
        Ok(seeds)
    }

    /// The content of a chunk that lies on this machine, if it still is what it was.
    fn seeded(&self, plan: &Plan, chunk: &Chunk, seeds: &HashMap<ChunkId, Seed>) -> Option<Vec<u8>> {
        let mut content = vec![0; chunk.length as usize];
        let read = match *seeds.get(&chunk.id)? {
            Seed::Root(at) => self.disk.read_at(plan.slots.kept.root.start + at, &mut content),
            Seed::Uki(at) => self.entries.read_at(&plan.own_uki.as_ref()?.0, at, &mut content),
        };
        (read.is_ok() && ChunkId::of(&content) == chunk.id).then_some(content)
    }

    fn write_root(
        &mut self,
        plan: &Plan,
        index: &Index,
        seeds: &HashMap<ChunkId, Seed>,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let slot = plan.slots.free.root;
        (progress.phase, progress.done, progress.total) = (Phase::Write, 0, index.release.root_size);
        let mut writer = Writer { slot, unflushed: 0 };
        let (mut missing, mut places) = (HashMap::new(), HashMap::<ChunkId, Vec<u64>>::new());
        let (mut at, mut there) = (0, Vec::new());
        for chunk in index.root() {
            let offset = at;
            at += u64::from(chunk.length);
            there.resize(chunk.length as usize, 0);
            let lies = self.disk.read_at(slot.start + offset, &mut there).is_ok() && ChunkId::of(&there) == chunk.id;
            if !lies {
                match self.seeded(plan, chunk, seeds) {
                    Some(content) => writer.put(self.disk, offset, &content)?,
                    None => {
                        missing.entry(chunk.id).or_insert(chunk);
                        places.entry(chunk.id).or_default().push(offset);
                        continue;
                    }
                }
            }
            progress.done += u64::from(chunk.length);
            progress.reused += u64::from(chunk.length);
            (self.tell)(*progress);
        }
        let running = plan.slots.running.map(|hash| hash.to_string());
        if let Some(delta) = self.delta.filter(|delta| Some(&delta.from) == running.as_ref()) {
            self.make(delta, plan, &mut writer, (&mut missing, &mut places), progress)?;
        }
        let (disk, tell) = (&mut *self.disk, &mut *self.tell);
        fetch(self.source, &index.release.packs, &missing, &mut |chunk, content| {
            for offset in places.get(&chunk.id).into_iter().flatten() {
                writer.put(disk, *offset, content)?;
                progress.done += content.len() as u64;
            }
            progress.fetched += u64::from(chunk.stored);
            tell(*progress);
            Ok(())
        })?;
        self.disk.flush().map_err(Error::io("flush", "the free slot"))
    }

    /// Builds the hash tree from what the disk gives back, which proves the root; writes it, and reads that back too.
    fn write_tree(&mut self, plan: &Plan, index: &Index, progress: &mut Progress) -> Result<(), Error> {
        let (root, slot, size) = (plan.slots.free.root, plan.slots.free.verity, index.release.root_size);
        (progress.phase, progress.done, progress.total) = (Phase::Verify, 0, size);
        (self.tell)(*progress);
        let fresh = self.disk.uncached().map_err(Error::io("read back", "the free slot"))?;
        let tree = verity::build(
            &Window::new(&*fresh, root.start, root.length),
            size,
            &plan.salt,
            plan.uuid,
            2,
        )?;
        if tree.root != plan.hash {
            return Err(Error::Wrong(format!(
                "what was written does not read back as it should (root hash {}, expected {}): the disk may be failing; the running \
                 version is untouched",
                tree.root, plan.hash
            )));
        }
        let mut bytes = Vec::with_capacity(tree.size() as usize);
        tree.write(&mut bytes).map_err(Error::io("make", "the hash tree"))?;
        drop(tree);
        let mut writer = Writer { slot, unflushed: 0 };
        for (number, piece) in bytes.chunks(1 << 20).enumerate() {
            writer.put(self.disk, (number as u64) << 20, piece)?;
        }
        self.disk.flush().map_err(Error::io("flush", "the free slot"))?;
        let fresh = self.disk.uncached().map_err(Error::io("read back", "the free slot"))?;
        let mut there = vec![0; 1 << 20];
        for (number, piece) in bytes.chunks(1 << 20).enumerate() {
            let there = &mut there[..piece.len()];
            let read = fresh.fill_at(there, slot.start + ((number as u64) << 20));
            read.map_err(Error::io("read back", "the hash tree"))?;
            if there != piece {
                return Err(Error::Wrong(
                    "the hash tree does not read back as it was written: the disk may be failing; the running version \
                                         is untouched"
                        .into(),
                ));
            }
        }
        progress.done = size;
        (self.tell)(*progress);
        Ok(())
    }

    /// All of the UKI but its first sector, which is given back: with it the file becomes a boot entry.
    fn write_uki(
        &mut self,
        plan: &Plan,
        index: &Index,
        seeds: &HashMap<ChunkId, Seed>,
        progress: &mut Progress,
    ) -> Result<[u8; HEAD_SECTOR], Error> {
        let file = plan.entry.file();
        let mut start = [0; HEAD_SECTOR];
        let failed = |doing: &'static str| Error::io(doing, "the boot entry on the EFI system partition");
        (progress.phase, progress.done, progress.total) = (Phase::Boot, 0, index.release.uki_size);
        let mut at = 0;
        for chunk in index.uki() {
            let mut content = self.seeded(plan, chunk, seeds);
            progress.reused += content.as_ref().map_or(0, |c| c.len() as u64);
            if content.is_none() {
                let wanted = HashMap::from([(chunk.id, chunk)]);
                fetch(self.source, &index.release.packs, &wanted, &mut |_, got| {
                    content = Some(got.to_vec());
                    Ok(())
                })?;
                progress.fetched += u64::from(chunk.stored);
            }
            let mut content = content.unwrap_or_default();
            if at == 0 {
                let Some(own) = content.first_chunk_mut() else {
                    return Err(Error::Wrong(
                        "the release's boot entry is no program; ask the publisher".into(),
                    ));
                };
                std::mem::swap(own, &mut start);
            }
            self.entries.write_at(&file, at, &content).map_err(failed("write"))?;
            at += u64::from(chunk.length);
            progress.done = at;
            (self.tell)(*progress);
        }
        self.entries.settle(&file).map_err(failed("flush"))?;
        let (mut at, mut head) = (0, Vec::new());
        for chunk in index.uki() {
            let mut there = vec![0; chunk.length as usize];
            self.entries
                .read_at(&file, at, &mut there)
                .map_err(failed("read back"))?;
            if let Some(own) = there.first_chunk_mut().filter(|_| at == 0) {
                *own = start;
            }
            at += u64::from(chunk.length);
            if ChunkId::of(&there) != chunk.id {
                return Err(Error::Wrong(
                    "the boot entry does not read back as it was written: the disk may be failing".into(),
                ));
            }
            if head.len() < 4 << 20 {
                head.extend(there);
            }
        }
        match root_of(&head) {
            Some(root) if root == plan.hash && plan.signed && !is_signed(&head) => Err(Error::Refused(format!(
                "the boot entry of version {} is not signed, and this machine starts only what is (Secure Boot); ask the publisher for a signed one",
                plan.version
            ))),
            Some(root) if root == plan.hash => Ok(start),
            _ => Err(Error::Wrong(
                "the release's boot entry does not belong to its root; ask the publisher".into(),
            )),
        }
    }
}

/// Writes within one stretch of the disk, and nowhere else.
struct Writer {
    slot: Stretch,
    unflushed: u64,
}

impl Writer {
    fn put(&mut self, disk: &mut impl Disk, offset: u64, content: &[u8]) -> Result<(), Error> {
        let failed = |doing: &'static str| Error::io(doing, "the free slot");
        let fits = offset
            .checked_add(content.len() as u64)
            .is_some_and(|end| end <= self.slot.length);
        if !fits {
            return Err(failed("write past")(io::Error::from(io::ErrorKind::InvalidInput)));
        }
        disk.write_at(self.slot.start + offset, content)
            .map_err(failed("write"))?;
        self.unflushed += content.len() as u64;
        if self.unflushed >= FLUSH {
            self.unflushed = 0;
            disk.flush().map_err(failed("flush"))?;
        }
        Ok(())
    }
}

/// A disk as something that is read by position.
struct Reads<'a, D>(&'a D);

impl<D: Disk + Sync> ReadAt for Reads<'_, D> {
    fn fill_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }
}

/// A boot entry likewise.
struct FromEntry<'a, E>(&'a E, &'a str);

impl<E: Entries + Sync> ReadAt for FromEntry<'_, E> {
    fn fill_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(self.1, offset, buf)
    }
}

/// The same from its start to its end, in large pieces.
fn sequential<'a, R: ReadAt + ?Sized>(from: &'a R, size: u64) -> impl Read + 'a {
    struct Sequential<'a, R: ?Sized>(&'a R, u64, u64);
    impl<R: ReadAt + ?Sized> Read for Sequential<'_, R> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = into.len().min(usize::try_from(self.2 - self.1).unwrap_or(usize::MAX));
            self.0.fill_at(&mut into[..length], self.1)?;
            self.1 += length as u64;
            Ok(length)
        }
    }
    io::BufReader::with_capacity(1 << 20, Sequential(from, 0, size))
}
