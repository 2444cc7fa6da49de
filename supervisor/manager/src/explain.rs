//! A unit's rules in words: what `cairn explain` tells beside its state.

use std::fmt::Write as _;

use cairn_api::{RestartPlan, UnitStatus};
use cairn_unit::{Check, Dependants, FailureAction, Kind, PathTrigger, Ready, ReadyWhen, Reload, Restart, Unit};

use crate::rules::Rules;

/// What starts the unit.
pub fn started_by(unit: &Unit) -> Vec<String> {
    let mut all = Vec::new();
    if unit.starts_with_appliance() {
        all.push("the appliance's start".to_owned());
    }
    if let Some(timer) = &unit.timer {
        all.extend(timer.calendar.iter().map(|c| format!("the calendar: {c} UTC")));
        all.extend(timer.interval.map(|i| format!("{i} after its last end")));
        all.extend(timer.after_boot.map(|a| format!("{a} after the appliance's start")));
    }
    let sockets = unit.sockets.values();
    all.extend(sockets.map(|socket| format!("a connection to {}", crate::listening::place(&socket.listen))));
    all.extend(unit.path.as_ref().map(|trigger| match trigger {
        PathTrigger::Exists(path) => format!("{path} being there"),
        PathTrigger::NotEmpty(path) => format!("something in {path}"),
        PathTrigger::Changed(path) => format!("a change of {path}"),
    }));
    all
}

/// When it counts as ready.
pub fn ready(unit: &Unit) -> String {
    let Some(Ready { when, timeout }) = &unit.ready else {
        return match unit.service.kind {
            Kind::Service => "as soon as its process runs".to_owned(),
            Kind::Oneshot => "when it has ended with 0".to_owned(),
        };
    };
    let sign = match when {
        ReadyWhen::Notify => "when it says so (sd_notify)".to_owned(),
        ReadyWhen::Port(port) => format!("when TCP port {port} accepts a connection"),
        ReadyWhen::File(path) => format!("when {path} is there"),
        ReadyWhen::Log(text) => format!("when it writes a line with `{text}`"),
        ReadyWhen::Command(command) => format!("when `{}` ends with 0", command.join(" ")),
    };
    format!("{sign}, within {timeout}")
}

/// How it is watched.
pub fn health(unit: &Unit) -> String {
    let mut text = match &unit.health {
        None => "its process being there".to_owned(),
        Some(health) => {
            let check = match &health.check {
                Check::Tcp(port) => format!("a connection to TCP port {port}"),
                Check::Http(http) => format!("an HTTP request to port {}{}", http.port, http.path),
                Check::Exec(command) => format!("`{}`", command.join(" ")),
            };
            format!(
                "{check} every {}, within {}; {} failures in a row are a failure of the unit",
                health.interval, health.timeout, health.failures
            )
        }
    };
    if let Some(watchdog) = unit.service.watchdog {
        let _ = write!(text, "; a sign of life every {watchdog} (sd_notify watchdog)");
    }
    text
}

/// What happens when it ends.
pub fn restart(unit: &Unit, rules: &Rules) -> RestartPlan {
    let policy = match rules.restart {
        Restart::Never => "never",
        Restart::OnFailure => "on-failure",
        Restart::Always => "always",
    };
    let mut failure = match unit.failure.action {
        FailureAction::None => "nothing more is done".to_owned(),
        FailureAction::Reboot => "the machine is started again".to_owned(),
    };
    if let Some(alert) = &unit.failure.alert {
        failure = format!("`{}` is run; {failure}", alert.join(" "));
    }
    if unit.failure.dependants == Dependants::Stop {
        failure.push_str("; the units that need it are stopped until it is ready again");
    }
    RestartPlan {
        policy: policy.to_owned(),
        delays_ms: match rules.restart {
            Restart::Never => Vec::new(),
            _ => rules.schedule(),
        },
        limit: rules.limit,
        healthy_after_ms: rules.healthy_ms,
        failure,
    }
}

/// How it is stopped.
pub fn stop(unit: &Unit) -> String {
    let service = &unit.service;
    format!(
        "{:?} to its main process, and after {} the kill of all of it",
        service.stop_signal, service.stop_timeout
    )
}

/// How it reloads.
pub fn reload(unit: &Unit) -> String {
    match &unit.service.reload {
        None => "by a restart".to_owned(),
        Some(Reload::Notify) => "at SIGHUP; it says when it is done (sd_notify)".to_owned(),
        Some(Reload::Signal(signal)) => format!("at {signal:?}"),
        Some(Reload::Command(command)) => format!("by `{}`", command.join(" ")),
    }
}

/// What its sandbox grants beyond the default.
pub fn exceptions(unit: &Unit) -> Vec<String> {
    let grants = &unit.sandbox;
    let mut all: Vec<String> = grants.capabilities.iter().map(|c| format!("capability {c}")).collect();
    all.extend(grants.system_calls.iter().map(|c| format!("system call {c}")));
    if grants.writable_code {
        all.push("memory that is writable and executable".to_owned());
    }
    if grants.clock {
        all.push("the machine's clock".to_owned());
    }
    if let Some(scope) = grants.control {
        all.push(format!("the control API, to {}", format!("{scope:?}").to_lowercase()));
    }
    if grants.new_privileges {
        all.push("new privileges by exec".to_owned());
    }
    if let (false, Some(reason)) = (all.is_empty(), &grants.reason) {
        all.push(format!("because: {reason}"));
    }
    all
}

/// One sentence: why it is in its state. `missing` are the units that it waits for and that are not ready.
pub fn why(status: &UnitStatus, missing: &[String], unreachable: Option<&str>, started_by: &[String]) -> String {
    let next = status
        .starts_in_ms
        .map(|ms| format!("; it is started in {} s", ms.div_ceil(1000)))
        .unwrap_or_default();
    match status.state.as_str() {
        "waiting" if unreachable.is_some() => format!(
            "It waits until one can connect to it: {}.",
            unreachable.unwrap_or_default()
        ),
        "waiting" => format!("It waits for {}.", missing.join(", ")),
        "listening" => format!("It is started by {}.", started_by.join(", or ")),
        "ready" if status.pid == 0 => format!("It has done its work{next}."),
        "ready" => "It serves.".to_owned(),
        "failed" => format!(
            "It failed for good: {}; `cairn start {}` tries again.",
            status.reason, status.name
        ),
        "restarting" => format!("It failed: {}{next}.", status.reason),
        "stopped" if status.wanted => format!("It ended as it should{next}."),
        "stopped" => format!("It is not to run{next}."),
        "stopping" | "finishing" => "It is on its way down.".to_owned(),
        "migrating" => "Its state is being brought to another version, on a copy.".to_owned(),
        "restoring" => "Its state is being made of a dump; the one of before stays until that is whole.".to_owned(),
        "setting-up" => "Its state is being made, which is done once.".to_owned(),
        _ => "It is being started.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: serde_json::Value) -> Unit {
        let mut unit = serde_json::json!({"description": "x", "service": {"command": ["/x"]}});
        for (key, value) in text.as_object().unwrap() {
            if key == "service" {
                unit["service"]
                    .as_object_mut()
                    .unwrap()
                    .extend(value.as_object().unwrap().clone());
            } else {
                unit[key] = value.clone();
            }
        }
        serde_json::from_value(unit).unwrap()
    }

    #[test]
    fn every_rule_of_a_unit_is_told() {
        let unit = unit(serde_json::json!({
            "service": {"reload": "notify", "watchdog": "30s", "restart_jitter": 0, "start_limit": 3},
            "ready": {"when": {"port": 80}, "timeout": "5s"},
            "health": {"check": {"http": {"port": 80, "path": "/up"}}},
            "failure": {"action": "reboot", "dependants": "stop"},
            "timer": {"calendar": ["daily"], "interval": "1h"},
            "sockets": {"web": {"listen": {"tcp": 81}}}, "path": {"changed": "/var/lib/x"},
            "sandbox": {"capabilities": ["net-raw"], "reason": "pings"},
        }));
        let by = [
            "the calendar: daily UTC",
            "1h after its last end",
            "a connection to TCP port 81",
            "a change of /var/lib/x",
        ];
        assert_eq!(started_by(&unit), by);
        assert_eq!(ready(&unit), "when TCP port 80 accepts a connection, within 5s");
        assert!(health(&unit).starts_with("an HTTP request to port 80/up every 30s, within 5s; 3 failures"));
        assert!(health(&unit).ends_with("a sign of life every 30s (sd_notify watchdog)"));
        let plan = restart(&unit, &Rules::of("x", &unit));
        assert_eq!(
            (plan.policy.as_str(), plan.delays_ms, plan.limit),
            ("on-failure", vec![0, 1000], Some(3))
        );
        assert!(plan.failure.contains("started again") && plan.failure.contains("are stopped until"));
        assert_eq!(exceptions(&unit), ["capability net-raw", "because: pings"]);
        assert_eq!(reload(&unit), "at SIGHUP; it says when it is done (sd_notify)");
    }

    #[test]
    fn a_plain_unit_is_told_too() {
        let unit = unit(serde_json::json!({"service": {"restart": "never"}}));
        assert_eq!(started_by(&unit), ["the appliance's start"]);
        assert_eq!(ready(&unit), "as soon as its process runs");
        assert!(restart(&unit, &Rules::of("x", &unit)).delays_ms.is_empty());
        assert!(exceptions(&unit).is_empty());
    }
}
