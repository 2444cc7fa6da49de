//! Upgrades by the owner's policy: a manager with a stand-in for `cairn-upgrade`, which notes what it is asked and finds what the test says.

mod fake_init;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fake_init::World;

/// 1 runs. An install puts 2 into the other slot.
const PROGRAM: &str = r#"#!/bin/sh
run=${0%/usr/lib/cairn/cairn-upgrade}/run/cairn/upgrade
other=null
[ -e $run/installed ] && other='{"version":"2","entry":"b.efi","tries_left":3}'
case $1 in
look | note) ;;
*)
    [ "$1" = install ] && touch $run/installed && other='{"version":"2","entry":"b.efi","tries_left":3}'
    echo "{\"what\":\"$1\",\"automatic\":false,\"version\":\"2\",\"state\":\"done\",\"phase\":\"done\",\"done\":0,\"total\":0,\"reused\":0,
        \"fetched\":0,\"took_ms\":0,\"error\":null}" >$run/task.json
    ;;
esac
echo "{\"running\":{\"version\":\"1\",\"entry\":\"a.efi\",\"tries_left\":null},\"other\":$other,\"failed\":null,\"problems\":[]}" >$run/versions.json
echo "$*" >>$run/asked
"#;

/// A world that was offered version 2 a moment ago.
fn world(upgrade: &str, site: &str, turn: &str) -> World {
    world_with(upgrade, site, turn, |_| {})
}

fn world_with(upgrade: &str, site: &str, turn: &str, more: impl FnOnce(&Path)) -> World {
    World::prepared(
        &[(
            "web",
            r#"{"service":{"command":["/fake-service","ready"]},"ready":{"when":"notify"}}"#,
        )],
        |place| {
            let program = place.join("usr/lib/cairn/cairn-upgrade");
            std::fs::write(&program, PROGRAM).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            let path = place.join("usr/lib/cairn/appliance.json");
            let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            manifest["upgrade"] = serde_json::from_str(upgrade).unwrap();
            std::fs::write(&path, manifest.to_string()).unwrap();
            put(place, "data/site/site.toml", site);
            let now = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_secs();
            let offer = serde_json::json!({
                "version": "2", "newer": true, "notes": "", "changes": [], "since": null, "turn": turn, "turn_at": null, "turn_why": "",
                "withdrawn": null, "at": cairn_unit::Moment(now).to_string(),
            });
            put(place, "run/cairn/upgrade/offered.json", &offer.to_string());
            more(place);
        },
    )
}

fn put(place: &Path, name: &str, text: &str) {
    let path = place.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn asked(world: &World) -> Vec<String> {
    let text = std::fs::read_to_string(world.at("run/cairn/upgrade/asked")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

const AUTOMATIC: &str =
    r#"{"root":"r","url":"http://127.0.0.1:9","mode":"automatic","window":["00:00-24:00"],"bandwidth":"1M"}"#;

#[test]
fn an_automatic_appliance_installs_what_is_its_own_and_restarts_in_its_window() {
    let mut world = world(AUTOMATIC, "", "now");
    world.until("it restarts", World::shut_down);
    assert_eq!(
        asked(&world),
        [
            "look",
            "install --automatic --bandwidth=1048576",
            "restart --automatic 2"
        ]
    );
}

#[test]
fn outside_its_window_it_installs_and_waits() {
    // A window that is open on no day of this week's two next.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let day = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][((now / 86_400 + 3 + 3) % 7) as usize];
    let site = format!("[upgrade]\nwindow = [\"{day} 02:00-03:00\"]\n");
    let mut world = world(AUTOMATIC, &site, "now");
    world.until("it installs", |w| asked(w).len() == 2);
    // The API is answered by the same loop: what it would do at once it has done by then.
    let told = world.ask_with("GET", "/v1/upgrade", "").unwrap().1;
    assert_eq!(told["policy"]["window"][0], format!("{day} 02:00-03:00"), "{told}");
    world.until("it is told", |w| w.console().contains("Version 2 is installed"));
    assert!(!world.shut_down() && asked(&world).len() == 2, "{:?}", asked(&world));
}

#[test]
fn a_version_whose_turn_has_not_come_is_left_alone() {
    let mut world = world(AUTOMATIC, "", "open");
    world.until("the first look", |w| asked(w).len() == 1);
    world.until("ready", |w| w.state("web") == "ready");
    assert_eq!(asked(&world), ["look"]);
    // The owner may have it all the same.
    world.post("/v1/upgrade/install?now=1");
    world.until("the install", |w| asked(w).len() == 2);
    assert_eq!(asked(&world)[1], "install --now --bandwidth=1048576");
}

#[test]
fn a_version_that_the_appliance_cannot_have_is_told_once_and_not_tried() {
    let mut world = world_with(AUTOMATIC, "", "now", |place| {
        let path = place.join("run/cairn/upgrade/offered.json");
        let mut offer: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        offer["refused"] = "install 1.5 first".into();
        std::fs::write(&path, offer.to_string()).unwrap();
    });
    world.until("ready", |w| w.state("web") == "ready");
    for looks in 2..4 {
        assert_eq!(world.ask_with("POST", "/v1/upgrade/check", "").unwrap().0, 202);
        world.until("the check", |w| asked(w).len() == looks);
        world.until("its end", |w| {
            w.ask_with("GET", "/v1/upgrade", "")
                .is_some_and(|a| a.1["task"]["state"] == "done")
        });
    }
    let said = "Version 2 is offered, but cannot be installed: install 1.5 first.";
    assert_eq!(world.console().matches(said).count(), 1, "{}", world.console());
    assert!(
        asked(&world).iter().all(|asked| !asked.starts_with("install")),
        "{:?}",
        asked(&world)
    );
}

#[test]
fn a_held_appliance_is_told_and_not_upgraded() {
    let site = "# mine\n[upgrade.hold]\nreason = \"audit\"\n";
    let mut world = world(AUTOMATIC, site, "now");
    world.until("it tells", |w| w.console().contains("Version 2 can be installed"));
    world.until("it notes it", |w| asked(w).len() == 2);
    assert_eq!(asked(&world), ["look", "note offered 2 "]);
    let (status, answer) = world.ask_with("POST", "/v1/upgrade/install", "").unwrap();
    assert_eq!(status, 409);
    let why = answer["error"].as_str().unwrap();
    assert!(
        why.starts_with("upgrades are held (audit);") && why.contains("`cairn upgrade install --force`"),
        "{why}"
    );
    let told = world.ask_with("GET", "/v1/upgrade", "").unwrap().1;
    assert_eq!(told["policy"]["hold"]["reason"], "audit");
    // Asking is not installing.
    assert_eq!(world.ask_with("POST", "/v1/upgrade/check", "").unwrap().0, 202);
    world.until("the check", |w| asked(w).len() == 3);
    world.until("its end", |w| {
        w.ask_with("GET", "/v1/upgrade", "")
            .is_some_and(|a| a.1["task"]["state"] == "done")
    });
    assert_eq!(
        world.ask_with("POST", "/v1/upgrade/install?force=1", "").unwrap().0,
        202
    );
    world.until("the install", |w| asked(w).len() == 4);
    assert_eq!(asked(&world)[3], "install --bandwidth=1048576");
    assert!(!world.shut_down());
}

#[test]
fn a_hold_is_written_noted_and_taken_back() {
    let built = r#"{"root":"r","mode":"notify"}"#;
    let own = "# mine\n[units.web]\nenabled = true\n";
    let mut world = world(built, own, "open");
    world.until("the first look", |w| asked(w).len() == 1);
    let (status, answer) = world
        .ask_with("POST", "/v1/upgrade/hold?for=14d&reason=an%20audit", "")
        .unwrap();
    assert_eq!(status, 200, "{answer}");
    let text = std::fs::read_to_string(world.at("data/site/site.toml")).unwrap();
    assert!(
        text.starts_with("# mine\n") && text.contains("reason = \"an audit\""),
        "{text}"
    );
    world.until("it is noted", |w| asked(w).len() == 2);
    let noted = asked(&world)[1].clone();
    assert!(
        noted.starts_with("note held 1 until 20") && noted.ends_with(": an audit"),
        "{noted}"
    );
    assert_eq!(world.ask_with("POST", "/v1/upgrade/hold?for=soon", "").unwrap().0, 400);
    assert_eq!(world.ask_with("POST", "/v1/upgrade/unhold", "").unwrap().0, 200);
    assert_eq!(std::fs::read_to_string(world.at("data/site/site.toml")).unwrap(), own);
    world.until("it is noted", |w| asked(w).len() == 3);
    assert_eq!(asked(&world)[2], "note released 1 ");
    assert_eq!(world.ask_with("POST", "/v1/upgrade/unhold", "").unwrap().0, 409);
}

#[test]
fn a_restart_that_did_not_lead_to_the_version_is_not_tried_again() {
    let line = r#"{"at":"2026-01-01T00:00:00Z","what":"restarting","version":"2","running":"1","why":""}"#;
    let mut world = world_with(AUTOMATIC, "", "now", |place| {
        put(place, "data/upgrade/history.jsonl", &format!("{line}\n"));
        put(place, "run/cairn/upgrade/installed", "");
    });
    world.until("it tells", |w| {
        w.console().contains("Version 2 is installed; `cairn reboot` starts it")
    });
    assert!(!world.shut_down());
}
