//! Makes a delta: which units of a new root differ, which of the root before are like them, and a frame that leads from these to those.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use cairn_disk::ReadAt;
use sha2::{Digest as _, Sha256};

use super::repository::Publisher;
use crate::chunk::ChunkId;
use crate::delta::{Delta, Group, MAX_BASE, MAX_DELTA, MAX_MADE, WINDOW, base};
use crate::error::Error;
use crate::index::{self, Index};
use crate::metadata::{delta_name, stem};
use crate::record::write_whole;
use crate::units::{Unit, units};

/// zstd's level for the frames.
const LEVEL: i32 = 19;
/// One of so many places of content is remembered, to be found again.
const ANCHORS: u64 = 256;
/// Content that lies in more units than that says nothing about which of them is meant.
const COMMON: u8 = 8;

/// What a delta came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// The bytes of its frames.
    pub bytes: u64,
    /// The bytes of the chunks, as they are stored, that need not be fetched with it.
    pub instead: u64,
}

/// Two roots, and what of the second is not in the first.
struct Roots<'a> {
    old: &'a dyn ReadAt,
    old_size: u64,
    new: &'a dyn ReadAt,
    new_size: u64,
    /// Stretches of the new root, in bytes, in order.
    missing: Vec<(u64, u64)>,
}

/// Tells each place of the content that is chosen by what lies around it: the value of a rolling hash over 64 bytes (a "gear" hash, as in FastCDC).
fn anchors(content: &[u8], tell: &mut dyn FnMut(u64)) {
    let mut hash = 0_u64;
    for byte in content {
        hash = (hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
        if hash >> 56 == ANCHORS - 1 {
            tell(hash);
        }
    }
}

/// A random number for each byte (splitmix64).
static GEAR: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut x = (byte as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        table[byte] = x ^ (x >> 31);
        byte += 1;
    }
    table
};

/// The units of the old root, and where content lies in them.
struct Known {
    units: Vec<Unit>,
    /// The first unit with an anchor, and in how many it is.
    places: HashMap<u64, (u32, u8)>,
}

impl Known {
    fn of(root: &dyn ReadAt, size: u64) -> io::Result<Self> {
        let mut known = Self {
            units: Vec::new(),
            places: HashMap::new(),
        };
        units(root, size, &mut |unit, content| {
            let number = known.units.len() as u32;
            known.units.push(unit);
            anchors(content, &mut |anchor| {
                let (last, count) = known.places.entry(anchor).or_insert((number, 1));
                if *last != number {
                    *count = count.saturating_add(1);
                    *last = number;
                }
            });
            Ok(())
        })?;
        Ok(known)
    }

    /// The units that have most in common with this content, in order.
    fn like(&self, content: &[u8]) -> Vec<Unit> {
        let mut votes: HashMap<u32, u32> = HashMap::new();
        anchors(content, &mut |anchor| {
            if let Some((unit, _)) = self.places.get(&anchor).filter(|(_, count)| *count <= COMMON) {
                *votes.entry(*unit).or_default() += 1;
            }
        });
        let mut best: Vec<(u32, u32)> = votes.into_iter().collect();
        best.sort_unstable_by_key(|(unit, count)| (std::cmp::Reverse(*count), *unit));
        let mut room = MAX_BASE;
        let mut chosen = Vec::new();
        for (unit, _) in best {
            let Some(left) = room.checked_sub(self.units[unit as usize].length()) else {
                continue;
            };
            room = left;
            chosen.push(unit);
        }
        chosen.sort_unstable();
        chosen.into_iter().map(|unit| self.units[unit as usize]).collect()
    }
}

/// A group that is being gathered.
#[derive(Default)]
struct Gathered {
    made: Vec<Unit>,
    content: Vec<u8>,
    /// What its chunks take as they are stored, about.
    instead: u64,
}

/// Fills the delta and writes its frames.
fn differ(roots: &Roots<'_>, delta: &mut Delta, out: &mut dyn Write) -> io::Result<Difference> {
    let known = Known::of(roots.old, roots.old_size)?;
    let mut done = Difference { bytes: 0, instead: 0 };
    let mut gathered = Gathered::default();
    let mut finish = |gathered: &mut Gathered| -> io::Result<()> {
        let group = std::mem::take(gathered);
        if group.made.is_empty() {
            return Ok(());
        }
        let units = known.like(&group.content);
        let frame = frame(&base(roots.old, &units)?, &group.content)?;
        // A group that saves little is not worth an appliance's time.
        if frame.len() as u64 * 10 > group.instead * 9 {
            return Ok(());
        }
        out.write_all(&frame)?;
        delta.groups.push(Group {
            base: units,
            made: group.made,
            sha256: Sha256::digest(&frame).iter().map(|b| format!("{b:02x}")).collect(),
            at: done.bytes,
            length: frame.len() as u32,
        });
        done.bytes += frame.len() as u64;
        done.instead += group.instead;
        Ok(())
    };
    let mut missing = roots.missing.iter().copied().peekable();
    units(roots.new, roots.new_size, &mut |unit, content| {
        let (start, end) = (unit.start(), unit.start() + unit.stored() as u64);
        while missing.next_if(|(_, over)| *over <= start).is_some() {}
        if missing.peek().is_none_or(|(from, _)| *from >= end) {
            return Ok(());
        }
        if gathered.content.len() + content.len() > MAX_MADE {
            finish(&mut gathered)?;
        }
        // One that does not come out as it was would be made for nothing.
        let again = unit.write(content).ok();
        let mut stored = vec![0; unit.stored()];
        roots.new.fill_at(&mut stored, start)?;
        if again.as_deref() != Some(&stored) {
            return Ok(());
        }
        gathered.instead += match unit.content {
            Some(_) => stored.len() as u64,
            None => index::pack(content)?.len() as u64,
        };
        gathered.made.push(unit);
        gathered.content.extend_from_slice(content);
        Ok(())
    })?;
    finish(&mut gathered)?;
    Ok(done)
}

/// A frame that makes `content` from `base`.
fn frame(base: &[u8], content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::with_ref_prefix(Vec::new(), LEVEL, base)?;
    encoder.window_log(WINDOW)?;
    encoder.long_distance_matching(true)?;
    encoder.set_pledged_src_size(Some(content.len() as u64))?;
    encoder.write_all(content)?;
    encoder.finish()
}

/// A file that is gone when it is not needed any more.
struct Passing(PathBuf);

impl Drop for Passing {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Publisher {
    /// Makes the delta between two releases of the repository, which waits to be published then. `None`: the two have so little in common that
    /// it would save nothing, as with images of the profile `fast`.
    ///
    /// # Errors
    /// There is no such release, or files cannot be read or written.
    pub fn difference(&self, from: &str, version: &str, arch: &str) -> Result<Option<Difference>, Error> {
        let appliance = self.channels()?.name;
        let index = |version: &str| {
            let none = || Error::Refused(format!("the repository has no version {version} for {arch}"));
            Index::decode(&self.file(&appliance, version, arch, "index").ok_or_else(none)?)
        };
        let (old, new) = (index(from)?, index(version)?);
        let name = stem(&appliance, version, arch);
        let packs = self.folder.join("packs");
        let (before, after) = (self.unpacked(&old, "before.new")?, self.unpacked(&new, "after.new")?);
        let open = |file: &Passing| File::open(&file.0).map_err(Error::io("open", &file.0));
        let (before_file, after_file) = (open(&before)?, open(&after)?);
        let had: HashSet<ChunkId> = old.chunks.iter().map(|chunk| chunk.id).collect();
        let (mut missing, mut at) = (Vec::<(u64, u64)>::new(), 0);
        for chunk in new.root() {
            let end = at + u64::from(chunk.length);
            match missing.last_mut() {
                _ if had.contains(&chunk.id) => {}
                Some((_, last)) if *last == at => *last = end,
                _ => missing.push((at, end)),
            }
            at = end;
        }
        let roots = Roots {
            old: &before_file,
            old_size: old.release.root_size,
            new: &after_file,
            new_size: new.release.root_size,
            missing,
        };
        let pack = packs.join(format!("{name}.from-{from}.pack"));
        let failed = || Error::io("write", &pack);
        let mut out = BufWriter::new(File::create(&pack).map_err(failed())?);
        let mut delta = Delta::new(&old, &new, format!("{name}.from-{from}.pack"));
        let done = differ(&roots, &mut delta, &mut out).map_err(failed())?;
        out.flush().and_then(|()| out.get_ref().sync_all()).map_err(failed())?;
        let file = delta.encode().map_err(failed())?;
        if done.bytes == 0 || file.len() as u64 > MAX_DELTA {
            fs::remove_file(&pack).map_err(Error::io("remove", &pack))?;
            return Ok(None);
        }
        let path = self.folder.join("incoming").join(delta_name(&name, from));
        write_whole(&path, &file).map_err(Error::io("write", path))?;
        Ok(Some(done))
    }

    /// The root of a release, put together from its chunks.
    fn unpacked(&self, index: &Index, name: &str) -> Result<Passing, Error> {
        let file = Passing(self.folder.join("incoming").join(name));
        let failed = || Error::io("write", &file.0);
        let mut out = BufWriter::new(File::create(&file.0).map_err(failed())?);
        let open = |name: &String| {
            let path: &Path = &self.folder.join("packs").join(name);
            File::open(path).map_err(Error::io("open", path))
        };
        let packs: Vec<File> = index.release.packs.iter().map(open).collect::<Result<_, _>>()?;
        for chunk in index.root() {
            let mut stored = vec![0; chunk.stored as usize];
            let pack = &packs[usize::from(chunk.pack)];
            let damaged = Error::io("read", self.folder.join("packs"));
            pack.fill_at(&mut stored, chunk.at).map_err(damaged)?;
            out.write_all(&index::unpack(chunk, &stored)?).map_err(failed())?;
        }
        out.flush().map_err(failed())?;
        Ok(file)
    }
}
