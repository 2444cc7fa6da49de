//! Whole builds of the smallest appliance through the command line: real packages, stand-ins for our own programs.
//!
//! The packages come from the user's cache, and from the mirror only where that lacks them; without both the tests say why
//! they are skipped.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use cairn_unit::Arch;
use imagegen::build::{self, Options, Services};
use imagegen::cache::{Cache, Digest, FetchOptions};
use imagegen::image::inspect::Image;
use imagegen::image::secureboot::{self, Signed, SigningKey};
use imagegen::progress::Silent;
use imagegen::resolve::Lock;
use imagegen::tree::ElfInfo;
use rustix::process::{Pid, Signal, kill_process};

const EM_AARCH64: u16 = 183;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn lock(arch: &str) -> PathBuf {
    repository().join(format!("appliances/minimal.{arch}.lock"))
}

/// A copy of the project with the minimal appliance, stand-ins for the programs, and a cache.
struct Project {
    folder: tempfile::TempDir,
    cache: PathBuf,
}

impl Project {
    /// With the user's cache.
    fn new() -> Project {
        let folder = tempfile::Builder::new()
            .prefix("build-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let cache = Cache::from_env().unwrap().root().to_owned();
        let project = Project { folder, cache };
        for file in [
            "appliances/minimal.toml",
            "appliances/minimal.amd64.lock",
            "appliances/minimal.arm64.lock",
            "units/caddy.toml",
        ] {
            project.write(file, &fs::read(repository().join(file)).unwrap());
        }
        copy(&repository().join("overlays/caddy"), &project.path("overlays/caddy"));
        fs::create_dir_all(project.path("overlays/host")).unwrap();
        for name in ["cairn-init", "cairn-exec", "cairn-manager", "cairn"] {
            project.write(&format!("programs/{name}"), format!("stands for {name}").as_bytes());
        }
        project
    }

    /// With a cache of its own that holds the packages, not unpacked, and the tools.
    fn with_packed_cache() -> Project {
        let mut project = Project::new();
        let (from, to) = (Cache::open(&project.cache).unwrap(), project.path("cache"));
        let cache = Cache::open(&to).unwrap();
        // Of the kernel's closure a build needs, and the user's cache may have, only the kernel.
        for package in Lock::read(&lock("amd64")).unwrap().packages {
            let (from, to) = (from.blob_path(&package.sha256), cache.blob_path(&package.sha256));
            if from.exists() {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(from, to).unwrap();
            }
        }
        fs::remove_dir(cache.tools()).unwrap();
        symlink(from.tools(), cache.tools()).unwrap();
        project.cache = to;
        project
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn write(&self, below: &str, bytes: &[u8]) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn edit(&self, below: &str, edit: impl Fn(String) -> String) {
        let text = fs::read_to_string(self.path(below)).unwrap();
        let edited = edit(text.clone());
        assert_ne!(text, edited, "the edit of {below} changes nothing");
        self.write(below, edited.as_bytes());
    }

    /// `imagegen build` of the project into `out/`, behind the words of `through`.
    fn through(&self, through: &[&str], words: &[&str]) -> Command {
        let mut all: Vec<&str> = through.to_vec();
        all.extend([
            env!("CARGO_BIN_EXE_imagegen"),
            "build",
            "appliances/minimal.toml",
            "--binaries",
            "programs",
            "-o",
            "out",
        ]);
        all.extend(words);
        let mut command = Command::new(all[0]);
        command
            .args(&all[1..])
            .current_dir(self.folder.path())
            .env("IMAGEGEN_CACHE", &self.cache)
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn build(&self, words: &[&str]) -> Output {
        self.through(&[], words).output().unwrap()
    }

    /// Builds, and the digest of the raw image.
    fn image(&self) -> Digest {
        succeeded(&self.build(&["--offline"]));
        self.digest("raw")
    }

    fn digest(&self, ending: &str) -> Digest {
        Digest::of(&fs::read(self.path(&format!("out/minimal-0.1.0.{ending}"))).unwrap())
    }

    /// The folders of unfinished builds.
    fn workshops(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("out")).into_iter().flatten().flatten();
        entries
            .filter(|e| e.file_name().to_string_lossy().starts_with(".cairn-build-"))
            .map(|e| e.path())
            .collect()
    }

    /// Every package in the cache is what its name says.
    fn assert_cache_is_whole(&self) {
        let cache = Cache::open(&self.cache).unwrap();
        for package in Lock::read(&lock("amd64")).unwrap().packages {
            let Ok(bytes) = fs::read(cache.blob_path(&package.sha256)) else {
                continue;
            };
            assert_eq!(Digest::of(&bytes), package.sha256, "{} is damaged", package.name);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => _ = fs::copy(entry.path(), to).unwrap(),
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

/// Failed with status 1, saying all of these.
fn failed(output: &Output, words: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        // Long messages are broken into lines behind a margin.
        let plain = said.replace("│ ", "");
        assert!(plain.contains(word), "{word:?} is not in: {plain}");
    }
}

/// Fills the user's cache for `arch`, once; false, saying why, where that cannot be.
fn ready(arch: &'static str) -> bool {
    static AMD64: OnceLock<Result<(), String>> = OnceLock::new();
    static ARM64: OnceLock<Result<(), String>> = OnceLock::new();
    let once = if arch == "amd64" { &AMD64 } else { &ARM64 };
    let result = once.get_or_init(|| {
        let project = Project::new();
        let output = project.build(&["--arch", arch]);
        match output.status.success() {
            true => Ok(()),
            false if said(&output).contains("mirror") => Err(said(&output)),
            false => panic!("{}", said(&output)),
        }
    });
    if let Err(why) = result {
        eprintln!("skipped: {why}");
    }
    result.is_ok()
}

#[test]
fn the_same_bytes_from_another_folder_user_umask_time_and_cache() {
    if !ready("amd64") {
        return;
    }
    let formats = ["--offline", "--format", "raw,qcow2,vmdk,vhdx"];
    let one = Project::new();
    succeeded(&one.build(&formats));
    let two = Project::with_packed_cache();
    let root = rustix::process::getuid().is_root();
    let mut todo = vec![two.folder.path().to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if meta.is_file() {
            let old = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(old)
                .unwrap();
        }
        if root && !meta.is_symlink() {
            chown(&path, Some(1234), Some(1234)).unwrap();
        }
    }
    let program = Path::new(env!("CARGO_BIN_EXE_imagegen"));
    let as_other = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"];
    let sees = |path: &Path| {
        let output = Command::new(as_other[0])
            .args(&as_other[1..])
            .args(["test", "-r"])
            .arg(path)
            .status();
        output.is_ok_and(|s| s.success())
    };
    let mut through = vec!["sh", "-c", "umask 077; exec \"$@\"", "sh"];
    if root && sees(program) && sees(&two.cache) {
        through.extend(as_other);
    } else if root {
        eprintln!("not as another user: that user cannot read {}", program.display());
    }
    succeeded(&two.through(&through, &formats).output().unwrap());
    for ending in [
        "raw",
        "qcow2",
        "vmdk",
        "vhdx",
        "manifest.json",
        "vmlinuz",
        "initrd",
        "cmdline",
    ] {
        assert_eq!(one.digest(ending), two.digest(ending), "{ending} differs");
    }
}

#[test]
fn with_keys_all_that_firmware_starts_is_signed_and_the_same_bytes_come_again() {
    if !ready("amd64") {
        return;
    }
    let project = Project::new();
    let keys = project.path("keys/secureboot");
    secureboot::create(&keys, "Example", "2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
    // With a copy of the loader in the root, and recovery.
    for name in ["cairn-upgrade", "cairn-recovery"] {
        project.write(&format!("programs/{name}"), format!("stands for {name}").as_bytes());
    }
    project.write("root.json", b"{}");
    project.edit("appliances/minimal.toml", |text| {
        format!(
            "{text}\n[image]\nesp = \"128M\"\nsecure_boot = \"keys/secureboot\"\n\n[upgrade]\nroot = \"root.json\"\n"
        )
    });
    let first = project.image();
    let path = project.path("out/minimal-0.1.0.raw");
    let image = Image::open(&path).unwrap();
    let by = Signed::By {
        name: "CN=Example signature database key".into(),
        sha256: SigningKey::read(&keys).unwrap().fingerprint(),
    };
    let files = image.esp_files().unwrap();
    let programs: Vec<_> = files
        .iter()
        .filter(|(path, _)| path.to_lowercase().ends_with(".efi"))
        .collect();
    assert_eq!(programs.len(), 4, "two loaders, a version and recovery");
    for (path, bytes) in &programs {
        assert_eq!(secureboot::signed(bytes).unwrap(), by, "{path}");
    }
    let file = |path: &str| &files.iter().find(|(p, _)| p == path).unwrap().1;
    for name in secureboot::FILES {
        assert_eq!(
            *file(&format!("loader/keys/auto/{name}")),
            fs::read(keys.join(name)).unwrap()
        );
    }
    assert_eq!(file("loader/loader.conf"), b"timeout 0\nsecure-boot-enroll if-safe\n");
    // What an ESP is mended from: the signed loader, and no keys.
    let manifest = fs::read_to_string(project.path("out/minimal-0.1.0.manifest.json")).unwrap();
    let loader = Digest::of(file("EFI/BOOT/BOOTX64.EFI")).to_string();
    assert!(manifest.contains("usr/lib/cairn/esp/EFI/BOOT/BOOTX64.EFI") && manifest.contains(&loader));
    assert!(!manifest.contains("usr/lib/cairn/esp/loader/keys"));

    fs::remove_dir_all(project.path("out")).unwrap();
    assert_eq!(project.image(), first);
    project.edit("appliances/minimal.toml", |text| {
        text.replace("secure_boot =", "secure_boot_enroll = \"off\"\nsecure_boot =")
    });
    project.image();
    let image = Image::open(&path).unwrap();
    assert!(
        image
            .esp_files()
            .unwrap()
            .iter()
            .all(|(path, _)| !path.contains("keys"))
    );
    fs::set_permissions(keys.join("db.key"), fs::Permissions::from_mode(0o644)).unwrap();
    failed(&project.build(&["--offline"]), &["db.key", "chmod 600"]);
}

#[test]
fn offline_with_an_empty_cache_names_what_is_missing() {
    let mut project = Project::new();
    project.cache = project.path("cache");
    failed(&project.build(&["--offline"]), &["caddy", "--offline"]);
    assert!(!project.path("out/minimal-0.1.0.raw").exists());
}

fn wait_for(child: &mut Child, what: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "the build ended before it was interrupted"
        );
        assert!(Instant::now() < end, "the build does not come to the point");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_interruption_leaves_the_earlier_image_and_nothing_unfinished() {
    if !ready("amd64") {
        return;
    }
    let project = Project::new();
    let earlier = project.image();
    project.write("overlays/caddy/usr/share/cairn/caddy/new.txt", b"new");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut child = project.through(&[], &["--offline"]).spawn().unwrap();
        wait_for(&mut child, || {
            project.workshops().iter().any(|w| w.join("root.erofs").exists())
        });
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", said(&output));
        assert_eq!(project.digest("raw"), earlier);
        assert_eq!(project.workshops(), Vec::<PathBuf>::new());
    }
    assert_ne!(project.image(), earlier);
}

#[test]
fn a_kill_while_unpacking_leaves_a_cache_that_the_next_build_can_use() {
    if !ready("amd64") {
        return;
    }
    let whole = Project::new().image();
    let project = Project::with_packed_cache();
    let mut child = project.through(&[], &["--offline"]).spawn().unwrap();
    let unpacked = project.cache.join("unpacked");
    wait_for(&mut child, || fs::read_dir(&unpacked).unwrap().count() > 12);
    child.kill().unwrap();
    child.wait().unwrap();
    project.assert_cache_is_whole();
    assert_eq!(project.image(), whole);
    assert_eq!(project.workshops(), Vec::<PathBuf>::new());
}

#[test]
fn a_full_disk_is_told_and_harms_nothing() {
    if !ready("amd64") {
        return;
    }
    let project = Project::new();
    fs::create_dir(project.path("out")).unwrap();
    // The same root mapping as the tools' sandbox needs; the file system is gone with the namespace, so the script looks.
    let script = "mount -t tmpfs -o size=24m none out || exit 77; echo earlier > out/minimal-0.1.0.raw; \"$@\"; status=$?; \
                  test \"$(cat out/minimal-0.1.0.raw)\" = earlier || exit 88; \
                  test -z \"$(ls -d out/.cairn-build-* 2>/dev/null)\" || exit 99; exit $status";
    let through = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
    ];
    match project.through(&through, &["--offline"]).output() {
        Ok(output) if output.status.code() == Some(77) => eprintln!("skipped: no tmpfs in a user namespace here"),
        Ok(output) => failed(
            &output,
            &["no space left", "free at least", "an earlier image is whole"],
        ),
        Err(error) => eprintln!("skipped: unshare: {error}"),
    }
    project.assert_cache_is_whole();
}

#[test]
fn a_stale_lock_is_refused_with_the_command_that_renews_it() {
    let project = Project::new();
    project.edit("units/caddy.toml", |text| {
        text.replace("[\"caddy\"]", "[\"caddy\", \"dash\"]")
    });
    failed(
        &project.build(&["--offline"]),
        &["imagegen lock appliances/minimal.toml"],
    );
}

#[test]
fn a_damaged_package_in_the_cache_is_not_built_from() {
    if !ready("amd64") {
        return;
    }
    let project = Project::with_packed_cache();
    let lock = Lock::read(&lock("amd64")).unwrap();
    let package = lock.packages.iter().find(|p| p.name == "caddy").unwrap();
    let path = Cache::open(&project.cache).unwrap().blob_path(&package.sha256);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    failed(
        &project.build(&["--offline"]),
        &["caddy", "is damaged", "remove that file"],
    );
    assert!(!project.path("out/minimal-0.1.0.raw").exists());
}

#[test]
fn a_file_of_two_overlays_is_refused_naming_both() {
    if !ready("amd64") {
        return;
    }
    let project = Project::new();
    project.edit("units/caddy.toml", |text| {
        format!("overlays = [\"caddy\", \"mine\"]\n{text}")
    });
    project.write("overlays/mine/usr/share/cairn/caddy/style.css", b"mine");
    let words = ["/usr/share/cairn/caddy/style.css", "overlay `caddy`", "overlay `mine`"];
    failed(&project.build(&["--offline"]), &words);
}

#[test]
fn a_root_without_a_library_that_a_program_needs_is_refused() {
    if !ready("amd64") {
        return;
    }
    let project = Project::new();
    project.edit("appliances/minimal.toml", |text| {
        format!("{text}\n[exclude]\npaths = [\"/usr/lib/x86_64-linux-gnu/libc.so.6\"]\n")
    });
    failed(
        &project.build(&["--offline"]),
        &["needs the library libc.so.6", "add the package"],
    );
}

/// The machine of every PE program that begins at a sector of the file's first `length` bytes.
fn pe_machines(bytes: &[u8]) -> Vec<u16> {
    let half = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let programs = (0..bytes.len())
        .step_by(512)
        .filter(|at| bytes[*at..].starts_with(b"MZ"));
    let machine = |at: usize| {
        let header = at + usize::from(half(at + 0x3c)?);
        bytes.get(header..)?.starts_with(b"PE\0\0").then(|| half(header + 4))?
    };
    programs.filter_map(machine).collect()
}

#[test]
fn an_arm64_image_holds_nothing_of_another_architecture() {
    if !ready("arm64") {
        return;
    }
    let project = Project::new();
    succeeded(&project.build(&["--offline", "--arch", "arm64"]));
    let raw = fs::read(project.path("out/minimal-0.1.0-arm64.raw")).unwrap();
    // The boot loader, the UKI's stub, and the kernel in it.
    let machines = pe_machines(&raw[..raw.len().min(300 << 20)]);
    assert!(machines.len() >= 3, "{machines:x?}");
    assert!(machines.iter().all(|m| *m == 0xaa64), "{machines:x?}");
    let options = Options {
        arch: Arch::Arm64,
        formats: None,
        profile: None,
        output: project.path("out"),
        binaries: Some(project.path("programs")),
    };
    let plan = build::plan(&project.path("appliances/minimal.toml"), &options).unwrap();
    let services = Services {
        cache: &Cache::open(&project.cache).unwrap(),
        fetch: &FetchOptions::default(),
        mirror: &|| Err("nothing is fetched".into()),
        tools: None,
        helper: None,
        progress: &Silent,
    };
    let tree = build::preview_root(&plan, &"caddy".parse().unwrap(), &services).unwrap();
    let contents = tree.iter().filter_map(|(path, node)| Some((path, node.content()?)));
    let mut programs = 0;
    for (path, content) in contents {
        if let Some(info) = ElfInfo::read(content).unwrap() {
            assert_eq!(info.machine, EM_AARCH64, "/{path}");
            programs += 1;
        }
    }
    assert!(programs > 20, "{programs}");
}
