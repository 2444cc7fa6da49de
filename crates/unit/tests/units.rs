//! Everything that can be wrong with one unit's file, and what its writer is told.

mod common;

use cairn_unit::{Name, Problem, Unit};
use common::source;

/// A unit that is right, to which tests add what is wrong.
const GOOD: &str = "description = \"A\"\n[service]\ncommand = [\"/bin/a\"]\n";

fn problems(text: &str) -> Vec<Problem> {
    match Unit::parse(&source("units/a.toml", text)) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(problems) => problems.0,
    }
}

fn only(text: &str) -> Problem {
    let mut all = problems(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

/// The problem in `GOOD` with `more` behind it; its line is counted from the first line of `more`.
fn added(more: &str) -> (Option<(usize, usize)>, String, String) {
    let problem = only(&format!("{GOOD}{more}"));
    let at = problem.at.map(|(line, column)| (line - GOOD.lines().count(), column));
    (at, problem.message, problem.help.unwrap_or_default())
}

#[test]
fn the_smallest_unit_is_accepted() {
    let unit = Unit::parse(&source("units/a.toml", GOOD)).unwrap();
    assert_eq!(unit.service.user, "root");
    assert_eq!(unit.service.stop_timeout.to_string(), "30s");
    assert!(unit.packages.is_empty() && unit.needs.is_empty());
}

#[test]
fn an_unknown_key_is_shown_where_it_stands_with_the_key_that_was_meant() {
    let problem = only(&format!("{GOOD}  comand = 1\n"));
    assert_eq!(problem.at, Some((4, 3)));
    assert_eq!(problem.message, "unknown key `comand`");
    assert_eq!(problem.help.as_deref(), Some("did you mean `command`?"));
    assert_eq!(problem.width, "comand".len());
    let shown = problem.to_string();
    assert_eq!(
        shown,
        "units/a.toml:4:3: unknown key `comand`\n 4 |   comand = 1\n   |   ^^^^^^\n  help: did you mean `command`?"
    );
}

#[test]
fn an_unknown_key_like_no_other_lists_the_known_ones() {
    let (at, message, help) = added("[network]\nfirewall = true\n");
    assert_eq!((at, message.as_str()), (Some((2, 1)), "unknown key `firewall`"));
    assert_eq!(help, "known here: mode, publish, outbound");
}

#[test]
fn unknown_keys_are_refused_in_every_table() {
    let tables = [
        "[ready]\nwhen = \"notify\"\nx = 1\n",
        "[[setup]]\nname = \"a\"\ncommand = [\"/a\"]\nx = 1\n",
        "[state.\"/var/lib/a\"]\nx = 1\n",
        "[runtime.\"/run/a\"]\nx = 1\n",
        "[secrets.a]\nx = 1\n",
        "[users.a]\nx = 1\n",
        "[provides.a]\nkind = \"a\"\nport = 1\nx = 1\n",
        "[network]\nx = 1\n",
        "[[network.publish]]\nport = 1\nx = 1\n",
        "[limits]\nx = 1\n",
        "[sandbox]\nx = 1\n",
        "[x]\n",
    ];
    for table in tables {
        let (_, message, _) = added(table);
        assert_eq!(message, "unknown key `x`", "{table}");
    }
}

#[test]
fn a_missing_key_is_named() {
    assert_eq!(
        only("[service]\ncommand = [\"/a\"]\n").message,
        "missing field `description`"
    );
    assert_eq!(only("description = \"A\"\n").message, "missing field `service`");
    let problem = only("description = \"A\"\n[service]\nuser = \"a\"\n");
    assert_eq!(
        (problem.message.as_str(), problem.at.map(|a| a.0)),
        ("missing field `command`", Some(2))
    );
}

#[test]
fn broken_toml_is_shown_where_it_breaks() {
    let problem = only("description = \"A\n[service]\n");
    assert_eq!(problem.at.map(|a| a.0), Some(1));
    let problem = only(&format!("{GOOD}command = [\"/b\"]\n"));
    assert_eq!(problem.at, Some((4, 1)));
    assert!(problem.message.contains("duplicate key"), "{}", problem.message);
}

#[test]
fn a_value_of_another_type_is_refused() {
    let (at, message, _) = added("user = 5\n");
    assert_eq!(at, Some((1, 8)));
    assert!(
        message.starts_with("invalid type: integer `5`, expected a string"),
        "{message}"
    );
}

#[test]
fn an_unknown_choice_suggests_the_nearest() {
    let (at, message, help) = added("restart = \"on-falure\"\n");
    assert_eq!((at, message.as_str()), (Some((1, 11)), "unknown variant `on-falure`"));
    assert_eq!(help, "did you mean `on-failure`?");
    let (_, _, help) = added("stop_signal = \"SEGV\"\n");
    assert!(help.starts_with("known here: TERM, QUIT"), "{help}");
}

#[test]
fn an_empty_command_is_refused_wherever_one_stands() {
    let problem = only("description = \"A\"\n[service]\ncommand = []\n");
    assert_eq!(
        (problem.at, problem.message.as_str()),
        (Some((3, 11)), "the command is empty")
    );
    let (at, message, _) = added("before = [[\"/a\"], []]\n");
    assert_eq!((at, message.as_str()), (Some((1, 19)), "the command is empty"));
    let (at, message, _) = added("[[setup]]\nname = \"a\"\ncommand = []\n");
    assert_eq!((at, message.as_str()), (Some((3, 11)), "the command is empty"));
}

#[test]
fn a_program_without_an_absolute_path_is_refused() {
    for program in ["caddy", "./caddy", "", "bin/a", "/usr/../bin/a"] {
        let text = format!("description = \"A\"\n[service]\ncommand = [\"{program}\"]\n");
        let problem = only(&text);
        assert_eq!(problem.message, format!("`{program}` is not an absolute path"));
    }
}

#[test]
fn an_empty_description_is_refused() {
    let problem = only("description = \"  \"\n[service]\ncommand = [\"/a\"]\n");
    assert_eq!(
        (problem.at, problem.message.as_str()),
        (Some((1, 15)), "the description is empty")
    );
}

#[test]
fn a_description_of_two_lines_is_refused() {
    let problem = only("description = \"a\\nb\"\n[service]\ncommand = [\"/a\"]\n");
    assert_eq!(problem.message, "the description has more than one line");
}

#[test]
fn bad_names_are_refused_where_they_stand() {
    for name in [
        "Db",
        "1db",
        "-db",
        "db-",
        "d_b",
        "d.b",
        "dé",
        "",
        "abcdefghijklmnopqrstuvwxyz0123456",
    ] {
        let (at, message, _) = added(&format!("[needs]\ndb = \"{name}\"\n"));
        assert_eq!(at, Some((2, 6)), "{name}");
        assert!(message.starts_with(&format!("`{name}` is not a name")), "{message}");
    }
}

#[test]
fn a_bad_name_as_a_key_is_refused_where_it_stands() {
    let (at, message, _) = added("[secrets]\nAdmin = {}\n");
    assert_eq!(at, Some((2, 1)));
    assert!(message.starts_with("`Admin` is not a name"), "{message}");
}

#[test]
fn bad_sizes_are_refused() {
    for size in [
        "",
        "M",
        "12X",
        "12 M",
        "-1",
        "1.5G",
        "12MB",
        "+1",
        "99999999999999999999",
        "18446744073709551615K",
    ] {
        let (at, message, _) = added(&format!("[limits]\nmemory_max = \"{size}\"\n"));
        assert_eq!(at, Some((2, 14)), "{size}");
        assert!(message.starts_with(&format!("`{size}` is not a size")), "{message}");
    }
}

#[test]
fn bad_durations_are_refused() {
    for time in [
        "",
        "30",
        "s",
        "30sec",
        "1.5s",
        "-1s",
        "+1s",
        "1h30m",
        "99999999999999999999s",
        "18446744073709551615d",
    ] {
        let (_, message, _) = added(&format!("stop_timeout = \"{time}\"\n"));
        assert!(message.starts_with(&format!("`{time}` is not a duration")), "{message}");
    }
}

#[test]
fn bad_modes_are_refused() {
    for mode in ["", "75", "0888", "rwx", "77777", "+755", "0o755", "-755"] {
        let (_, message, _) = added(&format!("[state]\n\"/var/lib/a\" = {{ mode = \"{mode}\" }}\n"));
        assert!(message.starts_with(&format!("`{mode}` is not a mode")), "{message}");
    }
}

#[test]
fn bad_paths_are_refused() {
    for path in ["", "var/lib/a", "/var//a", "/var/./a", "/var/../a", "/var/a/"] {
        let (at, message, _) = added(&format!("[state]\n\"{path}\" = {{}}\n"));
        assert_eq!(at, Some((2, 1)), "{path}");
        assert!(
            message.starts_with(&format!("`{path}` is not a path here")),
            "{message}"
        );
    }
}

#[test]
fn bad_ports_are_refused_wherever_one_stands() {
    for port in ["70000", "-1"] {
        let (_, message, _) = added(&format!("[[network.publish]]\nport = {port}\n"));
        assert!(message.starts_with("invalid value"), "{message}");
    }
    let (at, message, _) = added("[[network.publish]]\nport = 0\n");
    assert_eq!((at.map(|a| a.0), message.as_str()), (Some(2), "port 0 is no port"));
    let (at, message, _) = added("[[network.publish]]\nport = 1\nto = 0\n");
    assert_eq!((at.map(|a| a.0), message.as_str()), (Some(3), "port 0 is no port"));
    let (at, message, _) = added("[provides.a]\nkind = \"a\"\nport = 0\n");
    assert_eq!((at, message.as_str()), (Some((3, 8)), "port 0 is no port"));
    let (_, message, _) = added("[ready]\nwhen = { port = 0 }\n");
    assert_eq!(message, "port 0 is no port");
}

#[test]
fn a_port_published_twice_by_one_unit_is_refused() {
    let (_, message, _) = added("[[network.publish]]\nport = 80\n[[network.publish]]\nport = 80\n");
    assert_eq!(message, "port 80 is published twice");
}

#[test]
fn one_port_may_be_published_by_tcp_and_by_udp() {
    let text = format!("{GOOD}[[network.publish]]\nport = 53\n[[network.publish]]\nport = 53\nprotocol = \"udp\"\n");
    Unit::parse(&source("units/a.toml", &text)).unwrap();
}

#[test]
fn a_provide_that_answers_nowhere_is_refused() {
    let (at, message, help) = added("[provides.db]\nkind = \"database\"\n");
    assert_eq!(
        (at, message.as_str()),
        (Some((1, 11)), "`db` names no port, socket, folder or secret")
    );
    assert!(help.contains("port ="));
}

#[test]
fn every_grant_needs_a_reason() {
    let grants = [
        "capabilities = [\"net-bind-service\"]",
        "system_calls = [\"bpf\"]",
        "writable_code = true",
        "clock = true",
        "new_privileges = true",
    ];
    for grant in grants {
        let (_, message, help) = added(&format!("[sandbox]\n{grant}\n"));
        assert_eq!(message, "the sandbox is widened without a reason", "{grant}");
        assert!(help.contains("reason ="));
        let (_, message, _) = added(&format!("[sandbox]\n{grant}\nreason = \" \"\n"));
        assert_eq!(message, "the sandbox is widened without a reason", "{grant}");
    }
}

#[test]
fn a_unit_without_a_network_neither_publishes_nor_goes_out() {
    for more in ["outbound = true\n", "[[network.publish]]\nport = 1\n"] {
        let (at, message, _) = added(&format!("[network]\nmode = \"none\"\n{more}"));
        assert_eq!(at, Some((2, 8)));
        assert!(message.starts_with("a unit without a network"), "{message}");
    }
}

#[test]
fn weights_outside_the_kernels_range_are_refused() {
    for key in ["cpu_weight", "io_weight"] {
        for value in [0, 10_001] {
            let (at, message, _) = added(&format!("[limits]\n{key} = {value}\n"));
            assert_eq!((at.map(|a| a.0), message.as_str()), (Some(2), "a weight is 1 to 10000"));
        }
    }
}

#[test]
fn limits_of_nothing_are_refused() {
    for line in ["memory_max = \"0\"", "processes = 0", "open_files = 0"] {
        let (at, message, _) = added(&format!("[limits]\n{line}\n"));
        assert_eq!(
            (at.map(|a| a.0), message.as_str()),
            (Some(2), "a limit of 0 lets nothing run"),
            "{line}"
        );
    }
}

#[test]
fn memory_that_is_reclaimed_only_above_the_maximum_is_refused() {
    let (_, message, _) = added("[limits]\nmemory_high = \"2G\"\nmemory_max = \"1G\"\n");
    assert_eq!(message, "memory_high is above memory_max");
}

#[test]
fn a_oneshot_has_no_other_sign_of_readiness() {
    let (_, message, _) = added("kind = \"oneshot\"\n[ready]\nwhen = \"notify\"\n");
    assert_eq!(message, "a oneshot is ready when it exits with 0");
}

#[test]
fn a_certificate_has_no_length() {
    let (at, message, _) = added("[secrets]\ntls = { kind = \"certificate\", length = 32 }\n");
    assert_eq!(
        (at.map(|a| a.0), message.as_str()),
        (Some(2), "a certificate has no length")
    );
}

#[test]
fn short_secrets_are_refused() {
    let (at, message, _) = added("[secrets]\nadmin = { length = 15 }\n");
    assert_eq!(
        (at.map(|a| a.0), message.as_str()),
        (Some(2), "a secret has at least 16 characters")
    );
}

#[test]
fn a_folder_is_not_both_state_and_memory() {
    let (_, message, _) = added("[state]\n\"/var/a\" = {}\n[runtime]\n\"/var/a\" = {}\n");
    assert_eq!(message, "`/var/a` is both in [state] and in [runtime]");
}

#[test]
fn the_root_itself_is_no_folder_to_write_to() {
    let (_, message, _) = added("[state]\n\"/\" = {}\n");
    assert_eq!(message, "`/` cannot be written to as a whole");
}

#[test]
fn user_ids_outside_the_units_range_are_refused() {
    for uid in [0, 65534, 65535] {
        let (_, message, _) = added(&format!("[users.a]\nuid = {uid}\n"));
        assert_eq!(message, format!("{uid} is no id for an account"));
    }
}

#[test]
fn account_names_that_passwd_cannot_hold_are_refused() {
    for (name, key) in [("a:b", "\"a:b\""), ("", "\"\""), ("a b", "\"a b\""), ("1a", "1a")] {
        let (_, message, _) = added(&format!("[users.{key}]\n"));
        assert_eq!(message, format!("`{name}` is not an account's name"));
    }
    Unit::parse(&source("units/a.toml", &format!("{GOOD}[users.Debian-exim]\n"))).unwrap();
    let (at, message, _) = added("user = \"my sql\"\n");
    assert_eq!(
        (at, message.as_str()),
        (Some((1, 8)), "`my sql` is not an account's name")
    );
}

#[test]
fn package_names_that_debian_cannot_hold_are_refused() {
    for name in ["", "A", "x", "caddy=2", "a b", "-a", "caddy:amd64"] {
        let text = format!("description = \"A\"\npackages = [\"{name}\"]\n[service]\ncommand = [\"/a\"]\n");
        let problem = only(&text);
        assert_eq!(
            (problem.at, problem.message),
            (Some((2, 13)), format!("`{name}` is not a package's name"))
        );
    }
}

#[test]
fn a_program_of_our_own_is_named_once_and_by_a_package_name() {
    let text = |list: &str| format!("description = \"A\"\nprograms = {list}\n[service]\ncommand = [\"/a\"]\n");
    Unit::parse(&source("units/a.toml", &text("[\"own-page\", \"own-tool\"]"))).unwrap();
    let problem = only(&text("[\"own-page\", \"own-page\"]"));
    assert_eq!(
        (problem.at, problem.message.as_str()),
        (Some((2, 25)), "`own-page` is named twice")
    );
    let problem = only(&text("[\"own@1\"]"));
    assert_eq!(problem.message, "`own@1` has a `@`, which only a unit's name can have");
    assert!(!problems(&text("[\"../../bin/sh\"]")).is_empty());
}

#[test]
fn a_text_with_a_nul_byte_never_reaches_exec() {
    let problem = only("description = \"A\"\n[service]\ncommand = [\"/a\", \"x\\u0000y\"]\n");
    assert_eq!(problem.message, "an argument holds a NUL character");
    let (_, message, _) = added("environment = { A = \"x\\u0000\" }\n");
    assert_eq!(message, "the variable `A` cannot be passed on");
    let (_, message, _) = added("environment = { \"A=B\" = \"x\" }\n");
    assert_eq!(message, "the variable `A=B` cannot be passed on");
}

#[test]
fn several_things_wrong_are_told_at_once() {
    let all = problems("description = \"\"\n[service]\ncommand = []\n[limits]\ncpu_weight = 0\n");
    assert_eq!(all.len(), 3, "{all:#?}");
}

#[test]
fn columns_count_characters_not_bytes() {
    let problem = only("description = \"é\" # ü\n[service]\ncommand = [\"/é\", \"a\"]\nuser = 1\n");
    assert_eq!(problem.at, Some((4, 8)));
    let problem = only("description = \"A\"\n[service]\ncommand = [\"/é\"]\nenvironment = { A = \"é\", B = 1 }\n");
    assert_eq!(problem.at, Some((4, 30)));
}

#[test]
fn sockets_that_could_not_be_listened_on_or_never_tell_anything_are_refused() {
    let listen = |text: &str| format!("[sockets.a]\nlisten = {text}\n");
    let bad = [
        (listen("{ tcp = 0 }"), "port 0 is no port"),
        (listen("{ udp = 0 }"), "port 0 is no port"),
        (
            listen("{ unix = \"/run/a/s\" }"),
            "`/run/a/s` is in no folder of [runtime]",
        ),
        (
            listen("{ tcp = 80 }") + "[network]\nmode = \"none\"\n",
            "Cairn reaches no port of a unit without a network of its own",
        ),
        (
            listen("{ tcp = 80 }") + "[sockets.b]\nlisten = { tcp = 80 }\n",
            "another socket listens there",
        ),
        (listen("{ tcp = 80 }") + "backlog = 0\n", "nobody could wait"),
        (
            listen("{ tcp = 80 }") + "[ready]\nwhen = { port = 80 }\n",
            "that is there before the unit is: Cairn itself listens on it",
        ),
        (
            listen("{ tcp = 80 }") + "[sandbox]\ncapabilities = [\"net-raw\"]\nreason = \"x\"\n",
            "`net-raw` has no hold on a network that is made before the unit",
        ),
    ];
    for (text, expected) in bad {
        let (_, message, help) = added(&text);
        assert_eq!(message, expected, "{text}");
        assert!(!help.is_empty());
    }
    let many: String = (0..17)
        .map(|n| format!("[sockets.s{n}]\nlisten = {{ tcp = {} }}\n", n + 1))
        .collect();
    assert_eq!(added(&many).1, "a unit has at most 8 sockets");
}

#[test]
fn a_unit_with_a_socket_or_a_path_waits_for_it() {
    let parse = |more: &str| Unit::parse(&source("units/a.toml", &format!("{GOOD}{more}"))).unwrap();
    assert!(parse("").starts_with_appliance());
    let unit = parse(
        "[sockets.web]\nlisten = { tcp = 80 }\n[sockets.own]\nlisten = { unix = \"/run/a/s\" }\nmode = \"0600\"\n\
         [runtime]\n\"/run/a\" = {}\n",
    );
    assert!(!unit.starts_with_appliance());
    let names: Vec<&str> = unit.sockets.keys().map(Name::as_str).collect();
    assert_eq!(
        names,
        ["own", "web"],
        "they are handed over in the order of their names"
    );
    let unit = parse("[path]\nnot_empty = \"/var/lib/a\"\n[state]\n\"/var/lib/a\" = {}\n");
    assert!(!unit.starts_with_appliance());
}

#[test]
fn only_a_folder_of_the_state_is_shown_to_others() {
    let (_, message, _) = added("[provides.a]\nkind = \"spool\"\nfolder = \"/var/spool/a\"\n");
    assert_eq!(message, "`/var/spool/a` is no folder of [state]");
    let (_, message, _) = added("[provides.a]\nkind = \"spool\"\nport = 1\nwritable = true\n");
    assert_eq!(message, "there is no folder to write to");
}

#[test]
fn a_secret_that_units_share_is_long_and_nothing_else() {
    let key = |more: &str| added(&format!("[provides.key]\nkind = \"secret\"\n{more}")).1;
    assert_eq!(key("secret = { length = 15 }\n"), "a secret has at least 16 characters");
    assert_eq!(
        key("secret = {}\n[secrets]\nkey = {}\n"),
        "`key` is a secret of this unit alone, too"
    );
    assert!(key("port = 1\nsecret = {}\n[provides.key.upstream]\n").contains("no `account` and no `upstream`"));
}

#[test]
fn what_a_provider_tells_of_an_account_has_names_of_its_own() {
    let account = |more: &str| {
        let text = "[provides.sql]\nkind = \"database\"\nport = 1\n[provides.sql.account]\n\
            grant = { command = [\"/g\"] }\nrevoke = { command = [\"/r\"] }\n";
        added(&format!("{text}{more}"))
    };
    for (more, why) in [
        ("tells = { host = \"x\" }", "sees anyway"),
        ("tells = { \"a b\" = \"x\" }", "no name that a template can use"),
        ("user = \"my sql\"", "not an account's name"),
        ("purge = { command = [\"p\"] }", "not an absolute path"),
    ] {
        let (_, message, _) = account(more);
        assert!(message.contains(why), "{more}: {message}");
    }
}

/// A unit with state, to which `[migration]` is added.
fn migrating(more: &str) -> Result<Unit, Vec<Problem>> {
    let text = format!("{GOOD}[state]\n\"/var/lib/a\" = {{}}\n[migration]\n{more}");
    Unit::parse(&source("units/a.toml", &text)).map_err(|problems| problems.0)
}

#[test]
fn steps_that_are_one_line_to_the_units_version_are_accepted() {
    let steps = "version = 5\n[[migration.steps]]\nfrom = 4\nto = 5\nup = [\"/u\"]\ndown = [\"/d\"]\ntimeout = \"1h\"\n\
                 [[migration.steps]]\nfrom = 2\nto = 4\nup = [\"/u\"]\n";
    let unit = migrating(steps).unwrap();
    let migration = unit.migration.as_ref().unwrap();
    assert_eq!(migration.steps[0].timeout.millis(), 3_600_000);
    assert_eq!(migration.steps[1].timeout.millis(), 600_000);
    assert_eq!(
        unit.commands().len(),
        4,
        "the commands of steps are checked as others are"
    );
    assert!(migrating("version = 3\n").is_ok(), "what can be read is version 3 only");
}

#[test]
fn steps_that_leave_a_version_without_a_way_are_refused_where_they_stand() {
    let step = |from: u32, to: u32| format!("[[migration.steps]]\nfrom = {from}\nto = {to}\nup = [\"/u\"]\n");
    let cases = [
        ("version = 0\n".to_owned(), 7, "a state has no version 0"),
        (
            format!("version = 3\n{}", step(1, 2)),
            7,
            "no step leads from version 2 on, and the unit's state has version 3",
        ),
        (
            format!("version = 3\n{}{}", step(1, 3), step(1, 2)),
            13,
            "a step from version 1 leads to 3 already",
        ),
        (
            format!("version = 4\n{}{}", step(1, 4), step(2, 3)),
            13,
            "no step leads to version 2",
        ),
        (format!("version = 3\n{}", step(2, 2)), 10, "the step leads from 2 to 2"),
        (format!("version = 3\n{}", step(3, 1)), 10, "the step leads from 3 to 1"),
        (format!("version = 3\n{}", step(0, 3)), 9, "a state has no version 0"),
        (
            format!("version = 3\n{}", step(1, 4)),
            10,
            "the step leads to version 4, and the unit's state has version 3",
        ),
        (
            "version = 2\n[[migration.steps]]\nfrom = 1\nup = [\"/u\"]\n".to_owned(),
            8,
            "`to` is missing",
        ),
        ("steps = []\n".to_owned(), 6, "nothing says which version the state has"),
        (
            "version = 2\nnumbers = 2\n".to_owned(),
            8,
            "`numbers` is about a package's version",
        ),
        (
            format!("version = 2\n{}timeout = \"0s\"\n", step(1, 2)),
            12,
            "a step cannot be done in no time",
        ),
        (
            format!("version = 2\n{}user = \"1\"\n", step(1, 2)),
            12,
            "`1` is not an account's name",
        ),
    ];
    for (more, line, message) in cases {
        let mut problems = migrating(&more).expect_err(&more);
        assert_eq!(problems.len(), 1, "{more}: {problems:#?}");
        let problem = problems.remove(0);
        assert_eq!(
            (problem.at.unwrap().0, problem.message.as_str()),
            (line, message),
            "{more}"
        );
        assert!(problem.help.is_some());
    }
    let (_, message, _) = added("[migration]\nversion = 2\n");
    assert_eq!(message, "the unit keeps no state");
}

#[test]
fn a_state_of_a_packages_version_has_steps_without_versions() {
    let unit = |migration: &str| {
        let text = format!("packages = [\"db-core\"]\n{GOOD}[state]\n\"/var/lib/a\" = {{}}\n[migration]\n{migration}");
        Unit::parse(&source("units/a.toml", &text))
            .map_err(|problems| problems.0.into_iter().map(|p| p.message).collect::<Vec<_>>())
    };
    let step = "[[migration.steps]]\nup = [\"/u\"]\n";
    assert_eq!(
        unit(&format!("package = \"db-core\"\n{step}"))
            .unwrap()
            .migration
            .unwrap()
            .numbers(),
        2
    );
    let refused = |migration: &str| unit(migration).unwrap_err();
    assert_eq!(
        refused(&format!("package = \"other\"\n{step}")),
        ["`other` is not a package of this unit"]
    );
    assert_eq!(
        refused("package = \"db-core\"\n"),
        ["nothing brings the state to another version"]
    );
    assert_eq!(
        refused(&format!("package = \"db-core\"\nversion = 2\n{step}")),
        ["both `version` and `package` say which version the state has"]
    );
    assert_eq!(
        refused(&format!("package = \"db-core\"\nnumbers = 0\n{step}")),
        ["a version has no such numbers"]
    );
    assert_eq!(
        refused(&format!(
            "package = \"db-core\"\n{step}from = 1\nto = 2\ndown = [\"/d\"]\n"
        ))
        .len(),
        3
    );
}

#[test]
fn versions_of_states_are_compared_number_by_number() {
    use cairn_unit::StateVersion;
    let version = |text: &str| text.parse::<StateVersion>().unwrap();
    assert!(version("10.11") < version("11.8") && version("11.8") < version("11.10") && version("2") < version("10"));
    for wrong in ["", "1.", "a", "+1", "1..2", "1.2.3.4.5", "99999999999"] {
        assert!(wrong.parse::<StateVersion>().is_err(), "{wrong}");
    }
    let of = |text| StateVersion::of_package(text, 2).map(|v| v.to_string());
    assert_eq!(of("1:11.8.6-0+deb13u1").as_deref(), Some("11.8"));
    assert_eq!(of("2.6+dfsg-1").as_deref(), Some("2.6"));
    assert_eq!(of("17-1"), None, "it has one number only");
    assert_eq!(of("abc"), None);
}

#[test]
fn a_dump_says_how_it_is_made_and_restored_and_the_rest_has_defaults() {
    let text = |dump: &str| format!("{GOOD}[state]\n\"/var/lib/a\" = {{}}\n[dump]\n{dump}");
    let parse = |text: &str| Unit::parse(&source("units/a.toml", text)).map_err(|problems| problems.0);
    let good = "command = [\"/d\"]\nrestore = [[\"/r\"], [\"/s\", \"x\"]]\n";
    let setup =
        "[[setup]]\nname = \"a\"\ncommand = [\"/a\"]\n[[setup]]\nname = \"b\"\ncommand = [\"/b\"]\nfirst_only = true\n";
    let unit = parse(&format!("{}{setup}", text(good))).unwrap();
    let dump = unit.dump.as_ref().unwrap();
    assert!(dump.daily && dump.keep == 7 && dump.timeout.millis() == 4 * 3_600_000);
    assert_eq!(unit.setup_before_restore().collect::<Vec<_>>(), [0]);
    assert_eq!(unit.commands().len(), 6, "its commands are checked as others are");
    let refused = |text: &str| {
        let mut problems = parse(text).expect_err(text);
        assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
        problems.remove(0).message
    };
    for (dump, why) in [
        ("command = [\"/d\"]\nrestore = []\n", "nothing makes a state of a dump"),
        (&*format!("{good}keep = 0\n"), "no dump would be kept"),
        (
            &*format!("{good}timeout = \"0s\"\n"),
            "a dump cannot be made in no time",
        ),
    ] {
        assert_eq!(refused(&text(dump)), why);
    }
    assert_eq!(refused(&format!("{GOOD}[dump]\n{good}")), "the unit keeps no state");
    let apart = format!("{GOOD}[state]\n\"/var/lib/a\" = {{}}\n{setup}");
    assert_eq!(
        refused(&apart),
        "`first_only` is about restores, and the unit has no [dump]"
    );
}
