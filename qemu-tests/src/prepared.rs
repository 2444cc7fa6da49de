//! A disk that a first boot has set up and that was shut down cleanly. Made once for an image, and copied by the tests whose promise
//! is about later boots.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::HarnessError;
use crate::machine::{Home, Options};
use crate::{disk, images, share};

/// A first boot under emulation on a loaded host.
pub const READY: Duration = Duration::from_secs(300);
/// A shutdown there.
pub const OFF: Duration = Duration::from_secs(120);

/// The disk, and what was learnt by making it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prepared {
    /// Raw; to be copied, never written.
    pub disk: PathBuf,
    /// How long the first boot took from power to "Ready".
    pub first_boot: Duration,
    image: PathBuf,
    built: SystemTime,
}

/// The set-up disk of the base test image. The first caller makes it, others wait for that.
///
/// # Errors
/// When the image cannot be built, or its first boot or shutdown fails.
pub fn base() -> Result<Prepared, HarnessError> {
    let image = images::base()?;
    let folder = images::target().join("qemu-tests/prepared");
    std::fs::create_dir_all(&folder).map_err(HarnessError::io("create", &folder))?;
    let _alone = share::lock(&folder.join("lock"))?;
    let built = std::fs::metadata(&image).and_then(|meta| meta.modified());
    let built = built.map_err(HarnessError::io("look at", &image))?;
    let note = folder.join("base.json");
    if let Ok(text) = std::fs::read(&note)
        && let Ok(known) = serde_json::from_slice::<Prepared>(&text)
        && (&known.image, known.built) == (&image, built)
        && known.disk.is_file()
    {
        return Ok(known);
    }
    let home = Home::new("prepare", &image, Options::default())?;
    let mut machine = home.start()?;
    machine.wait_for("Ready: https://", READY)?;
    let first_boot = machine.said_at("Ready: https://").unwrap_or(READY);
    machine.power_button()?;
    machine.wait_off(OFF)?;
    disk::check_data(&home.disk())?;
    let disk = folder.join("base.raw");
    std::fs::rename(home.disk(), &disk).map_err(HarnessError::io("keep", &disk))?;
    let prepared = Prepared {
        disk,
        first_boot,
        image,
        built,
    };
    // Last: a disk without its note is made again.
    let text = serde_json::to_vec(&prepared).unwrap_or_default();
    std::fs::write(&note, text).map_err(HarnessError::io("write", &note))?;
    Ok(prepared)
}
