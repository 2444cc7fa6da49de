//! What somebody who helps needs to see, in one file: how the appliance is, and the ends of the logs. Secrets are taken out: those that the
//! panel knows, wherever they stand, and whatever looks like one.

use cairn_api::Status;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header;
use regex::{Captures, Regex};
use serde_json::Value;

use crate::app::App;
use crate::control::encode;
use crate::diagnosis;
use crate::http::Response;
use crate::store::StoreError;
use crate::words::Lang;

/// So many lines of each log.
const LINES: u32 = 300;
/// The most of each log, in bytes.
const LOG_MAX: usize = 256 << 10;
const GONE: &str = "[taken out]";

/// What is taken out of a text.
struct Scrubber {
    known: Vec<String>,
    forms: Vec<Regex>,
}

impl Scrubber {
    fn new(mut known: Vec<String>) -> Result<Scrubber, regex::Error> {
        // A longer one may hold a shorter one. What is very short is no secret and would be found in any word.
        known.retain(|secret| secret.len() >= 6);
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let forms = [
            r"(?s)()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
            // A value with a telling name, as in `password=x`, `"token": "x"`, `Authorization: Bearer x`.
            r#"(?i)((?:pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key|private[-_]?key|authorization|cookie|credential)s?["']?\s*[:=]\s*(?:(?:bearer|basic)\s+)?)(?:"[^"]*"|'[^']*'|[^\s,;&"']+)"#,
            // The password of an address.
            r"([a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@/]+@",
            r"()cairn_[A-Za-z0-9_-]{43}",
            // Codes for a password, and recovery keys.
            r"(?i)()\b[0-9a-hjkmnp-tv-z]{4}(?:-[0-9a-hjkmnp-tv-z]{4}){3}(?:(?:-[0-9a-hjkmnp-tv-z]{4}){4})?\b",
            // Hashes of passwords.
            r"()\$(?:argon2id?|argon2i|2[aby]|5|6|y)\$[^\s,;]+",
            r"()\{(?:S?SHA\d*|S?MD5|ARGON2|CRYPT|PBKDF2[^}]*)\}[^\s,;]+",
        ];
        let forms = forms.iter().map(|form| Regex::new(form)).collect::<Result<_, _>>()?;
        Ok(Scrubber { known, forms })
    }

    fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.known {
            text = text.replace(secret, GONE);
        }
        for form in &self.forms {
            let clean = form.replace_all(&text, |found: &Captures<'_>| {
                let end = if found[0].ends_with('@') { "@" } else { "" };
                format!("{}{GONE}{end}", &found[1])
            });
            text = clean.into_owned();
        }
        text
    }
}

impl Scrubber {
    /// An answer, as text; each of its texts is cleaned, so that it stays what it was.
    fn pretty(&self, mut value: Value) -> String {
        fn walk(scrubber: &Scrubber, value: &mut Value) {
            match value {
                Value::String(text) => *text = scrubber.clean(text),
                Value::Array(all) => all.iter_mut().for_each(|one| walk(scrubber, one)),
                Value::Object(all) => all.values_mut().for_each(|one| walk(scrubber, one)),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        walk(self, &mut value);
        serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
    }
}

/// The file, a `tar.gz`.
///
/// # Errors
/// If the store cannot say what is secret; then there is no file.
pub(crate) async fn make(app: &App) -> Result<Vec<u8>, StoreError> {
    let mut known = app.store.with(|db| db.secrets()).await?;
    known.extend(app.directory.secret());
    let scrubber = Scrubber::new(known).map_err(|_| StoreError::Broken)?;
    let facts = diagnosis::ask(app).await;
    let said: Vec<_> = diagnosis::diagnose(&facts)
        .iter()
        .map(|finding| finding.say(&app.view, Lang::En))
        .collect();
    let mut files = vec![
        ("README.txt".to_owned(), README.to_owned()),
        (
            "diagnosis.json".to_owned(),
            scrubber.pretty(serde_json::to_value(said).unwrap_or_default()),
        ),
    ];
    for name in ["status", "top", "graph", "certificates", "security", "boot"] {
        let text = match app.control.get::<Value>(&format!("/v1/{name}")).await {
            Ok(value) => scrubber.pretty(value),
            Err(error) => scrubber.clean(&format!("{error}\n")),
        };
        files.push((format!("{name}.json"), text));
    }
    let history = app.control.get::<Value>("/v1/site/history").await;
    files.push((
        "site-history.json".into(),
        history.map_or_else(|e| format!("{e}\n"), |value| scrubber.pretty(value)),
    ));
    let status: Option<Status> = facts.status;
    let versions = match &status {
        Some(status) => format!(
            "appliance {} {}\npanel {}\n",
            status.appliance,
            status.version,
            env!("CARGO_PKG_VERSION")
        ),
        None => format!("panel {}\n", env!("CARGO_PKG_VERSION")),
    };
    files.push(("versions.txt".into(), versions));
    for unit in status.iter().flat_map(|status| &status.units) {
        let path = format!("/v1/logs?unit={}&lines={LINES}&output=short", encode(&unit.name));
        let mut text = app
            .control
            .text(&path)
            .await
            .unwrap_or_else(|error| format!("{error}\n"));
        // The end counts; a character that is cut through goes.
        let mut from = text.len().saturating_sub(LOG_MAX);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text.drain(..from);
        files.push((format!("logs/{}.log", unit.name), text));
    }
    let packed = tokio::task::spawn_blocking(move || {
        let logs = files.iter_mut().filter(|(name, _)| name.starts_with("logs/"));
        logs.for_each(|(_, text)| *text = scrubber.clean(text));
        pack(files)
    })
    .await;
    packed.map_err(|_| StoreError::Broken)?.map_err(|_| StoreError::Broken)
}

/// The answer that is saved as a file.
pub(crate) fn response(file: Vec<u8>) -> Response {
    let name = "attachment; filename=\"cairn-support.tar.gz\"";
    Response::new(200, "application/gzip", file).with(header::CONTENT_DISPOSITION, name)
}

const README: &str = "How this appliance is, for somebody who helps: its state, what its own diagnosis says, and the ends of the logs.\n\
    Secrets were taken out where they were known or looked like one. Logs may still name people, addresses and what was done; look\n\
    through them before you hand this on.\n";

fn pack(files: Vec<(String, String)>) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(crate::store::now().try_into().unwrap_or(0));
        archive.append_data(&mut header, format!("cairn-support/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_taken_out_and_the_rest_stays() {
        let scrubber = Scrubber::new(vec!["JBSWY3DPEHPK3PXP".into(), "abc".into()]).unwrap();
        for (text, clean) in [
            (
                "login of ada: password=hunter2, from 10.0.0.1",
                "login of ada: password=[taken out], from 10.0.0.1",
            ),
            ("{\"token\": \"x y z\", \"a\": 1}", "{\"token\": [taken out], \"a\": 1}"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer [taken out]"),
            (
                "to postgresql://wiki:s3cr3t@db/wiki now",
                "to postgresql://wiki:[taken out]@db/wiki now",
            ),
            ("secret is JBSWY3DPEHPK3PXP", "secret is [taken out]"),
            ("hash $argon2id$v=19$m=1$abc$def end", "hash [taken out] end"),
            ("userPassword {SSHA}abcdef== end", "userPassword [taken out] end"),
            (
                "-----BEGIN EC PRIVATE KEY-----\nMIIB\n-----END EC PRIVATE KEY-----\nnext",
                "[taken out]\nnext",
            ),
            ("-----BEGIN PRIVATE KEY-----\nMIIB", "[taken out]"),
            (
                "the alphabet begins with abc; GET /passwords 200",
                "the alphabet begins with abc; GET /passwords 200",
            ),
        ] {
            assert_eq!(scrubber.clean(text), clean);
        }
        let token = format!("made cairn_{} just now", "a".repeat(43));
        assert_eq!(scrubber.clean(&token), "made [taken out] just now");
    }
}
