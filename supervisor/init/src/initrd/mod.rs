//! The initrd stage: from the kernel's hand-over to the verified root. It may allocate and fail; a failure is a
//! sentence on the console and, ten seconds later, a reboot, so that the boot loader can try another entry.
//!
//! Order matters: nothing on a disk is changed before the root is verified and mounted, and every program that is
//! run comes from that root.

mod apply;
mod cmdline;
mod data;
mod disks;
mod encryption;
mod failure;
mod fallback;
mod layout;
mod meanwhile;
mod recovery;
mod switch;
pub(crate) mod verity;

use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use cairn_disk::efivars::RECOVERY_WORD;
use cairn_disk::verity::Superblock;
use rustix::mount::{MountFlags, mount};

use cmdline::Settings;
use disks::{RootDisk, Seen};
use encryption::Step;
use failure::{Doing as _, Failure};
use layout::Sizes;
use meanwhile::{Meanwhile, Set};
use verity::Verified;

use crate::console::{self, debug, say};
use crate::modules::{self, Loader};
use crate::mounts;
use crate::times::Times;
use crate::uevents::Uevents;

pub(crate) use meanwhile::{ARGUMENT as MEANWHILE, run as meanwhile};

/// Where the root is put together.
const SYSROOT: &str = "/sysroot";
/// How long a disk may take to show up.
const DISK_DEADLINE: Duration = Duration::from_secs(30);
/// How long a message stays before the reboot.
const READ_TIME: Duration = Duration::from_secs(10);

/// Runs the stage; ends in the root's cairn-init or in a reboot.
pub(crate) fn run() -> ! {
    let Err(failure) = boot();
    say!("cannot start: {failure}");
    if !matches!(failure, Failure::Asked)
        && let Some(next) = fallback::ask(&failure)
    {
        say!("the boot loader starts {next} next");
    }
    say!("starting again in {} seconds", READ_TIME.as_secs());
    std::thread::sleep(READ_TIME);
    rustix::fs::sync();
    loop {
        let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
        std::thread::sleep(READ_TIME);
    }
}

fn boot() -> Result<Infallible, Failure> {
    let mut times = Times::default();
    times.step("initrd-mounts", mount_kernel)?;
    banner();
    let line = fs::read_to_string("/proc/cmdline").doing(|| "read /proc/cmdline".to_owned())?;
    crate::set_module_helper("/init");
    if line.split_whitespace().any(|word| word == RECOVERY_WORD) {
        console::set_debug_from_cmdline();
        let uevents = Uevents::open().doing(|| "listen for devices".to_owned())?;
        recovery::run(&uevents, listed_modules());
    }
    let settings = Settings::parse(&line)?;
    console::set_debug(settings.debug);

    // The bell is hung up before the first look, so that no device can slip in between.
    let uevents = Uevents::open().doing(|| "listen for devices".to_owned())?;
    let mut loader = times.step("initrd-modules", || {
        let disks = Meanwhile::start(Set::Disks);
        let mut loader = listed_modules();
        disks.finish();
        loader.load_for_devices(modules::quick_devices);
        loader
    });
    let disk = times.step("initrd-disk", || find_disk(&settings, &uevents, &mut loader))?;
    let verified = times.step("initrd-verity", || open_verity(&settings, &disk))?;
    let device = disk.root.path().display().to_string();
    let sound = |result: Result<(), Failure>| name_corruption(result, &verified, &device);

    sound(times.step("initrd-root", || mount_root(&verified)))?;
    let for_units = Meanwhile::start(Set::Root);
    sound(times.step("initrd-data", || set_up_data(&settings, &disk)))?;
    times.save();
    drop((for_units, uevents));
    match switch::switch() {
        Err(failure) => Err(sound(Err(failure)).err().unwrap_or(Failure::NoRootHash)),
    }
}

/// Loads what the initrd lists.
fn listed_modules() -> Loader {
    let mut loader = Loader::new(Path::new("/"));
    for name in fs::read_to_string("/etc/cairn-modules").unwrap_or_default().lines() {
        if !name.trim().is_empty() && !loader.load(name.trim()) {
            debug!("module {name} is not in the initrd");
        }
    }
    loader
}

fn mount_kernel() -> Result<(), Failure> {
    for mount in mounts::TABLE.iter().filter(|mount| mount.early) {
        let target = mount.target;
        fs::create_dir_all(target).doing(|| format!("make {target}"))?;
        mount.mount().doing(|| format!("mount {target}"))?;
    }
    crate::open_console();
    Ok(())
}

fn banner() {
    if let Ok(text) = fs::read("/etc/cairn-banner") {
        let _ = rustix::io::write(rustix::stdio::stderr(), &text);
    }
}

/// Waits for the disk that holds the root, loading modules for what shows up meanwhile, and for slow controllers only if it is
/// not there yet.
fn find_disk(settings: &Settings, uevents: &Uevents, loader: &mut Loader) -> Result<RootDisk, Failure> {
    let deadline = Instant::now() + DISK_DEADLINE;
    let mut seen = Seen::default();
    let mut looks = 0;
    loop {
        if let Some(disk) = disks::find(&settings.root, &mut seen) {
            debug!("the root is {} on {}", disk.root.name, disk.name);
            return Ok(disk);
        }
        looks += 1;
        if looks == 1 {
            loader.load_for_devices(modules::bus_devices);
            continue;
        }
        if looks == 2 {
            say!("waiting for the disk with root {}", settings.root.partuuid_root());
        }
        if !uevents.wait(Some(deadline)) || Instant::now() >= deadline {
            return Err(Failure::NoRoot {
                root: settings.root.partuuid_root().to_string(),
                disks: seen.to_string(),
            });
        }
        loader.load_for_devices(modules::bus_devices);
    }
}

fn open_verity(settings: &Settings, disk: &RootDisk) -> Result<Verified, Failure> {
    let tree = disk.verity.as_ref().ok_or_else(|| Failure::NoVerity {
        disk: disk.name.clone(),
        verity: settings.root.partuuid_verity().to_string(),
    })?;
    let bad = |why: String| Failure::BadVerity {
        device: tree.path().display().to_string(),
        why,
    };
    let file = File::open(tree.path()).doing(|| format!("open {}", tree.path().display()))?;
    let superblock = Superblock::read(&file).map_err(|error| bad(error.to_string()))?;
    if superblock.target_sectors() > disk.root.length / 512 {
        return Err(bad("it is for a larger root than the partition holds".to_owned()));
    }
    let number = |p: &disks::KernelPartition| p.number().doing(|| format!("find the number of {}", p.name));
    let params = superblock.target_params(&number(&disk.root)?, &number(tree)?, &settings.root, &[]);
    // The device node of dm-mod appears with the module.
    Verified::open(&params, superblock.target_sectors()).doing(|| {
        format!(
            "set up verification of {} (are dm_verity and sha256 in the initrd)",
            disk.root.path().display()
        )
    })
}

fn mount_root(verified: &Verified) -> Result<(), Failure> {
    fs::create_dir_all(SYSROOT).doing(|| format!("make {SYSROOT}"))?;
    let flags = MountFlags::RDONLY | MountFlags::NODEV;
    mount(verified.node.as_str(), SYSROOT, c"erofs", flags, c"").doing(|| "mount the root".to_owned())?;
    // Our own programs are needed in a moment anyway; damage in them is better met here than as a dying PID 1.
    let folder = Path::new(SYSROOT).join("usr/lib/cairn");
    for name in ["cairn-init", "cairn-exec", "cairn-manager"] {
        let path = folder.join(name);
        let copied = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
        copied.doing(|| format!("read {}", path.display()))?;
    }
    Ok(())
}

/// Any failure after verification was set up may really be damage: then it is told as that.
fn name_corruption(result: Result<(), Failure>, verified: &Verified, device: &str) -> Result<(), Failure> {
    match result {
        Err(Failure::Io { doing, source }) if verified.is_corrupted() => Err(Failure::Corrupted {
            device: device.to_owned(),
            doing,
            source,
        }),
        Err(Failure::Tool { program, why, .. }) if verified.is_corrupted() => Err(Failure::Corrupted {
            device: device.to_owned(),
            doing: format!("run {program}"),
            source: io::Error::other(why),
        }),
        other => other,
    }
}

fn set_up_data(settings: &Settings, disk: &RootDisk) -> Result<(), Failure> {
    let target = format!("{SYSROOT}/data");
    if !settings.encrypted || settings.data_in_memory {
        encryption::lock_unopened();
    }
    if settings.data_in_memory {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
        return mount("tmpfs", &target, "tmpfs", flags, c"mode=0755").doing(|| format!("mount {target} in memory"));
    }
    let sizes = Sizes {
        slot: settings.slot,
        verity: settings.verity,
        data_min: settings.data_min,
    };
    let failed = |source| Failure::Layout {
        disk: disk.name.clone(),
        source,
    };
    let plan = layout::plan(&disk.found, disk.bytes, &settings.root, sizes, &mut apply::new_id).map_err(failed)?;
    for change in &plan.changes {
        debug!("disk {}: {change}", disk.name);
    }
    if !plan.changes.is_empty() {
        apply::write(&disk.name, &plan.table)?;
    }
    let partition = apply::tell_kernel(&disk.name, &plan.table, plan.data)?;
    let refused = |why: encryption::Refusal| Failure::Encryption {
        device: partition.path().display().to_string(),
        why: why.to_string(),
        of_this_version: matches!(why, encryption::Refusal::NotEncrypted | encryption::Refusal::Encrypted),
    };
    // Made and mounted; then it gets its name.
    let make = |step| {
        let inner = match step {
            Step::MakeEncrypted => encryption::make(&partition, &target)?,
            _ => {
                data::format(&partition)?;
                partition.clone()
            }
        };
        apply::write(&disk.name, &layout::formatted(&plan.table, plan.data))?;
        if step != Step::MakeEncrypted {
            data::mount_data(&inner, &target)?;
        }
        Ok(inner)
    };
    let step = |make| {
        let content = encryption::content(&partition)?;
        encryption::step(settings.encrypted, make, content, encryption::machine()).map_err(refused)
    };
    let inner = match step(plan.format)? {
        step @ (Step::MakePlain | Step::MakeEncrypted) => {
            say!("first boot: making the data partition {}", partition.name);
            make(step)?
        }
        step => {
            let inner = match step {
                Step::Open => encryption::open(&partition)?,
                _ => partition.clone(),
            };
            data::mount_data(&inner, &target)?;
            inner
        }
    };
    let inner = match data::is_to_be_reset(&target) {
        false => inner,
        true => {
            let step = step(true)?;
            data::unmount_data(&target)?;
            if inner.name != partition.name {
                encryption::close(&inner)?;
            }
            // From this write on a power cut changes nothing: the next start makes the file system, as the first one does.
            apply::write(&disk.name, &layout::unformatted(&plan.table, plan.data))?;
            say!("factory reset: making the data partition {} anew", partition.name);
            make(step)?
        }
    };
    data::grow(&inner, &target);
    Ok(())
}
