//! The images under test, built once and shared by all tests that run at once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::error::HarnessError;
use crate::share;

/// The workspace's root.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"))
        .to_owned()
}

/// Where this build's files are: the folder that holds `debug/` or `release/`.
pub fn target() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    let profile = here
        .ancestors()
        .find(|folder| folder.join(".fingerprint").is_dir() || folder.join("deps").is_dir());
    profile
        .and_then(Path::parent)
        .map_or_else(|| workspace().join("target"), Path::to_owned)
}

/// The raw image of `appliances/base-test.toml`: the base appliance with the test agent.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
pub fn base() -> Result<PathBuf, HarnessError> {
    build("base-test")
}

/// The raw image of `appliances/base.toml`, as it is shipped.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
pub fn shipped() -> Result<PathBuf, HarnessError> {
    build("base")
}

/// The raw image of `appliances/hostile-test.toml`: services beside a unit that tries to break out.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
pub fn hostile() -> Result<PathBuf, HarnessError> {
    build("hostile-test")
}

/// The raw image of `appliances/bindings-test.toml`: databases, a directory, and units that are bound to them.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
pub fn bindings() -> Result<PathBuf, HarnessError> {
    build("bindings-test")
}

/// The raw image of `appliances/panel-test.toml`: an appliance that waits to be set up.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
pub fn panel() -> Result<PathBuf, HarnessError> {
    build("panel-test")
}

/// The raw image of `appliances/daemons-test.toml`: daemons of many kinds, and units that do what a test tells them.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
pub fn daemons() -> Result<PathBuf, HarnessError> {
    build("daemons-test")
}

/// Built in this process already: one build a test run, as nothing changes under it.
static BUILT: Mutex<Vec<(String, PathBuf)>> = Mutex::new(Vec::new());

fn build(name: &str) -> Result<PathBuf, HarnessError> {
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, image)) = built.iter().find(|(known, _)| known == name) {
        return Ok(image.clone());
    }
    let fail = |reason: String| HarnessError::Image {
        name: name.to_owned(),
        reason,
    };
    let folder = target().join("qemu-tests/images");
    std::fs::create_dir_all(&folder).map_err(HarnessError::io("create", &folder))?;
    let _alone = share::lock(&folder.join(format!("{name}.lock")))?;
    let recipe = workspace().join("appliances").join(format!("{name}.toml"));
    let imagegen = imagegen()?;
    let mut command = Command::new(&imagegen);
    command.current_dir(workspace()).arg("build").arg(&recipe);
    command
        .args(["--profile", "fast", "--format", "raw", "-o"])
        .arg(&folder);
    // Unchanged inputs are imagegen's to notice: it then ends at once.
    let output = command.output().map_err(HarnessError::io("run", &imagegen))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(fail(format!(
            "{} ended with {}:\n{said}",
            imagegen.display(),
            output.status
        )));
    }
    let image =
        newest_raw(&folder, name).ok_or_else(|| fail(format!("imagegen left no .raw in {}", folder.display())))?;
    built.push((name.to_owned(), image.clone()));
    Ok(image)
}

/// The imagegen program that was built with these tests, or that `IMAGEGEN` names.
///
/// # Errors
/// When there is none.
pub fn imagegen() -> Result<PathBuf, HarnessError> {
    if let Some(path) = std::env::var_os("IMAGEGEN") {
        return Ok(path.into());
    }
    let candidates = ["release", "debug"].map(|profile| target().join(profile).join("imagegen"));
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| HarnessError::Image {
            name: "any".into(),
            reason: format!(
                "no imagegen in {}; run `cargo build -p imagegen`, or name it in IMAGEGEN",
                target().display()
            ),
        })
}

fn newest_raw(folder: &Path, name: &str) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.flatten().filter(|entry| {
        let file = entry.file_name();
        let file = file.to_string_lossy();
        // NAME-VERSION.raw, and not that of an appliance whose name only begins so.
        let version = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        version.is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit())) && file.ends_with(".raw")
    });
    files
        .max_by_key(|entry| entry.metadata().and_then(|meta| meta.modified()).ok())
        .map(|entry| entry.path())
}
