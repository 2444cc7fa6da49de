//! An image as a pack of chunks and an index of them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::Path;

use crate::chunk::{ChunkId, cut};
use crate::error::Error;
use crate::index::{self, Chunk, Index, Release};

/// What a release is made of.
pub struct Image<'a> {
    /// Its description. Packs and number of chunks are filled in.
    pub release: Release,
    /// The root.
    pub root: &'a mut dyn Read,
    /// The UKI.
    pub uki: &'a mut dyn Read,
}

/// What came of it.
#[derive(Debug)]
pub struct Packed {
    /// The index.
    pub index: Index,
    /// The bytes of chunks that no earlier release had, as they are stored.
    pub fresh: u64,
    /// The bytes of all chunks of the release, as they are stored, each counted once.
    pub whole: u64,
}

/// Writes the chunks that no `earlier` index has to the pack at `path`, called `name`.
///
/// # Errors
/// The image cannot be read, or the pack not be written.
pub fn pack_release(image: Image<'_>, earlier: &[Index], name: &str, path: &Path) -> Result<Packed, Error> {
    let failed = |doing: &'static str| Error::io(doing, path);
    let mut known: HashMap<ChunkId, (&str, Chunk)> = HashMap::new();
    for index in earlier {
        for chunk in &index.chunks {
            let pack = index.release.packs[usize::from(chunk.pack)].as_str();
            known.entry(chunk.id).or_insert((pack, *chunk));
        }
    }
    let mut out = BufWriter::new(File::create(path).map_err(failed("create"))?);
    let (mut packs, mut chunks, mut own) = (vec![name.to_owned()], Vec::new(), HashMap::<ChunkId, Chunk>::new());
    let (mut fresh, mut whole) = (0, 0);
    let mut store = |content: &[u8], chunks: &mut Vec<Chunk>| -> io::Result<()> {
        let id = ChunkId::of(content);
        if let Some(chunk) = own.get(&id) {
            chunks.push(*chunk);
            return Ok(());
        }
        let chunk = match known.get(&id) {
            Some((pack, chunk)) => {
                let number = packs.iter().position(|p| p == pack).unwrap_or_else(|| {
                    packs.push((*pack).to_owned());
                    packs.len() - 1
                });
                let pack = u16::try_from(number).map_err(|_| io::Error::other("too many packs"))?;
                Chunk { pack, ..*chunk }
            }
            None => {
                let stored = index::pack(content)?;
                out.write_all(&stored)?;
                let at = fresh;
                fresh += stored.len() as u64;
                Chunk {
                    id,
                    length: content.len() as u32,
                    pack: 0,
                    at,
                    stored: stored.len() as u32,
                }
            }
        };
        whole += u64::from(chunk.stored);
        own.insert(id, chunk);
        chunks.push(chunk);
        Ok(())
    };
    cut(image.root, &mut |content| store(content, &mut chunks)).map_err(failed("pack the root into"))?;
    let root_chunks = chunks.len() as u64;
    cut(image.uki, &mut |content| store(content, &mut chunks)).map_err(failed("pack the UKI into"))?;
    out.flush()
        .and_then(|()| out.get_ref().sync_all())
        .map_err(failed("write"))?;
    let sum = |chunks: &[Chunk]| chunks.iter().map(|c| u64::from(c.length)).sum();
    let release = Release {
        packs,
        root_chunks,
        root_size: sum(&chunks[..root_chunks as usize]),
        uki_size: sum(&chunks[root_chunks as usize..]),
        ..image.release
    };
    let index = Index { release, chunks };
    Ok(Packed { index, fresh, whole })
}
