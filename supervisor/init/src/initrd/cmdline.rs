//! What the initrd stage reads from the kernel's command line.

use cairn_disk::verity::RootHash;

use super::Failure;

const MIB: u64 = 1 << 20;

/// The settings of this boot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `roothash=`: the only root that may be started.
    pub(crate) root: RootHash,
    /// `cairn.slot=` in MiB: the size of a root partition, in bytes. Absent: that of the root.
    pub(crate) slot: Option<u64>,
    /// `cairn.verity=` in MiB: the size of a verity partition, in bytes. Absent: that of the root's.
    pub(crate) verity: Option<u64>,
    /// `cairn.data-min=` in MiB: the least size of the data partition, in bytes.
    pub(crate) data_min: u64,
    /// `cairn.data=tmpfs`: keep data in memory and leave the disk alone.
    pub(crate) data_in_memory: bool,
    /// `cairn.encryption=tpm`: the data partition is encrypted, and nothing else is taken for it.
    pub(crate) encrypted: bool,
    /// `cairn.debug`: say more.
    pub(crate) debug: bool,
}

impl Settings {
    /// Reads the command line. Words that are not ours are skipped; of a word that stands twice the last one holds.
    pub(crate) fn parse(line: &str) -> Result<Self, Failure> {
        let mut root = None;
        let mut settings = Self {
            root: RootHash([0; 32]),
            slot: None,
            verity: None,
            data_min: 256 * MIB,
            data_in_memory: false,
            encrypted: false,
            debug: false,
        };
        for word in line.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let bad = |wanted: &'static str| Failure::CommandLine {
                word: word.to_owned(),
                wanted,
            };
            let mib = || {
                let size = value.parse::<u64>().ok().filter(|n| (1..=1 << 30).contains(n));
                size.map(|n| n * MIB).ok_or_else(|| bad("a number of MiB"))
            };
            match key {
                "roothash" => root = Some(value.parse().map_err(|_| bad("64 hexadecimal digits"))?),
                "cairn.slot" => settings.slot = Some(mib()?),
                "cairn.verity" => settings.verity = Some(mib()?),
                "cairn.data-min" => settings.data_min = mib()?,
                "cairn.data" if value == "tmpfs" => settings.data_in_memory = true,
                "cairn.data" => return Err(bad("tmpfs, or nothing at all for the disk")),
                "cairn.encryption" if value == "tpm" => settings.encrypted = true,
                "cairn.encryption" => return Err(bad("tpm, or nothing at all for none")),
                "cairn.debug" => settings.debug = true,
                _ => {}
            }
        }
        settings.root = root.ok_or(Failure::NoRootHash)?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0f0e0d0c0b0a09080706050403020100ffeeddccbbaa99887766554433221100";

    #[test]
    fn a_full_line_is_read() {
        let line = format!("quiet console=ttyS0 roothash={HASH} cairn.slot=512 cairn.verity=16 cairn.debug panic=10\n");
        let settings = Settings::parse(&line).unwrap();
        assert_eq!(settings.root.to_string(), HASH);
        assert_eq!(settings.slot, Some(512 << 20));
        assert_eq!(settings.verity, Some(16 << 20));
        assert_eq!(settings.data_min, 256 << 20);
        assert!(settings.debug && !settings.data_in_memory && !settings.encrypted);
        let line = format!("roothash={HASH} cairn.encryption=tpm");
        assert!(Settings::parse(&line).unwrap().encrypted);
    }

    #[test]
    fn nothing_starts_without_a_root_hash() {
        assert!(matches!(Settings::parse("quiet"), Err(Failure::NoRootHash)));
    }

    #[test]
    fn a_typo_in_a_value_stops_the_boot_with_its_name() {
        for word in [
            "cairn.slot=5G",
            "cairn.slot=0",
            "cairn.slot=99999999999999999999",
            "cairn.data=ram",
            "cairn.encryption=on",
            "roothash=12",
        ] {
            let error = Settings::parse(&format!("roothash={HASH} {word}")).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
