//! Records in memory, as a tail or a block gives them: one buffer of bytes, and who is where in it.

use std::sync::Arc;

use crate::record::{BootId, Origin, Part, Seq};

/// One stored piece; its message is a range of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) seq: Seq,
    pub(crate) realtime: u64,
    pub(crate) monotonic: u64,
    pub(crate) part: Part,
    /// Index into the origins.
    pub(crate) origin: u32,
    pub(crate) start: u32,
    pub(crate) length: u32,
}

/// Rows of one boot, in the order of their places.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) boot: BootId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) rows: Vec<Row>,
    pub(crate) origins: Vec<Arc<Origin>>,
}

impl Rows {
    pub(crate) fn message(&self, row: &Row) -> &[u8] {
        let start = row.start as usize;
        self.bytes.get(start..start + row.length as usize).unwrap_or_default()
    }

    pub(crate) fn origin(&self, row: &Row) -> Option<&Arc<Origin>> {
        self.origins.get(row.origin as usize)
    }

    /// Adds the rows of `other` (of the same boot) that come after all of these.
    pub(crate) fn extend(&mut self, other: &Rows) {
        let after = self.last();
        let offset = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&other.bytes);
        let indexes: Vec<u32> = other.origins.iter().map(|origin| self.origin_index(origin)).collect();
        for row in other.rows.iter().filter(|row| Some(row.seq) > after) {
            self.rows.push(Row {
                origin: indexes.get(row.origin as usize).copied().unwrap_or(u32::MAX),
                start: row.start.saturating_add(offset),
                ..*row
            });
        }
    }

    fn origin_index(&mut self, origin: &Arc<Origin>) -> u32 {
        let at = self
            .origins
            .iter()
            .position(|known| known == origin)
            .unwrap_or_else(|| {
                self.origins.push(Arc::clone(origin));
                self.origins.len() - 1
            });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    pub(crate) fn last(&self) -> Option<Seq> {
        self.rows.last().map(|row| row.seq)
    }
}
