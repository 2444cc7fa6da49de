//! How what a unit keeps is copied while it runs, and how such a copy becomes its state again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checks::Refuse;
use crate::service::{Command, Kind};
use crate::unit::Unit;
use crate::values::Seconds;

/// How what the unit keeps is dumped while it runs, and how a dump becomes its state again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dump {
    /// The program and its arguments whose standard output is the dump: all that the unit keeps, as it was at one moment. It runs in the ready
    /// unit's sandbox, as the service's account. A status other than 0, or no output at all, means that there is no dump.
    pub command: Command,
    /// The programs that make the state of a dump, in this order, on a new state and without a network. Before them run the steps of `[[setup]]`
    /// that are not `first_only`. The first one has the dump as its standard input. If one fails, the state stays as it was.
    pub restore: Vec<Command>,
    /// Whether a dump is made every night without being asked for, at a time of the unit's own. One that was missed is made up for.
    #[serde(default = "yes")]
    pub daily: bool,
    /// So many dumps are kept; the oldest one beyond goes once a new one is whole. At least 1.
    #[serde(default = "keep")]
    pub keep: u32,
    /// How long `command` may take, and each step of a restore.
    #[serde(default = "patience")]
    pub timeout: Seconds,
}

fn yes() -> bool {
    true
}

fn keep() -> u32 {
    7
}

fn patience() -> Seconds {
    Seconds::from_secs(4 * 3600)
}

impl Unit {
    /// The steps of its setup that a restore runs before its own, by number: all but those whose work a dump holds.
    pub fn setup_before_restore(&self) -> impl Iterator<Item = usize> {
        let steps = self.setup.iter().enumerate();
        steps.filter(|(_, step)| !step.first_only).map(|(number, _)| number)
    }
}

/// What is wrong with how a unit is dumped.
pub(crate) fn unit(unit: &Unit, refuse: &mut Refuse<'_>) {
    let Some(dump) = &unit.dump else {
        for (number, _) in unit.setup.iter().enumerate().filter(|(_, step)| step.first_only) {
            let help = "leave it out, or say in [dump] how the unit is dumped and restored";
            let message = "`first_only` is about restores, and the unit has no [dump]".into();
            refuse(&["setup", &number.to_string(), "first_only"], message, help);
        }
        return;
    };
    if unit.state.is_empty() {
        let help = "name its folders in [state], or leave [dump] out";
        refuse(&["dump"], "the unit keeps no state".into(), help);
    }
    if unit.service.kind == Kind::Oneshot {
        let help = "leave [dump] out; what a oneshot keeps can be kept by a service beside it";
        let message = "a oneshot does not run while it would be dumped".into();
        refuse(&["dump", "command"], message, help);
    }
    if dump.restore.is_empty() {
        let help = "write `restore = [[\"/usr/bin/PROGRAM\"]]`; the first program has the dump on its standard input";
        refuse(&["dump", "restore"], "nothing makes a state of a dump".into(), help);
    }
    if dump.keep == 0 {
        refuse(&["dump", "keep"], "no dump would be kept".into(), "7 is the default");
    }
    if dump.timeout.millis() == 0 {
        let help = "4h is the default";
        refuse(&["dump", "timeout"], "a dump cannot be made in no time".into(), help);
    }
}
