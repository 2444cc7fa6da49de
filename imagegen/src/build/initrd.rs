//! The initrd: cairn-init as `/init`, the modules that a boot disk may need, and nothing else.

use cairn_unit::Arch;

use super::host::Kernel;
use super::{BuildError, BuildPlan};
use crate::image::cpio::{self, Entry, Kind};

/// Modules for common disks and controllers; the hardware's modaliases say which of them are loaded.
const HARDWARE: [&str; 23] = [
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_scsi",
    "nvme",
    "ahci",
    "ata_piix",
    "ata_generic",
    "sd_mod",
    "uas",
    "usb_storage",
    "xhci_pci",
    "ehci_pci",
    "ohci_pci",
    "hv_vmbus",
    "hv_storvsc",
    "xen_blkfront",
    "vmw_pvscsi",
    "mptspi",
    "mmc_block",
    "sdhci_pci",
    "sdhci_acpi",
    "megaraid_sas",
];

/// Modules that every boot loads. The data partition's quotas need theirs before it is mounted.
const ALWAYS: [&str; 4] = ["dm_verity", "erofs", "ext4", "quota_v2"];

/// Modules that make hashing and checksums fast; loaded first, so that dm-verity finds them.
fn fast(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::Amd64 => &["sha256_ssse3", "crc32c_intel", "crc32c"],
        Arch::Arm64 => &["sha2_ce", "sha256_arm64", "crc32c"],
    }
}

/// The initrd's entries.
pub(super) fn entries(plan: &BuildPlan, kernel: &Kernel, init: Vec<u8>) -> Result<Vec<Entry>, BuildError> {
    let extra: Vec<&str> = plan.recipe.boot.initrd_modules.iter().map(String::as_str).collect();
    let always: Vec<&str> = fast(plan.arch)
        .iter()
        .copied()
        .chain(ALWAYS)
        .chain(extra.iter().copied())
        .collect();
    let names: Vec<String> = always.iter().copied().chain(HARDWARE).map(str::to_owned).collect();
    let modules = kernel.modules.closure(&names)?;
    let release = &kernel.modules.release;
    let folder = format!("usr/lib/modules/{release}");
    let mut files: Vec<(String, u32, Vec<u8>)> = vec![
        ("init".into(), 0o755, init),
        ("etc/cairn-banner".into(), 0o644, banner(plan).into_bytes()),
        (
            "etc/cairn-modules".into(),
            0o644,
            (always.join("\n") + "\n").into_bytes(),
        ),
    ];
    for (name, text) in kernel.modules.indexes(Some(&modules))? {
        files.push((format!("{folder}/{name}"), 0o644, text.into_bytes()));
    }
    let read = |path: &str| -> Result<Option<Vec<u8>>, BuildError> {
        let content = kernel.tree.get(path).and_then(|n| n.content());
        content
            .map(|c| c.read().map_err(BuildError::io("read", path.as_ref())))
            .transpose()
    };
    if let Some(text) = read(&format!("{folder}/modules.builtin"))? {
        files.push((format!("{folder}/modules.builtin"), 0o644, text));
    }
    for name in &modules {
        let Some(module) = kernel.modules.modules.get(name) else {
            continue;
        };
        let path = format!("{folder}/{}", module.path);
        let bytes = read(&path)?.ok_or_else(|| BuildError::NoBootFile {
            what: format!("/{path}"),
        })?;
        files.push((path, 0o644, bytes));
    }
    let mut folders: std::collections::BTreeSet<String> = ["dev", "proc", "run", "sys"].map(str::to_owned).into();
    for (path, ..) in &files {
        folders.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
    }
    let mut entries: Vec<Entry> = folders
        .into_iter()
        .map(|path| Entry {
            path,
            mode: 0o755,
            kind: Kind::Folder,
        })
        .collect();
    // A console before devtmpfs is mounted: what the kernel opens for PID 1.
    entries.push(Entry {
        path: "dev/console".into(),
        mode: 0o600,
        kind: Kind::Device(5, 1),
    });
    entries.extend(files.into_iter().map(|(path, mode, bytes)| Entry {
        path,
        mode,
        kind: Kind::File(bytes),
    }));
    Ok(entries)
}

fn banner(plan: &BuildPlan) -> String {
    format!("\nCairn: {} {}\n", plan.recipe.name, plan.recipe.version)
}

/// The compressed initrd.
pub(super) fn initrd(plan: &BuildPlan, kernel: &Kernel, init: Vec<u8>) -> Result<Vec<u8>, BuildError> {
    let level = match plan.profile {
        cairn_unit::Profile::Fast => 3,
        cairn_unit::Profile::Release => 19,
    };
    let epoch = u32::try_from(plan.epoch).unwrap_or(u32::MAX);
    cpio::initrd(&entries(plan, kernel, init)?, epoch, level).map_err(BuildError::io("compress", "the initrd".as_ref()))
}
