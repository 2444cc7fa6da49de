//! From a systemd service file to a Cairn unit.
//!
//! [`import`] is pure: text in, a unit's text and what to know about it out. Its promise: no directive is dropped in
//! silence. Each one that the files hold has a [`Fate`], and every fate but the plain ones comes with a [`Note`] that names
//! the file, the line, the directive and what to do.
//!
//! What a file says is carried over; what it leaves to systemd's defaults is left to Cairn's defaults.
//! The rules are those of systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5),
//! systemd.resource-control(5), systemd.timer(5), systemd.socket(5), systemd.syntax(7) and systemd.time(7).

mod commands;
mod draft;
mod environment;
mod execution;
mod folders;
mod job;
mod limits;
mod name;
mod relations;
mod rest;
mod sandbox;
mod service;
mod socket;
mod specifiers;
mod syntax;
mod table;
mod timer;
mod values;
mod words;

use std::fmt;

use job::Job;

/// A file by the name that notes use for it, and its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File<'a> {
    /// The name, as a reader will look for it.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
}

/// What stands beside a service file and belongs to the same unit.
#[derive(Debug, Clone, Default)]
pub struct Siblings<'a> {
    /// The drop-ins (`NAME.service.d/*.conf`), in the order in which they apply.
    pub drop_ins: Vec<File<'a>>,
    /// The timer of the same name.
    pub timer: Option<File<'a>>,
    /// The socket of the same name.
    pub socket: Option<File<'a>>,
    /// The path unit of the same name.
    pub path: Option<File<'a>>,
    /// Debian packages that the unit is made of.
    pub packages: Vec<String>,
}

/// A unit, and what to know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The unit's name; a template's ends with `@`. `units/NAME.toml` is its file.
    pub name: String,
    /// The text of the unit's file.
    pub unit_toml: String,
    /// What could not be carried over, or not exactly, in the order of the files.
    pub notes: Vec<Note>,
    /// What became of each directive, in the order of the files.
    pub directives: Vec<Directive>,
}

impl Imported {
    /// Whether a note says that the unit will not behave as the service did.
    pub fn changes_behaviour(&self) -> bool {
        self.notes.iter().any(|note| note.level == Level::Behaviour)
    }

    /// The names of the directives that Cairn's sandbox and defaults cover, each once, in alphabetical order.
    pub fn covered(&self) -> Vec<&str> {
        let covered = self.directives.iter().filter(|d| d.fate == Fate::Covered);
        let mut names: Vec<&str> = covered.map(|d| d.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Something that could not be carried over, or not exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The file.
    pub file: String,
    /// The line, from 1; `None` where something is missing and no line can be named.
    pub line: Option<usize>,
    /// The directive; empty where none is meant.
    pub directive: String,
    /// How much it matters.
    pub level: Level,
    /// What is different, and what to do.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}: ", self.level)?;
        if !self.directive.is_empty() {
            write!(f, "{}: ", self.directive)?;
        }
        f.write_str(&self.text)
    }
}

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Good to know.
    Hint,
    /// The unit behaves differently until somebody decides.
    Behaviour,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Hint => "hint",
            Level::Behaviour => "decide",
        })
    }
}

/// What became of a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// A later line of the same name takes its place, as in systemd.
    Replaced,
    /// Cairn does the same, or it means nothing here.
    Covered,
    /// It stands in the unit.
    Carried,
    /// A note tells what was not carried over.
    Noted,
}

/// A directive of a file and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// The file.
    pub file: String,
    /// The line, from 1, at which it begins.
    pub line: usize,
    /// Its name, as the file has it.
    pub name: String,
    /// What became of it.
    pub fate: Fate,
}

/// Makes a unit of the service file `name` (a file's name or path, ending with `.service`) with the text `text`.
pub fn import(name: &str, text: &str, more: &Siblings<'_>) -> Imported {
    let mut job = Job::new(File { name, text }, more);
    service::kind(&mut job);
    environment::read(&mut job);
    execution::account(&mut job);
    folders::read(&mut job);
    service::commands(&mut job);
    service::ending(&mut job);
    execution::rest(&mut job);
    sandbox::read(&mut job);
    limits::read(&mut job);
    relations::read(&mut job);
    timer::read(&mut job);
    socket::read(&mut job);
    rest::rest(&mut job);
    job.finish(more)
}
