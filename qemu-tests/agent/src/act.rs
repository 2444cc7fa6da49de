//! Services of test images that do what a test tells them, by files in their state folder: `act PART [FOLDER]`.
//!
//! `chatter` and `quitter` begin when there is a file `go` and rest when there is a file `stop`, so that a test knows all that they did.

use std::fs;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread::{park, sleep};
use std::time::Duration;

use cairn_test_agent::exit_of_run;
use rustix::thread::UnshareFlags;

use crate::{demand, terminal};

const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// So many lines in one write.
const LINES: u64 = 40;

/// Plays a part; returns only to end the service.
pub(crate) fn act(words: &[String]) -> io::Result<ExitCode> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["chatter", folder] => chatter(Path::new(folder)),
        ["quitter", folder] => quitter(Path::new(folder)),
        ["hog", folder] => hog(Path::new(folder)),
        ["shy", folder] => {
            wait_for(&Path::new(folder).join("speak"));
            notify("READY=1\nSTATUS=Said so at last")?;
            rest()
        }
        ["worker", number] => {
            println!("worker {number} works");
            notify(&format!("READY=1\nSTATUS=Working on queue {number}"))?;
            rest()
        }
        [word @ ("tick" | "night")] => {
            println!("{word}");
            Ok(ExitCode::SUCCESS)
        }
        ["echo"] => demand::echo(),
        ["take", path] => take(Path::new(path)),
        ["read", path] => {
            println!("read {}", fs::read_to_string(path).unwrap_or_default());
            Ok(ExitCode::SUCCESS)
        }
        ["curious"] => {
            println!("{}", curious());
            rest()
        }
        ["spin"] => loop {
            std::hint::spin_loop();
        },
        ["terminal"] => terminal::look().map(|()| ExitCode::SUCCESS),
        ["rest"] => rest(),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn rest() -> ! {
    loop {
        park();
    }
}

fn wait_for(file: &Path) {
    while !file.exists() {
        sleep(LOOK_AGAIN);
    }
}

/// Tells the supervisor (sd_notify(3)).
fn notify(text: &str) -> io::Result<()> {
    let path = std::env::var_os("NOTIFY_SOCKET").ok_or(io::ErrorKind::NotFound)?;
    UnixDatagram::unbound()?.send_to(text.as_bytes(), path).map(drop)
}

/// `line 1`, `line 2`, ... of many lengths, and at last `end N`.
fn chatter(folder: &Path) -> io::Result<ExitCode> {
    let stop = folder.join("stop");
    wait_for(&folder.join("go"));
    let mut out = io::stdout().lock();
    let mut number = 0;
    while !stop.exists() {
        let mut text = String::new();
        for _ in 0..LINES {
            number += 1;
            let filling = ".".repeat((number * 7 % 61) as usize);
            text.push_str(&format!("line {number} {filling}\n"));
        }
        out.write_all(text.as_bytes())?;
    }
    writeln!(out, "end {number}")?;
    rest()
}

/// Counts its runs in its state, and ends each as [`exit_of_run`] says.
fn quitter(folder: &Path) -> io::Result<ExitCode> {
    wait_for(&folder.join("go"));
    if folder.join("stop").exists() {
        rest();
    }
    let file = folder.join("runs");
    let before = fs::read_to_string(&file).unwrap_or_default();
    let run = before.trim().parse::<u64>().unwrap_or(0) + 1;
    let new = folder.join("runs.new");
    fs::write(&new, run.to_string())?;
    fs::rename(&new, &file)?;
    println!("run {run}");
    Ok(ExitCode::from(exit_of_run(run)))
}

/// Rests beside a child that does nothing; told to eat, it takes memory until it is killed.
fn hog(folder: &Path) -> io::Result<ExitCode> {
    let eat = folder.join("eat");
    let _other = Command::new("/proc/self/exe").args(["act", "rest"]).spawn()?;
    notify("READY=1\nSTATUS=Not hungry")?;
    wait_for(&eat);
    fs::remove_file(&eat)?;
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![1_u8; 1 << 20]);
    }
}

/// Says what is at a path, a file or what a folder has, and removes it.
fn take(path: &Path) -> io::Result<ExitCode> {
    let mut found = if path.is_dir() {
        let entries = fs::read_dir(path)?;
        entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?
    } else {
        Vec::from_iter(path.exists().then(|| path.to_owned()))
    };
    found.sort();
    for file in found {
        fs::remove_file(&file)?;
        println!("took {}", file.file_name().unwrap_or_default().display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a call that no unit may make without a grant, in a form that changes nothing and that the kernel itself lets everybody make.
fn curious() -> String {
    #[allow(deprecated)]
    match rustix::thread::unshare(UnshareFlags::empty()) {
        Ok(()) => "unshare was let pass".to_owned(),
        Err(error) => format!("unshare was refused with {}", error.raw_os_error()),
    }
}
