//! The power goes at every moment of every change: there is one authority, and each key is its certificate's.

use super::plan_tests::{authority_key, folder, found, now, settled, two, wanted};
use super::*;
use crate::testing::Model;
use jiff::SignedDuration;

/// Cuts the power at every moment of what `change` does to a disk on which `before` is settled, and goes on with `after`. Gives how
/// many different states were looked at.
fn cut(before: Option<&Wanted>, after: &Wanted, later: SignedDuration) -> usize {
    let disk = before.map_or_else(Model::default, settled);
    let key = before.map(|_| authority_key(&disk));
    let first = disk.crashes().len();
    ensure(&disk, folder(), now() + later, after, None).unwrap();
    assert!(disk.all_durable(), "something that is done could be lost");
    assert!(found(&disk).whole());
    let states: Vec<_> = disk.crashes().into_iter().skip(first).collect();
    for state in &states {
        let left = Model::after(state.clone());
        let before = found(&left);
        assert!(!matches!(before.authority, Held::Damaged(_)), "{before:?}");
        for (of, held) in &before.certificates {
            let Held::Whole(facts) = held else {
                panic!("{of}: {held:?}")
            };
            assert!(facts.ours || after.replace, "{of}: {facts:?}");
        }
        if let Some(key) = &key
            && !after.replace
        {
            assert_eq!(&authority_key(&left), key);
        }
        // The machine comes up again: what was asked for once is not asked for again.
        let again = Wanted {
            replace: false,
            ..after.clone()
        };
        let steps = ensure(&left, folder(), now() + later, &again, None).unwrap();
        assert_eq!(steps.iter().find_map(Step::refusal), None);
        assert!(found(&left).whole());
        assert!(left.all_durable());
        assert_eq!(plan(now() + later, &found(&left), &again), []);
    }
    states.len()
}

#[test]
fn while_the_first_certificates_are_made() {
    assert!(cut(None, &two(), SignedDuration::ZERO) >= 15);
}

#[test]
fn while_certificates_are_renewed() {
    assert!(cut(Some(&two()), &two(), SignedDuration::from_hours(25 * 24)) >= 8);
}

#[test]
fn while_the_authority_is_replaced() {
    let replaced = Wanted { replace: true, ..two() };
    assert!(cut(Some(&two()), &replaced, SignedDuration::ZERO) >= 12);
}

#[test]
fn while_the_authority_gets_another_domain_and_a_certificate_is_removed() {
    let moved = Wanted {
        domain: Some("new.example".into()),
        ..wanted(&[("web.tls", &["new.example", "box.local"])])
    };
    assert!(cut(Some(&two()), &moved, SignedDuration::ZERO) >= 9);
}
