//! `cairn factory-reset`.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::{Cli, Outcome, Refused, ask, client, put};

/// Asks for the appliance's name unless it was given, and begins.
pub(crate) fn run(cli: &Cli, name: Option<&str>) -> Outcome<()> {
    let name = match name {
        Some(name) => name.to_owned(),
        None if std::io::stdin().is_terminal() => typed()?,
        None => {
            let why = "a factory reset removes all data; say `--yes NAME` with the appliance's name where nobody can be asked";
            return Err(Refused(why.into(), 2));
        }
    };
    ask(
        cli,
        "POST",
        &format!("/v1/power/factory-reset?name={}", client::encode(&name)),
    )?;
    if !cli.json {
        put("All units stop now; the next start removes all data. The installed version stays.\n");
    }
    Ok(())
}

fn typed() -> Outcome<String> {
    let failed = |error: std::io::Error| Refused(format!("cannot ask: {error}"), 1);
    let mut err = std::io::stderr();
    write!(
        err,
        "This removes all data of all units: mail, databases, people, certificates and your choices. There is no way back.\n\
         The installed version stays. Type the appliance's name to go on: "
    )
    .and_then(|()| err.flush())
    .map_err(failed)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    match line.trim() {
        "" => Err(Refused("nothing was removed".into(), 1)),
        name => Ok(name.to_owned()),
    }
}
