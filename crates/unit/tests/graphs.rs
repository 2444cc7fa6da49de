//! Bindings between units: what is met, what is not, and in which order units start.

mod common;

use std::collections::BTreeMap;

use cairn_unit::{Graph, Name, Problem, Source, Unit};
use common::source;

fn units(list: &[(&str, &str)]) -> BTreeMap<Name, (Unit, Source)> {
    list.iter()
        .map(|(name, more)| {
            let after = more.lines().find(|l| l.starts_with("after"));
            let rest: String = more
                .lines()
                .filter(|l| !l.starts_with("after"))
                .map(|l| format!("{l}\n"))
                .collect();
            let text = format!(
                "description = \"A\"\n{}\n[service]\ncommand = [\"/a\"]\n{rest}",
                after.unwrap_or_default()
            );
            let source = source(&format!("units/{name}.toml"), &text);
            (name.parse().unwrap(), (Unit::parse(&source).unwrap(), source))
        })
        .collect()
}

fn graph(list: &[(&str, &str)]) -> Graph {
    Graph::new(&units(list)).unwrap()
}

fn problems(list: &[(&str, &str)]) -> Vec<Problem> {
    Graph::new(&units(list)).unwrap_err().0
}

const DB: &str = "[provides.mariadb]\nkind = \"database\"\nport = 3306\n";

#[test]
fn a_need_becomes_a_binding_and_an_order() {
    let graph = graph(&[("app", "[needs]\ndb = \"mariadb\"\n"), ("zdb", DB)]);
    let order: Vec<&str> = graph.order.iter().map(Name::as_str).collect();
    assert_eq!(order, ["zdb", "app"]);
    let binding = &graph.bindings[0];
    assert_eq!(
        (
            binding.consumer.as_str(),
            binding.name.as_str(),
            binding.provider.as_str()
        ),
        ("app", "db", "zdb")
    );
    assert_eq!(binding.target.port, Some(3306));
}

#[test]
fn units_that_wait_for_nothing_start_by_name() {
    let graph = graph(&[("c", ""), ("a", ""), ("b", "after = [\"c\"]")]);
    let order: Vec<&str> = graph.order.iter().map(Name::as_str).collect();
    assert_eq!(order, ["a", "c", "b"]);
}

#[test]
fn after_a_unit_that_is_not_part_is_no_error() {
    assert_eq!(graph(&[("a", "after = [\"absent\"]")]).order.len(), 1);
}

#[test]
fn an_unmet_need_is_shown_with_the_provide_that_was_meant() {
    let found = problems(&[
        ("app", "[needs]\ndb = \"mariadb-\"\n".replace("b-", "b2").as_str()),
        ("zdb", DB),
    ]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].file.to_str(), Some("units/app.toml"));
    assert_eq!(found[0].at, Some((6, 6)));
    assert_eq!(
        found[0].message,
        "unit `app` needs `mariadb2`, which no unit of the appliance provides"
    );
    assert_eq!(found[0].help.as_deref(), Some("did you mean `mariadb`?"));
}

#[test]
fn a_need_that_nothing_is_near_to_says_what_to_add() {
    let found = problems(&[("app", "[needs]\ndb = \"mariadb\"\n")]);
    assert_eq!(
        found[0].help.as_deref(),
        Some("add a unit that provides it to the recipe")
    );
}

#[test]
fn a_need_that_two_units_meet_is_refused() {
    let found = problems(&[("app", "[needs]\ndb = \"mariadb\"\n"), ("x", DB), ("y", DB)]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "unit `app` needs `mariadb`, which x and y provide");
    assert_eq!(found[0].at, Some((6, 6)));
}

#[test]
fn a_cycle_is_refused_with_its_whole_path() {
    let unit = |provides: &str, needs: &str| {
        format!("[provides.{provides}]\nkind = \"k\"\nport = 1\n[needs]\nn = \"{needs}\"\n")
    };
    let (a, b, c) = (unit("pa", "pb"), unit("pb", "pc"), unit("pc", "pa"));
    let found = problems(&[("a", &a), ("b", &b), ("c", &c), ("d", "")]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].message, "the units wait for each other: a -> b -> c -> a");
    assert_eq!(found[0].file.to_str(), Some("units/a.toml"));
    assert_eq!(found[0].line.as_deref(), Some("n = \"pb\""));
}

#[test]
fn a_cycle_through_after_is_shown_at_the_after() {
    let found = problems(&[("a", "after = [\"b\"]"), ("b", "after = [\"a\"]")]);
    assert_eq!(found[0].message, "the units wait for each other: a -> b -> a");
    assert_eq!(
        (found[0].file.to_str(), found[0].at.map(|a| a.0)),
        (Some("units/a.toml"), Some(2))
    );
}

#[test]
fn a_unit_that_needs_itself_is_a_cycle() {
    let found = problems(&[("a", "[provides.p]\nkind = \"k\"\nport = 1\n[needs]\nn = \"p\"\n")]);
    assert_eq!(found[0].message, "the units wait for each other: a -> a");
}

#[test]
fn a_cycle_is_found_although_another_need_is_unmet() {
    let found = problems(&[
        ("a", "after = [\"b\"]\n[needs]\nn = \"nothing\""),
        ("b", "after = [\"a\"]"),
    ]);
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn a_port_published_by_two_units_is_refused_in_the_second() {
    let publish = "[[network.publish]]\nport = 443\n";
    let found = problems(&[("a", publish), ("b", publish)]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "port 443 is published by `a` and by `b`");
    assert_eq!(found[0].file.to_str(), Some("units/b.toml"));
}

#[test]
fn the_same_port_by_another_protocol_is_another_port() {
    graph(&[
        ("a", "[[network.publish]]\nport = 53\n"),
        ("b", "[[network.publish]]\nport = 53\nprotocol = \"udp\"\n"),
    ]);
}

#[test]
fn a_long_chain_of_units_is_no_problem() {
    let names: Vec<String> = (0..3000).map(|i| format!("u{i:04}")).collect();
    let list: Vec<(String, String)> = names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            (
                name.clone(),
                names
                    .get(i + 1)
                    .map(|n| format!("after = [\"{n}\"]"))
                    .unwrap_or_default(),
            )
        })
        .collect();
    let list: Vec<(&str, &str)> = list.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(graph(&list).order[0].as_str(), "u2999");
}

#[test]
fn names_that_the_appliance_itself_uses_and_host_names_that_collide_are_refused() {
    for name in ["cairn", "host", "kernel"] {
        let found = problems(&[(name, "")]);
        assert_eq!(found[0].message, format!("a unit cannot be called `{name}`"));
    }
    let found = problems(&[("worker-1", ""), ("worker@1", "")]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].message.contains("the same host name, `worker-1`"),
        "{}",
        found[0].message
    );
    graph(&[("worker@1", ""), ("worker@2", "")]);
}

#[test]
fn a_unit_watches_only_what_it_can_see() {
    let maker = "[state]\n\"/var/spool/in\" = {}\n[provides.spool]\nkind = \"spool\"\nfolder = \"/var/spool/in\"\n";
    let watcher = "[path]\nnot_empty = \"/var/spool/in/new\"\n";
    let found = problems(&[("maker", maker), ("watcher", watcher)]);
    assert_eq!(
        found[0].message,
        "unit `watcher` watches `/var/spool/in/new`, which it cannot see"
    );
    let bound = format!("{watcher}[needs]\nin = \"spool\"\n");
    assert_eq!(graph(&[("maker", maker), ("watcher", &bound)]).bindings.len(), 1);
    let beside = "[path]\nchanged = \"/var/lib/ab\"\n[state]\n\"/var/lib/a\" = {}\n";
    assert_eq!(problems(&[("watcher", beside)]).len(), 1);
}

const ACCOUNTS: &str = "[provides.sql]\nkind = \"database\"\nport = 1\n[provides.sql.account]\n\
    grant = { command = [\"/g\"] }\nrevoke = { command = [\"/r\"] }\n";

#[test]
fn no_two_bindings_have_one_account_and_none_the_name_of_a_secret() {
    let named = |consumer: &str, need: &str| {
        let (consumer, need): (Name, Name) = (consumer.parse().unwrap(), need.parse().unwrap());
        cairn_unit::account_name(&consumer, &need)
    };
    assert_eq!(
        (named("wiki@2", "db"), named("a-b", "c")),
        ("wiki_2_db".into(), "a_b_c".into())
    );
    graph(&[("wiki", "[needs]\ndb = \"sql\"\nother = \"sql\"\n"), ("sql", ACCOUNTS)]);
    let problem = &problems(&[
        ("a", "[needs]\nb-c = \"sql\"\n"),
        ("a-b", "[needs]\nc = \"sql\"\n"),
        ("sql", ACCOUNTS),
    ])[0];
    assert!(
        problem.message.contains("`a` has the account `a_b_c` at `sql` already"),
        "{problem}"
    );
    let problem = &problems(&[("a", "[needs]\ndb = \"sql\"\n[secrets]\ndb = {}\n"), ("sql", ACCOUNTS)])[0];
    assert!(problem.message.contains("is a secret of this unit"), "{problem}");
    // Where there are no accounts there is no such file.
    graph(&[("a", "[needs]\ndb = \"mariadb\"\n[secrets]\ndb = {}\n"), ("db", DB)]);
}

const WEB: &str = "[provides.web]\nkind = \"http\"\nport = 443\n[provides.web.upstream]\ndistinct = [\"host\", \"path\"]\n\
    [provides.web.upstream.asks]\npath = { is = \"path\" }\nhost = { is = \"host\", default = \"\" }\n";

#[test]
fn who_is_connected_to_does_not_wait_for_who_connects() {
    let graph = graph(&[
        (
            "app",
            "[needs]\nhttp = { from = \"web\", port = 8000, path = \"/a\" }\n",
        ),
        ("proxy", WEB),
    ]);
    assert!(graph.before.values().all(Vec::is_empty), "{:?}", graph.before);
    assert_eq!(graph.bindings.len(), 1);
}

#[test]
fn what_a_provider_asks_is_said_and_nothing_else() {
    let of = |need: &str| {
        problems(&[
            ("app", format!("[needs]\nhttp = {need}\n").as_str()),
            ("proxy", WEB),
            ("zdb", DB),
        ])
    };
    let said = |need: &str| {
        let found = of(need);
        assert_eq!(found.len(), 1, "{found:#?}");
        (
            found[0].message.clone(),
            found[0].help.clone().unwrap_or_default(),
            found[0].at,
        )
    };
    let (message, help, at) = said("{ from = \"web\", port = 8000, path = \"wiki\" }");
    assert_eq!(message, "`path` of `http` is `wiki`");
    assert!(help.starts_with("it must be a path such as"), "{help}");
    assert_eq!(at, Some((6, 44)));
    let (message, help, _) = said("{ from = \"web\", port = 8000, path = \"/a\", hots = \"b\" }");
    assert_eq!(
        (message.as_str(), help.as_str()),
        ("`web` asks for no `hots`", "did you mean `host`?")
    );
    assert_eq!(
        said("{ from = \"web\", port = 8000 }").0,
        "`web` asks for `path`, which `http` does not say"
    );
    assert_eq!(
        said("{ from = \"web\", path = \"/a\" }").0,
        "`http` does not say at which port or socket this unit answers"
    );
    assert_eq!(
        said("{ from = \"mariadb\", port = 1 }").0,
        "`mariadb` does not connect to the units that need it"
    );
    let none = "[network]\nmode = \"none\"\n[needs]\nhttp = { from = \"web\", port = 8000, path = \"/a\" }\n";
    assert_eq!(
        problems(&[("app", none), ("proxy", WEB)])[0].message,
        "`web` cannot reach this unit, which has no network"
    );
}

#[test]
fn who_is_connected_to_by_a_socket_needs_no_network_and_a_folder_that_lets_the_other_through() {
    let app = |folder: &str, mode: &str, more: &str| {
        format!(
            "[network]\nmode = \"none\"\n[runtime]\n\"{folder}\" = {{ mode = \"{mode}\" }}\n\
             [needs]\nhttp = {{ from = \"web\", socket = \"/run/app/http.sock\", path = \"/a\"{more} }}\n"
        )
    };
    let good = graph(&[("app", &app("/run/app", "0755", "")), ("proxy", WEB)]);
    assert!(good.before.values().all(Vec::is_empty));
    let refused = |app: String| {
        let found = problems(&[("app", &app), ("proxy", WEB)]);
        assert_eq!(found.len(), 1, "{found:#?}");
        (found[0].message.clone(), found[0].help.clone().unwrap_or_default())
    };
    let (message, help) = refused(app("/run/other", "0755", ""));
    assert_eq!(message, "`web` cannot reach `/run/app/http.sock`");
    assert!(help.contains("none of [runtime]"), "{help}");
    let (_, help) = refused(app("/run/app", "0750", ""));
    assert!(help.contains("\"0755\""), "{help}");
    let both = refused(app("/run/app", "0755", ", port = 80"));
    assert_eq!(both.0, "`http` says both a port and a socket");
    let whole = app("/run", "0755", "").replace("/run/app/", "/run/");
    assert!(refused(whole).1.contains("a folder of its own"));
    let to_db = "[needs]\ndb = { from = \"mariadb\", socket = \"/run/a/s\" }\n";
    let found = problems(&[("app", to_db), ("zdb", DB)]);
    assert_eq!(found[0].message, "`mariadb` does not connect to the units that need it");
}

#[test]
fn a_shared_secret_has_a_name_of_its_own_in_each_unit() {
    let key = "[provides.key]\nkind = \"secret\"\nsecret = {}\n";
    let ordered = graph(&[("app", "[needs]\ntoken = \"key\"\n"), ("zdoor", key)]);
    assert_eq!(ordered.before["app".parse::<Name>().unwrap().as_str()].len(), 1);
    let taken = problems(&[
        ("app", "[needs]\ntoken = \"key\"\n[secrets]\ntoken = {}\n"),
        ("zdoor", key),
    ]);
    assert_eq!(taken[0].message, "`token` is a secret of this unit, too");
    let own = "[needs]\ntoken = \"key\"\n[provides.token]\nkind = \"secret\"\nsecret = {}\n";
    let taken = problems(&[("app", own), ("zdoor", key)]);
    assert_eq!(taken[0].message, "`token` is a secret that this unit provides, too");
}

#[test]
fn two_units_cannot_be_served_at_one_place() {
    let need = |more: &str| format!("[needs]\nhttp = {{ from = \"web\", port = 8000, path = \"/a\"{more} }}\n");
    let found = problems(&[("a", &need("")), ("b", &need("")), ("proxy", WEB)]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "`web` serves `a` with host `` and path `/a` already");
    assert_eq!(found[0].file.to_str(), Some("units/b.toml"));
    graph(&[("a", &need("")), ("b", &need(", host = \"b\"")), ("proxy", WEB)]);
}

#[test]
fn an_optional_need_neither_orders_nor_has_to_be_met() {
    let need = "[needs]\ndb = { from = \"mariadb\", optional = true }\n";
    assert!(graph(&[("app", need)]).bindings.is_empty());
    let graph = graph(&[("app", need), ("zdb", DB)]);
    assert_eq!(graph.bindings.len(), 1);
    assert!(graph.before.values().all(Vec::is_empty));
}

#[test]
fn the_clock_is_kept_by_one_unit() {
    let keeps = "[sandbox]\nclock = true\nreason = \"it is a time client\"\n";
    graph(&[("a", keeps), ("b", "")]);
    let found = problems(&[("a", keeps), ("b", keeps)]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "`a` and `b` keep the clock");
    assert_eq!(found[0].file.to_str(), Some("units/b.toml"));
}
