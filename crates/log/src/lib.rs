//! The log store of an appliance: any bytes in, the same bytes out, and no power cut makes unreadable what was there before.
//!
//! A library without threads and without an event loop: the manager writes through one [`Store`]; the `cairn` command (or the
//! manager) reads the same files through a [`Reader`], beside the writer and without a lock. Clocks are arguments.
//!
//! | to | see |
//! | --- | --- |
//! | cut a pipe's bytes into lines | [`Lines`] |
//! | understand datagrams of `/dev/log` and records of `/dev/kmsg` | [`syslog::parse`], [`kmsg::parse`] |
//! | keep one unit from flooding | [`Flood`] |
//! | store | [`Store::append`], [`Store::sync`] |
//! | hold limits of size, age and share | [`Limits`], [`plan`], [`Store::apply_retention`] |
//! | read, search, follow | [`Reader::query`], [`Query`], [`Follow`] |
//! | show | [`output`] |
//! | send to a remote syslog | [`syslog::Outgoing`] |
//!
//! # What is promised
//! - A record that [`Store::append`] took outlives the death of the process, at any moment. One that was there at the last
//!   [`Store::sync`] outlives a power cut. Neither loses or hides anything earlier.
//! - A message comes back byte for byte: of any length, with any bytes (what a pipe sends is cut only at newlines and after
//!   [`LONGEST_LINE`]).
//! - When the disk is full, [`Store::append`] says so ([`Error::is_full`]), nothing that stood there is lost, and it works again
//!   when there is space.
//! - Records are in order of arrival over all units, also when the clock goes backwards; `since` and `until` still find exactly
//!   the records with such a time, since no search takes times to be in order.
//! - A [`Cursor`] is one number for all units, and stays right when what it points at is deleted.
//!
//! # The files
//! `ROOT/UNIT/` holds a unit's log. Every file is named by the place of its first record in 16 hexadecimal digits:
//!
//! ```text
//! 0000020000000000.seg    a segment: compressed blocks; finished, with an index at its end
//! 0000020000009c41.seg    the active segment: no index yet
//! 000002000000b1f0.tail   the tail: the newest records, a frame each
//! ```
//!
//! **A place** ([`Seq`]) is a 64-bit number that no two records of the store share: its upper 24 bits count the writers that
//! opened the store, its lower 40 that writer's records over all units. A new writer takes the highest number that any file's
//! *name* has, leaves one out (a tail may reach into the next) and starts there; so that the names tell, a folder whose tails are
//! all packed has a mark, an empty file `PLACE.mark` named by the last place. So opening the store reads names only, needs
//! no file that says where to go on (which could be lost), and merging units needs no clock.
//!
//! **A tail** is what [`Store::append`] writes to: one write(2) for each call, so a follower sees a record at once, and a
//! manager that is killed has lost nothing it has taken from a pipe. All numbers are little endian.
//! ```text
//! 8    "cairntl1"            16  boot id            u32  zero        u32  CRC-32 of the 28 bytes before
//!      then frames:
//! u32  length of the payload
//! u32  CRC-32 of the four bytes of the length and the payload (so zeros, which file systems leave behind, are no frame)
//!      payload:
//!   u64 place, u64 realtime (ns since 1970), u64 monotonic (ns)
//!   u8 part: 0 whole, 1 first, 2 middle, 3 last; after 2 and 3 a varint: how many places back the line's first piece is
//!   varint length of the origin, then the origin:
//!     u8 stream (1 stdout, 2 stderr, 3 syslog, 4 kernel, 5 manager), u8 priority,
//!     counted instance, varint number of fields, and each as counted name, counted value
//!   the message: the rest
//! ```
//! "Counted" is a varint length and so many bytes; varints are LEB128, at most ten bytes. A tail ends at the first thing that is
//! not a whole frame with a right checksum and a place after the one before it. It is never cut or written again by a later
//! writer: that one starts its own.
//!
//! **A segment** is blocks one after the other. Each is a head of 80 bytes and a zstd frame:
//! ```text
//! 0   8    "cairnbk1" (of an index: "cairnix1")
//! 8   u32  length of what follows, stored     12  u32  unpacked      16  u32  CRC-32 of it, as stored
//! 20  u32  number of records                  24  u64  first place   32  u64  last place
//! 40  u64  earliest realtime                  48  u64  latest realtime
//! 56  16   boot id (of an index: zeros)       72  u8   the most urgent priority
//! 73  u8   1: pieces of long lines are there  74  2    zeros         76  u32  CRC-32 of the 76 bytes before
//! ```
//! Unpacked, in columns (like stands by like, which compresses far better than records one after the other):
//! ```text
//! varint number of origins, then each origin (as in a tail), counted
//! and, each column counted: places (varint, step from the one before; the first from the head's first place),
//! realtime (zigzag varint, step; the first from the head's earliest), monotonic (zigzag, its step less realtime's),
//! origin (varint index), part (as in a tail), length of the message (varint), and the messages one after the other
//! ```
//! A finished segment ends with an index: a head over all blocks, the blocks' heads again, `u32` the index's length, "cairnend".
//! A search by time, priority or place reads the last 12 and then 80 bytes of a segment, and if those do not rule it out its
//! index, and then only the blocks that may hold what is asked for.
//! The index repeats only what the blocks say: without it, the heads are walked; over damage, the next whole head is searched for.
//!
//! **From tail to segment.** A full tail (256 KiB, or 1/32 of the unit's limit) is packed: the block is appended to the active
//! segment; after a few, or at [`Store::sync`], the segment is synced, then its folder, and only then are the packed tails
//! removed. A power cut in between leaves records in both; their places show that they are the same, to readers and to the next
//! writer. That writer reads the blocks that may not have been synced (exactly those whose records tails still have), cuts the
//! segment before the first damaged one, and packs the tails again. Older blocks were synced: they are never cut, even if damaged.
//! A segment of 8 MiB (or 1/8 of the limit) is finished, and retention looks at the unit.
//!
//! **Why not** rewrite and rename, as elsewhere in Cairn? A log is appended to thousands of times a second. Why not one file of
//! compressed blocks? A follower would see nothing until a block is full, or blocks would be too small to compress. Why CRC-32? It
//! guards against torn writes and rot, not against people: who can write these files can also write a checksum.

mod error;
mod flood;
mod format;
#[doc(hidden)]
pub mod fuzz;
pub mod kmsg;
mod line;
mod names;
pub mod output;
mod read;
mod record;
pub mod syslog;
mod time;
mod write;

pub use error::Error;
pub use flood::{Dropped, Flood, Rate, Verdict};
pub use format::{LARGEST_ORIGIN, LONGEST_LINE, PIECE};
pub use line::Lines;
pub use read::chunks::Damage;
pub use read::follow::Follow;
pub use read::query::{Cursor, Query};
pub use read::records::{Reader, Records};
pub use record::{BootId, Entry, FieldName, Origin, Part, Priority, Record, Seq, Stream};
pub use time::parse_time;
pub use write::retention::{Deletion, Limits, Plan, Reason, Space, StoredFile, UnitLimits, plan};
pub use write::store::Store;
