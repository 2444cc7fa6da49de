//! The values that messages carry.

use core::fmt;

use super::STORE_ID_LEN;

/// The name under which a descriptor is stored: 1 to 64 bytes, no NUL, padded with NUL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId(pub(super) [u8; STORE_ID_LEN]);

impl StoreId {
    /// A name from its bytes; `None` if it is empty, longer than 64 bytes or holds a NUL.
    pub fn new(name: impl AsRef<[u8]>) -> Option<Self> {
        let name = name.as_ref();
        if name.is_empty() || name.len() > STORE_ID_LEN || name.contains(&0) {
            return None;
        }
        let mut id = [0; STORE_ID_LEN];
        id[..name.len()].copy_from_slice(name);
        Some(Self(id))
    }

    /// The name without its padding.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|b| *b == 0).unwrap_or(STORE_ID_LEN);
        &self.0[..len]
    }

    pub(super) fn from_wire(bytes: [u8; STORE_ID_LEN]) -> Option<Self> {
        let len = bytes.iter().position(|b| *b == 0).unwrap_or(STORE_ID_LEN);
        let padded = bytes[len..].iter().all(|b| *b == 0);
        (len > 0 && padded).then_some(Self(bytes))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({})", self.as_bytes().escape_ascii())
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

/// The file at the top of the data partition by which the manager has the next start make that partition anew.
pub const FACTORY_RESET: &str = "factory-reset";

/// How the machine is to end this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerKind {
    /// Switch the machine off.
    PowerOff,
    /// Start it again.
    Reboot,
    /// Stop, and leave it switched on.
    Halt,
}

impl PowerKind {
    pub(super) fn to_wire(self) -> u32 {
        match self {
            Self::PowerOff => 1,
            Self::Reboot => 2,
            Self::Halt => 3,
        }
    }

    pub(super) fn from_wire(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::PowerOff),
            2 => Some(Self::Reboot),
            3 => Some(Self::Halt),
            _ => None,
        }
    }
}

/// Which program a manager is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The manager in the image; no other was tried in this boot.
    Image,
    /// The one that came with [`Request::ReplaceManager`](super::Request::ReplaceManager).
    Replacement,
    /// The manager in the image, because its replacement was given up.
    FellBack,
}

impl Origin {
    pub(super) fn to_wire(self) -> u32 {
        match self {
            Self::Image => 0,
            Self::Replacement => 1,
            Self::FellBack => 2,
        }
    }

    pub(super) fn from_wire(value: u32) -> Option<Self> {
        match value {
            0 => Some(Self::Image),
            1 => Some(Self::Replacement),
            2 => Some(Self::FellBack),
            _ => None,
        }
    }
}

/// How a process ended, as wait4(2) reports it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus(pub i32);

impl ExitStatus {
    /// The exit code, if the process ended by itself.
    pub fn code(self) -> Option<i32> {
        (self.0 & 0x7f == 0).then_some((self.0 >> 8) & 0xff)
    }

    /// The signal that ended the process, if one did.
    pub fn signal(self) -> Option<i32> {
        let signal = self.0 & 0x7f;
        (signal != 0 && signal != 0x7f).then_some(signal)
    }

    /// Whether the signal also wrote a core file.
    pub fn core_dumped(self) -> bool {
        self.signal().is_some() && self.0 & 0x80 != 0
    }

    /// Whether the process ended by itself with code 0.
    pub fn success(self) -> bool {
        self.code() == Some(0)
    }
}

impl fmt::Debug for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code(), self.signal()) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (_, Some(signal)) if self.core_dumped() => write!(f, "signal {signal}, core dumped"),
            (_, Some(signal)) => write!(f, "signal {signal}"),
            _ => write!(f, "wait status {:#x}", self.0),
        }
    }
}
