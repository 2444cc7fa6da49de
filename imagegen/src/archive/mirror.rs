//! Which mirror to ask, and which suites of it make up the release that we build from.

use std::path::Path;

use super::{ArchiveError, sources};

/// One of the two archives that Debian publishes a release in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// `.../debian`
    Main,
    /// `.../debian-security`
    Security,
}

/// A suite, and the archive that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite {
    /// The codename, as in `dists/NAME`.
    pub name: String,
    /// Where it is.
    pub area: Area,
}

impl Suite {
    /// Debian 13 with its updates and security fixes, in the order that apt would list them.
    pub fn trixie() -> Vec<Self> {
        let suite = |name: &str, area| Self {
            name: name.into(),
            area,
        };
        vec![
            suite("trixie", Area::Main),
            suite("trixie-updates", Area::Main),
            suite("trixie-security", Area::Security),
        ]
    }
}

/// The base addresses of both archives, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The address of `.../debian`.
    pub main: String,
    /// The address of `.../debian-security`.
    pub security: String,
}

impl Mirror {
    /// A mirror at `main` (`http://`, `https://` or `file://`), whose security archive is the sibling `debian-security`
    /// where `security` does not say otherwise.
    pub fn new(main: &str, security: Option<&str>) -> Self {
        let main = main.trim_end_matches('/').to_owned();
        let security = match security {
            Some(address) => address.trim_end_matches('/').to_owned(),
            None => sibling(&main),
        };
        Self { main, security }
    }

    /// The mirror named by `IMAGEGEN_MIRROR` and `IMAGEGEN_SECURITY_MIRROR`, else by the host's apt sources. The suites
    /// named there do not matter: a mirror carries them all.
    pub fn discover() -> Result<Self, ArchiveError> {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::choose(
            var("IMAGEGEN_MIRROR").as_deref(),
            var("IMAGEGEN_SECURITY_MIRROR").as_deref(),
            Path::new("/etc/apt"),
        )
    }

    /// As [`Mirror::discover`], with its inputs given.
    pub fn choose(main: Option<&str>, security: Option<&str>, etc_apt: &Path) -> Result<Self, ArchiveError> {
        let web = |uri: &String| uri.starts_with("http://") || uri.starts_with("https://");
        let listed: Vec<String> = sources::uris(etc_apt).into_iter().filter(web).collect();
        let find = |name| listed.iter().find(|uri| is_archive(uri, name)).map(String::as_str);
        match main.or_else(|| find("debian")) {
            // A mirror that the caller names comes with its own sibling, not with the host's security mirror.
            Some(address) if main.is_some() => Ok(Self::new(address, security)),
            Some(address) => Ok(Self::new(address, security.or_else(|| find("debian-security")))),
            None => Err(ArchiveError::NoMirror { looked: etc_apt.into() }),
        }
    }

    /// The base address of one archive.
    pub fn base(&self, area: Area) -> &str {
        match area {
            Area::Main => &self.main,
            Area::Security => &self.security,
        }
    }
}

/// The path of `uri` ends in `name`, or in `name` and the time stamp of a snapshot.
fn is_archive(uri: &str, name: &str) -> bool {
    let mut segments = uri.trim_end_matches('/').rsplit('/');
    let last = segments.next().unwrap_or_default();
    let stamp = last.len() == 16 && last.as_bytes()[8] == b'T' && last.ends_with('Z');
    last == name || (stamp && segments.next() == Some(name))
}

fn sibling(main: &str) -> String {
    match main.rsplit_once("/debian") {
        Some((before, after)) if after.is_empty() || after.starts_with('/') => {
            format!("{before}/debian-security{after}")
        }
        _ => match main.rsplit_once('/') {
            Some((before, _)) => format!("{before}/debian-security"),
            None => main.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_address_wins_and_brings_its_sibling() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("sources.list"),
            "deb http://h.example/debian x main\ndeb http://h.example/sec/debian-security x main\n",
        )
        .unwrap();
        let given = Mirror::choose(Some("file:///m/debian/"), None, folder.path()).unwrap();
        assert_eq!(
            given,
            Mirror {
                main: "file:///m/debian".into(),
                security: "file:///m/debian-security".into()
            }
        );
        let host = Mirror::choose(None, None, folder.path()).unwrap();
        assert_eq!(host.security, "http://h.example/sec/debian-security");
        let mixed = Mirror::choose(
            Some("http://a.example/debian"),
            Some("http://b.example/s/"),
            folder.path(),
        )
        .unwrap();
        assert_eq!(mixed.security, "http://b.example/s");
    }

    #[test]
    fn other_archives_are_passed_over_and_none_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("sources.list"),
            "deb https://x.example/apt x main\ndeb cdrom:[d]/debian x main\n",
        )
        .unwrap();
        let error = Mirror::choose(None, None, folder.path()).unwrap_err();
        assert!(error.to_string().contains("IMAGEGEN_MIRROR"), "{error}");
        assert!(is_archive(
            "http://s.example/archive/debian/20250520T000000Z/",
            "debian"
        ));
        assert!(!is_archive("http://s.example/debian/extra", "debian"));
        assert_eq!(
            sibling("http://s.example/archive/debian/20250520T000000Z"),
            "http://s.example/archive/debian-security/20250520T000000Z"
        );
    }
}
