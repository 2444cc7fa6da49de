//! The finished image of `appliances/minimal.toml`, as the command line builds it, before others' tools. Only Cairn's own
//! programs in it are stand-ins: no judge runs them, and compiling them takes long.

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{agrees, judge};
use serde_json::Value;

/// What was built, and its partitions as files of their own.
struct Built {
    folder: PathBuf,
    raw: PathBuf,
    root_hash: String,
    partitions: Vec<Value>,
}

/// Builds into a folder that stays if a judge finds fault.
fn build_image() -> Built {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("judged-image");
    let _ = fs::remove_dir_all(&folder);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let programs = folder.join("programs");
    fs::create_dir_all(&programs).unwrap();
    for name in ["cairn-init", "cairn-exec", "cairn-manager", "cairn"] {
        fs::write(programs.join(name), format!("stands in for {name}\n")).unwrap();
    }
    let mut build = Command::new(env!("CARGO_BIN_EXE_imagegen"));
    build.args(["build", "appliances/minimal.toml", "--arch", "amd64", "--format", "raw"]);
    build
        .arg("--binaries")
        .arg(&programs)
        .arg("-o")
        .arg(&folder)
        .current_dir(workspace);
    let said = agrees(&mut build);
    let raw = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "raw"))
        .unwrap_or_else(|| panic!("no image: {said}"));
    let table: Value = serde_json::from_str(&agrees(judge("sfdisk").arg("--json").arg(&raw))).unwrap();
    let partitions = table["partitiontable"]["partitions"].as_array().unwrap().clone();
    for partition in &partitions {
        let number = |key: &str| partition[key].as_u64().unwrap() * 512;
        let mut bytes = vec![0; number("size") as usize];
        fs::File::open(&raw)
            .unwrap()
            .read_exact_at(&mut bytes, number("start"))
            .unwrap();
        fs::write(folder.join(partition["name"].as_str().unwrap()), bytes).unwrap();
    }
    let esp = folder.join("esp-files");
    fs::create_dir_all(&esp).unwrap();
    agrees(
        judge("mcopy")
            .args(["-s", "-n", "-i"])
            .arg(folder.join("esp"))
            .args(["::EFI", "::loader"])
            .arg(&esp),
    );
    let inspected = agrees(judge("ukify").args(["--json=short", "inspect"]).arg(uki(&folder)));
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    let line = inspected[".cmdline"]["text"].as_str().unwrap().to_owned();
    let hash = line.split_whitespace().find_map(|word| word.strip_prefix("roothash="));
    Built {
        root_hash: hash.unwrap_or_else(|| panic!("no roothash= in {line}")).to_owned(),
        folder,
        raw,
        partitions,
    }
}

/// The only UKI of the ESP.
fn uki(folder: &Path) -> PathBuf {
    let all: Vec<PathBuf> = fs::read_dir(folder.join("esp-files/EFI/Linux"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

#[test]
fn the_finished_image_stands_before_others_tools() {
    let built = &build_image();
    partition_tools_find_no_fault(built);
    the_root_hash_of_the_command_line_proves_the_root_and_names_its_partitions(built);
    systemd_finds_and_understands_what_is_to_be_booted(built);
    bills_of_materials_are_valid_by_the_published_schemas(built);
    fs::remove_dir_all(&built.folder).unwrap();
}

fn partition_tools_find_no_fault(built: &Built) {
    assert!(agrees(judge("sgdisk").arg("-v").arg(&built.raw)).contains("No problems found"));
    assert!(agrees(judge("sfdisk").arg("--verify").arg(&built.raw)).contains("No errors detected"));
    agrees(judge("fsck.vfat").arg("-n").arg(built.folder.join("esp")));
    agrees(judge("fsck.erofs").arg(built.folder.join("root-a")));
    let dissected = agrees(judge("systemd-dissect").arg("--validate").arg(&built.raw));
    assert!(dissected.contains("OK"), "{dissected}");
}

fn the_root_hash_of_the_command_line_proves_the_root_and_names_its_partitions(built: &Built) {
    let (root, verity) = (built.folder.join("root-a"), built.folder.join("verity-a"));
    let verify = |hash: &str| {
        let mut command = judge("veritysetup");
        command.arg("verify").args([&root, &verity]).arg(hash);
        command
    };
    agrees(&mut verify(&built.root_hash));
    let other = format!("{:064x}", 1);
    assert!(
        !verify(&other).output().unwrap().status.success(),
        "another hash proves nothing"
    );
    // The Discoverable Partitions Specification: the root's GUID is the hash's first half, the hash tree's its second.
    let guid = |name: &str| {
        let found = built.partitions.iter().find(|p| p["name"] == name);
        found.unwrap()["uuid"].as_str().unwrap().replace('-', "").to_lowercase()
    };
    assert_eq!(guid("root-a"), built.root_hash[..32]);
    assert_eq!(guid("verity-a"), built.root_hash[32..]);
    let types: Vec<&str> = built.partitions.iter().map(|p| p["type"].as_str().unwrap()).collect();
    let specified = [
        "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
        "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5",
        "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    ];
    assert_eq!(types, specified, "ESP, hash tree and root of x86-64, in this order");
}

fn systemd_finds_and_understands_what_is_to_be_booted(built: &Built) {
    let uki = uki(&built.folder);
    let name = uki.file_name().unwrap().to_str().unwrap();
    assert!(
        name.starts_with("minimal_") && name.ends_with("+3.efi"),
        "three tries: {name}"
    );
    assert_eq!(agrees(judge("bootctl").arg("kernel-identify").arg(&uki)).trim(), "uki");
    let said = agrees(judge("bootctl").arg("kernel-inspect").arg(&uki));
    assert!(
        said.contains(&built.root_hash) && said.contains("OS: Cairn minimal"),
        "{said}"
    );
    // Without firmware `bootctl status` ends as it likes; what counts is what it finds.
    let mut status = judge("bootctl");
    status.arg(format!("--esp-path={}", built.folder.join("esp-files").display()));
    status
        .args(["--no-pager", "status"])
        .env("SYSTEMD_RELAX_ESP_CHECKS", "1");
    let said = String::from_utf8(status.output().unwrap().stdout).unwrap();
    for part in [
        "/EFI/systemd/systemd-bootx64.efi (systemd-boot ",
        "/EFI/BOOT/BOOTX64.EFI (systemd-boot ",
        "title: Cairn minimal",
        "tries: 3 left",
        &built.root_hash,
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

fn bills_of_materials_are_valid_by_the_published_schemas(built: &Built) {
    for (format, least) in [("spdx", 30), ("cyclonedx", 30)] {
        let mut sbom = Command::new(env!("CARGO_BIN_EXE_imagegen"));
        sbom.arg("sbom").arg(&built.raw).args(["--format", format]);
        let document: Value = serde_json::from_slice(&sbom.output().unwrap().stdout).unwrap();
        assert_eq!(
            common::schemas::complaints(format, &document),
            Vec::<String>::new(),
            "{format}"
        );
        let list = if format == "spdx" { "packages" } else { "components" };
        let count = document[list].as_array().unwrap().len();
        assert!(count > least, "{format}: {count} packages");
    }
}
