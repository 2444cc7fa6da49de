//! The command line as people meet it: exit status and message for everything that can go wrong, by small projects and
//! mirrors that the tests make.

mod archive_mirror;
#[path = "common/deb.rs"]
mod deb;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use archive_mirror::TestMirror;

/// A project folder with one unit, a cache and a mirror of its own.
struct Project {
    folder: tempfile::TempDir,
    mirror: TestMirror,
}

const UNIT: &str = "description = \"A\"\npackages = [\"alpha\"]\n[service]\ncommand = [\"/bin/a\"]\n";
const LIST: &str = "Package: alpha\nVersion: 1.0\nArchitecture: amd64\nFilename: pool/alpha.deb\nSize: 3\nSHA256: \
                    ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n\n";

impl Project {
    fn new() -> Project {
        let folder = tempfile::tempdir().unwrap();
        let mirror = TestMirror::new(&folder.path().join("mirror"));
        let project = Project { folder, mirror };
        project.write("appliances/a.toml", &recipe("[\"one\"]"));
        project.write("units/one.toml", UNIT);
        project.publish(LIST, "");
        project
    }

    fn publish(&self, packages: &str, extra: &str) {
        let base = "Package: systemd-boot-efi\nVersion: 1\nArchitecture: amd64\nFilename: pool/b.deb\nSize: 3\nSHA256: \
                    ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n\n";
        let base = format!("{base}{}", base.replace("systemd-boot-efi", "linux-image-test"));
        self.mirror.publish("trixie", &format!("{base}{packages}"), extra);
        for suite in ["trixie-updates", "trixie-security"] {
            self.mirror
                .publish(suite, &LIST.replace("alpha", &format!("of-{suite}")), "");
        }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imagegen"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env("IMAGEGEN_CACHE", self.path("cache"))
            .env("IMAGEGEN_MIRROR", self.mirror.url())
            .env("IMAGEGEN_SECURITY_MIRROR", self.mirror.url())
            .env("IMAGEGEN_KEYS", self.mirror.keys())
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs imagegen (`words` are a shell's) with the cache on a file system of `size`, in a mount namespace of its own.
    fn with_small_cache(&self, size: &str, words: &str) -> Output {
        let cache = self.path("cache");
        fs::create_dir_all(&cache).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={size} none {} && {} {words}",
            cache.display(),
            env!("CARGO_BIN_EXE_imagegen")
        );
        let plain = self.command(&[]);
        let mut command = Command::new("unshare");
        command
            .args(["-rm", "sh", "-c", &script])
            .current_dir(self.folder.path());
        for (name, value) in plain.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.output().unwrap()
    }

    /// Runs, expects exit status 1, and gives what was said.
    fn fails(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.lines().any(|line| line.starts_with("error: ")), "{said}");
        said
    }
}

fn recipe(units: &str) -> String {
    format!(
        "name = \"a\"\nversion = \"1.0\"\ndescription = \"A\"\nunits = {units}\n[host]\nkernel = \"linux-image-test\"\npackages = []\n"
    )
}

fn has(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

const RECIPE: &str = "appliances/a.toml";

#[test]
fn wrong_arguments_end_with_2() {
    let project = Project::new();
    for words in [
        &["bulid"][..],
        &[],
        &["build", "--format", "png"],
        &["build", "--arch", "mips"],
        &["run", "--port", "80"],
        &["run", "--memory", "lots"],
        &["tool"],
        &["tool", "--set", "pears", "x"],
        &["lock", "--tools", RECIPE],
        &["cache"],
        &["sbom"],
    ] {
        assert_eq!(project.run(words).status.code(), Some(2), "{words:?}");
    }
    for (words, meant) in [
        (&["bulid"][..], "'build'"),
        (&["build", "--formt", "raw"], "'--format'"),
        (&["build", "--format", "raw,qcow"], "'qcow2'"),
        (&["build", "--profile", "relase"], "'release'"),
        (&["lock", "--arch", "amd46"], "'amd64'"),
        (&["tool", "--set", "judge", "x"], "'judges'"),
        (&["run", "--memory", "1"], "256M at least"),
    ] {
        let output = project.run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        has(&String::from_utf8(output.stderr).unwrap(), &[meant]);
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let project = Project::new();
    for command in [
        "build",
        "lock",
        "check",
        "run",
        "inspect",
        "diff",
        "sbom",
        "flash",
        "import-unit",
        "schema",
        "completions",
        "tool",
        "cache",
    ] {
        let output = project.run(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        has(
            &String::from_utf8(output.stdout).unwrap(),
            &["Example", &format!("imagegen {command}")],
        );
    }
}

#[test]
fn a_right_project_is_checked_without_a_mirror() {
    let project = Project::new();
    let output = project
        .command(&["check", RECIPE])
        .env("IMAGEGEN_MIRROR", "file:///nowhere")
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    has(&String::from_utf8(output.stdout).unwrap(), &["1 units", "lock: absent"]);
}

#[test]
fn an_unknown_key_is_shown_with_file_line_and_what_was_meant() {
    let project = Project::new();
    project.write("units/one.toml", &UNIT.replace("packages", "pakages"));
    let said = project.fails(&["check", RECIPE]);
    has(
        &said,
        &[
            "error: ./units/one.toml:2:1: unknown key `pakages`",
            " 2 | pakages",
            "^^^^^^^",
            "did you mean `packages`?",
        ],
    );
}

#[test]
fn with_json_an_error_is_one_document_on_standard_output() {
    let project = Project::new();
    project.write("units/one.toml", &UNIT.replace("packages", "pakages"));
    let output = project.run(&["--json", "check", RECIPE]);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(1), 0));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["error"]["problems"][0]["line"], 2);
    assert_eq!(value["error"]["problems"][0]["help"], "did you mean `packages`?");
    let output = project.run(&["--json", "bulid"]);
    assert_eq!(output.status.code(), Some(2));
    serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
}

#[test]
fn a_missing_recipe_and_a_missing_unit_suggest_near_names() {
    let project = Project::new();
    project.write("units/mariadb.toml", UNIT);
    project.write(RECIPE, &recipe("[\"maraidb\"]"));
    has(
        &project.fails(&["check", RECIPE]),
        &[
            "appliances/a.toml:4:10",
            "there is no unit `maraidb`",
            "did you mean `mariadb.toml`?",
        ],
    );
    has(
        &project.fails(&["check", "appliances/b.toml"]),
        &["appliances/b.toml: cannot be read", "did you mean `a.toml`?"],
    );
}

#[test]
fn an_unmet_binding_is_shown_where_it_is_written() {
    let project = Project::new();
    project.write("units/one.toml", &format!("{UNIT}[needs]\ndb = \"mariadb\"\n"));
    has(
        &project.fails(&["check", RECIPE]),
        &[
            "units/one.toml:6:6",
            "needs `mariadb`, which no unit of the appliance provides",
            "add a unit that provides it",
        ],
    );
}

#[test]
fn a_cycle_is_refused_with_its_path() {
    let project = Project::new();
    project.write(RECIPE, &recipe("[\"one\", \"two\"]"));
    project.write(
        "units/one.toml",
        &UNIT.replace("[service]", "after = [\"two\"]\n[service]"),
    );
    project.write(
        "units/two.toml",
        &UNIT.replace("[service]", "after = [\"one\"]\n[service]"),
    );
    has(
        &project.fails(&["check", RECIPE]),
        &["units/one.toml:3", "one -> two -> one"],
    );
}

#[test]
fn a_file_that_two_overlays_claim_is_refused() {
    let project = Project::new();
    project.write(
        "units/one.toml",
        &UNIT.replace("[service]", "overlays = [\"x\", \"y\"]\n[service]"),
    );
    project.write("overlays/x/etc/a.conf", "x");
    project.write("overlays/y/etc/a.conf", "y");
    has(
        &project.fails(&["check", RECIPE]),
        &[
            "units/one.toml:3:12",
            "/etc/a.conf is in overlay `x` and in overlay `y` of the root of `one`",
            "keep the file in one of them",
        ],
    );
}

#[test]
fn an_unknown_package_suggests_near_names() {
    let project = Project::new();
    project.write("units/one.toml", &UNIT.replace("alpha", "alhpa"));
    has(
        &project.fails(&["lock", RECIPE]),
        &[
            "units/one.toml:2:13",
            "there is no package alhpa",
            "did you mean alpha?",
        ],
    );
}

#[test]
fn an_unsatisfiable_dependency_is_shown_with_the_chain_that_leads_to_it() {
    let project = Project::new();
    let list = LIST.replace("Filename", "Depends: beta\nFilename")
        + &LIST
            .replace("alpha", "beta")
            .replace("Filename", "Depends: gamma (>= 2)\nFilename");
    project.publish(&list, "");
    has(
        &project.fails(&["lock", RECIPE]),
        &["units/one.toml:2:13", "alpha", "beta", "gamma", "name another package"],
    );
}

#[test]
fn a_package_with_another_hash_is_refused_and_not_kept() {
    let project = Project::new();
    project.write("mirror/debian/pool/alpha.deb", "abd");
    project.write("mirror/debian/pool/b.deb", "abc");
    let said = project.fails(&["lock", RECIPE]);
    has(&said, &["alpha"]);
    assert!(
        !project.path("appliances/a.amd64.lock").exists(),
        "no lock is left by a failure"
    );
}

#[test]
fn an_index_signed_by_a_stranger_is_refused() {
    let project = Project::new();
    let stranger = tempfile::tempdir().unwrap();
    let other = TestMirror::new(stranger.path());
    let output = project
        .command(&["lock", RECIPE])
        .env("IMAGEGEN_KEYS", other.keys())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    has(
        &String::from_utf8(output.stderr).unwrap(),
        &["trixie", "not to be trusted"],
    );
}

#[test]
fn an_expired_index_is_refused() {
    let project = Project::new();
    project.publish(LIST, "Valid-Until: Mon, 02 Feb 2026 00:00:00 UTC\n");
    has(&project.fails(&["lock", RECIPE]), &["trixie", "2026"]);
}

#[test]
fn an_unreachable_mirror_is_named() {
    let project = Project::new();
    // Port 9 (discard) has no listener; the answer is an immediate refusal.
    let mut command = project.command(&["lock", RECIPE]);
    command
        .env("IMAGEGEN_MIRROR", "http://127.0.0.1:9/debian")
        .env("IMAGEGEN_SECURITY_MIRROR", "http://127.0.0.1:9/s");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    has(
        &String::from_utf8(output.stderr).unwrap(),
        &["127.0.0.1:9", "IMAGEGEN_MIRROR"],
    );
}

#[test]
fn offline_without_a_lock_or_a_cache_says_what_to_do_first() {
    let project = Project::new();
    has(
        &project.fails(&["build", RECIPE, "--offline"]),
        &["offline", "imagegen lock"],
    );
}

#[test]
fn a_lock_that_cannot_be_read_and_a_stale_one_are_refused_with_what_to_do() {
    let project = Project::new();
    project.write("appliances/a.amd64.lock", "schema = \"x\"");
    has(
        &project.fails(&["check", RECIPE, "--arch", "amd64"]),
        &["a.amd64.lock", "imagegen lock"],
    );
}

#[test]
fn an_interrupted_command_ends_with_130_and_says_what_is_whole() {
    let project = Project::new();
    // A mirror that accepts and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/debian", listener.local_addr().unwrap());
    let mut command = project.command(&["lock", RECIPE]);
    command
        .env("IMAGEGEN_MIRROR", &url)
        .env("IMAGEGEN_SECURITY_MIRROR", &url);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _held = listener.accept().unwrap();
    Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    has(
        &String::from_utf8(output.stderr).unwrap(),
        &["interrupted", "earlier images are whole"],
    );
    assert!(!project.path("appliances/a.amd64.lock").exists());
}

#[test]
fn no_colours_reach_a_file() {
    let said = Project::new().fails(&["inspect", "absent.raw"]);
    assert!(!said.contains('\x1b'), "{said:?}");
    has(&said, &["absent.raw"]);
}

#[test]
fn an_image_without_its_manifest_has_no_bill_of_materials() {
    let project = Project::new();
    project.write("build/a.raw", "x");
    has(
        &project.fails(&["sbom", "build/a.raw"]),
        &["build/a.manifest.json", "build again"],
    );
    has(
        &project.fails(&["sbom", "build/b.raw"]),
        &["there is no image build/b.raw"],
    );
}

#[test]
fn completions_exist_for_every_shell() {
    let project = Project::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = project.run(&["completions", shell]);
        assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("imagegen"),
            "{shell}"
        );
    }
}

#[test]
fn an_empty_cache_can_be_looked_at_and_collected() {
    let project = Project::new();
    let output = project.run(&["cache", "info", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["parts"]["packages"]["files"], 0);
    assert_eq!(project.run(&["cache", "gc"]).status.code(), Some(0));
}

#[test]
fn a_full_disk_is_told_and_leaves_no_half_lock() {
    let project = Project::new();
    let big: String = (0..4000).map(|i| LIST.replace("alpha", &format!("alpha{i}"))).collect();
    project.publish(&format!("{LIST}{big}"), "");
    let output = project.with_small_cache("64k", &format!("lock {RECIPE}"));
    assert_eq!(output.status.code(), Some(1));
    has(
        &String::from_utf8(output.stderr).unwrap(),
        &["no space left", "imagegen cache gc"],
    );
    assert!(!Path::new(&project.path("appliances/a.amd64.lock")).exists());
}

impl Project {
    /// Publishes packages that can be unpacked: what every image needs, and `alpha` in this version.
    fn publish_real(&self, alpha: &str) {
        let mut list = String::new();
        for (name, version) in [("systemd-boot-efi", "1"), ("linux-image-test", "1"), ("alpha", alpha)] {
            let content = format!("{name} {version}");
            let data = deb::tar_of(&[
                ("./usr/", tar::EntryType::Directory, ""),
                (&format!("./usr/{name}"), tar::EntryType::Regular, &content),
            ]);
            let package = deb::deb_of(&data, "data.tar");
            let below = format!("pool/{name}_{version}.deb");
            fs::create_dir_all(self.mirror.path("pool")).unwrap();
            fs::write(self.mirror.path(&below), &package).unwrap();
            list.push_str(&format!(
                "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: {below}\nSize: {}\nSHA256: {}\n\n",
                package.len(),
                imagegen::cache::Digest::of(&package)
            ));
        }
        self.mirror.publish("trixie", &list, "");
        // Cairn's own programs stand by, so that nothing is compiled.
        for name in ["cairn-init", "cairn-exec", "cairn-manager", "cairn"] {
            self.write(&format!("programs/{name}"), "x");
        }
    }
}

const LOCK: &str = "appliances/a.amd64.lock";
const BUILD: &[&str] = &["build", RECIPE, "--arch", "amd64", "--binaries", "programs"];

fn locks(project: &Project) {
    let output = project.run(&["lock", RECIPE, "--arch", "amd64"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_lock_that_others_packages_made_stale_is_refused_by_check_and_build() {
    let project = Project::new();
    project.publish_real("1.0");
    locks(&project);
    assert!(project.run(&["check", RECIPE, "--arch", "amd64"]).status.success());
    project.write(
        "units/one.toml",
        &UNIT.replace("\"alpha\"", "\"alpha\", \"linux-image-test\""),
    );
    for words in [&["check", RECIPE, "--arch", "amd64"][..], BUILD] {
        has(&project.fails(words), &["a.amd64.lock", "imagegen lock"]);
    }
}

#[test]
fn what_the_archive_dropped_is_named_and_relocked_only_when_asked() {
    let project = Project::new();
    project.publish_real("1.0");
    locks(&project);
    let before = fs::read(project.path(LOCK)).unwrap();
    fs::remove_file(project.mirror.path("pool/alpha_1.0.deb")).unwrap();
    fs::remove_dir_all(project.path("cache")).unwrap();
    project.publish_real("2.0");
    has(&project.fails(BUILD), &["no longer carries", "alpha 1.0"]);
    assert_eq!(
        fs::read(project.path(LOCK)).unwrap(),
        before,
        "a build alone changes no lock"
    );
    // What was made up here is no whole system: the build goes on, and fails where it looks into the packages.
    let said = project.fails(&[BUILD, &["--relock-missing"]].concat());
    has(&said, &["no longer carries alpha 1.0", "~ alpha 1.0 -> 2.0"]);
    assert!(
        fs::read_to_string(project.path(LOCK))
            .unwrap()
            .contains("alpha_2.0.deb")
    );
}

#[test]
fn processes_that_share_a_cache_do_not_hinder_each_other() {
    let project = Project::new();
    project.publish_real("1.0");
    let words = ["lock", RECIPE, "--arch", "amd64"];
    let start = |_| {
        let mut command = project.command(&words);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<_> = (0..6).map(start).collect();
    for process in running {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(project.run(&["check", RECIPE, "--arch", "amd64"]).status.success());
    for part in [
        "cache/unpacked",
        "cache/blobs/sha256",
        "cache/indexes/sha256",
        "appliances",
    ] {
        for entry in fs::read_dir(project.path(part)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with('.'), "{part}/{name} was left behind");
        }
    }
}

#[test]
fn a_disk_that_fills_up_while_fetching_keeps_what_has_arrived() {
    let project = Project::new();
    project.publish_real("1.0");
    let big = vec![7; 400 << 10];
    let list = fs::read_to_string(project.mirror.path("dists/trixie/main/binary-amd64/Packages")).unwrap();
    fs::write(project.mirror.path("pool/big.deb"), &big).unwrap();
    let stanza = format!(
        "Package: big\nVersion: 1\nArchitecture: amd64\nFilename: pool/big.deb\nSize: {}\nSHA256: {}\n\n",
        big.len(),
        imagegen::cache::Digest::of(&big)
    );
    project.mirror.publish("trixie", &format!("{list}{stanza}"), "");
    project.write("big.toml", &UNIT.replace("\"alpha\"", "\"alpha\", \"big\""));
    let lock = format!("lock {RECIPE} --arch amd64");
    let words = format!(
        "{lock} && cp {LOCK} before && cp big.toml units/one.toml && {} {lock}; find cache/blobs -type f",
        env!("CARGO_BIN_EXE_imagegen")
    );
    let output = project.with_small_cache("256k", &words);
    let said = String::from_utf8(output.stderr).unwrap();
    has(
        &said,
        &["no space left", "cache/partial/", "what was already stored is kept"],
    );
    let kept = String::from_utf8(output.stdout).unwrap();
    let small = fs::read(project.mirror.path("pool/alpha_1.0.deb")).unwrap();
    has(&kept, &[&imagegen::cache::Digest::of(&small).to_string()]);
    let locks = ["before", LOCK].map(|name| fs::read(project.path(name)).unwrap());
    assert_eq!(locks[0], locks[1], "the lock is the one from before");
}

#[test]
fn an_image_that_is_not_there_or_none_is_named() {
    let project = Project::new();
    project.write("build/base-0.1.0.raw", &"x".repeat(4096));
    has(
        &project.fails(&["inspect", "build/bsae-0.1.0.raw"]),
        &["build/bsae-0.1.0.raw", "did you mean base-0.1.0.raw?", "imagegen build"],
    );
    has(
        &project.fails(&["inspect", "build/base-0.1.0.raw"]),
        &["build/base-0.1.0.raw", "partition table"],
    );
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_is_built() {
    let project = Project::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    has(
        &project.fails(&["run", RECIPE, "--port", &format!("{port}:443")]),
        &[&format!("port {port} of this machine is taken"), "--port"],
    );
    assert!(!project.path("appliances/a.amd64.lock").exists());
}
