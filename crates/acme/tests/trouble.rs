//! What goes wrong on the other side, or with the clock: each trouble is told in words, costs nothing, and holds no other name up.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use cairn_acme::{Kind, Step, round, run};
use cairn_config::Real;
use cairn_config::pki::examine;
use common::{Machines, Manner, drive, one};
use jiff::{SignedDuration, Timestamp};

/// How far the clock of the next test is set forward, in seconds.
static AHEAD: AtomicI64 = AtomicI64::new(0);

#[tokio::test(flavor = "current_thread")]
async fn an_authority_that_does_not_answer_is_asked_again_later_and_then_served() {
    let mut machines = Machines::new();
    let now = || Timestamp::now() + SignedDuration::from_secs(AHEAD.load(Ordering::Relaxed));
    let config = machines.config(&format!("---{}", one("web", &["a.acme.test"], "http-01")));
    let world = machines.world(config, Arc::new(Real), now).await;
    let trouble = drive(&world, "web").await.unwrap_err();
    assert_eq!(trouble.kind, Kind::Unreachable);
    assert!(trouble.why.contains("does not answer"), "{trouble}");
    // Told by the plan, until its time.
    let waits = drive(&world, "web").await.unwrap();
    assert!(
        matches!(&waits, Step::Wait { trouble: true, why, .. } if *why == trouble.why),
        "{waits}"
    );
    if !machines.start(&world, &Manner::default()) {
        return;
    }
    assert_eq!(drive(&world, "web").await.unwrap(), waits);
    AHEAD.store(120, Ordering::Relaxed);
    let step = drive(&world, "web").await.unwrap();
    assert!(matches!(step, Step::Wait { trouble: false, .. }), "{step}");
    assert!(machines.out("web").is_some());
    assert_eq!(world.store.kept("web").unwrap().failure, None);
}

#[tokio::test(flavor = "current_thread")]
async fn a_clock_that_is_not_the_authoritys_orders_nothing_and_says_so() {
    for (now, way) in [
        (
            (|| Timestamp::now() - SignedDuration::from_hours(24 * 400)) as fn() -> Timestamp,
            "minutes behind the authority's",
        ),
        (
            || Timestamp::now() + SignedDuration::from_hours(24 * 400),
            "minutes ahead of the authority's",
        ),
    ] {
        let mut machines = Machines::new();
        let config = machines.config(&format!("---{}", one("web", &["a.acme.test"], "http-01")));
        let world = machines.world(config, Arc::new(Real), now).await;
        if !machines.start(&world, &Manner::default()) {
            return;
        }
        let trouble = drive(&world, "web").await.unwrap_err();
        assert!(
            trouble.why.contains(way) && trouble.why.ends_with("set the clock"),
            "{trouble}"
        );
        assert!(matches!(
            drive(&world, "web").await.unwrap(),
            Step::Wait { trouble: true, .. }
        ));
        assert!(
            !machines.log().contains("newOrder") && !machines.log().contains("Added order"),
            "{}",
            machines.log()
        );
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_authority_that_refuses_good_nonces_is_asked_again_at_once() {
    let mut machines = Machines::new();
    let world = machines
        .real(&format!("---{}", one("web", &["a.acme.test"], "http-01")))
        .await;
    let manner = Manner {
        variables: vec![("PEBBLE_WFE_NONCEREJECT", "30")],
        ..Manner::default()
    };
    if !machines.start(&world, &manner) {
        return;
    }
    let step = drive(&world, "web")
        .await
        .unwrap_or_else(|e| panic!("{e}\n{}", machines.log()));
    assert!(matches!(step, Step::Wait { trouble: false, .. }), "{step}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_name_that_fails_holds_no_other_up_and_its_reason_is_told() {
    let mut machines = Machines::new();
    // A name server that takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = machines.at("control.sock");
    let manager = tokio::net::UnixListener::bind(&socket).unwrap();
    let all = one("slow", &["slow.acme.test"], "dns-01")
        + &one("bad", &["bad.acme.test"], "http-01")
        + &one("good", &["good.acme.test"], "http-01");
    let mut config = machines.config(&format!("---{all}"));
    config.deliver = cairn_acme::Deliver::Control(socket);
    config.dns.as_mut().unwrap().server = silent.local_addr().unwrap();
    let world = Arc::new(machines.world(config, Arc::new(Real), Timestamp::now).await);
    if !machines.start(&world, &Manner::default()) {
        return;
    }
    let handed_over = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = manager.accept().await.unwrap();
        let mut heard = String::new();
        while !heard.ends_with("\"}") {
            let mut block = [0; 4096];
            let length = stream.read(&mut block).await.unwrap();
            heard.push_str(std::str::from_utf8(&block[..length]).unwrap());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        heard
    };
    let heard = tokio::select! {
        heard = handed_over => heard,
        ended = run(world.clone()) => panic!("{ended:?}"),
    };
    let told: serde_json::Value = serde_json::from_str(heard.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let good = examine(
        told["pem"].as_str().unwrap(),
        &["good.acme.test".parse().unwrap()].into(),
    );
    assert!(good.is_ok(), "{good:?}");
    assert!(world.store.pem("slow").unwrap().is_none());
    // The one that fails says why, and waits.
    machines.change("bad", |kept| kept["failure"] = serde_json::Value::Null);
    let trouble = drive(&world, "bad").await.unwrap_err();
    assert_eq!(trouble.kind, Kind::Refused);
    assert!(
        trouble.why.starts_with("bad.acme.test: the authority refuses: "),
        "{trouble}"
    );
    assert!(
        trouble
            .why
            .ends_with("look whether the authority reaches this appliance from outside"),
        "{trouble}"
    );
    let kept = world.store.kept("bad").unwrap();
    assert_eq!((kept.order, kept.failure.unwrap().why), (None, trouble.why));
    drop(silent);
}

#[tokio::test(flavor = "current_thread")]
async fn a_name_server_that_knows_another_key_is_told_apart_and_costs_no_validation() {
    let mut machines = Machines::new();
    let world = machines
        .real(&format!("---{}", one("star", &["*.acme.test"], "dns-01")))
        .await;
    if !machines.start(&world, &Manner::default()) {
        return;
    }
    std::fs::write(
        machines.at("tsig"),
        "YW5vdGhlciBrZXkgYWx0b2dldGhlciwgb2YgdGhlIHNhbWUgbGVuZ3Ro",
    )
    .unwrap();
    let trouble = drive(&world, "star").await.unwrap_err();
    assert!(
        trouble.why.contains("refuses to change _acme-challenge.acme.test"),
        "{trouble}"
    );
    assert!(
        trouble.why.contains("look at the key's name, algorithm and secret"),
        "{trouble}"
    );
    // The order is gone on with when the key is right.
    let order = world.store.kept("star").unwrap().order.unwrap();
    std::fs::write(machines.at("tsig"), common::TSIG).unwrap();
    machines.change("star", |kept| kept["failure"] = serde_json::Value::Null);
    let (step, failed) = round(&world, "star").await.unwrap();
    assert!(matches!(&step, Step::Resume { url, .. } if *url == order.url), "{step}");
    assert_eq!(failed, None);
}
