//! What the initrd stage tells the manager of the data partition.

use std::path::Path;

/// Where it says it, in memory.
pub const FILE: &str = "/run/cairn-data";
/// The file at the top of the data partition that holds its recovery key, until the owner has it.
pub const RECOVERY_KEY: &str = "recovery-key";

/// How the data partition is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataState {
    /// It is not encrypted.
    Plain,
    /// It is encrypted, and the TPM opens it at the next start.
    Sealed,
    /// It is encrypted, and the next start asks for the recovery key; why.
    NotSealed(String),
}

impl DataState {
    /// What the initrd stage of this start said; without a word it is not encrypted.
    pub fn read(file: &Path) -> Self {
        Self::of(&std::fs::read_to_string(file).unwrap_or_default())
    }

    /// From its text.
    pub fn of(text: &str) -> Self {
        match text.trim_end().split_once(' ') {
            _ if text.trim_end() == "sealed" => Self::Sealed,
            Some(("not-sealed", why)) => Self::NotSealed(why.to_owned()),
            _ => Self::Plain,
        }
    }

    /// As one line.
    pub fn text(&self) -> String {
        match self {
            Self::Plain => "plain\n".to_owned(),
            Self::Sealed => "sealed\n".to_owned(),
            Self::NotSealed(why) => format!("not-sealed {}\n", why.replace('\n', " ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let why = DataState::NotSealed("there is no TPM here".into());
        for state in [DataState::Plain, DataState::Sealed, why] {
            assert_eq!(DataState::of(&state.text()), state);
        }
        assert_eq!(DataState::read(Path::new("/nonexistent")), DataState::Plain);
    }
}
