//! Our own programs for the image: taken from a folder, or built here by cargo.
//!
//! Built programs are the same bytes from any checkout: they are static, stripped, and the folders of the checkout, of
//! cargo and of the toolchain are written as fixed names.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cairn_unit::Arch;
use rustix::process::Pid;

use super::BuildError;
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

/// The programs of an image, with the test agent if it is to have it.
pub(super) fn programs(agent: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    PROGRAMS.into_iter().chain(Some(AGENT).filter(|_| agent))
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

/// The packages of the workspace that hold them.
const CRATES: [&str; 4] = ["cairn-init", "cairn-exec", "cairn-manager", "cairn"];

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
    /// The folder that holds the programs, after building them if need be.
    pub(super) fn provide(&self, arch: Arch, agent: bool) -> Result<PathBuf, BuildError> {
        let folder = match self {
            Binaries::Folder(folder) => folder.clone(),
            Binaries::Workspace(root) => build(root, arch, agent)?,
        };
        for (name, _) in programs(agent) {
            let path = folder.join(name);
            if !path.is_file() {
                return Err(BuildError::NoProgram { path });
            }
        }
        Ok(folder)
    }

    /// The files whose change means that the programs may change: path, length and time.
    pub(super) fn inputs(&self, agent: bool) -> std::io::Result<Vec<PathBuf>> {
        let mut out = Vec::new();
        match self {
            Binaries::Folder(folder) => out.extend(programs(agent).map(|(name, _)| folder.join(name))),
            Binaries::Workspace(root) => {
                out.extend([root.join("Cargo.toml"), root.join("Cargo.lock")]);
                for folder in ["supervisor", "crates"]
                    .into_iter()
                    .chain(Some("qemu-tests/agent").filter(|_| agent))
                {
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

fn build(root: &Path, arch: Arch, agent: bool) -> Result<PathBuf, BuildError> {
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
    for name in CRATES.into_iter().chain(Some(AGENT.0).filter(|_| agent)) {
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
    Ok(folder.join(target).join("appliance"))
}
