//! The index of a release: what it is, and of which chunks its root and its UKI are made.
//!
//! The file is `CAIRNIX1`, the length of a JSON header, the header, and then for each chunk 50 bytes: SHA-256, length of the content, number
//! of the pack, place in the pack, stored length; all numbers little-endian, the whole compressed by zstd. Its hash and length are signed for;
//! the packs are not, because each chunk is checked by its own hash.

use std::collections::BTreeMap;
use std::io::Read as _;

use cairn_disk::Guid;
use cairn_disk::verity::RootHash;
use cairn_unit::StateVersion;
use serde::{Deserialize, Serialize};

use crate::chunk::{BLOCK, ChunkId, MAX_CHUNK};
use crate::error::Error;

const MAGIC: &[u8; 8] = b"CAIRNIX1";
const ENTRY: usize = 32 + 4 + 2 + 8 + 4;
/// The most bytes of an index as it is stored: that of a root of some 40 GiB.
pub const MAX_INDEX: u64 = 48 << 20;
/// The most bytes of an index when unpacked.
const MAX_UNPACKED: u64 = 64 << 20;

/// What a release is. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The appliance's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Debian's name of the architecture.
    pub arch: String,
    /// The least version that can be upgraded from, if not any can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<String>,
    /// The version of the state that each unit reads and writes, by unit. None at all: the release is from before there were versions, and
    /// each is 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<String, StateVersion>,
    /// The root hash, 64 hexadecimal digits.
    pub root_hash: String,
    /// The salt of the hash tree, in hexadecimal digits.
    pub salt: String,
    /// The UUID of the hash tree.
    pub uuid: String,
    /// The size of the root.
    pub root_size: u64,
    /// The size of the UKI.
    pub uki_size: u64,
    /// The files with the chunks, by number, below `packs/`.
    pub packs: Vec<String>,
    /// How many of the chunks are the root's; the rest are the UKI's.
    pub root_chunks: u64,
}

/// A chunk and where it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// What it holds.
    pub id: ChunkId,
    /// The length of its content.
    pub length: u32,
    /// In which pack.
    pub pack: u16,
    /// Where in it.
    pub at: u64,
    /// How many bytes it takes there. A chunk that zstd makes no smaller is stored as it is: then this is the content's length.
    pub stored: u32,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// What the release is.
    pub release: Release,
    /// The chunks: the root's in order, then the UKI's.
    pub chunks: Vec<Chunk>,
}

impl Index {
    /// The root's chunks.
    pub fn root(&self) -> &[Chunk] {
        &self.chunks[..self.release.root_chunks as usize]
    }

    /// The UKI's chunks.
    pub fn uki(&self) -> &[Chunk] {
        &self.chunks[self.release.root_chunks as usize..]
    }

    /// The root hash.
    ///
    /// # Errors
    /// It is none.
    pub fn root_hash(&self) -> Result<RootHash, Error> {
        self.release.root_hash.parse().map_err(|_| Error::Index("root hash"))
    }

    /// Salt and UUID of the hash tree.
    ///
    /// # Errors
    /// They are none.
    pub fn tree(&self) -> Result<(Vec<u8>, Guid), Error> {
        let digits = self.release.salt.as_bytes();
        let bytes = digits.chunks(2).map(|pair| {
            let text = std::str::from_utf8(pair).ok()?;
            (pair.len() == 2).then(|| u8::from_str_radix(text, 16).ok())?
        });
        let salt: Option<Vec<u8>> = bytes.collect();
        let uuid = self.release.uuid.parse().map_err(|_| Error::Index("uuid"))?;
        Ok((salt.ok_or(Error::Index("salt"))?, uuid))
    }

    /// The file.
    ///
    /// # Errors
    /// Memory.
    pub fn encode(&self) -> std::io::Result<Vec<u8>> {
        let header = serde_json::to_vec(&self.release)?;
        let mut out = MAGIC.to_vec();
        out.extend((header.len() as u32).to_le_bytes());
        out.extend(header);
        for chunk in &self.chunks {
            out.extend(chunk.id.0);
            out.extend(chunk.length.to_le_bytes());
            out.extend(chunk.pack.to_le_bytes());
            out.extend(chunk.at.to_le_bytes());
            out.extend(chunk.stored.to_le_bytes());
        }
        zstd::encode_all(&out[..], 12)
    }

    /// Reads a file and checks all that must hold of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(file: &[u8]) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        zstd::Decoder::new(file)
            .and_then(|unpacked| unpacked.take(MAX_UNPACKED + 1).read_to_end(&mut bytes))
            .map_err(|_| Error::Index("it is not compressed by zstd"))?;
        if bytes.len() as u64 > MAX_UNPACKED {
            return Err(Error::Index("it is too long"));
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or(Error::Index("signature"))?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(Error::Index("length"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (header, entries) = rest.split_at_checked(length).ok_or(Error::Index("header length"))?;
        let release: Release = serde_json::from_slice(header).map_err(|_| Error::Index("header"))?;
        if !entries.len().is_multiple_of(ENTRY) {
            return Err(Error::Index("it ends in the middle of a chunk"));
        }
        let chunks = entries.chunks_exact(ENTRY).map(chunk).collect();
        let index = Self { release, chunks };
        index.check()?;
        Ok(index)
    }

    fn check(&self) -> Result<(), Error> {
        let release = &self.release;
        let root = usize::try_from(release.root_chunks).ok();
        let split = root.and_then(|root| self.chunks.split_at_checked(root));
        let (root, uki) = split.ok_or(Error::Index("number of chunks"))?;
        let sum = |chunks: &[Chunk]| chunks.iter().map(|c| u64::from(c.length)).sum::<u64>();
        if release.root_size == 0 || sum(root) != release.root_size || !release.root_size.is_multiple_of(BLOCK as u64) {
            return Err(Error::Index("size of the root"));
        }
        if sum(uki) != release.uki_size || release.uki_size == 0 {
            return Err(Error::Index("size of the UKI"));
        }
        for chunk in &self.chunks {
            if chunk.length == 0 || chunk.length as usize > MAX_CHUNK || chunk.stored > chunk.length {
                return Err(Error::Index("length of a chunk"));
            }
            if usize::from(chunk.pack) >= release.packs.len() || chunk.at.checked_add(1 << 32).is_none() {
                return Err(Error::Index("place of a chunk"));
            }
        }
        if !release.packs.iter().all(|name| plain_name(name)) {
            return Err(Error::Index("name of a pack"));
        }
        self.root_hash()?;
        self.tree().map(drop)
    }
}

/// Whether this names a pack: a name that leads somewhere else would be asked for there.
pub(crate) fn plain_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~^".contains(&b);
    !name.starts_with('.') && !name.is_empty() && name.bytes().all(plain)
}

fn chunk(bytes: &[u8]) -> Chunk {
    let number = |from: usize, length: usize| {
        let mut value = [0; 8];
        value[..length].copy_from_slice(&bytes[from..from + length]);
        u64::from_le_bytes(value)
    };
    let mut id = [0; 32];
    id.copy_from_slice(&bytes[..32]);
    Chunk {
        id: ChunkId(id),
        length: number(32, 4) as u32,
        pack: number(36, 2) as u16,
        at: number(38, 8),
        stored: number(46, 4) as u32,
    }
}

/// The content of a chunk from what is stored, checked by its hash.
///
/// # Errors
/// It is not the chunk's.
pub fn unpack(chunk: &Chunk, stored: &[u8]) -> Result<Vec<u8>, Error> {
    let wrong = || Error::Wrong("a chunk is damaged or is not the release's; try again, or ask the publisher".into());
    let content = if chunk.stored == chunk.length {
        stored.to_vec()
    } else {
        zstd::bulk::decompress(stored, chunk.length as usize).map_err(|_| wrong())?
    };
    if content.len() != chunk.length as usize || ChunkId::of(&content) != chunk.id {
        return Err(wrong());
    }
    Ok(content)
}

/// What is stored for a chunk.
///
/// # Errors
/// Memory.
pub fn pack(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let packed = zstd::bulk::compress(content, 15)?;
    Ok(if packed.len() < content.len() {
        packed
    } else {
        content.to_vec()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let content = vec![7; BLOCK];
        let entry = Chunk {
            id: ChunkId::of(&content),
            length: BLOCK as u32,
            pack: 0,
            at: 0,
            stored: 30,
        };
        Index {
            release: Release {
                name: "box".into(),
                version: "1.2.0".into(),
                arch: "amd64".into(),
                minimum: None,
                states: BTreeMap::new(),
                root_hash: "ab".repeat(32),
                salt: "0102".into(),
                uuid: "4f68bce3-e8cd-4db1-96e7-fbcaf984b709".into(),
                root_size: 2 * BLOCK as u64,
                uki_size: BLOCK as u64,
                packs: vec!["box-1.2.0-amd64.pack".into()],
                root_chunks: 2,
            },
            chunks: vec![entry; 3],
        }
    }

    #[test]
    fn an_index_comes_back_as_it_was() {
        let index = index();
        assert_eq!(Index::decode(&index.encode().unwrap()).unwrap(), index);
        assert_eq!((index.root().len(), index.uki().len()), (2, 1));
        assert_eq!(index.tree().unwrap().0, [1, 2]);
    }

    #[test]
    fn an_index_that_contradicts_itself_is_refused() {
        let refused = |change: &dyn Fn(&mut Index)| {
            let mut index = index();
            change(&mut index);
            Index::decode(&index.encode().unwrap()).unwrap_err().to_string()
        };
        type Case<'a> = (&'a dyn Fn(&mut Index), &'a str);
        let cases: [Case<'_>; 9] = [
            (&|i| i.release.root_chunks = 4, "number of chunks"),
            (&|i| i.release.root_size += 4096, "size of the root"),
            (&|i| i.release.uki_size = 1, "size of the UKI"),
            (&|i| i.chunks[0].stored = 4097, "length of a chunk"),
            (&|i| i.chunks[1].pack = 1, "place of a chunk"),
            (&|i| i.chunks[1].at = u64::MAX, "place of a chunk"),
            (&|i| i.release.packs[0] = "../x".into(), "name of a pack"),
            (&|i| i.release.root_hash = "ab".into(), "root hash"),
            (&|i| i.release.salt = "0".into(), "salt"),
        ];
        for (change, why) in cases {
            assert!(refused(change).ends_with(why), "{why}: {}", refused(change));
        }
        let file = index().encode().unwrap();
        assert!(Index::decode(&file[..file.len() - 1]).is_err());
        assert!(Index::decode(b"").is_err());
    }

    #[test]
    fn a_chunk_is_taken_only_if_it_is_that_chunk() {
        let content = vec![7; BLOCK];
        let stored = pack(&content).unwrap();
        let chunk = Chunk {
            id: ChunkId::of(&content),
            length: BLOCK as u32,
            pack: 0,
            at: 0,
            stored: stored.len() as u32,
        };
        assert_eq!(unpack(&chunk, &stored).unwrap(), content);
        assert!(unpack(&chunk, &stored[1..]).is_err());
        assert!(unpack(&chunk, &pack(&vec![8; BLOCK]).unwrap()).is_err());
        // One that unpacks to more than it says ends where it should.
        assert!(unpack(&chunk, &pack(&vec![7; 64 * BLOCK]).unwrap()).is_err());
    }
}
