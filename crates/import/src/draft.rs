//! The unit while it is put together, and its text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::specifiers::INSTANCE;

/// How the service reads its configuration again.
#[derive(Debug)]
pub(crate) enum Reload {
    Notify,
    Signal(String),
    Command(Vec<String>),
}

/// A socket that the unit is started by.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Key and value in TOML.
    pub(crate) listen: String,
    pub(crate) backlog: Option<String>,
    pub(crate) mode: Option<String>,
}

/// What the files said, in the words of a unit. What is `None` or empty is left to Cairn's defaults.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) documentation: Vec<String>,
    pub(crate) description: String,
    pub(crate) packages: Vec<String>,
    pub(crate) after: Vec<String>,
    pub(crate) oneshot: bool,
    pub(crate) command: Vec<String>,
    pub(crate) before: Vec<Vec<String>>,
    pub(crate) ending: Vec<Vec<String>>,
    pub(crate) reload: Option<Reload>,
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) working_directory: Option<String>,
    pub(crate) stop_signal: Option<String>,
    pub(crate) stop_timeout: Option<String>,
    pub(crate) restart: Option<&'static str>,
    pub(crate) restart_delay: Option<String>,
    pub(crate) restart_delay_max: Option<String>,
    pub(crate) start_limit: Option<u32>,
    pub(crate) watchdog: Option<String>,
    pub(crate) notify: bool,
    pub(crate) ready_timeout: Option<String>,
    pub(crate) reboot: bool,
    pub(crate) calendar: Vec<String>,
    pub(crate) interval: Option<String>,
    pub(crate) after_boot: Option<String>,
    pub(crate) persistent: bool,
    pub(crate) jitter: Option<String>,
    /// By name.
    pub(crate) sockets: BTreeMap<String, Socket>,
    /// How it is watched, and the path.
    pub(crate) path: Option<(&'static str, String)>,
    /// Folder and mode.
    pub(crate) state: BTreeMap<String, String>,
    pub(crate) runtime: BTreeMap<String, String>,
    /// Account and further groups.
    pub(crate) users: BTreeMap<String, Vec<String>>,
    pub(crate) offline: bool,
    /// Key and value as TOML, in the order of the format.
    pub(crate) limits: BTreeMap<&'static str, String>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) new_privileges: bool,
    pub(crate) reasons: Vec<String>,
}

/// What every imported unit has to be looked at for.
const UNSAID: &str = "\
# Service files do not say: which folders it writes to ([state], [runtime]; nothing else can be written), which ports it
# answers on ([[network.publish]] for outside, [provides] for units), whether it opens connections (network.outbound).
";

/// A text in TOML.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn list(texts: &[String]) -> String {
    let all: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    let line = format!("[{}]", all.join(", "));
    if line.len() <= 100 {
        return line;
    }
    format!("[\n  {},\n]", all.join(",\n  "))
}

fn commands(commands: &[Vec<String>]) -> String {
    match commands {
        [one] => format!("[{}]", list(one)),
        many => {
            let lines: String = many.iter().map(|command| format!("  {},\n", list(command))).collect();
            format!("[\n{lines}]")
        }
    }
}

fn folders(title: &str, folders: &BTreeMap<String, String>) -> String {
    let lines: String = folders
        .iter()
        .map(|(path, mode)| format!("{} = {{ mode = {} }}\n", quoted(path), quoted(mode)))
        .collect();
    table(title, &lines)
}

fn table(title: &str, lines: &str) -> String {
    if lines.is_empty() {
        String::new()
    } else {
        format!("\n[{title}]\n{lines}")
    }
}

/// `key = value` lines of those that are there.
fn keys<const N: usize>(pairs: [(&str, Option<String>); N]) -> String {
    pairs
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key} = {}\n", value?)))
        .collect()
}

fn text(value: &Option<String>) -> Option<String> {
    value.as_deref().map(quoted)
}

fn some<T: AsRef<[U]>, U>(list: &T, show: impl Fn(&T) -> String) -> Option<String> {
    (!list.as_ref().is_empty()).then(|| show(list))
}

impl Draft {
    /// The unit's file. `files` are those that it was made of. In a template a `%` is doubled, since `%i` means the instance there.
    pub(crate) fn text(&self, files: &[&str], template: bool) -> String {
        // A comment in TOML is one line without control characters.
        let plain = |text: &str| text.replace(|c: char| c.is_control(), " ");
        let mut out = format!("# Imported from {}.\n{UNSAID}", plain(&files.join(", ")));
        for text in &self.documentation {
            let _ = writeln!(out, "# Documentation: {}", plain(text));
        }
        out += &keys([
            ("description", Some(quoted(&self.description))),
            ("packages", Some(list(&self.packages))),
            ("after", some(&self.after, |l| list(l))),
        ]);
        out += "\n[service]\n";
        out += &self.service();
        if self.notify {
            let lines = keys([("when", Some(quoted("notify"))), ("timeout", text(&self.ready_timeout))]);
            out += &table("ready", &lines);
        }
        if self.reboot {
            out += &table("failure", "action = \"reboot\"\n");
        }
        let timer = keys([
            ("calendar", some(&self.calendar, |l| list(l))),
            ("interval", text(&self.interval)),
            ("after_boot", text(&self.after_boot)),
            ("persistent", self.persistent.then(|| "true".into())),
            ("jitter", text(&self.jitter)),
        ]);
        out += &table("timer", &timer);
        for (name, socket) in &self.sockets {
            let lines = keys([
                ("listen", Some(format!("{{ {} }}", socket.listen))),
                ("backlog", socket.backlog.clone()),
                ("mode", text(&socket.mode)),
            ]);
            out += &table(&format!("sockets.{name}"), &lines);
        }
        if let Some((way, path)) = &self.path {
            out += &table("path", &format!("{way} = {}\n", quoted(path)));
        }
        out += &folders("state", &self.state);
        out += &folders("runtime", &self.runtime);
        for (name, groups) in &self.users {
            let _ = write!(
                out,
                "\n[users.{}]\n{}",
                key(name),
                keys([("groups", some(groups, |l| list(l)))])
            );
        }
        if self.offline {
            out += &table("network", "mode = \"none\"\n");
        }
        let limits: String = self
            .limits
            .iter()
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect();
        out += &table("limits", &limits);
        let sandbox = keys([
            ("capabilities", some(&self.capabilities, |l| list(l))),
            ("new_privileges", self.new_privileges.then(|| "true".into())),
            ("reason", some(&self.reasons, |l| quoted(&l.join(", ")))),
        ]);
        out += &table("sandbox", &sandbox);
        match template {
            true => out.replace('%', "%%").replace(INSTANCE, "%i"),
            false => out,
        }
    }

    fn service(&self) -> String {
        let pairs = self
            .environment
            .iter()
            .map(|(name, value)| format!("{} = {}", key(name), quoted(value)));
        let pairs: Vec<String> = pairs.collect();
        keys([
            ("kind", self.oneshot.then(|| quoted("oneshot"))),
            ("command", Some(list(&self.command))),
            ("before", some(&self.before, |l| commands(l))),
            ("after", some(&self.ending, |l| commands(l))),
            (
                "reload",
                self.reload.as_ref().map(|reload| match reload {
                    Reload::Notify => quoted("notify"),
                    Reload::Signal(name) => format!("{{ signal = {} }}", quoted(name)),
                    Reload::Command(command) => format!("{{ command = {} }}", list(command)),
                }),
            ),
            ("user", text(&self.user)),
            ("group", text(&self.group)),
            ("environment", some(&pairs, |l| format!("{{ {} }}", l.join(", ")))),
            ("working_directory", text(&self.working_directory)),
            ("stop_signal", text(&self.stop_signal)),
            ("stop_timeout", text(&self.stop_timeout)),
            ("restart", self.restart.map(quoted)),
            ("restart_delay", text(&self.restart_delay)),
            ("restart_delay_max", text(&self.restart_delay_max)),
            ("start_limit", self.start_limit.map(|n| n.to_string())),
            ("watchdog", text(&self.watchdog)),
        ])
    }
}

fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back_from_toml_as_it_was() {
        let nasty = "a \"b\" \\ \n\t\r\x07\u{7f} 'c' % \u{e9}";
        let draft = Draft {
            documentation: vec![nasty.into(), "man:x\0\u{85}".into()],
            description: "x".into(),
            command: vec!["/bin/a".into(), nasty.into()],
            ..Draft::default()
        };
        let source = cairn_unit::Source {
            file: "x.toml".into(),
            text: draft.text(&["x\n.service"], false),
        };
        assert_eq!(cairn_unit::Unit::parse(&source).unwrap().service.command[1], nasty);
    }

    #[test]
    fn a_template_doubles_percent_signs_and_keeps_its_instance() {
        let draft = Draft {
            description: format!("5% of {INSTANCE}"),
            ..Draft::default()
        };
        assert!(
            draft
                .text(&["x@.service"], true)
                .contains("description = \"5%% of %i\"")
        );
        assert!(!draft.text(&["x.service"], false).contains("%%"));
    }
}
