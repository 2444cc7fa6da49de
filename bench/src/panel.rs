//! The panel on one processor of this machine, with the manager of its own tests: what it holds in memory, and what a page costs.

#[allow(dead_code, unused_imports, reason = "the panel's tests use the rest")]
#[path = "../../crates/panel/tests/common/manager.rs"]
mod manager;

use std::error::Error;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use manager::{CODE, Manager};
use qemu_tests::client::browser::Browser;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::figure::{Goal, Row, Samples, Unit};
use crate::first::walk;
use crate::runs;

const PASSWORD: &str = "velvet otter 7 quarry lamp";
/// Connections that ask at once.
const CLIENTS: usize = 4;
/// How long they ask in each run.
const ASKING: Duration = Duration::from_secs(5);

/// A panel that runs, and is ended with this.
struct Panel {
    process: Child,
    port: u16,
    certificate: CertificateDer<'static>,
}

impl Drop for Panel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Panel {
    fn start(folder: &Path) -> Result<Panel, Box<dyn Error>> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        fs::write(folder.join("tls"), made.signing_key.serialize_pem() + &made.cert.pem())?;
        // Free a moment ago; nobody else asks for it here.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let program = std::env::current_exe()?.with_file_name("cairn-panel");
        let process = Command::new(&program)
            .env("PANEL_LISTEN", format!("127.0.0.1:{port}"))
            .env("PANEL_TLS", folder.join("tls"))
            .env("PANEL_STATE", folder)
            .env("PANEL_CONTROL", folder.join("control.sock"))
            .env("PANEL_DIRECTORY", folder.join("directory.json"))
            .spawn()
            .map_err(|why| format!("{}: {why}; `make bench` builds it", program.display()))?;
        let certificate = made.cert.der().clone();
        let panel = Panel {
            process,
            port,
            certificate,
        };
        let start = Instant::now();
        while Browser::new(port).get("/").is_err() {
            if start.elapsed() > Duration::from_secs(20) {
                return Err("the panel does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(panel)
    }

    /// What it holds in memory, in bytes (`VmRSS` of proc_pid_status(5)).
    fn resident(&self) -> Result<f64, Box<dyn Error>> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().split(' ').next()).ok_or("no VmRSS")?;
        Ok(kib.parse::<f64>()? * 1024.0)
    }

    /// On the first processor, and what asks on the others.
    fn alone(&self) -> Result<(), Box<dyn Error>> {
        let processors = std::thread::available_parallelism()?.get();
        let (mut first, mut others) = (CpuSet::new(), CpuSet::new());
        first.set(0);
        (1..processors).for_each(|n| others.set(n));
        for thread in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let thread = thread?.file_name().to_string_lossy().parse()?;
            sched_setaffinity(rustix::thread::Pid::from_raw(thread), &first)?;
        }
        if processors > 1 {
            sched_setaffinity(None, &others)?;
        }
        Ok(())
    }
}

/// Sets the appliance up, and gives the owner's browser.
fn owner(port: u16) -> Result<Browser, Box<dyn Error>> {
    let mut browser = Browser::new(port);
    let steps: [(&str, &[(&str, &str)]); 6] = [
        ("/setup/code", &[("code", CODE)]),
        ("/setup/name", &[("name", "birch"), ("domain", "")]),
        ("/setup/network", &[("method", "dhcp")]),
        (
            "/setup/admin",
            &[("account", "ada"), ("password", PASSWORD), ("again", PASSWORD)],
        ),
        ("/setup/totp", &[("choice", "skip")]),
        ("/setup/parts", &[("unit", "wiki")]),
    ];
    walk(&mut browser, &steps)?;
    browser.post("/setup/finish", &[])?;
    Ok(browser)
}

/// A kept connection of one of this machine's own addresses: each may ask so much and no more (`Bound::Requests` of the panel).
struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    left: u32,
}

/// How many requests an address sends.
const REQUESTS: u32 = 250;

impl Client {
    fn new(config: &Arc<ClientConfig>, port: u16, number: u32) -> Result<Self, Box<dyn Error + Send + Sync>> {
        // 127.0.0.0/8 is this machine (RFC 1122, 3.2.1.3).
        let own = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + number);
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddrV4::new(own, 0))?;
        connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        let connection = ClientConnection::new(config.clone(), "localhost".try_into()?)?;
        Ok(Self {
            stream: StreamOwned::new(connection, stream),
            left: REQUESTS,
        })
    }

    /// Asks for the overview, and looks whether it is that.
    fn ask(&mut self, cookie: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.left -= 1;
        write!(
            self.stream,
            "GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        let mut piece = [0; 16 << 10];
        loop {
            let length = self.stream.read(&mut piece)?;
            answer.extend_from_slice(&piece[..length]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")
                    .map(str::to_owned)
            });
            if length.ok_or("no content-length")?.parse::<usize>()? > answer.len() - head.len() - 4 {
                continue;
            }
            return match head.starts_with("HTTP/1.1 200") && body.contains("wiki") {
                true => Ok(()),
                false => Err(format!("the overview is answered by {text}").into()),
            };
        }
    }
}

/// Asks for the overview for a while; seconds for each answer.
fn asking(panel: &Panel, cookie: &str) -> Result<f64, Box<dyn Error>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(panel.certificate.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let (answers, addresses) = (AtomicU32::new(0), AtomicU32::new(0));
    let start = Instant::now();
    let ask = || -> Result<(), Box<dyn Error + Send + Sync>> {
        while start.elapsed() < ASKING {
            let mut client = Client::new(&config, panel.port, addresses.fetch_add(1, Ordering::Relaxed))?;
            while client.left > 0 && start.elapsed() < ASKING {
                client.ask(cookie)?;
                answers.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        let ended = |one: std::thread::ScopedJoinHandle<'_, _>| one.join().map_err(|_| "a client panicked")?;
        all.into_iter().try_for_each(ended)
    })
    .map_err(|why: Box<dyn Error + Send + Sync>| why.to_string())?;
    Ok(start.elapsed().as_secs_f64() / f64::from(answers.load(Ordering::Relaxed)))
}

/// The panel's memory when nobody was there, when it was set up, and after many pages; and the time of a page.
pub(crate) fn figures(folder: &Path) -> Result<Vec<Row>, Box<dyn Error>> {
    let (mut idle, mut used, mut page) = (vec![], vec![], vec![]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    for _ in 0..runs() {
        let scratch = tempfile::tempdir_in(folder)?;
        let manager = Manager::start(&scratch.path().join("control.sock"), true);
        let panel = Panel::start(scratch.path())?;
        idle.push(panel.resident()?);
        let mut browser = owner(panel.port)?;
        let answer = browser.get("/")?;
        if answer.status != 200 {
            return Err(format!("the overview has the status {}", answer.status).into());
        }
        panel.alone()?;
        page.push(asking(&panel, &browser.cookie())?);
        used.push(panel.resident()?);
        drop(manager);
    }
    let row = |what: &str, unit, ours, goal| Row {
        what: what.into(),
        unit,
        ours: Samples(ours),
        peer: Err(String::new()),
        goal,
    };
    Ok(vec![
        row("panel's memory, just started", Unit::Bytes, idle, Goal::None),
        row(
            "panel's memory, after setup and many pages",
            Unit::Bytes,
            used,
            Goal::AtMost(25e6),
        ),
        row(
            "the overview page by TLS, on one processor",
            Unit::Millis,
            page,
            Goal::AtMost(0.001),
        ),
    ])
}
