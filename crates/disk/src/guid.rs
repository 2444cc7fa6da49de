//! GUIDs, in the order in which people read them.

use std::fmt;
use std::str::FromStr;

/// A GUID (UUID), held in the order of its text: `4f68bce3-...` starts with the byte `0x4f`.
///
/// A partition table stores the first three fields with the low byte first (UEFI specification, appendix A);
/// [`Guid::to_disk`] and [`Guid::from_disk`] convert. Everything else (dm-verity, EROFS) stores the order of the text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Guid([u8; 16]);

/// The text is not a GUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a GUID: write 32 hexadecimal digits as 8-4-4-4-12")]
pub struct GuidError(String);

impl Guid {
    /// The GUID of all zeros, which marks an unused partition entry.
    pub const NIL: Self = Self([0; 16]);

    /// From bytes in the order of the text.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// From a number whose hexadecimal form is the text without its dashes; for constants.
    pub const fn from_u128(value: u128) -> Self {
        Self(value.to_be_bytes())
    }

    /// A GUID computed from a content hash: the hash's bits with version 8 ("custom", RFC 9562) and variant set.
    pub const fn from_hash(hash: [u8; 16]) -> Self {
        let mut bytes = hash;
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// The bytes in the order of the text.
    pub const fn bytes(&self) -> [u8; 16] {
        self.0
    }

    /// The bytes as a partition table stores them.
    pub const fn to_disk(&self) -> [u8; 16] {
        let b = self.0;
        [
            b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15],
        ]
    }

    /// From the bytes as a partition table stores them.
    pub const fn from_disk(bytes: [u8; 16]) -> Self {
        // The permutation is its own inverse.
        Self(Self(bytes).to_disk())
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Guid {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Self, GuidError> {
        let bad = || GuidError(text.chars().take(64).collect());
        let fields: Vec<&str> = text.split('-').collect();
        let lengths: Vec<usize> = fields.iter().map(|f| f.len()).collect();
        if lengths != [8, 4, 4, 4, 12] || !text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        u128::from_str_radix(&fields.concat(), 16)
            .map(Self::from_u128)
            .map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_as_it_was() {
        let text = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
        assert_eq!(text.parse::<Guid>().unwrap().to_string(), text);
        for bad in [
            "",
            "4f68bce3",
            "4f68bce3-e8cd-4db1-96e7-fbcaf984b70",
            "4f68bce3-e8cd-4db1-96e7-fbcaf984b70g",
            "+f68bce3-e8cd-4db1-96e7-fbcaf984b709",
        ] {
            assert!(bad.parse::<Guid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_three_fields_are_turned_round_on_disk() {
        let guid = Guid::from_u128(0x00112233_4455_6677_8899_aabbccddeeff);
        assert_eq!(
            guid.to_disk(),
            [
                0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff
            ]
        );
        assert_eq!(Guid::from_disk(guid.to_disk()), guid);
    }
}
