//! Files from templates: they change under running units, and only units whose files changed are told.

mod fake_init;

use fake_init::World;
use serde_json::{Value, json};

/// A proxy, a unit that it connects to, and one whose file says the appliance's name and which cannot reload.
fn world() -> World {
    let heard = tempfile::tempdir().unwrap().keep().join("told");
    let ready = json!({"command": ["/fake-service", "ready"]});
    let told = |unit: &str| json!({"command": ["/bin/sh", "-c", format!("echo {unit} >> {}", heard.display())]});
    let service = |unit: &str| json!({"command": ["/fake-service", "ready"], "reload": told(unit)});
    let web = json!({"kind": "http", "upstream": {"asks": {"path": {"is": "path"}}}});
    let proxy = json!({"service": service("proxy"), "ready": {"when": "notify"}, "provides": {"web": web}});
    let wiki = json!({"service": ready, "ready": {"when": "notify"}, "needs": {"http": {"from": "web", "port": 8000, "path": "/wiki"}}});
    let still = json!({"service": service("still"), "ready": {"when": "notify"}});
    let named = json!({"service": ready, "ready": {"when": "notify"}});
    let units = [("proxy", proxy), ("wiki", wiki), ("still", still), ("named", named)]
        .map(|(name, unit)| (name, unit.to_string()));
    let units: Vec<(&str, &str)> = units.iter().map(|(name, unit)| (*name, unit.as_str())).collect();
    World::prepared(&units, |at| {
        let file = at.join("usr/lib/cairn/appliance.json");
        let mut appliance: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let texts = [
            (
                "proxy",
                "{% for u in bound.web %}{{ u.path }} {{ u.server }}:{{ u.port }}\n{% endfor %}",
            ),
            ("still", "{{ unit }}\n"),
            ("named", "{{ site.name }}\n"),
        ];
        for (name, text) in texts {
            appliance["units"][name]["templates"] = json!([{"path": "/etc/x/conf"}]);
            std::fs::create_dir_all(at.join(format!("services/{name}/etc/x"))).unwrap();
            std::fs::write(at.join(format!("services/{name}/etc/x/conf.tmpl")), text).unwrap();
        }
        appliance["units"]["wiki"]["waits_for"] = json!([]);
        std::fs::write(&file, appliance.to_string()).unwrap();
        std::fs::write(at.join("heard"), heard.display().to_string()).unwrap();
    })
}

fn file(world: &World, unit: &str) -> String {
    std::fs::read_to_string(world.at(&format!("run/cairn/config/{unit}/etc/x/conf"))).unwrap_or_default()
}

fn told(world: &World) -> Vec<String> {
    let place = std::fs::read_to_string(world.at("heard")).unwrap();
    let text = std::fs::read_to_string(place).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn all_ready(world: &World) -> bool {
    ["proxy", "wiki", "still", "named"]
        .iter()
        .all(|unit| world.state(unit) == "ready")
}

#[test]
fn only_units_whose_files_changed_are_told() {
    let mut world = world();
    world.until("the start", all_ready);
    assert_eq!(file(&world, "proxy"), "/wiki wiki:8000\n");
    assert_eq!(file(&world, "named"), "test\n");
    let before = world.pids()["proxy"];
    world.post("/v1/units/wiki/disable");
    world.until("the other file", |w| told(w) == ["proxy"]);
    assert_eq!(file(&world, "proxy"), "");
    world.post("/v1/units/wiki/enable");
    world.until("the first file again", |w| told(w) == ["proxy", "proxy"]);
    assert_eq!(file(&world, "proxy"), "/wiki wiki:8000\n");
    assert_eq!(world.pids()["proxy"], before, "it was not restarted");
    // One that cannot reload is restarted, and nobody else hears of it.
    let named = world.pids()["named"];
    let site = world.at("data/site/site.toml");
    let text = std::fs::read_to_string(&site).unwrap();
    std::fs::write(&site, format!("[appliance]\nname = \"office\"\n{text}")).unwrap();
    world.post("/v1/reload");
    world.until("the restart", |w| w.pids()["named"] != named && all_ready(w));
    assert_eq!(file(&world, "named"), "office\n");
    assert_eq!(told(&world), ["proxy", "proxy"]);
    assert_eq!(world.pids()["proxy"], before);
}

#[test]
fn a_unit_that_a_dying_manager_did_not_tell_is_told_by_the_next_one() {
    let mut world = world();
    world.until("the start", all_ready);
    // As a manager leaves it that is killed after the file, and before the unit heard of it.
    let mark = world.at("run/cairn/config/proxy.changed");
    std::fs::write(&mark, "").unwrap();
    world.kill_manager();
    world.until("the word", |w| told(w) == ["proxy"]);
    world.until("the end of it", |_| !mark.exists());
    world.kill_manager();
    world.until("another manager", all_ready);
    assert_eq!(told(&world), ["proxy"], "it is told once");
}
