//! The configuration file: TOML, checked as a whole before anything is done.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use cairn_config::pki::{AltName, Names};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// How a name is shown to be the owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Challenge {
    /// A page below `/.well-known/acme-challenge/` on port 80 (RFC 8555, 8.3).
    #[serde(rename = "http-01")]
    Http,
    /// A certificate for the protocol `acme-tls/1` on port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn,
    /// A record of the name's zone (RFC 8555, 8.4).
    #[serde(rename = "dns-01")]
    Dns,
}

impl Challenge {
    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Challenge::Http => "http-01",
            Challenge::TlsAlpn => "tls-alpn-01",
            Challenge::Dns => "dns-01",
        }
    }
}

/// A certificate that is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Its names.
    pub names: Names,
    /// How they are shown to be the owner's.
    pub challenge: Challenge,
}

/// An account that the authority knows already (RFC 8555, 7.3.4).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccount {
    /// The key's name, as the authority gave it.
    pub id: String,
    /// The file with the key, in base64url.
    pub key_file: PathBuf,
}

/// The name server that takes updates of the zone (RFC 2136), signed (RFC 8945).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// Its address.
    pub server: SocketAddr,
    /// The zone.
    pub zone: String,
    /// The name of the key.
    pub key: String,
    /// The key's algorithm: `hmac-sha256`, `hmac-sha384` or `hmac-sha512`.
    #[serde(default = "sha256")]
    pub algorithm: String,
    /// The file with the key, in base64.
    pub secret_file: PathBuf,
    /// Servers that must show a record before the authority is told of it; left out: the one that takes updates.
    #[serde(default)]
    pub check: Vec<SocketAddr>,
    /// How many seconds those have for that.
    #[serde(default = "two_minutes")]
    pub wait_seconds: u32,
}

fn sha256() -> String {
    "hmac-sha256".to_owned()
}

fn two_minutes() -> u32 {
    120
}

/// Where certificates go.
#[derive(Debug, Clone, PartialEq)]
pub enum Deliver {
    /// To the manager, by its control socket.
    Control(PathBuf),
    /// Into a folder, as `NAME.pem`.
    Folder(PathBuf),
}

/// What the program does.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The address of the authority's directory.
    pub directory: String,
    /// How the authority reaches the owner.
    pub contact: Vec<String>,
    /// The folder that outlives the program.
    pub state: PathBuf,
    /// A file with the roots that the authority's own server is checked by, in place of the system's.
    pub trust: Option<PathBuf>,
    /// An account that the authority knows already.
    pub external_account: Option<ExternalAccount>,
    /// The common name of the root that the chain is to lead to, where the authority offers more than one.
    pub chain: Option<String>,
    /// The kind of certificate, where the authority offers more than one.
    pub profile: Option<String>,
    /// Where certificates go.
    pub deliver: Deliver,
    /// Where `http-01` is answered.
    pub http: Option<SocketAddr>,
    /// Where `tls-alpn-01` is answered.
    pub tls_alpn: Option<SocketAddr>,
    /// Where `dns-01` is answered.
    pub dns: Option<Dns>,
    /// The certificates, by name.
    pub certificates: BTreeMap<String, Wanted>,
}

/// How long a validation may take before it is given up for now.
pub(crate) const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    directory: String,
    #[serde(default)]
    terms_agreed: bool,
    #[serde(default)]
    contact: Vec<String>,
    state: PathBuf,
    trust: Option<PathBuf>,
    external_account: Option<ExternalAccount>,
    chain: Option<String>,
    profile: Option<String>,
    deliver: FileDeliver,
    http: Option<Listen>,
    tls_alpn: Option<Listen>,
    dns: Option<Dns>,
    #[serde(default)]
    certificates: BTreeMap<String, FileWanted>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileDeliver {
    control: Option<PathBuf>,
    folder: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listen {
    listen: SocketAddr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileWanted {
    names: Vec<String>,
    challenge: Challenge,
}

impl Config {
    /// Parses the text of a configuration file.
    ///
    /// # Errors
    /// What is wrong with it, one sentence.
    pub fn parse(text: &str) -> Result<Config, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        if !file.directory.starts_with("https://") {
            return Err(format!(
                "`directory` is `{}`; it is an address that begins with https://",
                file.directory
            ));
        }
        if !file.terms_agreed && !file.certificates.is_empty() {
            return Err(
                "`terms_agreed` is not true; read the authority's terms of service, and set it if you agree".into(),
            );
        }
        if let Some(wrong) = file.contact.iter().find(|contact| !contact.starts_with("mailto:")) {
            return Err(format!(
                "`contact` has `{wrong}`; write it as mailto:admin@home.example"
            ));
        }
        let deliver = match (file.deliver.control, file.deliver.folder) {
            (Some(control), None) => Deliver::Control(control),
            (None, Some(folder)) => Deliver::Folder(folder),
            _ => return Err("[deliver] needs `control`, the manager's socket, or `folder`, and not both".into()),
        };
        let mut config = Config {
            directory: file.directory,
            contact: file.contact,
            state: file.state,
            trust: file.trust,
            external_account: file.external_account,
            chain: file.chain,
            profile: file.profile,
            deliver,
            http: file.http.map(|one| one.listen),
            tls_alpn: file.tls_alpn.map(|one| one.listen),
            dns: file.dns,
            certificates: BTreeMap::new(),
        };
        if let Some(dns) = &config.dns {
            crate::challenge::dns::check(dns)?;
        }
        for (of, wanted) in file.certificates {
            let wanted = config
                .wanted(&of, &wanted)
                .map_err(|why| format!("[certificates.{of}]: {why}"))?;
            config.certificates.insert(of, wanted);
        }
        Ok(config)
    }

    fn wanted(&self, of: &str, file: &FileWanted) -> Result<Wanted, String> {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if of.is_empty() || of.len() > 64 || !of.chars().all(fine) {
            return Err("its name is made of lower case letters, digits and `-`".into());
        }
        let names: Names = file
            .names
            .iter()
            .map(|name| name.parse())
            .collect::<Result<_, String>>()?;
        if names.is_empty() {
            return Err("`names` is empty".into());
        }
        let there = match file.challenge {
            Challenge::Http => self.http.is_some(),
            Challenge::TlsAlpn => self.tls_alpn.is_some(),
            Challenge::Dns => self.dns.is_some(),
        };
        let section = match file.challenge {
            Challenge::Http => "http",
            Challenge::TlsAlpn => "tls_alpn",
            Challenge::Dns => "dns",
        };
        if !there {
            return Err(format!(
                "its challenge is {}, so [{section}] is needed",
                file.challenge.name()
            ));
        }
        for name in &names {
            match (name, file.challenge) {
                (AltName::Dns(name), Challenge::Http | Challenge::TlsAlpn) if name.starts_with("*.") => {
                    return Err(format!("`{name}` can be shown by dns-01 only"));
                }
                (AltName::Dns(name), Challenge::Dns) => {
                    let zone = self.dns.as_ref().map_or("", |dns| dns.zone.trim_end_matches('.'));
                    let plain = name.strip_prefix("*.").unwrap_or(name);
                    if plain != zone && !plain.ends_with(&format!(".{zone}")) {
                        return Err(format!("`{name}` is not in the zone {zone} of [dns]"));
                    }
                }
                (AltName::Dns(name), _) if !name.contains('.') => {
                    return Err(format!("`{name}` has no dot, so no public authority issues for it"));
                }
                (AltName::Ip(address), Challenge::Dns | Challenge::TlsAlpn) => {
                    return Err(format!("{address} can be shown by http-01 only"));
                }
                _ => {}
            }
        }
        Ok(Wanted {
            names,
            challenge: file.challenge,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
directory = "https://ca.example/dir"
terms_agreed = true
contact = ["mailto:admin@home.example"]
state = "/var/lib/acme"
[deliver]
control = "/run/cairn/control.sock"
[http]
listen = "[::]:8402"
[dns]
server = "192.0.2.1:53"
zone = "home.example"
key = "acme"
secret_file = "/run/secrets/tsig"
[certificates.home]
names = ["home.example", "Mail.home.example"]
challenge = "http-01"
[certificates.all]
names = ["*.home.example"]
challenge = "dns-01"
"#;

    #[test]
    fn a_file_says_what_is_wanted_and_what_is_left_out_is_as_documented() {
        let config = Config::parse(GOOD).unwrap();
        assert_eq!(config.certificates.len(), 2);
        let home = &config.certificates["home"];
        let names: Vec<String> = home.names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["home.example", "mail.home.example"]);
        assert_eq!(home.challenge, Challenge::Http);
        let dns = config.dns.unwrap();
        assert_eq!((dns.algorithm.as_str(), dns.wait_seconds), ("hmac-sha256", 120));
    }

    #[test]
    fn who_has_not_agreed_to_the_terms_wants_no_certificate() {
        let (head, _) = GOOD.split_once("[certificates.home]").unwrap();
        let config = Config::parse(&head.replace("terms_agreed = true", "terms_agreed = false")).unwrap();
        assert!(config.certificates.is_empty());
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_sentence_before_anything_is_done() {
        for (from, to, why) in [
            (
                "https://ca",
                "http://ca",
                "`directory` is `http://ca.example/dir`; it is an address that begins with https://",
            ),
            (
                "terms_agreed = true",
                "",
                "`terms_agreed` is not true; read the authority's terms of service, and set it if you agree",
            ),
            (
                "mailto:",
                "",
                "`contact` has `admin@home.example`; write it as mailto:admin@home.example",
            ),
            (
                "control = ",
                "folder = \"/x\"\ncontrol = ",
                "[deliver] needs `control`, the manager's socket, or `folder`, and not both",
            ),
            (
                "[http]\nlisten = \"[::]:8402\"",
                "",
                "[certificates.home]: its challenge is http-01, so [http] is needed",
            ),
            (
                "\"home.example\", ",
                "\"*.home.example\", ",
                "[certificates.home]: `*.home.example` can be shown by dns-01 only",
            ),
            (
                "[\"*.home.example\"]",
                "[\"*.other.example\"]",
                "[certificates.all]: `*.other.example` is not in the zone home.example of [dns]",
            ),
            ("[\"*.home.example\"]", "[]", "[certificates.all]: `names` is empty"),
            (
                "[\"*.home.example\"]",
                "[\"10.0.0.1\"]",
                "[certificates.all]: 10.0.0.1 can be shown by http-01 only",
            ),
            (
                "certificates.home",
                "certificates.\"a/b\"",
                "[certificates.a/b]: its name is made of lower case letters, digits and `-`",
            ),
            (
                "key = \"acme\"",
                "key = \"acme\"\nalgorithm = \"md5\"",
                "[dns] `algorithm` is `md5`; it is hmac-sha256, hmac-sha384 or hmac-sha512",
            ),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            assert_eq!(Config::parse(&text), Err(why.to_owned()));
        }
        assert!(
            Config::parse(&format!("colour = 1\n{GOOD}"))
                .unwrap_err()
                .contains("unknown field `colour`")
        );
    }
}
