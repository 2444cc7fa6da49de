//! `cairn dump`, `cairn dumps` and `cairn restore`.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_api::{Dump, Dumps, UnitDumps};

use crate::table::{Paint, size, span};
use crate::{Cli, Outcome, Refused, ask, client, parsed, put, shown, silent};

/// The time between two looks at what is under way.
const PAUSE: Duration = Duration::from_millis(500);

fn of(cli: &Cli, unit: &str) -> Outcome<UnitDumps> {
    parsed(&ask(cli, "GET", &format!("/v1/units/{}/dumps", client::encode(unit)))?)
}

/// Has a unit dumped, waits until that is done, and copies the dump out if a file is named.
pub(crate) fn dump(cli: &Cli, unit: &str, output: Option<&Path>) -> Outcome<()> {
    if output.is_some() && crate::is_remote(cli)? {
        let why = "a dump is copied out on the appliance itself only; leave `--output` out";
        return Err(Refused(why.into(), 2));
    }
    let before = of(cli, unit)?.dumps.into_iter().next();
    ask(cli, "POST", &format!("/v1/units/{}/dumps", client::encode(unit)))?;
    let made = loop {
        std::thread::sleep(PAUSE);
        let told = of(cli, unit)?;
        match told.dumps.into_iter().next() {
            _ if told.under_way => {}
            newest if newest != before => break newest,
            _ => return Err(Refused(format!("{unit} was not dumped: {}", told.failed), 1)),
        }
    };
    let Some(made) = made else {
        return Err(Refused(format!("{unit} was dumped, and its dumps are gone"), 1));
    };
    match output {
        Some(file) => copy(cli, unit, &made, file),
        None if cli.json => {
            put(&format!("{}\n", serde_json::json!(made)));
            Ok(())
        }
        None => {
            put(&format!("{} {}\n", made.name, size(made.bytes)));
            Ok(())
        }
    }
}

/// Counts what goes through it.
struct Counted<W>(W, u64);

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.0.write(bytes)?;
        self.1 += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Copies a dump into a file that only its owner reads, or to the standard output. The file has its name once it is whole.
fn copy(cli: &Cli, unit: &str, dump: &Dump, file: &Path) -> Outcome<()> {
    let path = format!("/v1/units/{}/dumps/{}", client::encode(unit), dump.name);
    let whole = |copied: u64| match copied == dump.bytes {
        true => Ok(()),
        false => Err(Refused(
            format!("only {copied} of {} bytes came; try again", dump.bytes),
            1,
        )),
    };
    if file == Path::new("-") {
        let mut out = Counted(io::stdout(), 0);
        client::stream(&cli.socket, &path, &mut out).map_err(|e| silent(cli, &e))?;
        return whole(out.1);
    }
    let failed = |e: io::Error| Refused(format!("cannot write {}: {e}", file.display()), 1);
    let part = PathBuf::from(format!("{}.part", file.display()));
    let mut options = std::fs::OpenOptions::new();
    let open = options.write(true).create(true).truncate(true).mode(0o600).open(&part);
    let mut out = Counted(open.map_err(failed)?, 0);
    client::stream(&cli.socket, &path, &mut out).map_err(|e| silent(cli, &e))?;
    whole(out.1)?;
    out.0.sync_all().map_err(failed)?;
    std::fs::rename(&part, file).map_err(failed)
}

/// Lists dumps.
pub(crate) fn list(cli: &Cli, unit: Option<&str>, paint: Paint) -> Outcome<()> {
    match unit {
        Some(unit) => {
            let answer = ask(cli, "GET", &format!("/v1/units/{}/dumps", client::encode(unit)))?;
            shown::<UnitDumps>(cli, answer, |told| text(told, paint)).map(drop)
        }
        None => {
            let answer = ask(cli, "GET", "/v1/dumps")?;
            let all = |all: &Dumps| match all.units.is_empty() {
                true => "No unit of this appliance is dumped.\n".to_owned(),
                false => all.units.iter().map(|unit| text(unit, paint)).collect(),
            };
            shown::<Dumps>(cli, answer, all).map(drop)
        }
    }
}

/// A unit's dumps, a line each, and what there is to say of them.
fn text(told: &UnitDumps, paint: Paint) -> String {
    let mut out = format!("{}\n", paint.bold(&told.unit));
    for dump in &told.dumps {
        let _ = write!(
            out,
            "  {}  {:>10}  version {}",
            dump.name,
            size(dump.bytes),
            dump.appliance
        );
        if !dump.refused.is_empty() {
            let _ = write!(out, "  ({})", dump.refused);
        }
        out.push('\n');
    }
    if told.dumps.is_empty() {
        out.push_str("  no dump yet\n");
    }
    if told.under_way {
        out.push_str("  one is being made\n");
    } else if let Some(next) = told.next_ms {
        let _ = writeln!(out, "  the next one in {}, the last {} are kept", span(next), told.keep);
    }
    if !told.failed.is_empty() {
        let _ = writeln!(out, "  the last try failed: {}", told.failed);
    }
    if let Some(dump) = &told.restoring {
        let _ = writeln!(out, "  goes back to {dump} now");
    }
    if let Some(end) = &told.restored {
        match end.why.is_empty() {
            true => drop(writeln!(out, "  went back to {}", end.dump)),
            false => drop(writeln!(out, "  did not go back to a dump: {}", end.why)),
        }
    }
    if told.before {
        let _ = writeln!(
            out,
            "  `cairn restore {} before` brings back what there was before, until the next dump",
            told.unit
        );
    }
    out
}

/// Lets a unit go back to a dump, after a question, and waits until it has.
pub(crate) fn restore(cli: &Cli, unit: &str, dump: &str, yes: bool) -> Outcome<()> {
    if !yes {
        confirm(unit, dump)?;
    }
    let path = format!(
        "/v1/units/{}/restore?dump={}",
        client::encode(unit),
        client::encode(dump)
    );
    ask(cli, "POST", &path)?;
    loop {
        std::thread::sleep(PAUSE);
        let told = of(cli, unit)?;
        match told.restored {
            Some(end) if told.restoring.is_none() => {
                if !end.why.is_empty() {
                    let why = format!("{unit} did not go back to {dump}, and all is as it was: {}", end.why);
                    return Err(Refused(why, 1));
                }
                if !cli.json {
                    put(&format!("{unit} has what it kept in {}.\n", end.dump));
                }
                return Ok(());
            }
            _ => {}
        }
    }
}

fn confirm(unit: &str, dump: &str) -> Outcome<()> {
    if !io::stdin().is_terminal() {
        let why = "a restore replaces what the unit keeps; say `--yes` where nobody can be asked";
        return Err(Refused(why.into(), 2));
    }
    let failed = |error: io::Error| Refused(format!("cannot ask: {error}"), 1);
    let mut err = io::stderr();
    write!(
        err,
        "{unit} stops, and what it keeps becomes what it was in {dump}. What was written since is gone with the next dump.\nGo on? [y/N] "
    )
    .and_then(|()| err.flush())
    .map_err(failed)?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(failed)?;
    match line.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Refused("nothing was changed".into(), 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_are_listed_with_what_there_is_to_say_of_them() {
        let told = UnitDumps {
            unit: "db".into(),
            daily: true,
            keep: 7,
            dumps: vec![Dump {
                name: "20260101T020000Z".into(),
                bytes: 2048,
                appliance: "1.0.0".into(),
                ..Dump::default()
            }],
            next_ms: Some(3_600_000),
            failed: "no room".into(),
            before: true,
            ..UnitDumps::default()
        };
        let text = text(&told, Paint(false));
        for part in [
            "20260101T020000Z",
            "version 1.0.0",
            "the last 7 are kept",
            "the last try failed: no room",
            "`cairn restore db before`",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
