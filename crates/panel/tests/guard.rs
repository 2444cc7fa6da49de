//! What every request meets, whoever sends it.

mod common;

use std::time::Duration;

use common::{Panel, certificate};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn every_answer_forbids_what_a_panel_does_not_need() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    for path in [
        "/setup/code",
        "/no-such-page",
        "/assets/icon.svg",
        "/api/v1/status",
        "/",
    ] {
        let page = browser.get(path).await;
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
            "{path}: {policy}"
        );
        assert!(
            policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'self'"),
            "{path}: {policy}"
        );
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
        ] {
            assert_eq!(page.headers[name], value, "{path}");
        }
        assert!(
            page.headers.contains_key("strict-transport-security") && page.headers.contains_key("cache-control"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_cookie_is_for_this_host_by_https_and_not_for_scripts() {
    let panel = Panel::new().await;
    let page = panel.browser().get("/setup/code").await;
    let cookie = page.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-session="), "{cookie}");
    for word in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    assert!(!cookie.contains("Domain"));
}

#[tokio::test]
async fn a_form_without_its_token_or_with_anothers_changes_nothing() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    browser.get("/setup/code").await;
    let code = ("code", common::manager::CODE);
    let mut other = panel.browser();
    other.get("/setup/code").await;
    let anothers = ("form_token", other.form_token.as_str());
    for fields in [&[code][..], &[code, ("form_token", "")], &[code, anothers]] {
        let page = browser.post_bare("/setup/code", fields).await;
        assert_eq!(page.status, 403);
        page.says("too old or incomplete");
    }
    assert_eq!(browser.get("/setup/name").await.location, "/setup/code");
    // Without a cookie the token of a page is worth nothing.
    let token = browser.form_token.clone();
    browser.cookies.clear();
    assert_eq!(
        browser
            .post_bare("/setup/code", &[code, ("form_token", &token)])
            .await
            .status,
        403
    );
}

#[tokio::test]
async fn a_form_from_another_site_is_refused() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    browser.get("/setup/code").await;
    for (origin, status) in [
        ("https://evil.example", 403),
        ("null", 403),
        ("http://localhost", 403),
        ("https://localhost", 303),
    ] {
        browser.headers = vec![("origin", origin.to_owned())];
        assert_eq!(
            browser
                .post("/setup/code", &[("code", common::manager::CODE)])
                .await
                .status,
            status,
            "{origin}"
        );
    }
}

#[tokio::test]
async fn an_oversized_body_is_refused_and_the_panel_goes_on() {
    let panel = Panel::with(|settings| settings.body_max = 1000).await;
    let mut browser = panel.browser();
    let page = browser.post("/setup/code", &[("code", &"x".repeat(2000))]).await;
    assert_eq!(
        (page.status, page.headers["connection"].to_str().unwrap()),
        (413, "close")
    );
    assert_eq!(browser.get("/setup/code").await.status, 200);
}

#[tokio::test]
async fn a_client_that_stalls_is_sent_away() {
    let panel = Panel::with(|settings| settings.patience = Duration::from_millis(300)).await;
    // In the middle of its head, and before its handshake: the connection ends by itself.
    let mut stalled = panel.connect().await;
    stalled.write_all(b"GET / HTTP/1.1\r\nhost: loc").await.unwrap();
    let mut rest = Vec::new();
    let _ = stalled.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    let mut silent = TcpStream::connect(panel.address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
    // In the middle of its body: it is told.
    let mut stalled = panel.connect().await;
    stalled
        .write_all(b"POST /setup/code HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\ncode=")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let _ = stalled.read_to_end(&mut rest).await;
    assert!(
        String::from_utf8_lossy(&rest).starts_with("HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&rest)
    );
}

#[tokio::test]
async fn plain_http_gets_a_sentence() {
    let panel = Panel::new().await;
    let mut plain = TcpStream::connect(panel.address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    let _ = plain.read_to_string(&mut text).await;
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("https://"), "{text}");
}

#[tokio::test]
async fn too_many_requests_of_one_address_are_refused() {
    let panel = Panel::new().await;
    let stream = panel.connect().await;
    let (mut read, mut write) = tokio::io::split(stream);
    // For as long as the other half has not seen it: requests come back with time.
    let writing = async move {
        while write
            .write_all(b"GET /assets/icon.svg HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .is_ok()
        {}
        std::future::pending::<()>().await;
    };
    let reading = async move {
        let (mut text, mut block) = (String::new(), [0; 4096]);
        while !text.contains("HTTP/1.1 429") {
            let count = read.read(&mut block).await.unwrap();
            assert_ne!(count, 0, "it never came");
            text.push_str(&String::from_utf8_lossy(&block[..count]));
        }
        text
    };
    let text = tokio::select! {
        text = reading => text,
        () = writing => unreachable!(),
    };
    assert!(text.contains("retry-after"));
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart_and_a_wrong_one_never() {
    let panel = Panel::new().await;
    std::fs::write(&panel.settings.tls, "no certificate").unwrap();
    let error = panel.identity.refresh(true).unwrap_err().to_string();
    assert!(
        error.contains("has to hold a private key and its certificates in PEM"),
        "{error}"
    );
    panel.connect().await;
    let renewed = certificate(&panel.settings.tls);
    assert!(panel.try_connect(&renewed).await.is_err());
    assert!(panel.identity.refresh(true).unwrap());
    panel.try_connect(&renewed).await.unwrap();
    assert!(!panel.identity.refresh(false).unwrap());
}

#[tokio::test]
async fn a_stop_ends_streams_and_waits_for_nobody() {
    let mut panel = Panel::new().await;
    {
        let mut owner = panel.owner().await;
        let mut body = owner.stream("/live").await;
        http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
        panel.stop().await;
        while let Some(Ok(_)) = http_body_util::BodyExt::frame(&mut body).await {}
    }
    assert!(TcpStream::connect(panel.address).await.is_err());
}

#[tokio::test]
async fn a_file_of_the_program_is_kept_by_browsers_and_others_are_not() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    let page = browser.get("/setup/code").await;
    let plain = page.text.replace("&#x2f;", "/");
    let mut links = plain.split("href=\"").filter_map(|rest| rest.split('"').next());
    let style = links.find(|path| path.ends_with(".css")).unwrap();
    let answer = browser.get(style).await;
    assert_eq!(
        (answer.status, answer.headers["cache-control"].to_str().unwrap()),
        (200, "max-age=31536000, immutable")
    );
    assert_eq!(page.headers["cache-control"], "no-store");
    for path in ["/assets/other.css", "/assets/..%2f..%2fetc%2fpasswd", "/assets/%2e%2e"] {
        assert_eq!(browser.get(path).await.status, 404, "{path}");
    }
}
