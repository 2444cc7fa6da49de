//! What the helper does with a job before it does anything, for fuzzers.

use crate::job::Job;
use crate::seccomp;

/// Reads a job and prepares it as [`crate::helper_main`] does; whether it is let through.
pub fn job(text: &[u8]) -> bool {
    let Ok(job) = Job::parse(text) else {
        return false;
    };
    let again = serde_json::to_vec(&job).expect("a job can be written");
    assert_eq!(Job::parse(&again).expect("a written job can be read"), job);
    let (checked, plan) = match job {
        Job::Start(plan) => (plan.check(), *plan),
        Job::Enter { enter } => (enter.check(), enter.command()),
    };
    if checked.is_err() || plan.check().is_err() {
        return false;
    }
    let _ = (plan.grants(), plan.to_systemd());
    plan.seccomp
        .as_ref()
        .is_none_or(|filter| seccomp::compile(filter).is_ok())
}
