//! People: entries of inetOrgPerson that are Unix accounts and may have further mail addresses.

use std::collections::HashSet;

use ldap3::exop::PasswordModify;
use ldap3::{Mod, SearchEntry, ldap_escape};

use super::card::Card;
use super::{ADMINISTRATORS, Bound, Directory, DirectoryError, all, away, connect, entries, first, judged, named};
use crate::roles::Role;

/// What closes an account until it is opened again (draft-behera-ldap-password-policy, `pwdAccountLockedTime`).
const CLOSED: &str = "000001010000Z";
/// The first number of a person, and the group that all of them have as Unix accounts.
const FIRST: u32 = 10_000;
const GROUP: &str = "10000";
const FILTER: &str = "(objectClass=inetOrgPerson)";
const ATTRIBUTES: [&str; 10] = [
    "uid",
    "givenName",
    "sn",
    "cn",
    "mail",
    "mailLocalAddress",
    "memberOf",
    "pwdAccountLockedTime",
    "pwdChangedTime",
    "entryUUID",
];

/// A person, as the directory has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Person {
    /// The name by which they log in.
    pub uid: String,
    /// The name by which they are known.
    pub name: String,
    /// The given name; may be empty.
    pub given: String,
    /// The surname.
    pub surname: String,
    /// The mail address; may be empty.
    pub mail: String,
    /// Further mail addresses.
    pub aliases: Vec<String>,
    /// The groups, by name.
    pub groups: Vec<String>,
    /// Whether they cannot log in until somebody lets them again.
    pub disabled: bool,
    /// Whether they have a password.
    pub has_password: bool,
    /// What the directory calls the entry (RFC 4530): of who is given a name that was another's before it is another.
    #[serde(skip)]
    pub entry: String,
}

impl Person {
    /// What they may do here.
    pub fn role(&self) -> Role {
        match self.groups.iter().any(|group| group == ADMINISTRATORS) {
            true => Role::Administrator,
            false => Role::Person,
        }
    }
}

fn read(entry: &SearchEntry) -> Person {
    let given = first(entry, "givenName");
    let surname = first(entry, "sn");
    Person {
        uid: first(entry, "uid"),
        name: first(entry, "cn"),
        // Of who has one name it is written in both places.
        surname: if surname == given { String::new() } else { surname },
        given,
        mail: first(entry, "mail"),
        aliases: all(entry, "mailLocalAddress"),
        groups: named(&all(entry, "memberOf")),
        disabled: first(entry, "pwdAccountLockedTime") == CLOSED,
        has_password: !first(entry, "pwdChangedTime").is_empty(),
        entry: first(entry, "entryUUID"),
    }
}

impl Bound {
    pub(super) fn person_dn(&self, uid: &str) -> String {
        format!("uid={},{}", ldap3::dn_escape(uid), self.place.people)
    }

    pub(super) async fn people(&mut self, filter: &str) -> Result<Vec<Person>, DirectoryError> {
        let base = self.place.people.clone();
        let found = self.search(&base, filter, &ATTRIBUTES).await?;
        let mut people: Vec<Person> = found.iter().map(read).collect();
        people.sort_by_cached_key(|person| {
            (
                person.surname.to_lowercase(),
                person.given.to_lowercase(),
                person.uid.clone(),
            )
        });
        Ok(people)
    }

    async fn person(&mut self, uid: &str) -> Result<Option<Person>, DirectoryError> {
        let found = self.people(&format!("(&{FILTER}(uid={}))", ldap_escape(uid))).await?;
        Ok(found.into_iter().find(|person| person.uid == uid))
    }

    /// The number after the last one.
    pub(super) async fn next_number(&mut self) -> Result<u32, DirectoryError> {
        let base = self.place.people.clone();
        let found = self.search(&base, FILTER, &["uidNumber"]).await?;
        let last = found
            .iter()
            .filter_map(|entry| first(entry, "uidNumber").parse().ok())
            .max();
        Ok(last.map_or(FIRST, |last: u32| last.saturating_add(1).max(FIRST)))
    }

    pub(super) async fn add_person(
        &mut self,
        card: &Card,
        number: u32,
        password: Option<&str>,
    ) -> Result<(), DirectoryError> {
        let (name, number, home) = (card.name(), number.to_string(), format!("/home/{}", card.uid));
        let mut values = card.values(&name);
        values.extend([
            (
                "objectClass",
                vec!["inetOrgPerson", "posixAccount", "inetLocalMailRecipient"],
            ),
            ("uid", vec![&card.uid]),
            ("uidNumber", vec![&number]),
            ("gidNumber", vec![GROUP]),
            ("homeDirectory", vec![&home]),
            ("userPassword", password.into_iter().collect()),
        ]);
        let dn = self.person_dn(&card.uid);
        let added = self.ldap.add(&dn, entries(values)).await;
        self.judged(added, "add a person")
    }

    pub(super) async fn remove_person(&mut self, uid: &str) -> Result<(), DirectoryError> {
        let dn = self.person_dn(uid);
        let removed = self.ldap.delete(&dn).await;
        self.judged(removed, "remove a person")
    }

    /// Whether somebody has one of these addresses, as whichever of theirs, but for the person `but`.
    async fn address_taken(&mut self, card: &Card, but: &str) -> Result<bool, DirectoryError> {
        let mut any = String::new();
        for address in card.addresses().map(|address| ldap_escape(address.as_str())) {
            any += &format!("(mail={address})(mailLocalAddress={address})");
        }
        if any.is_empty() {
            return Ok(false);
        }
        let found = self.people(&format!("(&{FILTER}(|{any}))")).await?;
        Ok(found.iter().any(|person| person.uid != but))
    }

    async fn change(&mut self, uid: &str, changes: Vec<Mod<&str>>) -> Result<(), DirectoryError> {
        let dn = self.person_dn(uid);
        let changed = self.ldap.modify(&dn, changes).await;
        self.judged(changed, "change a person")
    }
}

impl Directory {
    /// People, by surname; those of whom the login, the name or an address has this text.
    ///
    /// # Errors
    /// If the directory is away or refuses.
    pub async fn people(&self, search: &str) -> Result<Vec<Person>, DirectoryError> {
        let search = ldap_escape(search.trim());
        let filter = match search.is_empty() {
            true => FILTER.to_owned(),
            false => {
                format!("(&{FILTER}(|(uid=*{search}*)(cn=*{search}*)(mail=*{search}*)(mailLocalAddress={search})))")
            }
        };
        self.work(async |bound| bound.people(&filter).await).await
    }

    /// A person; `None` if there is none of that name.
    ///
    /// # Errors
    /// If the directory is away or refuses.
    pub async fn person(&self, uid: &str) -> Result<Option<Person>, DirectoryError> {
        self.work(async |bound| bound.person(uid).await).await
    }

    /// Makes a person, without a password.
    ///
    /// # Errors
    /// If the name or an address is somebody else's, or the directory is away or refuses.
    pub async fn add_person(&self, card: &Card) -> Result<(), DirectoryError> {
        self.work(async |bound| {
            if bound.address_taken(card, "").await? {
                return Err(DirectoryError::Taken("mail"));
            }
            // Of two that are made at once, one finds its number taken.
            for _ in 0..5 {
                let number = bound.next_number().await?;
                match bound.add_person(card, number, None).await {
                    Err(DirectoryError::Taken("number")) => {}
                    other => return other,
                }
            }
            Err(DirectoryError::Taken("number"))
        })
        .await
    }

    /// Writes what is known of a person.
    ///
    /// # Errors
    /// If there is no such person, an address is somebody else's, or the directory is away or refuses.
    pub async fn edit_person(&self, card: &Card) -> Result<(), DirectoryError> {
        self.work(async |bound| {
            if bound.address_taken(card, &card.uid).await? {
                return Err(DirectoryError::Taken("mail"));
            }
            let name = card.name();
            let changes = card.values(&name).into_iter();
            let changes = changes.map(|(name, values)| Mod::Replace(name, values.into_iter().collect()));
            bound.change(&card.uid, changes.collect()).await
        })
        .await
    }

    /// Closes a person's account, or opens it again.
    ///
    /// # Errors
    /// If there is no such person, or the directory is away or refuses.
    pub async fn disable_person(&self, uid: &str, disabled: bool) -> Result<(), DirectoryError> {
        let value = disabled.then_some(CLOSED).into_iter().collect::<HashSet<_>>();
        let change = vec![Mod::Replace("pwdAccountLockedTime", value)];
        self.work(async |bound| bound.change(uid, change).await).await
    }

    /// Removes a person, from the groups too.
    ///
    /// # Errors
    /// If there is no such person, or the directory is away or refuses.
    pub async fn remove_person(&self, uid: &str) -> Result<(), DirectoryError> {
        self.work(async |bound| bound.remove_person(uid).await).await
    }

    /// Gives a person another password (RFC 3062).
    ///
    /// # Errors
    /// If there is no such person, or the directory is away or refuses.
    pub async fn set_password(&self, uid: &str, password: &str) -> Result<(), DirectoryError> {
        self.work(async |bound| {
            let dn = bound.person_dn(uid);
            let wanted = PasswordModify {
                user_id: Some(&dn),
                old_pass: None,
                new_pass: Some(password),
            };
            let done = bound.ldap.extended(wanted).await.map(|answer| answer.1);
            bound.judged(done, "set a password")
        })
        .await
    }

    /// Whether this is the person's password, and they may log in by it.
    ///
    /// # Errors
    /// If the directory is away or refuses.
    pub async fn check_password(&self, uid: &str, password: &str) -> Result<bool, DirectoryError> {
        // A bind without a password succeeds as nobody (RFC 4513, 5.1.2).
        if password.is_empty() {
            return Ok(false);
        }
        let (dn, url) = self
            .work(async |bound| Ok((bound.person_dn(uid), bound.place.url.clone())))
            .await?;
        let all = async {
            let mut ldap = connect(&url).await?;
            let result = ldap.simple_bind(&dn, password).await.map_err(|e| away(&url, e))?;
            let _ = ldap.unbind().await;
            match result.rc {
                49 | 32 | 19 | 53 => Ok(false),
                _ => judged(result, "check a password").map(|()| true),
            }
        };
        let done = tokio::time::timeout(super::PATIENCE, all).await;
        done.unwrap_or_else(|_| Err(away(&url, "it takes too long")))
    }
}
