//! The same commands from another machine: `cairn --remote NAME ...` asks the panel's API with a token, over TLS that is checked.
//!
//! An appliance's certificate comes from its own authority, as a rule. Its certificate is taken over once, when the owner has compared its
//! fingerprint with the page Trust or the console; from then on nothing else is believed. One that the operating system trusts needs no such thing.

use std::fs;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

use crate::logs::Logs;
use crate::{Cli, Outcome, Refused, ask, put, shown};

/// The panel's port where an address names none (`units/panel.toml`).
const PORT: u16 = 8443;
/// Where the panel gives its authority's certificate to whoever asks.
const AUTHORITY: &str = "/trust/cairn-ca.crt";
/// The most that is read of an answer, in bytes.
const MOST: u64 = 64 << 20;

/// What can be done with the appliances that are known here.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Know an appliance by a name. The token comes from the panel's page Tokens, and is asked for or read from the standard input.
    Add {
        /// The name to know it by here.
        name: String,
        /// Its address, like https://box.example:8443.
        address: String,
        /// The SHA-256 fingerprint of its authority, as its page Trust shows it, so that nothing is asked.
        #[arg(long, value_name = "HEX")]
        fingerprint: Option<String>,
    },
    /// List them.
    List,
    /// Forget one, with its token.
    Remove {
        /// Its name.
        name: String,
    },
}

/// An appliance that is known here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Remote {
    /// `https://HOST:PORT`.
    address: String,
    /// The API token.
    token: String,
    /// The one certificate that may sign its certificate (PEM); without it the operating system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
}

fn failed(what: &str, path: &Path) -> impl Fn(std::io::Error) -> Refused {
    move |e| Refused(format!("cannot {what} {}: {e}", path.display()), 1)
}

/// Where they are kept: a file for each, which nobody else may read.
fn folder() -> Outcome<PathBuf> {
    let of = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let config = of("XDG_CONFIG_HOME").or_else(|| Some(of("HOME")?.join(".config")));
    let config = config.ok_or_else(|| Refused("neither XDG_CONFIG_HOME nor HOME is set".into(), 1))?;
    Ok(config.join("cairn/remotes"))
}

fn file(name: &str) -> Outcome<PathBuf> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if name.is_empty() || !name.bytes().all(fine) {
        return Err(Refused(
            format!("`{name}` is no name for an appliance: letters, digits, - and _"),
            2,
        ));
    }
    Ok(folder()?.join(format!("{name}.toml")))
}

impl Remote {
    fn load(name: &str) -> Outcome<Self> {
        let path = file(name)?;
        let text = fs::read_to_string(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Refused(
                format!("no appliance `{name}` is known here; `cairn remote add {name} https://...` makes it known"),
                1,
            ),
            _ => failed("read", &path)(e),
        })?;
        toml::from_str(&text).map_err(|e| Refused(format!("{}: {}", path.display(), e.message()), 1))
    }

    fn save(&self, name: &str) -> Outcome<()> {
        let (path, folder) = (file(name)?, folder()?);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(failed("make", &folder))?;
        let text = toml::to_string(self).map_err(|e| Refused(e.to_string(), 1))?;
        let new = path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
        let written = opened.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        written
            .and_then(|()| fs::rename(&new, &path))
            .map_err(failed("write", &path))
    }

    fn agent(&self, tls: TlsConfig) -> ureq::Agent {
        ureq::Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .timeout_global(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .into()
    }

    fn tls(&self) -> Outcome<TlsConfig> {
        let roots = match &self.authority {
            None => RootCerts::PlatformVerifier,
            Some(pem) => {
                let certificate = Certificate::from_pem(pem.as_bytes())
                    .map_err(|e| Refused(format!("the authority's certificate is not understood: {e}"), 1))?;
                RootCerts::new_with_certs(&[certificate])
            }
        };
        Ok(TlsConfig::builder().root_certs(roots).build())
    }

    /// Asks; the status and the answer's body.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &[u8]) -> Outcome<(u16, Vec<u8>)> {
        let url = format!("{}{}", self.address, offered(path));
        let agent = self.agent(self.tls()?);
        let bearer = format!("Bearer {}", self.token);
        let answer = match method {
            "GET" => agent.get(&url).header("authorization", &bearer).call(),
            _ => agent
                .post(&url)
                .header("authorization", &bearer)
                .content_type("application/json")
                .send(body),
        };
        let silent = |e: ureq::Error| Refused(format!("{} does not answer: {}", self.address, told(&e)), 4);
        let mut answer = answer.map_err(silent)?;
        let content = answer.body_mut().with_config().limit(MOST).read_to_vec();
        Ok((answer.status().as_u16(), content.map_err(silent)?))
    }
}

/// What went wrong, without what only a programmer understands.
fn told(error: &ureq::Error) -> String {
    let text = error.to_string();
    match text.contains("certificate") || text.contains("Certificate") {
        true => format!("its certificate is not one to believe ({text})"),
        false => text,
    }
}

/// Where the panel offers what the manager has at this path.
fn offered(path: &str) -> String {
    let path = path.strip_suffix("/explain").unwrap_or(path);
    format!("/api{path}")
}

/// Whether that is what the panel answers where it offers nothing, and not the manager's word about a unit that there is not.
pub(crate) fn is_nothing(body: &[u8]) -> bool {
    let problem = serde_json::from_slice::<cairn_api::Problem>(body);
    problem.map_or(true, |problem| problem.error.starts_with("there is nothing here"))
}

/// The address without its end, and with a port.
fn address(text: &str) -> Outcome<String> {
    let wrong = |why: &str| Refused(format!("`{text}` {why}; write it like https://box.example:{PORT}"), 2);
    let rest = text
        .strip_prefix("https://")
        .ok_or_else(|| wrong("does not begin with https://"))?;
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if host.is_empty()
        || !host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-.:[]_".contains(&b))
    {
        return Err(wrong("is not only a host and a port"));
    }
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    Ok(match after.contains(':') {
        true => format!("https://{host}"),
        false => format!("https://{host}:{PORT}"),
    })
}

/// The SHA-256 of a certificate, in pairs of capital digits, as the page Trust shows it.
fn fingerprint(der: &[u8]) -> String {
    let pairs: Vec<String> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

fn same(one: &str, other: &str) -> bool {
    let digits = |text: &str| -> String {
        let all = text.chars().filter(char::is_ascii_hexdigit);
        all.map(|c| c.to_ascii_uppercase()).collect()
    };
    digits(one) == digits(other)
}

/// Shows another machine's logs.
pub(crate) fn logs(cli: &Cli, logs: &Logs) -> Outcome<()> {
    #[derive(Serialize, Deserialize)]
    struct Told {
        text: String,
    }
    let path = logs.remote_path().map_err(|why| Refused(why, 2))?;
    shown::<Told>(cli, ask(cli, "GET", &path)?, |told| told.text.clone()).map(drop)
}

/// The command.
pub(crate) fn run(cli: &Cli, command: &Command) -> Outcome<()> {
    if cli.remote.is_some() {
        return Err(Refused(
            "`cairn remote` is about this machine: leave out --remote".into(),
            2,
        ));
    }
    match command {
        Command::Add {
            name,
            address: text,
            fingerprint: known,
        } => add(name, text, known.as_deref()),
        Command::List => list(cli),
        Command::Remove { name } => {
            let path = file(name)?;
            fs::remove_file(&path).map_err(failed("remove", &path))
        }
    }
}

fn list(cli: &Cli) -> Outcome<()> {
    let folder = folder()?;
    let mut names: Vec<String> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
        .collect();
    names.sort();
    let mut all = Vec::new();
    for name in names {
        let address = Remote::load(&name)?.address;
        all.push(serde_json::json!({ "name": name, "address": address }));
        if !cli.json {
            put(&format!("{name}\t{address}\n"));
        }
    }
    if cli.json {
        put(&format!("{}\n", serde_json::Value::Array(all)));
    }
    Ok(())
}

fn add(name: &str, text: &str, known: Option<&str>) -> Outcome<()> {
    let path = file(name)?;
    if path.exists() {
        return Err(Refused(
            format!("an appliance `{name}` is known already; `cairn remote remove {name}` forgets it"),
            1,
        ));
    }
    let mut remote = Remote {
        address: address(text)?,
        token: token()?,
        authority: None,
    };
    // Whoever the operating system trusts needs nobody to compare anything; a fingerprint that was given is to be looked at.
    let trusted = known.is_none() && remote.ask("GET", AUTHORITY, &[]).is_ok();
    if !trusted {
        remote.authority = Some(authority(&remote, known)?);
    }
    let (status, _) = remote.ask("GET", "/v1/status", &[])?;
    match status {
        200 => remote.save(name),
        401 | 403 => Err(Refused(
            "the appliance does not take the token: make one on its page Tokens".into(),
            1,
        )),
        other => Err(Refused(
            format!("{} answers with {other}; is it an appliance?", remote.address),
            1,
        )),
    }
}

/// The authority's certificate, once its fingerprint was compared.
fn authority(remote: &Remote, known: Option<&str>) -> Outcome<String> {
    // Nobody is believed for this: what comes is a question to the owner.
    let agent = remote.agent(TlsConfig::builder().disable_verification(true).build());
    let silent = |e: ureq::Error| Refused(format!("{} does not answer: {e}", remote.address), 4);
    let mut answer = agent
        .get(format!("{}{AUTHORITY}", remote.address))
        .call()
        .map_err(silent)?;
    let pem = answer
        .body_mut()
        .with_config()
        .limit(1 << 16)
        .read_to_string()
        .map_err(silent)?;
    let none = || {
        Refused(
            format!(
                "{} gives no authority's certificate; is it an appliance?",
                remote.address
            ),
            1,
        )
    };
    let item = ureq::tls::parse_pem(pem.as_bytes())
        .find_map(Result::ok)
        .ok_or_else(none)?;
    let PemItem::Certificate(certificate) = item else {
        return Err(none());
    };
    let print = fingerprint(certificate.der());
    match known {
        Some(known) if same(known, &print) => Ok(pem),
        Some(_) => Err(Refused(
            format!(
                "the authority of {} has another fingerprint: {print}. Somebody may be between",
                remote.address
            ),
            1,
        )),
        None if asked(&remote.address, &print)? => Ok(pem),
        None => Err(Refused("nothing was kept".into(), 1)),
    }
}

/// Whether the owner says that it is this one.
fn asked(address: &str, print: &str) -> Outcome<bool> {
    if !std::io::stdin().is_terminal() {
        let why = format!(
            "the authority of {address} has the fingerprint {print}; say `--fingerprint` where nobody can be asked"
        );
        return Err(Refused(why, 2));
    }
    let question = format!(
        "{address} has an authority of its own, with the SHA-256 fingerprint\n  {print}\nIs that what its page Trust shows? Type yes: "
    );
    Ok(typed(&question)?.trim() == "yes")
}

fn typed(question: &str) -> Outcome<String> {
    let failed = |error: std::io::Error| Refused(format!("cannot ask: {error}"), 1);
    let mut err = std::io::stderr();
    write!(err, "{question}").and_then(|()| err.flush()).map_err(failed)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok(line)
}

/// The token, which stands on no command line. Nothing of it is seen while it is typed.
fn token() -> Outcome<String> {
    let stdin = std::io::stdin();
    let token = if stdin.is_terminal() {
        let before = tcgetattr(&stdin).ok();
        if let Some(mut quiet) = before.clone() {
            quiet.local_modes.remove(LocalModes::ECHO);
            let _ = tcsetattr(&stdin, OptionalActions::Flush, &quiet);
        }
        let line = typed("Token: ");
        if let Some(before) = before {
            let _ = tcsetattr(&stdin, OptionalActions::Flush, &before);
            eprintln!();
        }
        line?
    } else {
        let mut line = String::new();
        stdin
            .lock()
            .read_line(&mut line)
            .map_err(|e| Refused(format!("cannot read the token: {e}"), 1))?;
        line
    };
    match token.trim() {
        "" => Err(Refused(
            "there is no token: the appliance's page Tokens makes one".into(),
            2,
        )),
        token if token.bytes().all(|b| b.is_ascii_graphic()) => Ok(token.to_owned()),
        _ => Err(Refused(
            "that is no token: it has letters, digits and signs only".into(),
            2,
        )),
    }
}

/// The appliance that a command is for, by the option or by `CAIRN_REMOTE`.
pub(crate) fn chosen(cli: &Cli) -> Outcome<Option<Remote>> {
    let variable = std::env::var("CAIRN_REMOTE").ok().filter(|name| !name.is_empty());
    cli.remote
        .as_ref()
        .or(variable.as_ref())
        .map(|name| Remote::load(name))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_and_nothing_else() {
        for (text, whole) in [
            ("https://box.example", "https://box.example:8443"),
            ("https://box.example/", "https://box.example:8443"),
            ("https://box.example:443", "https://box.example:443"),
            ("https://[fd00::1]", "https://[fd00::1]:8443"),
            ("https://[fd00::1]:1", "https://[fd00::1]:1"),
        ] {
            assert_eq!(address(text).ok().as_deref(), Some(whole), "{text}");
        }
        for text in [
            "http://box",
            "box",
            "https://",
            "https://box/path",
            "https://a@b",
            "https://b?c",
        ] {
            let Err(Refused(why, 2)) = address(text) else {
                panic!("{text}")
            };
            assert!(why.contains("https://"), "{why}");
        }
    }

    #[test]
    fn what_the_manager_has_is_asked_of_the_panel() {
        assert_eq!(offered("/v1/units/web/explain"), "/api/v1/units/web");
        assert_eq!(offered("/v1/site/diff?from=1"), "/api/v1/site/diff?from=1");
    }

    #[test]
    fn fingerprints_are_compared_by_their_digits() {
        let print = fingerprint(b"abc");
        assert!(print.starts_with("BA:78:16:BF"), "{print}");
        assert!(same(&print, &print.to_lowercase().replace(':', "")));
        assert!(!same(&print, &print.replace("BA", "BB")));
    }

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["", "a/b", "..", "a b"] {
            assert!(file(name).is_err(), "{name}");
        }
    }
}
