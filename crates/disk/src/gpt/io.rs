//! Reading whichever copy is whole, and writing both without ever having none.

use super::codec::{self, Pieces};
use super::{Damage, Error, Table};
use crate::BlockDevice;

/// One of the two copies of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// In sectors 1 and following.
    Primary,
    /// In the last sectors.
    Backup,
}

/// How a copy was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyState {
    /// Whole, in its place, and the same as the table that was taken.
    Good,
    /// Whole, but it says something else: a write was interrupted between the two copies.
    Stale,
    /// Whole, but not at the end of the disk: the disk has grown since.
    Misplaced,
    /// Not usable.
    Bad(Damage),
}

/// A table that was read, and the state of both copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What the copy in `from` says.
    pub table: Table,
    /// The copy that was taken: the primary one if it is whole.
    pub from: Copy,
    /// The state of the copy at the start.
    pub primary: CopyState,
    /// The state of the copy at the end.
    pub backup: CopyState,
}

impl Found {
    /// Whether [`Table::write`] has something to repair.
    pub fn needs_repair(&self) -> bool {
        self.primary != CopyState::Good || self.backup != CopyState::Good
    }
}

fn read(dev: &impl BlockDevice, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; len];
    dev.read_at(offset, &mut bytes).map_err(|source| Error::Io {
        doing: "read",
        offset,
        source,
    })?;
    Ok(bytes)
}

/// Reads the copy whose header is in sector `at`; returns it and the sector of its sibling.
fn read_copy(dev: &impl BlockDevice, at: u64) -> Result<(Table, u64), Damage> {
    let sector = dev.sector().bytes();
    let unreadable = |e: Error| Damage::Unreadable(e.to_string());
    let offset = |lba: u64| lba.checked_mul(sector).filter(|o| *o < dev.size());
    let header_at = offset(at).ok_or(Damage::Field("own position"))?;
    let header = codec::parse_header(&read(dev, header_at, sector as usize).map_err(unreadable)?, at)?;
    let array_at = offset(header.array).ok_or(Damage::Field("entry array position"))?;
    if dev.size() - array_at < header.array_bytes() as u64 {
        return Err(Damage::Field("entry array position"));
    }
    let table = codec::parse_table(
        &header,
        &read(dev, array_at, header.array_bytes()).map_err(unreadable)?,
        dev.sector(),
    )?;
    if table.sectors > dev.size() / sector {
        return Err(Damage::Field("size: the disk is smaller than the table says"));
    }
    Ok((table, header.other))
}

/// Writes one copy and waits for it.
fn put(dev: &mut impl BlockDevice, pieces: &Pieces) -> Result<(), Error> {
    for (at, bytes) in pieces {
        let offset = at * dev.sector().bytes();
        dev.write_at(offset, bytes).map_err(|source| Error::Io {
            doing: "write",
            offset,
            source,
        })?;
    }
    flush(dev)
}

fn flush(dev: &mut impl BlockDevice) -> Result<(), Error> {
    dev.flush().map_err(|source| Error::Io {
        doing: "flush",
        offset: 0,
        source,
    })
}

impl Table {
    /// Reads the table: the copy at the start if it is whole, else the one at the end.
    ///
    /// # Errors
    /// [`Error::NoTable`] says what is wrong with each copy.
    pub fn read(dev: &impl BlockDevice) -> Result<Found, Error> {
        let end = (dev.size() / dev.sector().bytes()).saturating_sub(1);
        let primary = read_copy(dev, 1);
        let mut backup = read_copy(dev, end);
        let mut misplaced = false;
        if let (Ok((_, other)), Err(_)) = (&primary, &backup)
            && *other > 1
            && *other < end
            && let Ok(found) = read_copy(dev, *other)
        {
            backup = Ok(found);
            misplaced = true;
        }
        match (primary, backup) {
            (Ok((table, _)), backup) => {
                let backup = match backup {
                    Ok(_) if misplaced => CopyState::Misplaced,
                    Ok((other, _)) if other == table => CopyState::Good,
                    Ok(_) => CopyState::Stale,
                    Err(damage) => CopyState::Bad(damage),
                };
                Ok(Found {
                    table,
                    from: Copy::Primary,
                    primary: CopyState::Good,
                    backup,
                })
            }
            (Err(damage), Ok((table, _))) => Ok(Found {
                table,
                from: Copy::Backup,
                primary: CopyState::Bad(damage),
                backup: CopyState::Good,
            }),
            (Err(primary), Err(backup)) => Err(Error::NoTable { primary, backup }),
        }
    }

    /// Writes both copies and the protective MBR. The copy that is not whole on the disk goes first, otherwise the
    /// backup; the second one is touched only after the first is flushed. So a power cut at any sector leaves a whole
    /// copy, which says what the disk said before or what this table says. A copy that is already right is not written.
    ///
    /// # Errors
    /// The table contradicts itself or the disk, or the disk fails.
    pub fn write(&self, dev: &mut impl BlockDevice) -> Result<(), Error> {
        self.check()?;
        let sectors = dev.size() / dev.sector().bytes();
        if self.sector != dev.sector() || self.sectors != sectors {
            return Err(Error::Inconsistent(format!(
                "it is for {} sectors of {} bytes, the disk has {sectors} of {}; call fit_disk first",
                self.sectors,
                self.sector,
                dev.sector()
            )));
        }
        let mut copies = [codec::backup(self), codec::primary(self)];
        if read_copy(dev, 1).is_err() {
            copies.reverse();
        }
        for pieces in &copies {
            if !is_there(dev, pieces)? {
                put(dev, pieces)?;
            }
        }
        self.write_mbr(dev)
    }

    /// Writes the protective MBR where it differs, keeping any boot code. It is one sector, and of a valid one only
    /// the size of the disk changes, which firmware and Linux do not insist on.
    fn write_mbr(&self, dev: &mut impl BlockDevice) -> Result<(), Error> {
        let mut sector = read(dev, 0, self.sector.bytes() as usize)?;
        let wanted = codec::protective_mbr(self);
        if sector.get(codec::MBR_RANGE) == Some(wanted.as_slice()) {
            return Ok(());
        }
        if let Some(place) = sector.get_mut(codec::MBR_RANGE) {
            place.copy_from_slice(&wanted);
        }
        put(dev, &vec![(0, sector)])
    }
}

fn is_there(dev: &impl BlockDevice, pieces: &Pieces) -> Result<bool, Error> {
    for (at, bytes) in pieces {
        if read(dev, at * dev.sector().bytes(), bytes.len())? != *bytes {
            return Ok(false);
        }
    }
    Ok(true)
}
