//! A tool run by hand: on the caller's own files and streams, with everything else as for any tool.
//!
//! It sees the folder that it is called in and the folders of every argument that names a file of the host, all
//! writable. What lies below a top-level folder of the tools tree (`/usr`, `/etc`) always means the tree's.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use cairn_sandbox::{Outcome, Stream, run_tool};

use super::{ToolsError, ToolsTree};
use crate::image::tool::Bind;

/// Where programs lie in the tree.
pub(super) const FOLDERS: [&str; 2] = ["usr/bin", "usr/sbin"];

/// What the sandbox has of its own. `/tmp` and `/run` may be bound over from below only.
const OWN: [&str; 3] = ["dev", "proc", "sys"];

/// Variables of the caller that a tool may depend on.
const PASSED: [&str; 5] = ["SOURCE_DATE_EPOCH", "TZ", "TERM", "MTOOLSRC", "APT_CONFIG"];

impl ToolsTree {
    /// Runs `tool` in the sandbox on the caller's files, with the caller's streams, to its end. The exit status, or 128 and
    /// the signal's number.
    ///
    /// # Errors
    /// The tool is not in the tree, a path is not UTF-8, or the sandbox cannot be set up.
    pub fn run_on_host(&self, tool: &str, args: &[OsString]) -> io::Result<i32> {
        let cwd = std::env::current_dir()?;
        let tops = top_level(&self.root)?;
        let binds: Vec<Bind> = folders(&cwd, args, &tops).into_iter().map(Bind::write).collect();
        let mut spec = self.spec(tool, args, &binds)?;
        if binds.iter().any(|bind| cwd.starts_with(&bind.path)) {
            spec.cwd = cwd;
        }
        for (name, value) in std::env::vars() {
            if PASSED.contains(&name.as_str()) || name.starts_with("SYSTEMD_") {
                spec.env.insert(name, value);
            }
        }
        // Tests that talk to a judge (a server) over the loopback ask for this machine's network.
        spec.network = std::env::var_os("CAIRN_TOOL_NETWORK").is_some();
        (spec.stdin, spec.stdout, spec.stderr) = (Stream::Inherit, Stream::Inherit, Stream::Inherit);
        let mut child = run_tool(spec).map_err(|failure| io::Error::other(failure.to_string()))?;
        match child.wait().map_err(|failure| io::Error::other(failure.to_string()))? {
            Outcome::Exited(code) => Ok(code),
            Outcome::Signaled(signal) => Ok(128 + signal),
        }
    }

    /// The names of all programs in the tree, sorted.
    pub fn programs(&self) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for folder in FOLDERS {
            for entry in fs::read_dir(self.root.join(folder))? {
                names.extend(entry?.file_name().into_string());
            }
        }
        Ok(names)
    }

    /// Writes a script for every program of the tree into the folder `to`, which is made: each calls `imagegen tool` with
    /// the set's name, so the folder can stand first on a PATH.
    ///
    /// # Errors
    /// The folder cannot be written, or the path of `imagegen` cannot be quoted.
    pub fn write_wrappers(&self, imagegen: &Path, set: &str, to: &Path) -> Result<usize, ToolsError> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| ToolsError::Write { doing, path, source }
        };
        let program = imagegen.to_str().filter(|text| !text.contains('\''));
        let program = program.ok_or_else(|| {
            let path = imagegen.display();
            ToolsError::Package(format!(
                "{path} cannot stand in a script: move imagegen to a plainer path"
            ))
        })?;
        fs::create_dir_all(to).map_err(failed("create", to))?;
        let names = self.programs().map_err(failed("list the programs of", &self.root))?;
        for name in &names {
            let path = to.join(name);
            // By a rename, since another process may be executing the script that was there.
            let new = to.join(format!(".new-{}-{name}", std::process::id()));
            let text = format!("#!/bin/sh\nexec '{program}' tool --set {set} -- '{name}' \"$@\"\n");
            fs::write(&new, text).map_err(failed("write", &new))?;
            fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).map_err(failed("set the mode of", &new))?;
            fs::rename(&new, &path).map_err(failed("rename to", &path))?;
        }
        Ok(names.len())
    }
}

fn top_level(root: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(root)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// The folders of the host that a call is about: `cwd`, and the parent of whatever path an argument holds (as a whole, after
/// an `=` or an `@`) where that exists. None lies below another, or where the tree has folders of its own.
fn folders(cwd: &Path, args: &[OsString], tops: &BTreeSet<OsString>) -> Vec<PathBuf> {
    let mut found = BTreeSet::from([cwd.to_owned()]);
    for arg in args {
        let bytes = arg.as_bytes();
        let starts = bytes.iter().enumerate().filter(|(_, b)| b"=@:".contains(b));
        for start in std::iter::once(0).chain(starts.map(|(i, _)| i + 1)) {
            let path = Path::new(std::ffi::OsStr::from_bytes(&bytes[start..]));
            let Some(parent) = path.parent().filter(|_| path.is_absolute()) else {
                // What is relative lies below the working folder, or leads out of it.
                if path.components().any(|part| part == Component::ParentDir) {
                    found.extend(cwd.join(path).parent().and_then(|p| fs::canonicalize(p).ok()));
                }
                continue;
            };
            if parent.is_dir() {
                found.insert(parent.to_owned());
                // A link is followed by the tool, to where it leads.
                let target = fs::canonicalize(path).ok();
                found.extend(target.and_then(|t| Some(t.parent()?.to_owned())));
            }
        }
    }
    found.retain(|path| match path.components().nth(1) {
        Some(Component::Normal(top)) => !tops.contains(top) && !OWN.iter().any(|own| top == *own),
        _ => false,
    });
    let all: Vec<PathBuf> = found.into_iter().collect();
    let below_another = |path: &PathBuf| all.iter().any(|other| path != other && path.starts_with(other));
    all.iter().filter(|path| !below_another(path)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_sees_the_folders_of_its_arguments_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap();
        for name in ["here", "data/below", "link", "other"] {
            fs::create_dir_all(at.join(name)).unwrap();
        }
        fs::write(at.join("other/real"), "x").unwrap();
        std::os::unix::fs::symlink(at.join("other/real"), at.join("link/to")).unwrap();
        let args: Vec<OsString> = [
            "-v".into(),
            at.join("data/new.img").into_os_string(),
            format!("--hash=@{}", at.join("data/below/x").display()).into(),
            at.join("link/to").into_os_string(),
            "/usr/lib/x".into(),
            "/dev/null".into(),
            "/x".into(),
            "/absent/folder/x".into(),
        ]
        .into();
        let tops = BTreeSet::from(["usr".into(), "etc".into()]);
        let found = folders(&at.join("here"), &args, &tops);
        assert_eq!(found, ["data", "here", "link", "other"].map(|name| at.join(name)));
    }
}
