//! Against a real authority and a real name server.

mod common;

use std::path::Path;
use std::sync::Arc;

use cairn_acme::{Step, revoke, round};
use cairn_config::Real;
use cairn_config::pki::{Names, examine, root_name};
use common::{Machines, Manner, drive, judge, one};
use jiff::{SignedDuration, Timestamp};

/// Whether OpenSSL takes a chain for a name.
fn openssl_takes(machines: &Machines, pem: &str, name: &str) -> bool {
    let Some(mut openssl) = judge("openssl") else {
        return true;
    };
    let write = |file: &str, text: &str| std::fs::write(machines.at(file), text).unwrap();
    write("root.pem", &machines.managed("/roots/0"));
    write("chain.pem", pem);
    let output = openssl
        .current_dir(machines.dir.path())
        .args([
            "verify",
            "-CAfile",
            "root.pem",
            "-no-CApath",
            "-untrusted",
            "chain.pem",
            "-verify_hostname",
            name,
            "chain.pem",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {said}");
    true
}

#[tokio::test(flavor = "current_thread")]
async fn each_way_of_showing_a_name_gives_a_certificate_that_is_handed_over() {
    let mut machines = Machines::new();
    let all = one("web", &["a.acme.test", "b.acme.test"], "http-01")
        + &one("tls", &["c.acme.test"], "tls-alpn-01")
        + &one("star", &["*.acme.test", "acme.test"], "dns-01");
    let world = machines
        .real(&format!("contact = [\"mailto:admin@acme.test\"]---{all}"))
        .await;
    if !machines.start(&world, &Manner::default()) {
        return;
    }
    // All at once, each by itself.
    let (web, tls, star) = tokio::join!(drive(&world, "web"), drive(&world, "tls"), drive(&world, "star"));
    for (of, step, names) in [
        ("web", web, &["a.acme.test", "b.acme.test"][..]),
        ("tls", tls, &["c.acme.test"]),
        ("star", star, &["acme.test", "x.acme.test"]),
    ] {
        let step = step.unwrap_or_else(|e| panic!("{of}: {e}\n{}", machines.log()));
        assert!(matches!(step, Step::Wait { trouble: false, .. }), "{step}");
        let pem = machines.out(of).unwrap();
        let wanted: Names = names.iter().map(|name| name.parse().unwrap()).collect();
        let seen = examine(&pem, &wanted).unwrap();
        assert!(seen.issuer.starts_with("Pebble Intermediate CA"), "{}", seen.issuer);
        for name in names {
            assert!(openssl_takes(&machines, &pem, name));
        }
    }
    // The zone is as it was, and one account was made for all.
    assert_eq!(world.store.kept("star").unwrap().records, []);
    assert_eq!(std::fs::read_dir(machines.at("state/accounts")).unwrap().count(), 1);
    assert_eq!(
        machines.log().matches("There are now 1 accounts in memory").count(),
        1,
        "{}",
        machines.log()
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_renewal_has_another_key_and_is_handed_over_in_place_of_the_old() {
    let mut machines = Machines::new();
    let world = machines
        .real(&format!("---{}", one("web", &["a.acme.test"], "http-01")))
        .await;
    if !machines.start(&world, &Manner::default()) {
        return;
    }
    drive(&world, "web").await.unwrap();
    let first = machines.out("web").unwrap();
    // Nothing is done before its time.
    let until = match drive(&world, "web").await.unwrap() {
        Step::Wait { until, .. } => until,
        other => panic!("{other}"),
    };
    assert!(until > Timestamp::now());
    // The authority was asked when to renew, and has said it.
    let window = world.store.kept("web").unwrap().window.unwrap();
    assert!(
        window.between.is_some() && window.ask_at > Timestamp::now(),
        "{window:?}"
    );
    assert_eq!(machines.out("web").unwrap(), first);
    // The authority says that it should have been yesterday.
    machines.change("web", |kept| {
        let day = |ago: i64| (Timestamp::now() - SignedDuration::from_hours(24 * ago)).to_string();
        kept["window"] = serde_json::json!({ "between": [day(2), day(1)], "ask_at": "9000-01-01T00:00:00Z" });
    });
    drive(&world, "web").await.unwrap();
    let second = machines.out("web").unwrap();
    let key = |pem: &str| pem.split("-----END PRIVATE KEY-----").next().unwrap().to_owned();
    assert_ne!(key(&first), key(&second));
    assert!(openssl_takes(&machines, &second, "a.acme.test"));
    assert_eq!(world.store.kept("web").unwrap().issued.len(), 2);
}

#[tokio::test(flavor = "current_thread")]
async fn a_revoked_certificate_is_known_as_such_to_the_authority_and_replaced() {
    let mut machines = Machines::new();
    let world = machines
        .real(&format!("---{}", one("web", &["a.acme.test"], "http-01")))
        .await;
    if !machines.start(&world, &Manner::default()) {
        return;
    }
    let missing = revoke(&world, "web", false).await.unwrap_err();
    assert_eq!(missing.why, "there is no certificate `web`");
    drive(&world, "web").await.unwrap();
    let first = machines.out("web").unwrap();
    revoke(&world, "web", true).await.unwrap();
    // Asked twice, it is as it should be.
    revoke(&world, "web", false).await.unwrap();
    assert!(
        machines
            .managed(&format!("/cert-status-by-serial/{}", serial(&first)))
            .contains("Revoked")
    );
    let (step, failed) = round(&world, "web").await.unwrap();
    assert_eq!(step.to_string(), "web: order one for a.acme.test: it was revoked");
    assert_eq!(failed, None);
    drive(&world, "web").await.unwrap();
    let second = machines.out("web").unwrap();
    assert_ne!(first, second);
    assert!(
        machines
            .managed(&format!("/cert-status-by-serial/{}", serial(&second)))
            .contains("Valid")
    );
}

/// The serial number of the first certificate, in hexadecimal.
fn serial(pem: &str) -> String {
    let all = pem::parse_many(pem).unwrap();
    let leaf = all.iter().find(|block| block.tag() == "CERTIFICATE").unwrap();
    // SEQUENCE, SEQUENCE, [0] version, and then the INTEGER.
    let at = leaf
        .contents()
        .windows(5)
        .position(|w| w == [0xa0, 3, 2, 1, 2])
        .unwrap()
        + 5;
    let length = usize::from(leaf.contents()[at + 1]);
    let bytes = &leaf.contents()[at + 2..at + 2 + length];
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .trim_start_matches("00")
        .to_owned()
}

#[tokio::test(flavor = "current_thread")]
async fn an_external_account_is_asked_for_in_words_and_used_where_it_is_given() {
    let mut machines = Machines::new();
    let wanted = one("web", &["a.acme.test"], "http-01");
    let without = machines.real(&format!("---{wanted}")).await;
    let manner = Manner {
        external: true,
        ..Manner::default()
    };
    if !machines.start(&without, &manner) {
        return;
    }
    let trouble = drive(&without, "web").await.unwrap_err();
    assert!(
        trouble
            .why
            .ends_with("the authority wants an external account: set [external_account]"),
        "{trouble}"
    );
    let key = machines.at("external");
    let given = format!(
        "external_account = {{ id = \"kid-1\", key_file = \"{}\" }}",
        key.display()
    );
    let world = machines.real(&format!("{given}---{wanted}")).await;
    machines.change("web", |kept| kept["failure"] = serde_json::Value::Null);
    let (step, failed) = round(&world, "web").await.unwrap();
    assert!(
        matches!(step, Step::Order { .. }) && failed.is_none(),
        "{step}: {failed:?}"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn the_chain_to_the_preferred_root_is_taken() {
    let mut machines = Machines::new();
    let wanted = one("web", &["a.acme.test"], "http-01");
    let first = machines.real(&format!("---{wanted}")).await;
    let manner = Manner {
        variables: vec![("PEBBLE_ALTERNATE_ROOTS", "2")],
        ..Manner::default()
    };
    if !machines.start(&first, &manner) {
        return;
    }
    let name = |n: u32| root_name(&machines.managed(&format!("/roots/{n}"))).unwrap();
    drive(&first, "web").await.unwrap();
    assert_eq!(root_name(&machines.out("web").unwrap()).unwrap(), name(0));
    let config = machines.config(&format!("chain = \"{}\"---{wanted}", name(2)));
    let config = same_ports(config, &first);
    drop(first);
    // The tasks that answered for the first end when the runtime comes to them.
    tokio::task::yield_now().await;
    let second = machines.world(config, Arc::new(Real), Timestamp::now).await;
    revoke(&second, "web", false).await.unwrap();
    drive(&second, "web").await.unwrap();
    assert_eq!(root_name(&machines.out("web").unwrap()).unwrap(), name(2));
}

/// The configuration with challenges answered where another world does.
fn same_ports(mut config: cairn_acme::Config, world: &cairn_acme::World) -> cairn_acme::Config {
    (config.http, config.tls_alpn) = (world.addresses.http, world.addresses.tls_alpn);
    config
}

/// The program, with its lines as they come; killed when it is dropped.
struct Program(
    std::process::Child,
    std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
);

impl Program {
    fn start(config: &Path) -> Program {
        use std::io::BufRead as _;
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cairn-acme"));
        command
            .arg("run")
            .arg("--config")
            .arg(config)
            .stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        Program(child, lines)
    }

    /// Reads until a line begins so.
    fn until(&mut self, beginning: &str) -> Vec<String> {
        let mut seen = Vec::new();
        for line in &mut self.1 {
            seen.push(line.unwrap());
            if seen.last().is_some_and(|line| line.starts_with(beginning)) {
                return seen;
            }
        }
        panic!("it has ended: {seen:?}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_program_goes_on_with_its_order_after_a_kill_and_says_what_it_does() {
    let mut machines = Machines::new();
    let (http, tls) = (common::free_port(), common::free_port());
    let text = machines.text(&format!("---{}", one("web", &["a.acme.test"], "http-01")));
    let text = text.replacen("127.0.0.1:0", &format!("127.0.0.1:{http}"), 1).replacen(
        "127.0.0.1:0",
        &format!("127.0.0.1:{tls}"),
        1,
    );
    let config = machines.at("config.toml");
    std::fs::write(&config, text).unwrap();
    let at = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    if !machines.start_for(at(http), at(tls), &Manner::default()) {
        return;
    }
    let mut first = Program::start(&config);
    first.until("web: order one for a.acme.test: there is none");
    drop(first);
    let mut second = Program::start(&config);
    let lines = second.until("web: wait until ");
    drop(second);
    let said = lines.join("\n");
    assert!(said.contains("web: go on with the order https://localhost:"), "{said}");
    assert!(
        said.contains("web: hand it over") && !said.contains("order one"),
        "{said}"
    );
    assert!(openssl_takes(&machines, &machines.out("web").unwrap(), "a.acme.test"));
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cairn-acme"));
        let output = command.args(args).arg("--config").arg(&config).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run(&["plan"]).starts_with("web: wait until "));
    assert_eq!(run(&["revoke", "web"]), "web is revoked.\n");
    assert_eq!(run(&["plan"]), "web: order one for a.acme.test: it was revoked\n");
}

#[test]
fn at_a_reload_what_failed_is_tried_again_at_once_with_what_the_file_says_now() {
    let mut machines = Machines::new();
    let [asked, other, tls] = [0; 3].map(|_| common::free_port());
    let config = machines.at("config.toml");
    let write = |machines: &Machines, http: u16| {
        let text = machines.text(&format!("---{}", one("web", &["a.acme.test"], "http-01")));
        let text = text.replacen("127.0.0.1:0", &format!("127.0.0.1:{http}"), 1);
        std::fs::write(&config, text.replacen("127.0.0.1:0", &format!("127.0.0.1:{tls}"), 1)).unwrap();
    };
    // The authority asks where nobody answers.
    write(&machines, other);
    let at = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    if !machines.start_for(at(asked), at(tls), &Manner::default()) {
        return;
    }
    let mut program = Program::start(&config);
    let lines = program.until("<4>web: wait until ");
    assert!(machines.out("web").is_none(), "{lines:?}");
    let process = rustix::process::Pid::from_child(&program.0);
    let hangup = || rustix::process::kill_process(process, rustix::process::Signal::HUP);
    // A file with a mistake changes nothing.
    std::fs::write(&config, "colour = 1\n").unwrap();
    hangup().unwrap();
    let said = program.until("<4>web: wait until ").join("\n");
    assert!(
        said.starts_with("<3>") && said.contains("what held before goes on holding"),
        "{said}"
    );
    write(&machines, asked);
    hangup().unwrap();
    program.until("web: wait until ");
    assert!(openssl_takes(&machines, &machines.out("web").unwrap(), "a.acme.test"));
}
