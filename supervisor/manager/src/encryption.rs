//! What the owner hears of an encrypted data partition, and its recovery key until it is saved elsewhere.

use std::fs;
use std::io;
use std::path::PathBuf;

use cairn_api::{Accepted, DataEncryption, RecoveryKey};
use cairn_init::data_state::{self, DataState, RECOVERY_KEY};

use crate::control::Answered;
use crate::supervisor::Supervisor;

impl Supervisor {
    fn recovery_key_file(&self) -> PathBuf {
        self.config.at("/data").join(RECOVERY_KEY)
    }

    /// How the data partition is kept, by the word of this boot's initrd stage.
    pub(crate) fn data_encryption(&self) -> DataEncryption {
        let state = DataState::read(&self.config.at(data_state::FILE));
        told(state, self.recovery_key_file().exists())
    }

    /// The key, as long as it is here.
    pub(crate) fn recovery_key(&self) -> Answered {
        match fs::read_to_string(self.recovery_key_file()) {
            Ok(text) => {
                let key = text.trim().to_owned();
                Answered::of(200, &RecoveryKey { key })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Answered::error(404, self.no_key()),
            Err(error) => Answered::error(500, &format!("the recovery key cannot be read: {error}")),
        }
    }

    /// It goes from here.
    pub(crate) fn recovery_key_saved(&mut self) -> Answered {
        let file = self.recovery_key_file();
        let gone = fs::remove_file(&file).and_then(|()| fs::File::open(self.config.at("/data"))?.sync_all());
        match gone {
            Ok(()) => {
                self.console
                    .say("The recovery key of the data partition is saved elsewhere, and gone from here");
                Answered::of(202, &Accepted::default())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Answered::error(404, self.no_key()),
            Err(error) => Answered::error(500, &format!("the recovery key cannot be removed: {error}")),
        }
    }

    fn no_key(&self) -> &'static str {
        match self.data_encryption().encrypted {
            true => "the recovery key was said to be saved, and is not kept here any more",
            false => "the data partition is not encrypted: it has no recovery key",
        }
    }

    /// Once the appliance is ready: what its owner has to know or to do. The key itself is for the console alone, and only where there is no
    /// setup that shows it.
    pub(crate) fn say_encryption(&mut self) {
        let state = self.data_encryption();
        if state.encrypted && !state.sealed {
            self.console.say(&format!(
                "The next start asks for the recovery key of the data partition: {}",
                state.why
            ));
        }
        if !state.recovery_key_unsaved {
            return;
        }
        match fs::read_to_string(self.recovery_key_file()) {
            Ok(key) if self.manifest.setup.is_none() => {
                self.console
                    .show(&format!("Recovery key of the data partition: {}", key.trim()));
                self.console
                    .show("Keep it elsewhere, and then say `cairn data saved`: it is not shown any more from then on");
            }
            _ => self.console.say(
                "The recovery key of the data partition is not saved yet: see the panel, or `cairn data recovery-key`",
            ),
        }
    }
}

fn told(state: DataState, recovery_key_unsaved: bool) -> DataEncryption {
    let (encrypted, sealed, why) = match state {
        DataState::Plain => (false, false, String::new()),
        DataState::Sealed => (true, true, String::new()),
        DataState::NotSealed(why) => (true, false, why),
    };
    DataEncryption {
        encrypted,
        sealed,
        why,
        // A file of this name on a partition without encryption is nothing.
        recovery_key_unsaved: encrypted && recovery_key_unsaved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_who_opens_it_and_whether_its_key_waits() {
        let plain = told(DataState::Plain, true);
        assert_eq!(plain, DataEncryption::default());
        let sealed = told(DataState::Sealed, true);
        assert!(sealed.encrypted && sealed.sealed && sealed.recovery_key_unsaved);
        let not = told(DataState::NotSealed("no TPM".into()), false);
        assert!(not.encrypted && !not.sealed && not.why == "no TPM" && !not.recovery_key_unsaved);
    }
}
