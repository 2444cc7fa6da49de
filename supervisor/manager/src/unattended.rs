//! Setting up without a person: the first choices are looked for where whoever provides the machine can put them, until the appliance is
//! set up. What is wrong with them is said on the console and to the wizard, and nothing of it is done.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_config::{private_folder, write_atomically};
use cairn_unit::{Administrator, FIRST_MAX, First, Source};

use crate::config::Config;
use crate::control::Answered;
use crate::error::Error;
use crate::supervisor::{Msg, Supervisor};

/// How long until it is looked for again: a medium may be plugged in later.
const PACE: Duration = Duration::from_secs(5);
/// QEMU's firmware configuration: `-fw_cfg name=opt/cairn.setup,file=FILE`.
const FW_CFG: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/cairn.setup/raw";
/// The tables of the firmware (SMBIOS, DMTF DSP0134).
const SMBIOS: &str = "/sys/firmware/dmi/tables/DMI";
/// How a string of the firmware begins that has the choices: `-smbios type=11,path=FILE`.
const SMBIOS_KEY: &str = "cairn.setup=";
/// The file on a volume.
const FILE: &str = "setup.toml";

/// Choices that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choices {
    /// Where, as a person reads it.
    pub(crate) place: String,
    /// What they say, or why they cannot be read.
    pub(crate) text: Result<String, String>,
}

/// Looks in every place, and takes what is found first.
pub(crate) fn look(config: &Config) -> Option<Choices> {
    let found = |place: &str, text: io::Result<String>| Choices {
        place: place.to_owned(),
        text: text.map_err(|e| e.to_string()),
    };
    let path = config.at(FW_CFG);
    if path.exists() {
        return Some(found("the firmware configuration opt/cairn.setup", read(&path)));
    }
    if let Some(text) = fs::read(config.at(SMBIOS)).ok().and_then(|table| oem_string(&table)) {
        return Some(found("the firmware's string cairn.setup", Ok(text)));
    }
    // The medium that somebody brings goes before what lies on the appliance's own disk.
    for label in [Label::Seed, Label::Esp] {
        for device in devices(config) {
            if label_of(&config.at("/dev").join(&device)) != Some(label) {
                continue;
            }
            let place = format!("{FILE} of the volume {} ({device})", label.name());
            match on_volume(config, &device) {
                Ok(None) => {}
                Ok(Some(text)) => return Some(found(&place, Ok(text))),
                Err(why) => return Some(found(&place, Err(io::Error::other(why)))),
            }
        }
    }
    None
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FIRST_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FIRST_MAX {
        return Err(io::Error::other(format!("it is longer than {FIRST_MAX} bytes")));
    }
    Ok(text)
}

/// The string of the firmware's table that has the choices: structures of type 11 (OEM strings) are a header of at least five bytes, the
/// second of which says its length, and strings that end with a zero byte each, the last with two (DSP0134, 6.1 and 7.12).
fn oem_string(table: &[u8]) -> Option<String> {
    let mut rest = table;
    while let [kind, length, ..] = *rest {
        let strings = rest.get(usize::from(length.max(4))..)?;
        let end = strings.windows(2).position(|pair| pair == [0, 0])?;
        if kind == 11 {
            let all = strings[..end].split(|byte| *byte == 0);
            let text = all.filter_map(|one| std::str::from_utf8(one).ok());
            if let Some(choices) = text.filter_map(|one| one.strip_prefix(SMBIOS_KEY)).next() {
                return Some(choices.to_owned());
            }
        }
        if kind == 127 {
            return None;
        }
        rest = &strings[end + 2..];
    }
    None
}

/// A volume on which choices can lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    /// What cloud-init calls the NoCloud data source.
    Seed,
    /// The EFI system partition.
    Esp,
}

impl Label {
    fn name(self) -> &'static str {
        match self {
            Label::Seed => "CIDATA",
            Label::Esp => "ESP",
        }
    }

    fn of(text: &[u8]) -> Option<Label> {
        let text = std::str::from_utf8(text).ok()?.trim_end_matches([' ', '\0']);
        [Label::Seed, Label::Esp]
            .into_iter()
            .find(|label| label.name().eq_ignore_ascii_case(text))
    }
}

/// The label in the first sectors of a volume: FAT's boot sector (Microsoft's FAT specification, 3.1 to 3.3), or ISO 9660's primary volume
/// descriptor (ECMA-119, 8.4).
fn label_of(device: &Path) -> Option<Label> {
    let file = File::open(device).ok()?;
    let mut sector = [0; 512];
    file.read_exact_at(&mut sector, 0).ok()?;
    if sector[510..] == [0x55, 0xaa] {
        if sector[82..87] == *b"FAT32" {
            return Label::of(&sector[71..82]);
        }
        if sector[54..57] == *b"FAT" {
            return Label::of(&sector[43..54]);
        }
    }
    let mut volume = [0; 72];
    file.read_exact_at(&mut volume, 16 * 2048).ok()?;
    (volume[..6] == *b"\x01CD001")
        .then(|| Label::of(&volume[40..72]))
        .flatten()
}

fn devices(config: &Config) -> Vec<String> {
    let Ok(folder) = fs::read_dir(config.at("/sys/class/block")) else {
        return Vec::new();
    };
    let names = folder
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| !name.starts_with("ram") && !name.starts_with("dm-"))
        .collect();
    names.sort();
    names
}

/// The choices on a volume, if it has any. It is mounted for that moment alone, and nothing on it is run or written.
fn on_volume(config: &Config, device: &str) -> Result<Option<String>, String> {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let place = config.at("/run/cairn/setup-volume");
    let said = |e: &dyn std::fmt::Display| e.to_string();
    private_folder(&place).map_err(|e| said(&e))?;
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    let source = config.at("/dev").join(device);
    let kinds = ["vfat", "iso9660"];
    let mounted = kinds
        .iter()
        .map(|kind| mount(&source, &place, *kind, flags, None))
        .find(Result::is_ok);
    if mounted.is_none() {
        return Err("it can be mounted neither as FAT nor as ISO 9660".to_owned());
    }
    let path = place.join(FILE);
    let text = match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_file() => read(&path).map(Some).map_err(|e| said(&e)),
        Ok(_) => Err("it is no file".to_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(said(&e)),
    };
    unmount(&place, UnmountFlags::empty()).map_err(|e| said(&e))?;
    text
}

/// The site in the text of first choices: comments and everything else stay.
fn site_text(text: &str) -> Result<String, String> {
    let mut site: toml_edit::DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| e.to_string())?;
    site.remove("administrator");
    Ok(site.to_string())
}

/// The file with the owner's account, until the unit that keeps accounts has taken it.
fn kept(config: &Config) -> PathBuf {
    config.at("/data/secrets/.setup/administrator.json")
}

impl Supervisor {
    /// Looks for first choices until the appliance is set up.
    pub(crate) fn watch_for_choices(&self) {
        if !self.is_unset() {
            return;
        }
        let (config, send) = (self.config.clone(), self.send.clone());
        tokio::spawn(async move {
            loop {
                let config = config.clone();
                if let Ok(Some(choices)) = tokio::task::spawn_blocking(move || look(&config)).await
                    && send.send(Msg::Choices(choices)).is_err()
                {
                    return;
                }
                tokio::time::sleep(PACE).await;
                if send.is_closed() {
                    return;
                }
            }
        });
    }

    /// First choices were found.
    pub(crate) fn choices_found(&mut self, choices: Choices) {
        // The same trouble is said once.
        if !self.is_unset() || self.choices.as_ref() == Some(&choices) {
            return;
        }
        self.choices = Some(choices.clone());
        self.choice_problems.clear();
        if let Err(problems) = self.choose_first(&choices) {
            for line in &problems {
                self.console.say(&format!("Setup: {line}"));
            }
            self.choice_problems = problems;
        } else {
            self.console.say(&format!("Set up by {}", choices.place));
        }
    }

    /// Puts them in force, all or nothing.
    fn choose_first(&mut self, choices: &Choices) -> Result<(), Vec<String>> {
        let one = |why: String| vec![format!("{}: {why}", choices.place)];
        let text = choices.text.clone().map_err(one)?;
        let source = Source {
            file: PathBuf::from(&choices.place),
            text: text.clone(),
        };
        let first = First::parse(&source, &self.built).map_err(|problems| {
            let line = |problem: cairn_unit::Problem| {
                let at = problem.at.map_or(String::new(), |(line, _)| format!(", line {line}"));
                let help = problem.help.map_or(String::new(), |help| format!("; {help}"));
                format!("{}{at}: {}{help}", choices.place, problem.message)
            };
            problems.0.into_iter().map(line).collect::<Vec<String>>()
        })?;
        let site = site_text(&text).map_err(one)?;
        self.keep_administrator(&first.administrator)
            .map_err(|e| one(e.to_string()))?;
        self.accept_site(&site, &choices.place, "the appliance was set up without a person")
            .map_err(|e| one(e.to_string()))?;
        self.reload_site();
        self.forget_code();
        Ok(())
    }

    fn keep_administrator(&self, owner: &Administrator) -> Result<(), Error> {
        let path = kept(&self.config);
        if let Some(folder) = path.parent() {
            private_folder(folder)?;
        }
        let owner = cairn_api::Administrator {
            name: owner.name.clone(),
            password: owner.password.clone(),
            password_hash: owner.password_hash.clone(),
        };
        let text = serde_json::to_vec(&owner).unwrap_or_default();
        write_atomically(&path, &text, 0o600)?;
        Ok(())
    }

    /// The owner's account from first choices, for the unit that keeps accounts.
    pub(crate) fn administrator(&self) -> Answered {
        let text = fs::read(kept(&self.config)).ok().filter(|_| !self.is_unset());
        let administrator = text.and_then(|text| serde_json::from_slice(&text).ok());
        Answered::of(200, &cairn_api::FirstAccount { administrator })
    }

    /// It was taken.
    pub(crate) fn administrator_taken(&self) -> Answered {
        match fs::remove_file(kept(&self.config)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Answered::error(500, &e.to_string()),
            _ => Answered::of(200, &cairn_api::Accepted::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmwares_string_is_found_among_others_and_broken_tables_have_none() {
        let structure = |kind: u8, strings: &[&str]| {
            let mut all = vec![kind, 5, 0, 0, 1];
            for text in strings {
                all.extend_from_slice(text.as_bytes());
                all.push(0);
            }
            if strings.is_empty() {
                all.push(0);
            }
            all.push(0);
            all
        };
        let good = [
            structure(1, &["maker"]),
            structure(11, &["other", "cairn.setup=a = 1\nb = 2"]),
            structure(127, &[]),
        ]
        .concat();
        assert_eq!(oem_string(&good).as_deref(), Some("a = 1\nb = 2"));
        // Another kind of structure is not asked, and neither is what comes after the end.
        let elsewhere = [
            structure(1, &["cairn.setup=x"]),
            structure(127, &[]),
            structure(11, &["cairn.setup=x"]),
        ]
        .concat();
        assert_eq!(oem_string(&elsewhere), None);
        for length in 0..good.len() - structure(127, &[]).len() {
            let _ = oem_string(&good[..length]);
        }
        assert_eq!(oem_string(&[11, 0, 0, 0, 0]), None);
    }

    #[test]
    fn volumes_are_known_by_their_label_alone() {
        let folder = tempfile::tempdir().unwrap();
        let volume = |name: &str, at: usize, label: &[u8], kind: (usize, &[u8])| {
            let mut bytes = vec![0; 40_000];
            bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
            bytes[kind.0..kind.0 + kind.1.len()].copy_from_slice(kind.1);
            bytes[at..at + label.len()].copy_from_slice(label);
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            label_of(&path)
        };
        assert_eq!(
            volume("fat32", 71, b"CIDATA     ", (82, b"FAT32   ")),
            Some(Label::Seed)
        );
        assert_eq!(volume("fat16", 43, b"ESP        ", (54, b"FAT16   ")), Some(Label::Esp));
        assert_eq!(
            volume("iso", 32_808, b"cidata   ", (32_768, b"\x01CD001")),
            Some(Label::Seed)
        );
        assert_eq!(volume("data", 43, b"DATA       ", (54, b"FAT16   ")), None);
        assert_eq!(volume("none", 43, b"CIDATA     ", (54, b"XFS")), None);
        fs::write(folder.path().join("short"), "x").unwrap();
        assert_eq!(label_of(&folder.path().join("short")), None);
    }

    #[test]
    fn the_site_has_no_word_of_the_owners_password() {
        let text = "# mine\n[appliance]\nname = \"a\" # short\n[administrator]\nname = \"x\"\npassword = \"secret words\"\n[units.web]\nenabled = false\n";
        let site = site_text(text).unwrap();
        assert!(!site.contains("secret") && !site.contains("administrator"), "{site}");
        assert!(
            site.contains("# mine") && site.contains("# short") && site.contains("[units.web]"),
            "{site}"
        );
    }
}
