//! LUKS2 by cryptsetup, and the TPM's key in it by systemd-cryptenroll: both from the verified root.
//!
//! The key that the TPM gives is sealed for PCR 7 as it is (Secure Boot's state, and whose keys the started programs are signed by) and for PCR 15
//! as long as it is zero. It lies in the header, as a token of the type `systemd-tpm2`, so that it travels with the disk. The session is salted
//! to the TPM's storage key and encrypts: who reads along between processor and TPM does not see the key.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::Output;

use super::super::SYSROOT;
use super::super::disks::KernelPartition;
use super::super::failure::{Doing as _, Failure};
use super::key::RecoveryKey;
use super::tpm;
use crate::sys;

/// What the open partition is called.
const NAME: &str = "data";
/// Where a key lies for as long as a program reads it: in memory.
const KEY: &str = "/run/cairn-key";
const KEY_FILE: &str = "--key-file=/run/cairn-key";
const UNLOCK_KEY_FILE: &str = "--unlock-key-file=/run/cairn-key";

/// The PCRs that the key is sealed for: 7 as it is now, 15 as it is before anything was opened.
const PCRS: &str = "--tpm2-pcrs=7:sha256+15:sha256=0000000000000000000000000000000000000000000000000000000000000000";

/// A file with a key, which goes with this value.
struct KeyFile;

impl KeyFile {
    fn of(key: &RecoveryKey) -> Result<Self, Failure> {
        let _ = fs::remove_file(KEY);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(KEY);
        let kept = Self;
        file.and_then(|mut file| file.write_all(key.text().as_bytes()))
            .doing(|| format!("write {KEY}"))?;
        Ok(kept)
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(KEY);
    }
}

/// A program's last words: one line for a sentence.
fn last_words(output: &Output) -> String {
    let said = [&output.stderr[..], &output.stdout[..]].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.map_or_else(|| output.status.to_string(), str::to_owned)
}

fn run(program: &'static str, args: &[&str]) -> Result<Result<(), String>, Failure> {
    let path = format!(
        "/usr/{}/{program}",
        if program == "cryptsetup" { "sbin" } else { "bin" }
    );
    let args = [&[path.as_str()], args].concat();
    let output = sys::output_in_root(Path::new(SYSROOT), &args).doing(|| format!("run {program} from the root"))?;
    crate::console::debug!("{program} {}: {}", args[1], last_words(&output));
    Ok(match output.status.success() {
        true => Ok(()),
        false => Err(last_words(&output)),
    })
}

fn must(program: &'static str, device: &str, args: &[&str]) -> Result<(), Failure> {
    run(program, args)?.map_err(|why| Failure::Tool {
        program,
        device: device.to_owned(),
        why,
    })
}

/// Makes an empty LUKS2 partition that the recovery key opens. Whatever keys there were are overwritten.
///
/// The key has more entropy than a stretched password: stretching it would cost time and memory at a start for nothing.
pub(super) fn format(partition: &KernelPartition, key: &RecoveryKey) -> Result<(), Failure> {
    let path = partition.path();
    let device = path.to_string_lossy();
    let _file = KeyFile::of(key)?;
    let args = [
        "luksFormat",
        "--batch-mode",
        "--type=luks2",
        "--cipher=aes-xts-plain64",
        "--key-size=512",
        "--sector-size=4096",
        "--pbkdf=pbkdf2",
        "--hash=sha256",
        "--pbkdf-force-iterations=1000",
        "--key-slot=1",
        "--label=cairn-data",
        KEY_FILE,
        &device,
    ];
    must("cryptsetup", &device, &args)
}

/// Removes what was sealed, perhaps in another TPM: systemd-cryptenroll takes a key for the same PCRs for its own, and makes none then.
pub(super) fn forget_sealed(partition: &KernelPartition) -> Result<(), Failure> {
    let path = partition.path();
    let device = path.to_string_lossy();
    must("systemd-cryptenroll", &device, &["--wipe-slot=tpm2", &device])
}

/// Has the TPM keep a fresh key of the partition.
pub(super) fn seal(partition: &KernelPartition, key: &RecoveryKey) -> Result<(), Failure> {
    let path = partition.path();
    let device = path.to_string_lossy();
    let _file = KeyFile::of(key)?;
    let args = [
        UNLOCK_KEY_FILE,
        &format!("--tpm2-device={}", tpm::DEVICE),
        PCRS,
        &device,
    ];
    must("systemd-cryptenroll", &device, &args)
}

/// By what it is opened.
pub(super) enum By<'a> {
    /// The key that the TPM keeps.
    Tpm,
    /// The owner's.
    Recovery(&'a RecoveryKey),
}

/// Opens it; the inner error is why it stays closed.
pub(super) fn open(partition: &KernelPartition, by: By<'_>) -> Result<Result<KernelPartition, String>, Failure> {
    let path = partition.path();
    let device = path.to_string_lossy();
    let (how, _file) = match by {
        By::Tpm => (&["--token-only", "--token-type=systemd-tpm2"][..], None),
        By::Recovery(key) => (&[KEY_FILE][..], Some(KeyFile::of(key)?)),
    };
    let args = [
        &["open", "--batch-mode", "--type=luks2", "--tries=1"],
        how,
        &[&device, NAME],
    ]
    .concat();
    match run("cryptsetup", &args)? {
        Ok(()) => opened().map(Ok),
        Err(why) => Ok(Err(why)),
    }
}

/// Undoes [`open`]; nothing is mounted from it.
pub(super) fn close(device: &str) -> Result<(), Failure> {
    must("cryptsetup", device, &["close", NAME])
}

/// The open partition as the kernel knows it.
fn opened() -> Result<KernelPartition, Failure> {
    let node = Path::new("/dev/mapper").join(NAME);
    let number = fs::metadata(&node).doing(|| format!("find {}", node.display()))?.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let link = format!("/sys/dev/block/{major}:{minor}");
    let target = fs::canonicalize(&link).doing(|| format!("find {link}"))?;
    let size = fs::read_to_string(target.join("size")).doing(|| format!("read the size of {link}"))?;
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(KernelPartition {
        name: name.unwrap_or_default(),
        start: 0,
        // sysfs counts in sectors of 512 bytes.
        length: size.trim().parse::<u64>().unwrap_or(0) * 512,
    })
}

/// The first bytes of a partition.
pub(super) fn first(partition: &KernelPartition) -> Result<[u8; 16], Failure> {
    let path = partition.path();
    let mut bytes = [0; 16];
    File::open(&path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .doing(|| format!("read {}", path.display()))?;
    Ok(bytes)
}
