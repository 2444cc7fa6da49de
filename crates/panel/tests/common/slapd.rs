//! A real slapd with the overlay's own files, on a Unix socket in a folder of the test. It comes from the folder CAIRN_JUDGES or from
//! PATH; it may be missing there, and a test says that it was skipped.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The overlay's suffix.
pub(crate) const BASE: &str = "dc=cairn,dc=internal";
/// The password of the directory's root.
const ADMIN: &str = "qA7root";

const OVERLAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../overlays/slapd");

/// A directory that runs.
pub(crate) struct Slapd {
    child: Option<Child>,
    program: PathBuf,
    ldapmodify: PathBuf,
    dir: tempfile::TempDir,
}

fn judge(name: &str) -> Option<PathBuf> {
    let judges = std::env::var_os("CAIRN_JUDGES").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = judges
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain([PathBuf::from("/usr/sbin")]);
    let found = folders
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    if found.is_none() {
        println!("skipped: there is no {name}");
    }
    found
}

impl Slapd {
    /// Starts it with people and groups as they are at first; `None` if this machine has no slapd.
    pub(crate) fn start() -> Option<Slapd> {
        let (program, ldapmodify) = (judge("slapd")?, judge("ldapmodify")?);
        // Below the build's folder, which the judges' sandbox shows.
        let dir = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
        let at = dir.path();
        for folder in ["services", "people"] {
            std::fs::create_dir(at.join(folder)).unwrap();
        }
        super::certificate(&at.join("tls"));
        std::fs::copy(
            format!("{OVERLAY}/etc/ldap/schema/cairn.schema"),
            at.join("cairn.schema"),
        )
        .unwrap();
        std::fs::write(at.join("admin"), ADMIN).unwrap();
        let place = |name: &str| at.join(name).display().to_string();
        let config = render(
            "etc/ldap/slapd.conf.tmpl",
            minijinja::context! { secrets => minijinja::context! { admin => ADMIN } },
        )
        .replace("/etc/ldap/schema/cairn.schema", &place("cairn.schema"))
        .replace("/run/secrets/tls.internal", &place("tls"))
        .replace("/run/slapd", &place(""))
        .replace("/var/lib/ldap-services", &place("services"))
        .replace("/var/lib/ldap", &place("people"));
        std::fs::write(at.join("slapd.conf"), config).unwrap();
        let mut slapd = Slapd {
            child: None,
            program,
            ldapmodify,
            dir,
        };
        for (suffix, file) in [
            (format!("ou=services,{BASE}"), "services.ldif"),
            (BASE.to_owned(), "base.ldif"),
        ] {
            let copy = slapd.at(file);
            std::fs::copy(format!("{OVERLAY}/usr/share/cairn/slapd/{file}"), &copy).unwrap();
            let mut add = Command::new(&slapd.program);
            add.args(["-T", "add", "-b", &suffix, "-f"])
                .arg(slapd.at("slapd.conf"))
                .arg("-l")
                .arg(copy);
            let done = add.output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        slapd.run();
        Some(slapd)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.at("ldapi")
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        let path = self.socket().display().to_string();
        format!("ldapi://{}", path.replace('/', "%2F"))
    }

    /// Starts it (again), and returns when it listens.
    pub(crate) fn run(&mut self) {
        let log = std::fs::File::create(self.at("log")).unwrap();
        let mut command = Command::new(&self.program);
        command
            .args(["-d", "none", "-h", &self.url(), "-f"])
            .arg(self.at("slapd.conf"));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = command.spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(self.socket()).is_err() {
            let said = || std::fs::read_to_string(self.at("log")).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "it has ended\n{}", said());
            assert!(Instant::now() < until, "it does not listen\n{}", said());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child = Some(child);
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            let _ = std::fs::remove_file(self.socket());
        }
    }

    /// Grants an account by a template of the overlay, as the appliance does at each start; gives its password.
    pub(crate) fn grant(&self, template: &str, name: &str, old: Option<&str>) -> String {
        let password = format!("{name}Pw{}", old.map_or(0, str::len));
        let old = old.map(|password| minijinja::context! { password });
        let text = render(
            &format!("usr/share/cairn/slapd/{template}"),
            minijinja::context! {
                account => minijinja::context! { name, password => &password, old }, consumer => minijinja::context! { unit => "test" },
            },
        );
        let mut command = Command::new(&self.ldapmodify);
        command
            .args(["-c", "-x", "-H", &self.url(), "-D", &format!("cn=admin,{BASE}"), "-y"])
            .arg(self.at("admin"));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(
            matches!(done.status.code(), Some(0 | 68)),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        password
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn render(path: &str, context: minijinja::Value) -> String {
    let text = std::fs::read_to_string(Path::new(OVERLAY).join(path)).unwrap();
    let mut templates = minijinja::Environment::new();
    templates.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    templates.render_str(&text, context).unwrap() + "\n"
}
