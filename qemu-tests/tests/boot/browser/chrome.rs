//! Chromium without a screen, driven by WebDriver.
//!
//! chromedriver and Chromium run in the tools' sandbox, so Chromium's own sandbox, which would need user namespaces inside of that, is off. They
//! talk by pipes: by its port chromedriver would need a name service to know what `localhost` is, and the tools have none.

use std::fmt::Debug;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex, mpsc};

use data_encoding::BASE64;
use fantoccini::elements::Element;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use imagegen::machine::{Bind, Launch, Launcher as _};
use qemu_tests::tools;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::super::*;

/// How long a page may take. An appliance is at work for longer only where the walk says so.
const PAGE: Duration = Duration::from_secs(60);

/// chromedriver, ended by its process id, and Chromium with it.
pub(super) struct Chrome {
    driver: Child,
    port: u16,
    runtime: Runtime,
    folder: TempDir,
}

impl Chrome {
    /// Starts it; what it says is kept in `target/qemu-tests/chromedriver.log`.
    pub(super) fn start() -> Chrome {
        let kept = images::target().join("qemu-tests");
        must(std::fs::create_dir_all(&kept));
        let folder = must(tempfile::Builder::new().prefix("browser-").tempdir_in(&kept));
        let launch = Launch {
            program: "chromedriver",
            args: vec!["--port=0".into()],
            binds: vec![Bind::read_only(folder.path())],
        };
        let mut driver = must(must(tools::browser()).spawn(&launch));
        let log = Arc::new(Mutex::new(must(std::fs::File::create(kept.join("chromedriver.log")))));
        let (tell, told) = mpsc::channel();
        let pipes: [Option<Box<dyn Read + Send>>; 2] = [
            driver.stdout.take().map(|pipe| Box::new(pipe) as _),
            driver.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for pipe in pipes.into_iter().flatten() {
            let (log, tell) = (log.clone(), tell.clone());
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    if let Some((_, port)) = line.split_once("started successfully on port ") {
                        let _ = tell.send(port.trim_end_matches('.').to_owned());
                    }
                    let mut log = log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    let _ = writeln!(log, "{line}");
                }
            });
        }
        // Ended from here on, whatever happens.
        let mut chrome = Chrome {
            driver,
            port: 0,
            runtime: must(tokio::runtime::Builder::new_current_thread().enable_all().build()),
            folder,
        };
        drop(tell);
        let port = told.recv_timeout(READY);
        let port = port.unwrap_or_else(|_| panic!("chromedriver did not start; see {}", kept.display()));
        chrome.port = must(port.parse());
        chrome
    }

    /// A folder whose files a page may be given.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A browser of its own: it shares no cookie with another.
    pub(super) fn tab(&self, base: &str) -> Tab<'_> {
        self.tab_with(base, None)
    }

    /// The same, which comes by this name and port, where this machine's port leads to.
    pub(super) fn tab_by_name(&self, name: &str, port: u16, forwarded: u16) -> Tab<'_> {
        let rule = format!("--host-resolver-rules=MAP {name}:{port} 127.0.0.1:{forwarded}");
        self.tab_with(&format!("https://{name}:{port}"), Some(rule))
    }

    fn tab_with(&self, base: &str, rule: Option<String>) -> Tab<'_> {
        let mut args: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            "--hide-scrollbars",
            "--lang=en",
        ]
        .map(str::to_owned)
        .into();
        args.extend(rule);
        let wanted = json!({
            "acceptInsecureCerts": true,
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": 120_000, "pageLoad": 120_000 },
            "goog:chromeOptions": {
                "binary": "/usr/lib/chromium/chromium",
                "args": args,
                // It does not trust the appliance's authority, and would have no passkey then.
                "prefs": { "webauthn": { "allow_with_broken_certs": true } },
            },
        });
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wanted.as_object().cloned().unwrap_or_default());
        let client = self
            .runtime
            .block_on(builder.connect(&format!("http://127.0.0.1:{}", self.port)));
        Tab {
            chrome: self,
            client: must(client),
            base: base.to_owned(),
        }
    }
}

impl Drop for Chrome {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A command beyond WebDriver's own.
#[derive(Debug)]
struct Extension(&'static str, Value);

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.0))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.1.to_string()))
    }
}

/// One page that is looked at.
pub(super) struct Tab<'a> {
    chrome: &'a Chrome,
    client: Client,
    base: String,
}

impl Tab<'_> {
    fn wait<T, E: Display>(&self, future: impl Future<Output = Result<T, E>>) -> T {
        must(self.chrome.runtime.block_on(future))
    }

    /// Types an address.
    pub(super) fn go(&self, path: &str) {
        self.wait(self.client.goto(&format!("{}{path}", self.base)));
    }

    /// The address without its beginning.
    pub(super) fn at(&self) -> String {
        let address = self.wait(self.client.current_url()).to_string();
        address.strip_prefix(&self.base).unwrap_or(&address).to_owned()
    }

    /// Waits until the page has this.
    pub(super) fn find(&self, css: &str) -> Element {
        self.find_within(css, PAGE)
    }

    /// The same, for as long.
    pub(super) fn find_within(&self, css: &str, within: Duration) -> Element {
        let waited = self.client.wait().at_most(within).for_element(Locator::Css(css));
        let found = self.chrome.runtime.block_on(waited);
        found.unwrap_or_else(|error| panic!("{css} is not on {}: {error}\n{}", self.at(), self.text("body")))
    }

    /// Clicks what is found so.
    pub(super) fn click(&self, css: &str) {
        let element = self.find(css);
        self.wait(element.click());
    }

    /// Clicks the button or link with these words, and waits for the page that comes.
    pub(super) fn press(&self, words: &str) {
        self.comes(|| self.open(words));
    }

    /// Does what leads to another page, and waits for that.
    pub(super) fn comes(&self, lead: impl FnOnce()) {
        self.script("window.before = true", vec![]);
        lead();
        let there = "return window.before === undefined && document.readyState === 'complete'";
        wait_until("another page", PAGE, || {
            // Between two pages there is none to ask.
            let asked = self.chrome.runtime.block_on(self.client.execute(there, vec![]));
            asked.is_ok_and(|there| there == true)
        });
    }

    /// Clicks the button or link with these words, which leads nowhere else.
    pub(super) fn open(&self, words: &str) {
        let path = format!("//*[self::button or self::a or self::summary][normalize-space()=\"{words}\"]");
        let found = self.wait(self.client.find_all(Locator::XPath(&path)));
        let seen = found.into_iter().find(|one| self.wait(one.is_displayed()));
        let seen =
            seen.unwrap_or_else(|| panic!("there is no button {words:?} on {}:\n{}", self.at(), self.text("body")));
        self.wait(seen.click());
    }

    /// Types into a field, in the place of what was there.
    pub(super) fn fill(&self, id: &str, text: &str) {
        let field = self.find(&format!("#{id}"));
        self.wait(field.clear());
        self.wait(field.send_keys(text));
    }

    /// Gives a field for a file this one.
    pub(super) fn attach(&self, id: &str, file: &Path) {
        let field = self.find(&format!("#{id}"));
        self.wait(field.send_keys(&file.to_string_lossy()));
    }

    /// The text of what is found so, as it is seen.
    pub(super) fn text(&self, css: &str) -> String {
        self.texts(css).join("\n")
    }

    pub(super) fn texts(&self, css: &str) -> Vec<String> {
        let script = "return [...document.querySelectorAll(arguments[0])].map(one => one.innerText.trim())";
        let texts = self.script(script, vec![css.into()]);
        must(serde_json::from_value(texts))
    }

    pub(super) fn script(&self, script: &str, args: Vec<Value>) -> Value {
        self.wait(self.client.execute(script, args))
    }

    /// A script that calls its last argument when it is done.
    pub(super) fn script_async(&self, script: &str, args: Vec<Value>) -> Value {
        self.wait(self.client.execute_async(script, args))
    }

    /// Gives the browser an authenticator that is a program (Web Authentication Level 3, 11), and says yes to everything.
    pub(super) fn authenticator(&self) {
        let kind = json!({
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true, "isUserVerified": true,
            "isUserConsenting": true,
        });
        self.wait(self.client.issue_cmd(Extension("webauthn/authenticator", kind)));
    }

    /// A command of the DevTools protocol.
    pub(super) fn devtools(&self, command: &str, params: Value) -> Value {
        let body = json!({ "cmd": command, "params": params });
        self.wait(self.client.issue_cmd(Extension("goog/cdp/execute", body)))
    }

    /// Shows the page on a screen of this size, in light or dark, without motion.
    pub(super) fn screen(&self, (width, height): (u32, u32), scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// A picture (PNG) of this part of the page, so many times its size.
    pub(super) fn picture(&self, (width, height): (u32, u32), scale: f64) -> Vec<u8> {
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": scale });
        let params = json!({ "format": "png", "captureBeyondViewport": true, "optimizeForSpeed": false, "clip": clip });
        let taken = self.devtools("Page.captureScreenshot", params);
        must(BASE64.decode(taken["data"].as_str().unwrap_or_default().as_bytes()))
    }

    /// What the console says was wrong since it was asked last.
    pub(super) fn errors(&self) -> Vec<String> {
        let log = self.wait(self.client.issue_cmd(Extension("se/log", json!({ "type": "browser" }))));
        let all = log.as_array().into_iter().flatten();
        let wrong = all.filter(|entry| entry["level"] == "SEVERE");
        wrong
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}
