//! What an upgrade reads: a release's index and deltas, the archive of a bundle, names on the ESP, a UKI's sections.
//!
//! Index and delta are compressed; the target does that itself, so that what libFuzzer changes is what is read.

use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use cairn_upgrade::bundle::Bundle;
use cairn_upgrade::chunk::BLOCK;
use cairn_upgrade::delta::{Delta, MAX_BASE, MAX_MADE};
use cairn_upgrade::entries::{EntryName, is_version, newer, root_of};
use cairn_upgrade::index::Index;
use cairn_upgrade::source::Source as _;

/// The size of the roots that a delta stands between.
const ROOT: u64 = 64 * BLOCK as u64;

/// The first byte chooses: an index, a delta, a bundle; anything else are names and a UKI.
pub fn release(data: &[u8]) {
    let _ = taken(data);
}

/// Whether such an input is let through.
pub fn taken(data: &[u8]) -> bool {
    let Some((choice, rest)) = data.split_first() else {
        return false;
    };
    match choice {
        b'i' => index(rest),
        b'd' => delta(rest),
        b'b' => bundle(rest),
        _ => names(data),
    }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory can be compressed")
}

/// Two parts, with a NUL between them.
fn parts(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    (&data[..at], data.get(at + 1..).unwrap_or_default())
}

/// The JSON header, a NUL, the chunks.
fn index(data: &[u8]) -> bool {
    let _ = Index::decode(data);
    let (header, chunks) = parts(data);
    let length = u32::try_from(header.len()).expect("an input is short").to_le_bytes();
    let Ok(index) = Index::decode(&packed(&[b"CAIRNIX1", &length[..], header, chunks].concat())) else {
        return false;
    };
    let sum = |chunks: &[cairn_upgrade::index::Chunk]| chunks.iter().map(|chunk| u64::from(chunk.length)).sum::<u64>();
    assert_eq!(sum(index.root()), index.release.root_size);
    assert_eq!(sum(index.uki()), index.release.uki_size);
    for chunk in &index.chunks {
        assert!(chunk.stored <= chunk.length && usize::from(chunk.pack) < index.release.packs.len());
        assert!(chunk.at.checked_add(u64::from(chunk.stored)).is_some());
    }
    assert!(
        index
            .release
            .packs
            .iter()
            .all(|pack| !pack.contains('/') && !pack.starts_with('.'))
    );
    assert!(index.root_hash().is_ok() && index.tree().is_ok());
    let again = Index::decode(&index.encode().expect("an index can be written"));
    assert_eq!(again.expect("and read"), index);
    true
}

/// The JSON, a NUL, and what the old root and the new content are made of.
fn delta(data: &[u8]) -> bool {
    let _ = Delta::decode(data, ROOT, ROOT);
    let (text, seed) = parts(data);
    let Ok(delta) = Delta::decode(&packed(text), ROOT, ROOT) else {
        return false;
    };
    let again = Delta::decode(&delta.encode().expect("a delta can be written"), ROOT, ROOT);
    assert_eq!(again.expect("and read"), delta);
    let filled = |length: usize| -> Vec<u8> { [seed, &[7]].concat().into_iter().cycle().take(length).collect() };
    let old = filled(64 * BLOCK);
    // Each may be of four million bytes; two are as good as all.
    for group in delta.groups.iter().take(2) {
        let all = |units: &[cairn_upgrade::units::Unit]| units.iter().map(|unit| unit.length()).sum::<usize>();
        let length = all(&group.made);
        assert!(length <= MAX_MADE && all(&group.base) <= MAX_BASE);
        if length > 32 * BLOCK {
            continue;
        }
        for frame in [seed.to_vec(), packed(&filled(length)), packed(&filled(length + 1))] {
            let mut made = 0;
            let result = group.make(&old, &frame, &mut |unit, blocks| {
                assert_eq!(blocks.len(), unit.stored());
                assert!(unit.start() + blocks.len() as u64 <= ROOT);
                made += 1;
                Ok(())
            });
            assert!(made <= group.made.len() && (result.is_ok() || made == 0));
        }
    }
    true
}

/// A tar archive.
fn bundle(data: &[u8]) -> bool {
    let memory = rustix::fs::memfd_create("bundle", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
    let mut memory = std::fs::File::from(memory);
    memory.write_all(data).expect("memory can be written");
    let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    let Ok(bundle) = Bundle::open(&path) else { return false };
    for name in ["metadata/timestamp.json", "packs/a.pack", "../a", "a"] {
        for range in [None, Some((1, 3)), Some((u64::MAX, u64::MAX))] {
            let Ok(stream) = bundle.open(name, range) else { continue };
            let mut bytes = Vec::new();
            let read = stream.take(data.len() as u64 + 1).read_to_end(&mut bytes);
            assert!(read.is_ok_and(
                |length| length <= range.map_or(data.len(), |(_, most)| most.min(data.len() as u64) as usize)
            ));
            assert!(!name.starts_with('.'), "a name that leads out was found");
        }
    }
    true
}

/// File names of entries, versions, and a UKI.
fn names(data: &[u8]) -> bool {
    let mut known = root_of(data).is_some();
    let text = String::from_utf8_lossy(data);
    let mut before: Option<&str> = None;
    for line in text.lines() {
        if let Some(entry) = EntryName::parse(line) {
            assert_eq!(EntryName::parse(&entry.file()), Some(entry.clone()));
            assert!(entry.bad().is_bad() && !entry.good().is_bad());
            known = true;
        }
        if let Some(before) = before.replace(line)
            && is_version(before)
            && is_version(line)
        {
            assert_eq!(newer(before, line), newer(line, before).reverse());
        }
    }
    known
}
