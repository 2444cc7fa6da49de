//! What tests share.

/// A PE file with one section, `.cmdline`.
pub(crate) fn uki(line: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 0x200];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c..0x40].copy_from_slice(&0x80_u32.to_le_bytes());
    file[0x80..0x84].copy_from_slice(b"PE\0\0");
    file[0x86..0x88].copy_from_slice(&1_u16.to_le_bytes());
    let table = 0x80 + 24;
    file[table..table + 8].copy_from_slice(b".cmdline");
    for (at, value) in [(8, line.len()), (16, line.len().next_multiple_of(512)), (20, 0x200)] {
        file[table + at..table + at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }
    file.extend_from_slice(line);
    file.resize(0x200 + line.len().next_multiple_of(512), 0);
    file
}

/// So many blocks without a pattern.
pub(crate) fn noise(seed: u64, blocks: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(blocks * crate::chunk::BLOCK);
    while out.len() < blocks * crate::chunk::BLOCK {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out
}
