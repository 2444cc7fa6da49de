//! The owner's choices for units: what they change, and what is refused.

mod common;

use cairn_unit::{Bytes, Limits, Manifest, Site};
use common::source;

fn manifest() -> Manifest {
    let unit = serde_json::json!({
        "unit": {"description": "x", "service": {"command": ["/bin/x"]}, "limits": {"memory_max": "1G", "processes": 7}},
        "root": "/services/web", "index": 0, "accounts": {}, "groups": {}, "templates": [], "waits_for": [],
    });
    let all = serde_json::json!({"name": "a", "version": "1", "description": "x", "built": 0, "units": {"web": unit}});
    serde_json::from_value(all).unwrap()
}

#[test]
fn only_what_is_named_changes() {
    let text = "[units.web]\nenabled = false\n[units.web.limits]\nmemory_max = \"2G\"\ncpu_quota = 50\n";
    let manifest = manifest();
    let site = Site::parse(&source("site.toml", text), &manifest).unwrap();
    assert!(!site.enabled("web") && site.enabled("other"));
    let own = &manifest.units["web"].unit.limits;
    let changed = Limits {
        memory_max: Bytes(2 << 30),
        cpu_quota: Some(50),
        ..own.clone()
    };
    assert_eq!(site.limits("web", own), changed);
    assert_eq!(Site::default().limits("web", own), *own);
}

#[test]
fn a_unit_that_is_not_there_and_limits_that_cannot_be_are_refused_where_they_stand() {
    let manifest = manifest();
    let refused = |text: &str| {
        let problems = Site::parse(&source("site.toml", text), &manifest).unwrap_err().0;
        assert_eq!(problems.len(), 1, "{problems:?}");
        let problem = &problems[0];
        (
            problem.at.unwrap().0,
            problem.message.clone(),
            problem.help.clone().unwrap(),
        )
    };
    let (line, message, help) = refused("[units.wbe]\nenabled = false\n");
    assert_eq!((line, message.as_str()), (1, "the appliance has no unit `wbe`"));
    assert_eq!(help, "did you mean `web`?");
    let (line, message, _) = refused("[units.web.limits]\nmemory_high = \"2G\"\n");
    assert_eq!((line, message.as_str()), (2, "memory_high is above memory_max"));
    let (line, message, _) = refused("[units.web]\nenabeld = false\n");
    assert_eq!((line, message.as_str()), (2, "unknown key `enabeld`"));
}

#[test]
fn settings_are_those_that_the_unit_offers_in_their_form() {
    let mut manifest = manifest();
    let mut web = manifest.units["web"].as_ref().clone();
    web.unit.settings = serde_json::from_value(serde_json::json!({
        "title": {"description": "x", "is": "line"}, "names": {"description": "x", "is": "domain", "many": true},
    }))
    .unwrap();
    manifest.units.insert("web".parse().unwrap(), web.into());
    let good = "[units.web.settings]\ntitle = \"A & B\"\nnames = [\"a.example\"]\n";
    let site = Site::parse(&source("site.toml", good), &manifest).unwrap();
    assert_eq!(site.chosen()["web"].len(), 2);
    let refused = |text: &str| {
        let problems = Site::parse(&source("site.toml", text), &manifest).unwrap_err().0;
        assert_eq!(problems.len(), 1, "{problems:?}");
        let line = problems[0].at.unwrap().0;
        (
            line,
            problems[0].message.clone(),
            problems[0].help.clone().unwrap_or_default(),
        )
    };
    let (line, message, help) = refused("[units.web.settings]\n\ntitel = \"x\"\n");
    assert_eq!((line, message.as_str()), (3, "`web` has no setting `titel`"));
    assert_eq!(help, "did you mean `title`?");
    let (line, message, help) = refused("[units.web.settings]\nnames = [\"a.example\", \"B\"]\n");
    let why = "`names` must be a domain in lower case, such as `mail.example.org`";
    assert_eq!(
        (line, message.as_str(), help.as_str()),
        (2, why, "`cairn set web` says what it is")
    );
    let (line, message, _) = refused("[units.web.settings]\ntitle = 1.5\n");
    assert_eq!(line, 2, "{message}");
}

#[test]
fn what_an_enabled_unit_needs_cannot_be_disabled() {
    let mut manifest = manifest();
    let mut db = manifest.units["web"].as_ref().clone();
    db.unit.provides = serde_json::from_value(serde_json::json!({"sql": {"kind": "database", "port": 3306}})).unwrap();
    manifest.units.insert("db".parse().unwrap(), db.into());
    let needs = serde_json::from_value(serde_json::json!({"db": "sql"})).unwrap();
    std::sync::Arc::make_mut(manifest.units.get_mut("web").unwrap())
        .unit
        .needs = needs;
    let parse = |text: &str| Site::parse(&source("site.toml", text), &manifest);
    let problem = parse("[units.db]\nenabled = false\n").unwrap_err().0.remove(0);
    assert_eq!(problem.at.unwrap().0, 2);
    assert_eq!(problem.message, "`db` cannot be disabled: `web` needs it");
    parse("[units.db]\nenabled = false\n[units.web]\nenabled = false\n").unwrap();
    parse("[units.web]\nenabled = false\n").unwrap();
}

#[test]
fn the_appliances_own_name_and_domain_are_names_that_the_network_takes() {
    let manifest = manifest();
    let parse = |text: &str| Site::parse(&source("site.toml", text), &manifest);
    let appliance = parse("[appliance]\nname = \"office\"\ndomain = \"xn--mller-kva.example\"\n")
        .unwrap()
        .appliance
        .unwrap();
    assert_eq!(appliance.name.as_str(), "office");
    assert_eq!(appliance.domain.unwrap().as_str(), "xn--mller-kva.example");
    let long = format!("{}.example", "a".repeat(64));
    for (domain, why) in [
        ("müller.example", "xn--"),
        ("Example.org", "lower case"),
        ("example", "dots between"),
        ("10.0.0.1", "dots between"),
        ("-a.example", "dots between"),
        ("a..example", "dots between"),
        (&long, "dots between"),
        (&format!("{}example", "a.".repeat(150)), "at most 253"),
    ] {
        let text = format!("[appliance]\nname = \"office\"\ndomain = \"{domain}\"\n");
        let problem = &parse(&text).unwrap_err().0[0];
        assert_eq!(problem.at.map(|at| at.0), Some(3), "{problem:?}");
        assert!(problem.message.contains(why), "{domain}: {problem:?}");
    }
    for name in ["büro", "Office", "a@b", &"a".repeat(300)] {
        assert!(parse(&format!("[appliance]\nname = \"{name}\"\n")).is_err(), "{name}");
    }
}
