//! The wizard's answers, and the rules for them. What is answered is kept after each step, so that closing the browser loses nothing.

use std::collections::BTreeSet;

use cairn_api::{NetworkChoices, Part};
use serde::{Deserialize, Serialize};

/// How far the setup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Answers are being given.
    #[default]
    Open,
    /// The manager was told, and has not answered yet.
    Applying,
    /// The manager has accepted it.
    Done,
}

/// The owner's account, as it will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Admin {
    pub(crate) name: String,
    /// As argon2 writes it.
    pub(crate) password: String,
}

/// The answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Wizard {
    pub(crate) phase: Phase,
    /// The browser that is at work: what is kept of its cookie.
    pub(crate) holder: Option<String>,
    /// The one from which it took over.
    pub(crate) previous: Option<String>,
    /// One that gave the right code and may take over.
    pub(crate) claimant: Option<String>,
    /// When the holder was seen last.
    pub(crate) seen: i64,
    pub(crate) code: String,
    pub(crate) name: Option<String>,
    pub(crate) domain: Option<String>,
    /// The outside network; empty: as DHCP has it.
    pub(crate) network: NetworkChoices,
    /// Whether it was decided about.
    pub(crate) network_decided: bool,
    pub(crate) admin: Option<Admin>,
    /// An authenticator's secret that is shown and not confirmed yet.
    pub(crate) totp_shown: Option<String>,
    pub(crate) totp: Option<String>,
    /// Whether it was decided about.
    pub(crate) totp_decided: bool,
    pub(crate) units: Option<Vec<String>>,
    /// Whether the manager was told at least once.
    pub(crate) sent: bool,
    /// The recovery key, until the owner says that it is saved.
    pub(crate) recovery: Option<String>,
}

/// The steps with a form, in their order.
pub(crate) const STEPS: [&str; 7] = ["code", "name", "network", "admin", "totp", "parts", "summary"];

impl Wizard {
    /// Whether a step is answered.
    fn answered(&self, step: &str) -> bool {
        match step {
            "code" => self.holder.is_some(),
            "name" => self.name.is_some(),
            "network" => self.network_decided,
            "admin" => self.admin.is_some(),
            "totp" => self.totp_decided,
            "parts" => self.units.is_some(),
            _ => false,
        }
    }

    /// The first step that is not answered.
    pub(crate) fn next(&self) -> &'static str {
        STEPS.into_iter().find(|step| !self.answered(step)).unwrap_or("summary")
    }

    /// Whether a step can be shown: all before it are answered.
    pub(crate) fn reachable(&self, step: &str) -> bool {
        STEPS
            .into_iter()
            .take_while(|other| *other != step)
            // Who says nothing of the network keeps it as it is.
            .all(|other| other == "network" || self.answered(other))
    }
}

/// A host name: one label of RFC 1123. Gives the key of the sentence that says what is wrong.
pub(crate) fn host_name(text: &str) -> Result<String, &'static str> {
    let name = text.trim();
    match name {
        "" => Err("wrong.name-empty"),
        _ if name.chars().count() > 32 => Err("wrong.name-long"),
        _ if !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.ends_with('-') => Err("wrong.name-form"),
        _ if !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') =>
        {
            Err("wrong.name-form")
        }
        _ => Ok(name.to_owned()),
    }
}

/// A host name like what somebody wrote; empty if nothing comes of it.
pub(crate) fn suggested(text: &str) -> String {
    let mut out = String::new();
    for c in text.trim().to_lowercase().chars() {
        match c {
            'ä' => out.push_str("ae"),
            'ö' => out.push_str("oe"),
            'ü' => out.push_str("ue"),
            'ß' => out.push_str("ss"),
            c if c.is_ascii_alphanumeric() => out.push(c),
            _ if !out.is_empty() && !out.ends_with('-') => out.push('-'),
            _ => {}
        }
    }
    let name: String = out
        .trim_start_matches(|c: char| !c.is_ascii_lowercase())
        .chars()
        .take(32)
        .collect();
    name.trim_end_matches('-').to_owned()
}

/// A domain in ASCII, from one in any script (IDNA 2008 by UTS 46); nothing from nothing.
pub(crate) fn domain(text: &str) -> Result<Option<String>, &'static str> {
    let text = text.trim().trim_end_matches('.');
    if text.is_empty() {
        return Ok(None);
    }
    if text.chars().count() > 253 {
        return Err("wrong.domain-long");
    }
    let ascii = idna::domain_to_ascii_strict(text).map_err(|_| "wrong.domain-form")?;
    let last_is_number = ascii
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    match ascii.contains('.') && ascii.len() <= 253 && !last_is_number {
        true => Ok(Some(ascii)),
        false => Err("wrong.domain-form"),
    }
}

/// The name of an account: what people write, of one line.
pub(crate) fn account_name(text: &str) -> Result<String, &'static str> {
    let name = text.trim();
    match name {
        "" => Err("wrong.account-empty"),
        _ if name.chars().count() > 64 => Err("wrong.account-long"),
        _ if name.chars().any(char::is_control) => Err("wrong.account-form"),
        _ => Ok(name.to_owned()),
    }
}

/// Whether a password can be taken. Any character counts; only what is easily guessed, or absurdly long, is refused.
pub(crate) fn password(text: &str, again: &str, others: &[&str]) -> Result<(), &'static str> {
    match text {
        _ if text.chars().count() < 8 => Err("wrong.password-short"),
        _ if text.len() > 1024 => Err("wrong.password-long"),
        _ if text != again => Err("wrong.password-again"),
        _ if crate::secret::strength(text, others) < 3 => Err("wrong.password-weak"),
        _ => Ok(()),
    }
}

/// What runs if these are chosen: they, what cannot be left out, and what they need; by name.
pub(crate) fn chosen(parts: &[Part], wanted: &[String]) -> Vec<String> {
    let required = parts.iter().filter(|part| part.required).map(|part| &part.unit);
    let mut open: Vec<&String> = wanted.iter().chain(required).collect();
    let mut all = BTreeSet::new();
    while let Some(name) = open.pop() {
        if let Some(part) = parts.iter().find(|part| part.unit == *name)
            && all.insert(name.clone())
        {
            open.extend(&part.needs);
        }
    }
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_host_names() {
        assert_eq!(host_name(" web-1 "), Ok("web-1".into()));
        for (name, wrong) in [
            ("", "wrong.name-empty"),
            ("Büro", "wrong.name-form"),
            ("-a", "wrong.name-form"),
            ("a-", "wrong.name-form"),
            ("1a", "wrong.name-form"),
            (&"a".repeat(300), "wrong.name-long"),
        ] {
            assert_eq!(host_name(name), Err(wrong), "{name}");
        }
        for (text, name) in [
            ("Mein Büro!", "mein-buero"),
            ("7 Zwerge", "zwerge"),
            ("🐄", ""),
            (&"ä".repeat(300), &"ae".repeat(16)),
        ] {
            assert_eq!(suggested(text), name);
        }
    }

    #[test]
    fn domains_may_have_umlauts_and_become_ascii() {
        assert_eq!(domain(""), Ok(None));
        assert_eq!(domain("Müller.example."), Ok(Some("xn--mller-kva.example".into())));
        assert_eq!(
            domain("Büro.Straße.example"),
            Ok(Some("xn--bro-hoa.xn--strae-oqa.example".into()))
        );
        for wrong in [
            "localhost",
            "192.168.1.2",
            "a..b",
            "-a.example",
            "a b.example",
            "a_b.example",
            "xn--a.example",
        ] {
            assert_eq!(domain(wrong), Err("wrong.domain-form"), "{wrong}");
        }
        assert_eq!(domain(&"a.".repeat(200)), Err("wrong.domain-long"));
    }

    #[test]
    fn passwords_are_refused_for_being_guessed_and_not_for_their_characters() {
        let every: String = (' '..='~').chain("äß€🐄👩‍🚀".chars()).collect();
        assert_eq!(password(&every, &every, &[]), Ok(()));
        assert_eq!(password("passwort1", "passwort1", &[]), Err("wrong.password-weak"));
        assert_eq!(
            password("hildegard-von-b", "hildegard-von-b", &["hildegard-von-b"]),
            Err("wrong.password-weak")
        );
        assert_eq!(
            password("correct horse b", "correct horse", &[]),
            Err("wrong.password-again")
        );
        assert_eq!(password("a", "a", &[]), Err("wrong.password-short"));
        let long = "abcdefgh".repeat(1000);
        assert_eq!(password(&long, &long, &[]), Err("wrong.password-long"));
    }

    #[test]
    fn what_is_chosen_brings_what_it_needs() {
        let part = |unit: &str, needs: &[&str], required| Part {
            unit: unit.into(),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            required,
            ..Part::default()
        };
        let parts = [
            part("wiki", &["db"], false),
            part("db", &["disk"], false),
            part("disk", &["db"], false),
            part("web", &[], true),
        ];
        assert_eq!(
            chosen(&parts, &["wiki".into(), "no-such".into()]),
            ["db", "disk", "web", "wiki"]
        );
        assert_eq!(chosen(&parts, &[]), ["web"]);
    }

    #[test]
    fn a_step_waits_for_those_before_it() {
        let mut wizard = Wizard::default();
        assert_eq!((wizard.next(), wizard.reachable("name")), ("code", false));
        wizard.holder = Some("a".into());
        assert_eq!(
            (wizard.next(), wizard.reachable("name"), wizard.reachable("admin")),
            ("name", true, false)
        );
        wizard.name = Some("web".into());
        wizard.units = Some(Vec::new());
        assert_eq!((wizard.next(), wizard.reachable("admin")), ("network", true));
        wizard.network_decided = true;
        assert_eq!((wizard.next(), wizard.reachable("summary")), ("admin", false));
    }
}
