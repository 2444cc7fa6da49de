//! Modules that are loaded by a child on another processor, while the initrd stage does something else.
//!
//! Nothing depends on the child: what it did not load, whoever needs it loads.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::SYSROOT;
use crate::console::{self, debug};
use crate::modules::{self, Loader};

/// The program's first argument as such a child; the second is a [`Set`]'s word.
pub(crate) const ARGUMENT: &str = "meanwhile";

/// What is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// What a disk may need, from the initrd.
    Disks,
    /// What units wait for, from the verified root: the network cards', and what the root lists.
    Root,
}

impl Set {
    fn word(self) -> &'static str {
        match self {
            Set::Disks => "disks",
            Set::Root => "root",
        }
    }

    fn of(word: &str) -> Option<Set> {
        [Set::Disks, Set::Root].into_iter().find(|set| set.word() == word)
    }
}

/// A child that loads modules.
pub(super) struct Meanwhile(Option<Child>);

impl Meanwhile {
    /// Starts it; that it cannot be started costs time only.
    pub(super) fn start(set: Set) -> Self {
        let child = Command::new("/init")
            .args([ARGUMENT, set.word()])
            .stdin(Stdio::null())
            .spawn();
        if let Err(error) = &child {
            debug!("modules are loaded one after another: {error}");
        }
        Self(child.ok())
    }

    /// Waits until it has loaded all.
    pub(super) fn finish(mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.wait();
        }
    }
}

/// It has no part in what comes next: it is ended after the module that it is at.
impl Drop for Meanwhile {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The child.
pub(crate) fn run(word: Option<&str>) -> ! {
    console::set_debug_from_cmdline();
    match word.and_then(Set::of) {
        Some(Set::Disks) => Loader::new(Path::new("/")).load_for_devices(modules::quick_devices),
        Some(Set::Root) => {
            let root = Path::new(SYSROOT);
            Loader::new(root).load_for_units(root);
        }
        None => std::process::exit(64),
    }
    std::process::exit(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_set_is_known_by_its_word() {
        for set in [Set::Disks, Set::Root] {
            assert_eq!(Set::of(set.word()), Some(set));
        }
        assert_eq!(Set::of("all"), None);
    }
}
