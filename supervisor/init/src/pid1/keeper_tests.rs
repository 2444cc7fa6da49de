use super::*;

const CRASH: Option<ExitStatus> = Some(ExitStatus(11));
const KILL: Option<ExitStatus> = Some(ExitStatus(9));
const GREETING: u64 = 30 * SECOND;

fn pause(keeper: &Keeper, now: u64) -> u64 {
    match keeper.state {
        State::Waiting { start_at } => start_at - now,
        State::Alive { .. } => 0,
    }
}

#[test]
fn pauses_double_up_to_ten_seconds() {
    let mut keeper = Keeper::new(GREETING);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        keeper.started(2, 0);
        keeper.ended(CRASH, 0);
        pauses.push(pause(&keeper, 0) / FIRST_PAUSE);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
}

#[test]
fn a_minute_of_health_forgets_earlier_failures() {
    let mut keeper = Keeper::new(GREETING);
    for _ in 0..4 {
        keeper.started(2, 0);
        keeper.ended(CRASH, 0);
    }
    keeper.started(2, 0);
    keeper.greeted();
    keeper.ended(CRASH, HEALTHY);
    assert_eq!(pause(&keeper, HEALTHY), FIRST_PAUSE);
}

#[test]
fn a_thousand_kills_are_no_emergency() {
    let mut keeper = Keeper::new(GREETING);
    for _ in 0..1000 {
        keeper.started(2, 0);
        keeper.greeted();
        assert_eq!(keeper.ended(KILL, 1), News::None);
        assert_eq!(pause(&keeper, 1), FIRST_PAUSE);
    }
}

#[test]
fn crashes_in_a_row_are_an_emergency_once_and_a_healthy_minute_ends_it() {
    let mut keeper = Keeper::new(GREETING);
    let mut news = Vec::new();
    for _ in 0..FAILURES + 1 {
        keeper.started(2, 0);
        news.push(keeper.ended(CRASH, 0));
    }
    assert_eq!(news.iter().filter(|n| **n == News::EmergencyBegins).count(), 1);
    assert!(keeper.is_emergency());
    keeper.started(2, 0);
    keeper.greeted();
    assert_eq!(keeper.next(), Some(HEALTHY));
    assert_eq!(keeper.tick(HEALTHY), News::EmergencyEnds);
    assert!(!keeper.is_emergency());
}

#[test]
fn a_manager_that_never_greets_is_not_healthy() {
    let mut keeper = Keeper::new(GREETING);
    for _ in 0..FAILURES {
        keeper.started(2, 0);
        keeper.ended(KILL, HEALTHY * 2);
    }
    assert!(keeper.is_emergency());
}

/// A keeper whose manager has just asked to be replaced and ended, and whose successor runs.
fn replaced() -> Keeper {
    let mut keeper = Keeper::new(GREETING);
    keeper.started(2, 0);
    keeper.greeted();
    keeper.replace();
    assert_eq!(keeper.origin(), Origin::Image, "the old one still runs");
    assert_eq!(keeper.ended(CRASH, 0), News::None);
    keeper.started(3, 0);
    keeper
}

#[test]
fn the_end_of_a_replaced_manager_is_no_failure_and_the_new_one_starts_at_once() {
    let mut keeper = Keeper::new(GREETING);
    for _ in 0..100 {
        keeper.started(2, 0);
        keeper.greeted();
        keeper.replace();
        assert_eq!(keeper.ended(CRASH, 5), News::None);
        assert!(keeper.is_due(5));
    }
    assert_eq!(keeper.failures, 0);
}

#[test]
fn a_replacement_that_does_not_say_hello_in_time_is_given_up_at_once() {
    let mut keeper = replaced();
    assert_eq!(keeper.origin(), Origin::Replacement);
    assert_eq!(keeper.next(), Some(GREETING));
    assert_eq!(keeper.tick(GREETING - 1), News::None);
    assert_eq!(keeper.tick(GREETING), News::NoGreeting(3));
    assert_eq!(keeper.tick(GREETING), News::None, "once");
    assert_eq!(keeper.next(), None);
    assert_eq!(keeper.ended(KILL, GREETING), News::None);
    assert!(keeper.is_due(GREETING) && !keeper.uses_replacement());
    keeper.started(4, GREETING);
    assert_eq!(keeper.origin(), Origin::FellBack);
    assert_eq!(
        keeper.tick(10 * GREETING),
        News::None,
        "the image's manager has all the time that it needs"
    );
}

#[test]
fn a_replacement_that_says_hello_in_time_stays() {
    let mut keeper = replaced();
    keeper.greeted();
    assert_eq!(keeper.next(), None);
    assert_eq!(keeper.tick(100 * GREETING), News::None);
    assert_eq!(keeper.origin(), Origin::Replacement);
}

#[test]
fn a_replacement_that_fails_three_times_in_a_row_is_given_up_before_it_is_an_emergency() {
    let mut keeper = replaced();
    for _ in 0..2 {
        assert_eq!(keeper.ended(CRASH, 0), News::None);
        assert!(keeper.uses_replacement());
        keeper.started(3, 0);
        keeper.greeted();
    }
    assert_eq!(keeper.ended(CRASH, 0), News::NewFailed);
    assert!(keeper.is_due(0) && !keeper.uses_replacement() && !keeper.is_emergency());
    assert_eq!(keeper.failures, 0, "the image's manager gets its own chances");
}

#[test]
fn a_replacement_that_cannot_even_be_started_is_given_up() {
    let mut keeper = Keeper::new(GREETING);
    keeper.started(2, 0);
    keeper.replace();
    keeper.ended(CRASH, 0);
    assert_eq!(keeper.ended(None, 0), News::None);
    assert_eq!(keeper.ended(None, 0), News::None);
    assert_eq!(keeper.ended(None, 0), News::NewFailed);
}

#[test]
fn a_healthy_minute_forgives_a_replacement_and_kills_do_not_count() {
    let mut keeper = replaced();
    for _ in 0..10 {
        keeper.greeted();
        assert_eq!(keeper.ended(KILL, 0), News::None);
        keeper.started(3, 0);
        keeper.greeted();
        assert_eq!(keeper.ended(CRASH, HEALTHY), News::None);
        keeper.started(3, 0);
    }
    assert!(keeper.uses_replacement());
}

#[test]
fn kills_before_a_greeting_are_forgotten_when_a_manager_says_hello() {
    let mut keeper = Keeper::new(GREETING);
    for _ in 0..FAILURES {
        keeper.started(2, 0);
        keeper.ended(KILL, 0);
    }
    assert!(keeper.is_emergency());
    keeper.started(2, 0);
    keeper.greeted();
    assert_eq!(keeper.tick(1), News::EmergencyEnds);
    keeper.ended(KILL, 1);
    keeper.started(2, 1);
    keeper.ended(KILL, 1);
    assert_eq!(pause(&keeper, 1), FIRST_PAUSE);
    // Crashes are not forgiven so easily.
    let mut keeper = Keeper::new(GREETING);
    for _ in 0..FAILURES {
        keeper.started(2, 0);
        keeper.ended(CRASH, 0);
    }
    keeper.started(2, 0);
    keeper.greeted();
    assert_eq!(keeper.tick(1), News::None);
}
