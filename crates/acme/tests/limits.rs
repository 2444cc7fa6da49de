//! An authority that asks for patience is left alone for so long, and one that wants another nonce gets one at once. Pebble has no
//! limits, and refuses nonces by chance, so this one is made up.

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

/// How far the clock is set forward, in seconds.
static AHEAD: AtomicI64 = AtomicI64::new(0);

fn now() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(AHEAD.load(Ordering::Relaxed))
}

/// An authority that takes no order.
struct Authority {
    tls: Arc<ServerConfig>,
    address: String,
    /// How many orders were asked for.
    orders: AtomicUsize,
    /// How many of the first orders are refused for their nonce.
    nonces: usize,
}

/// Starts one on the machines' port.
fn authority(machines: &Machines, nonces: usize) -> Arc<Authority> {
    let read = |file: &str| std::fs::read(machines.at(file)).unwrap();
    let certificate = CertificateDer::from_pem_slice(&read("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let tls = tls
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let authority = Arc::new(Authority {
        tls: Arc::new(tls),
        address: format!("https://localhost:{}", machines.port),
        orders: AtomicUsize::new(0),
        nonces,
    });
    let (listener, own) = (
        TcpListener::bind(("127.0.0.1", machines.port)).unwrap(),
        authority.clone(),
    );
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let own = own.clone();
            std::thread::spawn(move || serve(stream, &own));
        }
    });
    authority
}

/// Answers one connection's requests.
fn serve(stream: TcpStream, authority: &Authority) -> std::io::Result<()> {
    let (tls, address) = (authority.tls.clone(), &authority.address);
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
            "/order" if authority.orders.fetch_add(1, Ordering::Relaxed) < authority.nonces => {
                let problem = serde_json::json!({"type": "urn:ietf:params:acme:error:badNonce", "status": 400});
                ("400 Bad Request", String::new(), problem.to_string())
            }
            "/order" => {
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
    let authority = authority(&machines, 0);
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
    assert_eq!(authority.orders.load(Ordering::Relaxed), 1);
    for (hours, orders) in [(1, 1), (23, 1), (25, 2)] {
        AHEAD.store(hours * 3600, Ordering::Relaxed);
        let _ = drive(&world, "web").await;
        assert_eq!(authority.orders.load(Ordering::Relaxed), orders, "after {hours} hours");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_authority_that_wants_another_nonce_gets_one_at_once_however_often() {
    let machines = Machines::new();
    let authority = authority(&machines, 8);
    let world = machines
        .real(&format!("---{}", one("web", &["a.acme.test"], "http-01")))
        .await;
    let trouble = drive(&world, "web").await.unwrap_err();
    assert_eq!(trouble.kind, Kind::Limited, "{trouble}");
    assert_eq!(authority.orders.load(Ordering::Relaxed), 9);
}
