//! Every file of the corpus through its target, without libFuzzer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn every_input_of_the_corpus_keeps_the_promises_of_its_target() {
    for (target, run) in cairn_fuzz::TARGETS {
        let folder = top().join("corpus").join(target);
        let files = names(&folder);
        assert!((5..=120).contains(&files.len()), "{target} has {} inputs", files.len());
        for file in files {
            let path = folder.join(file);
            let data = std::fs::read(&path).unwrap();
            let held = std::panic::catch_unwind(|| run(&data));
            assert!(held.is_ok(), "a promise is broken by {}", path.display());
        }
    }
}

#[test]
fn every_target_has_a_program_a_corpus_and_a_place_in_the_manifest() {
    let targets: BTreeSet<String> = cairn_fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let programs = names(&top().join("fuzz_targets"));
    let programs: BTreeSet<String> = programs.iter().map(|file| file.replace(".rs", "")).collect();
    let manifest: toml::Table = std::fs::read_to_string(top().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let bins = manifest["bin"].as_array().unwrap().iter();
    let bins: BTreeSet<String> = bins.map(|bin| bin["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(programs, targets);
    assert_eq!(names(&top().join("corpus")), targets);
    assert_eq!(bins, targets);
}

/// A corpus that is refused whole at the door finds nothing behind it.
#[test]
fn the_corpus_holds_inputs_that_are_let_through() {
    let read = |name: &str| std::fs::read(top().join("corpus").join(name)).unwrap();
    for plan in ["plan", "plan-host", "plan-single", "enter"] {
        assert!(
            cairn_sandbox::fuzz::job(&read(&format!("exec_report/{plan}"))),
            "{plan}"
        );
    }
    assert!(!cairn_sandbox::fuzz::job(&read("exec_report/plan-wrong-path")));
    for (input, taken) in [
        ("index", true),
        ("delta", true),
        ("bundle", true),
        ("names", true),
        ("uki", true),
        ("index-pack", false),
    ] {
        assert_eq!(
            cairn_fuzz::release_taken(&read(&format!("release/{input}"))),
            taken,
            "{input}"
        );
    }
    let source = cairn_unit::Source {
        file: "full.toml".into(),
        text: String::from_utf8(read("unit/full")).unwrap(),
    };
    if let Err(problems) = cairn_unit::Unit::parse(&source) {
        panic!("{problems}");
    }
}
