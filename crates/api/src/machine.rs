//! The answer about the machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The machine, as the appliance sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MachineState {
    /// Its memory, in bytes.
    pub memory: u64,
    /// Its processors.
    pub cpus: u32,
    /// The data partition, which each start grows to the end of its disk.
    pub data: Room,
    /// Whether the data partition is encrypted, and who opens it.
    #[serde(default)]
    pub encryption: DataEncryption,
    /// The clock.
    pub clock: Clock,
}

/// How the data partition is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DataEncryption {
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Whether the machine's TPM opens it at the next start; else that start asks for the recovery key at the console.
    pub sealed: bool,
    /// Why the TPM does not.
    pub why: String,
    /// Whether the recovery key still lies on the appliance, because nobody has said that it is saved elsewhere.
    pub recovery_key_unsaved: bool,
}

/// The recovery key of the data partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryKey {
    /// As it is typed at the console: eight groups of four.
    pub key: String,
}

/// The room of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Room {
    /// All of it, in bytes.
    pub size: u64,
    /// What is in use, in bytes; what the file system keeps back counts as neither used nor free.
    pub used: u64,
    /// What can still be written, in bytes.
    pub free: u64,
}

/// The clock.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Clock {
    /// What it shows, in UTC as in RFC 3339. An appliance has no other time zone.
    pub now: String,
    /// Whether a program keeps it by a time server: the kernel's word (`adjtimex`, without `STA_UNSYNC`). Else it goes on by itself
    /// since the machine's firmware or host set it.
    pub synchronised: bool,
    /// How far off it may be at most, in microseconds, as the kernel estimates it; `null` while nothing keeps it.
    pub error_us: Option<u64>,
}
