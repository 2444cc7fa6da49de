//! Our own programs for the image: taken from a folder, or built here by cargo.
//!
//! Built programs are the same bytes from any checkout: they are static, stripped, and the folders of the checkout, of
//! cargo and of the toolchain are written as fixed names.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cairn_unit::{Arch, Name, Unit};
use rustix::process::Pid;

use super::BuildError;
use super::crates::Compiled;
use crate::leftovers;
use crate::tree::{Content, Node, Tree};

/// The programs that an image holds: name and path in the host root.
const PROGRAMS: [(&str, &str); 4] = [
    ("cairn-init", "usr/lib/cairn/cairn-init"),
    ("cairn-exec", "usr/lib/cairn/cairn-exec"),
    ("cairn-manager", "usr/lib/cairn/cairn-manager"),
    ("cairn", "usr/bin/cairn"),
];

/// The program that test images hold beyond these.
const AGENT: (&str, &str) = ("cairn-test-agent", "usr/lib/cairn/test-agent");

/// The program that images hold which can be upgraded.
const UPGRADE: (&str, &str) = ("cairn-upgrade", "usr/lib/cairn/cairn-upgrade");

/// The program of such an image's recovery entry; it lies on the ESP, and not in the root.
pub(super) const RECOVERY: &str = "cairn-recovery";

/// Which programs an image holds beyond those of every image.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extras {
    /// The test agent.
    pub(super) agent: bool,
    /// What installs later versions.
    pub(super) upgrade: bool,
}

/// The programs of an image.
pub(super) fn programs(extras: Extras) -> impl Iterator<Item = (&'static str, &'static str)> {
    let agent = Some(AGENT).filter(|_| extras.agent);
    PROGRAMS
        .into_iter()
        .chain(agent)
        .chain(Some(UPGRADE).filter(|_| extras.upgrade))
}

/// The names of all programs that an image is made of.
pub(super) fn needed(extras: Extras) -> impl Iterator<Item = &'static str> {
    let recovery = Some(RECOVERY).filter(|_| extras.upgrade);
    programs(extras).map(|(name, _)| name).chain(recovery)
}

/// Lays the test agent on a root that has a file at its path: a unit of a test image that runs it holds an empty one.
pub(super) fn lay_agent(programs: &Path, root: &mut Tree) -> Result<(), BuildError> {
    let (name, path) = AGENT;
    if root.lookup(path).and_then(|(_, node)| node.content()).is_some() {
        let from = programs.join(name);
        let bytes = std::fs::read(&from).map_err(BuildError::io("read", &from))?;
        root.put(path, Node::file(Content::bytes(bytes), 0o755, "imagegen"));
    }
    Ok(())
}

/// Where a unit's root has a program of ours.
pub(super) fn place(program: &Name) -> String {
    format!("usr/bin/{program}")
}

/// Keeps the places of a unit's programs in its root with empty files, until they are compiled: what else looks at the root
/// meanwhile finds them there.
pub(super) fn keep_places(unit: &Name, spec: &Unit, root: &mut Tree) -> Result<(), BuildError> {
    for program in &spec.programs {
        let path = place(program);
        if root.lookup(&path).is_some() {
            return Err(BuildError::TwoPrograms {
                unit: unit.to_string(),
                path,
            });
        }
        root.put(&path, Node::file(Content::bytes(Vec::new()), 0o755, "imagegen"));
    }
    Ok(())
}

/// Lays a unit's programs on its root.
pub(super) fn lay_programs(programs: &Path, spec: &Unit, root: &mut Tree) -> Result<(), BuildError> {
    for program in &spec.programs {
        let from = programs.join(program.as_str());
        let bytes = std::fs::read(&from).map_err(BuildError::io("read", &from))?;
        root.put(&place(program), Node::file(Content::bytes(bytes), 0o755, "imagegen"));
    }
    Ok(())
}

/// The programs that units ask for, each once.
pub(super) fn asked(units: &BTreeMap<Name, Unit>) -> BTreeSet<&Name> {
    units.values().flat_map(|unit| &unit.programs).collect()
}

/// The folders of a workspace whose packages can be programs of a unit; a change in them means that programs may change.
const FOLDERS: [&str; 2] = ["supervisor", "crates"];

/// What this needs to know of a package.
#[derive(serde::Deserialize)]
struct CargoToml {
    package: Option<CargoPackage>,
    #[serde(default)]
    bin: Vec<CargoPackage>,
}

#[derive(serde::Deserialize)]
struct CargoPackage {
    name: Option<String>,
}

/// The packages of a workspace that have a binary of their own name.
fn offered(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let folders = FOLDERS
        .iter()
        .filter_map(|folder| std::fs::read_dir(root.join(folder)).ok());
    for package in folders.flatten().flatten() {
        let folder = package.path();
        let Ok(text) = std::fs::read_to_string(folder.join("Cargo.toml")) else {
            continue;
        };
        let Ok(CargoToml { package, bin }) = toml::from_str(&text) else {
            continue;
        };
        let Some(name) = package.and_then(|package| package.name) else {
            continue;
        };
        let declared = bin.iter().any(|bin| bin.name.as_deref() == Some(name.as_str()));
        if declared || folder.join("src/main.rs").is_file() {
            found.insert(name);
        }
    }
    found
}

/// Where the test agent's package is.
const AGENT_FOLDER: &str = "qemu-tests/agent";

/// What is compiled for any image: all of it, always. Cargo gives a library the features that the packages of one call ask for together, so the
/// bytes of a program depend on which others are named. Two appliances, or two versions of one that differ in a unit, have the same manager.
fn compiled(root: &Path) -> BTreeSet<String> {
    let mut all = offered(root);
    if root.join(AGENT_FOLDER).is_dir() {
        all.insert(AGENT.0.to_owned());
    }
    all
}

/// Where the programs come from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binaries {
    /// Files in this folder, built for the image's architecture.
    Folder(PathBuf),
    /// Built from the workspace in this folder.
    Workspace(PathBuf),
}

impl Binaries {
    /// That the workspace has every program that units ask for. A folder is looked at when its programs are needed.
    pub(super) fn check(&self, units: &BTreeMap<Name, Unit>) -> Result<(), BuildError> {
        let Binaries::Workspace(root) = self else {
            return Ok(());
        };
        let offered = match asked(units).is_empty() {
            true => return Ok(()),
            false => offered(root),
        };
        for (unit, spec) in units {
            if let Some(program) = spec.programs.iter().find(|program| !offered.contains(program.as_str())) {
                return Err(BuildError::NoWorkspaceProgram {
                    unit: unit.to_string(),
                    program: program.to_string(),
                    folder: root.clone(),
                    offered: offered.into_iter().collect::<Vec<_>>().join(", "),
                });
            }
        }
        Ok(())
    }

    /// The folder that holds the programs, after building them if need be.
    pub(super) fn provide(
        &self,
        arch: Arch,
        extras: Extras,
        units: &BTreeMap<Name, Unit>,
    ) -> Result<PathBuf, BuildError> {
        let asked = asked(units);
        let folder = match self {
            Binaries::Folder(folder) => folder.clone(),
            Binaries::Workspace(root) => build(root, arch)?,
        };
        let own: Vec<&str> = needed(extras).collect();
        for name in own.into_iter().chain(asked.iter().map(|name| name.as_str())) {
            let path = folder.join(name);
            if !path.is_file() {
                return Err(BuildError::NoProgram { path });
            }
        }
        Ok(folder)
    }

    /// The files whose change means that the programs may change: path, length and time.
    pub(super) fn inputs(&self, extras: Extras, units: &BTreeMap<Name, Unit>) -> std::io::Result<Vec<PathBuf>> {
        let mut out = Vec::new();
        match self {
            Binaries::Folder(folder) => {
                out.extend(needed(extras).map(|name| folder.join(name)));
                out.extend(asked(units).into_iter().map(|name| folder.join(name.as_str())));
            }
            Binaries::Workspace(root) => {
                out.extend([root.join("Cargo.toml"), root.join("Cargo.lock")]);
                for folder in FOLDERS.into_iter().chain(Some(AGENT_FOLDER).filter(|_| extras.agent)) {
                    files(&root.join(folder), &mut out)?;
                }
            }
        }
        out.sort();
        Ok(out)
    }
}

fn files(folder: &Path, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files(&entry.path(), out)?;
        } else {
            out.push(entry.path());
        }
    }
    Ok(())
}

fn build(root: &Path, arch: Arch) -> Result<PathBuf, BuildError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let failed = |program: &str, why: String| BuildError::Cargo {
        program: program.to_owned(),
        why,
    };
    let target = arch.rust_target();
    let output = Command::new(&rustc)
        .args(["--print", "sysroot"])
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed("rustc", e.to_string()))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if !sysroot.join("lib/rustlib").join(target).is_dir() {
        return Err(BuildError::NoTarget {
            target: target.to_owned(),
            arch,
        });
    }
    let root = root.canonicalize().map_err(|e| failed("cargo", e.to_string()))?;
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cargo")))
        .unwrap_or_default();
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    for (path, name) in [(&root, "/cairn"), (&home, "/cargo"), (&sysroot, "/rust")] {
        if !path.as_os_str().is_empty() {
            flags.push(format!("--remap-path-prefix={}={name}", path.display()));
        }
    }
    // Where the caller's own builds go, so that a cache of those serves these too.
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
    let folder = folder.join("appliance");
    let mut command = Command::new(&cargo);
    command
        .args([
            "build",
            "--locked",
            "--quiet",
            "--profile",
            "appliance",
            // Features are for other machines than the appliance.
            "--no-default-features",
            "--target",
            target,
            "--target-dir",
        ])
        .arg(&folder)
        .current_dir(&root)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("SOURCE_DATE_EPOCH", "0")
        .stdin(Stdio::null());
    // What cargo tells a build that it itself started must not reach the inner one.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PROFILE_") || text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_BUILD_") {
            command.env_remove(&name);
        }
    }
    if arch != Arch::Amd64 || cfg!(not(target_arch = "x86_64")) {
        let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
        if Arch::host() != Some(arch) && std::env::var_os(&linker).is_none() {
            command.env(&linker, format!("{}-gcc", arch.multiarch()));
        }
    }
    let packages = compiled(&root);
    for name in &packages {
        command.args(["-p", name]);
    }
    // In a group of its own, which an interruption ends: of cargo alone, its compilers would live on.
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|e| failed("cargo", e.to_string()))?;
    let watched = leftovers::watch_group(Pid::from_child(&child));
    let output = child.wait_with_output().map_err(|e| failed("cargo", e.to_string()))?;
    drop(watched);
    if !output.status.success() {
        return Err(failed(
            "cargo",
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    let folder = folder.join(target).join("appliance");
    linked(&root, target, &packages, &cargo, &rustc)?.keep(&folder)?;
    Ok(folder)
}

/// What is compiled into these packages' programs.
fn linked(
    root: &Path,
    target: &str,
    packages: &BTreeSet<String>,
    cargo: &OsStr,
    rustc: &OsStr,
) -> Result<Compiled, BuildError> {
    let failed = |program: &str, why: String| BuildError::Cargo {
        program: program.to_owned(),
        why,
    };
    let said = |program: &str, command: &mut Command| {
        let output = command.current_dir(root).stdin(Stdio::null()).output();
        let output = output.map_err(|e| failed(program, e.to_string()))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(failed(
                program,
                String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            )),
        }
    };
    let mut tree = Command::new(cargo);
    tree.args(["tree", "--locked", "--no-default-features", "--target", target])
        .args([
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "depth",
            "--format",
            "{p}|{l}",
        ])
        .env_remove("RUSTFLAGS");
    for name in packages {
        tree.args(["-p", name]);
    }
    let tree = said("cargo", &mut tree)?;
    let version = said("rustc", Command::new(rustc).arg("--version"))?;
    let lock = root.join("Cargo.lock");
    let lock = std::fs::read_to_string(&lock).map_err(BuildError::io("read", &lock))?;
    Compiled::read(&tree, &lock, &version).map_err(|why| failed("cargo", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(program: &str) -> BTreeMap<Name, Unit> {
        let text =
            format!("description = \"A\"\nprograms = [\"{program}\"]\n[service]\ncommand = [\"/usr/bin/{program}\"]\n");
        let source = cairn_unit::Source {
            file: "units/own.toml".into(),
            text,
        };
        BTreeMap::from([("own".parse().unwrap(), Unit::parse(&source).unwrap())])
    }

    fn workspace() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (at, manifest, main) in [
            (
                "crates/page",
                "[package]\nname = \"example-page\"\n",
                Some("src/main.rs"),
            ),
            (
                "crates/parts",
                "[package]\nname = \"example-parts\"\n",
                Some("src/lib.rs"),
            ),
            (
                "supervisor/tool",
                "[package]\nname = \"example-tool\"\n[[bin]]\nname = \"example-tool\"\npath = \"tool.rs\"\n",
                None,
            ),
        ] {
            let at = folder.path().join(at);
            std::fs::create_dir_all(at.join("src")).unwrap();
            std::fs::write(at.join("Cargo.toml"), manifest).unwrap();
            if let Some(main) = main {
                std::fs::write(at.join(main), "").unwrap();
            }
        }
        folder
    }

    #[test]
    fn a_unit_can_ask_for_any_package_with_a_binary_of_its_name() {
        let folder = workspace();
        let binaries = Binaries::Workspace(folder.path().to_owned());
        for program in ["example-page", "example-tool"] {
            binaries.check(&units(program)).unwrap();
        }
    }

    #[test]
    fn a_program_that_the_workspace_lacks_is_refused_with_those_that_it_has() {
        let folder = workspace();
        let binaries = Binaries::Workspace(folder.path().to_owned());
        for program in ["example-pge", "example-parts"] {
            let error = binaries.check(&units(program)).unwrap_err().to_string();
            assert!(
                error.contains(&format!("unit `own`: the workspace {}", folder.path().display())),
                "{error}"
            );
            assert!(error.contains(&format!("no program `{program}`")), "{error}");
            assert!(error.contains("example-page, example-tool"), "{error}");
        }
    }

    #[test]
    fn what_is_compiled_does_not_depend_on_the_image() {
        let folder = workspace();
        let names = ["example-page", "example-tool"].map(str::to_owned);
        assert_eq!(compiled(folder.path()), BTreeSet::from(names.clone()));
        std::fs::create_dir_all(folder.path().join(AGENT_FOLDER)).unwrap();
        let with_agent: BTreeSet<String> = names.into_iter().chain([AGENT.0.to_owned()]).collect();
        assert_eq!(compiled(folder.path()), with_agent);
    }

    #[test]
    fn a_folder_without_a_units_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (name, _) in programs(Extras::default()) {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let binaries = Binaries::Folder(folder.path().to_owned());
        let error = binaries
            .provide(Arch::Amd64, Extras::default(), &units("example-page"))
            .unwrap_err();
        assert!(error.to_string().contains("example-page"), "{error}");
        binaries
            .provide(Arch::Amd64, Extras::default(), &BTreeMap::new())
            .unwrap();
    }

    #[test]
    fn a_units_programs_lie_in_its_usr_bin() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("example-page"), "the program").unwrap();
        let (units, name) = (units("example-page"), "own".parse().unwrap());
        let mut root = Tree::new("own");
        keep_places(&name, &units[&name], &mut root).unwrap();
        assert!(root.lookup("usr/bin/example-page").is_some());
        lay_programs(folder.path(), &units[&name], &mut root).unwrap();
        let (_, node) = root.lookup("usr/bin/example-page").unwrap();
        assert_eq!(node.content().unwrap().read().unwrap(), b"the program");
        assert_eq!(node.mode & 0o7777, 0o755);
        let error = keep_places(&name, &units[&name], &mut root).unwrap_err().to_string();
        assert!(
            error.contains("usr/bin/example-page") && error.contains("`own`"),
            "{error}"
        );
    }
}
