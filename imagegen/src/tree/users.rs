//! Users and groups of a root: `/etc/passwd`, `/etc/group`, and the locked accounts of `/etc/shadow`.
//!
//! Sources, in this order: base-passwd's master files where the root has them, otherwise the few accounts that every
//! Unix program expects; then `usr/lib/sysusers.d` of the packages; then the unit's own `users`. Ids that nothing fixes
//! come from the caller's table (the lock), so that they stay when packages are added.

use std::collections::{BTreeMap, BTreeSet};

use cairn_unit::{Account, Unit};

use super::{Content, Node, Tree, TreeError};

/// One line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntry {
    /// The user's id.
    pub uid: u32,
    /// The primary group's id.
    pub gid: u32,
    /// The comment.
    pub gecos: String,
    /// The home folder.
    pub home: String,
    /// The shell.
    pub shell: String,
}

/// The accounts of one root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Users by name.
    pub users: BTreeMap<String, UserEntry>,
    /// Groups by name: id and members.
    pub groups: BTreeMap<String, (u32, BTreeSet<String>)>,
}

/// An account that a root needs, as declared; `id` where the declaration fixes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declared {
    /// A user and, unless `group` names another, a group of the same name and id.
    User {
        /// The name.
        name: String,
        /// The id, if it is fixed.
        id: Option<u32>,
        /// The primary group, if it is not its own.
        group: Option<String>,
        /// The comment.
        gecos: String,
        /// The home folder.
        home: String,
        /// The shell.
        shell: String,
    },
    /// A group.
    Group {
        /// The name.
        name: String,
        /// The id, if it is fixed.
        id: Option<u32>,
    },
    /// A user's membership in a group.
    Member {
        /// The user.
        user: String,
        /// The group.
        group: String,
    },
}

const NOLOGIN: &str = "/usr/sbin/nologin";

/// The accounts that programs expect where base-passwd is absent, with Debian's static ids.
const MINIMAL_USERS: [(&str, u32, u32, &str); 3] = [
    ("root", 0, 0, "/root"),
    ("daemon", 1, 1, "/usr/sbin"),
    ("nobody", 65534, 65534, "/nonexistent"),
];
const MINIMAL_GROUPS: [(&str, u32); 12] = [
    ("root", 0),
    ("daemon", 1),
    ("adm", 4),
    ("tty", 5),
    ("disk", 6),
    ("mail", 8),
    ("kmem", 15),
    ("shadow", 42),
    ("utmp", 43),
    ("staff", 50),
    ("users", 100),
    ("nogroup", 65534),
];

/// Parses one file of `sysusers.d` (the format of sysusers.d(5); `r` lines, which reserve ranges, are ignored).
pub fn parse_sysusers(text: &str) -> Result<Vec<Declared>, (usize, String)> {
    let mut out = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words = split(line);
        let word = |i: usize| words.get(i).map(String::as_str).filter(|w| !w.is_empty() && *w != "-");
        let fail = |why: &str| (number + 1, why.to_owned());
        if words[0] == "r" {
            continue;
        }
        let name = word(1).ok_or_else(|| fail("the name is missing"))?.to_owned();
        let number_of = |text: &str| text.parse::<u32>().ok();
        match words[0].as_str() {
            "u" | "u!" => {
                let (mut id, mut group) = (None, None);
                if let Some(text) = word(2) {
                    let (user, primary) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
                    id = number_of(user);
                    group = primary.map(str::to_owned);
                    // A path means the owner of that file, which a build does not have.
                    if id.is_none() && user != "-" && !user.starts_with('/') {
                        return Err(fail("the id is neither a number nor `-`"));
                    }
                }
                out.push(Declared::User {
                    name,
                    id,
                    group,
                    gecos: word(3).unwrap_or_default().to_owned(),
                    home: word(4).unwrap_or("/").to_owned(),
                    shell: word(5).unwrap_or(NOLOGIN).to_owned(),
                });
            }
            "g" => out.push(Declared::Group {
                name,
                id: word(2).and_then(number_of),
            }),
            "m" => {
                let group = word(2).ok_or_else(|| fail("the group is missing"))?.to_owned();
                out.push(Declared::Member { user: name, group });
            }
            other => return Err(fail(&format!("`{other}` is not a kind of line that is known"))),
        }
    }
    Ok(out)
}

/// Words separated by blanks; double quotes hold words together.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut open) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' => (quoted, open) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if open {
                    words.push(std::mem::take(&mut word));
                    open = false;
                }
            }
            c => {
                word.push(c);
                open = true;
            }
        }
    }
    if open {
        words.push(word);
    }
    words
}

impl Accounts {
    /// The accounts that the tree starts with: base-passwd's, or the minimal set.
    pub fn base(tree: &Tree) -> Result<Accounts, TreeError> {
        let mut accounts = Accounts::default();
        let text = |path: &str| {
            tree.text(path).map_err(|source| TreeError::Read {
                path: path.into(),
                source,
                help: "the cache may be damaged",
            })
        };
        let folder = "usr/share/base-passwd";
        let (Some(users), Some(groups)) = (
            text(&format!("{folder}/passwd.master"))?,
            text(&format!("{folder}/group.master"))?,
        ) else {
            for (name, uid, gid, home) in MINIMAL_USERS {
                let shell = if uid == 0 { "/bin/sh" } else { NOLOGIN };
                let entry = UserEntry {
                    uid,
                    gid,
                    gecos: name.into(),
                    home: home.into(),
                    shell: shell.into(),
                };
                accounts.users.insert(name.into(), entry);
            }
            accounts.groups = MINIMAL_GROUPS
                .iter()
                .map(|(n, g)| ((*n).to_owned(), (*g, BTreeSet::new())))
                .collect();
            return Ok(accounts);
        };
        let line = |path: &str, number: usize| TreeError::Line {
            root: tree.name.clone(),
            path: format!("{folder}/{path}"),
            line: number + 1,
            why: "it does not have the fields of passwd(5) or group(5)".into(),
        };
        for (number, text) in users.lines().enumerate() {
            let fields: Vec<&str> = text.split(':').collect();
            let [name, _, uid, gid, gecos, home, shell] = fields[..] else {
                return Err(line("passwd.master", number));
            };
            let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else {
                return Err(line("passwd.master", number));
            };
            let entry = UserEntry {
                uid,
                gid,
                gecos: gecos.into(),
                home: home.into(),
                shell: shell.into(),
            };
            accounts.users.insert(name.into(), entry);
        }
        for (number, text) in groups.lines().enumerate() {
            let fields: Vec<&str> = text.split(':').collect();
            let [name, _, gid, members] = fields[..] else {
                return Err(line("group.master", number));
            };
            let Ok(gid) = gid.parse() else {
                return Err(line("group.master", number));
            };
            let members = members
                .split(',')
                .filter(|m| !m.is_empty())
                .map(str::to_owned)
                .collect();
            accounts.groups.insert(name.into(), (gid, members));
        }
        Ok(accounts)
    }

    /// What the packages of the tree declare through `sysusers.d`, and then the unit's own users.
    pub fn declared(tree: &Tree, unit: Option<&Unit>) -> Result<Vec<Declared>, TreeError> {
        let mut out = Vec::new();
        let folder = "usr/lib/sysusers.d";
        for (name, node) in tree.children(folder) {
            let Some(content) = node.content().filter(|_| name.ends_with(".conf")) else {
                continue;
            };
            let path = format!("{folder}/{name}");
            let text = content.text().map_err(|source| TreeError::Read {
                path: path.clone().into(),
                source,
                help: "the cache may be damaged",
            })?;
            out.extend(parse_sysusers(&text).map_err(|(line, why)| TreeError::Line {
                root: tree.name.clone(),
                path,
                line,
                why,
            })?);
        }
        for (name, spec) in unit.iter().flat_map(|u| &u.users) {
            out.push(Declared::User {
                name: name.clone(),
                id: spec.uid.map(u32::from),
                group: None,
                gecos: String::new(),
                home: spec
                    .home
                    .as_ref()
                    .map_or("/nonexistent".into(), |h| h.as_str().to_owned()),
                shell: NOLOGIN.into(),
            });
            for group in &spec.groups {
                out.push(Declared::Member {
                    user: name.clone(),
                    group: group.clone(),
                });
            }
        }
        Ok(out)
    }

    /// Adds what is declared. An id that nothing fixes is asked of `id` by name.
    pub fn add(
        &mut self,
        root: &str,
        declared: &[Declared],
        id: &mut dyn FnMut(&str) -> Option<u32>,
    ) -> Result<(), TreeError> {
        let wrong = |name: &str, why: String| TreeError::Account {
            root: root.to_owned(),
            name: name.to_owned(),
            why,
        };
        let mut pick = |accounts: &Accounts, name: &str, fixed: Option<u32>| -> Result<u32, TreeError> {
            let picked = fixed
                .or_else(|| id(name))
                .ok_or_else(|| wrong(name, "the lock holds no id for it: run `imagegen lock`".into()))?;
            if let Some((other, _)) = accounts.users.iter().find(|(n, u)| u.uid == picked && *n != name) {
                return Err(wrong(
                    name,
                    format!("its id {picked} is also that of `{other}`: give it another `uid`"),
                ));
            }
            Ok(picked)
        };
        // Groups first: a user may name one as its primary group.
        for declared in declared {
            if let Declared::Group { name, id } = declared
                && !self.groups.contains_key(name)
            {
                let gid = pick(self, name, *id)?;
                self.groups.insert(name.clone(), (gid, BTreeSet::new()));
            }
        }
        for declared in declared {
            let Declared::User {
                name,
                id,
                group,
                gecos,
                home,
                shell,
            } = declared
            else {
                continue;
            };
            if let Some(there) = self.users.get_mut(name) {
                if id.is_some_and(|id| id != there.uid) {
                    return Err(wrong(
                        name,
                        format!("a package gives it the id {}: leave out `uid`", there.uid),
                    ));
                }
                if home != "/nonexistent" && home != "/" {
                    there.home = home.clone();
                }
                continue;
            }
            let uid = pick(self, name, *id)?;
            let gid = match group {
                Some(group) => match (group.parse(), self.groups.get(group)) {
                    (Ok(gid), _) => gid,
                    (_, Some((gid, _))) => *gid,
                    _ => return Err(wrong(name, format!("its group `{group}` is not defined"))),
                },
                None => {
                    self.groups
                        .entry(name.clone())
                        .or_insert_with(|| (uid, BTreeSet::new()))
                        .0
                }
            };
            let entry = UserEntry {
                uid,
                gid,
                gecos: gecos.clone(),
                home: home.clone(),
                shell: shell.clone(),
            };
            self.users.insert(name.clone(), entry);
        }
        for declared in declared {
            let Declared::Member { user, group } = declared else {
                continue;
            };
            match self.groups.get_mut(group) {
                Some((_, members)) => {
                    members.insert(user.clone());
                }
                None => {
                    return Err(wrong(
                        user,
                        format!("its group `{group}` is not defined: no package of the unit has it"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Writes `/etc/passwd`, `/etc/group`, `/etc/shadow` and `/etc/gshadow`; every account is locked.
    pub fn write(&self, tree: &mut Tree) {
        let mut users: Vec<_> = self.users.iter().collect();
        users.sort_by_key(|(name, u)| (u.uid, (*name).clone()));
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(name, (gid, _))| (*gid, (*name).clone()));
        let (mut passwd, mut shadow, mut group, mut gshadow) =
            (String::new(), String::new(), String::new(), String::new());
        for (name, u) in users {
            passwd += &format!("{name}:x:{}:{}:{}:{}:{}\n", u.uid, u.gid, u.gecos, u.home, u.shell);
            shadow += &format!("{name}:!*:::::::\n");
        }
        for (name, (gid, members)) in groups {
            let members = members.iter().cloned().collect::<Vec<_>>().join(",");
            group += &format!("{name}:x:{gid}:{members}\n");
            gshadow += &format!("{name}:!*::{members}\n");
        }
        let shadow_gid = self.groups.get("shadow").map_or(0, |(gid, _)| *gid);
        for (path, text, mode) in [
            ("etc/passwd", passwd, 0o644),
            ("etc/group", group, 0o644),
            ("etc/shadow", shadow, 0o640),
            ("etc/gshadow", gshadow, 0o640),
        ] {
            let mut node = Node::file(Content::bytes(text), mode, "imagegen");
            if mode == 0o640 {
                node.gid = shadow_gid;
            }
            tree.put(path, node);
        }
    }

    /// The users as the manifest holds them.
    pub fn manifest_accounts(&self) -> BTreeMap<String, Account> {
        let mut out = BTreeMap::new();
        for (name, user) in &self.users {
            let Ok(home) = user.home.trim_end_matches('/').parse().or_else(|_| "/".parse()) else {
                continue;
            };
            let groups = self
                .groups
                .values()
                .filter(|(g, m)| m.contains(name) && *g != user.gid)
                .map(|(g, _)| *g)
                .collect();
            out.insert(
                name.clone(),
                Account {
                    uid: user.uid,
                    gid: user.gid,
                    groups,
                    home,
                },
            );
        }
        out
    }

    /// The groups as the manifest holds them.
    pub fn manifest_groups(&self) -> BTreeMap<String, u32> {
        self.groups
            .iter()
            .map(|(name, (gid, _))| (name.clone(), *gid))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Accounts {
        Accounts::base(&Tree::new("t")).unwrap()
    }

    #[test]
    fn sysusers_lines_become_accounts() {
        let text =
            "# comment\nu! _ldap - \"LDAP Server\" /var/lib/ldap\ng ssl-cert 120\nm _ldap ssl-cert\nr - 500-900\n";
        let declared = parse_sysusers(text).unwrap();
        let mut accounts = base();
        accounts.add("t", &declared, &mut |_| Some(555)).unwrap();
        let user = &accounts.users["_ldap"];
        assert_eq!(
            (user.uid, user.gid, user.gecos.as_str(), user.home.as_str()),
            (555, 555, "LDAP Server", "/var/lib/ldap")
        );
        assert_eq!(accounts.manifest_accounts()["_ldap"].groups, [120]);
    }

    #[test]
    fn an_unknown_line_is_refused_with_its_number() {
        assert_eq!(parse_sysusers("\nq x\n").unwrap_err().0, 2);
    }

    #[test]
    fn an_id_that_two_have_is_refused() {
        let declared = parse_sysusers("u a 500\nu b 500\n").unwrap();
        let error = base().add("t", &declared, &mut |_| None).unwrap_err().to_string();
        assert!(error.contains("`b`: its id 500 is also that of `a`"), "{error}");
    }

    #[test]
    fn an_id_that_the_lock_lacks_is_refused() {
        let declared = parse_sysusers("u a -\n").unwrap();
        assert!(
            base()
                .add("t", &declared, &mut |_| None)
                .unwrap_err()
                .to_string()
                .contains("imagegen lock")
        );
    }

    #[test]
    fn every_account_is_locked() {
        let mut tree = Tree::new("t");
        base().write(&mut tree);
        let shadow = tree.text("etc/shadow").unwrap().unwrap();
        assert!(shadow.lines().all(|l| l.contains(":!*:")), "{shadow}");
        assert_eq!(
            (
                tree.get("etc/shadow").unwrap().mode,
                tree.get("etc/shadow").unwrap().gid
            ),
            (0o640, 42)
        );
        assert!(tree.text("etc/passwd").unwrap().unwrap().starts_with("root:x:0:0:"));
    }
}
