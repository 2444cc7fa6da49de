//! A service file's name, and the unit's.

use cairn_unit::Name;

/// The name of a systemd unit file in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileName {
    /// Without `.service`: `redis-server@` for a template.
    pub(crate) stem: String,
    /// What is in front of the `@`; the stem where there is none.
    pub(crate) prefix: String,
    /// What is behind it; empty for a template.
    pub(crate) instance: Option<String>,
}

impl FileName {
    /// Of a path.
    pub(crate) fn of(path: &str) -> FileName {
        let file = path.rsplit('/').next().unwrap_or(path);
        let stem = file.strip_suffix(".service").unwrap_or(file).to_owned();
        let (prefix, instance) = match stem.split_once('@') {
            Some((prefix, instance)) => (prefix.to_owned(), Some(instance.to_owned())),
            None => (stem.clone(), None),
        };
        FileName { stem, prefix, instance }
    }

    /// Whether its instances come later.
    pub(crate) fn is_template(&self) -> bool {
        self.instance.as_deref() == Some("")
    }

    /// The nearest name that Cairn takes. A template's ends with `@`; a file for one instance is a unit of its own.
    pub(crate) fn unit(&self) -> String {
        match self.is_template() {
            true => format!("{}@", plain(&self.prefix, 24)),
            false => plain(&self.stem, 32),
        }
    }
}

/// The nearest name that Cairn takes: lower case letters, digits and `-`, starting with a letter.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let part = plain_part(text, most);
    match part.starts_with(|c: char| c.is_ascii_lowercase()) {
        true => part,
        false => plain_part(&format!("unit-{part}"), most),
    }
}

fn plain_part(text: &str, most: usize) -> String {
    let mapped: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(most)
        .collect();
    mapped.trim_matches('-').to_owned()
}

/// The Cairn unit that a systemd service of this name would be, if its name can stay; the instance may be the marker of `%i`.
pub(crate) fn other_unit(stem: &str) -> Option<String> {
    stem.replace(crate::specifiers::INSTANCE, "x")
        .parse::<Name>()
        .ok()
        .map(|_| stem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cairn_does_not_take_becomes_the_nearest_one() {
        let unit = |file: &str| FileName::of(file).unit();
        assert_eq!(unit("/lib/systemd/system/ssh.service"), "ssh");
        assert_eq!(unit("php8.2-fpm.service"), "php8-2-fpm");
        assert_eq!(unit("e2scrub_all.service"), "e2scrub-all");
        assert_eq!(unit("redis-server@.service"), "redis-server@");
        assert_eq!(unit("worker@7.service"), "worker-7");
        assert_eq!(unit("3proxy.service"), "unit-3proxy");
        for file in [
            "a-very-long-name-that-nobody-would-ever-type-again.service",
            "_x_.service",
            "@.service",
        ] {
            let name = unit(file).replace("@", "@1");
            assert!(name.parse::<Name>().is_ok(), "{name}");
        }
    }
}
