//! UEFI firmware for virtual machines: OVMF as Debian packs it.

use std::path::{Path, PathBuf};

use super::error::MachineError;
use super::spec::Boot;

/// OVMF in a tree: code that is only read, and the empty variables that each machine gets a copy of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// The code, without Secure Boot: it then needs no emulated system management mode, which is slow.
    pub code: PathBuf,
    /// Empty variables.
    pub vars: PathBuf,
}

impl Firmware {
    /// Finds it in a tree (`/` for the host's own).
    ///
    /// # Errors
    /// [`MachineError::NoFirmware`].
    pub fn find(tree: &Path) -> Result<Firmware, MachineError> {
        let folder = tree.join("usr/share/OVMF");
        let firmware = Firmware {
            code: folder.join("OVMF_CODE_4M.fd"),
            vars: folder.join("OVMF_VARS_4M.fd"),
        };
        if firmware.code.is_file() && firmware.vars.is_file() {
            Ok(firmware)
        } else {
            Err(MachineError::NoFirmware { folder })
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
        })
    }
}
