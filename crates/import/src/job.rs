//! One import under way: the directives, what became of each, the notes, and the unit so far.

use cairn_unit::{Source, Unit};

use crate::draft::Draft;
use crate::name::FileName;
use crate::specifiers;
use crate::syntax;
use crate::{Directive, Fate, File, Imported, Level, Note, Siblings};

/// Which of the files a directive stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Service,
    Timer,
    Socket,
    Path,
}

/// A directive.
#[derive(Debug)]
pub(crate) struct Entry {
    file: String,
    line: usize,
    part: Part,
    pub(crate) section: String,
    /// The name that systemd documents; `written` is the file's.
    pub(crate) key: String,
    written: String,
    pub(crate) value: String,
    fate: Option<Fate>,
}

impl Entry {
    pub(crate) fn part(&self) -> Part {
        self.part
    }
}

/// A directive by its place, with its value.
pub(crate) type Found = (usize, String);

pub(crate) struct Job {
    pub(crate) name: FileName,
    pub(crate) draft: Draft,
    /// The service file, for notes about what no line says.
    file: String,
    pub(crate) timer: bool,
    pub(crate) socket: bool,
    pub(crate) path: bool,
    pub(crate) entries: Vec<Entry>,
    notes: Vec<(usize, Note)>,
}

/// Names that systemd still takes for what is called otherwise today.
const FORMER: [(&str, &str); 11] = [
    ("BindTo", "BindsTo"),
    ("InaccessibleDirectories", "InaccessiblePaths"),
    ("MemoryLimit", "MemoryMax"),
    ("OnFailureIsolate", "OnFailureJobMode"),
    ("PropagateReloadFrom", "ReloadPropagatedFrom"),
    ("PropagateReloadTo", "PropagatesReloadTo"),
    ("ReadOnlyDirectories", "ReadOnlyPaths"),
    ("ReadWriteDirectories", "ReadWritePaths"),
    ("StartLimitInterval", "StartLimitIntervalSec"),
    ("RestartMaxDelay", "RestartMaxDelaySec"),
    ("OnUnitInactive", "OnUnitInactiveSec"),
];

impl Job {
    pub(crate) fn new(service: File<'_>, more: &Siblings<'_>) -> Job {
        let name = FileName::of(service.name);
        let mut job = Job {
            draft: Draft::default(),
            file: service.name.to_owned(),
            timer: more.timer.is_some(),
            socket: more.socket.is_some(),
            path: more.path.is_some(),
            entries: Vec::new(),
            notes: Vec::new(),
            name,
        };
        job.read(service, Part::Service);
        for file in &more.drop_ins {
            job.read(*file, Part::Service);
        }
        for (file, part) in [
            (more.timer, Part::Timer),
            (more.socket, Part::Socket),
            (more.path, Part::Path),
        ] {
            if let Some(file) = file {
                job.read(file, part);
            }
        }
        job.draft.packages = more.packages.clone();
        if more.packages.is_empty() {
            job.missing(Level::Behaviour, "the unit has no packages, so its root is empty: name those that the service is made of in `packages`, or give them as --package NAME");
        }
        let unit = job.name.unit();
        if unit != job.name.stem {
            job.missing(
                Level::Hint,
                &format!("Cairn takes lower case letters, digits and `-` for a name: the unit is called `{unit}`"),
            );
        }
        job
    }

    fn read(&mut self, file: File<'_>, part: Part) {
        let (lines, odd) = syntax::read(file.text);
        for line in lines {
            let key = FORMER
                .iter()
                .find(|(former, _)| *former == line.key)
                .map_or(line.key.as_str(), |(_, today)| today);
            self.entries.push(Entry {
                file: file.name.to_owned(),
                line: line.number,
                part,
                section: line.section,
                key: key.to_owned(),
                written: line.key,
                value: line.value,
                fate: None,
            });
        }
        for (line, text) in odd {
            let note = Note {
                file: file.name.to_owned(),
                line: Some(line),
                directive: String::new(),
                level: Level::Behaviour,
                text: format!(
                    "`{text}` is no section and no directive in one: systemd leaves it out, and so does the unit"
                ),
            };
            self.notes.push((self.entries.len(), note));
        }
    }

    /// Every directive of this name, also those without a value.
    pub(crate) fn every(&self, part: Part, key: &str) -> Vec<Found> {
        let found = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, e)| e.part == part && e.key == key && !foreign(&e.section));
        found.map(|(id, e)| (id, e.value.clone())).collect()
    }

    /// The directives of a list: an empty one takes back those before it.
    pub(crate) fn list_of(&mut self, part: Part, key: &str) -> Vec<Found> {
        let mut all = self.every(part, key);
        if let Some(last) = all.iter().rposition(|(_, value)| value.is_empty()) {
            let rest = all.split_off(last + 1);
            for (id, _) in all {
                self.fate(id, Fate::Replaced);
            }
            return rest;
        }
        all
    }

    pub(crate) fn list(&mut self, key: &str) -> Vec<Found> {
        self.list_of(Part::Service, key)
    }

    /// The directive that counts where only one can: the last. An empty one sets systemd's default again.
    pub(crate) fn last_of(&mut self, part: Part, key: &str) -> Option<Found> {
        let mut all = self.list_of(part, key);
        let last = all.pop();
        for (id, _) in all {
            self.fate(id, Fate::Replaced);
        }
        last
    }

    pub(crate) fn last(&mut self, key: &str) -> Option<Found> {
        self.last_of(Part::Service, key)
    }

    /// The last one's truth value; one that is none gets a note.
    pub(crate) fn truth(&mut self, key: &str) -> Option<(usize, bool)> {
        let (id, value) = self.last(key)?;
        match crate::values::boolean(&value) {
            Some(truth) => Some((id, truth)),
            None => {
                self.not_understood(id);
                None
            }
        }
    }

    fn fate(&mut self, id: usize, fate: Fate) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.fate = entry.fate.max(Some(fate));
        }
    }

    pub(crate) fn open(&self, id: usize) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.fate.is_none())
    }

    pub(crate) fn covered(&mut self, id: usize) {
        self.fate(id, Fate::Covered);
    }

    pub(crate) fn carried(&mut self, id: usize) {
        self.fate(id, Fate::Carried);
    }

    pub(crate) fn hint(&mut self, id: usize, text: &str) {
        self.note(id, Level::Hint, text);
    }

    pub(crate) fn decide(&mut self, id: usize, text: &str) {
        self.note(id, Level::Behaviour, text);
    }

    pub(crate) fn not_understood(&mut self, id: usize) {
        let value = self.entries.get(id).map(|e| e.value.clone()).unwrap_or_default();
        self.decide(
            id,
            &format!("`{value}` is not understood and not carried over: look at what it is for"),
        );
    }

    pub(crate) fn note(&mut self, id: usize, level: Level, text: &str) {
        self.fate(id, Fate::Noted);
        if let Some(entry) = self.entries.get(id) {
            let note = Note {
                file: entry.file.clone(),
                line: Some(entry.line),
                directive: entry.written.clone(),
                level,
                text: shown(text),
            };
            if !self.notes.iter().any(|(_, there)| *there == note) {
                self.notes.push((id, note));
            }
        }
    }

    /// A note about what no line says.
    pub(crate) fn missing(&mut self, level: Level, text: &str) {
        let note = Note {
            file: self.file.clone(),
            line: None,
            directive: String::new(),
            level,
            text: shown(text),
        };
        self.notes.push((usize::MAX, note));
    }

    /// A text of a directive after its specifiers; those that cannot be known get a note.
    pub(crate) fn expand(&mut self, id: usize, text: &str) -> String {
        let found = specifiers::expand(text, &self.name);
        if !found.unknown.is_empty() {
            let list = found.unknown.join(", ");
            self.decide(
                id,
                &format!("{list} is known on the machine only and stands in the unit as it is: write what is meant"),
            );
        }
        if found.unescaped {
            self.hint(
                id,
                "systemd makes `/` of each `-` in an instance's name here; the unit has the name as it is",
            );
        }
        found.text
    }

    /// The reason for a grant: which directives of which file asked for it.
    pub(crate) fn source(&self, id: usize) -> String {
        let entry = self.entries.get(id);
        entry.map_or(String::new(), |e| {
            format!("{}= of {}", e.written, e.file.rsplit('/').next().unwrap_or(&e.file))
        })
    }

    /// Writes the unit and sees to it that Cairn takes it.
    pub(crate) fn finish(mut self, more: &Siblings<'_>) -> Imported {
        let files: Vec<&str> = std::iter::once(self.file.as_str())
            .chain(
                more.drop_ins
                    .iter()
                    .chain(&more.timer)
                    .chain(&more.socket)
                    .chain(&more.path)
                    .map(|f| f.name),
            )
            .map(|name| name.rsplit('/').next().unwrap_or(name))
            .collect();
        let unit_toml = self.draft.text(&files, self.name.is_template());
        let instance = if self.name.is_template() {
            filled(&unit_toml, "x")
        } else {
            unit_toml.clone()
        };
        let source = Source {
            file: format!("{}.toml", self.name.unit()).into(),
            text: instance,
        };
        if let Err(problems) = Unit::parse(&source) {
            for problem in problems.0 {
                let text = format!(
                    "the unit is not valid until this is put right: {}",
                    problem.to_string().replace('\n', " ")
                );
                self.missing(Level::Behaviour, &text);
            }
        }
        self.notes.sort_by_key(|(order, note)| (*order, note.line));
        Imported {
            name: self.name.unit(),
            unit_toml,
            notes: self.notes.into_iter().map(|(_, note)| note).collect(),
            directives: self
                .entries
                .into_iter()
                .map(|e| Directive {
                    file: e.file,
                    line: e.line,
                    name: e.written,
                    fate: e.fate.unwrap_or(Fate::Noted),
                })
                .collect(),
        }
    }
}

/// The unit of one instance of a template.
fn filled(text: &str, instance: &str) -> String {
    let parts: Vec<String> = text.split("%%").map(|part| part.replace("%i", instance)).collect();
    parts.join("%")
}

fn shown(text: &str) -> String {
    text.replace(specifiers::INSTANCE, "%i").replace(['\n', '\r'], " ")
}

/// A section that systemd itself does not read.
pub(crate) fn foreign(section: &str) -> bool {
    section.starts_with("X-")
}
