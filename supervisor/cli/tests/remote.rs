//! Commands to an appliance on another machine: it is believed by the fingerprint that its owner compared, and by nothing else.
#![cfg(feature = "remote")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest as _, Sha256};

const TOKEN: &str = "cairn_abcdefghijklmnop";
const STATUS: &str = r#"{"appliance":"birch","version":"1.4.0","address":"","ready":true,"firewall":true,"going_down":null,"uptime_ms":1000,"units":[]}"#;

const MACHINE: &str = r#"{"memory":2147483648,"cpus":2,"data":{"size":8589934592,"used":1073741824,"free":6442450944},"clock":{"now":"2026-11-23T19:00:00Z","synchronised":false,"error_us":null}}"#;

/// An authority and a panel whose certificate is its.
struct Appliance {
    port: u16,
    fingerprint: String,
}

fn authority() -> (Issuer<'static, KeyPair>, rcgen::Certificate) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (Issuer::new(params, key), certificate)
}

/// A panel on this port, or on any; it gives one authority's certificate and shows another's when `honest` is false.
fn appliance(port: u16, honest: bool) -> Appliance {
    let (issuer, certificate) = authority();
    let (signer, _) = if honest { (issuer, ()) } else { (authority().0, ()) };
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &signer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let print: Vec<String> = Sha256::digest(certificate.der())
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let pem = certificate.pem();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let mut lines = BufReader::new(&mut stream).lines().map_while(Result::ok);
            let Some(first) = lines.next() else { continue };
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let known = head
                .iter()
                .any(|line| *line == format!("authorization: Bearer {TOKEN}"));
            let (status, body) = match first.as_str() {
                "GET /trust/cairn-ca.crt HTTP/1.1" => (200, pem.as_str()),
                _ if !known => (401, r#"{"error":"who are you?"}"#),
                "GET /api/v1/status HTTP/1.1" => (200, STATUS),
                "GET /api/v1/machine HTTP/1.1" => (200, MACHINE),
                "POST /api/v1/site HTTP/1.1" => (400, r#"{"error":"site.toml:2:1: unknown key `shoe`","problems":[]}"#),
                "POST /api/v1/units/web/restart HTTP/1.1" => (409, r#"{"error":"unit web is disabled"}"#),
                "GET /api/v1/units/db HTTP/1.1" => (404, r#"{"error":"there is no unit db"}"#),
                _ => (
                    404,
                    r#"{"error":"there is nothing here; GET /api/v1/openapi.json tells what there is"}"#,
                ),
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    Appliance {
        port,
        fingerprint: print.concat(),
    }
}

fn cairn(home: &Path, words: &[&str], input: &str) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cairn"))
        .args(words)
        .env("XDG_CONFIG_HOME", home)
        .env_remove("CAIRN_REMOTE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let said = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code().unwrap(), said)
}

fn add(home: &Path, port: u16, fingerprint: &str, token: &str) -> (i32, String) {
    let address = format!("https://localhost:{port}");
    cairn(
        home,
        &["remote", "add", "birch", &address, "--fingerprint", fingerprint],
        token,
    )
}

#[test]
fn an_appliance_that_is_known_is_asked_as_if_it_were_this_one() {
    let home = tempfile::tempdir().unwrap();
    let there = appliance(0, true);
    assert_eq!(
        add(home.path(), there.port, &there.fingerprint, TOKEN),
        (0, String::new())
    );
    let kept = home.path().join("cairn/remotes/birch.toml");
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let (code, said) = cairn(home.path(), &["--remote", "birch", "status"], "");
    assert!(code == 0 && said.contains("birch 1.4.0"), "{said}");
    let (code, said) = cairn(home.path(), &["restart", "web", "--remote", "birch"], "");
    assert_eq!((code, said.as_str()), (1, "cairn: unit web is disabled\n"));
    let (code, said) = cairn(home.path(), &["explain", "db", "--remote", "birch"], "");
    assert_eq!((code, said.as_str()), (1, "cairn: there is no unit db\n"));
    let (code, said) = cairn(home.path(), &["--remote", "birch", "machine"], "");
    assert!(code == 0 && said.contains("8.0 G, 1.0 G used, 6.0 G free"), "{said}");
    assert!(
        said.contains("2026-11-23T19:00:00Z (UTC), kept by no time server"),
        "{said}"
    );
    let words = ["--remote", "birch", "config", "write", "-"];
    let (code, said) = cairn(home.path(), &words, "\nshoe = 1\n");
    assert_eq!((code, said.as_str()), (1, "cairn: site.toml:2:1: unknown key `shoe`\n"));
    let (code, said) = cairn(home.path(), &["--remote", "birch", "config", "write", "/no/file"], "");
    assert!(code == 1 && said.contains("cannot read /no/file"), "{said}");
    // What only the appliance itself can do is said to be so.
    for words in [
        &["--remote", "birch", "logs"][..],
        &["--remote", "birch", "kill", "web"],
    ] {
        let (code, said) = cairn(home.path(), words, "");
        assert!(
            code == 2 && said.contains("only done on the appliance itself"),
            "{said}"
        );
    }
    let (code, said) = cairn(home.path(), &["remote", "list"], "");
    assert_eq!((code, said), (0, format!("birch\thttps://localhost:{}\n", there.port)));
    assert_eq!(cairn(home.path(), &["remote", "remove", "birch"], "").0, 0);
    let (code, said) = cairn(home.path(), &["--remote", "birch", "status"], "");
    assert!(
        code == 1 && said.contains("no appliance `birch` is known here"),
        "{said}"
    );
}

#[test]
fn nobody_between_is_believed_and_nothing_is_kept_of_a_failure() {
    let home = tempfile::tempdir().unwrap();
    let there = appliance(0, true);
    let other = "00".repeat(32);
    let (code, said) = add(home.path(), there.port, &other, TOKEN);
    assert!(code == 1 && said.contains("another fingerprint"), "{said}");
    // Without a fingerprint nothing is believed where nobody can be asked.
    let address = format!("https://localhost:{}", there.port);
    let (code, said) = cairn(home.path(), &["remote", "add", "birch", &address], TOKEN);
    assert!(code == 2 && said.contains("--fingerprint"), "{said}");
    let (code, said) = add(home.path(), there.port, &there.fingerprint, "wrong");
    assert!(code == 1 && said.contains("does not take the token"), "{said}");
    let (code, said) = add(home.path(), there.port, &there.fingerprint, "");
    assert!(code == 2 && said.contains("there is no token"), "{said}");
    assert!(!home.path().join("cairn/remotes/birch.toml").exists());

    // One who shows the right authority's certificate, and has not its key.
    let false_one = appliance(0, false);
    let (code, said) = add(home.path(), false_one.port, &false_one.fingerprint, TOKEN);
    assert!(code == 4 && said.contains("not one to believe"), "{said}");
    // And one who takes the place of an appliance that is known.
    assert_eq!(add(home.path(), there.port, &there.fingerprint, TOKEN).0, 0);
    let text = std::fs::read_to_string(home.path().join("cairn/remotes/birch.toml")).unwrap();
    let text = text.replace(&there.port.to_string(), &appliance(0, true).port.to_string());
    std::fs::write(home.path().join("cairn/remotes/birch.toml"), text).unwrap();
    let (code, said) = cairn(home.path(), &["--remote", "birch", "status"], "");
    assert!(code == 4 && said.contains("not one to believe"), "{said}");
}
