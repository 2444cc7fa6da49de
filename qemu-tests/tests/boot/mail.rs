//! Mail (`appliances/mail-test.toml`): people of the directory write to each other by TLS, a unit sends by an account of its own, and
//! nobody does what is not theirs.

use qemu_tests::authority::Authority;
use qemu_tests::client::mail::{Imap, Smtp, Trust, is_believed};
use qemu_tests::images;
use qemu_tests::machine::{Home, Options};

use super::daemons::{CAIRN, Guest, PATIENCE};
use super::*;

const CHOICES: &str = r#"
[appliance]
name = "post"
domain = "post.example"

[administrator]
name = "owner"
password = "velvet otter 9"
"#;
const PASSWORD: &str = "o'Brien \"quoted\" \\ %s;--";
const DOMAIN: &str = "post.example";

struct Mail {
    guest: Guest,
    authority: String,
}

impl Mail {
    fn trust(&self) -> Trust<'_> {
        Trust {
            authority: &self.authority,
            name: DOMAIN,
        }
    }

    /// A connection for letters of those who log in, by TLS from the first byte.
    fn submission(&mut self) -> Smtp {
        let port = must(self.guest.0.port(465));
        must(Smtp::tls(port, self.trust()))
    }

    /// The same after `STARTTLS`.
    fn starttls(&mut self) -> Smtp {
        let port = must(self.guest.0.port(587));
        must(Smtp::starttls(port, self.trust()))
    }

    /// As another mail server comes.
    fn outside(&mut self) -> Smtp {
        must(Smtp::plain(must(self.guest.0.port(25))))
    }

    fn mailbox(&mut self, name: &str, password: &str) -> Result<Imap, String> {
        let port = must(self.guest.0.port(993));
        let mut imap = must(Imap::tls(port, self.trust()));
        let quoted = password.replace('\\', "\\\\").replace('"', "\\\"");
        match must(imap.ask(&format!("LOGIN {name} \"{quoted}\""))) {
            (true, _) => Ok(imap),
            (false, said) => Err(said),
        }
    }

    /// How many letters of this subject a person has.
    fn has(&mut self, name: &str, subject: &str) -> usize {
        let mut imap = must(self.mailbox(name, PASSWORD));
        assert!(must(imap.ask("SELECT INBOX")).0);
        let (done, found) = must(imap.ask(&format!("SEARCH SUBJECT \"{subject}\"")));
        assert!(done, "{found}");
        let numbers = found.lines().find_map(|line| line.strip_prefix("* SEARCH"));
        numbers.map_or(0, |numbers| numbers.split_whitespace().count())
    }

    fn comes(&mut self, name: &str, subject: &str) {
        wait_until(&format!("{subject:?} comes to {name}"), PATIENCE, || {
            self.has(name, subject) == 1
        });
    }

    fn person(&mut self, name: &str, more: &str) {
        let admin = self.guest.read("/data/secrets/slapd/admin");
        let bind = Ldap::bind(must(self.guest.0.port(389)), &format!("cn=admin,{SUFFIX}"), &admin);
        let attributes = [
            ("objectClass", "inetOrgPerson"),
            ("objectClass", "inetLocalMailRecipient"),
            ("uid", name),
            ("cn", name),
            ("sn", name),
            ("mail", &format!("{name}@{DOMAIN}")),
            ("mailLocalAddress", &format!("{more}@{DOMAIN}")),
            ("userPassword", PASSWORD),
        ];
        must(must(bind).add(&format!("uid={name},ou=people,{SUFFIX}"), &attributes));
    }

    /// Whether the web server, the mail server and the mailboxes' server show a certificate of this authority for a name.
    fn shows(&mut self, authority: &str, name: &str) -> [bool; 3] {
        [443, 465, 993].map(|port| is_believed(must(self.guest.0.port(port)), Trust { authority, name }).is_ok())
    }

    fn told(&mut self, key: &str) -> String {
        let text = inside(
            &mut self.guest,
            &["/usr/lib/cairn/test-agent", "show", "/etc/pigeon/account"],
        );
        let line = text.1.lines().find_map(|line| line.strip_prefix(&format!("{key} ")));
        line.unwrap_or_else(|| panic!("no {key} in {}", text.1)).to_owned()
    }

    /// The unit sends its letter by what it knows, or by something else.
    fn unit_sends(&mut self, from: Option<&str>, password: Option<&str>) -> (i32, String) {
        let (server, user) = (self.told("server"), self.told("user"));
        let from = from.map_or_else(|| self.told("from"), str::to_owned);
        let known = self.guest.read("/run/cairn/secrets/pigeon/mail");
        let login = format!("{user}:{}", password.unwrap_or(&known));
        let (server, to) = (format!("smtps://{server}"), format!("grace@{DOMAIN}"));
        let argv = [
            "/usr/bin/curl",
            "--silent",
            "--show-error",
            "--cacert",
            "/run/secrets/ca",
            "--user",
            &login,
            "--mail-from",
            &from,
            "--mail-rcpt",
            &to,
            "--upload-file",
            "/etc/pigeon/letter",
            &server,
        ];
        inside(&mut self.guest, &argv)
    }
}

fn inside(guest: &mut Guest, argv: &[&str]) -> (i32, String) {
    guest.ran(&[&[CAIRN, "enter", "pigeon", "--"], argv].concat(), PATIENCE)
}

fn is(said: &str, code: &str) {
    assert!(said.starts_with(code), "{said}, not {code}");
}

fn people_write_to_each_other(mail: &mut Mail) {
    let (ada, grace) = (format!("ada@{DOMAIN}"), format!("grace@{DOMAIN}"));
    let mut smtp = mail.submission();
    is(&must(smtp.log_in("ada", PASSWORD)), "235");
    is(&must(smtp.send(&ada, &grace, "by TLS")), "250");
    let mut smtp = mail.starttls();
    is(&must(smtp.log_in(&ada, PASSWORD)), "235");
    is(
        &must(smtp.send(&format!("countess@{DOMAIN}"), &grace, "by STARTTLS")),
        "250",
    );
    let mut smtp = mail.outside();
    let to = format!("countess@{DOMAIN}");
    is(
        &must(smtp.send("someone@elsewhere.example", &to, "from outside")),
        "250",
    );
    mail.comes("grace", "by TLS");
    mail.comes("grace", "by STARTTLS");
    mail.comes("ada", "from outside");
    assert_eq!(mail.has("ada", "by TLS"), 0);
}

fn what_is_not_theirs_is_refused(mail: &mut Mail) {
    let (ada, grace) = (format!("ada@{DOMAIN}"), format!("grace@{DOMAIN}"));
    // Without the password, or before it is said.
    for (name, password) in [("ada", "wrong"), ("ada", ""), ("nobody", PASSWORD), ("*", PASSWORD)] {
        is(&must(mail.submission().log_in(name, password)), "535");
        assert!(mail.mailbox(name, password).is_err(), "{name} {password}");
    }
    is(&must(mail.submission().send(&ada, &grace, "x")), "550");
    // A password is not asked for where it could be read.
    let mut plain = must(Smtp::plain(must(mail.guest.0.port(587))));
    assert!(!plain.extensions.contains("AUTH"), "{}", plain.extensions);
    is(&must(plain.log_in("ada", PASSWORD)), "503");
    // No open relay.
    for to in [
        "someone@elsewhere.example",
        "grace@mailbox.invalid",
        "someone%elsewhere.example@post.example",
        "@post.example:someone@elsewhere.example",
        "nobody@post.example",
    ] {
        is(&must(mail.outside().send("someone@elsewhere.example", to, "x")), "5");
    }
    // In nobody else's name.
    let mut smtp = mail.submission();
    is(&must(smtp.log_in("ada", PASSWORD)), "235");
    is(&must(smtp.send(&grace, &ada, "x")), "550");
    is(&must(smtp.say("RSET")), "250");
    // A mailbox is its person's.
    let mut imap = must(mail.mailbox("ada", PASSWORD));
    for other in [
        "../of-grace/Maildir",
        "~grace/INBOX",
        "/var/lib/mail/of-grace/Maildir",
        "user/grace",
        "#shared/grace",
    ] {
        assert!(!must(imap.ask(&format!("SELECT \"{other}\""))).0, "{other}");
    }
    let (_, list) = must(imap.ask("LIST \"\" \"*\""));
    assert!(!list.contains("grace"), "{list}");
}

fn a_unit_sends_by_its_account_and_does_nothing_else(mail: &mut Mail) {
    assert_eq!(mail.told("from"), format!("pigeon@{DOMAIN}"));
    let (status, said) = mail.unit_sends(None, None);
    assert_eq!(status, 0, "{said}");
    mail.comes("grace", "from a unit");
    for (from, password) in [
        (Some("grace@post.example"), None),
        (None, Some("wrong")),
        (None, Some("pigeon@post.example")),
    ] {
        let (status, said) = mail.unit_sends(from, password);
        assert_ne!(status, 0, "{from:?} {password:?}: {said}");
    }
    let (user, password) = (mail.told("user"), mail.guest.read("/run/cairn/secrets/pigeon/mail"));
    for name in [user.as_str(), "pigeon_mail"] {
        assert!(mail.mailbox(name, &password).is_err(), "{name}");
    }
}

fn new_passwords_lose_no_letter(mail: &mut Mail) {
    let before = mail.guest.read("/run/cairn/secrets/pigeon/mail");
    let pids = ["exim", "dovecot"].map(|unit| mail.guest.unit(unit)["pid"].clone());
    mail.guest.cairn(&["secrets", "rotate"]);
    let (mut sent, mut from_unit) = (0, 1);
    wait_until("the passwords have changed", PATIENCE, || {
        let mut smtp = mail.submission();
        is(&must(smtp.log_in("ada", PASSWORD)), "235");
        let (ada, grace) = (format!("ada@{DOMAIN}"), format!("grace@{DOMAIN}"));
        is(&must(smtp.send(&ada, &grace, "meanwhile")), "250");
        is(
            &must(mail.outside().send("a@elsewhere.example", &grace, "meanwhile")),
            "250",
        );
        sent += 2;
        let (status, said) = mail.unit_sends(None, None);
        assert_eq!(status, 0, "{said}");
        from_unit += 1;
        must(mail.mailbox("ada", PASSWORD));
        !mail.guest.cairn(&["--json", "secrets"]).contains("\"changing\"")
    });
    let after = mail.guest.read("/run/cairn/secrets/pigeon/mail");
    assert_ne!(after, before);
    assert_ne!(mail.unit_sends(None, Some(&before)).0, 0);
    wait_until("every letter", PATIENCE, || {
        mail.has("grace", "meanwhile") == sent && mail.has("grace", "from a unit") == from_unit
    });
    let now = ["exim", "dovecot"].map(|unit| mail.guest.unit(unit)["pid"].clone());
    assert_eq!(now, pids, "neither was restarted");
}

#[test]
fn people_and_units_have_mail_and_nobody_what_is_anothers() {
    let file = must(tempfile::NamedTempFile::new());
    must(std::fs::write(file.path(), CHOICES));
    let options = Options {
        ports: vec![25, 80, 443, 465, 587, 993, 389],
        ..Options::default()
    };
    let home = must(Home::new("mail", &must(images::mail_with(file.path())), options));
    let machine = must(home.start());
    must(machine.wait_for("Set up by setup.toml of the volume ESP", READY));
    let mut guest = Guest(machine);
    for unit in ["slapd", "dovecot", "exim", "pigeon"] {
        guest.wait_ready(unit);
    }
    let authority = guest.read("/run/cairn/secrets/pigeon/ca");
    let mail = &mut Mail { guest, authority };
    mail.person("ada", "countess");
    mail.person("grace", "admiral");
    people_write_to_each_other(mail);
    what_is_not_theirs_is_refused(mail);
    a_unit_sends_by_its_account_and_does_nothing_else(mail);
    new_passwords_lose_no_letter(mail);
    for unit in ["exim", "dovecot"] {
        mail.guest.cairn(&["security", unit]);
    }
    one_certificate_that_everybody_trusts_is_shared(mail);
}

/// By ACME: nothing is ordered before the owner agrees; then the web and mail servers show what the authority issued, without a restart,
/// and what is revoked is replaced.
fn one_certificate_that_everybody_trusts_is_shared(mail: &mut Mail) {
    let authority = must(Authority::start(DOMAIN, must(mail.guest.0.port(80))));
    let listed = mail.guest.cairn(&["set", "acme"]);
    assert!(
        listed.contains("agree = False") || listed.contains("agree = false"),
        "{listed}"
    );
    mail.guest.write("/run/authority.pem", authority.trust());
    let directory = format!("directory={}", authority.directory());
    mail.guest.cairn(&[
        "set",
        "acme",
        &directory,
        "trust=@/run/authority.pem",
        "contact=owner@post.example",
    ]);
    // A name that is none is refused, and nothing of the same line is chosen.
    let (code, said) = mail
        .guest
        .ran(&[CAIRN, "set", "acme", "agree=true", "names=Imap"], PATIENCE);
    assert!(
        code != 0 && said.contains("`names` must be a domain in lower case"),
        "{said}"
    );
    let listed = mail.guest.cairn(&["set", "acme"]);
    assert!(!listed.contains("agree = true"), "{listed}");
    assert!(!authority.said().contains("accounts in memory"), "{}", authority.said());

    let before = mail.guest.processes("units/dovecot");
    mail.guest
        .cairn(&["set", "acme", "agree=true", "names=imap.post.example"]);
    let (root, other) = (must(authority.root()), mail.authority.clone());
    wait_until("the authority's certificate is shown", PATIENCE, || {
        mail.shows(&root, DOMAIN) == [true; 3]
    });
    assert_eq!(mail.shows(&root, "imap.post.example"), [true; 3]);
    assert_eq!(mail.shows(&other, DOMAIN), [false; 3]);
    assert_eq!(
        mail.guest.processes("units/dovecot")[0],
        before[0],
        "it was told, not restarted"
    );
    let told = mail.guest.cairn(&["certificates"]);
    assert!(told.contains("Pebble Intermediate"), "{told}");

    let serial = |guest: &mut Guest| -> String {
        let told: serde_json::Value = must(serde_json::from_str(&guest.cairn(&["--json", "certificates"])));
        told["imported"].to_string()
    };
    let first = serial(&mut mail.guest);
    let revoke = [CAIRN, "enter", "acme", "--", "/usr/bin/cairn-acme", "revoke", "domain"];
    let (code, said) = mail.guest.ran(&revoke, PATIENCE);
    assert!(code == 0 && said.contains("domain is revoked"), "{said}");
    mail.guest.cairn(&["restart", "acme"]);
    wait_until("another is shown in its place", PATIENCE, || {
        serial(&mut mail.guest) != first
    });
    wait_until("and believed", PATIENCE, || mail.shows(&root, DOMAIN) == [true; 3]);
}
