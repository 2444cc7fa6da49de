//! People and groups by the API, with a real directory behind it.

mod common;

use common::Panel;
use common::slapd::Slapd;

/// A program with a token of this scope.
async fn program<'a>(panel: &'a Panel, scope: &str) -> common::Browser<'a> {
    let mut owner = panel.owner_again().await;
    owner.get("/tokens").await;
    let page = owner.post("/tokens/make", &[("name", scope), ("scope", scope)]).await;
    let (_, rest) = page.text.split_once("tabindex=\"0\">cairn_").unwrap();
    let mut program = panel.browser();
    program.headers = vec![(
        "authorization",
        format!("Bearer cairn_{}", rest.split('<').next().unwrap()),
    )];
    program
}

#[tokio::test]
async fn a_program_looks_after_people_by_the_api() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    let mut program = program(&panel, "own").await;
    let mut ask = async |method: &str, path: &str, body: &str| {
        let answer = program.send(method, &format!("/api/v1{path}"), body.to_owned()).await;
        let value: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        (answer.status, value)
    };
    let bob = r#"{"uid":"bob","given":"Bob","mail":"bob@birch.example","aliases":["robert@birch.example"]}"#;
    assert_eq!(ask("POST", "/people", bob).await.0, 201);
    let (status, value) = ask("POST", "/people", bob).await;
    assert_eq!(
        (status, value["error"].as_str().unwrap()),
        (409, "another entry has that mail already")
    );
    for (body, status, field) in [
        (r#"{"uid":"X Y","given":"X"}"#, 400, "uid"),
        (r#"{"uid":"ada","given":"X"}"#, 400, "uid"),
        (r#"{"uid":"eve","given":"X","mail":"x"}"#, 400, "mail"),
    ] {
        let (found, value) = ask("POST", "/people", body).await;
        assert_eq!((found, value["field"].as_str()), (status, Some(field)), "{body}");
    }
    for broken in ["", "[]", "{\"uid\":1}", "{\"shoe\":1}", "\u{0}"] {
        assert_eq!(ask("POST", "/people", broken).await.0, 400, "{broken}");
        assert_eq!(ask("POST", "/groups", broken).await.0, 400, "{broken}");
    }
    // What is no request at all is refused in JSON too.
    let (status, value) = ask("GET", "/people/%FF", "").await;
    assert_eq!(
        (status, value["error"].as_str()),
        (400, Some("The request is not UTF-8."))
    );
    assert_eq!(
        ask("PUT", "/people/bob", r#"{"given":"Robert","surname":"B"}"#).await.0,
        200
    );
    assert_eq!(
        ask("PUT", "/people/bob", r#"{"uid":"eve","given":"Robert"}"#).await.0,
        400
    );
    let (_, value) = ask("GET", "/people?search=robert", "").await;
    assert_eq!(value["people"][0]["name"], "Robert B");
    assert_eq!(ask("POST", "/groups", r#"{"name":"friends"}"#).await.0, 201);
    assert_eq!(ask("PUT", "/groups/friends/members/bob", "").await.0, 200);
    assert_eq!(ask("PUT", "/groups/friends/members/nobody", "").await.0, 404);
    assert_eq!(
        ask("GET", "/people/bob", "").await.1["groups"],
        serde_json::json!(["friends"])
    );
    assert_eq!(ask("POST", "/people/bob/disable", "").await.0, 200);
    assert_eq!(ask("GET", "/people/bob", "").await.1["disabled"], true);
    assert_eq!(ask("POST", "/people/bob/enable", "").await.0, 200);
    let (status, value) = ask("POST", "/people/bob/reset", "").await;
    assert_eq!((status, value["code"].as_str().unwrap().len()), (201, 19));
    assert_eq!(ask("POST", "/people/nobody/reset", "").await.0, 404);
    for verb in ["totp-off", "passkeys-off"] {
        assert_eq!(ask("POST", &format!("/people/bob/{verb}"), "").await.0, 200, "{verb}");
        assert_eq!(
            ask("POST", &format!("/people/nobody/{verb}"), "").await.0,
            404,
            "{verb}"
        );
    }
    let (status, value) = ask("POST", "/people/import", "uid,given\ncid,Cid\nbob,Bob\n").await;
    assert_eq!((status, &value["problems"][0]["line"]), (400, &serde_json::json!(3)));
    assert_eq!(ask("POST", "/people/import", "uid,given\ncid,Cid\n").await.1["made"], 1);
    assert_eq!(ask("DELETE", "/groups/friends/members/bob", "").await.0, 200);
    assert_eq!(
        ask("GET", "/groups/friends", "").await.1["members"],
        serde_json::json!([])
    );
    assert_eq!(ask("DELETE", "/groups/friends", "").await.0, 200);
    assert_eq!(ask("DELETE", "/people/bob", "").await.0, 200);
    assert_eq!(ask("DELETE", "/people/bob", "").await.0, 404);
    let (_, value) = ask("GET", "/diagnosis", "").await;
    assert!(
        value["findings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["topic"] == "directory" && one["state"] == "good")
    );
    let (_, value) = ask("GET", "/audit", "").await;
    assert!(value.to_string().contains("DELETE /api/v1/people/bob"));
}

#[tokio::test]
async fn a_token_that_only_looks_learns_nothing_of_people() {
    let Some(slapd) = Slapd::start() else { return };
    let panel = Panel::bound_to(&slapd).await;
    for scope in ["read", "operate"] {
        let mut program = program(&panel, scope).await;
        for (method, path) in [
            ("GET", "/people"),
            ("GET", "/groups"),
            ("POST", "/people/bob/reset"),
            ("DELETE", "/people/bob"),
            ("GET", "/audit"),
        ] {
            let answer = program.send(method, &format!("/api/v1{path}"), String::new()).await;
            assert_eq!(answer.status, 403, "{scope} {method} {path}");
        }
        assert_eq!(program.get("/api/v1/diagnosis").await.status, 200);
    }
}

#[tokio::test]
async fn a_long_table_is_taken_of_a_program_that_may_import_and_of_no_other() {
    let panel = Panel::new().await;
    panel.owner().await;
    let table = "uid,given\n".to_owned() + &"!,P\n".repeat(300_000);
    for (scope, table, status, what) in [
        ("own", &table, 400, "At most 10,000 people at once"),
        ("own", &"x".repeat(5 << 20), 413, "at most 4 MiB"),
        ("operate", &table, 413, "at most 65536 bytes"),
    ] {
        let mut owner = panel.owner_again().await;
        owner.get("/tokens").await;
        owner.post("/tokens/end", &[("name", scope)]).await;
        let mut program = program(&panel, scope).await;
        let answer = program.send("POST", "/api/v1/people/import", table.clone()).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        answer.says(what);
    }
}
