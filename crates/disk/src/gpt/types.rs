//! Partition types and attributes of the Discoverable Partitions Specification
//! (<https://uapi-group.org/specifications/specs/discoverable_partitions_specification/>).

use std::fmt;

use crate::Guid;

/// The processor that a root partition is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// Debian's `amd64`.
    X86_64,
    /// Debian's `arm64`.
    Arm64,
}

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionType {
    /// The EFI system partition.
    Esp,
    /// A root file system.
    Root(Arch),
    /// The dm-verity hash tree of a root file system.
    RootVerity(Arch),
    /// Linux data of no stated use; ours hold `/data`.
    LinuxGeneric,
    /// Anything else; kept as it is.
    Other(Guid),
}

const KNOWN: [(PartitionType, Guid, &str); 6] = [
    (
        PartitionType::Esp,
        Guid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b),
        "esp",
    ),
    (
        PartitionType::Root(Arch::X86_64),
        Guid::from_u128(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709),
        "root-x86-64",
    ),
    (
        PartitionType::RootVerity(Arch::X86_64),
        Guid::from_u128(0x2c7357ed_ebd2_46d9_aec1_23d437ec2bf5),
        "root-x86-64-verity",
    ),
    (
        PartitionType::Root(Arch::Arm64),
        Guid::from_u128(0xb921b045_1df0_41c3_af44_4c6f280d3fae),
        "root-arm64",
    ),
    (
        PartitionType::RootVerity(Arch::Arm64),
        Guid::from_u128(0xdf3300ce_d69f_4c92_978c_9bfb0f38d820),
        "root-arm64-verity",
    ),
    (
        PartitionType::LinuxGeneric,
        Guid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4),
        "linux-generic",
    ),
];

impl PartitionType {
    /// The type's GUID.
    pub fn guid(self) -> Guid {
        if let Self::Other(guid) = self {
            return guid;
        }
        KNOWN
            .iter()
            .find(|(kind, ..)| *kind == self)
            .map_or(Guid::NIL, |(_, guid, _)| *guid)
    }

    /// The type of a GUID.
    pub fn from_guid(guid: Guid) -> Self {
        KNOWN
            .iter()
            .find(|(_, known, _)| *known == guid)
            .map_or(Self::Other(guid), |(kind, ..)| *kind)
    }
}

impl fmt::Display for PartitionType {
    /// The name that systemd-repart and systemd-dissect use, or the GUID.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KNOWN.iter().find(|(kind, ..)| kind == self) {
            Some((.., name)) => f.write_str(name),
            None => self.guid().fmt(f),
        }
    }
}

/// The 64 attribute bits of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub u64);

impl Attributes {
    /// Bit 60: mount read-only.
    pub const READ_ONLY: Self = Self(1 << 60);
    /// Bit 63: do not mount without being told to.
    pub const NO_AUTO: Self = Self(1 << 63);
    /// Bit 59: grow the file system to the partition when mounting.
    pub const GROW_FS: Self = Self(1 << 59);

    /// Both sets of bits.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all bits of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
