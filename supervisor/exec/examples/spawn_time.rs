//! How long a sandbox takes from the request to the command's end, `true` as the command: the tool sandbox (all
//! namespaces, as bubblewrap's --unshare-all) and, as root, a unit's whole sandbox.
//!
//! `spawn_time HELPER [RUNS]`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairn_sandbox::{Mount, Plan, Stream, ToolSpec, run_plan};

fn median(runs: usize, mut one: impl FnMut()) -> Duration {
    one();
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            one();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[runs / 2]
}

fn run(plan: &Plan, helper: &Path) {
    let mut child = run_plan(plan, helper, [Stream::Null, Stream::Null, Stream::Inherit]).expect("start");
    assert!(child.wait().expect("end").success());
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let helper = PathBuf::from(arguments.next().expect("the path of cairn-exec"));
    let runs = arguments
        .next()
        .map_or(200, |runs| runs.parse().expect("a number of runs"));
    let tool = ToolSpec::new("/", ["/bin/true"]).plan().expect("plan");
    println!(
        "tool sandbox of /bin/true: {:?} (median of {runs})",
        median(runs, || run(&tool, &helper))
    );
    let mut few = tool;
    few.mounts.retain(|mount| match mount {
        Mount::Bind { target, .. } => target == Path::new("/usr"),
        _ => true,
    });
    println!("the same with /usr alone: {:?}", median(runs, || run(&few, &helper)));
    if is_root() {
        let unit = Plan::new("true", Path::new("/"), 900_000, vec!["/bin/true".into()]);
        println!("unit sandbox of /bin/true: {:?}", median(runs, || run(&unit, &helper)));
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
