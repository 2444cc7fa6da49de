//! Everything that can be wrong with a recipe's file, and the files that ship.

mod common;

use cairn_unit::{Graph, Problem, Recipe, Source, Unit};
use common::source;

const GOOD: &str = "name = \"a\"\nversion = \"1.0\"\ndescription = \"A\"\nunits = [\"caddy\"]\n";

fn problems(text: &str) -> Vec<Problem> {
    match Recipe::parse(&source("appliances/a.toml", text)) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(problems) => problems.0,
    }
}

fn only(text: &str) -> (Option<(usize, usize)>, String, String) {
    let mut all = problems(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    let problem = all.remove(0);
    (problem.at, problem.message, problem.help.unwrap_or_default())
}

#[test]
fn the_smallest_recipe_is_accepted() {
    let recipe = Recipe::parse(&source("appliances/a.toml", GOOD)).unwrap();
    assert_eq!(recipe.image.esp.to_string(), "64M");
    assert_eq!(recipe.host.kernel, "linux-image-cloud-{arch}");
}

#[test]
fn an_unknown_key_is_shown_where_it_stands_with_the_key_that_was_meant() {
    let (at, message, help) = only(&format!("{GOOD}[image]\nformat = [\"raw\"]\n"));
    assert_eq!((at, message.as_str()), (Some((6, 1)), "unknown key `format`"));
    assert_eq!(help, "did you mean `formats`?");
}

#[test]
fn a_name_other_than_the_files_is_refused() {
    let (at, message, _) = only(&GOOD.replace("\"a\"", "\"b\""));
    assert_eq!(
        (at, message.as_str()),
        (Some((1, 8)), "the name is `b` but the file is `a.toml`")
    );
}

#[test]
fn bad_versions_are_refused() {
    for version in [
        "",
        "1.",
        ".1",
        "1.0-rc1",
        "v1",
        "1..2",
        "1 0",
        "111111111111111111111111111111111",
    ] {
        let (at, message, _) = only(&GOOD.replace("1.0", version));
        assert_eq!((at, message), (Some((2, 11)), format!("`{version}` is not a version")));
    }
}

#[test]
fn a_unit_named_twice_is_refused() {
    let (at, message, _) = only(&GOOD.replace("[\"caddy\"]", "[\"caddy\", \"slapd\", \"caddy\"]"));
    assert_eq!((at, message.as_str()), (Some((4, 28)), "`caddy` is named twice"));
}

#[test]
fn an_unknown_format_suggests_the_nearest() {
    let (_, message, help) = only(&format!("{GOOD}[image]\nformats = [\"qcow\"]\n"));
    assert_eq!(
        (message.as_str(), help.as_str()),
        ("unknown variant `qcow`", "did you mean `qcow2`?")
    );
}

#[test]
fn no_format_and_a_format_named_twice_are_refused() {
    assert_eq!(only(&format!("{GOOD}[image]\nformats = []\n")).1, "no format is named");
    assert_eq!(
        only(&format!("{GOOD}[image]\nformats = [\"raw\", \"raw\"]\n")).1,
        "`raw` is named twice"
    );
}

#[test]
fn an_esp_too_small_for_fat32_is_refused() {
    let (at, message, _) = only(&format!("{GOOD}[image]\nesp = \"33M\"\n"));
    assert_eq!(
        (at, message.as_str()),
        (Some((6, 7)), "the EFI system partition is too small for FAT32")
    );
}

#[test]
fn sizes_that_are_no_whole_mebibytes_are_refused() {
    for key in ["esp", "slot", "data_min"] {
        let (_, message, _) = only(&format!("{GOOD}[image]\n{key} = \"{}\"\n", (512 << 20) + 1));
        assert_eq!(message, "a partition is a whole number of mebibytes");
    }
}

#[test]
fn a_command_line_that_would_replace_the_root_hash_is_refused() {
    for word in ["roothash=00", "a b", ""] {
        let (at, message, _) = only(&format!("{GOOD}[boot]\ncommand_line = [\"quiet\", \"{word}\"]\n"));
        assert_eq!(
            (at, message),
            (Some((6, 26)), format!("`{word}` cannot be added to the command line"))
        );
    }
}

#[test]
fn relative_patterns_are_refused() {
    for list in ["paths", "keep"] {
        let (_, message, _) = only(&format!("{GOOD}[exclude]\n{list} = [\"usr/share/**\"]\n"));
        assert_eq!(message, "`usr/share/**` is not an absolute pattern");
    }
}

#[test]
fn package_names_that_debian_cannot_hold_are_refused() {
    let (_, message, _) = only(&format!("{GOOD}[host]\npackages = [\"e2fs progs\"]\n"));
    assert_eq!(message, "`e2fs progs` is not a package's name");
    let (_, message, _) = only(&format!("{GOOD}[host]\nkernel = \"Linux\"\n"));
    assert_eq!(message, "`Linux` is not a package's name");
}

#[test]
fn time_zero_is_refused() {
    assert_eq!(
        only(&format!("{GOOD}[image]\nsource_date_epoch = 0\n")).1,
        "time 0 is never used"
    );
}

#[test]
fn a_missing_file_suggests_the_one_that_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mariadb.toml"), "").unwrap();
    let problem = Source::read(&dir.path().join("maraidb.toml")).unwrap_err();
    assert!(problem.message.starts_with("cannot be read: "), "{}", problem.message);
    assert_eq!(problem.help.as_deref(), Some("did you mean `mariadb.toml`?"));
    let problem = Source::read(&dir.path().join("zzz.toml")).unwrap_err();
    assert_eq!(problem.help, None);
}

#[test]
fn a_file_that_is_not_text_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    std::fs::write(&file, [0xff, 0xfe, 0]).unwrap();
    assert!(Source::read(&file).unwrap_err().message.starts_with("cannot be read: "));
}

#[test]
fn every_recipe_and_unit_that_ships_is_right() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut recipes = 0;
    for entry in std::fs::read_dir(root.join("appliances")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let recipe = Recipe::parse(&Source::read(&path).unwrap()).unwrap_or_else(|e| panic!("{e}"));
        let units = recipe
            .units
            .iter()
            .map(|name| {
                let source = Source::unit(&root.join("units"), name).unwrap_or_else(|e| panic!("{e}"));
                (
                    name.clone(),
                    (Unit::parse(&source).unwrap_or_else(|e| panic!("{e}")), source),
                )
            })
            .collect();
        Graph::new(&units).unwrap_or_else(|e| panic!("{e}"));
        recipes += 1;
    }
    assert!(recipes >= 2);
}

#[test]
fn where_later_versions_come_from_is_checked() {
    let upgrade = |keys: &str| format!("{GOOD}[upgrade]\nroot = \"keys/root.json\"\n{keys}\n");
    let recipe = Recipe::parse(&source("appliances/a.toml", &upgrade("url = \"http://example.org/a\""))).unwrap();
    let read = recipe.upgrade.unwrap();
    assert_eq!(
        (read.channel.as_str(), read.healthy.to_string().as_str()),
        ("stable", "30s")
    );
    let said = |text: &str| only(text).1;
    assert!(said(&upgrade("url = \"ftp://example.org\"")).contains("not the address of a repository"));
    assert!(said(&upgrade("url = \"https://example.org/a\"")).contains("no certificate authorities"));
    assert!(said(&upgrade("deadline = \"30s\"")).contains("could never prove itself"));
    for path in ["/etc/root.json", "../root.json", ""] {
        let text = upgrade("").replace("keys/root.json", path);
        assert!(said(&text).contains("not a path inside the project"), "{path}");
    }
}

#[test]
fn keys_of_secure_boot_lie_in_the_project_and_are_there_if_they_are_to_be_enrolled() {
    let image = |keys: &str| format!("{GOOD}[image]\n{keys}\n");
    let text = image("secure_boot = \"keys/secureboot\"\nsecure_boot_enroll = \"force\"");
    let recipe = Recipe::parse(&source("appliances/a.toml", &text)).unwrap();
    assert_eq!(recipe.image.secure_boot.as_deref(), Some("keys/secureboot"));
    for path in ["/etc/keys", "../keys", ""] {
        let (at, message, _) = only(&image(&format!("secure_boot = \"{path}\"")));
        assert_eq!(
            (at.map(|(line, _)| line), message),
            (Some(6), format!("`{path}` is not a path inside the project"))
        );
    }
    let (_, message, help) = only(&image("secure_boot_enroll = \"if-safe\""));
    assert_eq!(message, "`if-safe` enrols keys, and none are named");
    assert!(help.contains("secure_boot"), "{help}");
}

#[test]
fn an_encrypted_data_partition_needs_keys_of_secure_boot() {
    let image = |keys: &str| format!("{GOOD}[image]\n{keys}\n");
    let text = image("secure_boot = \"keys/secureboot\"\ndata_encryption = \"tpm\"");
    let recipe = Recipe::parse(&source("appliances/a.toml", &text)).unwrap();
    assert_eq!(recipe.image.data_encryption, Some(cairn_unit::Encryption::Tpm));
    let (at, message, help) = only(&image("data_encryption = \"tpm\""));
    assert_eq!(at.map(|(line, _)| line), Some(6));
    assert!(message.contains("no keys for it are named"), "{message}");
    assert!(help.contains("imagegen keys secureboot"), "{help}");
}
