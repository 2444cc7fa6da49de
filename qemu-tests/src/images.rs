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

/// The raw image of `appliances/example-test.toml`: the example unit with a proxy, a database, a directory and a cache.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
pub fn example() -> Result<PathBuf, HarnessError> {
    build("example-test")
}

/// The raw image of `appliances/mail-test.toml`, with first choices on its ESP: mail, its directory, and a unit that sends some.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
pub fn mail_with(choices: &Path) -> Result<PathBuf, HarnessError> {
    build_in(
        "mail-test",
        "qemu-tests/images",
        &["--site".as_ref(), choices.as_os_str()],
    )
}

/// The raw image of `appliances/panel-test.toml`: an appliance that waits to be set up.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
pub fn panel() -> Result<PathBuf, HarnessError> {
    build("panel-test")
}

/// The same with first choices on its ESP, so that nobody has to set it up.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
pub fn panel_with(choices: &Path) -> Result<PathBuf, HarnessError> {
    build_in(
        "panel-test",
        "qemu-tests/images/chosen",
        &["--site".as_ref(), choices.as_os_str()],
    )
}

/// The raw image of `appliances/first-test.toml`, with first choices: every generator, and a unit that binds to them.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
pub fn first_with(choices: &Path) -> Result<PathBuf, HarnessError> {
    build_in(
        "first-test",
        "qemu-tests/images/first",
        &["--site".as_ref(), choices.as_os_str()],
    )
}

/// The raw image of `appliances/clock-test.toml`: a time client.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
pub fn clock() -> Result<PathBuf, HarnessError> {
    build("clock-test")
}

/// The raw image of `appliances/daemons-test.toml`: daemons of many kinds, and units that do what a test tells them.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
pub fn daemons() -> Result<PathBuf, HarnessError> {
    build("daemons-test")
}

/// The raw image of `appliances/upgrade-test.toml`: the smallest appliance that can be upgraded.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
pub fn upgradable() -> Result<PathBuf, HarnessError> {
    build("upgrade-test")
}

/// What a later version has other than the first: each text stands once, and is replaced.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changes<'a> {
    /// In the recipe.
    pub recipe: &'a [(&'a str, &'a str)],
    /// In its one unit.
    pub unit: &'a [(&'a str, &'a str)],
}

/// A later version of it, in a folder of its own. Built from the same lock and the same programs.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
///
/// # Panics
/// A text that is to be replaced is not there.
pub fn upgraded(version: &str, changes: Changes<'_>, folder: &Path) -> Result<PathBuf, HarnessError> {
    version_of("upgrade-test", version, changes, folder)
}

/// A version of `appliances/NAME.toml`, which begins with 1.0.0 and has the one unit `steady`, as [`upgraded`] makes it.
///
/// # Errors
/// When it cannot be built, with imagegen's words.
///
/// # Panics
/// A text that is to be replaced is not there.
pub fn version_of(name: &str, version: &str, changes: Changes<'_>, folder: &Path) -> Result<PathBuf, HarnessError> {
    // The programs come with it.
    upgradable()?;
    let file = |end: &str| format!("appliances/{name}.{end}");
    let replace = |mut text: String, all: &[(&str, &str)]| {
        for (from, to) in all {
            assert_eq!(text.matches(from).count(), 1, "{from:?} in {text}");
            text = text.replacen(from, to, 1);
        }
        text
    };
    let (project, keys) = (folder.join(version), "qemu-tests/fixtures/upgrade-keys/root.json");
    let read = |path: &str| {
        let path = workspace().join(path);
        std::fs::read_to_string(&path).map_err(HarnessError::io("read", &path))
    };
    let own = [("\"1.0.0\"", &*format!("\"{version}\""))];
    let recipe = replace(replace(read(&file("toml"))?, &own), changes.recipe);
    let unit = replace(read("units/steady.toml")?, changes.unit);
    for (path, text) in [
        (&*file("toml"), recipe),
        (&*file("amd64.lock"), read(&file("amd64.lock"))?),
        ("units/steady.toml", unit),
        (keys, read(keys)?),
    ] {
        let path = project.join(path);
        let made = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&path, text));
        made.map_err(HarnessError::io("write", &path))?;
    }
    let overlays = project.join("overlays");
    let linked = std::os::unix::fs::symlink(workspace().join("overlays"), &overlays);
    linked.map_err(HarnessError::io("link", &overlays))?;
    let programs = programs().unwrap_or_else(|| target().join("appliance/x86_64-unknown-linux-gnu/appliance"));
    let imagegen = imagegen()?;
    let output = Command::new(&imagegen)
        .current_dir(&project)
        .args([
            "build",
            &file("toml"),
            "--profile",
            "fast",
            "--format",
            "raw",
            "--binaries",
        ])
        .arg(&programs)
        .arg("-o")
        .arg(&project)
        .output()
        .map_err(HarnessError::io("run", &imagegen))?;
    if !output.status.success() {
        return Err(HarnessError::Image {
            name: format!("{name} {version}"),
            reason: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    Ok(project.join(format!("{name}-{version}.raw")))
}

/// Built in this process already: one build a test run, as nothing changes under it.
static BUILT: Mutex<Vec<(String, PathBuf)>> = Mutex::new(Vec::new());

fn build(name: &str) -> Result<PathBuf, HarnessError> {
    build_in(name, "qemu-tests/images", &[])
}

fn build_in(name: &str, below: &str, more: &[&std::ffi::OsStr]) -> Result<PathBuf, HarnessError> {
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let key = format!("{below}/{name}");
    if let Some((_, image)) = built.iter().find(|(known, _)| *known == key) {
        return Ok(image.clone());
    }
    let fail = |reason: String| HarnessError::Image {
        name: name.to_owned(),
        reason,
    };
    let folder = target().join(below);
    std::fs::create_dir_all(&folder).map_err(HarnessError::io("create", &folder))?;
    let _alone = share::lock(&folder.join(format!("{name}.lock")))?;
    let recipe = workspace().join("appliances").join(format!("{name}.toml"));
    let imagegen = imagegen()?;
    let mut command = Command::new(&imagegen);
    command.current_dir(workspace()).arg("build").arg(&recipe);
    command
        .args(["--profile", "fast", "--format", "raw", "-o"])
        .arg(&folder)
        .args(more);
    if let Some(programs) = programs() {
        command.arg("--binaries").arg(programs);
    }
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
    built.push((key, image.clone()));
    Ok(image)
}

/// The folder with Cairn's own programs that `CAIRN_PROGRAMS` names, for images that are to hold those instead of ones built here.
fn programs() -> Option<PathBuf> {
    std::env::var_os("CAIRN_PROGRAMS").map(PathBuf::from)
}

/// The imagegen program that was built with these tests, or that `IMAGEGEN` names.
///
/// # Errors
/// When there is none.
pub fn imagegen() -> Result<PathBuf, HarnessError> {
    match std::env::var_os("IMAGEGEN") {
        Some(path) => Ok(path.into()),
        None => own("imagegen", "or name it in IMAGEGEN"),
    }
}

/// The `cairn` program for this machine that was built with these tests.
///
/// # Errors
/// When there is none.
pub fn cairn() -> Result<PathBuf, HarnessError> {
    own("cairn", "which `make qemu-test` does")
}

/// A program of the workspace that was built beside these tests.
fn own(name: &str, more: &str) -> Result<PathBuf, HarnessError> {
    // Of our own profile (tests are in `deps` below it): one of another may be left from another version.
    let here = std::env::current_exe().unwrap_or_default();
    let folder = here.parent().unwrap_or(Path::new("."));
    let folder = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(HarnessError::Image {
        name: "any".into(),
        reason: format!("there is no {}; run `cargo build -p {name}`, {more}", path.display()),
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
