//! What is started next after an entry that cannot start. One that is counted uses up its tries, and the boot loader takes another by itself. One that
//! proved itself is not counted and would be taken for ever: here the boot loader is asked for another, once.
//!
//! This has an end. Each entry that stops is noted in a variable of ours; none that is noted is asked for, and when there is no other,
//! recovery is, which waits for a person.

use std::fs;
use std::path::Path;

use cairn_disk::efivars::{self, CAIRN, EfiVars, FAILED, LOADER, RECOVERY};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::disks;
use super::failure::Failure;
use crate::console::debug;

/// Where the ESP is mounted for a look.
const ESP: &str = "/run/esp";
/// The longest reason that is noted: the firmware's store is small.
const LONGEST: usize = 300;

/// Asks the boot loader for another entry, and returns which; `None` if it is to choose by itself.
pub(super) fn ask(failure: &Failure) -> Option<String> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Only machines with UEFI have them.
    if let Err(error) = mount("efivarfs", efivars::FOLDER, "efivarfs", plain, c"") {
        debug!("no EFI variables: {error}");
        return None;
    }
    let vars = EfiVars::default();
    let own = vars.text(LOADER, "LoaderEntrySelected")?.to_lowercase();
    let before = vars.text(CAIRN, FAILED).unwrap_or_default();
    let noted = noted(&before, &own, &failure.to_string());
    let kept = vars.set_text(CAIRN, FAILED, &noted);
    if vars.text(LOADER, "LoaderBootCountPath").is_some() {
        return None;
    }
    let files = files(&vars)?;
    // Where it cannot be noted, two entries could send the machine to and fro.
    let others = kept.is_ok() && failure.is_of_this_version();
    let next = next(&own, &files, &noted, others)?;
    vars.set_text(LOADER, "LoaderEntryOneShot", &next).ok()?;
    Some(next)
}

/// A try that the boot loader has again, for as long as this start waits for a person.
#[derive(Debug)]
pub(super) struct GivenBack {
    folder: String,
    /// As the boot loader named the file for this start.
    taken: String,
    back: String,
}

/// Gives the boot loader the try back that it took for this start, where it counts. What cannot be given back costs one of three tries.
pub(super) fn give_back_try() -> Option<GivenBack> {
    with_vars(|vars| {
        let path = vars.text(LOADER, "LoaderBootCountPath")?.replace('\\', "/");
        let (folder, taken) = path.rsplit_once('/')?;
        let given = GivenBack {
            folder: folder.trim_start_matches('/').to_owned(),
            taken: taken.to_owned(),
            back: super::encryption::try_given_back(taken)?,
        };
        rename(vars, &given.folder, &given.taken, &given.back).then_some(given)
    })
}

/// This start goes on, and counts.
pub(super) fn take_try_again(given: GivenBack) {
    let _ = with_vars(|vars| Some(rename(vars, &given.folder, &given.back, &given.taken)));
}

fn rename(vars: &EfiVars, folder: &str, from: &str, to: &str) -> bool {
    if mount_esp(vars, MountFlags::empty()).is_none() {
        return false;
    }
    let folder = Path::new(ESP).join(folder);
    let renamed = fs::rename(folder.join(from), folder.join(to));
    debug!("{from} is called {to}: {renamed:?}");
    let _ = unmount(ESP, UnmountFlags::empty());
    renamed.is_ok()
}

/// With the firmware's variables there, for a moment.
fn with_vars<T>(look: impl FnOnce(&EfiVars) -> Option<T>) -> Option<T> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("efivarfs", efivars::FOLDER, "efivarfs", plain, c"").ok()?;
    let found = look(&EfiVars::default());
    let _ = unmount(efivars::FOLDER, UnmountFlags::empty());
    found
}

/// Whether Secure Boot is in force; where there are no variables, it is not.
pub(super) fn secure_boot() -> bool {
    with_vars(|vars| Some(vars.secure_boot())).unwrap_or(false)
}

/// Mounts the ESP that the boot loader came from.
fn mount_esp(vars: &EfiVars, more: MountFlags) -> Option<()> {
    let id = vars
        .text(LOADER, "LoaderDevicePartUUID")?
        .trim()
        .to_lowercase()
        .parse()
        .ok()?;
    let partition = disks::partition(id)?;
    fs::create_dir_all(ESP).ok()?;
    let flags = more | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(partition.path(), ESP, "vfat", flags, c"").ok()
}

/// The files among which the boot loader finds its entries.
fn files(vars: &EfiVars) -> Option<Vec<String>> {
    mount_esp(vars, MountFlags::RDONLY)?;
    let found = fs::read_dir(Path::new(ESP).join("EFI/Linux"));
    let names = found.map(|found| {
        found
            .flatten()
            .map(|f| f.file_name().to_string_lossy().into_owned())
            .collect()
    });
    let _ = unmount(ESP, UnmountFlags::empty());
    names.ok()
}

/// The lines of the variable with this entry's: what it says of others stays.
fn noted(before: &str, own: &str, why: &str) -> String {
    let others = before.lines().filter(|line| line.split(' ').next() != Some(own));
    let mut text: String = others.map(|line| format!("{line}\n")).collect();
    let why: String = why
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect();
    text += &format!("{own} {why}\n");
    text
}

/// An entry's name as the boot loader has it, in small letters and without the tries; and whether it was given up.
fn id(file: &str) -> Option<(String, bool)> {
    let file = file.to_lowercase();
    let stem = file.strip_suffix(".efi")?;
    let (stem, given_up) = match stem.rsplit_once('+') {
        None => (stem, false),
        Some((stem, counter)) => (stem, counter.split('-').next() == Some("0")),
    };
    Some((format!("{stem}.efi"), given_up))
}

/// What is to be started in place of `own`: another version of the same appliance that was not given up and is not noted, if `others` are
/// asked for; recovery if there is none.
fn next(own: &str, files: &[String], noted: &str, others: bool) -> Option<String> {
    let appliance = own.split_once('_').map(|(name, _)| name)?;
    let is_noted = |id: &str| noted.lines().any(|line| line.split(' ').next() == Some(id));
    let entries: Vec<_> = files.iter().filter_map(|file| id(file)).collect();
    let fits = |id: &str| id != own && !is_noted(id) && id.split_once('_').is_some_and(|(name, _)| name == appliance);
    let other = entries
        .iter()
        .find(|(id, given_up)| !given_up && fits(id))
        .filter(|_| others);
    let recovery = || entries.iter().find(|(id, _)| id == RECOVERY);
    other.or_else(recovery).map(|(id, _)| id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(own: &str, files: &[&str], noted: &str, others: bool) -> Option<String> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        next(own, &files, noted, others)
    }

    #[test]
    fn the_other_version_is_asked_for_if_it_was_not_given_up_and_recovery_if_it_was() {
        let own = "box_2.0.efi";
        let note = noted("", own, "the root is damaged");
        for (files, expected) in [
            (vec!["box_2.0.efi", "Box_1.0.EFI", "recovery.efi"], Some("box_1.0.efi")),
            (
                vec!["box_2.0.efi", "box_1.0+2-1.efi", "recovery.efi"],
                Some("box_1.0.efi"),
            ),
            (
                vec!["box_2.0.efi", "box_1.0+0-3.efi", "recovery.efi"],
                Some("recovery.efi"),
            ),
            (
                vec!["box_2.0.efi", "other_1.0.efi", "recovery.efi"],
                Some("recovery.efi"),
            ),
            (vec!["box_2.0.efi", "recovery.efi"], Some("recovery.efi")),
            (vec!["box_2.0.efi", "box_1.0+0-3.efi"], None),
            (vec!["box_2.0.efi", "notes.txt"], None),
        ] {
            assert_eq!(asked(own, &files, &note, true).as_deref(), expected, "{files:?}");
        }
        let both = ["box_2.0.efi", "box_1.0.efi", "recovery.efi"];
        assert_eq!(asked(own, &both, &note, false).as_deref(), Some("recovery.efi"));
    }

    #[test]
    fn two_damaged_versions_end_in_recovery_and_not_in_turns() {
        let files = ["box_2.0.efi", "box_1.0.efi", "recovery.efi"];
        let mut note = String::new();
        let mut own = "box_2.0.efi".to_owned();
        let mut started = Vec::new();
        while own != RECOVERY && started.len() < 10 {
            started.push(own.clone());
            note = noted(&note, &own, "damaged");
            own = asked(&own, &files, &note, true).unwrap();
        }
        assert_eq!(started, ["box_2.0.efi", "box_1.0.efi"]);
        // A restart from recovery leads there again, and the note does not grow.
        assert_eq!(noted(&note, "box_1.0.efi", "damaged").len(), note.len());
    }

    #[test]
    fn a_reason_is_one_line_of_the_note() {
        let note = noted(
            "box_1.0.efi old\n",
            "box_2.0.efi",
            &("a\nb".to_owned() + &"x".repeat(1000)),
        );
        let lines: Vec<_> = note.lines().collect();
        assert!(
            lines.len() == 2 && lines[1].starts_with("box_2.0.efi a b") && note.len() < 400,
            "{note}"
        );
    }
}
