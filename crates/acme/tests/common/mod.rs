//! The other side: pebble as the authority and knot as the name server, other people's programs, each on ports of its own of the
//! loopback. They come from the folder CAIRN_JUDGES or from PATH; there, they may be missing, and a test says that it was skipped.

#![allow(dead_code, reason = "each test file uses a part")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_acme::{Clock, Config, Step, Trouble, World, round, trusted};
use cairn_config::{Disk, Real};
use jiff::Timestamp;

/// The key of the name server's updates.
pub(crate) const TSIG: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0IHRoYXQgaXMgbG9uZyBlbm91Z2g=";

/// A key of an external account, in base64url.
pub(crate) const EXTERNAL: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// A program of the judges; `None` if it is not there.
pub(crate) fn judge(name: &str) -> Option<Command> {
    let judges = std::env::var_os("CAIRN_JUDGES").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = judges
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name));
    let found = all.find(|program| program.is_file());
    if found.is_none() {
        println!("skipped: there is no {name}");
    }
    let mut command = Command::new(found?);
    // The judges' sandbox shows them this machine's loopback only if it is asked to.
    command.env("CAIRN_TOOL_NETWORK", "1");
    Some(command)
}

/// A folder that the judges' sandbox shows: below the build's.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap()
}

/// A port of the loopback that nobody has.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A server that ends with the test.
pub(crate) struct Server(Child);

impl Server {
    /// Starts it, and returns when it listens.
    pub(crate) fn start(mut command: Command, port: u16, log: &Path) -> Server {
        let file = std::fs::File::create(log).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let mut server = Server(command.spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = server.0.try_wait().unwrap();
            let said = || std::fs::read_to_string(log).unwrap();
            assert!(ended.is_none(), "it has ended: {ended:?}\n{}", said());
            assert!(Instant::now() < until, "it does not listen\n{}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What an authority is started with.
#[derive(Default)]
pub(crate) struct Manner {
    /// Variables of its own.
    pub(crate) variables: Vec<(&'static str, &'static str)>,
    /// Whether it makes accounts for those alone who have an external one.
    pub(crate) external: bool,
}

/// The machines of a test: an authority, a name server for the zone `acme.test`, and the program's files.
pub(crate) struct Machines {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) port: u16,
    management: u16,
    dns: u16,
    servers: Vec<Server>,
}

impl Machines {
    /// The files, and the ports.
    pub(crate) fn new() -> Machines {
        let dir = folder();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        std::fs::write(dir.path().join("tsig"), TSIG).unwrap();
        std::fs::write(dir.path().join("external"), EXTERNAL).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        std::fs::write(dir.path().join("server.pem"), made.pem()).unwrap();
        std::fs::write(dir.path().join("server.key"), key.serialize_pem()).unwrap();
        Machines {
            dir,
            port: free_port(),
            management: free_port(),
            dns: free_port(),
            servers: Vec::new(),
        }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The configuration: what stands in `more` before `---` at its beginning, and what stands behind it at its end.
    pub(crate) fn config(&self, more: &str) -> Config {
        Config::parse(&self.text(more)).unwrap()
    }

    /// As [`Machines::config`], as a text.
    pub(crate) fn text(&self, more: &str) -> String {
        let at = |name: &str| self.at(name).display().to_string();
        format!(
            "directory = \"https://localhost:{}/dir\"\nterms_agreed = true\nstate = \"{}\"\ntrust = \"{}\"\n{}\n[deliver]\n\
             folder = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[tls_alpn]\nlisten = \"127.0.0.1:0\"\n[dns]\n\
             server = \"127.0.0.1:{}\"\nzone = \"acme.test\"\nkey = \"acme\"\nsecret_file = \"{}\"\nwait_seconds = 20\n{}",
            self.port,
            at("state"),
            at("server.pem"),
            more.split("---").next().unwrap(),
            at("out"),
            self.dns,
            at("tsig"),
            more.split("---").nth(1).unwrap(),
        )
    }

    /// The program's world.
    pub(crate) async fn world(&self, config: Config, disk: Arc<dyn Disk + Send + Sync>, now: Clock) -> World {
        let roots = trusted(config.trust.as_deref()).unwrap();
        World::new(config, disk, roots, now).await.unwrap()
    }

    /// As [`Machines::world`], with the machine's disk and clock.
    pub(crate) async fn real(&self, more: &str) -> World {
        self.world(self.config(more), Arc::new(Real), Timestamp::now).await
    }

    /// Starts the name server and the authority, which looks for answers where `world` gives them; `false` if they are not there.
    pub(crate) fn start(&mut self, world: &World, manner: &Manner) -> bool {
        self.start_for(world.addresses.http.unwrap(), world.addresses.tls_alpn.unwrap(), manner)
    }

    pub(crate) fn start_for(&mut self, http: SocketAddr, tls: SocketAddr, manner: &Manner) -> bool {
        let (Some(mut knot), Some(mut pebble)) = (judge("knotd"), judge("env")) else {
            return false;
        };
        if judge("pebble").is_none() {
            return false;
        }
        let dir = self.dir.path();
        let zone = "@ 1 SOA ns host 1 60 60 60 1\n@ 1 NS ns\nns 1 A 127.0.0.1\n@ 1 A 127.0.0.1\n* 1 A 127.0.0.1\nbad 1 A 127.0.0.99\n";
        std::fs::write(dir.join("zone"), zone).unwrap();
        let config = format!(
            "server:\n  listen: 127.0.0.1@{}\n  rundir: {1}\ndatabase:\n  storage: {1}\nlog:\n  - target: stdout\n    any: info\nkey:\n  \
             - id: acme\n    algorithm: hmac-sha256\n    secret: {TSIG}\nacl:\n  - id: update\n    key: acme\n    action: update\nzone:\n  \
             - domain: acme.test\n    storage: {1}\n    file: zone\n    zonefile-sync: -1\n    acl: update\n",
            self.dns,
            dir.display(),
        );
        std::fs::write(dir.join("knot.conf"), config).unwrap();
        knot.arg("-c").arg(dir.join("knot.conf"));
        self.servers.push(Server::start(knot, self.dns, &dir.join("knot.log")));
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.port),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": dir.join("server.pem"), "privateKey": dir.join("server.key"),
            "httpPort": http.port(), "tlsPort": tls.port(), "ocspResponderURL": "",
            "externalAccountBindingRequired": manner.external,
            "externalAccountMACKeys": { "kid-1": EXTERNAL },
            "retryAfter": { "authz": 1, "order": 1 },
        }});
        std::fs::write(dir.join("pebble.json"), config.to_string()).unwrap();
        pebble.args(["PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0"]);
        pebble.args(manner.variables.iter().map(|(name, value)| format!("{name}={value}")));
        pebble.args([
            "pebble",
            "-strict",
            "-dnsserver",
            &format!("127.0.0.1:{}", self.dns),
            "-config",
        ]);
        pebble.arg(dir.join("pebble.json"));
        self.servers
            .push(Server::start(pebble, self.port, &dir.join("pebble.log")));
        true
    }

    /// What the authority's management says at a path.
    pub(crate) fn managed(&self, path: &str) -> String {
        let tls = ureq::tls::TlsConfig::builder().root_certs(trusted(Some(&self.at("server.pem"))).unwrap());
        let agent = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .build()
            .new_agent();
        let url = format!("https://localhost:{}{path}", self.management);
        agent.get(&url).call().unwrap().into_body().read_to_string().unwrap()
    }

    /// What the authority has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.at("pebble.log")).unwrap()
    }

    /// What was handed over.
    pub(crate) fn out(&self, of: &str) -> Option<String> {
        std::fs::read_to_string(self.at("out").join(format!("{of}.pem"))).ok()
    }

    /// Changes what is kept of a certificate, as an authority's answer or a clock would.
    pub(crate) fn change(&self, of: &str, change: impl FnOnce(&mut serde_json::Value)) {
        let path = self.at("state/certificates").join(format!("{of}.json"));
        let mut kept = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut kept);
        std::fs::write(&path, kept.to_string()).unwrap();
    }
}

/// Does the steps of a certificate until it waits; gives the last step, or the first trouble.
pub(crate) async fn drive(world: &World, of: &str) -> Result<Step, Trouble> {
    loop {
        match round(world, of).await? {
            (_, Some(trouble)) => return Err(trouble),
            (step @ Step::Wait { .. }, None) => return Ok(step),
            _ => {}
        }
    }
}

/// One certificate's configuration.
pub(crate) fn one(of: &str, names: &[&str], challenge: &str) -> String {
    format!("\n[certificates.{of}]\nnames = {names:?}\nchallenge = \"{challenge}\"\n")
}
