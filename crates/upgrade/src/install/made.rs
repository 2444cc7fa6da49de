//! What is missing of the new root, made from the running one as far as a delta knows how.

use std::collections::{BTreeMap, HashMap};

use cairn_disk::Window;

use super::{Install, Progress, Reads, Writer};
use crate::chunk::ChunkId;
use crate::delta::Delta;
use crate::device::Disk;
use crate::error::Error;
use crate::esp::Entries;
use crate::fetch::fetch;
use crate::index::Chunk;
use crate::plan::Plan;
use crate::units::Unit;

/// The chunks that are missing, and where each belongs.
type Missing<'m, 'c> = (&'m mut HashMap<ChunkId, &'c Chunk>, &'m mut HashMap<ChunkId, Vec<u64>>);

/// The stretches of the new root that are missing.
struct Gaps(BTreeMap<u64, u64>);

impl Gaps {
    fn of(missing: &Missing<'_, '_>) -> Self {
        let mut all = BTreeMap::new();
        for (id, offsets) in missing.1.iter() {
            let length = missing.0.get(id).map_or(0, |chunk| u64::from(chunk.length));
            all.extend(offsets.iter().map(|offset| (*offset, offset + length)));
        }
        Self(all)
    }

    /// What of a unit is missing: from where to where in the root.
    fn parts(&self, unit: &Unit) -> impl Iterator<Item = (u64, u64)> {
        let (start, end) = (unit.start(), unit.start() + unit.stored() as u64);
        let below = self.0.range(..end).rev().take_while(move |(_, over)| **over > start);
        below.map(move |(from, over)| (start.max(*from), end.min(*over)))
    }

    fn touch(&self, unit: &Unit) -> bool {
        self.parts(unit).next().is_some()
    }
}

impl<D: Disk + Sync, E: Entries + Sync> Install<'_, D, E> {
    /// Writes what the delta makes into the gaps, and nowhere else; what came out right is not missing any more. That the delta is wrong, or
    /// cannot be got, costs time: then everything is fetched.
    pub(super) fn make(
        &mut self,
        delta: &Delta,
        plan: &Plan,
        writer: &mut Writer,
        mut missing: Missing<'_, '_>,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let gaps = Gaps::of(&missing);
        let (mut groups, mut frames) = (HashMap::new(), Vec::new());
        for group in &delta.groups {
            if group.made.iter().any(|unit| gaps.touch(unit)) {
                let frame = group.chunk()?;
                groups.insert(frame.id, group);
                frames.push(frame);
            }
        }
        let frames = frames.iter().map(|frame| (frame.id, frame)).collect();
        let running = plan.slots.kept.root;
        let (disk, tell) = (&mut *self.disk, &mut *self.tell);
        let mut broken = None;
        let packs = std::slice::from_ref(&delta.pack);
        let got = fetch(self.source, packs, &frames, &mut |frame, bytes| {
            progress.fetched += u64::from(frame.stored);
            let Some(group) = groups.get(&frame.id) else {
                return Ok(());
            };
            let mut made = Vec::new();
            let reader = Reads(&*disk);
            let old = Window::new(&reader, running.start, running.length);
            // What does not come out is missing still.
            let _ = group.make(&old, bytes, &mut |unit, blocks| {
                for (from, over) in gaps.parts(unit) {
                    let part = &blocks[(from - unit.start()) as usize..(over - unit.start()) as usize];
                    made.push((from, part.to_vec()));
                }
                Ok(())
            });
            for (at, blocks) in made {
                if let Err(error) = writer.put(disk, at, &blocks) {
                    broken = Some(error);
                    return Err(Error::Delta("it cannot be written"));
                }
            }
            tell(*progress);
            Ok(())
        });
        if let Some(error) = broken {
            return Err(error);
        }
        if let Err(error) = got {
            eprintln!("cairn-upgrade: without the rest of the delta: {error}");
        }
        self.strike(plan, &mut missing, progress);
        (self.tell)(*progress);
        Ok(())
    }

    /// Strikes out what lies in its place now.
    fn strike(&self, plan: &Plan, (missing, places): &mut Missing<'_, '_>, progress: &mut Progress) {
        let slot = plan.slots.free.root;
        let mut there = Vec::new();
        places.retain(|id, offsets| {
            let Some(chunk) = missing.get(id) else {
                return false;
            };
            there.resize(chunk.length as usize, 0);
            offsets.retain(|offset| {
                let right = self.disk.read_at(slot.start + offset, &mut there).is_ok() && ChunkId::of(&there) == *id;
                if right {
                    progress.done += u64::from(chunk.length);
                    progress.reused += u64::from(chunk.length);
                }
                !right
            });
            if offsets.is_empty() {
                missing.remove(id);
            }
            !offsets.is_empty()
        });
    }
}
