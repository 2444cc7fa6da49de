//! Others' judges that are Python programs, in an environment of their own below the cache.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{images, share, tools};

/// The interpreter of an environment with what this list names, by version and hash (a file below `qemu-tests/third-party`): made once for each
/// state of the list.
///
/// # Errors
/// A sentence that says what is missing: `python3`, its `venv`, or pip's registry.
pub fn environment(list: &str) -> Result<PathBuf, String> {
    let needs = images::workspace().join("qemu-tests/third-party").join(list);
    let text = std::fs::read(&needs).map_err(|error| format!("cannot read {}: {error}", needs.display()))?;
    let name = imagegen::cache::Digest::of(&text).to_string();
    let cache = tools::cache().map_err(|error| error.to_string())?;
    let place = cache.root().join("python").join(name);
    let (python, done) = (place.join("bin/python"), place.join("done"));
    std::fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    let _alone = share::lock(&place.with_extension("lock")).map_err(|error| error.to_string())?;
    if done.exists() {
        return Ok(python);
    }
    let sentence = |what: &str, why: String| {
        format!(
            "what {list} names cannot be had, because {what}: {why}; install python3-venv, and let pip reach its registry"
        )
    };
    let venv = ["-m", "venv", "--clear"].map(AsRef::as_ref);
    ran(Path::new("python3"), &[&venv[..], &[place.as_os_str()]].concat())
        .map_err(|why| sentence("python3 makes no virtual environment", why))?;
    let install = "-m pip install --quiet --require-hashes --only-binary :all: -r"
        .split(' ')
        .map(OsStr::new);
    let install: Vec<&OsStr> = install.chain([needs.as_os_str()]).collect();
    ran(&python, &install).map_err(|why| sentence("pip cannot install it", why))?;
    std::fs::write(&done, "").map_err(|error| error.to_string())?;
    Ok(python)
}

fn ran(program: &Path, args: &[&OsStr]) -> Result<(), String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            Err(said.lines().last().unwrap_or_default().to_owned())
        }
    }
}
