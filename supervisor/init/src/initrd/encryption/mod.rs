//! An encrypted data partition: LUKS2, whose key the TPM keeps and gives only to what Secure Boot let through, before the partition is open.
//!
//! What is to be done is a value ([`decide`]); cryptsetup and systemd-cryptenroll from the verified root do it.

mod decide;
mod key;
mod luks;
mod prompt;
mod tpm;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use decide::{Content, Machine};
pub(super) use decide::{Refusal, Step, step, try_given_back};
use key::RecoveryKey;
use prompt::{Answer, Consoles};

use super::disks::KernelPartition;
use super::failure::{Doing as _, Failure};
use super::{data, fallback};
use crate::console::say;
use crate::data_state::{self, DataState, RECOVERY_KEY};

/// How often a key is tried before a pause.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(60);

/// What a partition holds.
pub(super) fn content(partition: &KernelPartition) -> Result<Content, Failure> {
    Ok(Content::of(&luks::first(partition)?))
}

/// What keys can be bound to here.
pub(super) fn machine() -> Machine {
    Machine {
        tpm: tpm::is_there(),
        secure_boot: fallback::secure_boot(),
    }
}

/// One step of making the partition. The table calls it `data-new` until all are done, so a power cut after any of them has the next start
/// begin again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Making {
    /// LUKS2, which the recovery key opens.
    Format,
    /// The TPM keeps a key.
    Seal,
    /// From here on the TPM gives it to nobody until the next start.
    Lock,
    Open,
    FileSystem,
    Mount,
    /// The recovery key lies in it, for its owner to read once.
    KeepKey,
    Flush,
}

const MAKING: [Making; 8] = [
    Making::Format,
    Making::Seal,
    Making::Lock,
    Making::Open,
    Making::FileSystem,
    Making::Mount,
    Making::KeepKey,
    Making::Flush,
];

/// Makes it, and mounts it on `target`. The caller then gives it its name.
pub(super) fn make(partition: &KernelPartition, target: &str) -> Result<KernelPartition, Failure> {
    let key = RecoveryKey::new().doing(|| "get random numbers".to_owned())?;
    let mut inner = partition.clone();
    for step in MAKING {
        match step {
            Making::Format => luks::format(partition, &key)?,
            Making::Seal => luks::seal(partition, &key)?,
            Making::Lock => lock(partition)?,
            Making::Open => {
                inner = luks::open(partition, luks::By::Recovery(&key))?.map_err(|why| Failure::Tool {
                    program: "cryptsetup",
                    device: partition.path().display().to_string(),
                    why,
                })?;
            }
            Making::FileSystem => data::format(&inner)?,
            Making::Mount => data::mount_data(&inner, target)?,
            Making::KeepKey => keep(&key, target)?,
            Making::Flush => flush(target)?,
        }
    }
    note(&DataState::Sealed);
    Ok(inner)
}

/// Opens it: by the TPM, or by the recovery key, for which a person is asked.
pub(super) fn open(partition: &KernelPartition) -> Result<KernelPartition, Failure> {
    let machine = machine();
    let why = match machine.tpm {
        false => "this machine has no TPM 2".to_owned(),
        true => match luks::open(partition, luks::By::Tpm)? {
            Ok(inner) => {
                lock(partition)?;
                note(&DataState::Sealed);
                return Ok(inner);
            }
            Err(why) => format!(
                "this machine's TPM does not give it. Secure Boot was switched off, its keys were changed, or this is another TPM ({why})"
            ),
        },
    };
    let (key, inner) = ask(partition, &why)?;
    let sealed = decide::seal_anew(machine).map_err(str::to_owned);
    let sealed = sealed.and_then(|()| seal_anew(partition, &key).map_err(|failure| failure.to_string()));
    if machine.tpm {
        lock(partition)?;
    }
    match sealed {
        Ok(()) => {
            say!("the data partition is open; from the next start on this machine's TPM opens it again");
            note(&DataState::Sealed);
        }
        Err(why) => {
            say!("the data partition is open; the next start asks for the recovery key again: {why}");
            note(&DataState::NotSealed(why));
        }
    }
    Ok(inner)
}

/// What another TPM keeps, or this one for another state, goes.
fn seal_anew(partition: &KernelPartition, key: &RecoveryKey) -> Result<(), Failure> {
    luks::forget_sealed(partition)?;
    luks::seal(partition, key)
}

/// Closes it for being made anew.
pub(super) fn close(partition: &KernelPartition) -> Result<(), Failure> {
    luks::close(&partition.path().display().to_string())
}

/// Has the TPM give the key to nobody until the next start. If it cannot be told, nothing that comes later may run.
fn lock(partition: &KernelPartition) -> Result<(), Failure> {
    tpm::lock().map_err(|error| Failure::Encryption {
        device: partition.path().display().to_string(),
        why: format!("the TPM cannot be told to keep its key from here on ({error}); switch the machine off and on"),
        of_this_version: false,
    })
}

/// The same where nothing is opened: a start by the same signer's keys could else ask for the key of a partition that was put aside.
pub(super) fn lock_unopened() {
    if tpm::is_there()
        && let Err(error) = tpm::lock()
    {
        say!("the TPM cannot be told to keep what was sealed in it: {error}");
    }
}

/// Waits for a person who types the right key.
fn ask(partition: &KernelPartition, why: &str) -> Result<(RecoveryKey, KernelPartition), Failure> {
    // Nobody is there, perhaps for days: no version is given up for that.
    let given = fallback::give_back_try();
    let mut consoles = Consoles::open()?;
    let mut wrong = 0;
    consoles.say(&format!(
        "the data partition is encrypted, and its key is missing: {why}"
    ));
    loop {
        consoles.say("type the recovery key (it is not shown), or `restart`:");
        match consoles.answer()? {
            Answer::Nothing => {}
            Answer::Restart => return Err(Failure::Asked),
            Answer::Mistyped => {
                consoles.say("that is no recovery key: it has eight groups of four; a letter is wrong or missing")
            }
            Answer::Key(key) => match luks::open(partition, luks::By::Recovery(&key))? {
                Ok(inner) => {
                    if let Some(given) = given {
                        fallback::take_try_again(given);
                    }
                    return Ok((key, inner));
                }
                Err(_) => {
                    wrong += 1;
                    consoles.say("that is the recovery key of another partition, or an old one");
                    if wrong % TRIES == 0 {
                        let seconds = PAUSE.as_secs();
                        consoles.say(&format!("{wrong} keys did not fit; wait for {seconds} seconds"));
                        std::thread::sleep(PAUSE);
                    }
                }
            },
        }
    }
}

/// Puts the key where the manager finds it, until its owner has it.
fn keep(key: &RecoveryKey, target: &str) -> Result<(), Failure> {
    let path = Path::new(target).join(RECOVERY_KEY);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    file.and_then(|mut file| {
        file.write_all(format!("{}\n", key.text()).as_bytes())?;
        file.sync_all()
    })
    .doing(|| format!("write {}", path.display()))
}

fn flush(target: &str) -> Result<(), Failure> {
    let folder = fs::File::open(target).doing(|| format!("open {target}"))?;
    rustix::fs::syncfs(folder).doing(|| format!("flush {target}"))
}

/// For the manager; without it, it does not know.
fn note(state: &DataState) {
    let _ = fs::write(data_state::FILE, state.text());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is on the disk and in the TPM after some steps.
    #[derive(Default)]
    struct Disk {
        luks: bool,
        sealed: bool,
        locked: bool,
        open: bool,
        whole: bool,
        mounted: bool,
        kept: bool,
        flushed: bool,
    }

    impl Disk {
        fn does(&mut self, step: Making) {
            match step {
                Making::Format => {
                    *self = Self {
                        luks: true,
                        ..Self::default()
                    }
                }
                Making::Seal => self.sealed = self.luks,
                Making::Lock => self.locked = true,
                Making::Open => self.open = self.luks,
                Making::FileSystem => self.whole = self.open,
                Making::Mount => self.mounted = self.whole,
                Making::KeepKey => self.kept = self.mounted,
                Making::Flush => self.flushed = self.kept,
            }
        }
    }

    #[test]
    fn a_making_that_is_cut_short_anywhere_is_begun_again_and_ends_whole() {
        let safe = Machine {
            tpm: true,
            secure_boot: true,
        };
        for cut in 0..=MAKING.len() {
            let mut disk = Disk::default();
            MAKING[..cut].iter().for_each(|step| disk.does(*step));
            let content = if disk.luks { Content::Luks } else { Content::Other };
            // The name is given after the last step: until then the partition is to be made.
            assert_eq!(step(true, true, content, safe), Ok(Step::MakeEncrypted), "{cut}");
            MAKING.iter().for_each(|step| disk.does(*step));
            assert!(disk.sealed && disk.locked && disk.flushed, "{cut}");
        }
    }

    #[test]
    fn nothing_that_was_written_by_others_is_read_before_the_tpm_is_locked() {
        let at = |step| MAKING.iter().position(|s| *s == step).unwrap();
        assert!(at(Making::Seal) < at(Making::Lock) && at(Making::Lock) < at(Making::Mount));
    }
}
