//! `cairn certificates`: the certificate authority and the units' certificates.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cairn_api::{Certificates, ImportCertificate, Imported};
use clap::Subcommand;

use crate::table::Paint;
use crate::{Cli, Outcome, Refused, ask, ask_with, client, parsed, put, shown};

/// What can be done with certificates.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List them; this is what the command does by itself.
    List,
    /// Print the authority's certificate, in PEM.
    Authority,
    /// Renew those that are due now instead of within ten minutes, for instance after the clock was set.
    Renew,
    /// Take a certificate that somebody else issued, in place of one for the same names. Units that are reached by one of its names
    /// show it to those outside.
    Import {
        /// A file with the chain in PEM, the service's own certificate first; `-` reads the standard input.
        file: PathBuf,
        /// A file with the private key in PEM, if that is not in the first.
        #[arg(long)]
        key: Option<PathBuf>,
    },
    /// Remove an imported certificate with its key.
    Remove {
        /// What it is called in the list.
        id: String,
    },
    /// Make another authority and every certificate anew. Whoever trusts the old one has to be told the new one.
    ReplaceAuthority,
}

/// Does it.
pub(crate) fn run(cli: &Cli, command: Option<&Command>, paint: Paint) -> Outcome<()> {
    match command {
        None | Some(Command::List) => {
            let answer = ask(cli, "GET", "/v1/certificates")?;
            shown::<Certificates>(cli, answer, |all| list(all, paint)).map(drop)
        }
        Some(Command::Authority) => {
            let all: Certificates = parsed(&ask(cli, "GET", "/v1/certificates")?)?;
            match all.authority {
                Some(authority) => put(&authority.pem),
                None => return Err(Refused("there is no authority; see `cairn certificates`".into(), 1)),
            }
            Ok(())
        }
        Some(Command::Renew) => ask(cli, "POST", "/v1/certificates/renew").map(drop),
        Some(Command::Import { file, key }) => {
            let mut pem = read(file)?;
            if let Some(key) = key {
                pem.push('\n');
                pem.push_str(&read(key)?);
            }
            let body = serde_json::to_vec(&ImportCertificate { pem }).map_err(|e| Refused(e.to_string(), 1))?;
            let answer = ask_with(cli, "POST", "/v1/certificates/imported", &body)?;
            shown::<Imported>(cli, answer, imported).map(drop)
        }
        Some(Command::Remove { id }) => {
            let path = format!("/v1/certificates/imported/remove?id={}", client::encode(id));
            ask(cli, "POST", &path).map(drop)
        }
        Some(Command::ReplaceAuthority) => ask(cli, "POST", "/v1/certificates/replace-authority").map(drop),
    }
}

fn read(file: &Path) -> Outcome<String> {
    let text = match file == Path::new("-") {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    text.map_err(|e| Refused(format!("cannot read {}: {e}", file.display()), 1))
}

/// An imported certificate, in a few lines.
fn imported(one: &Imported) -> String {
    let mut out = format!("{}\n", one.id);
    if !one.until.is_empty() {
        let _ = writeln!(
            out,
            "  for {}\n  until {}, issued by {}",
            one.names.join(", "),
            one.until,
            one.issuer
        );
    }
    if !one.used_by.is_empty() {
        let _ = writeln!(out, "  shown by {}", one.used_by.join(", "));
    }
    if let Some(why) = &one.unused {
        let _ = writeln!(out, "  not used: {why}");
    }
    out
}

/// The authority, and a line a certificate.
pub(crate) fn list(all: &Certificates, paint: Paint) -> String {
    let mut out = String::new();
    match &all.authority {
        Some(authority) => {
            let _ = writeln!(
                out,
                "{}\nfor {} and private addresses\nSHA-256 {}\n",
                paint.bold(&authority.name),
                authority.permitted.join(", "),
                authority.fingerprint
            );
        }
        None => out.push_str("There is no authority.\n\n"),
    }
    let name = |one: &cairn_api::Certificate| format!("{} {}", one.unit, one.secret);
    let width = all.certificates.iter().map(|one| name(one).len()).max().unwrap_or(0);
    for one in &all.certificates {
        let until = match one.until.is_empty() {
            true => "not issued yet",
            false => &one.until,
        };
        let _ = writeln!(out, "{:width$}  {until:20}  {}", name(one), one.names.join(", "));
        let foreign = all
            .authority
            .as_ref()
            .is_none_or(|authority| authority.name != one.issuer);
        if foreign && !one.issuer.is_empty() {
            let _ = writeln!(out, "{:width$}  issued by {}", "", one.issuer);
        }
        if let Some(id) = &one.imported {
            let _ = writeln!(out, "{:width$}  outside, {id} is shown", "");
        }
        if let Some(due) = one.due.as_ref().filter(|_| !one.until.is_empty()) {
            let _ = writeln!(out, "{:width$}  {due}", "");
        }
    }
    if all.certificates.is_empty() {
        out.push_str("No unit has a certificate.\n");
    }
    if !all.imported.is_empty() {
        out.push_str("\nImported:\n");
        all.imported.iter().for_each(|one| out.push_str(&imported(one)));
    }
    for error in &all.errors {
        let _ = writeln!(out, "\n{error}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_api::{Authority, Certificate};

    #[test]
    fn what_there_is_what_is_due_and_what_is_wrong_is_listed() {
        let one = |unit: &str, until: &str, due: Option<&str>| Certificate {
            unit: unit.into(),
            secret: "tls".into(),
            names: vec![format!("{unit}.box.internal")],
            issuer: if until.is_empty() {
                ""
            } else {
                "Cairn authority of box (00)"
            }
            .into(),
            from: String::new(),
            until: until.into(),
            due: due.map(str::to_owned),
            imported: (unit == "web").then(|| "home.example-00".to_owned()),
        };
        let all = Certificates {
            authority: Some(Authority {
                name: "Cairn authority of box (00)".into(),
                fingerprint: "AB:CD".into(),
                permitted: vec!["box.internal".into(), "box.local".into()],
                pem: String::new(),
            }),
            certificates: vec![
                one("db", "", Some("issue db.tls")),
                one("web", "2026-03-31T12:00:00Z", Some("renew web.tls")),
            ],
            imported: vec![
                Imported {
                    id: "home.example-00".into(),
                    names: vec!["*.home.example".into(), "home.example".into()],
                    issuer: "E7".into(),
                    from: String::new(),
                    until: "2026-04-30T12:00:00Z".into(),
                    used_by: vec!["web".into()],
                    unused: None,
                },
                Imported {
                    id: "old.example-00".into(),
                    names: Vec::new(),
                    issuer: String::new(),
                    from: String::new(),
                    until: String::new(),
                    used_by: Vec::new(),
                    unused: Some("it is damaged".into()),
                },
            ],
            errors: vec!["The disk is full.".into()],
        };
        assert_eq!(
            list(&all, Paint(false)),
            "Cairn authority of box (00)\nfor box.internal, box.local and private addresses\nSHA-256 AB:CD\n\n\
             db tls   not issued yet        db.box.internal\n\
             web tls  2026-03-31T12:00:00Z  web.box.internal\n         outside, home.example-00 is shown\n         renew web.tls\n\nImported:\n\
             home.example-00\n  for *.home.example, home.example\n  until 2026-04-30T12:00:00Z, issued by E7\n  shown by web\n\
             old.example-00\n  not used: it is damaged\n\nThe disk is full.\n"
        );
    }
}
