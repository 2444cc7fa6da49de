//! What the bytes on the disk mean. Everything here is pure: bytes in, values out, and nothing panics on any bytes.

pub(crate) mod block;
pub(crate) mod bytes;
pub(crate) mod header;
pub(crate) mod row;
pub(crate) mod rows;
pub(crate) mod segment;
pub(crate) mod tail;

/// The longest piece of a line that one stored record holds, in bytes; longer lines are stored as several.
pub const PIECE: usize = 32 << 10;
/// The longest line that is put together again at reading, in bytes; what is longer was cut in two at writing.
pub const LONGEST_LINE: usize = 16 << 20;
/// What the instance and fields of one record may take, in bytes.
pub const LARGEST_ORIGIN: usize = 128 << 10;
