//! Writing an image to a disk: what stands in the way, then the writing, then the proof that it arrived.
//!
//! Promises: a target that is too small is never written to; one that is mounted, in use or not removable only when
//! forced; nothing is reported as done before the target was read back, past every cache, and found equal. Plain files
//! are accepted as targets (they count as not removable).

mod direct;
mod target;

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use direct::{Buffer, Mode};
pub use target::Obstacle;

/// How much is written or read at once.
const CHUNK: usize = 1 << 20;

/// Why an image cannot be or was not written. Each names the path and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlashError {
    /// The image cannot be read.
    #[error("cannot read the image {path}: {source}; check the path, or build it first with `imagegen build`")]
    Image {
        /// The image.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no raw disk image.
    #[error("{path} is {found}, not a raw disk image: build one with `imagegen build --format raw`")]
    NotRaw {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        found: &'static str,
    },
    /// The target cannot be opened or looked at.
    #[error("cannot open {path} for writing: {source}; check the path, and that you may write to it")]
    Target {
        /// The target.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Image and target are one file, or the target is neither a disk nor a file.
    #[error("{path} cannot be written to: {why}")]
    Unsuitable {
        /// The target.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The target is smaller than the image.
    #[error("{path} is too small: it holds {device} bytes, the image has {image}; use a larger device")]
    TooSmall {
        /// The target.
        path: PathBuf,
        /// The target's bytes.
        device: u64,
        /// The image's bytes.
        image: u64,
    },
    /// Writing would take something away that is in use, or hit an internal disk.
    #[error("{path} is not written to: {}; {}, or add --force if you are sure",
            .obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            target::advice(.obstacles))]
    Refused {
        /// The target.
        path: PathBuf,
        /// What stands in the way.
        obstacles: Vec<Obstacle>,
    },
    /// Writing failed on the way.
    #[error(
        "writing to {path} failed after {done} bytes: {source}; the device holds half an image now: try another port or device"
    )]
    Write {
        /// The target.
        path: PathBuf,
        /// Bytes that were written before.
        done: u64,
        /// Why.
        source: std::io::Error,
    },
    /// Reading back failed.
    #[error("reading {path} back failed at byte {at}: {source}; do not trust this device")]
    ReadBack {
        /// The target.
        path: PathBuf,
        /// Where.
        at: u64,
        /// Why.
        source: std::io::Error,
    },
    /// What was read back is not what was written.
    #[error(
        "{path} does not hold what was written: it differs in the {CHUNK} bytes from byte {at} on; do not trust this device"
    )]
    Differs {
        /// The target.
        path: PathBuf,
        /// The first chunk's place that differs.
        at: u64,
    },
}

/// What would be done: a value to print before anything happens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The image.
    pub image: PathBuf,
    /// Its size in bytes.
    pub image_bytes: u64,
    /// The target.
    pub device: PathBuf,
    /// Its size in bytes.
    pub device_bytes: u64,
    /// Who made it and what it is called, as far as the kernel knows.
    pub model: Option<String>,
    /// Mounted, in use, not removable: empty where nothing stands in the way.
    pub obstacles: Vec<Obstacle>,
}

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Writing the image.
    Write,
    /// Reading it back.
    Verify,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flashed {
    /// Bytes written and read back.
    pub bytes: u64,
    /// SHA-256 of them, in lower case hexadecimal; it is also the image's.
    pub sha256: String,
}

/// Looks at image and target. Fails where they can never go together, forced or not.
pub fn plan(image: &Path, device: &Path) -> Result<Plan, FlashError> {
    let image_bytes = check_image(image)?;
    let target = target::look_at(device)?;
    if target::same_file(image, device) {
        return Err(FlashError::Unsuitable {
            path: device.into(),
            why: "it is the image itself".into(),
        });
    }
    if target.bytes < image_bytes {
        return Err(FlashError::TooSmall {
            path: device.into(),
            device: target.bytes,
            image: image_bytes,
        });
    }
    if target.sector != 512 {
        let why = format!(
            "it has sectors of {} bytes, the image is laid out for 512",
            target.sector
        );
        return Err(FlashError::Unsuitable {
            path: device.into(),
            why,
        });
    }
    Ok(Plan {
        image: image.into(),
        image_bytes,
        device: device.into(),
        device_bytes: target.bytes,
        model: target.model,
        obstacles: target.obstacles,
    })
}

/// Writes, syncs, reads back past the caches and compares. `progress` is told each step's further bytes.
pub fn apply(plan: &Plan, force: bool, progress: &dyn Fn(Step, u64)) -> Result<Flashed, FlashError> {
    if !plan.obstacles.is_empty() && !force {
        return Err(FlashError::Refused {
            path: plan.device.clone(),
            obstacles: plan.obstacles.clone(),
        });
    }
    let read = |source| FlashError::Image {
        path: plan.image.clone(),
        source,
    };
    let image = File::open(&plan.image).map_err(read)?;
    let target = |source| FlashError::Target {
        path: plan.device.clone(),
        source,
    };
    // O_EXCL on a block device makes the kernel refuse it when a file system, swap or mapping holds it, which closes
    // the time between looking and writing.
    let (out, mode) = direct::open(&plan.device, Mode::Write { exclusive: !force }).map_err(target)?;
    let written = write(plan, &image, &out, progress)?;
    let failed = |source| FlashError::Write {
        path: plan.device.clone(),
        done: plan.image_bytes,
        source,
    };
    forget_old_backup(plan, &out)
        .and_then(|()| out.sync_all())
        .map_err(failed)?;
    drop(out);
    let _ = mode;
    verify(plan, &written, progress)?;
    let mut whole = Sha256::new();
    let mut buffer = Buffer::new(CHUNK);
    let mut at = 0;
    while at < plan.image_bytes {
        let count = (plan.image_bytes - at).min(CHUNK as u64) as usize;
        direct::read_at(&image, &mut buffer.bytes()[..count], at).map_err(read)?;
        whole.update(&buffer.bytes()[..count]);
        at += count as u64;
    }
    Ok(Flashed {
        bytes: plan.image_bytes,
        sha256: hex(&whole.finalize()),
    })
}

/// The digest of each chunk as it was written.
fn write(plan: &Plan, image: &File, out: &File, progress: &dyn Fn(Step, u64)) -> Result<Vec<[u8; 32]>, FlashError> {
    let mut buffer = Buffer::new(CHUNK);
    let mut digests = Vec::new();
    let mut at = 0;
    while at < plan.image_bytes {
        let count = (plan.image_bytes - at).min(CHUNK as u64) as usize;
        let bytes = &mut buffer.bytes()[..count];
        direct::read_at(image, bytes, at).map_err(|source| FlashError::Image {
            path: plan.image.clone(),
            source,
        })?;
        direct::write_at(out, bytes, at).map_err(|source| FlashError::Write {
            path: plan.device.clone(),
            done: at,
            source,
        })?;
        digests.push(Sha256::digest(&*bytes).into());
        at += count as u64;
        progress(Step::Write, count as u64);
    }
    Ok(digests)
}

/// A partition table's copy that an earlier user left at the target's end would contradict the image's.
fn forget_old_backup(plan: &Plan, out: &File) -> std::io::Result<()> {
    const TABLE: u64 = 33 * 512;
    let start = (plan.device_bytes - plan.device_bytes % 512)
        .saturating_sub(TABLE)
        .max(plan.image_bytes);
    let count = (plan.device_bytes - plan.device_bytes % 512).saturating_sub(start);
    let mut buffer = Buffer::new(TABLE as usize);
    direct::write_at(out, &mut buffer.bytes()[..count as usize], start)
}

fn verify(plan: &Plan, written: &[[u8; 32]], progress: &dyn Fn(Step, u64)) -> Result<(), FlashError> {
    let failed = |at| {
        move |source| FlashError::ReadBack {
            path: plan.device.clone(),
            at,
            source,
        }
    };
    let (back, _) = direct::open(&plan.device, Mode::Read).map_err(failed(0))?;
    let mut buffer = Buffer::new(CHUNK);
    let mut at = 0;
    for digest in written {
        let count = (plan.image_bytes - at).min(CHUNK as u64) as usize;
        let bytes = &mut buffer.bytes()[..count];
        direct::read_at(&back, bytes, at).map_err(failed(at))?;
        if Sha256::digest(&*bytes)[..] != digest[..] {
            return Err(FlashError::Differs {
                path: plan.device.clone(),
                at,
            });
        }
        at += count as u64;
        progress(Step::Verify, count as u64);
    }
    Ok(())
}

/// The image's size, if it is a raw disk image whose sectors have 512 bytes.
fn check_image(path: &Path) -> Result<u64, FlashError> {
    let read = |source| FlashError::Image {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(read)?;
    let bytes = file.metadata().map_err(read)?.len();
    let not = |found| FlashError::NotRaw {
        path: path.into(),
        found,
    };
    let mut head = [0u8; 1024];
    if bytes < 1024 {
        return Err(not("too short for a disk"));
    }
    direct::read_at(&file, &mut head, 0).map_err(read)?;
    match &head {
        h if h.starts_with(b"QFI\xfb") => Err(not("a qcow2 file")),
        h if h.starts_with(b"KDMV") => Err(not("a vmdk file")),
        h if h.starts_with(b"vhdxfile") => Err(not("a vhdx file")),
        h if &h[512..520] != b"EFI PART" => Err(not("without a partition table")),
        _ if !bytes.is_multiple_of(512) => Err(not("cut off within a sector")),
        _ => Ok(bytes),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
