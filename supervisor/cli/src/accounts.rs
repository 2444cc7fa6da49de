//! `cairn secrets` and `cairn purge`: the accounts that units have at others.

use std::fmt::Write as _;

use cairn_api::{Accepted, Accounts};
use clap::Subcommand;

use crate::table::Paint;
use crate::{Cli, Outcome, ask, client, parsed, put, shown};

/// What can be done with accounts.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List them; this is what the command does by itself. No password is shown.
    List,
    /// Change passwords while the units run. The old ones are good until the units use the new ones.
    Rotate {
        /// The unit whose accounts get other passwords; left out: every unit.
        unit: Option<String>,
    },
}

/// Does it.
pub(crate) fn run(cli: &Cli, command: Option<&Command>, paint: Paint) -> Outcome<()> {
    match command {
        None | Some(Command::List) => {
            let answer = ask(cli, "GET", "/v1/accounts")?;
            shown::<Accounts>(cli, answer, |all| list(all, paint)).map(drop)
        }
        Some(Command::Rotate { unit }) => {
            let query = unit.as_ref().map(|unit| format!("?unit={}", client::encode(unit)));
            let path = format!("/v1/accounts/rotate{}", query.unwrap_or_default());
            let told: Accepted = parsed(&ask(cli, "POST", &path)?)?;
            said(
                cli,
                &format!(
                    "Changing: {}; `cairn secrets` tells when it is done.\n",
                    told.units.join(", ")
                ),
            );
            Ok(())
        }
    }
}

/// Removes what a unit owned that has no binding any more.
pub(crate) fn purge(cli: &Cli, unit: &str) -> Outcome<()> {
    let path = format!("/v1/accounts/purge?unit={}", client::encode(unit));
    let told: Accepted = parsed(&ask(cli, "POST", &path)?)?;
    said(cli, &format!("Removing: {}\n", told.units.join(", ")));
    Ok(())
}

fn said(cli: &Cli, line: &str) {
    if !cli.json {
        put(line);
    }
}

/// A line an account.
pub(crate) fn list(all: &Accounts, paint: Paint) -> String {
    let mut out = String::new();
    let whose = |one: &cairn_api::Account| format!("{} {}", one.unit, one.need);
    let width = all.accounts.iter().map(|one| whose(one).len()).max().unwrap_or(0);
    for one in &all.accounts {
        let state = match one.state.as_str() {
            "granted" => one.state.clone(),
            other => paint.bold(other),
        };
        let _ = writeln!(
            out,
            "{:width$}  {state:9}  {} at {} ({})",
            whose(one),
            one.name,
            one.provider,
            one.provide
        );
        if !one.why.is_empty() {
            let _ = writeln!(out, "{:width$}  {}", "", one.why);
        }
    }
    if all.accounts.is_empty() {
        out.push_str("No unit has an account at another.\n");
    }
    out
}
