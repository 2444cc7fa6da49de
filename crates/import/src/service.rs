//! What is started, what tells that it is ready, and what happens when it ends: systemd.service(5) and systemd.kill(5).

use crate::Level;
use crate::commands::{self, Exec, signal, substituted};
use crate::draft::Reload;
use crate::job::{Job, Part};
use crate::values::{Span, span};

/// What Cairn waits for a start where a unit cannot say otherwise.
const START: u64 = 120_000;
/// What stands for a time without end.
const LONG_START: &str = "1d";
const LONG_STOP: &str = "10m";

/// `Type=` and what belongs to it.
pub(crate) fn kind(job: &mut Job) {
    let bus = job.last("BusName");
    let named = job.last("Type");
    let starts = !job.every(Part::Service, "ExecStart").is_empty();
    let kind = match (&named, &bus) {
        (Some((_, value)), _) => value.as_str(),
        (None, Some(_)) => "dbus",
        (None, None) if !starts => "oneshot",
        (None, None) => "simple",
    };
    job.draft.oneshot = kind == "oneshot";
    job.draft.notify = kind.starts_with("notify");
    if kind == "notify-reload" {
        job.draft.reload = Some(Reload::Notify);
    }
    if let Some((id, _)) = named {
        match kind {
            "simple" | "exec" | "idle" => job.covered(id),
            "oneshot" if !starts => job.covered(id),
            "oneshot" | "notify" | "notify-reload" => job.carried(id),
            "forking" => job.decide(
                id,
                "Cairn starts the main process itself and sees the first one's end as the service's: add the option that keeps it in the \
                 foreground, and say in [ready] when it is ready",
            ),
            "dbus" => job.decide(id, "a unit has no message bus: say in [ready] when it is ready, for example by a port or a file"),
            _ => job.not_understood(id),
        }
    }
    if let Some((id, _)) = bus {
        job.decide(
            id,
            "a unit has no message bus: what asks this service over D-Bus cannot reach it",
        );
    }
    if let Some((id, true)) = job.truth("RemainAfterExit") {
        match job.draft.oneshot {
            true => job.covered(id),
            false => job.decide(id, "the end of the main process is the end of the service: if it does its work and exits, write `kind = \"oneshot\"`"),
        }
    }
}

/// The `Exec*=` directives.
pub(crate) fn commands(job: &mut Job) {
    for exec in commands::read(job, "ExecCondition") {
        job.decide(exec.id, "a unit has no condition for its start: it starts always; leave the unit out of the recipe where it shall not run");
    }
    for exec in commands::read(job, "ExecStartPre") {
        if exec.ignores_failure {
            job.decide(
                exec.id,
                "`-`: systemd starts the service also when this fails; here the start fails",
            );
        }
        if exec.as_root && job.draft.user.is_some() {
            job.decide(exec.id, "it runs as root in systemd; here as the service's account");
        }
        let argv = substituted(job, &exec);
        job.draft.before.extend(argv);
    }
    start(job);
    for exec in commands::read(job, "ExecStartPost") {
        job.decide(exec.id, "a unit runs nothing after its start: if it waits for readiness, write it as `ready.when = { command = ... }`; if it prepares something, in `before`");
    }
    for exec in commands::read(job, "ExecStopPost") {
        let argv = substituted(job, &exec);
        job.draft.ending.extend(argv);
    }
    reload(job);
    for exec in commands::read(job, "ExecStop") {
        match commands::kill(&exec) {
            Some(name) => job.draft.stop_signal = Some(name),
            None => job.decide(
                exec.id,
                "no command stops a unit: its main process gets `stop_signal`; name the signal that ends the service in good order, or what is left to do \
                 in `after`",
            ),
        }
    }
}

fn start(job: &mut Job) {
    let mut all = commands::read(job, "ExecStart");
    let main = all.pop();
    for exec in all {
        match job.draft.oneshot {
            true => ignored(job, &exec),
            false => job.decide(
                exec.id,
                "only a oneshot has several commands: this one runs before the main process",
            ),
        }
        let argv = substituted(job, &exec);
        job.draft.before.extend(argv);
    }
    let Some(main) = main else {
        job.draft.command = vec!["/usr/bin/true".into()];
        job.missing(
            Level::Behaviour,
            "the service starts no program: `/usr/bin/true` stands in its place",
        );
        return;
    };
    ignored(job, &main);
    if main.as_root && job.draft.user.is_some() {
        (job.draft.user, job.draft.group) = (None, None);
        job.decide(main.id, "`!` or `+` starts the program as root, which then changes to its account itself: `user` is left out, and it needs capabilities for that (`setuid`, `setgid`)");
        for key in ["User", "Group", "DynamicUser"] {
            if let Some((id, _)) = job.last(key) {
                job.hint(id, "the account is there, but ExecStart= asks for a start as root");
            }
        }
    }
    job.draft.command = substituted(job, &main).unwrap_or_else(|| vec![main.argv[0].clone()]);
}

fn ignored(job: &mut Job, exec: &Exec) {
    if exec.ignores_failure {
        job.decide(
            exec.id,
            "`-`: any exit status is success in systemd; here one other than 0 is a failure",
        );
    }
}

fn reload(job: &mut Job) {
    let mut all = commands::read(job, "ExecReload");
    let Some(last) = all.pop() else { return };
    for exec in all {
        job.decide(
            exec.id,
            "a reload is one command or signal, and this one is left out: the last one is carried over",
        );
    }
    if job.draft.oneshot {
        return job.hint(last.id, "a oneshot does not stay, so it has nothing to reload");
    }
    if matches!(job.draft.reload, Some(Reload::Notify)) {
        return job.decide(last.id, "Type=notify-reload reloads by SIGHUP: the command is left out");
    }
    job.draft.reload = match commands::kill(&last) {
        Some(name) if name == "KILL" => None,
        Some(name) => Some(Reload::Signal(name)),
        None => substituted(job, &last).map(Reload::Command),
    };
}

/// Timeouts, restarts and the end.
pub(crate) fn ending(job: &mut Job) {
    timeouts(job);
    restart(job);
    limit(job);
    if let Some((id, value)) = job.last("WatchdogSec") {
        match span(&value) {
            Some(Span::Milliseconds(0) | Span::Infinity) => job.covered(id),
            Some(Span::Milliseconds(..1000)) => job.decide(id, "a watchdog is a second at least: none is set"),
            Some(_) if job.draft.oneshot => job.decide(id, "a oneshot has no watchdog: none is set"),
            Some(time) => {
                job.draft.watchdog = time.text();
                job.carried(id);
            }
            None => job.not_understood(id),
        }
    }
    if let Some((id, value)) = job.last("KillSignal") {
        match signal(&value) {
            Some(name) => {
                job.draft.stop_signal = Some(name);
                job.carried(id);
            }
            None => job.decide(id, &format!("a unit cannot be stopped by `{value}`: it gets TERM")),
        }
    }
    if let Some((id, value)) = job.last("KillMode") {
        match value.as_str() {
            "mixed" => job.covered(id),
            "control-group" => job.hint(id, "only the main process gets the stop signal; what is left when it has ended is killed"),
            "process" => job.decide(id, "when the main process ends every process of the unit ends with it: what it started does not outlive a restart"),
            _ => job.decide(id, "when a unit stops, every process of it ends"),
        }
    }
    for key in ["FailureAction", "StartLimitAction"] {
        let Some((id, value)) = job.last(key) else { continue };
        match value.as_str() {
            "none" => job.covered(id),
            "reboot" => {
                job.draft.reboot = true;
                job.carried(id);
            }
            "reboot-force" | "reboot-immediate" => {
                job.draft.reboot = true;
                job.hint(id, "the other units are stopped first");
            }
            other => job.decide(
                id,
                &format!(
                    "a failed unit can have the machine start again (`failure.action = \"reboot\"`), but not `{other}`"
                ),
            ),
        }
    }
}

fn timeouts(job: &mut Job) {
    let both = job.last("TimeoutSec");
    let start = job.last("TimeoutStartSec").or_else(|| both.clone());
    let stop = job.last("TimeoutStopSec").or_else(|| both.clone());
    let span = |text: &str| match span(text)? {
        Span::Milliseconds(0) => Some(Span::Infinity),
        other => Some(other),
    };
    match start.map(|(id, value)| (id, span(&value))) {
        None if job.draft.oneshot => job.missing(Level::Hint, "a oneshot has 2 minutes for its work; systemd sets no bound"),
        None => {}
        Some((id, None)) => job.not_understood(id),
        Some((id, Some(time))) if job.draft.oneshot => match time {
            Span::Milliseconds(..=START) => job.covered(id),
            _ => job.decide(id, "a oneshot has 2 minutes for its work: one that takes longer has to be a service with a [timer]"),
        },
        Some((id, Some(time))) if job.draft.notify => {
            job.draft.ready_timeout = time.text().or_else(|| Some(LONG_START.into()));
            match time {
                Span::Infinity => job.hint(id, "a start cannot take for ever: a day is set"),
                Span::Milliseconds(_) => job.carried(id),
            }
        }
        Some((id, Some(_))) if job.draft.before.is_empty() => job.covered(id),
        Some((id, Some(_))) => job.hint(id, "the commands of `before` have 2 minutes, which `ready.timeout` can change once [ready] says when the service is ready"),
    }
    match stop.map(|(id, value)| (id, span(&value))) {
        None => {}
        Some((id, None)) => job.not_understood(id),
        Some((id, Some(time))) => {
            job.draft.stop_timeout = time.text().or_else(|| Some(LONG_STOP.into()));
            match time {
                Span::Infinity => job.hint(id, "a stop cannot take for ever: 10 minutes are set"),
                Span::Milliseconds(_) => job.carried(id),
            }
        }
    }
}

fn restart(job: &mut Job) {
    if let Some((id, value)) = job.last("Restart") {
        let (restart, note) = match value.as_str() {
            "no" => ("never", None),
            "always" if job.draft.oneshot => (
                "on-failure",
                Some("a oneshot ends when it is done: one that is to run again has a [timer]"),
            ),
            "always" => ("always", None),
            "on-failure" => ("on-failure", None),
            "on-success" => (
                "never",
                Some(
                    "a unit is not started again after a success alone: `always` also starts it after a failure, and none is set",
                ),
            ),
            "on-abnormal" | "on-abort" | "on-watchdog" => (
                "on-failure",
                Some("`on-failure` is the nearest: it also restarts after an exit status other than 0"),
            ),
            _ => return job.not_understood(id),
        };
        job.draft.restart = Some(restart);
        match note {
            Some(note) => job.decide(id, note),
            None if restart == "never" && job.draft.oneshot => job.covered(id),
            None => job.carried(id),
        }
    } else if job.draft.oneshot {
        // Work that failed is not to be done again unless the file asks for it.
        job.draft.restart = Some("never");
    }
    let mut delay = 0;
    for key in ["RestartSec", "RestartMaxDelaySec"] {
        let Some((id, value)) = job.last(key) else { continue };
        let Some(Span::Milliseconds(ms)) = span(&value) else {
            job.not_understood(id);
            continue;
        };
        let text = Span::Milliseconds(ms).text();
        if key == "RestartSec" && ms == 0 {
            job.draft.restart_delay = Some("100ms".into());
            job.hint(id, "a delay that doubles cannot begin with nothing: 100 ms are set");
        } else if key == "RestartSec" {
            job.draft.restart_delay = text.clone();
            delay = ms;
            if ms > 60_000 {
                job.draft.restart_delay_max = text;
            }
            job.carried(id);
        } else if ms < delay.max(1000) {
            job.hint(id, "it is below the first delay: left out");
        } else {
            job.draft.restart_delay_max = text;
            job.carried(id);
        }
    }
}

fn limit(job: &mut Job) {
    let interval = job.last("StartLimitIntervalSec");
    let burst = job.last("StartLimitBurst");
    let off = interval
        .as_ref()
        .is_some_and(|(_, value)| span(value) == Some(Span::Milliseconds(0)))
        || burst.as_ref().is_some_and(|(_, value)| value == "0")
        || job.draft.restart == Some("never");
    if off {
        for (id, _) in interval.into_iter().chain(burst) {
            job.covered(id);
        }
        return;
    }
    // systemd's own default where only the interval is given.
    let count = match &burst {
        Some((_, value)) => value.parse().ok(),
        None => interval.as_ref().map(|_| 5),
    };
    job.draft.start_limit = count;
    if let Some((id, _)) = burst {
        match count {
            Some(_) => job.carried(id),
            None => job.not_understood(id),
        }
    }
    if let Some((id, _)) = interval {
        job.hint(id, "`start_limit` counts failures in a row, forgotten when the service was ready for `healthy_after`, and not those of a span of time");
    }
}
