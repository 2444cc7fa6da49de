//! What somebody writes of a person, checked before the directory sees it.

use crate::setup;

/// What somebody writes of a person, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card {
    /// The name by which they log in.
    pub uid: String,
    /// The given name; may be empty.
    pub given: String,
    /// The surname; may be empty if there is a given name.
    pub surname: String,
    /// The mail address; may be empty.
    pub mail: String,
    /// Further mail addresses.
    pub aliases: Vec<String>,
}

/// What is wrong with a field: the field, and the key of the sentence.
type Wrong = (&'static str, &'static str);

impl Card {
    /// Checks what somebody wrote. Further addresses are parted by blanks or commas.
    ///
    /// # Errors
    /// The first field that is wrong, and the key of the sentence that says why.
    pub fn new(uid: &str, given: &str, surname: &str, mail: &str, aliases: &str) -> Result<Card, Wrong> {
        let (card, wrong) = Card::read(uid, given, surname, mail, aliases);
        wrong.first().map_or(Ok(card), |wrong| Err(*wrong))
    }

    /// The same with every field that is wrong, each once; such a field is left empty.
    pub(super) fn read(uid: &str, given: &str, surname: &str, mail: &str, aliases: &str) -> (Card, Vec<Wrong>) {
        let (mut card, mut wrong) = (Card::default(), Vec::new());
        match login(uid) {
            Ok(uid) => card.uid = uid,
            Err(why) => wrong.push(("uid", why)),
        }
        let names = [
            ("given", given, &mut card.given),
            ("surname", surname, &mut card.surname),
        ];
        for (field, text, own) in names {
            let text = text.trim();
            if text.chars().count() > 100 || text.chars().any(char::is_control) {
                wrong.push((field, "wrong.person-name"));
            } else {
                text.clone_into(own);
            }
        }
        if [given, surname].iter().all(|text| text.trim().is_empty()) {
            wrong.push(("surname", "wrong.person-name-empty"));
        }
        match address(mail) {
            Some(mail) => card.mail = mail,
            None if mail.trim().is_empty() => {}
            None => wrong.push(("mail", "wrong.mail")),
        }
        let mut further = true;
        for text in aliases
            .split([',', ';', ' ', '\n', '\r', '\t'])
            .filter(|text| !text.is_empty())
        {
            match address(text) {
                Some(one) if one == card.mail || card.aliases.contains(&one) => {}
                Some(one) => card.aliases.push(one),
                None => further = false,
            }
        }
        if !further {
            wrong.push(("aliases", "wrong.mail"));
        }
        (card, wrong)
    }

    /// Every mail address.
    pub fn addresses(&self) -> impl Iterator<Item = &String> {
        self.aliases
            .iter()
            .chain(Some(&self.mail).filter(|mail| !mail.is_empty()))
    }

    pub(super) fn name(&self) -> String {
        format!("{} {}", self.given, self.surname).trim().to_owned()
    }

    /// What stands in the entry beside what never changes. A directory wants a surname of everybody.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> Vec<(&'a str, Vec<&'a str>)> {
        let some = |text: &'a str| Some(text).filter(|text| !text.is_empty()).into_iter().collect();
        let surname = if self.surname.is_empty() {
            &self.given
        } else {
            &self.surname
        };
        vec![
            ("cn", vec![name]),
            ("sn", vec![surname]),
            ("givenName", some(&self.given)),
            ("mail", some(&self.mail)),
            ("mailLocalAddress", self.aliases.iter().map(String::as_str).collect()),
        ]
    }
}

/// A login name as it is kept.
fn login(text: &str) -> Result<String, &'static str> {
    let uid = text.trim().to_lowercase();
    let form = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
    match uid.as_str() {
        "" => Err("wrong.uid-empty"),
        _ if uid.len() > 32 => Err("wrong.uid-long"),
        _ if !uid.starts_with(|c: char| c.is_ascii_lowercase()) || !uid.chars().all(form) => Err("wrong.uid-form"),
        _ => Ok(uid),
    }
}

/// A mail address as it is kept: the domain in ASCII and lower case.
fn address(text: &str) -> Option<String> {
    let (local, domain) = text.trim().rsplit_once('@')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let wrong = local.is_empty() || local.len() > 64 || !local.chars().all(plain);
    if wrong || local.starts_with('.') || local.ends_with('.') || local.contains("..") {
        return None;
    }
    let domain = setup::domain(domain).ok()??;
    Some(format!("{local}@{domain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_of_a_person_is_checked_field_by_field() {
        let card = Card::new(
            " Ada ",
            "Ada",
            " Lovelace ",
            "ada@Müller.example",
            "al@birch.example, ada@müller.example",
        )
        .unwrap();
        assert_eq!((card.uid.as_str(), card.name().as_str()), ("ada", "Ada Lovelace"));
        assert_eq!(card.mail, "ada@xn--mller-kva.example");
        assert_eq!(card.aliases, ["al@birch.example"]);
        let long = "a".repeat(33);
        for (uid, given, mail, aliases, field) in [
            ("", "A", "", "", "uid"),
            ("ä", "A", "", "", "uid"),
            ("1a", "A", "", "", "uid"),
            ("a,ou=x", "A", "", "", "uid"),
            (&long, "A", "", "", "uid"),
            ("a", "", "", "", "surname"),
            ("a", "A\u{0}", "", "", "given"),
            ("a", "A", "no address", "", "mail"),
            ("a", "A", "a@localhost", "", "mail"),
            ("a", "A", "a..b@birch.example", "", "mail"),
            ("a", "A", "", "x", "aliases"),
        ] {
            assert_eq!(
                Card::new(uid, given, "", mail, aliases).unwrap_err().0,
                field,
                "{uid} {mail}"
            );
        }
    }

    #[test]
    fn every_wrong_field_is_told_and_what_is_right_of_the_others_is_kept() {
        let (card, wrong) = Card::read("Ada", "A\u{0}", "", "no address", "al@birch.example x y");
        assert_eq!((card.uid.as_str(), card.aliases.len()), ("ada", 1));
        let fields: Vec<_> = wrong.iter().map(|(field, _)| *field).collect();
        assert_eq!(fields, ["given", "mail", "aliases"]);
    }
}
