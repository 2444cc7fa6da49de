use super::*;

const HEALTHY_MS: u64 = 60_000;

fn rules() -> Rules {
    Rules {
        setup: 2,
        restore: 2,
        restore_ms: 60_000,
        before: 1,
        after: 0,
        oneshot: false,
        awaits_sign: true,
        restart: Restart::OnFailure,
        delay_ms: 1000,
        delay_max_ms: 60_000,
        jitter: 0,
        healthy_ms: HEALTHY_MS,
        limit: None,
        start_ms: 120_000,
        stop_ms: 30_000,
        watchdog_ms: None,
        seed: 1,
    }
}

fn run(rules: &Rules, events: Vec<Event>) -> (Machine, Vec<Action>) {
    let mut actions = Vec::new();
    let mut machine = Machine::default();
    for event in events {
        let (next, action) = machine.step(rules, event, 0);
        machine = next;
        actions.extend(action);
    }
    (machine, actions)
}

fn ok() -> Event {
    Event::Exited(End::Code(0))
}

#[test]
fn a_first_start_sets_up_commits_and_becomes_ready() {
    let events = vec![
        Event::Start,
        Event::Go,
        Event::Prepared { setup: true },
        ok(),
        ok(),
        Event::Committed,
        ok(),
        Event::Executed,
        Event::Ready,
    ];
    let (machine, actions) = run(&rules(), events);
    assert!(machine.ready());
    let want = [
        Action::Prepare,
        Action::Setup(0),
        Action::Setup(1),
        Action::Commit,
        Action::Before(0),
        Action::Main,
    ];
    assert_eq!(actions, want);
}

#[test]
fn a_later_start_does_not_set_up_again() {
    let (_, actions) = run(
        &rules(),
        vec![Event::Start, Event::Go, Event::Prepared { setup: false }],
    );
    assert_eq!(actions, [Action::Prepare, Action::Before(0)]);
}

/// A start that finds a dump to go back to.
fn restoring(more: Vec<Event>) -> (Machine, Vec<Action>) {
    let mut events = vec![Event::Start, Event::Go, Event::Restore];
    events.extend(more);
    run(&rules(), events)
}

#[test]
fn a_restore_makes_another_state_puts_it_back_and_starts_the_unit() {
    let (machine, actions) = restoring(vec![ok(), ok(), Event::Committed]);
    let want = [
        Action::Prepare,
        Action::Restore(0),
        Action::Restore(1),
        Action::PutBack,
        Action::Before(0),
    ];
    assert_eq!(actions, want);
    assert_eq!(machine.state, State::Starting { before: 0 });
}

#[test]
fn a_step_of_a_restore_that_fails_is_a_failure_and_one_that_hangs_is_killed() {
    let why = |machine: Machine| match machine.state {
        State::Restarting { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    let (machine, actions) = restoring(vec![ok(), Event::Exited(End::Code(3))]);
    assert_eq!(why(machine), "step 2 of the restore ended with exit code 3");
    assert!(!actions.contains(&Action::PutBack));
    let (machine, _) = restoring(vec![ok(), ok(), Event::Failed("the disk".into())]);
    assert_eq!(why(machine), "the disk");
    let (machine, _) = restoring(vec![ok()]);
    assert_eq!(machine.deadline, Some(60_000), "its own time, not that of a start");
    let (machine, action) = machine.step(&rules(), Event::Tick, 60_000);
    assert_eq!(action, Some(Action::Kill));
    let (machine, _) = machine.step(&rules(), Event::Exited(End::Signal(9)), 60_001);
    assert_eq!(why(machine), "step 2 of the restore took longer than 60 s");
    // Cut off, it is begun anew from what lies on the disk.
    let (_, actions) = restoring(vec![ok(), Event::Lost]);
    assert_eq!(actions.last(), Some(&Action::Prepare));
}

/// A start that finds a state of another version.
fn migrating(steps: usize, rest: bool) -> Vec<Event> {
    let timeouts = vec![5_000; steps];
    vec![Event::Start, Event::Go, Event::Migrate { timeouts, rest }]
}

#[test]
fn steps_between_versions_run_on_a_copy_and_then_the_unit_starts() {
    let mut events = migrating(2, false);
    events.extend([Event::Copied, ok(), ok(), Event::Committed]);
    let (machine, actions) = run(&rules(), events);
    let want = [
        Action::Prepare,
        Action::Copy,
        Action::Migrate(0),
        Action::Migrate(1),
        Action::Replace,
        Action::Before(0),
    ];
    assert_eq!(actions, want);
    assert_eq!(machine.state, State::Starting { before: 0 });
    // For another version of the appliance it rests.
    let mut events = migrating(1, true);
    events.extend([Event::Copied, ok(), Event::Committed]);
    let (machine, actions) = run(&rules(), events);
    assert_eq!(
        (machine.state, actions.last()),
        (State::Stopped, Some(&Action::Replace))
    );
}

#[test]
fn a_step_between_versions_that_fails_is_not_tried_again_by_itself() {
    for (more, why) in [
        (vec![Event::Failed("no room".into())], "no room"),
        (
            vec![Event::Copied, ok(), Event::Exited(End::Code(3))],
            "step 2 to the new version of its state ended with exit code 3; its state is as it was before",
        ),
        (
            vec![Event::Copied, ok(), ok(), Event::Failed("the disk".into())],
            "the disk",
        ),
    ] {
        let mut events = migrating(2, false);
        events.extend(more);
        let (machine, actions) = run(&rules(), events);
        assert_eq!(machine.state, State::Failed { reason: why.into() });
        assert!(!actions.contains(&Action::Before(0)));
    }
    let refused = Event::Refused("a later version".into());
    let (machine, _) = run(&rules(), vec![Event::Start, Event::Go, refused]);
    assert!(matches!(machine.state, State::Failed { .. }));
}

#[test]
fn a_step_between_versions_that_takes_too_long_is_killed_and_has_failed() {
    let mut events = migrating(1, false);
    events.push(Event::Copied);
    let (machine, _) = run(&rules(), events);
    let (machine, action) = machine.step(&rules(), Event::Tick, 4_999);
    assert_eq!(action, None);
    let (machine, action) = machine.step(&rules(), Event::Tick, 5_000);
    assert_eq!(action, Some(Action::Kill));
    let (machine, _) = machine.step(&rules(), Event::Exited(End::Signal(9)), 5_001);
    let reason = "step 1 to the new version of its state took longer than 5 s; its state is as it was before";
    assert_eq!(machine.state, State::Failed { reason: reason.into() });
}

#[test]
fn steps_between_versions_that_a_dead_manager_left_begin_again_with_the_copy() {
    let mut events = migrating(2, false);
    events.extend([Event::Copied, ok(), Event::Lost]);
    let (_, actions) = run(&rules(), events);
    assert_eq!(actions.last(), Some(&Action::Prepare));
}

#[test]
fn a_failed_setup_step_never_commits() {
    let fail = Event::Exited(End::Code(1));
    let (machine, actions) = run(
        &rules(),
        vec![Event::Start, Event::Go, Event::Prepared { setup: true }, ok(), fail],
    );
    assert!(matches!(machine.state, State::Restarting { .. }));
    assert!(!actions.contains(&Action::Commit));
}

#[test]
fn restarts_back_off_exponentially_up_to_the_cap_and_forget_after_a_healthy_minute() {
    let rules = Rules {
        setup: 0,
        before: 0,
        awaits_sign: false,
        ..rules()
    };
    let mut machine = Machine::default();
    let mut now = 0;
    let mut delays = Vec::new();
    let mut events = vec![Event::Start];
    for round in 0..10 {
        events.extend([Event::Go, Event::Prepared { setup: false }, Event::Executed]);
        for event in events.drain(..) {
            machine = machine.step(&rules, event, now).0;
        }
        now += if round == 8 { HEALTHY_MS } else { 10 };
        machine = machine.step(&rules, Event::Exited(End::Signal(11)), now).0;
        let State::Restarting { at_ms, .. } = machine.state else {
            panic!("{machine:?}")
        };
        delays.push(at_ms - now);
        now = at_ms;
        machine = machine.step(&rules, Event::Tick, now).0;
    }
    assert_eq!(delays, [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 1000, 2000]);
}

#[test]
fn a_start_that_never_gets_ready_is_killed_and_retried() {
    let rules = Rules {
        setup: 0,
        before: 0,
        ..rules()
    };
    let (machine, _) = run(
        &rules,
        vec![
            Event::Start,
            Event::Go,
            Event::Prepared { setup: false },
            Event::Executed,
        ],
    );
    let (machine, action) = machine.step(&rules, Event::Tick, rules.start_ms);
    assert_eq!(action, Some(Action::Kill));
    let (machine, _) = machine.step(&rules, Event::Exited(End::Signal(9)), rules.start_ms);
    assert!(matches!(machine.state, State::Restarting { reason, .. } if reason == "not ready within 120 s"));
}

#[test]
fn a_service_that_ends_by_itself_with_0_rests_unless_it_is_always_restarted() {
    for (restart, rests) in [(Restart::OnFailure, true), (Restart::Always, false)] {
        let rules = Rules {
            setup: 0,
            before: 0,
            awaits_sign: false,
            restart,
            ..rules()
        };
        let (machine, _) = run(
            &rules,
            vec![
                Event::Start,
                Event::Go,
                Event::Prepared { setup: false },
                Event::Executed,
                ok(),
            ],
        );
        assert_eq!(machine.at_rest(), rests);
    }
}

#[test]
fn a_stop_during_a_restart_delay_cancels_it() {
    let fail = Event::Failed("no".into());
    let (machine, _) = run(&rules(), vec![Event::Start, Event::Go, fail, Event::Stop]);
    assert_eq!(machine.state, State::Stopped);
}

#[test]
fn what_comes_after_the_main_process_runs_however_it_ended_and_decides_nothing() {
    let rules = Rules {
        setup: 0,
        before: 0,
        after: 2,
        awaits_sign: false,
        ..rules()
    };
    let up = vec![
        Event::Start,
        Event::Go,
        Event::Prepared { setup: false },
        Event::Executed,
    ];
    for (how, then) in [
        (vec![Event::Exited(End::Signal(11))], "restarting"),
        (vec![ok()], "stopped"),
        (vec![Event::Stop, ok()], "stopped"),
        (vec![Event::Restart, ok()], "waiting"),
        (vec![Event::Unhealthy("ill".into()), ok()], "restarting"),
    ] {
        let mut events = up.clone();
        events.extend(how.clone());
        events.extend([Event::Exited(End::Code(9)), Event::Exited(End::Signal(9))]);
        let (machine, actions) = run(&rules, events);
        assert!(
            actions.ends_with(&[Action::After(0), Action::After(1)]),
            "{how:?}: {actions:?}"
        );
        let state = serde_json::to_value(&machine.state).unwrap();
        assert_eq!(state["state"], then, "{how:?}");
    }
}

#[test]
fn what_was_never_started_has_nothing_to_run_after_it() {
    let rules = Rules {
        setup: 0,
        before: 1,
        after: 1,
        ..rules()
    };
    let fail = Event::Exited(End::Code(1));
    let (machine, actions) = run(
        &rules,
        vec![Event::Start, Event::Go, Event::Prepared { setup: false }, fail],
    );
    assert_eq!(actions, [Action::Prepare, Action::Before(0)]);
    assert!(matches!(machine.state, State::Restarting { .. }));
}

#[test]
fn at_its_limit_of_failures_a_unit_fails_for_good_and_a_start_begins_anew() {
    let rules = Rules {
        setup: 0,
        before: 0,
        limit: Some(2),
        ..rules()
    };
    let again = [Event::Go, Event::Prepared { setup: false }, Event::Exited(End::Code(1))];
    let mut events = vec![Event::Start];
    events.extend(again.clone());
    let (machine, _) = run(&rules, events.clone());
    assert!(matches!(machine.state, State::Restarting { .. }));
    let machine = machine.step(&rules, Event::Tick, 10_000).0;
    let machine = again.iter().fold(machine, |m, e| m.step(&rules, e.clone(), 10_000).0);
    let State::Failed { reason } = &machine.state else {
        panic!("{machine:?}")
    };
    assert_eq!(
        reason,
        "ended with exit code 1 (2 failures in a row: not started again)"
    );
    assert_eq!(machine.step(&rules, Event::Start, 20_000).0.attempts, 0);
}

#[test]
fn an_ill_unit_is_asked_to_stop_before_it_is_killed_and_then_counts_as_failed() {
    let rules = Rules {
        setup: 0,
        before: 0,
        awaits_sign: false,
        ..rules()
    };
    let up = vec![
        Event::Start,
        Event::Go,
        Event::Prepared { setup: false },
        Event::Executed,
    ];
    let (machine, _) = run(&rules, up);
    let (machine, action) = machine.step(&rules, Event::Unhealthy("3 checks failed".into()), 5);
    assert_eq!(action, Some(Action::Signal));
    let (machine, action) = machine.step(&rules, Event::Tick, 5 + rules.stop_ms);
    assert_eq!(action, Some(Action::Kill));
    let (machine, _) = machine.step(&rules, Event::Exited(End::Signal(9)), 40_000);
    assert!(matches!(machine.state, State::Restarting { reason, .. } if reason == "3 checks failed"));
}

#[test]
fn more_time_is_given_to_what_asks_for_it_and_never_less() {
    let rules = Rules {
        setup: 0,
        before: 0,
        ..rules()
    };
    let (machine, _) = run(&rules, vec![Event::Start, Event::Go, Event::Prepared { setup: false }]);
    let longer = machine.clone().step(&rules, Event::Extend(500_000), 100).0;
    assert_eq!(longer.deadline, Some(500_100));
    let same = machine.step(&rules, Event::Extend(10), 100).0;
    assert_eq!(same.deadline, Some(rules.start_ms));
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn random_event(random: &mut Random) -> Event {
    match random.below(22) {
        21 => Event::Restore,
        18 => Event::Migrate {
            timeouts: vec![50_000; random.below(3) as usize],
            rest: random.below(2) == 0,
        },
        19 => Event::Copied,
        20 => Event::Refused("no".into()),
        16 => Event::Extend(random.below(100_000)),
        17 => Event::Unhealthy("ill".into()),
        0 => Event::Start,
        1 => Event::Stop,
        2 => Event::Restart,
        3 | 4 => Event::Go,
        5 => Event::Prepared { setup: true },
        6 => Event::Prepared { setup: false },
        7 => Event::Committed,
        8 => Event::Failed("x".into()),
        9 => Event::Executed,
        10 => Event::Ready,
        11 | 12 => ok(),
        13 => Event::Exited(if random.below(2) == 0 {
            End::Code(3)
        } else {
            End::Signal(9)
        }),
        14 => Event::Lost,
        _ => Event::Tick,
    }
}

fn random_rules(random: &mut Random) -> Rules {
    Rules {
        setup: random.below(3) as usize,
        restore: random.below(3) as usize,
        before: random.below(3) as usize,
        after: random.below(3) as usize,
        limit: (random.below(3) == 0).then(|| 1 + random.below(4) as u32),
        oneshot: random.below(3) == 0,
        awaits_sign: random.below(2) == 0,
        restart: [Restart::Never, Restart::OnFailure, Restart::Always][random.below(3) as usize],
        ..rules()
    }
}

#[test]
fn any_sequence_of_events_leaves_a_legal_state_and_stop_always_ends() {
    let mut random = Random(0x5eed_cafe_f00d_1234);
    for round in 0..20_000 {
        let rules = random_rules(&mut random);
        let mut machine = Machine::default();
        let mut now = 0;
        let mut killed = false;
        let mut history = Vec::new();
        for _ in 0..random.below(60) {
            now += random.below(40_000);
            let event = random_event(&mut random);
            history.push(event.clone());
            let before = machine.busy;
            let settles = !matches!(
                event,
                Event::Start
                    | Event::Stop
                    | Event::Restart
                    | Event::Go
                    | Event::Tick
                    | Event::Extend(_)
                    | Event::Unhealthy(_)
            );
            let (next, action) = machine.step(&rules, event, now);
            assert!(next.legal(&rules), "round {round}: {next:?} after {history:?}");
            if matches!(
                action,
                Some(
                    Action::Prepare
                        | Action::Setup(_)
                        | Action::Commit
                        | Action::Copy
                        | Action::Migrate(_)
                        | Action::Replace
                        | Action::Main
                        | Action::After(_)
                )
            ) {
                assert!(
                    before == Busy::Nothing || settles,
                    "two things under way after {history:?}"
                );
                killed = false;
            }
            killed |= action == Some(Action::Kill);
            machine = next;
        }
        let (mut machine, action) = machine.step(&rules, Event::Stop, now);
        killed |= action == Some(Action::Kill);
        let mut rounds = 0;
        while machine.state != State::Stopped {
            rounds += 1;
            assert!(
                rounds < 50,
                "round {round}: stop never ends in {machine:?} after {history:?}"
            );
            // The world is unkind: a process goes only by a kill; but what is begun ends.
            let event = match machine.busy {
                Busy::Preparing => Event::Prepared { setup: true },
                Busy::Committing => Event::Committed,
                Busy::Process if killed => Event::Exited(End::Signal(9)),
                _ => {
                    now = machine.deadline.unwrap_or(now).max(now);
                    Event::Tick
                }
            };
            let (next, action) = machine.step(&rules, event, now);
            // Another process is another that must be killed.
            killed = action == Some(Action::Kill) || (killed && !matches!(action, Some(Action::After(_))));
            assert!(next.legal(&rules));
            machine = next;
        }
    }
}
