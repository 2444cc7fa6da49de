//! Numbers and byte strings, in the few ways that the formats write them: little endian, LEB128 varints, zigzag for signed.

/// Takes values off the front of bytes; `None` when they end too early.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Take<'a>(pub(crate) &'a [u8]);

impl<'a> Take<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn zigzag(&mut self) -> Option<u64> {
        let value = self.varint()?;
        Some((value >> 1) ^ (value & 1).wrapping_neg())
    }

    pub(crate) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    /// A byte string after its own length.
    pub(crate) fn counted(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.bytes(length)
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A wrapping difference, small either way.
pub(crate) fn put_zigzag(out: &mut Vec<u8>, difference: u64) {
    put_varint(out, (difference << 1) ^ ((difference as i64) >> 63) as u64);
}

pub(crate) fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_is_taken(number: u64, other: u64, text: Vec<u8>) {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            put_zigzag(&mut out, other);
            put_counted(&mut out, &text);
            let mut take = Take(&out);
            prop_assert_eq!(take.varint(), Some(number));
            prop_assert_eq!(take.zigzag(), Some(other));
            prop_assert_eq!(take.counted(), Some(text.as_slice()));
            prop_assert!(take.0.is_empty());
        }
    }

    #[test]
    fn endless_and_short_numbers_are_refused() {
        assert_eq!(Take(&[0xff; 11]).varint(), None);
        assert_eq!(Take(&[0x80]).varint(), None);
        assert_eq!(
            Take(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).varint(),
            None
        );
        assert_eq!(Take(&[5, 1, 2]).counted(), None);
    }
}
