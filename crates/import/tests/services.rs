//! Debian's own service files, each as it is in its package: what becomes of every one, word for word, and that nothing in them
//! is dropped in silence.
//!
//! `CAIRN_IMPORT_REWRITE=1 cargo test -p cairn-import` writes what is made now as what is expected.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cairn_import::{Directive, Fate, File, Imported, Siblings, import};
use cairn_unit::{Source, Unit};

/// A file by its name, and its text.
type Text = (String, String);

/// A service file of the test data, with what stands beside it.
struct Case {
    expected: PathBuf,
    package: String,
    service: Text,
    drop_ins: Vec<Text>,
    timer: Option<Text>,
    socket: Option<Text>,
    path: Option<Text>,
}

impl Case {
    fn import(&self) -> Imported {
        let file = |text: &Text| -> File<'static> {
            File {
                name: text.0.clone().leak(),
                text: text.1.clone().leak(),
            }
        };
        let more = Siblings {
            drop_ins: self.drop_ins.iter().map(file).collect(),
            timer: self.timer.as_ref().map(file),
            socket: self.socket.as_ref().map(file),
            path: self.path.as_ref().map(file),
            packages: vec![self.package.clone()],
        };
        import(&self.service.0, &self.service.1, &more)
    }

    fn texts(&mut self) -> Vec<&mut Text> {
        let more = self
            .drop_ins
            .iter_mut()
            .chain(&mut self.timer)
            .chain(&mut self.socket)
            .chain(&mut self.path);
        std::iter::once(&mut self.service).chain(more).collect()
    }

    /// The same with the lines of one directive taken out.
    fn without(&self, directive: &Directive) -> Imported {
        let all = std::iter::once(&self.service)
            .chain(&self.drop_ins)
            .chain(&self.timer)
            .chain(&self.socket)
            .chain(&self.path);
        let mut case = Case {
            expected: self.expected.clone(),
            package: self.package.clone(),
            service: self.service.clone(),
            drop_ins: self.drop_ins.clone(),
            timer: self.timer.clone(),
            socket: self.socket.clone(),
            path: self.path.clone(),
        };
        assert!(all.into_iter().any(|text| text.0 == directive.file));
        for text in case.texts().into_iter().filter(|text| text.0 == directive.file) {
            let mut lines: Vec<&str> = text.1.lines().collect();
            let mut goes_on = true;
            let mut at = directive.line - 1;
            while goes_on {
                goes_on = lines[at].ends_with('\\') || lines[at].trim_start().starts_with('#');
                lines[at] = "";
                at += 1;
            }
            text.1 = lines.join("\n");
        }
        case.import()
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all
}

fn text(path: &Path) -> Text {
    (
        path.file_name().unwrap().to_str().unwrap().to_owned(),
        std::fs::read_to_string(path).unwrap(),
    )
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services");
    let mut out = Vec::new();
    for package in entries(&root).into_iter().filter(|path| path.is_dir()) {
        for service in entries(&package)
            .into_iter()
            .filter(|p| p.is_file() && p.extension().is_some_and(|e| e == "service"))
        {
            let beside = |kind: &str| {
                Some(service.with_extension(kind))
                    .filter(|p| p.exists())
                    .map(|p| text(&p))
            };
            let drop_ins = service.with_extension("service.d");
            let stem = service.file_stem().unwrap().to_str().unwrap();
            out.push(Case {
                expected: package.join("expected").join(format!("{stem}.txt")),
                package: package.file_name().unwrap().to_str().unwrap().to_owned(),
                drop_ins: if drop_ins.is_dir() {
                    entries(&drop_ins).iter().map(|p| text(p)).collect()
                } else {
                    Vec::new()
                },
                timer: beside("timer"),
                socket: beside("socket"),
                path: beside("path"),
                service: text(&service),
            });
        }
    }
    assert!(out.len() > 150, "the test data is not there: {}", out.len());
    out
}

/// A template's unit as the build fills it in.
fn instance(found: &Imported) -> String {
    match found.name.ends_with('@') {
        true => found
            .unit_toml
            .split("%%")
            .map(|part| part.replace("%i", "one"))
            .collect::<Vec<_>>()
            .join("%"),
        false => found.unit_toml.clone(),
    }
}

#[test]
fn each_service_becomes_a_unit_that_cairn_takes() {
    for case in cases() {
        let found = case.import();
        let source = Source {
            file: format!("{}.toml", found.name).into(),
            text: instance(&found),
        };
        if let Err(problems) = Unit::parse(&source) {
            panic!("{}: {problems}\n{}", case.service.0, found.unit_toml);
        }
        let name = found.name.replace('@', "@one");
        assert!(name.parse::<cairn_unit::Name>().is_ok(), "{name}");
    }
}

#[test]
fn each_service_becomes_what_is_expected() {
    let rewrite = std::env::var_os("CAIRN_IMPORT_REWRITE").is_some();
    let mut different = String::new();
    for case in cases() {
        let found = case.import();
        let mut made = format!("units/{}.toml:\n{}\nnotes:\n", found.name, found.unit_toml);
        for note in &found.notes {
            let _ = writeln!(made, "{note}");
        }
        let _ = writeln!(made, "\ncovered: {}", found.covered().join(", "));
        if rewrite {
            std::fs::create_dir_all(case.expected.parent().unwrap()).unwrap();
            std::fs::write(&case.expected, made).unwrap();
        } else if std::fs::read_to_string(&case.expected).unwrap_or_default() != made {
            let _ = writeln!(different, "{}", case.expected.display());
        }
    }
    assert!(
        different.is_empty(),
        "differs (CAIRN_IMPORT_REWRITE=1 writes them anew):\n{different}"
    );
}

#[test]
fn the_example_of_the_documentation_is_what_is_made() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/from-systemd.md");
    let page = std::fs::read_to_string(page).unwrap();
    let all = cases();
    let case = all.iter().find(|case| case.service.0 == "prosody.service").unwrap();
    let found = case.import();
    let mut example = String::from("$ imagegen import-unit prosody.service --package prosody\n");
    for note in &found.notes {
        let _ = writeln!(example, "{note}");
    }
    let _ = write!(
        example,
        "done by Cairn anyway: {}\n{}",
        found.covered().join(", "),
        found.unit_toml
    );
    assert!(page.contains(&example), "docs/from-systemd.md has not this:\n{example}");
    assert!(found.changes_behaviour() && page.contains("$ echo $?\n3\n"));
}

/// The directives of a file, found in a simpler way than the importer's: number of the first line, and name.
fn directives(text: &Text) -> BTreeSet<(String, usize, String)> {
    let mut out = BTreeSet::new();
    let mut goes_on = false;
    for (index, line) in text.1.lines().enumerate() {
        let comment = line.trim_start().starts_with(['#', ';']);
        if !goes_on
            && !comment
            && let Some((name, _)) = line.split_once('=')
        {
            out.insert((text.0.clone(), index + 1, name.trim().to_owned()));
        }
        goes_on = line.ends_with('\\') || goes_on && comment;
    }
    out
}

#[test]
fn no_directive_is_dropped_in_silence() {
    for mut case in cases() {
        let found = case.import();
        let read: BTreeSet<_> = found
            .directives
            .iter()
            .map(|d| (d.file.clone(), d.line, d.name.clone()))
            .collect();
        let written: BTreeSet<_> = case.texts().into_iter().flat_map(|text| directives(text)).collect();
        assert_eq!(read, written, "{}", case.service.0);
        for directive in &found.directives {
            let note = |n: &cairn_import::Note| {
                n.file == directive.file && n.line == Some(directive.line) && n.directive == directive.name
            };
            assert_eq!(
                directive.fate == Fate::Noted,
                found.notes.iter().any(note),
                "{}:{}: {}: {:?}",
                directive.file,
                directive.line,
                directive.name,
                directive.fate
            );
        }
    }
}

/// Two directives that say the same of one key of a unit: without one of them the other still says it.
const SAID_TWICE: [&str; 2] = ["PrivateNetwork", "RestrictAddressFamilies"];

#[test]
fn what_counts_as_carried_over_is_in_the_unit_and_what_counts_as_covered_is_not() {
    let mut wrong = String::new();
    for case in cases() {
        let found = case.import();
        for directive in &found.directives {
            let carried = |name: &str| {
                found
                    .directives
                    .iter()
                    .filter(|d| d.name == name && d.fate == Fate::Carried)
                    .count()
            };
            let twice =
                SAID_TWICE.contains(&directive.name.as_str()) && SAID_TWICE.iter().all(|name| carried(name) > 0);
            let alone = carried(&directive.name) == 1 && !twice;
            let same = case.without(directive).unit_toml == found.unit_toml;
            let right = match directive.fate {
                Fate::Carried => !same || !alone,
                Fate::Covered | Fate::Replaced => same,
                Fate::Noted => true,
            };
            if !right {
                let Directive { file, line, name, fate } = directive;
                let _ = writeln!(
                    wrong,
                    "{file}:{line}: {name}: {fate:?}, without it the unit is {}",
                    if same { "the same" } else { "another" }
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
