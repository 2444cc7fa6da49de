use super::*;
use crate::held::{Pending, Window, hash};
use crate::trouble::Kind;
use cairn_config::pki::examine;
use rcgen::{CertificateParams, KeyPair};

const DIRECTORY: &str = "https://ca.example/dir";

fn config() -> Config {
    Config::parse(&format!(
        "directory = \"{DIRECTORY}\"\nterms_agreed = true\nstate = \"/s\"\n[deliver]\nfolder = \"/f\"\n[http]\nlisten = \"[::]:80\"\n\
         [certificates.home]\nnames = [\"home.example\"]\nchallenge = \"http-01\"\n"
    ))
    .unwrap()
}

fn at(text: &str) -> Timestamp {
    format!("{text}:00Z").parse().unwrap()
}

/// Held from 2026-01-01 for 90 days.
fn holding(names: &[&str]) -> Result<Holding, String> {
    let mut wanted = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    wanted.not_before = rcgen::date_time_ymd(2026, 1, 1);
    wanted.not_after = rcgen::date_time_ymd(2026, 4, 1);
    let key = KeyPair::generate().unwrap();
    let pem = key.serialize_pem() + &wanted.self_signed(&key).unwrap().pem();
    let certificate = examine(&pem, &Names::new()).unwrap();
    Ok(Holding {
        hash: hash(&pem),
        certificate,
    })
}

fn delivered(holding: &Result<Holding, String>) -> Kept {
    Kept {
        directory: DIRECTORY.into(),
        delivered: holding.as_ref().unwrap().hash.clone(),
        window: Some(Window {
            between: None,
            ask_at: Timestamp::MAX,
        }),
        ..Kept::default()
    }
}

fn pending(since: &str) -> Pending {
    Pending {
        url: "https://ca.example/order/1".into(),
        directory: DIRECTORY.into(),
        names: vec!["home.example".into()],
        key: "KEY".into(),
        since: at(since),
    }
}

fn failed(when: &str, retry: &str) -> Failure {
    Failure {
        at: at(when),
        retry_at: at(retry),
        count: 1,
        why: "the authority refuses: no".into(),
        kind: Kind::Refused,
    }
}

fn step(now: &str, kept: &Kept, holding: Option<&Result<Holding, String>>) -> Step {
    let config = config();
    next(at(now), &config, "home", &config.certificates["home"], kept, holding)
}

fn said(now: &str, kept: &Kept, holding: Option<&Result<Holding, String>>) -> String {
    step(now, kept, holding).to_string()
}

#[test]
fn what_is_not_there_is_ordered_then_gone_on_with_then_handed_over_then_left_alone() {
    let mut kept = Kept::default();
    assert_eq!(
        said("2026-01-02T00:00", &kept, None),
        "home: order one for home.example: there is none"
    );
    kept.order = Some(pending("2026-01-02T00:00"));
    assert_eq!(
        said("2026-01-02T00:01", &kept, None),
        "home: go on with the order https://ca.example/order/1"
    );
    let held = holding(&["home.example"]);
    kept = Kept {
        directory: DIRECTORY.into(),
        ..Kept::default()
    };
    assert_eq!(said("2026-01-02T00:02", &kept, Some(&held)), "home: hand it over");
    kept.delivered = held.as_ref().unwrap().hash.clone();
    assert_eq!(
        said("2026-01-02T00:03", &kept, Some(&held)),
        "home: ask the authority when to renew"
    );
    let kept = delivered(&held);
    assert!(matches!(
        step("2026-01-02T00:04", &kept, Some(&held)),
        Step::Wait { trouble: false, .. }
    ));
}

#[test]
fn a_certificate_is_renewed_when_two_thirds_of_its_time_are_over_at_a_moment_of_its_own() {
    let held = holding(&["home.example"]);
    let kept = delivered(&held);
    // 60 of 90 days, or up to 4.5 days before.
    assert!(matches!(
        step("2026-02-25T00:00", &kept, Some(&held)),
        Step::Wait { .. }
    ));
    assert_eq!(
        said("2026-03-02T00:00", &kept, Some(&held)),
        "home: order one for home.example: it ends on 2026-04-01 00:00 UTC"
    );
    assert!(said("2026-04-01T00:00", &kept, Some(&held)).ends_with("it ended on 2026-04-01 00:00 UTC"));
    let until = |held: &Result<Holding, String>| match step("2026-01-02T00:00", &delivered(held), Some(held)) {
        Step::Wait { until, .. } => until,
        other => panic!("{other}"),
    };
    let other = holding(&["home.example"]);
    assert_eq!(until(&held), until(&held));
    assert_ne!(until(&held), until(&other));
    for one in [&held, &other] {
        assert!(until(one) > at("2026-02-25T11:00") && until(one) <= at("2026-03-02T00:00"));
    }
}

#[test]
fn the_authoritys_window_is_kept_to_but_for_what_would_leave_no_time_for_trouble() {
    let held = holding(&["home.example"]);
    let mut kept = delivered(&held);
    let mut wait = |first: &str, last: &str| {
        kept.window.as_mut().unwrap().between = Some((at(first), at(last)));
        match step("2026-01-10T00:00", &kept, Some(&held)) {
            Step::Wait { until, .. } => Ok(until),
            other => Err(other.to_string()),
        }
    };
    let early = wait("2026-01-20T00:00", "2026-01-22T00:00").unwrap();
    assert!(early >= at("2026-01-20T00:00") && early <= at("2026-01-22T00:00"));
    // Revoked soon: at once.
    assert_eq!(
        wait("2026-01-08T00:00", "2026-01-09T00:00"),
        Err("home: order one for home.example: the authority suggests to renew it now".into())
    );
    assert_eq!(wait("2026-05-01T00:00", "2026-05-02T00:00"), Ok(at("2026-03-23T00:00")));
}

#[test]
fn what_is_there_is_replaced_if_it_is_damaged_revoked_from_elsewhere_or_lacks_a_name() {
    let held = holding(&["home.example"]);
    let now = "2026-01-10T00:00";
    let why = |kept: &Kept, held: &Result<Holding, String>| {
        said(now, kept, Some(held)).replace("home: order one for home.example: ", "")
    };
    let mut kept = delivered(&held);
    assert_eq!(
        why(&kept, &Err("no key".into())),
        "what is there cannot be used: no key"
    );
    kept.revoked = held.as_ref().unwrap().hash.clone();
    assert_eq!(why(&kept, &held), "it was revoked");
    kept = delivered(&held);
    kept.directory = "https://staging.example/dir".into();
    assert_eq!(why(&kept, &held), "it came from https://staging.example/dir");
    let other = holding(&["www.home.example"]);
    assert_eq!(why(&delivered(&other), &other), "it is not for home.example");
    // A name too many disturbs nobody.
    let more = holding(&["home.example", "www.home.example"]);
    assert!(matches!(step(now, &delivered(&more), Some(&more)), Step::Wait { .. }));
}

#[test]
fn after_a_failure_nothing_is_asked_before_its_time_and_the_reason_is_said() {
    let mut kept = Kept {
        failure: Some(failed("2026-01-02T00:00", "2026-01-02T01:00")),
        failed_names: vec!["home.example".into()],
        ..Kept::default()
    };
    let waits = "home: wait until 2026-01-02 01:00 UTC: the authority refuses: no";
    assert_eq!(said("2026-01-02T00:59", &kept, None), waits);
    kept.order = Some(pending("2026-01-02T00:00"));
    assert_eq!(said("2026-01-02T00:59", &kept, None), waits);
    assert!(matches!(step("2026-01-02T01:00", &kept, None), Step::Resume { .. }));
    // Other names are another matter.
    kept.order = None;
    kept.failed_names = vec!["old.example".into()];
    assert!(matches!(step("2026-01-02T00:59", &kept, None), Step::Order { .. }));
    // What is there is not renewed either, and stays handed over.
    let held = holding(&["home.example"]);
    kept = Kept {
        failure: Some(failed("2026-03-03T00:00", "2026-03-03T01:00")),
        failed_names: vec!["home.example".into()],
        ..delivered(&held)
    };
    assert!(matches!(
        step("2026-03-03T00:30", &kept, Some(&held)),
        Step::Wait { trouble: true, .. }
    ));
}

#[test]
fn trouble_with_handing_over_orders_nothing() {
    let held = holding(&["home.example"]);
    let kept = Kept {
        delivered: String::new(),
        undelivered: Some(failed("2026-03-20T00:00", "2026-03-20T01:00")),
        ..delivered(&held)
    };
    assert!(matches!(
        step("2026-03-20T00:30", &kept, Some(&held)),
        Step::Wait { trouble: true, .. }
    ));
    assert!(matches!(
        step("2026-03-20T01:00", &kept, Some(&held)),
        Step::Deliver { .. }
    ));
}

#[test]
fn the_same_names_are_ordered_at_most_four_times_a_week_whatever_happens_to_the_files() {
    let kept = Kept {
        issued: ["02", "03", "04", "05"]
            .map(|day| at(&format!("2026-01-{day}T00:00")))
            .to_vec(),
        ..Kept::default()
    };
    let told = said("2026-01-05T01:00", &kept, None);
    assert!(
        told.starts_with("home: wait until 2026-01-09 00:00 UTC: 4 certificates were issued for it in seven days"),
        "{told}"
    );
    assert!(matches!(step("2026-01-09T00:00", &kept, None), Step::Order { .. }));
}

#[test]
fn a_clock_before_the_beginning_of_what_is_held_orders_nothing_and_says_so() {
    let held = holding(&["home.example"]);
    for kept in [delivered(&held), Kept::default()] {
        assert_eq!(
            said("2000-01-01T00:00", &kept, Some(&held)),
            "home: wait until 2026-01-01 00:00 UTC: the clock stands at 2000-01-01 00:00 UTC, before the beginning of the certificate \
             that is there; set the clock"
        );
    }
}

#[test]
fn what_a_wrong_clock_has_noted_for_the_future_holds_nothing_up() {
    let kept = Kept {
        failure: Some(failed("2036-01-01T00:00", "2036-01-02T00:00")),
        failed_names: vec!["home.example".into()],
        issued: vec![at("2036-01-01T00:00"); 5],
        order: Some(pending("2036-01-01T00:00")),
        ..Kept::default()
    };
    assert!(matches!(step("2026-01-02T00:00", &kept, None), Step::Order { .. }));
}

#[test]
fn records_that_an_order_has_left_are_removed_once_it_is_over_and_again_later_if_they_could_not_be() {
    let held = holding(&["home.example"]);
    let mut config = config();
    config.dns = Some(crate::config::Dns {
        server: "192.0.2.1:53".parse().unwrap(),
        zone: "home.example".into(),
        key: "acme".into(),
        algorithm: "hmac-sha256".into(),
        secret_file: "/k".into(),
        check: Vec::new(),
        wait_seconds: 1,
    });
    let mut kept = Kept {
        records: vec![("_acme-challenge.home.example".into(), "x".into())],
        ..delivered(&held)
    };
    let clears = |kept: &Kept| {
        let step = next(
            at("2026-01-02T00:00"),
            &config,
            "home",
            &config.certificates["home"],
            kept,
            Some(&held),
        );
        matches!(step, Step::Clear { .. })
    };
    assert!(clears(&kept));
    kept.clear_at = Some(at("2026-01-02T00:30"));
    assert!(!clears(&kept));
    kept.clear_at = Some(at("2026-01-01T23:30"));
    assert!(clears(&kept));
    kept.order = Some(pending("2026-01-01T00:00"));
    assert!(!clears(&kept));
}

#[test]
fn an_old_order_or_one_for_other_names_or_another_authority_is_not_gone_on_with() {
    let good = pending("2026-01-02T00:00");
    let other = Pending {
        names: vec!["old.example".into()],
        ..good.clone()
    };
    let elsewhere = Pending {
        directory: "https://staging.example/dir".into(),
        ..good.clone()
    };
    for (order, now, resumes) in [
        (good.clone(), "2026-01-07T00:00", true),
        (good, "2026-01-08T00:01", false),
        (other, "2026-01-02T00:01", false),
        (elsewhere, "2026-01-02T00:01", false),
    ] {
        let kept = Kept {
            order: Some(order),
            ..Kept::default()
        };
        assert_eq!(
            matches!(step(now, &kept, None), Step::Resume { .. }),
            resumes,
            "{kept:?}"
        );
    }
}

#[test]
fn two_certificates_have_a_step_each_and_what_nobody_wants_is_forgotten() {
    let mut config = config();
    let other = config.certificates["home"].clone();
    config.certificates.insert("mail".into(), other);
    let mut held = Held::default();
    held.kept.insert(
        "home".into(),
        Kept {
            failure: Some(failed("2026-01-02T00:00", "2026-01-02T01:00")),
            failed_names: vec!["home.example".into()],
            ..Kept::default()
        },
    );
    held.kept.insert("old".into(), Kept::default());
    held.holdings.insert("old".into(), Err("damaged".into()));
    let all: Vec<String> = plan(at("2026-01-02T00:30"), &config, &held)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        all,
        [
            "home: wait until 2026-01-02 01:00 UTC: the authority refuses: no",
            "mail: order one for home.example: there is none",
            "old: forget it: nobody wants it any more",
        ]
    );
}
