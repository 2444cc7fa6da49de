//! Command lines, by "COMMAND LINES" of systemd.service(5): prefixes, several in one, variables.

use cairn_unit::Path;

use crate::environment::is_name;
use crate::job::Job;
use crate::words;

/// A command as its line has it, quotes and specifiers resolved, variables not.
#[derive(Debug)]
pub(crate) struct Exec {
    /// The directive.
    pub(crate) id: usize,
    pub(crate) argv: Vec<String>,
    /// `-`: a failure counts as success.
    pub(crate) ignores_failure: bool,
    /// `+` or `!`: it runs as root where the others run as `User=`.
    pub(crate) as_root: bool,
    /// `:`: variables are left alone.
    literal: bool,
}

/// The commands of every directive of this name, each of which is carried over unless a note says otherwise.
pub(crate) fn read(job: &mut Job, key: &str) -> Vec<Exec> {
    let mut out = Vec::new();
    for (id, value) in job.list(key) {
        let parts = match words::parts(&value) {
            Ok(parts) => parts,
            Err(wrong) => {
                job.decide(id, &format!("{}: the command is not carried over", wrong.text()));
                continue;
            }
        };
        for group in parts.split(|part| part.separator) {
            let argv: Vec<String> = group.iter().map(|part| part.text.clone()).collect();
            if let Some(exec) = one(job, id, argv) {
                job.carried(id);
                out.push(exec);
            }
        }
    }
    out
}

fn one(job: &mut Job, id: usize, mut argv: Vec<String>) -> Option<Exec> {
    let first = argv.first()?.clone();
    let program = first.trim_start_matches(['@', '-', ':', '+', '!', '|']);
    let prefix = &first[..first.len() - program.len()];
    // `!!` is for kernels without ambient capabilities, and means nothing with them.
    let elevated = prefix.contains('+') || prefix.matches('!').count() == 1;
    if prefix.contains('|') {
        job.decide(id, "`|` has a shell run the command: write the shell and `-c` out, and see to it that a package of the unit has it");
    }
    if prefix.contains('+') {
        job.hint(
            id,
            "`+` runs the command as root outside of the sandbox: in a unit nothing is outside of it",
        );
    }
    argv = argv.iter().map(|word| job.expand(id, word)).collect();
    let program = job.expand(id, program);
    argv[0] = absolute(job, id, &program)?;
    if prefix.contains('@') && argv.len() > 1 {
        let name = argv.remove(1);
        if name != argv[0] {
            job.decide(id, &format!("`@` gives the program the name `{name}`; a unit's program sees its own path: if it looks at its name, start it by a link of that name"));
        }
    }
    if ["/bin/sh", "/bin/bash", "/bin/dash"]
        .iter()
        .any(|shell| argv[0].strip_prefix("/usr").unwrap_or(&argv[0]) == *shell)
    {
        job.hint(id, "the command needs a shell: the unit's root has one only if its packages do; a command without it is better");
    }
    Some(Exec {
        id,
        argv,
        ignores_failure: prefix.contains('-'),
        as_root: elevated,
        literal: prefix.contains(':'),
    })
}

/// The program by a path that a unit takes; one without a path is looked for in the usual folder.
fn absolute(job: &mut Job, id: usize, program: &str) -> Option<String> {
    if program.is_empty() {
        job.decide(id, "the line has prefixes and no program: nothing is carried over");
        return None;
    }
    let mut path = program.to_owned();
    if !path.contains('/') {
        path = format!("/usr/bin/{path}");
        job.decide(
            id,
            &format!(
                "`{program}` has no path, and no PATH is searched: `{path}` is a guess, see where its package has it"
            ),
        );
    }
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    if path.parse::<Path>().is_err() {
        job.decide(
            id,
            &format!("`{program}` is no plain absolute path: the command is not carried over"),
        );
        return None;
    }
    Some(path)
}

/// The signal that a command sends to the main process, if that is all it does: `/bin/kill -HUP $MAINPID` and its like.
pub(crate) fn kill(exec: &Exec) -> Option<String> {
    let words: Vec<&str> = exec.argv.iter().map(String::as_str).collect();
    let (program, rest) = words.split_first()?;
    if !["/bin/kill", "/usr/bin/kill"].contains(program) {
        return None;
    }
    let name = match rest {
        ["$MAINPID" | "${MAINPID}"] => "TERM",
        ["-s" | "--signal" | "-n", name, "$MAINPID" | "${MAINPID}"] => name,
        [option, "$MAINPID" | "${MAINPID}"] => option.strip_prefix("--signal=").or_else(|| option.strip_prefix('-'))?,
        _ => return None,
    };
    signal(name)
}

/// A signal that a unit can name, by its name with or without `SIG`, or by its number.
pub(crate) fn signal(text: &str) -> Option<String> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let name = match name {
        "1" => "HUP",
        "2" => "INT",
        "3" => "QUIT",
        "9" => "KILL",
        "10" => "USR1",
        "12" => "USR2",
        "15" => "TERM",
        "28" => "WINCH",
        name => name,
    };
    ["TERM", "QUIT", "INT", "HUP", "USR1", "USR2", "WINCH", "KILL"]
        .contains(&name)
        .then(|| name.to_owned())
}

/// The command with its variables replaced: `$NAME` as a word of its own by the words of its value, `${NAME}` anywhere by its value,
/// `$$` by `$`. One whose value is not known is empty, as in systemd, and gets a note. `None` if it cannot run at all.
pub(crate) fn substituted(job: &mut Job, exec: &Exec) -> Option<Vec<String>> {
    if exec.literal {
        return Some(exec.argv.clone());
    }
    let mut argv: Vec<String> = exec.argv.iter().take(1).cloned().collect();
    for word in exec.argv.iter().skip(1) {
        if word.contains("$MAINPID") || word.contains("${MAINPID}") {
            job.decide(exec.id, "the command needs the main process' number ($MAINPID), which commands of a unit are not told: it is not carried over");
            return None;
        }
        match word.strip_prefix('$').filter(|name| is_name(name)) {
            Some(name) => {
                let value = value(job, exec.id, name);
                argv.extend(
                    words::split(&value).unwrap_or_else(|_| value.split_whitespace().map(str::to_owned).collect()),
                );
            }
            None => argv.push(within(job, exec.id, word)),
        }
    }
    Some(argv)
}

fn within(job: &mut Job, id: usize, word: &str) -> String {
    let (mut out, mut rest) = (String::new(), word);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let braces = rest.strip_prefix('{').and_then(|tail| tail.split_once('}'));
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = braces.filter(|(name, _)| is_name(name)) {
            out += &value(job, id, name);
            rest = tail;
        } else {
            out.push('$');
        }
    }
    out + rest
}

fn value(job: &mut Job, id: usize, name: &str) -> String {
    if let Some(value) = job.draft.environment.get(name) {
        return value.clone();
    }
    if name == "USER" || name == "LOGNAME" {
        return job.draft.user.clone().unwrap_or_else(|| "root".into());
    }
    job.decide(id, &format!("`${name}` has no value in the file, and stands for nothing in the unit: if a file of variables sets it, write what it holds into the command"));
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Siblings, import};

    fn command(lines: &str) -> (Vec<String>, Vec<String>) {
        let text = format!("[Service]\n{lines}\n");
        let more = Siblings {
            packages: vec!["example".into()],
            ..Siblings::default()
        };
        let found = import("x.service", &text, &more);
        let source = cairn_unit::Source {
            file: "x.toml".into(),
            text: found.unit_toml,
        };
        let unit = cairn_unit::Unit::parse(&source).unwrap();
        let about = found.notes.iter().filter(|n| n.directive == "ExecStart");
        (unit.service.command, about.map(|n| n.text.clone()).collect())
    }

    #[test]
    fn variables_are_replaced_as_in_the_examples_of_systemd_service() {
        let (argv, notes) = command("Environment=\"ONE=one\" 'TWO=two two'\nExecStart=/bin/echo $ONE $TWO ${TWO}");
        assert_eq!(argv, ["/bin/echo", "one", "two", "two", "two two"]);
        assert!(notes.is_empty());
        let (argv, _) =
            command("Environment=ONE='one' \"TWO='two two' too\" THREE=\nExecStart=/bin/echo ${ONE} ${TWO} ${THREE}");
        assert_eq!(argv, ["/bin/echo", "one", "'two two' too", ""]);
        let (argv, _) =
            command("Environment=ONE='one' \"TWO='two two' too\" THREE=\nExecStart=/bin/echo $ONE $TWO $THREE");
        assert_eq!(argv, ["/bin/echo", "one", "two two", "too"]);
        let (argv, notes) = command("ExecStart=/bin/echo 5$$ a$b $");
        assert_eq!(argv, ["/bin/echo", "5$", "a$b", "$"]);
        assert!(notes.is_empty());
        let (argv, _) = command("Environment=A=1\nExecStart=:/bin/echo $A ${A} $$");
        assert_eq!(argv, ["/bin/echo", "$A", "${A}", "$$"]);
    }

    #[test]
    fn a_variable_without_a_value_is_told() {
        let (argv, notes) = command("EnvironmentFile=-/etc/default/x\nExecStart=/bin/x $OPTIONS --a=${B}");
        assert_eq!(argv, ["/bin/x", "--a="]);
        assert!(notes[0].contains("$OPTIONS") && notes[1].contains("$B"), "{notes:?}");
    }

    #[test]
    fn a_program_without_a_path_is_a_guess_that_is_told() {
        let (argv, notes) = command("ExecStart=x --now");
        assert_eq!(argv, ["/usr/bin/x", "--now"]);
        assert_eq!(notes.len(), 1);
    }

    #[test]
    fn a_kill_of_the_main_process_is_its_signal() {
        let exec = |words: &str| Exec {
            id: 0,
            argv: words.split(' ').map(str::to_owned).collect(),
            ignores_failure: false,
            as_root: false,
            literal: false,
        };
        for words in [
            "-HUP $MAINPID",
            "-s HUP $MAINPID",
            "-1 ${MAINPID}",
            "-s SIGHUP $MAINPID",
            "--signal=HUP $MAINPID",
        ] {
            assert_eq!(
                kill(&exec(&format!("/bin/kill {words}"))).as_deref(),
                Some("HUP"),
                "{words}"
            );
        }
        assert_eq!(kill(&exec("/usr/bin/kill $MAINPID")).as_deref(), Some("TERM"));
        for words in [
            "/bin/kill -HUP 1",
            "/bin/kill -RTMIN+3 $MAINPID",
            "/bin/pkill -HUP $MAINPID",
        ] {
            assert_eq!(kill(&exec(words)), None, "{words}");
        }
    }
}
