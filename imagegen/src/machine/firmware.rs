//! UEFI firmware for virtual machines: OVMF as Debian packs it.

use std::path::{Path, PathBuf};

use super::error::MachineError;
use super::spec::Boot;

/// OVMF in a tree: code that is only read, and the empty variables that each machine gets a copy of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// The code.
    pub code: PathBuf,
    /// Empty variables: firmware with Secure Boot is then in setup mode.
    pub vars: PathBuf,
    /// Whether it has Secure Boot. It then needs an emulated system management mode, which is slow.
    pub secure: bool,
}

impl Firmware {
    /// Finds it in a tree (`/` for the host's own), with Secure Boot or without.
    ///
    /// # Errors
    /// [`MachineError::NoFirmware`].
    pub fn find(tree: &Path, secure: bool) -> Result<Firmware, MachineError> {
        let folder = tree.join("usr/share/OVMF");
        let code = if secure {
            "OVMF_CODE_4M.secboot.fd"
        } else {
            "OVMF_CODE_4M.fd"
        };
        let firmware = Firmware {
            code: folder.join(code),
            vars: folder.join("OVMF_VARS_4M.fd"),
            secure,
        };
        if firmware.code.is_file() && firmware.vars.is_file() {
            Ok(firmware)
        } else {
            Err(MachineError::NoFirmware { folder, code })
        }
    }

    /// A boot by this firmware, with variables of its own in `folder/vars.fd`. Variables that are already there are kept: they
    /// are the machine's memory of earlier boots.
    ///
    /// # Errors
    /// When the copy cannot be made.
    pub fn boot(&self, folder: &Path) -> Result<Boot, MachineError> {
        let vars = folder.join("vars.fd");
        if !vars.exists() {
            let bytes = std::fs::read(&self.vars).map_err(MachineError::io("read", &self.vars))?;
            std::fs::write(&vars, bytes).map_err(MachineError::io("write", &vars))?;
        }
        Ok(Boot::Uefi {
            code: self.code.clone(),
            vars,
            secure: self.secure,
        })
    }
}
