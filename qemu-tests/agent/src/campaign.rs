//! A campaign of kills against the manager of the running machine, and its outcome: `kills PLAN`, on the host.
//!
//! The plan is a list of moments with commas between: `a20` is 20 ms after the manager has answered a request, `s5` is 5 ms after it was
//! given descriptors back, amid its taking over. (Earlier is before its greeting to cairn-init, and a manager that ends there counts as one
//! that will not stay up.) Who makes it has the randomness. Here, because a thousand round trips through the machine's port
//! would take many times as long as the kills.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cairn_test_agent::exit_of_run;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const GROUPS: &str = "/sys/fs/cgroup/cairn";
const CONTROL: &str = "/run/cairn/control.sock";
const CAIRN: &str = "/usr/bin/cairn";
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Who writes, and who ends: the load.
const CHATTER: &str = "chatter";
const QUITTER: &str = "quitter";

/// Makes the campaign and prints its outcome as one JSON document.
pub(crate) fn kills(plan: &str) -> io::Result<()> {
    let began = Instant::now();
    let before = services()?;
    tell("go")?;
    let (mut kills, mut last, mut longest) = (0_u64, 0, Duration::ZERO);
    for moment in plan.split(',') {
        let (after, wait) = moment.split_at_checked(1).ok_or(io::ErrorKind::InvalidInput)?;
        let wait = wait.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        let asked = Instant::now();
        let manager = wait_for("another manager", || manager().filter(|pid| *pid != last))?;
        if after == "a" {
            wait_for("an answer", || status().ok())?;
            longest = longest.max(asked.elapsed());
        } else {
            wait_for("a manager that takes over", || takes_over(manager).then_some(()))?;
        }
        sleep(Duration::from_millis(wait));
        let pid = Pid::from_raw(manager).ok_or(io::ErrorKind::InvalidInput)?;
        kill_process(pid, Signal::KILL)?;
        kills += 1;
        last = manager;
    }
    let killing = began.elapsed();
    wait_for("an answer", || status().ok())?;
    tell("stop")?;
    let runs = settled()?;
    let outcome = json!({
        "kills": kills,
        "kill_ms": killing.as_millis() as u64,
        "longest_ms": longest.as_millis() as u64,
        "lines": lines()?,
        "exits": exits(runs)?,
        "before": before,
        "after": services()?,
    });
    println!("{outcome}");
    Ok(())
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return Ok(seen);
        }
        if Instant::now() > deadline {
            let why = format!("{what} did not come within {} s", PATIENCE.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        sleep(LOOK_AGAIN);
    }
}

fn processes(group: &Path) -> io::Result<Vec<i32>> {
    let text = fs::read_to_string(group.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
}

fn manager() -> Option<i32> {
    processes(&Path::new(GROUPS).join("manager")).ok()?.first().copied()
}

/// Whether it has been given what cairn-init keeps, which is far more than it opens itself.
fn takes_over(manager: i32) -> bool {
    fs::read_dir(format!("/proc/{manager}/fd")).is_ok_and(|fds| fds.count() > 24)
}

/// The processes of every unit that is to run all the while.
fn services() -> io::Result<BTreeMap<String, Vec<i32>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(Path::new(GROUPS).join("units"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type()?.is_dir() || name == QUITTER {
            continue;
        }
        let mut pids = processes(&entry.path())?;
        pids.sort_unstable();
        all.insert(name, pids);
    }
    // What a timer starts for a moment is not there all the while.
    all.retain(|_, pids| !pids.is_empty());
    all.remove("tick");
    Ok(all)
}

fn state(unit: &str) -> PathBuf {
    PathBuf::from(format!("/data/state/{unit}/var-lib-{unit}"))
}

fn tell(word: &str) -> io::Result<()> {
    [CHATTER, QUITTER]
        .iter()
        .try_for_each(|unit| fs::write(state(unit).join(word), ""))
}

/// What the manager says of its units; it answers when it has taken over from the one before.
fn status() -> io::Result<Value> {
    let mut stream = UnixStream::connect(CONTROL)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let body = answer.iter().position(|byte| *byte == b'{').unwrap_or(0);
    serde_json::from_slice(answer.get(body..).unwrap_or_default()).map_err(io::Error::other)
}

/// Waits until nothing is under way any more: what was written is stored, and every run is over. How many runs there were.
fn settled() -> io::Result<u64> {
    wait_for("the chatter's last line", || {
        let last = Command::new(CAIRN)
            .args(["logs", CHATTER, "-n", "1", "-o", "json"])
            .output()
            .ok()?;
        message(&String::from_utf8_lossy(&last.stdout))?
            .starts_with("end ")
            .then_some(())
    })?;
    let runs = || {
        fs::read_to_string(state(QUITTER).join("runs"))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let failures = || unit(QUITTER)?["failures"].as_u64();
    // Equal is what it should come to; if it does not, the outcome says so.
    let equal = wait_for("the account of all exits", || (runs()? == failures()?).then_some(()));
    drop(equal);
    runs().ok_or(io::ErrorKind::NotFound.into())
}

fn unit(name: &str) -> Option<Value> {
    let status = status().ok()?;
    status["units"]
        .as_array()?
        .iter()
        .find(|unit| unit["name"] == name)
        .cloned()
}

/// The text of a record that `cairn logs -o json` shows.
fn message(record: &str) -> Option<&str> {
    let (_, rest) = record.split_once("\"MESSAGE\":\"")?;
    rest.split('"').next()
}

/// Each message of a unit's log, in its order.
fn messages(unit: &str, mut each: impl FnMut(&str)) -> io::Result<()> {
    let mut child = Command::new(CAIRN)
        .args(["logs", unit, "-n", "all", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    for line in BufReader::with_capacity(1 << 16, out).lines() {
        if let Some(message) = message(&line?) {
            each(message);
        }
    }
    if !child.wait()?.success() {
        return Err(io::Error::other(format!("cairn logs {unit} failed")));
    }
    Ok(())
}

/// What became of the chatter's lines: how many it wrote, and how many of them are missing, doubled or out of their order.
fn lines() -> io::Result<Value> {
    let (mut stored, mut next, mut missing, mut doubled, mut end) = (0_u64, 1_u64, 0_u64, 0_u64, None);
    messages(CHATTER, |text| {
        let mut words = text.split(' ');
        match (words.next(), words.next().and_then(|number| number.parse::<u64>().ok())) {
            (Some("line"), Some(number)) => {
                stored += 1;
                if number < next {
                    doubled += 1;
                } else {
                    missing += number - next;
                    next = number + 1;
                }
            }
            (Some("end"), number) => end = number,
            _ => {}
        }
    })?;
    let written = end.ok_or_else(|| io::Error::other("the chatter did not end"))?;
    missing += (written + 1).saturating_sub(next);
    Ok(json!({ "written": written, "stored": stored, "missing": missing, "doubled": doubled }))
}

/// What became of the quitter's exits: how many there were, how many the manager counts, how many it saw nothing of, and how often
/// its log misses or doubles one.
fn exits(runs: u64) -> io::Result<Value> {
    let (mut own, mut unseen, mut told) = (0_u64, 0_u64, Vec::new());
    messages(QUITTER, |text| {
        if text.starts_with("run ") {
            own += 1;
        } else if text.starts_with("failed: ") {
            let code = text
                .split_once("exit code ")
                .and_then(|(_, rest)| rest.split(';').next()?.parse::<u8>().ok());
            match code {
                Some(code) => told.push(code),
                None => unseen += 1,
            }
        }
    })?;
    let (mut run, mut missing, mut doubled) = (1, 0, 0);
    for code in &told {
        // As far ahead as the statuses differ.
        match (run..run + 40).find(|run| exit_of_run(*run) == *code) {
            _ if run > 1 && exit_of_run(run - 1) == *code => doubled += 1,
            Some(found) => {
                missing += found - run;
                run = found + 1;
            }
            None => unseen += 1,
        }
    }
    missing += (runs + 1).saturating_sub(run);
    let counted = unit(QUITTER).map(|unit| unit["failures"].clone());
    Ok(json!({
        "runs": runs, "counted": counted, "unseen": unseen, "lines": own, "told": told.len(), "untold": missing, "told_twice": doubled,
    }))
}
