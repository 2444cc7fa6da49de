//! The API: what the pages have, programs have as well.

mod common;

use common::{Browser, Panel};
use serde_json::{Value, json};

/// A program with a token of this scope.
async fn program<'a>(panel: &'a Panel, owner: &mut Browser<'_>, scope: &str) -> Browser<'a> {
    owner.get("/tokens").await;
    let page = owner.post("/tokens/make", &[("name", scope), ("scope", scope)]).await;
    let (_, rest) = page.text.split_once("tabindex=\"0\">cairn_").unwrap();
    let mut program = panel.browser();
    let token = rest.split('<').next().unwrap();
    program.headers = vec![("authorization", format!("Bearer cairn_{token}"))];
    program
}

async fn ask(program: &mut Browser<'_>, method: &str, path: &str, body: &str) -> (u16, Value) {
    let answer = program.send(method, &format!("/api/v1{path}"), body.to_owned()).await;
    (answer.status, serde_json::from_str(&answer.text).unwrap())
}

#[tokio::test]
async fn the_choices_are_read_and_written_by_who_has_the_scope_and_a_mistake_has_its_line() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let text = json!({ "text": "[appliance]\nname = \"birch\"\n", "version": 3 }).to_string();
    for scope in ["read", "operate"] {
        let mut program = program(&panel, &mut owner, scope).await;
        for (method, body) in [("GET", ""), ("POST", text.as_str())] {
            let (status, told) = ask(&mut program, method, "/site", body).await;
            let why = told["error"].as_str().unwrap();
            assert!(status == 403 && why.contains("scope `own`"), "{scope} {method}: {told}");
        }
    }
    let mut program = program(&panel, &mut owner, "own").await;
    assert_eq!(ask(&mut program, "GET", "/site", "").await.1["version"], 3);
    let before = panel.manager.posts();
    let (status, told) = ask(&mut program, "POST", "/site", "{\"text\": \"\\nwrong = 1\\n\"}").await;
    assert_eq!((status, &told["problems"][0]["line"]), (400, &json!(2)), "{told}");
    assert_eq!(told["problems"][0]["error"], "unknown key `wrong`");
    assert_eq!(ask(&mut program, "POST", "/site", "no JSON").await.0, 400);
    assert_eq!(ask(&mut program, "POST", "/site?in=2m", &text).await.0, 400);
    assert_eq!(panel.manager.posts(), before);
    assert_eq!(ask(&mut program, "POST", "/site?within=2m", &text).await.0, 200);
    assert_eq!(panel.manager.posts().last().unwrap(), "/v1/site?within=2m");
    assert_eq!(panel.manager.told.lock().unwrap().actors.last().unwrap(), "token own");
    owner.get("/audit").await.says("unknown key `wrong`");
}

#[tokio::test]
async fn the_machine_and_logs_are_told_to_programs() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let mut program = program(&panel, &mut owner, "operate").await;
    let (status, told) = ask(&mut program, "GET", "/machine", "").await;
    assert_eq!((status, &told["clock"]["synchronised"]), (200, &json!(false)), "{told}");
    let (status, told) = ask(&mut program, "GET", "/logs?unit=wiki&grep=a%26follow=1", "").await;
    assert_eq!(status, 200, "{told}");
    assert!(told["text"].as_str().is_some_and(|text| !text.is_empty()), "{told}");
    let asked = panel.manager.told.lock().unwrap().looks.last().unwrap().clone();
    assert_eq!(asked, "/v1/logs?unit=wiki&grep=a%26follow%3D1&lines=200&output=short");
    let (_, _) = ask(&mut program, "GET", "/logs?lines=3", "").await;
    let asked = panel.manager.told.lock().unwrap().looks.last().unwrap().clone();
    assert_eq!(asked, "/v1/logs?lines=3&output=short");
    for lines in ["0", "2001", "x", "-1"] {
        let (status, told) = ask(&mut program, "GET", &format!("/logs?lines={lines}"), "").await;
        assert_eq!((status, &told["field"]), (400, &json!("lines")), "{lines}");
    }
    let (_, _) = ask(&mut program, "GET", "/logs?unit=wiki&lines=3&unit=web", "").await;
    let asked = panel.manager.told.lock().unwrap().looks.last().unwrap().clone();
    assert_eq!(asked, "/v1/logs?unit=wiki&lines=3&unit=web&output=short");
    // A program cannot hold one of the manager's places.
    let (status, told) = ask(&mut program, "GET", "/logs?follow=1", "").await;
    assert_eq!(status, 400, "{told}");
}

#[tokio::test]
async fn the_file_for_somebody_who_helps_is_given_to_a_program_that_may_operate_and_that_is_noted() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let mut looker = program(&panel, &mut owner, "read").await;
    assert_eq!(ask(&mut looker, "GET", "/support", "").await.0, 403);
    let mut program = program(&panel, &mut owner, "operate").await;
    let file = program.bytes("/api/v1/support").await;
    assert!(
        file.starts_with(b"\x1f\x8b") && file.len() > 500,
        "{} bytes",
        file.len()
    );
    owner.get("/audit").await.says("GET &#x2f;api&#x2f;v1&#x2f;support");
}

#[tokio::test]
async fn only_the_owners_domain_and_names_in_it_are_looked_up() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    let mut program = program(&panel, &mut owner, "read").await;
    let (status, told) = ask(&mut program, "GET", "/dns", "").await;
    assert_eq!(status, 400, "{told}");
    panel.manager.told.lock().unwrap().domain = Some("localhost".into());
    let (status, told) = ask(&mut program, "GET", "/dns", "").await;
    assert_eq!((status, &told["name"]), (200, &json!("localhost")), "{told}");
    let addresses = told["addresses"].as_array().unwrap();
    assert!(addresses.iter().any(|one| one == "127.0.0.1" || one == "::1"), "{told}");
    assert_eq!(told["here"], false);
    for name in ["example.org", "notlocalhost", "localhost.example.org"] {
        let (status, told) = ask(&mut program, "GET", &format!("/dns?name={name}"), "").await;
        assert_eq!((status, &told["field"]), (400, &json!("name")), "{name} {told}");
    }
    let (status, told) = ask(&mut program, "GET", "/dns?name=Wiki.localhost.", "").await;
    assert_eq!((status, &told["name"]), (200, &json!("wiki.localhost")), "{told}");
}
