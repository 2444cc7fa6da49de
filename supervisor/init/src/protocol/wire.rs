//! Fields to bytes and back.

use super::{FRAME_LEN, Frame, Malformed, StoreId, VERSION};

const BODY: usize = 8;

/// A message is good only if writing it again gives the same bytes: so no byte goes unread.
pub(super) fn check(bytes: &[u8], again: &Frame, wanted: usize, got: usize) -> Result<(), Malformed> {
    if wanted != got {
        return Err(Malformed::Descriptors { wanted, got });
    }
    if bytes != again {
        return Err(Malformed::Padding);
    }
    Ok(())
}

pub(super) struct Writer {
    pub(super) frame: Frame,
    at: usize,
}

impl Writer {
    pub(super) fn new(kind: u8, fds: usize) -> Self {
        let mut frame = [0; FRAME_LEN];
        frame[0] = VERSION;
        frame[1] = kind;
        frame[2] = fds as u8;
        Self { frame, at: BODY }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.frame[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }
}

/// Reads fields from a body whose length has been checked once, in [`Reader::open`]; no
/// message has more fields than fit.
pub(super) struct Reader<'a> {
    body: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<(u8, Self), Malformed> {
        if bytes.len() != FRAME_LEN {
            return Err(Malformed::Length(bytes.len()));
        }
        if bytes[0] != VERSION {
            return Err(Malformed::Version(bytes[0]));
        }
        Ok((bytes[1], Self { body: &bytes[BODY..] }))
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.body.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.body = rest;
                *head
            }
            None => [0; N],
        }
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub(super) fn i32(&mut self) -> i32 {
        i32::from_le_bytes(self.take())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    pub(super) fn id(&mut self) -> Result<StoreId, Malformed> {
        StoreId::from_wire(self.take()).ok_or(Malformed::Field)
    }
}
