//! The appliance's own check of a repository behind the command line of the TUF conformance suite (its CLIENT-CLI.md), so that others' tests judge it:
//! `tests/conformance.rs`. What is expected to fail stands, with the reason, in `tuf-client.xfails` beside this file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use cairn_upgrade::Error;
use cairn_upgrade::metadata::Trusted;
use cairn_upgrade::source::{Http, Source, Stream};

/// Longer targets are not fetched.
const MAX_TARGET: u64 = 16 << 20;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The suite's repositories have metadata and targets at addresses of their own.
struct Repository {
    metadata: Http,
    targets: Option<Http>,
}

impl Source for Repository {
    fn open(&self, name: &str, range: Option<(u64, u64)>) -> Result<Stream, Error> {
        match (name.split_once('/'), &self.targets) {
            (Some(("metadata", name)), _) => self.metadata.open(name, range),
            (Some(("targets", name)), Some(targets)) => targets.open(name, range),
            _ => Err(Error::Refused(format!("{name} is not below an address that was given"))),
        }
    }
}

/// What the suite asks for.
#[derive(Default)]
struct Asked {
    options: Vec<(String, String)>,
    words: Vec<String>,
}

impl Asked {
    fn read(mut given: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut asked = Self::default();
        while let Some(word) = given.next() {
            match word.strip_prefix("--") {
                Some(option) => {
                    let value = given.next().ok_or_else(|| format!("{word} has no value"))?;
                    asked.options.push((option.to_owned(), value));
                }
                None => asked.words.push(word),
            }
        }
        Ok(asked)
    }

    fn all<'a>(&'a self, option: &'a str) -> impl Iterator<Item = &'a str> {
        self.options
            .iter()
            .filter(move |(name, _)| name == option)
            .map(|(_, value)| value.as_str())
    }

    fn one<'a>(&'a self, option: &'a str) -> Outcome<&'a str> {
        Ok(self
            .all(option)
            .next()
            .ok_or_else(|| format!("--{option} is missing"))?)
    }
}

fn main() -> ExitCode {
    match Asked::read(std::env::args().skip(1)).and_then(|asked| apply(&asked)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tuf-client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn apply(asked: &Asked) -> Outcome<()> {
    let shown = PathBuf::from(asked.one("metadata-dir")?);
    match asked.words.as_slice() {
        [word, root] if word == "init" => {
            fs::copy(root, shown.join("root.json"))?;
        }
        [word] if word == "refresh" => {
            load(asked, &shown)?;
        }
        [word] if word == "download" => {
            let trusted = load(asked, &shown)?;
            let folder = Path::new(asked.one("target-dir")?);
            for name in asked.all("target-name") {
                let bytes = trusted.read(name, MAX_TARGET)?;
                // One name for each target, whatever is in it.
                fs::write(folder.join(name.replace('/', "%2F")), bytes)?;
            }
        }
        _ => return Err("the commands are init ROOT, refresh and download".into()),
    }
    Ok(())
}

/// Loads the metadata as an appliance does. The suite looks at each file of the folder as metadata, so what the appliance remembers beside them
/// (the time) stands in another.
fn load(asked: &Asked, shown: &Path) -> Outcome<Trusted> {
    let source: Arc<dyn Source> = Arc::new(Repository {
        metadata: Http::new(asked.one("metadata-url")?),
        targets: asked.all("target-base-url").next().map(Http::new),
    });
    let known = shown.with_extension("known");
    let root = fs::read(shown.join("root.json"))?;
    let loaded = Trusted::load(&source, &root, &known);
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let file = format!("{role}.json");
        match fs::copy(known.join(&file), shown.join(&file)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && role != "root" => {
                fs::remove_file(shown.join(&file)).or_else(absent)?;
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => (),
        }
    }
    Ok(loaded?)
}

fn absent(error: std::io::Error) -> std::io::Result<()> {
    match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}
