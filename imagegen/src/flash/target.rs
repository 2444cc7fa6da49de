//! What the kernel knows of a disk before it is overwritten: size, sectors, whether it is removable, who uses it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::FlashError;

/// Something that speaks against overwriting a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "obstacle")]
pub enum Obstacle {
    /// A file system on it is mounted.
    #[error("{device} is mounted on {at}")]
    Mounted {
        /// The disk or partition.
        device: String,
        /// The mount point.
        at: String,
    },
    /// It holds swap space in use.
    #[error("{device} is used as swap space")]
    Swap {
        /// The disk or partition.
        device: String,
    },
    /// A mapping (LVM, RAID, encryption, loop) is built on it.
    #[error("{device} is in use by {holder}")]
    Held {
        /// The disk or partition.
        device: String,
        /// The mapping.
        holder: String,
    },
    /// It is an internal disk, or a plain file.
    #[error("it is not a removable device")]
    NotRemovable,
    /// It is a partition, not a disk.
    #[error("it is a partition of {disk}, not a whole disk: firmware would not find the image")]
    Partition {
        /// The whole disk.
        disk: String,
    },
    /// The kernel or a switch on the card protects it.
    #[error("it is write-protected")]
    ReadOnly,
}

impl Obstacle {
    fn advice(&self) -> String {
        match self {
            Self::Mounted { .. } => "unmount it".into(),
            Self::Swap { .. } => "stop using it as swap (swapoff)".into(),
            Self::Held { holder, .. } => format!("close {holder}"),
            Self::NotRemovable => "check that this is the disk you mean (lsblk lists all)".into(),
            Self::Partition { disk } => format!("name the whole disk {disk}"),
            Self::ReadOnly => "take the write protection off".into(),
        }
    }
}

/// What to do about the obstacles, each advice once.
pub(super) fn advice(obstacles: &[Obstacle]) -> String {
    let mut all: Vec<String> = Vec::new();
    for advice in obstacles.iter().map(Obstacle::advice) {
        if !all.contains(&advice) {
            all.push(advice);
        }
    }
    all.join(", ")
}

/// A target as it was found.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) bytes: u64,
    pub(super) sector: u64,
    pub(super) model: Option<String>,
    pub(super) obstacles: Vec<Obstacle>,
}

/// Looks at a block device or a plain file.
pub(super) fn look_at(path: &Path) -> Result<Target, FlashError> {
    let failed = |source| FlashError::Target {
        path: path.into(),
        source,
    };
    let meta = fs::metadata(path).map_err(failed)?;
    if meta.is_file() {
        return Ok(Target {
            bytes: meta.len(),
            sector: 512,
            model: None,
            obstacles: vec![Obstacle::NotRemovable],
        });
    }
    if !meta.file_type().is_block_device() {
        return Err(FlashError::Unsuitable {
            path: path.into(),
            why: "it is neither a disk nor a file".into(),
        });
    }
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    let folder = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).map_err(failed)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    inspect(&folder, &mounts, &swaps).map_err(failed)
}

/// The same, from a device's folder in sysfs and the texts of mountinfo and swaps.
fn inspect(folder: &Path, mounts: &str, swaps: &str) -> std::io::Result<Target> {
    let mut obstacles = Vec::new();
    let is_partition = folder.join("partition").exists();
    let disk = if is_partition {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    if is_partition {
        obstacles.push(Obstacle::Partition {
            disk: device_name(disk),
        });
    }
    // USB and memory card readers say `removable` 0 for many disks that one can pull out.
    let pulled_out = disk.components().any(|c| {
        let c = c.as_os_str().to_string_lossy();
        c.starts_with("usb") || c.starts_with("mmc")
    });
    if number(&disk.join("removable")).unwrap_or(0) == 0 && !pulled_out {
        obstacles.push(Obstacle::NotRemovable);
    }
    if number(&folder.join("ro")).unwrap_or(0) != 0 {
        obstacles.push(Obstacle::ReadOnly);
    }
    let mut parts = vec![folder.to_path_buf()];
    if !is_partition {
        let entries = fs::read_dir(folder)?.filter_map(|e| Some(e.ok()?.path()));
        parts.extend(entries.filter(|p| p.join("partition").exists()));
    }
    parts.sort();
    for part in &parts {
        in_use(part, mounts, swaps, &mut obstacles);
    }
    let bytes = number(&folder.join("size"))? * 512;
    let sector = number(&disk.join("queue/logical_block_size")).unwrap_or(512);
    let words = ["device/vendor", "device/model"].map(|f| fs::read_to_string(disk.join(f)).unwrap_or_default());
    let model = words
        .iter()
        .map(|w| w.trim())
        .filter(|w| !w.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    Ok(Target {
        bytes,
        sector,
        model: Some(model).filter(|m| !m.is_empty()),
        obstacles,
    })
}

/// Adds who uses the disk or partition in `part`, directly or through mappings built on it.
fn in_use(part: &Path, mounts: &str, swaps: &str, obstacles: &mut Vec<Obstacle>) {
    let device = device_name(part);
    let id = fs::read_to_string(part.join("dev")).unwrap_or_default();
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(2);
        if words.next() == Some(id.trim()) {
            let at = words.nth(1).unwrap_or("?").replace("\\040", " ");
            obstacles.push(Obstacle::Mounted {
                device: device.clone(),
                at,
            });
        }
    }
    if swaps
        .lines()
        .skip(1)
        .any(|l| l.split_whitespace().next() == Some(&device))
    {
        obstacles.push(Obstacle::Swap { device: device.clone() });
    }
    let holders = fs::read_dir(part.join("holders"))
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let mut holders: Vec<PathBuf> = holders.map(|e| e.path()).collect();
    holders.sort();
    for holder in holders {
        obstacles.push(Obstacle::Held {
            device: device.clone(),
            holder: device_name(&holder),
        });
    }
}

fn device_name(folder: &Path) -> String {
    format!(
        "/dev/{}",
        folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .replace('!', "/")
    )
}

fn number(file: &Path) -> std::io::Result<u64> {
    fs::read_to_string(file)?.trim().parse().map_err(std::io::Error::other)
}

/// Whether both paths lead to one file.
pub(super) fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with one partition, as sysfs shows it.
    fn disk(dir: &Path, removable: &str) -> PathBuf {
        let disk = dir.join("devices/pci0/sdx");
        let part = disk.join("sdx1");
        for folder in [
            disk.join("queue"),
            disk.join("device"),
            disk.join("holders"),
            part.join("holders"),
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        let files = [
            ("size", "2048\n"),
            ("dev", "8:16\n"),
            ("ro", "0\n"),
            ("removable", removable),
            ("queue/logical_block_size", "512\n"),
            ("device/model", "Stick  \n"),
            ("sdx1/partition", "1\n"),
            ("sdx1/dev", "8:17\n"),
            ("sdx1/size", "1024\n"),
        ];
        for (name, text) in files {
            fs::write(disk.join(name), text).unwrap();
        }
        disk
    }

    #[test]
    fn an_idle_removable_disk_has_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let target = inspect(
            &disk(dir.path(), "1\n"),
            "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
            "Filename\n",
        )
        .unwrap();
        assert_eq!((target.bytes, target.sector), (1 << 20, 512));
        assert_eq!(target.model.as_deref(), Some("Stick"));
        assert_eq!(target.obstacles, vec![]);
    }

    #[test]
    fn a_mounted_partition_is_named_with_its_mount_point() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = "36 25 8:17 / /media/my\\040stick rw - vfat /dev/sdx1 rw\n";
        let target = inspect(&disk(dir.path(), "1\n"), mounts, "").unwrap();
        let mounted = Obstacle::Mounted {
            device: "/dev/sdx1".into(),
            at: "/media/my stick".into(),
        };
        assert_eq!(target.obstacles, vec![mounted]);
    }

    #[test]
    fn swap_mappings_and_internal_disks_are_obstacles() {
        let dir = tempfile::tempdir().unwrap();
        let disk = disk(dir.path(), "0\n");
        fs::create_dir(disk.join("sdx1/holders/dm-0")).unwrap();
        let target = inspect(&disk, "", "Filename Type\n/dev/sdx1 partition 1 0 -2\n").unwrap();
        assert_eq!(
            target.obstacles,
            vec![
                Obstacle::NotRemovable,
                Obstacle::Swap {
                    device: "/dev/sdx1".into()
                },
                Obstacle::Held {
                    device: "/dev/sdx1".into(),
                    holder: "/dev/dm-0".into()
                },
            ]
        );
    }

    #[test]
    fn every_obstacle_comes_with_what_to_do_about_it_once() {
        let mounted = |at: &str| Obstacle::Mounted {
            device: "/dev/sdx1".into(),
            at: at.into(),
        };
        assert_eq!(advice(&[mounted("/a"), mounted("/b")]), "unmount it");
        let internal = advice(&[Obstacle::NotRemovable]);
        assert!(
            internal.contains("disk you mean") && !internal.contains("unmount"),
            "{internal}"
        );
        let disk = "/dev/sdx".to_owned();
        assert_eq!(advice(&[Obstacle::Partition { disk }]), "name the whole disk /dev/sdx");
    }

    #[test]
    fn a_partition_is_not_taken_for_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        let target = inspect(&disk(dir.path(), "1\n").join("sdx1"), "", "").unwrap();
        assert_eq!(
            target.obstacles,
            vec![Obstacle::Partition {
                disk: "/dev/sdx".into()
            }]
        );
    }
}
