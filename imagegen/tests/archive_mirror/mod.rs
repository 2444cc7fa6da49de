//! A mirror in a folder, signed by a key of its own, and a small HTTP server for it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use imagegen::cache::Digest;
use pgp::composed::{CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedSecretKey};
use pgp::types::{KeyDetails, Password};

pub(crate) struct TestMirror {
    root: PathBuf,
    key: SignedSecretKey,
}

impl TestMirror {
    pub(crate) fn new(root: &Path) -> Self {
        let mut parameters = SecretKeyParamsBuilder::default();
        parameters
            .key_type(KeyType::Ed25519Legacy)
            .can_certify(true)
            .can_sign(true)
            .primary_user_id("Test <t@example>".into());
        let key = parameters.build().unwrap().generate(pgp_rng()).unwrap();
        fs::create_dir_all(root.join("keys")).unwrap();
        let public = key.to_public_key();
        fs::write(
            root.join("keys/test.asc"),
            public.to_armored_bytes(None.into()).unwrap(),
        )
        .unwrap();
        Self { root: root.into(), key }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.root.clone()
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}/debian", self.root.display())
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join("debian").join(below)
    }

    pub(crate) fn fingerprint(&self) -> String {
        self.key.fingerprint().to_string().to_uppercase()
    }

    pub(crate) fn publish(&self, suite: &str, packages: &str, extra: &str) {
        self.publish_dated(suite, "Sun, 01 Feb 2026 00:00:00 UTC", packages, extra);
    }

    pub(crate) fn publish_dated(&self, suite: &str, date: &str, packages: &str, extra: &str) {
        let list = self.path(&format!("dists/{suite}/main/binary-amd64/Packages"));
        fs::create_dir_all(list.parent().unwrap()).unwrap();
        fs::write(&list, packages).unwrap();
        let text = format!(
            "Origin: Test\nCodename: {suite}\nDate: {date}\n{extra}Architectures: all amd64\nSHA256:\n {} {} main/binary-amd64/Packages\n",
            Digest::of(packages.as_bytes()),
            packages.len()
        );
        let signed = CleartextSignedMessage::sign(pgp_rng(), &text, &*self.key, &Password::empty()).unwrap();
        fs::write(
            self.path(&format!("dists/{suite}/InRelease")),
            signed.to_armored_bytes(None.into()).unwrap(),
        )
        .unwrap();
    }
}

fn pgp_rng() -> rand::rngs::ThreadRng {
    rand::thread_rng()
}

/// Serves a folder on a free port of the loopback until the test ends.
pub(crate) struct Server {
    port: u16,
    /// Requests answered.
    pub(crate) requests: Arc<AtomicUsize>,
    /// Break the connection after so many bytes of a body, this many times.
    pub(crate) breaks: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn new(root: &Path, ranges: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, breaks) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (root, count, cut) = (root.to_path_buf(), requests.clone(), breaks.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, count, cut) = (root.clone(), count.clone(), cut.clone());
                std::thread::spawn(move || {
                    count.fetch_add(1, Ordering::SeqCst);
                    let _ = answer(&root, ranges, &cut, stream);
                });
            }
        });
        Self { port, requests, breaks }
    }

    pub(crate) fn url(&self, below: &str) -> String {
        format!("http://127.0.0.1:{}/{below}", self.port)
    }
}

fn answer(root: &Path, ranges: bool, cut: &AtomicUsize, mut stream: std::net::TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .trim_start_matches('/')
        .to_owned();
    let mut from = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if let Some(range) = header.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim().trim_end_matches('-').parse().unwrap_or(0);
        }
        if header.trim().is_empty() {
            break;
        }
    }
    let Ok(bytes) = fs::read(root.join(path)) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let from = if ranges { from } else { 0 };
    let body = &bytes[from..];
    let status = if from > 0 {
        format!(
            "206 Partial Content\r\nContent-Range: bytes {from}-{}/{}",
            bytes.len() - 1,
            bytes.len()
        )
    } else {
        "200 OK".into()
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    let broken = cut
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
        .is_ok();
    let end = if broken { body.len() / 2 } else { body.len() };
    stream.write_all(&body[..end])
}
