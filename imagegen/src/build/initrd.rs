//! The initrd: cairn-init as `/init`, the modules that a boot disk may need, and nothing else. And recovery's, which holds its program too.

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

/// Modules that are there for who mounts the ESP and looks into the firmware's variables; the kernel asks for them then.
const ESP: [&str; 4] = ["vfat", "nls_cp437", "nls_ascii", "efivarfs"];

/// Modules for whoever sits before the machine, where they are no part of the kernel.
const KEYBOARD: [&str; 5] = ["i8042", "atkbd", "usbhid", "hid_generic", "hyperv_keyboard"];

/// Modules that every boot loads. The data partition's quotas need theirs before it is mounted.
const ALWAYS: [&str; 4] = ["dm_verity", "erofs", "ext4", "quota_v2"];

/// Modules that open an encrypted data partition: the target, its cipher for the kernel and for programs, and a TPM of either kind. Where the key is
/// asked for, somebody types.
const ENCRYPTED: [&str; 5] = ["dm_crypt", "xts", "algif_skcipher", "tpm_crb", "tpm_tis"];

/// AES by the processor's own instructions.
fn fast_aes(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "aesni_intel",
        Arch::Arm64 => "aes_ce_blk",
    }
}

/// Modules that make hashing and checksums fast; loaded first, so that dm-verity finds them.
fn fast(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::Amd64 => &["sha256_ssse3", "crc32c_intel", "crc32c"],
        Arch::Arm64 => &["sha2_ce", "sha256_arm64", "crc32c"],
    }
}

/// A file of an initrd: path, mode, content.
type File = (String, u32, Vec<u8>);

/// What an initrd holds beside the modules for disks.
struct Contents {
    /// Modules that are loaded at once.
    always: Vec<&'static str>,
    /// Files.
    files: Vec<File>,
}

/// An initrd's entries.
fn entries(plan: &BuildPlan, kernel: &Kernel, contents: Contents) -> Result<Vec<Entry>, BuildError> {
    let extra: Vec<&str> = plan.recipe.boot.initrd_modules.iter().map(String::as_str).collect();
    let always: Vec<&str> = fast(plan.arch)
        .iter()
        .copied()
        .chain(contents.always)
        .chain(extra.iter().copied())
        .collect();
    // Without a second version nobody looks at the ESP here, and without encryption nobody at Secure Boot's state.
    let wanted = plan.recipe.upgrade.is_some() || plan.recipe.image.data_encryption.is_some();
    let esp = ESP.into_iter().filter(|_| wanted);
    let names = always.iter().copied().chain(HARDWARE).chain(esp).map(str::to_owned);
    let names: Vec<String> = names.collect();
    let modules = kernel.modules.closure(&names)?;
    let release = &kernel.modules.release;
    let folder = format!("usr/lib/modules/{release}");
    let mut files = contents.files;
    files.push((
        "etc/cairn-modules".into(),
        0o644,
        (always.join("\n") + "\n").into_bytes(),
    ));
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

/// The compressed initrd of the version.
pub(super) fn initrd(plan: &BuildPlan, kernel: &Kernel, init: Vec<u8>) -> Result<Vec<u8>, BuildError> {
    let banner = format!("\nCairn: {} {}\n", plan.recipe.name, plan.recipe.version);
    let files = vec![
        ("init".into(), 0o755, init),
        ("etc/cairn-banner".into(), 0o644, banner.into_bytes()),
    ];
    let mut always = ALWAYS.to_vec();
    if plan.recipe.image.data_encryption.is_some() {
        always.push(fast_aes(plan.arch));
        always.extend(ENCRYPTED.into_iter().chain(KEYBOARD));
    }
    compressed(plan, entries(plan, kernel, Contents { always, files })?)
}

/// What the initrd of recovery holds of ours.
pub(super) struct Recovery<'a> {
    /// cairn-init.
    pub(super) init: Vec<u8>,
    /// cairn-recovery.
    pub(super) program: Vec<u8>,
    /// The compiled appliance: whom it is of, and where its versions come from.
    pub(super) manifest: &'a [u8],
    /// Whom it believes.
    pub(super) trusted: &'a str,
}

/// The compressed initrd of recovery. It mounts no root, so that it works when there is none.
pub(super) fn recovery(plan: &BuildPlan, kernel: &Kernel, recovery: Recovery<'_>) -> Result<Vec<u8>, BuildError> {
    let file = |path: &str, mode, bytes: Vec<u8>| (path.to_owned(), mode, bytes);
    let banner = format!("\nCairn: recovery of {}\n", plan.recipe.name);
    let files = vec![
        file("init", 0o755, recovery.init),
        file("etc/cairn-banner", 0o644, banner.into_bytes()),
        file("usr/lib/cairn/cairn-recovery", 0o755, recovery.program),
        file("usr/lib/cairn/appliance.json", 0o644, recovery.manifest.to_vec()),
        file("usr/lib/cairn/upgrade-root.json", 0o644, recovery.trusted.into()),
    ];
    let always = ["ext4", "quota_v2"].into_iter().chain(ESP).chain(KEYBOARD).collect();
    compressed(plan, entries(plan, kernel, Contents { always, files })?)
}

fn compressed(plan: &BuildPlan, entries: Vec<Entry>) -> Result<Vec<u8>, BuildError> {
    let level = match plan.profile {
        cairn_unit::Profile::Fast => 3,
        cairn_unit::Profile::Release => 19,
    };
    let epoch = u32::try_from(plan.epoch).unwrap_or(u32::MAX);
    cpio::initrd(&entries, epoch, level).map_err(BuildError::io("compress", "the initrd".as_ref()))
}
