//! An authority that asks for patience is left alone for so long. Pebble has no limits, so this one is made up.

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use cairn_acme::{Kind, Step};
use cairn_config::Real;
use common::{Machines, drive, one};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How many orders were asked for.
static ORDERS: AtomicUsize = AtomicUsize::new(0);
/// How far the clock is set forward, in seconds.
static AHEAD: AtomicI64 = AtomicI64::new(0);

fn now() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(AHEAD.load(Ordering::Relaxed))
}

/// Answers one connection's requests; `address` is its own.
fn serve(stream: TcpStream, tls: Arc<ServerConfig>, address: &str) -> std::io::Result<()> {
    let connection = ServerConnection::new(tls).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut head = String::new();
        while head != "\r\n" {
            head.clear();
            stream.read_line(&mut head)?;
            if let Some(value) = head.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        stream.read_exact(&mut vec![0; length])?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (status, more, body) = match path.as_str() {
            "/dir" => {
                let at = |path: &str| format!("{address}/{path}");
                let all = serde_json::json!({"newNonce": at("nonce"), "newAccount": at("account"), "newOrder": at("order"),
                    "revokeCert": at("revoke"), "keyChange": at("key")});
                ("200 OK", String::new(), all.to_string())
            }
            "/account" => (
                "201 Created",
                format!("Location: {address}/account/1\r\n"),
                "{\"status\":\"valid\"}".into(),
            ),
            "/order" => {
                ORDERS.fetch_add(1, Ordering::Relaxed);
                let problem = serde_json::json!({"type": "urn:ietf:params:acme:error:rateLimited", "status": 429,
                    "detail": "too many certificates already issued"});
                (
                    "429 Too Many Requests",
                    "Retry-After: 86400\r\n".into(),
                    problem.to_string(),
                )
            }
            _ => ("200 OK", String::new(), String::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nReplay-Nonce: n\r\nContent-Length: {}\r\n{more}\r\n",
            body.len()
        );
        let body = if line.starts_with("HEAD") { String::new() } else { body };
        stream.get_mut().write_all((head + &body).as_bytes())?;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_authority_that_asks_for_patience_is_not_asked_before_that() {
    let machines = Machines::new();
    let read = |file: &str| std::fs::read(machines.at(file)).unwrap();
    let certificate = CertificateDer::from_pem_slice(&read("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let tls = Arc::new(
        tls.with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap(),
    );
    let listener = TcpListener::bind(("127.0.0.1", machines.port)).unwrap();
    let address = format!("https://localhost:{}", machines.port);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (tls, address) = (tls.clone(), address.clone());
            std::thread::spawn(move || serve(stream, tls, &address));
        }
    });
    let config = machines.config(&format!("---{}", one("web", &["a.acme.test"], "http-01")));
    let world = machines.world(config, Arc::new(Real), now).await;
    let begun = now();
    let trouble = drive(&world, "web").await.unwrap_err();
    assert_eq!(trouble.kind, Kind::Limited, "{trouble}");
    assert!(
        trouble.why.contains("too many certificates already issued"),
        "{trouble}"
    );
    let Step::Wait {
        until, trouble: true, ..
    } = drive(&world, "web").await.unwrap()
    else {
        panic!("it does not wait");
    };
    assert!(until >= begun + SignedDuration::from_hours(24), "{until}");
    assert_eq!(ORDERS.load(Ordering::Relaxed), 1);
    for (hours, orders) in [(1, 1), (23, 1), (25, 2)] {
        AHEAD.store(hours * 3600, Ordering::Relaxed);
        let _ = drive(&world, "web").await;
        assert_eq!(ORDERS.load(Ordering::Relaxed), orders, "after {hours} hours");
    }
}
