//! What an appliance of one version lacks of the next, as differences between what their files hold.
//!
//! A program that was compiled anew shares hardly a block with what it was, and less once it is compressed; its content is still mostly
//! what it was. So a delta carries, for groups of [`Unit`]s that are new, Zstandard frames that refer to units of the version before. The
//! appliance unpacks those, makes the new content, compresses it as the image's maker did, and writes it to where it belongs. A delta
//! proves nothing: whether a chunk is the release's is decided by its hash, as ever, and what a delta fails to make is fetched.
//!
//! The file is JSON compressed by zstd; the frames lie in a pack. Its hash and length are signed for.

use std::io::{self, Read as _};

use cairn_disk::ReadAt;
use serde::{Deserialize, Serialize};

use crate::chunk::{BLOCK, ChunkId};
use crate::error::Error;
use crate::index::{Chunk, Index, plain_name};
use crate::units::{MAX_BLOCKS, MAX_CONTENT, Unit};

/// The most bytes of a delta's file.
pub const MAX_DELTA: u64 = 4 << 20;
const MAX_UNPACKED: u64 = 32 << 20;
/// The most bytes that a group makes. With [`MAX_BASE`] this bounds the memory of an install.
pub const MAX_MADE: usize = 4 << 20;
/// The most bytes that a group refers to.
pub const MAX_BASE: usize = 8 << 20;
/// The window of the frames, as a power of two: what a group refers to and makes.
pub const WINDOW: u32 = 24;
const FORMAT: u32 = 1;

/// A stretch of a root: first block, number of blocks, and the length of the content if it is compressed.
type Stretch = (u64, u16, Option<u32>);

impl From<Unit> for Stretch {
    fn from(unit: Unit) -> Self {
        (unit.block, unit.blocks, unit.content)
    }
}

impl From<Stretch> for Unit {
    fn from((block, blocks, content): Stretch) -> Self {
        Self { block, blocks, content }
    }
}

/// A part of a delta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What it refers to, in the root of before, one after the other.
    #[serde(with = "stretches")]
    pub base: Vec<Unit>,
    /// What it makes, in the new root.
    #[serde(with = "stretches")]
    pub made: Vec<Unit>,
    /// The frame's hash, in hexadecimal digits.
    pub sha256: String,
    /// Where it lies in the pack.
    pub at: u64,
    /// How many bytes it has.
    pub length: u32,
}

mod stretches {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::{Stretch, Unit};

    pub(super) fn serialize<S: Serializer>(units: &[Unit], to: S) -> Result<S::Ok, S::Error> {
        let all: Vec<Stretch> = units.iter().map(|unit| (*unit).into()).collect();
        all.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Unit>, D::Error> {
        Ok(Vec::<Stretch>::deserialize(from)?.into_iter().map(Unit::from).collect())
    }
}

/// A delta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// The version of this format.
    pub format: u32,
    /// The root hash of the version that it refers to.
    pub from: String,
    /// The root hash of the version that it makes.
    pub to: String,
    /// The file below `packs/` that holds the frames.
    pub pack: String,
    /// Its parts.
    pub groups: Vec<Group>,
}

impl Delta {
    /// One without parts yet.
    pub fn new(from: &Index, to: &Index, pack: String) -> Self {
        Self {
            format: FORMAT,
            from: from.release.root_hash.clone(),
            to: to.release.root_hash.clone(),
            pack,
            groups: Vec::new(),
        }
    }

    /// The file.
    ///
    /// # Errors
    /// Memory.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        zstd::encode_all(&serde_json::to_vec(self)?[..], 12)
    }

    /// Reads a file and checks all that must hold of it beside roots of `from` and `to` bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(file: &[u8], from: u64, to: u64) -> Result<Self, Error> {
        let mut text = Vec::new();
        zstd::Decoder::new(file)
            .and_then(|unpacked| unpacked.take(MAX_UNPACKED + 1).read_to_end(&mut text))
            .map_err(|_| Error::Delta("it is not compressed by zstd"))?;
        if text.len() as u64 > MAX_UNPACKED {
            return Err(Error::Delta("it is too long"));
        }
        let delta: Self = serde_json::from_slice(&text).map_err(|_| Error::Delta("its form is not known"))?;
        if delta.format != FORMAT {
            return Err(Error::Delta("its form is not known"));
        }
        if !plain_name(&delta.pack) {
            return Err(Error::Delta("name of the pack"));
        }
        for group in &delta.groups {
            let within = |units: &[Unit], size: u64, most: usize| {
                let fits = |unit: &Unit| {
                    let end = unit.block.checked_add(u64::from(unit.blocks));
                    usize::from(unit.blocks) <= MAX_BLOCKS
                        && unit.content.is_none_or(|length| length as usize <= MAX_CONTENT)
                        && end.is_some_and(|end| end <= size / BLOCK as u64)
                };
                units.iter().all(fits) && units.iter().map(Unit::length).sum::<usize>() <= most
            };
            if !within(&group.base, from, MAX_BASE) || !within(&group.made, to, MAX_MADE) {
                return Err(Error::Delta("a stretch outside the root, or too long"));
            }
            if group.made.is_empty() || group.length as usize > MAX_MADE || group.at.checked_add(1 << 32).is_none() {
                return Err(Error::Delta("a group that makes nothing, or too much"));
            }
            group.chunk()?;
        }
        Ok(delta)
    }
}

/// Takes a unit of the new root and its blocks.
pub type Put<'a> = &'a mut dyn FnMut(&Unit, &[u8]) -> Result<(), Error>;

impl Group {
    /// The frame as what is fetched: stored as it is.
    ///
    /// # Errors
    /// Its hash is none.
    pub fn chunk(&self) -> Result<Chunk, Error> {
        let hash: cairn_disk::verity::RootHash = self.sha256.parse().map_err(|_| Error::Delta("hash of a group"))?;
        Ok(Chunk {
            id: ChunkId(hash.0),
            length: self.length,
            pack: 0,
            at: self.at,
            stored: self.length,
        })
    }

    /// Makes what belongs into the new root, each unit with its blocks.
    ///
    /// # Errors
    /// The frame does not fit the old root, or the library compresses otherwise than the image's maker.
    pub fn make(&self, old: &dyn ReadAt, frame: &[u8], put: Put<'_>) -> Result<(), Error> {
        let failed = |_: io::Error| Error::Delta("a group cannot be made");
        let base = base(old, &self.base).map_err(failed)?;
        let length: usize = self.made.iter().map(Unit::length).sum();
        let mut made = Vec::with_capacity(length);
        let mut decoder = zstd::Decoder::with_ref_prefix(frame, &base).map_err(failed)?;
        decoder.window_log_max(WINDOW).map_err(failed)?;
        decoder.take(length as u64 + 1).read_to_end(&mut made).map_err(failed)?;
        if made.len() != length {
            return Err(Error::Delta("a group makes something else"));
        }
        let mut rest = &made[..];
        for unit in &self.made {
            let (content, after) = rest.split_at(unit.length());
            // One that does not come out as it was is fetched; the others are as good.
            if let Ok(blocks) = unit.write(content) {
                put(unit, &blocks)?;
            }
            rest = after;
        }
        Ok(())
    }
}

/// What these units hold, one after the other.
///
/// # Errors
/// Reading fails.
pub fn base(old: &dyn ReadAt, units: &[Unit]) -> io::Result<Vec<u8>> {
    let mut all = Vec::with_capacity(units.iter().map(Unit::length).sum());
    for unit in units {
        all.extend(unit.read(old)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;
    use crate::units::tests::packed;

    fn unit(block: u64, blocks: u16, content: Option<u32>) -> Unit {
        Unit { block, blocks, content }
    }

    fn delta() -> Delta {
        Delta {
            format: FORMAT,
            from: "ab".repeat(32),
            to: "cd".repeat(32),
            pack: "box-2.0.0-amd64.from-1.0.0.pack".into(),
            groups: vec![Group {
                base: vec![unit(0, 2, Some(30_000)), unit(9, 1, None)],
                made: vec![unit(4, 2, Some(30_010)), unit(7, 1, None)],
                sha256: "12".repeat(32),
                at: 0,
                length: 99,
            }],
        }
    }

    #[test]
    fn a_delta_comes_back_as_it_was() {
        let file = delta().encode().unwrap();
        assert_eq!(Delta::decode(&file, 10 * 4096, 8 * 4096).unwrap(), delta());
    }

    #[test]
    fn a_delta_that_leads_outside_or_takes_too_much_memory_is_refused() {
        type Case<'a> = (&'a dyn Fn(&mut Delta), &'a str);
        let cases: [Case<'_>; 11] = [
            (&|d| d.format = 2, "its form is not known"),
            (&|d| d.pack = "../x".into(), "name of the pack"),
            (
                &|d| d.groups[0].base[1].block = 10,
                "a stretch outside the root, or too long",
            ),
            (
                &|d| d.groups[0].base[1].block = u64::MAX,
                "a stretch outside the root, or too long",
            ),
            (
                &|d| d.groups[0].made[1].block = 8,
                "a stretch outside the root, or too long",
            ),
            (
                &|d| d.groups[0].made[0].content = Some(1 << 21),
                "a stretch outside the root, or too long",
            ),
            (
                &|d| d.groups[0].made = vec![unit(0, 2, Some(1 << 20)); 5],
                "a stretch outside the root, or too long",
            ),
            (
                &|d| d.groups[0].base = vec![unit(0, 2, Some(1 << 20)); 9],
                "a stretch outside the root, or too long",
            ),
            (&|d| d.groups[0].made.clear(), "a group that makes nothing, or too much"),
            (
                &|d| d.groups[0].length = u32::MAX,
                "a group that makes nothing, or too much",
            ),
            (&|d| d.groups[0].sha256 = "12".into(), "hash of a group"),
        ];
        for (change, why) in cases {
            let mut delta = delta();
            change(&mut delta);
            let refused = Delta::decode(&delta.encode().unwrap(), 10 * 4096, 8 * 4096).unwrap_err();
            assert!(refused.to_string().ends_with(why), "{why}: {refused}");
        }
        assert!(Delta::decode(b"", 1, 1).is_err());
        assert!(Delta::decode(&zstd::encode_all(&b"{}"[..], 1).unwrap(), 1, 1).is_err());
    }

    #[test]
    fn a_group_makes_its_units_and_stops_at_a_frame_that_is_too_long() {
        let old = [packed(&vec![7; 30_000]), noise(1, 1)].concat();
        let made = [vec![7; 30_001], noise(1, 1)].concat();
        let group = Group {
            base: vec![unit(0, 1, Some(30_000)), unit(1, 1, None)],
            made: vec![unit(4, 1, Some(30_001)), unit(6, 1, None)],
            sha256: String::new(),
            at: 0,
            length: 0,
        };
        let frame = |content: &[u8]| {
            let before = base(&old, &group.base).unwrap();
            let mut encoder = zstd::Encoder::with_ref_prefix(Vec::new(), 3, &before).unwrap();
            io::Write::write_all(&mut encoder, content).unwrap();
            encoder.finish().unwrap()
        };
        let small = frame(&made);
        assert!(small.len() < 200, "{}", small.len());
        let mut got = Vec::new();
        let mut put = |unit: &Unit, blocks: &[u8]| {
            got.push((unit.block, blocks.to_vec()));
            Ok(())
        };
        group.make(&old, &small, &mut put).unwrap();
        assert!(
            group
                .make(&old, &frame(&[made.clone(), vec![0]].concat()), &mut put)
                .is_err()
        );
        assert!(group.make(&old, &frame(&made[1..]), &mut put).is_err());
        assert!(group.make(&old, b"no frame", &mut put).is_err());
        assert!(group.make(&old[..4096].to_vec(), &small, &mut put).is_err());
        assert_eq!(got, [(4, packed(&vec![7; 30_001])), (6, noise(1, 1))]);
    }
}
