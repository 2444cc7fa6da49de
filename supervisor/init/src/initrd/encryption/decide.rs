//! What is done with the data partition, from what is asked for and what is there. No I/O.

use std::fmt;

/// What lies on the data partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// A LUKS2 header.
    Luks,
    /// Anything else.
    Other,
}

/// LUKS2's first header (LUKS2 On-Disk Format Specification 1.1.3, 2.1): magic, then the version.
const MAGIC: [u8; 8] = *b"LUKS\xba\xbe\x00\x02";

impl Content {
    /// By a partition's first bytes.
    pub(crate) fn of(first: &[u8]) -> Self {
        match first.starts_with(&MAGIC) {
            true => Self::Luks,
            false => Self::Other,
        }
    }
}

/// What the machine has that keys can be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    /// A TPM 2 that the kernel knows.
    pub(crate) tpm: bool,
    /// Whether Secure Boot is in force.
    pub(crate) secure_boot: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make a plain file system.
    MakePlain,
    /// Make LUKS2 with new keys, and a file system in it.
    MakeEncrypted,
    /// Mount what is there.
    MountPlain,
    /// Open it, by the TPM's key or the recovery key, and mount what is in it.
    Open,
}

/// Why neither is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// This version asks for encryption, and the partition has none.
    NotEncrypted,
    /// The partition is encrypted, and this version knows nothing of it.
    Encrypted,
    /// There is nothing that would keep the key.
    NoTpm,
    /// A TPM would give the key to any system.
    NoSecureBoot,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotEncrypted => {
                "this version wants it encrypted and it is not: somebody has exchanged it, or a version without encryption made it. Start the version of \
                 before, or back up and write the image anew"
            }
            Self::Encrypted => "it is encrypted, and this version has no encryption: start a version that has",
            Self::NoTpm => {
                "it is to be encrypted, and this machine has no TPM 2 to keep the key: switch it on in the firmware's menu, or use an image without \
                 encryption"
            }
            Self::NoSecureBoot => {
                "it is to be encrypted, and Secure Boot is not in force: the TPM would give the key to any system. Enrol the keys (hold the space bar at \
                 the start), or use an image without encryption"
            }
        })
    }
}

/// What is done. `wanted`: this version asks for encryption; `make`: there is no whole file system yet.
pub(crate) fn step(wanted: bool, make: bool, content: Content, machine: Machine) -> Result<Step, Refusal> {
    match (wanted, make, content) {
        (false, true, _) => Ok(Step::MakePlain),
        (false, false, Content::Other) => Ok(Step::MountPlain),
        (false, false, Content::Luks) => Err(Refusal::Encrypted),
        (true, true, _) if !machine.tpm => Err(Refusal::NoTpm),
        (true, true, _) if !machine.secure_boot => Err(Refusal::NoSecureBoot),
        (true, true, _) => Ok(Step::MakeEncrypted),
        (true, false, Content::Luks) => Ok(Step::Open),
        (true, false, Content::Other) => Err(Refusal::NotEncrypted),
    }
}

/// Whether a partition that the recovery key opened has its key sealed anew, or why not.
pub(crate) fn seal_anew(machine: Machine) -> Result<(), &'static str> {
    match machine {
        Machine { tpm: false, .. } => Err("this machine has no TPM 2"),
        Machine { secure_boot: false, .. } => {
            Err("Secure Boot is not in force, and the TPM would give the key to any system")
        }
        _ => Ok(()),
    }
}

/// The name of a boot entry's file with the try given back that this start took: waiting for a person is no failure of a version.
/// (`NAME+LEFT-DONE.efi`, systemd.io/AUTOMATIC_BOOT_ASSESSMENT.)
pub(crate) fn try_given_back(file: &str) -> Option<String> {
    let (stem, counter) = file.strip_suffix(".efi")?.rsplit_once('+')?;
    let (left, done) = counter.split_once('-')?;
    let (left, done): (u32, u32) = (left.parse().ok()?, done.parse().ok()?);
    let done = done.checked_sub(1)?;
    let left = left.checked_add(1)?;
    Some(match done {
        0 => format!("{stem}+{left}.efi"),
        done => format!("{stem}+{left}-{done}.efi"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAFE: Machine = Machine {
        tpm: true,
        secure_boot: true,
    };

    #[test]
    fn a_plain_partition_is_never_taken_for_an_encrypted_one_nor_formatted() {
        for machine in [SAFE, Machine { tpm: false, ..SAFE }] {
            assert_eq!(step(true, false, Content::Other, machine), Err(Refusal::NotEncrypted));
            assert_eq!(step(true, false, Content::Luks, machine), Ok(Step::Open));
            assert_eq!(step(false, false, Content::Luks, machine), Err(Refusal::Encrypted));
            assert_eq!(step(false, false, Content::Other, machine), Ok(Step::MountPlain));
        }
    }

    #[test]
    fn nothing_is_made_whose_key_nobody_would_keep() {
        let unsafe_ones = [
            (false, true, Refusal::NoTpm),
            (false, false, Refusal::NoTpm),
            (true, false, Refusal::NoSecureBoot),
        ];
        for (tpm, secure_boot, why) in unsafe_ones {
            let machine = Machine { tpm, secure_boot };
            assert_eq!(step(true, true, Content::Other, machine), Err(why));
            assert!(seal_anew(machine).is_err());
            assert_eq!(step(false, true, Content::Luks, machine), Ok(Step::MakePlain));
        }
        // What half a making left is made anew, whatever it looks like.
        for content in [Content::Luks, Content::Other] {
            assert_eq!(step(true, true, content, SAFE), Ok(Step::MakeEncrypted));
        }
        assert!(seal_anew(SAFE).is_ok());
    }

    #[test]
    fn luks2_is_known_by_its_header_and_luks1_is_not_it() {
        assert_eq!(Content::of(b"LUKS\xba\xbe\x00\x02more"), Content::Luks);
        for other in [&b"LUKS\xba\xbe\x00\x01more"[..], b"", b"LUKS", &[0; 512]] {
            assert_eq!(Content::of(other), Content::Other);
        }
    }

    #[test]
    fn a_start_that_waits_for_a_person_costs_no_try() {
        for (file, back) in [
            ("box_1.0+2-1.efi", Some("box_1.0+3.efi")),
            ("box_1.0+0-3.efi", Some("box_1.0+1-2.efi")),
            ("box_1.0+3.efi", None),
            ("box_1.0.efi", None),
            ("box_1.0+x-1.efi", None),
            ("box_1.0+2-0.efi", None),
        ] {
            assert_eq!(try_given_back(file).as_deref(), back, "{file}");
        }
    }
}
