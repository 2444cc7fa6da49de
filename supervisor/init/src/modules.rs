//! Kernel modules: which ones a device or a name asks for, and loading them.
//!
//! The indexes are kmod's text files (`modules.alias`, `modules.dep`, `modules.softdep`, `modules.builtin`) in
//! `/usr/lib/modules/RELEASE`, as depmod writes them. Names are compared with `-` and `_` as one. A module whose file
//! is absent is skipped: an initrd carries a few only.

mod glob;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::console::debug;
use crate::times;

/// Calls a function with the modalias of each device that it finds.
pub(crate) type Walk = fn(&mut dyn FnMut(&str));

/// The indexes of one kernel.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Pattern and module.
    aliases: Vec<(String, String)>,
    /// Module to its file and the files that it needs, last one first to load.
    files: BTreeMap<String, (String, Vec<String>)>,
    /// Module to what is to be loaded before and after it.
    soft: BTreeMap<String, (Vec<String>, Vec<String>)>,
    builtin: BTreeSet<String>,
}

/// A module's name as the kernel compares it.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The module's name from its file's path.
fn stem(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split(".ko").next().unwrap_or(file))
}

impl Index {
    /// Reads the indexes from a folder; files that are absent are empty.
    pub(crate) fn read(folder: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        Self::parse(
            &text("modules.alias"),
            &text("modules.dep"),
            &text("modules.softdep"),
            &text("modules.builtin"),
        )
    }

    /// Reads the indexes from their texts. Lines that make no sense are skipped.
    pub(crate) fn parse(alias: &str, dep: &str, softdep: &str, builtin: &str) -> Self {
        let mut index = Self::default();
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) {
                index.aliases.push((normal_pattern(pattern), normal(module)));
            }
        }
        for line in dep.lines() {
            if let Some((file, needs)) = line.split_once(':') {
                let needs = needs.split_whitespace().map(str::to_owned).collect();
                index.files.insert(stem(file), (file.to_owned(), needs));
            }
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            if let (Some("softdep"), Some(module)) = (words.next(), words.next()) {
                let entry = index.soft.entry(normal(module)).or_default();
                let mut pre = true;
                for word in words {
                    match word {
                        "pre:" => pre = true,
                        "post:" => pre = false,
                        name if pre => entry.0.push(name.to_owned()),
                        name => entry.1.push(name.to_owned()),
                    }
                }
            }
        }
        index.builtin = builtin.lines().map(stem).collect();
        index
    }

    /// The modules that a name stands for: a module's own name, or all whose alias matches.
    pub(crate) fn resolve(&self, name: &str) -> Vec<&str> {
        let own = normal(name);
        if let Some((module, _)) = self.files.get_key_value(&own) {
            return vec![module];
        }
        if self.builtin.contains(&own) {
            return Vec::new();
        }
        let name = normal_pattern(name);
        let mut found: Vec<&str> = Vec::new();
        for (pattern, module) in &self.aliases {
            if !found.contains(&module.as_str()) && glob::matches(pattern.as_bytes(), name.as_bytes()) {
                found.push(module);
            }
        }
        found
    }

    /// Whether a name stands for something that is part of the kernel itself.
    pub(crate) fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&normal(name))
    }

    /// The modules to load for one module, in order, itself included: soft dependencies and dependencies first.
    fn order(&self, module: &str, into: &mut Vec<(String, String)>, seen: &mut BTreeSet<String>) {
        if !seen.insert(module.to_owned()) {
            return;
        }
        let Some((file, needs)) = self.files.get(module) else {
            return;
        };
        let soft = self.soft.get(module);
        for name in soft.map_or(&[][..], |s| &s.0) {
            for needed in self.resolve(name) {
                self.order(needed, into, seen);
            }
        }
        for need in needs.iter().rev() {
            self.order(&stem(need), into, seen);
        }
        into.push((module.to_owned(), file.clone()));
        for name in soft.map_or(&[][..], |s| &s.1) {
            for needed in self.resolve(name) {
                self.order(needed, into, seen);
            }
        }
    }
}

/// Aliases keep `-` inside brackets (ranges); elsewhere it is the same as `_`.
fn normal_pattern(pattern: &str) -> String {
    let mut inside = false;
    pattern
        .chars()
        .map(|c| {
            match c {
                '[' => inside = true,
                ']' => inside = false,
                '-' if !inside => return '_',
                _ => {}
            }
            c
        })
        .collect()
}

/// Loads modules of the running kernel, each once.
pub(crate) struct Loader {
    folder: PathBuf,
    index: Index,
    /// The kernel's command line, for `MODULE.OPTION=VALUE`.
    cmdline: String,
    done: BTreeSet<String>,
    asked: BTreeSet<String>,
}

impl Loader {
    /// For the running kernel, with the files of a root.
    pub(crate) fn new(root: &Path) -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let folder = root.join("usr/lib/modules").join(release);
        Self {
            index: Index::read(&folder),
            folder,
            cmdline: fs::read_to_string("/proc/cmdline").unwrap_or_default(),
            done: BTreeSet::new(),
            asked: BTreeSet::new(),
        }
    }

    /// Loads what a name or a modalias stands for. Returns whether anything is there now under that name.
    pub(crate) fn load(&mut self, name: &str) -> bool {
        let modules: Vec<String> = self.index.resolve(name).iter().map(|m| (*m).to_owned()).collect();
        let mut any = modules.is_empty() && self.index.is_builtin(name);
        for module in modules {
            let mut order = Vec::new();
            self.index.order(&module, &mut order, &mut BTreeSet::new());
            for (module, file) in order {
                // Reading a module only to be told that it is there costs as much as loading it.
                if self.done.contains(&module) || Path::new("/sys/module").join(&module).join("initstate").exists() {
                    self.done.insert(module);
                    any = true;
                    continue;
                }
                match self.insert(&module, &file) {
                    Ok(()) => {
                        any = true;
                        self.done.insert(module);
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        debug!("module {module}: {error}");
                        self.done.insert(module);
                    }
                }
            }
        }
        any
    }

    /// Loads what units wait for: the network cards' modules, and those that the root lists (of the bridge and the firewall).
    pub(crate) fn load_for_units(&mut self, root: &Path) {
        self.load_for_devices(network_devices);
        for name in listed(&root.join("usr/lib/modules-load.d")) {
            if !self.load(&name) {
                debug!("module {name}, listed in /usr/lib/modules-load.d, is not there");
            }
        }
    }

    fn insert(&self, module: &str, file: &str) -> io::Result<()> {
        let file = File::open(self.folder.join(file))?;
        let start = times::now();
        let options = options(&self.cmdline, module);
        match rustix::system::finit_module(&file, &CString::new(options).unwrap_or_default(), 0) {
            Ok(()) | Err(Errno::EXIST) => {
                debug!("module {module} in {} ms", (times::now() - start) / 1_000_000);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Loads what the devices that `walk` finds ask for, again and again until no new one shows up.
    pub(crate) fn load_for_devices(&mut self, walk: Walk) {
        loop {
            let mut new = Vec::new();
            walk(&mut |alias| {
                let alias = alias.trim_end();
                if !alias.is_empty() && !self.asked.contains(alias) {
                    self.asked.insert(alias.to_owned());
                    new.push(alias.to_owned());
                }
            });
            if new.is_empty() {
                return;
            }
            for alias in new {
                self.load(&alias);
            }
        }
    }
}

/// The options for a module on the kernel's command line: `MODULE.OPTION=VALUE` words.
fn options(cmdline: &str, module: &str) -> String {
    let mut options = String::new();
    for word in cmdline.split_whitespace() {
        if let Some((name, option)) = word.split_once('.')
            && normal(name) == module
            && !option.starts_with('=')
        {
            options.push_str(option);
            options.push(' ');
        }
    }
    options
}

/// The modules that the files of a folder list, in the files' order: one name a line, `#` and `;` begin a comment
/// (modules-load.d(5)).
fn listed(folder: &Path) -> Vec<String> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|e| e.path()).collect())
        .unwrap_or_default();
    files.retain(|f| f.extension().is_some_and(|e| e == "conf"));
    files.sort();
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    texts
        .flat_map(|text| text.lines().map(|l| l.trim().to_owned()).collect::<Vec<_>>())
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        .collect()
}

/// The modaliases of all devices on a bus (no class devices such as input): what storage needs. Cheap.
pub(crate) fn bus_devices(found: &mut dyn FnMut(&str)) {
    for bus in folders(Path::new("/sys/bus")) {
        for device in folders(&bus.join("devices")) {
            if let Ok(alias) = fs::read_to_string(device.join("modalias")) {
                found(&alias);
            }
        }
    }
}

/// The modaliases of devices on a bus that are no slow controllers: a disk may be behind them, and looking costs little. SATA, SAS
/// and USB controllers look at each of their ports for a while, and bring their own subsystems with them.
pub(crate) fn quick_devices(found: &mut dyn FnMut(&str)) {
    bus_devices(&mut |alias| {
        if !is_slow_controller(alias) {
            found(alias);
        }
    });
}

/// The modaliases of network devices: PCI class 2, virtio device 1, and what is on a bus of another hypervisor.
fn network_devices(found: &mut dyn FnMut(&str)) {
    bus_devices(&mut |alias| {
        let class = pci_class(alias).map(|class| class.0);
        if class == Some(2)
            || ["virtio:d00000001", "vmbus:", "xen:vif"]
                .iter()
                .any(|start| alias.starts_with(start))
        {
            found(alias);
        }
    });
}

/// The modaliases of ACPI's power buttons: the fixed one and the one that is a device of its own.
pub(crate) fn power_buttons(found: &mut dyn FnMut(&str)) {
    bus_devices(&mut |alias| {
        if alias.starts_with("acpi:LNXPWRBN") || alias.starts_with("acpi:PNP0C0C") {
            found(alias);
        }
    });
}

fn is_slow_controller(alias: &str) -> bool {
    // Mass storage but NVMe (8), and serial buses (USB); virtio's devices, which all have one vendor, are quick.
    let slow = matches!(pci_class(alias), Some((1, sub)) if sub != 8) || matches!(pci_class(alias), Some((0xc, _)));
    slow && !alias.starts_with("pci:v00001AF4")
}

/// Class and subclass of a PCI device: `pci:v...d...sv...sd...bcBBscSSiII`.
fn pci_class(alias: &str) -> Option<(u8, u8)> {
    let (_, class) = alias.strip_prefix("pci:")?.split_once("bc")?;
    let byte = |at: usize| u8::from_str_radix(class.get(at..at + 2)?, 16).ok();
    (class.get(2..4)? == "sc").then(|| Some((byte(0)?, byte(4)?)))?
}

/// The modaliases of all devices.
pub(crate) fn all_devices(found: &mut dyn FnMut(&str)) {
    bus_devices(found);
    for class in folders(Path::new("/sys/class")) {
        for device in folders(&class) {
            if let Ok(alias) = fs::read_to_string(device.join("modalias")) {
                found(&alias);
            }
        }
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path)
        .map(|entries| entries.flatten().map(|e| e.path()).collect())
        .unwrap_or_default()
}

#[cfg(test)]
#[path = "modules_tests.rs"]
mod tests;
