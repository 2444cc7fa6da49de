//! People and groups in the panel, with a real directory behind it.

mod common;

use common::slapd::Slapd;
use common::{PASSWORD, Panel};

/// Every printable character, and some that no keyboard has.
fn every() -> String {
    (' '..='~').chain("äß€🐄👩\u{200d}🚀".chars()).collect()
}

#[tokio::test]
async fn a_person_chooses_any_password_by_a_code_that_works_once() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let mut owner = panel.owner_again().await;
    owner.get("/people-new").await;
    let fields = [
        ("uid", "Grete"),
        ("given", "Grete"),
        ("surname", "Müller <b>"),
        ("mail", "grete@müller.example"),
    ];
    assert_eq!(
        owner.post("/people-new", &fields).await.location,
        "/people/grete?said=person-made"
    );
    let page = owner.get("/people").await;
    for what in ["Müller &lt;b&gt;", "grete@xn--mller-kva.example", "No password yet"] {
        page.says(what);
    }
    // An earlier code ends with the next one.
    let (old, code) = (owner.make_code("grete").await, owner.make_code("grete").await);
    let mut grete = panel.browser();
    let every = every();
    for (code, password, again, status) in [
        (old.as_str(), every.as_str(), every.as_str(), 403),
        ("0000-0000-0000-0000", &every, &every, 403),
        (&code, "password", "password", 400),
        (&code, &every, "another", 400),
        (&code.to_uppercase().replace('-', " "), &every, &every, 303),
        (&code, PASSWORD, PASSWORD, 403),
    ] {
        grete.get("/reset").await;
        let page = grete
            .post("/reset", &[("code", code), ("password", password), ("again", again)])
            .await;
        assert_eq!(page.status, status, "{code}: {}", page.text);
    }
    assert_eq!(grete.log_in_as("grete", PASSWORD).await.status, 403);
    assert_eq!(grete.log_in_as("grete", "").await.status, 403);
    assert_eq!(grete.log_in_as("Grete", &every).await.location, "/");
    assert_eq!(grete.get("/").await.location, "/account");
    grete.get("/account").await.says("grete@xn--mller-kva.example");
    assert!(!owner.get("/people").await.text.contains("No password yet"));
    // No code has come into the audit log, nor into an address that is logged.
    let log = owner.get("/audit").await;
    log.says("a code for the password of grete was made");
    assert!(!log.text.contains(&code) && !log.text.contains(&code[..9]));
}

#[tokio::test]
async fn what_is_wrong_with_a_person_is_said_at_its_field() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let mut owner = panel.owner_again().await;
    owner.make_person("bob", PASSWORD).await;
    for (uid, given, mail, status, why) in [
        ("", "X", "", 400, "Choose a login name."),
        ("x y", "X", "", 400, "Only lower case letters"),
        ("bob", "X", "", 409, "Somebody has this login name already."),
        ("ada", "X", "", 409, "That is the name of the owner"),
        ("eve", "", "", 400, "Give at least one name."),
        (
            "eve",
            "X",
            "bob@birch.example",
            409,
            "Somebody has this mail address already.",
        ),
        ("eve", "X", "bob", 400, "That is not a mail address."),
    ] {
        owner.get("/people-new").await;
        let page = owner
            .post("/people-new", &[("uid", uid), ("given", given), ("mail", mail)])
            .await;
        assert_eq!(page.status, status, "{uid} {given} {mail}: {}", page.text);
        page.says(why);
        page.says("aria-invalid");
    }
    // An address that is another's further one is taken too.
    let fields = [
        ("given", "Bob"),
        ("surname", "B"),
        ("mail", "bob@birch.example"),
        ("aliases", "robert@birch.example"),
    ];
    assert_eq!(owner.post("/people/bob", &fields).await.status, 303);
    owner.get("/people-new").await;
    let page = owner
        .post(
            "/people-new",
            &[("uid", "eve"), ("given", "E"), ("mail", "robert@birch.example")],
        )
        .await;
    page.says("Somebody has this mail address already.");
    owner.get("/people?search=robert@birch.example").await.says("Bob B");
    owner.get("/people?search=BOB").await.says("Bob B");
    owner.get("/people?search=*)(uid=*").await.says("Nobody matches.");
    assert_eq!(owner.get("/people/nobody").await.status, 404);
}

#[tokio::test]
async fn who_is_disabled_or_removed_is_out_at_once_everywhere() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let mut owner = panel.owner_again().await;
    owner.make_person("bob", PASSWORD).await;
    let mut bob = panel.browser();
    assert_eq!(bob.log_in_as("bob", PASSWORD).await.location, "/");
    assert_eq!(bob.get("/account").await.status, 200);
    owner.get("/people/bob").await;
    assert_eq!(owner.post("/people/bob/disable", &[]).await.status, 303);
    assert_eq!(bob.get("/account").await.location, "/login");
    assert_eq!(bob.log_in_as("bob", PASSWORD).await.status, 403);
    owner.get("/people/bob").await.says("Disabled");
    assert_eq!(owner.post("/people/bob/enable", &[]).await.status, 303);
    assert_eq!(bob.log_in_as("bob", PASSWORD).await.location, "/");
    // Whoever closed it, in the directory itself: what counts is what stands there now.
    let directory = cairn_panel::directory::Directory::new(panel.settings.directory.clone());
    directory.disable_person("bob", true).await.unwrap();
    assert_eq!(bob.get("/account").await.location, "/login");
    owner.get("/people/bob").await;
    assert_eq!(owner.post("/people/bob/enable", &[]).await.status, 303);
    assert_eq!(bob.log_in_as("bob", PASSWORD).await.location, "/");
    assert_eq!(owner.post("/people/bob/remove", &[("sure", "")]).await.status, 400);
    owner.get("/people/bob").await;
    assert_eq!(owner.post("/people/bob/remove", &[("sure", "bob")]).await.status, 303);
    assert_eq!(bob.get("/account").await.location, "/login");
    assert_eq!(bob.log_in_as("bob", PASSWORD).await.status, 403);
}

#[tokio::test]
async fn groups_have_members_and_the_administrators_stay() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let mut owner = panel.owner_again().await;
    owner.make_person("bob", PASSWORD).await;
    owner.get("/groups").await;
    assert_eq!(owner.post("/groups", &[("name", "no,group")]).await.status, 400);
    assert_eq!(
        owner
            .post("/groups", &[("name", "Friends"), ("description", "who come by")])
            .await
            .location,
        "/groups/friends?said=group-made"
    );
    owner.get("/groups").await;
    assert_eq!(owner.post("/groups", &[("name", "friends")]).await.status, 409);
    owner.get("/groups/friends").await;
    assert_eq!(owner.post("/groups/friends/add", &[("uid", "bob")]).await.status, 303);
    // Twice is as good as once; who is not there cannot be taken in.
    assert_eq!(owner.post("/groups/friends/add", &[("uid", "bob")]).await.status, 303);
    assert_eq!(
        owner.post("/groups/friends/add", &[("uid", "nobody")]).await.status,
        404
    );
    owner.get("/groups").await.says("Members: 1");
    owner.get("/people/bob").await.says("href=\"/groups/friends\"");
    assert_eq!(
        owner
            .post("/groups/friends/drop", &[("uid", "bob"), ("back", "person")])
            .await
            .location,
        "/people/bob?said=group-changed"
    );
    owner.get("/groups").await.says("Members: 0");
    assert_eq!(
        owner
            .post("/groups/friends/remove", &[("sure", "friends")])
            .await
            .status,
        303
    );
    assert_eq!(owner.get("/groups/friends").await.status, 404);
    assert_eq!(
        owner
            .post("/groups/administrators/remove", &[("sure", "administrators")])
            .await
            .status,
        409
    );
    assert_eq!(owner.get("/groups/administrators").await.status, 200);
}

#[tokio::test]
async fn a_table_is_imported_whole_or_not_at_all() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let mut owner = panel.owner_again().await;
    owner.make_person("bob", PASSWORD).await;
    owner.get("/groups").await;
    owner.post("/groups", &[("name", "friends")]).await;
    owner.get("/people-import").await;
    let wrong = "uid,given,mail,groups\ncid,Cid,cid@birch.example,friends\nbob,Again,,\ndora,Dora,bob@birch.example,\neve,Eve,,enemies\nBAD NAME,,,friends\n";
    let page = owner.post("/people-import", &[("table", wrong)]).await;
    assert_eq!(page.status, 400);
    for what in [
        // Faults of form and clashes with the directory, all at once.
        "Wrong places: 5",
        ">6<",
        "Somebody has this login name already",
        "enemies",
        ">5<",
        "Nothing was imported",
    ] {
        page.says(what);
    }
    owner.get("/people?search=cid").await.says("Nobody matches.");
    let right = format!(
        "uid;given;mail;groups;password\r\ncid;Cid;cid@birch.example;friends;\r\ndora;Dora;;friends administrators;{PASSWORD}\r\n"
    );
    assert_eq!(
        owner.post("/people-import", &[("table", &right)]).await.location,
        "/people?said=people-imported"
    );
    owner.get("/groups").await.says("Members: 2");
    let mut dora = panel.browser();
    assert_eq!(dora.log_in_as("dora", PASSWORD).await.location, "/");
    assert_eq!(dora.get("/people").await.status, 200);
}

#[tokio::test]
async fn without_the_directory_all_else_works_and_it_is_said() {
    let Some(mut slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let mut owner = panel.owner_again().await;
    owner.make_person("bob", PASSWORD).await;
    let mut bob = panel.browser();
    assert_eq!(bob.log_in_as("bob", PASSWORD).await.location, "/");
    slapd.stop();
    for path in ["/people", "/people-new", "/groups", "/people/bob"] {
        let page = owner.get(path).await;
        assert_eq!(page.status, 503, "{path}");
        page.says("The directory cannot be reached");
        page.says(">Certificates<");
    }
    for path in ["/", "/certificates", "/history", "/audit", "/account", "/sessions"] {
        assert_eq!(owner.get(path).await.status, 200, "{path}");
    }
    // Nobody can tell whether bob is still allowed, so he is not; the owner is known here.
    assert_eq!(bob.get("/account").await.status, 503);
    let page = panel.browser().log_in_as("bob", PASSWORD).await;
    assert_eq!(page.status, 503);
    page.says("only the owner can log in");
    panel.owner_again().await;
    slapd.run();
    assert_eq!(bob.get("/account").await.status, 200);
    assert_eq!(owner.get("/people").await.status, 200);
}

#[tokio::test]
async fn an_appliance_without_a_directory_does_not_speak_of_people() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let page = owner.get("/").await;
    page.says(">Certificates<");
    assert!(!page.text.contains(">People<"));
    assert_eq!(owner.get("/people").await.status, 404);
    assert_eq!(panel.browser().log_in_as("bob", PASSWORD).await.status, 403);
}

#[tokio::test]
async fn what_the_units_template_says_is_understood() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let mut owner = panel.owner_again().await;
    let text = include_str!("../../../overlays/panel/etc/panel/directory.json.tmpl");
    let mut templates = minijinja::Environment::new();
    templates.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    let base = common::slapd::BASE;
    let directory = minijinja::context! {
        socket => slapd.socket().display().to_string(), dn => format!("cn=panel_directory,ou=managers,ou=services,{base}"),
        people => format!("ou=people,{base}"), groups => format!("ou=groups,{base}"),
    };
    let bound = minijinja::context! { bindings => minijinja::context! { directory } };
    let bound = templates.render_str(text, bound).unwrap();
    let password = panel.settings.state.join("directory-password").display().to_string();
    std::fs::write(
        &panel.settings.directory,
        bound.replace("/run/secrets/directory", &password),
    )
    .unwrap();
    assert_eq!(owner.get("/groups/administrators").await.status, 200);
    // An appliance without a directory has an empty one.
    let none = templates
        .render_str(
            text,
            minijinja::context! { bindings => minijinja::context! { directory => () } },
        )
        .unwrap();
    std::fs::write(&panel.settings.directory, none).unwrap();
    assert_eq!(owner.get("/groups").await.status, 404);
}

#[tokio::test]
async fn a_long_table_is_taken_of_who_is_logged_in_and_a_longer_one_is_answered_with_a_sentence() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    owner.get("/people-import").await;
    // Much longer than any other request, and looked at: each row is wrong.
    let table = "uid,given\n".to_owned() + &"!,P\n".repeat(300_000);
    let page = owner.post("/people-import", &[("table", &table)]).await;
    assert_eq!(page.status, 400);
    page.says("At most 10,000 people at once");
    page.says("The first 200 are shown.");
    assert!(!page.text.contains("!,P"), "a table of that length is not sent back");
    owner.get("/people-import").await;
    let long = "x".repeat(5 << 20);
    let page = owner.post("/people-import", &[("table", &long)]).await;
    assert_eq!((page.status, page.location.as_str()), (303, "/people-import?wrong=big"));
    owner.get(&page.location).await.says("longer than 4 MiB");
    // Elsewhere, and of anybody else, a request is as short as ever.
    owner.get("/people-import").await;
    assert_eq!(owner.post("/people-new", &[("uid", &table)]).await.status, 413);
    let mut stranger = panel.browser();
    assert_eq!(stranger.post("/people-import", &[("table", &table)]).await.status, 413);
}

#[tokio::test]
async fn an_import_that_outlasts_its_request_goes_on_and_its_end_is_told() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_with(&slapd, |settings| settings.import_wait = std::time::Duration::ZERO).await;
    let mut owner = panel.owner_again().await;
    let table = |from: usize| {
        let rows = (from..from + 700).map(|i| format!("p{i},P{i},administrators\n"));
        "uid,given,groups\n".to_owned() + &rows.collect::<String>()
    };
    owner.get("/people-import").await;
    let page = owner.post("/people-import", &[("table", &table(0))]).await;
    assert_eq!(
        (page.status, page.location.as_str()),
        (303, "/people-import"),
        "{}",
        page.text
    );
    // Another one waits until it is done.
    owner.get("/people-import").await.says("of 700");
    let page = owner.post("/people-import", &[("table", &table(700))]).await;
    assert_eq!(page.status, 409, "{}", page.text);
    page.says("Another import is under way");
    let mut ended = async || loop {
        let page = owner.get("/people-import").await;
        if !page.text.contains("of 700") && page.text.contains("id=\"importing\"") {
            break page;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    ended().await.says("People created: 700.");
    owner.get("/people").await.says("200 of 700");
    owner.get("/audit").await.says("700 people were imported");
    // The directory has them already: nobody is made, and every one is told.
    owner.get("/people-import").await;
    owner.post("/people-import", &[("table", &table(0))]).await;
    loop {
        let page = owner.get("/people-import").await;
        if page.text.contains("Wrong places: 700.") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    owner.get("/people").await.says("200 of 700");
}
