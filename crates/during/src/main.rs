//! `cairn-during SERVER [ARGUMENT...] -- PROGRAM [ARGUMENT...]`: runs a program while a server runs.
//!
//! For steps of units that need their server and nobody else at it: setting up or migrating a state by the server's own tools. The server is
//! started and tells by `READY=1` that it is ready (sd_notify(3)); the program runs; the server is asked to end by SIGTERM and waited for. The exit
//! status is the program's, or 1 if the server did not get ready, or did not end well after a program that did. How long all that may take is up to the caller.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How often it is looked whether the server still runs while it gets ready.
const LOOK: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let parts = words.iter().position(|word| word == "--").map(|at| words.split_at(at));
    let (server, program) = match parts {
        Some((server @ [_, ..], [_, program @ ..])) if !program.is_empty() => (server, program),
        _ => {
            eprintln!("usage: cairn-during SERVER [ARGUMENT...] -- PROGRAM [ARGUMENT...]");
            return ExitCode::from(2);
        }
    };
    match run(server, program) {
        Ok(status) => ExitCode::from(code(status)),
        Err(why) => {
            eprintln!("cairn-during: {why}");
            ExitCode::FAILURE
        }
    }
}

/// An exit status as a shell tells it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn command(words: &[String]) -> Command {
    let mut command = Command::new(words.first().map_or("", String::as_str));
    command.args(words.get(1..).unwrap_or_default());
    command
}

fn run(server: &[String], program: &[String]) -> Result<ExitStatus, String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |e: io::Error| format!("cannot {what}: {e}")
    };
    // An abstract socket needs no folder that the account may write to. Only what runs in the same network namespace sees it.
    let name = format!("cairn-during-{}", std::process::id());
    let socket = SocketAddr::from_abstract_name(&name).and_then(|address| UnixDatagram::bind_addr(&address));
    let socket = socket.map_err(failed("make a socket"))?;
    socket.set_read_timeout(Some(LOOK)).map_err(failed("use a socket"))?;
    let mut running = command(server)
        .env("NOTIFY_SOCKET", format!("@{name}"))
        .spawn()
        .map_err(failed(&format!("start {}", server[0])))?;
    await_ready(&socket, &mut running)?;
    let done = command(program).status();
    let ended = end(&mut running).map_err(failed("end the server"))?;
    let done = done.map_err(failed(&format!("start {}", program[0])))?;
    if done.success() && !ended.success() {
        return Err(format!("the server did not end well: {ended}"));
    }
    Ok(done)
}

fn await_ready(socket: &UnixDatagram, running: &mut Child) -> Result<(), String> {
    let mut message = [0; 4096];
    loop {
        match socket.recv(&mut message) {
            Ok(length) if message[..length].split(|b| *b == b'\n').any(|line| line == b"READY=1") => return Ok(()),
            Ok(_) => {}
            Err(e) if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&e.kind()) => {}
            Err(e) => return Err(format!("cannot listen to the server: {e}")),
        }
        match running.try_wait() {
            Ok(None) => {}
            Ok(Some(ended)) => return Err(format!("the server ended before it was ready: {ended}")),
            Err(e) => return Err(format!("cannot wait for the server: {e}")),
        }
    }
}

/// Asks the server to end, and waits for that.
fn end(running: &mut Child) -> io::Result<ExitStatus> {
    if let Some(ended) = running.try_wait()? {
        return Ok(ended);
    }
    if let Some(pid) = i32::try_from(running.id()).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::TERM)?;
    }
    running.wait()
}
