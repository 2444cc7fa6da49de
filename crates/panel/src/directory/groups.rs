//! Groups: entries of groupOfMembers, which may be empty.

use ldap3::{Mod, SearchEntry};

use super::{ADMINISTRATORS, Bound, Directory, DirectoryError, all, entries, first, named};

const FILTER: &str = "(objectClass=groupOfMembers)";
/// The first number of a group; the one before is everybody's own.
const FIRST: u32 = 10_001;

/// A group.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// Its members, by the names by which they log in.
    pub members: Vec<String>,
}

/// A group's name, checked.
///
/// # Errors
/// The key of the sentence that says what is wrong.
pub fn group_name(text: &str) -> Result<String, &'static str> {
    let name = text.trim().to_lowercase();
    let form = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    let right = name.len() <= 32 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(form);
    right.then_some(name).ok_or("wrong.group-form")
}

fn read(entry: &SearchEntry) -> Group {
    Group {
        name: first(entry, "cn"),
        description: first(entry, "description"),
        members: named(&all(entry, "member")),
    }
}

impl Bound {
    fn group_dn(&self, name: &str) -> String {
        format!("cn={},{}", ldap3::dn_escape(name), self.place.groups)
    }

    pub(super) async fn groups(&mut self) -> Result<Vec<Group>, DirectoryError> {
        let base = self.place.groups.clone();
        let found = self.search(&base, FILTER, &["cn", "description", "member"]).await?;
        let mut groups: Vec<Group> = found.iter().map(read).collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(groups)
    }

    /// Has these people in a group, or no more.
    pub(super) async fn member(&mut self, group: &str, uids: &[&str], wanted: bool) -> Result<(), DirectoryError> {
        let members: Vec<String> = uids.iter().map(|uid| self.person_dn(uid)).collect();
        let members = members.iter().map(String::as_str).collect();
        let change = if wanted {
            Mod::Add("member", members)
        } else {
            Mod::Delete("member", members)
        };
        let dn = self.group_dn(group);
        let changed = self.ldap.modify(&dn, vec![change]).await;
        match self.judged(changed, "change a group") {
            // It was so already (attributeOrValueExists, noSuchAttribute).
            Err(DirectoryError::Refused { code: 20 | 16, .. }) => Ok(()),
            other => other,
        }
    }
}

impl Directory {
    /// Every group, by name.
    ///
    /// # Errors
    /// If the directory is away or refuses.
    pub async fn groups(&self) -> Result<Vec<Group>, DirectoryError> {
        self.work(async |bound| bound.groups().await).await
    }

    /// A group; `None` if there is none of that name.
    ///
    /// # Errors
    /// If the directory is away or refuses.
    pub async fn group(&self, name: &str) -> Result<Option<Group>, DirectoryError> {
        Ok(self.groups().await?.into_iter().find(|group| group.name == name))
    }

    /// Makes a group without members.
    ///
    /// # Errors
    /// If there is one of that name, or the directory is away or refuses.
    pub async fn add_group(&self, name: &str, description: &str) -> Result<(), DirectoryError> {
        self.work(async |bound| {
            let base = bound.place.groups.clone();
            let found = bound.search(&base, FILTER, &["gidNumber"]).await?;
            let last = found
                .iter()
                .filter_map(|entry| first(entry, "gidNumber").parse().ok())
                .max();
            let number = last
                .map_or(FIRST, |last: u32| last.saturating_add(1).max(FIRST))
                .to_string();
            let values = vec![
                ("objectClass", vec!["groupOfMembers", "posixGroup"]),
                ("cn", vec![name]),
                ("gidNumber", vec![&number]),
                (
                    "description",
                    Some(description).filter(|text| !text.is_empty()).into_iter().collect(),
                ),
            ];
            let dn = bound.group_dn(name);
            let added = bound.ldap.add(&dn, entries(values)).await;
            match bound.judged(added, "add a group") {
                Err(DirectoryError::Taken(_)) => Err(DirectoryError::Taken("name")),
                other => other,
            }
        })
        .await
    }

    /// Has a person in a group, or no more.
    ///
    /// # Errors
    /// If there is no such person or group, or the directory is away or refuses.
    pub async fn set_member(&self, group: &str, uid: &str, wanted: bool) -> Result<(), DirectoryError> {
        if uid.is_empty() {
            return Err(DirectoryError::Gone);
        }
        self.work(async |bound| bound.member(group, &[uid], wanted).await).await
    }

    /// Removes a group; not that of the administrators, which has a meaning.
    ///
    /// # Errors
    /// If there is no such group, or the directory is away or refuses.
    pub async fn remove_group(&self, name: &str) -> Result<(), DirectoryError> {
        if name == ADMINISTRATORS {
            return Err(DirectoryError::Refused {
                doing: "remove a group",
                code: 53,
                why: "the group of the administrators stays; it may be empty".into(),
            });
        }
        self.work(async |bound| {
            // The directory takes a name in any case; only as it is written there it is the one that was asked about above.
            if !bound.groups().await?.iter().any(|group| group.name == name) {
                return Err(DirectoryError::Gone);
            }
            let dn = bound.group_dn(name);
            let removed = bound.ldap.delete(&dn).await;
            bound.judged(removed, "remove a group")
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_name_cannot_lead_elsewhere() {
        assert_eq!(group_name(" Friends "), Ok("friends".into()));
        for wrong in ["", "a,ou=people", "ä", "a b", "-a", &"a".repeat(33)] {
            assert_eq!(group_name(wrong), Err("wrong.group-form"), "{wrong}");
        }
    }
}
