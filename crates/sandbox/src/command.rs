//! The last steps, in the process that becomes the command.

use std::convert::Infallible;
use std::ffi::CString;
use std::path::Path;

use nix::errno::Errno;

use crate::child::die_with_helper;
use crate::confine::{self, Rules};
use crate::helper::Setup;
use crate::plan::{FIRST_LISTEN_FD, Plan, Seccomp};
use crate::report::Failure;
use crate::{handover, sys};

/// The first descriptor of the sd_listen_fds protocol.
const LISTEN_FDS_START: i32 = 3;

/// Gives up everything that the plan does not grant, and executes its command.
pub(crate) fn execute(setup: &Setup, rules: Rules) -> Result<Infallible, Failure> {
    let plan = &setup.plan;
    // It fails only for a group leader, which already is alone.
    let _ = rustix::process::setsid();
    if setup.enter.as_ref().is_some_and(|enter| enter.terminal) {
        let failed = |error| {
            let why = format!("{error}; it must be a terminal that no other session has");
            Failure::new("terminal", "standard input", why)
        };
        rustix::process::ioctl_tiocsctty(std::io::stdin()).map_err(failed)?;
    }
    sys::reset_signals();
    let environment = environment(plan)?;
    let arguments = plan
        .argv
        .iter()
        .map(|text| zero_ended("argv", text))
        .collect::<Result<Vec<_>, _>>()?;
    for limit in &plan.rlimits {
        sys::set_limit(0, limit)
            .map_err(|error| Failure::new("rlimit", format!("{:?}", limit.resource).to_lowercase(), error))?;
    }
    // A filter needs no_new_privs or a capability; without the former it has to come before the capabilities go.
    if plan.no_new_privs {
        confine::become_plan_user(plan)?;
        nix::sys::prctl::set_no_new_privs().map_err(|error| Failure::new("no-new-privileges", "prctl", error))?;
        enter_folder(plan)?;
        pass_descriptors(plan)?;
        die_with_helper(setup.mode)?;
        restrict(setup, rules)?;
    } else {
        pass_descriptors(plan)?;
        restrict(setup, rules)?;
        confine::become_plan_user(plan)?;
        enter_folder(plan)?;
        die_with_helper(setup.mode)?;
    }
    let command = &plan.argv[0];
    match nix::unistd::execve(&arguments[0], &arguments, &environment) {
        Ok(never) => Ok(never),
        Err(Errno::ENOENT) => Err(Failure::new(
            "exec",
            command,
            "there is no such file inside, or the interpreter that it names is missing; add it to the root",
        )),
        Err(Errno::EACCES) => Err(Failure::new(
            "exec",
            command,
            "not permitted: it must be executable by the user, on a mount with exec",
        )),
        Err(error) => Err(Failure::new("exec", command, error)),
    }
}

fn enter_folder(plan: &Plan) -> Result<(), Failure> {
    rustix::process::chdir(&plan.cwd).map_err(|error| Failure::new("cwd", &plan.cwd, error))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(plan.umask));
    Ok(())
}

fn restrict(setup: &Setup, rules: Rules) -> Result<(), Failure> {
    if !setup.plan.writable_code {
        sys::refuse_writable_code().map_err(|error| Failure::new("writable-code", "PR_SET_MDWE", error))?;
    }
    if let Some(rules) = rules {
        confine::restrict(rules, setup.plan.no_new_privs)?;
    }
    let failed = |error: std::io::Error| Failure::new("seccomp", "filter", error);
    let Some((told, filters)) = setup.filters.split_last() else {
        return Ok(());
    };
    for filter in filters {
        sys::seccomp(filter).map_err(failed)?;
    }
    if !setup.plan.seccomp.as_ref().is_some_and(Seccomp::has_listener) {
        return sys::seccomp(told).map_err(failed);
    }
    let listener = sys::seccomp_listener(told).map_err(|error| match error.raw_os_error() {
        Some(nix::libc::EBUSY) => Failure::new(
            "seccomp",
            "listener",
            "another listener already hears this process's calls",
        ),
        _ => Failure::new("seccomp", "listener", format!("{error}; a listener needs Linux 5.19")),
    })?;
    // The last thing before the command: nothing from here on may wait for an answer before the listener has a reader.
    handover::listener(&setup.status, &listener).map_err(|error| Failure::new("seccomp", "listener", error))
}

/// Moves the sockets to where the command looks for them; everything else closes on exec.
fn pass_descriptors(plan: &Plan) -> Result<(), Failure> {
    let count = plan.listen_fds.len() as i32;
    for (index, name) in plan.listen_fds.iter().enumerate() {
        let index = index as i32;
        // Upwards, so that none is overwritten before it has moved: the targets lie below the sources.
        sys::dup_to(FIRST_LISTEN_FD + index, LISTEN_FDS_START + index)
            .map_err(|error| Failure::new("listen-fds", name, error))?;
    }
    sys::close_from(LISTEN_FDS_START + count, true)
        .map_err(|error| Failure::new("descriptors", Path::new("close_range"), error))
}

fn environment(plan: &Plan) -> Result<Vec<CString>, Failure> {
    let mut all = plan.env.clone();
    if let Some(path) = &plan.notify_socket {
        all.insert("NOTIFY_SOCKET".into(), path.display().to_string());
    }
    if !plan.listen_fds.is_empty() {
        all.insert("LISTEN_FDS".into(), plan.listen_fds.len().to_string());
        all.insert("LISTEN_PID".into(), std::process::id().to_string());
        all.insert("LISTEN_FDNAMES".into(), plan.listen_fds.join(":"));
    }
    all.iter()
        .map(|(name, value)| zero_ended("env", &format!("{name}={value}")))
        .collect()
}

fn zero_ended(field: &str, text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|error| Failure::new("plan", field, error))
}
