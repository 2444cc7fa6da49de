//! First choices by whatever provides the machine: its firmware's configuration, a string of its firmware, a volume that it attaches; and
//! what is said of such choices when they are wrong. And the commands of another machine, once the appliance is set up.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use imagegen::machine::{Disk, MachineSpec};
use qemu_tests::client::browser::Browser;
use qemu_tests::machine::{Home, Options};
use qemu_tests::{Machine, images, seed};
use serde_json::Value;

use super::daemons::Guest;
use super::setup::PASSWORD;
use super::*;

/// The panel's port.
const PANEL: u16 = 8443;

/// What is chosen: a name, the owner, and one service less.
const CHOICES: &str = r#"[appliance]
name = "birch"
domain = "birch.example"

[administrator]
name = "ada"
password = 'velvet "otter" & 9 Ümläute 🦦'

[units.slapd]
enabled = false
"#;

/// Starts a machine that was given something, for a fresh appliance that waits to be set up. `firmware` boots it as a real machine does.
fn started(name: &str, firmware: bool, give: impl FnOnce(&mut MachineSpec, &Path)) -> (Home, Machine) {
    let image = must(images::panel());
    let options = Options {
        ports: vec![PANEL],
        direct: (!firmware).then(|| image.clone()),
        ..Options::default()
    };
    let home = must(Home::new(name, &image, options));
    let mut spec = must(home.spec());
    give(&mut spec, home.folder());
    let machine = must(Machine::start(name, &spec, home.folder()));
    (home, machine)
}

/// A second disk with a volume of this label that has the text as its `setup.toml`.
fn attach(spec: &mut MachineSpec, folder: &Path, label: &str, text: &str) {
    let path = folder.join("seed.raw");
    must(seed::volume(&path, label, &[("setup.toml", text)]));
    spec.disks.push(Disk::raw("disk1", &path));
}

/// What was chosen holds, and where it came from is a part of its history. Gives the owner's browser.
fn is_chosen(machine: Machine, place: &str) -> (Guest, Browser) {
    must(machine.wait_for(&format!("Set up by {place}"), READY));
    must(machine.wait_for("Ready: https://", READY));
    let mut guest = Guest(machine);
    let mut owner = Browser::new(must(guest.0.port(PANEL)));
    wait_until("the owner's account", READY, || {
        must(owner.get("/login"));
        must(owner.post("/login", &[("name", "ada"), ("password", PASSWORD)])).status == 303
    });
    let site = guest.read("/data/site/site.toml");
    assert!(site.contains("name = \"birch\"") && !site.contains("velvet"), "{site}");
    assert_eq!(guest.read("/proc/sys/kernel/hostname"), "birch");
    assert_eq!(guest.unit("slapd")["state"], "stopped");
    assert_eq!(guest.unit("caddy")["wanted"], true);
    let history = guest.cairn(&["config", "history"]);
    assert!(history.contains(place), "{history}");
    // The password is where only its hash should be: nowhere else.
    let kept = must(guest.0.agent()).read_file("/data/secrets/.setup/administrator.json");
    assert!(kept.is_err());
    assert!(!guest.cairn(&["logs"]).contains("velvet"));
    (guest, owner)
}

#[test]
fn a_string_of_the_firmware_sets_the_appliance_up() {
    let (_home, machine) = started("choices-smbios", true, |spec, folder| {
        let path = folder.join("oem");
        must(std::fs::write(&path, format!("cairn.setup={CHOICES}")));
        spec.oem_string = Some(path);
    });
    is_chosen(machine, "the firmware's string cairn.setup");
}

#[test]
fn a_volume_that_a_cloud_attaches_sets_the_appliance_up() {
    let (_home, machine) = started("choices-volume", false, |spec, folder| {
        attach(spec, folder, "cidata", CHOICES);
    });
    is_chosen(machine, "setup.toml of the volume CIDATA (vdb)");
}

#[test]
fn a_mistake_in_first_choices_is_told_with_its_line_and_nothing_of_them_holds() {
    let wrong = CHOICES.replace("domain = \"birch.example\"", "colour = \"green\"");
    let (_home, mut machine) = started("choices-wrong", false, |spec, folder| {
        attach(spec, folder, "CIDATA", &wrong);
    });
    let place = "setup.toml of the volume CIDATA (vdb), line 3: ";
    let line = must(machine.wait_for(&format!("Setup: {place}"), READY));
    assert!(line.contains("colour"), "{line}");
    let line = must(machine.wait_for("The code for it: ", READY));
    let (_, code) = line.split_once("The code for it: ").unwrap();
    let code = code.trim().to_owned();
    let mut browser = Browser::new(must(machine.port(PANEL)));
    wait_until("the wizard", READY, || {
        browser.get("/setup/code").is_ok_and(|page| page.status == 200)
    });
    let page = must(browser.get("/setup/code"));
    assert!(
        page.text.contains(place) && page.text.contains("colour"),
        "{}",
        page.text
    );
    let mut guest = Guest(machine);
    for path in ["/data/site/site.toml", "/data/secrets/.setup/administrator.json"] {
        assert!(must(guest.0.agent()).read_file(path).is_err(), "{path}");
    }
    assert_eq!(guest.read("/proc/sys/kernel/hostname"), "panel-test");
    assert_eq!(guest.unit("caddy")["wanted"], false);
    // Nobody can log in, and whoever reads the console goes on by hand.
    assert_eq!(must(browser.get("/login")).location, "/setup");
    must(browser.get("/setup/code"));
    assert_eq!(must(browser.post("/setup/code", &[("code", &code)])).status, 303);
    assert_eq!(must(browser.get("/setup/name")).status, 200);
    // It was said once, though it is looked for every five seconds.
    let said = guest.0.serial.lines();
    assert_eq!(said.iter().filter(|(_, line)| line.contains(place)).count(), 1);
}

/// The `cairn` of this machine, where the appliance's name leads to its forwarded port: the certificate is for the name.
struct Remote<'a> {
    folder: &'a Path,
}

impl Remote<'_> {
    /// What it ends with, and both of its outputs.
    fn cairn(&self, words: &[&str], input: &str) -> (i32, String) {
        let hosts = self.folder.join("hosts");
        must(std::fs::write(&hosts, "127.0.0.1 localhost birch.local\n"));
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"").arg(&hosts);
        command.arg(must(images::cairn())).args(words);
        command
            .env("XDG_CONFIG_HOME", self.folder)
            .env_remove("CAIRN_REMOTE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = must(command.spawn());
        must(child.stdin.take().unwrap().write_all(input.as_bytes()));
        let output = must(child.wait_with_output());
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code().unwrap_or(-1), said)
    }
}

fn token(owner: &mut Browser, scope: &str) -> String {
    must(owner.get("/tokens"));
    let page = must(owner.post("/tokens/make", &[("name", scope), ("scope", scope)]));
    let (_, rest) = page
        .text
        .split_once("tabindex=\"0\">cairn_")
        .unwrap_or_else(|| panic!("{}", page.text));
    format!("cairn_{}", rest.split('<').next().unwrap_or_default())
}

#[test]
fn qemus_configuration_sets_the_appliance_up_and_another_machine_steers_it() {
    let (home, machine) = started("choices-fw-cfg", false, |spec, folder| {
        let path = folder.join("choices");
        must(std::fs::write(&path, CHOICES));
        spec.setup = Some(path);
        // What somebody brings is not asked where the machine's own configuration speaks.
        attach(spec, folder, "CIDATA", "this is no TOML");
    });
    let (mut guest, mut owner) = is_chosen(machine, "the firmware configuration opt/cairn.setup");
    let port = must(guest.0.port(PANEL));
    let certificates: Value = must(serde_json::from_str(&guest.cairn(&["--json", "certificates"])));
    let print = certificates["authority"]["fingerprint"].as_str().unwrap().to_owned();
    let remote = Remote { folder: home.folder() };
    let named = format!("https://birch.local:{port}");
    let add = |name: &str, address: &str, print: &str, token: &str| {
        remote.cairn(&["remote", "add", name, address, "--fingerprint", print], token)
    };
    let (looks, owns) = (token(&mut owner, "read"), token(&mut owner, "own"));

    // Another authority's fingerprint, a name that the certificate is not for, a token that there is not.
    let (code, said) = add("birch", &named, &"00".repeat(32), &looks);
    assert!(code == 1 && said.contains("another fingerprint"), "{said}");
    let (code, said) = add("birch", &format!("https://127.0.0.1:{port}"), &print, &looks);
    assert!(
        code == 4 && said.contains("certificate is not one to believe"),
        "{said}"
    );
    let (code, said) = add("birch", &named, &print, "cairn_nobody");
    assert!(code == 1 && said.contains("does not take the token"), "{said}");
    let (code, said) = remote.cairn(&["--remote", "birch", "status"], "");
    assert!(
        code == 1 && said.contains("no appliance `birch` is known here"),
        "{said}"
    );

    assert_eq!(add("birch", &named, &print, &looks), (0, String::new()));
    assert_eq!(add("own", &named, &print, &owns), (0, String::new()));
    wait_until("everything is ready", READY, || {
        remote.cairn(&["--remote", "birch", "status"], "").0 == 0
    });
    let (_, said) = remote.cairn(&["--remote", "birch", "status"], "");
    assert!(said.contains("birch") && said.contains("caddy"), "{said}");
    let (code, said) = remote.cairn(&["--remote", "birch", "machine"], "");
    assert!(code == 0 && said.contains("kept by no time server"), "{said}");

    // Who only looks changes nothing.
    let (code, said) = remote.cairn(&["--remote", "birch", "disable", "caddy"], "");
    assert!(
        code == 1 && said.contains("needs a token with the scope `own`"),
        "{said}"
    );
    assert_eq!(guest.unit("caddy")["wanted"], true);
    let (code, said) = remote.cairn(&["--remote", "own", "disable", "caddy"], "");
    assert_eq!((code, said.as_str()), (0, "caddy: disabled\n"));
    guest.wait("caddy", "is down", |unit| unit["state"] == "stopped");

    // The owner's choices as a whole: read, written, refused with line and reason.
    let (_, text) = remote.cairn(&["--remote", "own", "config", "show"], "");
    let off = "[units.caddy]\nenabled = false";
    assert!(text.contains(off), "{text}");
    let write = ["--remote", "own", "config", "write", "-"];
    let (code, said) = remote.cairn(&write, &text.replace("[units.caddy]", "[units.cady]"));
    assert!(code == 1 && said.contains("the appliance has no unit `cady`"), "{said}");
    let (code, said) = remote.cairn(&write, "");
    assert!(code == 1 && said.contains("wait to be set up again"), "{said}");
    let (code, said) = remote.cairn(&write, &text.replace(off, "[units.caddy]\nenabled = true"));
    assert!(code == 0 && said.contains("caddy: enabled"), "{said}");
    guest.wait_ready("caddy");
    let history = guest.cairn(&["config", "history"]);
    assert!(history.contains("token own (panel)"), "{history}");
}
