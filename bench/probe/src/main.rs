//! What the benchmark runs inside the machines that it measures: the small service, and the measuring of what only the inside sees.
//!
//! It is one static program, the same file in our machine and in the peer's. Times are nanoseconds of the monotonic clock, which
//! every sandbox shares with its host.

mod spawn;
mod stop;

use std::error::Error;
use std::io::Write;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

/// Now, in nanoseconds.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// The name of a process's program, at most 15 bytes.
fn name(pid: &str) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

fn main() -> Result<(), Box<dyn Error>> {
    let began = now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        // The unit: it says when its first instruction ran, and is idle until a signal ends it.
        ["idle"] => {
            println!("began {began}");
            loop {
                std::thread::park();
            }
        }
        // What a sandbox is made for in `spawn`.
        ["stamp"] => Ok(std::io::stdout().write_all(&began.to_ne_bytes())?),
        ["spawn", root, runs] => spawn::measure(root.as_ref(), runs.parse()?),
        // Kills the service in a cgroup, and says when.
        ["crash", group] => {
            let processes = std::fs::read_to_string(Path::new(group).join("cgroup.procs"))?;
            let mut processes = processes.lines().filter(|pid| name(pid) == "cairn-probe");
            let pid = processes.next().ok_or("nothing of it runs")?.parse()?;
            let pid = Pid::from_raw(pid).ok_or("no process id")?;
            let at = now();
            kill_process(pid, Signal::KILL)?;
            println!("{at}");
            Ok(())
        }
        ["find", wanted] => {
            let processes = std::fs::read_dir("/proc")?.flatten();
            let processes = processes.filter_map(|entry| entry.file_name().into_string().ok());
            for pid in processes.filter(|pid| name(pid) == wanted) {
                println!("{pid}");
            }
            Ok(())
        }
        ["stop", units] => stop::measure(units.parse()?),
        ["time", program, ref arguments @ ..] => {
            let start = now();
            let output = std::process::Command::new(program).args(arguments).output()?;
            std::io::stderr().write_all(&output.stderr)?;
            if !output.status.success() {
                return Err(format!("{program}: {}", output.status).into());
            }
            let took = now() - start;
            let said = String::from_utf8_lossy(&output.stdout);
            println!("{}", serde_json::json!({ "took": took, "said": said }));
            Ok(())
        }
        _ => Err("idle, stamp, spawn ROOT RUNS, crash CGROUP, find NAME, stop UNITS or time PROGRAM ...".into()),
    }
}
