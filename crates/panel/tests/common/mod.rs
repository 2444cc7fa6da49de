//! A panel with a manager that only pretends, and a browser that is a program.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod authenticator;
pub(crate) mod manager;
pub(crate) mod slapd;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_panel::server::Server;
use cairn_panel::settings::Settings;
use cairn_panel::tls::Identity;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use manager::Manager;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A password that nobody guesses.
pub(crate) const PASSWORD: &str = "velvet otter 7 quarry lamp";

/// Writes a key and a certificate for `localhost` and for a second name; gives the certificate.
pub(crate) fn certificate(path: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost", "birch.local"].map(str::to_owned)).unwrap();
    let text = made.signing_key.serialize_pem() + &made.cert.pem();
    // As the manager does it: a whole new file in the place of the old one.
    let new = path.with_extension("new");
    std::fs::write(&new, &text).unwrap();
    std::fs::rename(&new, path).unwrap();
    CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()
}

/// A panel that runs.
pub(crate) struct Panel {
    pub(crate) manager: Manager,
    pub(crate) settings: Settings,
    pub(crate) address: SocketAddr,
    pub(crate) root: CertificateDer<'static>,
    pub(crate) identity: Arc<Identity>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    _folder: Arc<tempfile::TempDir>,
}

impl Panel {
    /// A panel of an appliance that waits to be set up.
    pub(crate) async fn new() -> Panel {
        Panel::with(|_| ()).await
    }

    /// The same, with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Panel {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let at = folder.path();
        let mut settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            // As the browser says it, which is told no other.
            port: 443,
            tls: at.join("tls"),
            state: at.to_owned(),
            control: at.join("control.sock"),
            directory: at.join("directory.json"),
            patience: Duration::from_secs(20),
            body_max: 64 << 10,
            import_wait: Duration::from_secs(20),
            sample_every: Duration::from_secs(3600),
            recheck_every: Duration::from_millis(50),
        };
        change(&mut settings);
        let root = certificate(&settings.tls);
        let manager = Manager::start(&settings.control, true);
        Panel::serve(settings, manager, root, folder).await
    }

    /// An appliance that is set up, with this directory; and the owner's browser.
    pub(crate) async fn bound_to(slapd: &slapd::Slapd) -> Panel {
        Panel::bound_with(slapd, |_| ()).await
    }

    /// The same, with other settings.
    pub(crate) async fn bound_with(slapd: &slapd::Slapd, change: impl FnOnce(&mut Settings)) -> Panel {
        let panel = Panel::with(change).await;
        panel.bind(slapd);
        panel.owner().await;
        panel
    }

    /// Writes where the directory is, as the unit's template does.
    pub(crate) fn bind(&self, slapd: &slapd::Slapd) {
        let password = self.settings.state.join("directory-password");
        std::fs::write(&password, slapd.grant("grant-manager.ldif", "panel_directory", None)).unwrap();
        let place = serde_json::json!({
            "url": slapd.url(), "dn": format!("cn=panel_directory,ou=managers,ou=services,{}", slapd::BASE), "password_file": password,
            "people": format!("ou=people,{}", slapd::BASE), "groups": format!("ou=groups,{}", slapd::BASE),
        });
        std::fs::write(&self.settings.directory, place.to_string()).unwrap();
    }

    async fn serve(
        settings: Settings,
        manager: Manager,
        root: CertificateDer<'static>,
        folder: Arc<tempfile::TempDir>,
    ) -> Panel {
        let server = Server::bind(settings.clone()).await.unwrap();
        let (address, stop, identity) = (server.address().unwrap(), server.stopper(), server.identity());
        let serving = tokio::spawn(server.serve());
        Panel {
            manager,
            settings,
            address,
            root,
            identity,
            stop,
            serving,
            _folder: folder,
        }
    }

    /// Ends it, and waits until it is gone.
    pub(crate) async fn stop(&mut self) {
        self.stop.send(true).unwrap();
        (&mut self.serving).await.unwrap();
    }

    /// Ends it and starts it again, with something done in between.
    pub(crate) async fn restart(mut self, between: impl FnOnce(&Path)) -> Panel {
        self.stop().await;
        between(&self.settings.state);
        Panel::serve(
            self.settings.clone(),
            self.manager.clone(),
            self.root.clone(),
            self._folder.clone(),
        )
        .await
    }

    /// A connection by TLS.
    pub(crate) async fn connect(&self) -> TlsStream<TcpStream> {
        self.try_connect(&self.root).await.unwrap()
    }

    /// The same from another of this machine's own addresses (127.0.0.0/8).
    pub(crate) async fn connect_from(&self, address: Ipv4Addr) -> TlsStream<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        self.shake_hands(stream, &self.root).await.unwrap()
    }

    /// The same, trusting this certificate only.
    pub(crate) async fn try_connect(&self, root: &CertificateDer<'static>) -> std::io::Result<TlsStream<TcpStream>> {
        self.shake_hands(TcpStream::connect(self.address).await?, root).await
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        root: &CertificateDer<'static>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// A browser with an empty jar.
    pub(crate) fn browser(&self) -> Browser<'_> {
        Browser {
            panel: self,
            cookies: BTreeMap::new(),
            form_token: String::new(),
            headers: Vec::new(),
            host: "localhost".into(),
            address: Ipv4Addr::LOCALHOST,
        }
    }

    /// A browser that has set the appliance up and is logged in.
    pub(crate) async fn owner(&self) -> Browser<'_> {
        let mut browser = self.browser();
        browser.wizard_to_summary().await;
        let done = browser.post("/setup/finish", &[]).await;
        assert_eq!(
            (done.status, done.location.as_str()),
            (303, "/setup/progress"),
            "{}",
            done.text
        );
        browser.get("/").await;
        browser
    }
}

impl Panel {
    /// Another browser of the owner.
    pub(crate) async fn owner_again(&self) -> Browser<'_> {
        let mut browser = self.browser();
        assert_eq!(browser.log_in(PASSWORD).await.location, "/");
        browser
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) location: String,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) text: String,
}

impl Page {
    /// That the page says this.
    #[track_caller]
    pub(crate) fn says(&self, what: &str) {
        assert!(
            self.text.contains(what),
            "`{what}` is missing in ({}):\n{}",
            self.status,
            self.text
        );
    }
}

/// A browser: it keeps cookies, and sends forms with the token of the page that it saw last.
pub(crate) struct Browser<'a> {
    pub(crate) panel: &'a Panel,
    pub(crate) cookies: BTreeMap<String, String>,
    pub(crate) form_token: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// By which name it came.
    pub(crate) host: String,
    /// From where it comes: what an address may ask is bounded.
    pub(crate) address: Ipv4Addr,
}

impl Browser<'_> {
    pub(crate) async fn get(&mut self, path: &str) -> Page {
        self.send("GET", path, String::new()).await
    }

    /// Sends a form; its page is looked at before if none was yet.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        if self.form_token.is_empty() {
            self.get("/setup/code").await;
        }
        let token = self.form_token.clone();
        let all = fields.iter().copied().chain([("form_token", token.as_str())]);
        self.post_bare(path, &all.collect::<Vec<_>>()).await
    }

    /// Sends exactly these fields.
    pub(crate) async fn post_bare(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let pairs: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        self.send("POST", path, pairs.join("&")).await
    }

    async fn ask(&mut self, method: &str, path: &str, body: String) -> hyper::Response<Incoming> {
        let stream = self.panel.connect_from(self.address).await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("cookie", cookies.join("; "));
        if method == "POST" {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        sender
            .send_request(request.body(Full::new(Bytes::from(body))).unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn send(&mut self, method: &str, path: &str, body: String) -> Page {
        let answer = self.ask(method, path, body).await;
        for cookie in answer.headers().get_all("set-cookie") {
            let (pair, _) = cookie.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let location = headers.get("location").map(|value| value.to_str().unwrap().to_owned());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        if let Some((_, rest)) = text.split_once("name=\"form_token\" value=\"") {
            self.form_token = rest.split('"').next().unwrap_or_default().to_owned();
        } else if headers.contains_key("set-cookie") {
            self.form_token.clear();
        }
        Page {
            status,
            location: location.unwrap_or_default(),
            headers,
            text,
        }
    }

    /// The bytes of a file.
    pub(crate) async fn bytes(&mut self, path: &str) -> Vec<u8> {
        let answer = self.ask("GET", path, String::new()).await;
        assert_eq!(answer.status(), hyper::StatusCode::OK);
        answer.into_body().collect().await.unwrap().to_bytes().to_vec()
    }

    /// The status of an answer that may be a stream.
    pub(crate) async fn status(&mut self, method: &str, path: &str) -> u16 {
        self.ask(method, path, String::new()).await.status().as_u16()
    }

    /// A person's login.
    pub(crate) async fn log_in_as(&mut self, uid: &str, password: &str) -> Page {
        self.get("/login").await;
        self.post("/login", &[("name", uid), ("password", password)]).await
    }

    /// Makes a person, who chooses a password by a code.
    pub(crate) async fn make_person(&mut self, uid: &str, password: &str) {
        self.get("/people-new").await;
        let mail = format!("{uid}@birch.example");
        let page = self
            .post("/people-new", &[("uid", uid), ("given", uid), ("mail", &mail)])
            .await;
        assert_eq!(page.status, 303, "{}", page.text);
        let code = self.make_code(uid).await;
        let mut own = self.panel.browser();
        own.get("/reset").await;
        let page = own
            .post(
                "/reset",
                &[("code", &code), ("password", password), ("again", password)],
            )
            .await;
        assert_eq!(page.location, "/login?said=password-set", "{}", page.text);
    }

    /// A code by which a person sets a password.
    pub(crate) async fn make_code(&mut self, uid: &str) -> String {
        self.get(&format!("/people/{uid}")).await;
        let page = self.post(&format!("/people/{uid}/reset"), &[]).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let (_, rest) = page
            .text
            .split_once("reset#")
            .unwrap_or_else(|| panic!("{}", page.text));
        rest.split('<').next().unwrap().to_owned()
    }

    /// The first part of a stream.
    pub(crate) async fn stream(&mut self, path: &str) -> Incoming {
        let answer = self.ask("GET", path, String::new()).await;
        assert_eq!(
            (answer.status(), &answer.headers()["content-type"]),
            (
                hyper::StatusCode::OK,
                &hyper::header::HeaderValue::from_static("text/event-stream")
            )
        );
        answer.into_body()
    }

    /// The code, and the first page after it.
    pub(crate) async fn give_code(&mut self) {
        let page = self.post("/setup/code", &[("code", manager::CODE)]).await;
        assert_eq!(page.status, 303, "{}", page.text);
        self.get("/setup/code").await;
    }

    pub(crate) async fn wizard_to_summary(&mut self) {
        self.give_code().await;
        let steps: [(&str, &[(&str, &str)]); 5] = [
            ("/setup/name", &[("name", "birch"), ("domain", "")]),
            ("/setup/network", &[("method", "dhcp")]),
            (
                "/setup/admin",
                &[("account", "ada"), ("password", PASSWORD), ("again", PASSWORD)],
            ),
            ("/setup/totp", &[("choice", "skip")]),
            ("/setup/parts", &[("unit", "wiki")]),
        ];
        for (path, fields) in steps {
            let page = self.post(path, fields).await;
            assert_eq!(page.status, 303, "{path}: {}", page.text);
        }
    }

    pub(crate) async fn log_in(&mut self, password: &str) -> Page {
        self.get("/login").await;
        self.post("/login", &[("name", "ada"), ("password", password)]).await
    }
}
