//! The first choices without a person at the wizard: `setup.toml`, found at the first start.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::manifest::Manifest;
use crate::outside::SiteNetwork;
use crate::policy::SiteUpgrade;
use crate::problem::{Problems, Source};
use crate::site::{Site, SiteAppliance, SiteUnit};
use crate::values::Name;

/// The longest text of first choices, in bytes.
pub const FIRST_MAX: u64 = 64 << 10;

/// The first choices: a site, and who may look after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct First {
    /// The appliance as a whole.
    pub appliance: SiteAppliance,
    /// Who looks after it.
    pub administrator: Administrator,
    /// When later versions are installed, if not as the appliance was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<SiteUpgrade>,
    /// The outside network, if it is not to be as DHCP has it.
    #[serde(default, skip_serializing_if = "SiteNetwork::is_empty")]
    pub network: SiteNetwork,
    /// Choices for single units, by name. A unit that is not named runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<Name, SiteUnit>,
}

/// The owner's account.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Administrator {
    /// Its name, by which the owner logs in.
    pub name: String,
    /// Its password. Whoever reads the file knows it then: `password_hash` is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The password's Argon2id hash, in the form that `argon2 SALT -id -e` writes (PHC string format).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
}

// A password is in no log.
impl std::fmt::Debug for Administrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Administrator")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Administrator {
    /// How many characters a password has at least.
    pub const LEAST: usize = 12;
}

impl First {
    /// Parses first choices and checks them against the appliance that they are for.
    ///
    /// # Errors
    /// Everything that is wrong, with its place.
    pub fn parse(source: &Source, manifest: &Manifest) -> Result<First, Problems> {
        let first: First = source.parse()?;
        let mut found = Problems::default();
        let mut refuse = |key: &str, message: &str, help: &str| {
            let at = ["administrator", key];
            found
                .0
                .push(source.problem_at(&at, message.to_owned(), Some(help.to_owned())));
        };
        let owner = &first.administrator;
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if !(1..=32).contains(&owner.name.len())
            || !owner.name.chars().all(fine)
            || !owner.name.starts_with(|c: char| c.is_ascii_lowercase())
        {
            let help = "lower case letters, digits, `.`, `_` and `-`, beginning with a letter, at most 32";
            refuse("name", "nobody can be called so", help);
        }
        match (&owner.password, &owner.password_hash) {
            (None, None) => refuse(
                "password_hash",
                "the administrator has no password",
                "add `password_hash`",
            ),
            (Some(_), Some(_)) => refuse("password", "there are a password and a hash", "leave one of them out"),
            (Some(password), None) if password.chars().count() < Administrator::LEAST => {
                refuse("password", "the password is too short", "it has at least 12 characters");
            }
            (None, Some(hash)) if !hash.starts_with("$argon2id$") || hash.split('$').count() != 6 => {
                let help = "it looks like `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`";
                refuse("password_hash", "this is no Argon2id hash", help);
            }
            _ => {}
        }
        if let Err(problems) = first.site().checked(source, manifest) {
            found.0.extend(problems.0);
        }
        found.or(first)
    }

    /// The part that is the site.
    pub fn site(&self) -> Site {
        Site {
            appliance: Some(self.appliance.clone()),
            upgrade: self.upgrade.clone(),
            network: self.network.clone(),
            units: self.units.clone(),
            only: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<First, Vec<String>> {
        let manifest = serde_json::json!({"name": "box", "version": "1", "description": "x", "built": 0, "units": {
            "web": {"unit": {"description": "x", "service": {"command": ["/x"]}}, "root": "/r", "index": 0, "accounts": {}, "groups": {},
                "templates": [], "waits_for": []}}});
        let source = Source {
            file: "setup.toml".into(),
            text: text.to_owned(),
        };
        let told = |p: crate::Problem| format!("{}: {}", p.at.map_or(0, |at| at.0), p.message);
        First::parse(&source, &serde_json::from_value(manifest).unwrap())
            .map_err(|all| all.0.into_iter().map(told).collect())
    }

    const OWNER: &str = "[appliance]\nname = \"office\"\n[administrator]\nname = \"ada\"\n";

    #[test]
    fn good_choices_are_a_site_and_an_owner() {
        let first = parse(&format!(
            "{OWNER}password = \"correct horse\"\n[units.web]\nenabled = false\n"
        ))
        .unwrap();
        assert!(!first.site().enabled("web"));
        assert!(!format!("{first:?}").contains("correct"), "a password is in no log");
        parse(&format!(
            "{OWNER}password_hash = \"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA\"\n"
        ))
        .unwrap();
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let wrong = |more: &str| parse(&format!("{OWNER}{more}")).unwrap_err();
        assert_eq!(wrong(""), ["3: the administrator has no password"]);
        assert_eq!(wrong("password = \"short\"\n"), ["5: the password is too short"]);
        assert_eq!(wrong("password_hash = \"secret\"\n"), ["5: this is no Argon2id hash"]);
        let both = "password = \"correct horse\"\n[units.wbe]\nenabled = false\n";
        assert_eq!(wrong(both), ["6: the appliance has no unit `wbe`"]);
        assert!(wrong("pasword = \"correct horse\"\n")[0].contains("pasword"));
        assert!(parse("[appliance]\nname = \"office\"\n").is_err());
        let name = parse("[appliance]\nname = \"x\"\n[administrator]\nname = \"A b\"\npassword = \"correct horse\"\n")
            .unwrap_err();
        assert_eq!(name, ["4: nobody can be called so"]);
    }
}
