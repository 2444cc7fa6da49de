//! An authority that speaks ACME (pebble) and the name server by which it finds who asks (knot), other people's programs, on loopback:
//! QEMU's user network reaches them at 10.0.2.2.

use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use imagegen::machine::{Bind, Launch, Launcher as _};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::{images, tools};

/// How long they have to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// An authority that runs until it is dropped.
pub struct Authority {
    folder: tempfile::TempDir,
    port: u16,
    management: u16,
    trust: String,
    servers: Vec<Child>,
    said: Arc<Mutex<String>>,
}

impl Authority {
    /// One that looks for the answers of a domain's names at a port of this machine.
    ///
    /// # Errors
    /// The judges cannot be had, or one of them does not listen.
    pub fn start(domain: &str, http: u16) -> io::Result<Authority> {
        let kept = images::target().join("qemu-tests");
        std::fs::create_dir_all(&kept)?;
        let folder = tempfile::Builder::new().prefix("authority-").tempdir_in(&kept)?;
        let at = |name: &str| folder.path().join(name).display().to_string();
        let key = rcgen::KeyPair::generate().map_err(io::Error::other)?;
        let names = ["localhost", "127.0.0.1", "10.0.2.2"].map(str::to_owned);
        let made = rcgen::CertificateParams::new(names).and_then(|params| params.self_signed(&key));
        let trust = made.map_err(io::Error::other)?.pem();
        std::fs::write(at("server.pem"), &trust)?;
        std::fs::write(at("server.key"), key.serialize_pem())?;
        let (port, management, dns) = (free_port()?, free_port()?, free_port()?);
        let zone = "@ 1 SOA ns host 1 60 60 60 1\n@ 1 NS ns\nns 1 A 127.0.0.1\n@ 1 A 127.0.0.1\n* 1 A 127.0.0.1\n";
        std::fs::write(at("zone"), zone)?;
        let text = format!(
            "server:\n  listen: 127.0.0.1@{dns}\n  rundir: {here}\ndatabase:\n  storage: {here}\nzone:\n  - domain: {domain}\n    \
             storage: {here}\n    file: zone\n    zonefile-sync: -1\n",
            here = folder.path().display(),
        );
        std::fs::write(at("knot.conf"), text)?;
        let pebble = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": at("server.pem"), "privateKey": at("server.key"),
            "httpPort": http, "tlsPort": http, "ocspResponderURL": "", "retryAfter": { "authz": 1, "order": 1 },
        }});
        std::fs::write(at("pebble.json"), pebble.to_string())?;
        let mut authority = Authority {
            port,
            management,
            trust,
            servers: Vec::new(),
            said: Arc::default(),
            folder,
        };
        let knot = ["-c".to_owned(), at_folder(&authority, "knot.conf")];
        authority.serve("knotd", &knot, dns)?;
        let dns = format!("127.0.0.1:{dns}");
        let config = at_folder(&authority, "pebble.json");
        let words = [
            "PEBBLE_VA_NOSLEEP=1",
            "PEBBLE_AUTHZREUSE=0",
            "pebble",
            "-strict",
            "-dnsserver",
            &dns,
            "-config",
            &config,
        ];
        authority.serve("env", &words.map(str::to_owned), port)?;
        Ok(authority)
    }

    fn serve(&mut self, program: &'static str, args: &[String], port: u16) -> io::Result<()> {
        let launch = Launch {
            program,
            args: args.to_vec(),
            binds: vec![Bind::writable(self.folder.path())],
        };
        let judges = tools::judges().map_err(io::Error::other)?;
        let mut child = judges.spawn(&launch).map_err(io::Error::other)?;
        let (out, error) = (child.stdout.take(), child.stderr.take());
        if let Some(out) = out {
            self.hear(out);
        }
        if let Some(error) = error {
            self.hear(error);
        }
        self.servers.push(child);
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = match self.servers.last_mut() {
                Some(child) => child.try_wait()?,
                None => None,
            };
            if ended.is_some() || Instant::now() > until {
                return Err(io::Error::other(format!("{program} does not listen: {}", self.said())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Keeps what a server says, so that it never waits for somebody to read it.
    fn hear(&self, from: impl io::Read + Send + 'static) {
        let said = self.said.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                said.push_str(&line);
                said.push('\n');
            }
        });
    }

    /// The address of its directory, as a guest reaches it.
    pub fn directory(&self) -> String {
        format!("https://10.0.2.2:{}/dir", self.port)
    }

    /// The certificate by which its own server is believed, in PEM.
    pub fn trust(&self) -> &str {
        &self.trust
    }

    /// The root of the certificates that it issues, in PEM.
    ///
    /// # Errors
    /// It does not answer.
    pub fn root(&self) -> io::Result<String> {
        let own = Certificate::from_pem(self.trust.as_bytes()).map_err(io::Error::other)?;
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[own]));
        let agent = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .build()
            .new_agent();
        let answer = agent
            .get(format!("https://localhost:{}/roots/0", self.management))
            .call();
        let answer = answer.and_then(|answer| answer.into_body().read_to_string());
        answer.map_err(io::Error::other)
    }

    /// What the servers have said.
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn at_folder(authority: &Authority, name: &str) -> String {
    authority.folder.path().join(name).display().to_string()
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Drop for Authority {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
