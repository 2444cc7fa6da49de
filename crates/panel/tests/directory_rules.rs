//! The directory's own rules, judged by a real slapd with the files of its overlay: who sees what, and what cannot be.

mod common;

use std::collections::HashSet;

use common::slapd::{BASE, Slapd};
use ldap3::exop::PasswordModify;
use ldap3::{Ldap, LdapConnAsync, Mod, Scope, SearchEntry};

const PASSWORD: &str = "in clear text 1";

async fn bound(slapd: &Slapd, dn: &str, password: &str) -> Result<Ldap, u32> {
    let (connection, mut ldap) = LdapConnAsync::new(&slapd.url()).await.unwrap();
    ldap3::drive!(connection);
    match ldap.simple_bind(dn, password).await.unwrap().rc {
        0 => Ok(ldap),
        refused => Err(refused),
    }
}

async fn seen(ldap: &mut Ldap, base: &str) -> Vec<SearchEntry> {
    let asked = ldap
        .search(base, Scope::Subtree, "(objectClass=*)", ["*", "+"])
        .await
        .unwrap();
    asked.0.into_iter().map(SearchEntry::construct).collect()
}

fn entry<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(&'a str, HashSet<&'a str>)> {
    pairs
        .iter()
        .map(|(name, value)| (*name, value.split('|').collect()))
        .collect()
}

fn dn(uid: &str) -> String {
    format!("uid={uid},ou=people,{BASE}")
}

async fn add_person(ldap: &mut Ldap, uid: &str, number: &str, mail: &str) -> u32 {
    let home = format!("/home/{uid}");
    let all = [
        ("objectClass", "inetOrgPerson|posixAccount|inetLocalMailRecipient"),
        ("uid", uid),
        ("cn", uid),
        ("sn", uid),
        ("uidNumber", number),
        ("gidNumber", "10000"),
        ("homeDirectory", &home),
        ("mail", mail),
        ("userPassword", PASSWORD),
    ];
    ldap.add(&dn(uid), entry(&all)).await.unwrap().rc
}

/// A directory with the people ada and bob, and a connection that may write them.
async fn begun() -> Option<(Slapd, Ldap)> {
    let slapd = Slapd::start()?;
    let password = slapd.grant("grant-manager.ldif", "panel_directory", None);
    let mut manager = bound(
        &slapd,
        &format!("cn=panel_directory,ou=managers,ou=services,{BASE}"),
        &password,
    )
    .await
    .unwrap();
    for (uid, number) in [("ada", "10000"), ("bob", "10001")] {
        assert_eq!(
            add_person(&mut manager, uid, number, &format!("{uid}@birch.example")).await,
            0
        );
    }
    Some((slapd, manager))
}

#[tokio::test]
async fn nobody_who_is_not_bound_sees_an_entry() {
    let Some((slapd, _)) = begun().await else { return };
    let (connection, mut ldap) = LdapConnAsync::new(&slapd.url()).await.unwrap();
    ldap3::drive!(connection);
    for base in [
        BASE.to_owned(),
        format!("ou=people,{BASE}"),
        dn("ada"),
        format!("ou=services,{BASE}"),
    ] {
        assert_eq!(seen(&mut ldap, &base).await.len(), 0, "{base}");
    }
}

#[tokio::test]
async fn a_service_reads_people_and_groups_and_neither_passwords_nor_other_services() {
    let Some((slapd, _)) = begun().await else { return };
    slapd.grant("grant.ldif", "rival_people", None);
    let old = slapd.grant("grant.ldif", "wiki_people", None);
    // While a password changes both are good, and a policy for people is none for services.
    let new = slapd.grant("grant.ldif", "wiki_people", Some(&old));
    assert_ne!(old, new);
    for password in [old, new] {
        let mut ldap = bound(&slapd, &format!("cn=wiki_people,ou=services,{BASE}"), &password)
            .await
            .unwrap();
        let all = seen(&mut ldap, BASE).await;
        assert!(
            all.iter()
                .any(|entry| entry.dn == dn("ada") && entry.attrs["mail"] == ["ada@birch.example"])
        );
        assert!(all.iter().all(|entry| {
            !entry
                .attrs
                .keys()
                .any(|name| name.to_lowercase().starts_with("userpassword"))
        }));
        assert_eq!(seen(&mut ldap, &format!("ou=services,{BASE}")).await.len(), 0);
        let change = vec![Mod::Replace("cn", HashSet::from(["eve"]))];
        assert_eq!(ldap.modify(&dn("ada"), change).await.unwrap().rc, 50);
        let change = vec![Mod::Replace("userPassword", HashSet::from(["eve's own password"]))];
        assert_eq!(ldap.modify(&dn("ada"), change).await.unwrap().rc, 50);
    }
}

#[tokio::test]
async fn a_person_sees_the_own_entry_alone_and_changes_the_own_password_alone() {
    let Some((slapd, _)) = begun().await else { return };
    let mut ada = bound(&slapd, &dn("ada"), PASSWORD).await.unwrap();
    let all = seen(&mut ada, &dn("ada")).await;
    assert_eq!(all.len(), 1);
    assert!(!all[0].attrs.contains_key("userPassword"));
    for base in [BASE.to_owned(), dn("bob")] {
        assert!(
            seen(&mut ada, &base).await.iter().all(|entry| entry.dn == dn("ada")),
            "{base}"
        );
    }
    let change = vec![Mod::Replace("uidNumber", HashSet::from(["0"]))];
    assert_eq!(ada.modify(&dn("ada"), change).await.unwrap().rc, 50);
    let (own, others) = (dn("ada"), dn("bob"));
    let mut set = async |whose: &str| {
        let wanted = PasswordModify {
            user_id: Some(whose),
            old_pass: None,
            new_pass: Some("another one 2"),
        };
        ada.extended(wanted).await.unwrap().1.rc
    };
    assert_eq!((set(&own).await, set(&others).await), (0, 50));
    assert_eq!(bound(&slapd, &dn("ada"), PASSWORD).await.err(), Some(49));
    bound(&slapd, &dn("ada"), "another one 2").await.unwrap();
    bound(&slapd, &dn("bob"), PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_password_is_kept_as_an_argon2_hash_however_it_came_and_who_manages_people_cannot_read_it() {
    let Some((slapd, mut manager)) = begun().await else {
        return;
    };
    assert!(seen(&mut manager, &dn("ada")).await[0].attrs.contains_key("uidNumber"));
    assert!(
        !seen(&mut manager, &dn("ada")).await[0]
            .attrs
            .contains_key("userPassword")
    );
    let mut root = bound(&slapd, &format!("cn=admin,{BASE}"), "qA7root").await.unwrap();
    let kept = async |root: &mut Ldap| {
        let all = seen(root, &dn("ada")).await;
        all[0].attrs["userPassword"][0].clone()
    };
    let hash = kept(&mut root).await;
    // argon2id since OpenLDAP 2.6, argon2i before.
    assert!(
        hash.starts_with("{ARGON2}$argon2i") && hash.contains("$v=19$m=19456,t=2,p=1$"),
        "{hash}"
    );
    let change = vec![Mod::Replace("userPassword", HashSet::from(["written as it is 3"]))];
    assert_eq!(manager.modify(&dn("ada"), change).await.unwrap().rc, 0);
    assert!(kept(&mut root).await.starts_with("{ARGON2}$argon2i"));
    bound(&slapd, &dn("ada"), "written as it is 3").await.unwrap();
    // What is easily guessed for being short is refused.
    let change = vec![Mod::Replace("userPassword", HashSet::from(["short"]))];
    assert_eq!(manager.modify(&dn("ada"), change).await.unwrap().rc, 19);
}

#[tokio::test]
async fn an_account_that_is_closed_cannot_bind_and_guessing_closes_it_for_a_while() {
    let Some((slapd, mut manager)) = begun().await else {
        return;
    };
    let closed = HashSet::from(["000001010000Z"]);
    assert_eq!(
        manager
            .modify(&dn("ada"), vec![Mod::Replace("pwdAccountLockedTime", closed)])
            .await
            .unwrap()
            .rc,
        0
    );
    assert_eq!(bound(&slapd, &dn("ada"), PASSWORD).await.err(), Some(49));
    assert_eq!(
        manager
            .modify(&dn("ada"), vec![Mod::Delete("pwdAccountLockedTime", HashSet::new())])
            .await
            .unwrap()
            .rc,
        0
    );
    bound(&slapd, &dn("ada"), PASSWORD).await.unwrap();
    for _ in 0..20 {
        assert_eq!(bound(&slapd, &dn("bob"), "a guess of many").await.err(), Some(49));
    }
    assert_eq!(bound(&slapd, &dn("bob"), PASSWORD).await.err(), Some(49));
    bound(&slapd, &dn("ada"), PASSWORD).await.unwrap();
}

#[tokio::test]
async fn names_numbers_and_addresses_are_unique_and_groups_follow_their_members() {
    let Some((slapd, mut manager)) = begun().await else {
        return;
    };
    for (number, mail) in [("10001", "eve@birch.example"), ("10002", "ada@birch.example")] {
        assert_eq!(
            add_person(&mut manager, "eve", number, mail).await,
            19,
            "{number} {mail}"
        );
    }
    let group = format!("cn=friends,ou=groups,{BASE}");
    let empty = entry(&[("objectClass", "groupOfMembers"), ("cn", "friends")]);
    assert_eq!(manager.add(&group, empty).await.unwrap().rc, 0);
    let mut change = async |add: &str| {
        let (ldap, dn) = (&mut manager, dn(add));
        ldap.modify(&group, vec![Mod::Add("member", HashSet::from([dn.as_str()]))])
            .await
            .unwrap()
            .rc
    };
    assert_eq!((change("ada").await, change("nobody").await), (0, 19));
    let shown = seen(&mut manager, &dn("ada")).await;
    assert_eq!(shown[0].attrs["memberOf"].join(" "), group);
    assert_eq!(manager.delete(&dn("ada")).await.unwrap().rc, 0);
    assert!(!seen(&mut manager, &group).await[0].attrs.contains_key("member"));
    drop(slapd);
}
