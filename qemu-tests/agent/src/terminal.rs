//! A terminal for a command, `at-terminal COMMAND...`, and a command that says what terminal it has, `act terminal`.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::process::Command;

use rustix::process::getpgrp;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, isatty, tcgetpgrp, tcgetwinsize, tcsetwinsize};

/// A size that nobody has by chance.
const SIZE: [u16; 2] = [33, 97];

/// Runs a command at a terminal of a known size, types a line and prints what is shown there.
pub(crate) fn run(words: &[String]) -> Result<(), Box<dyn Error>> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    let [ws_row, ws_col] = SIZE;
    let size = Winsize {
        ws_row,
        ws_col,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&ours, size)?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
        .stdin(theirs.try_clone()?)
        .stdout(theirs.try_clone()?)
        .stderr(theirs);
    let mut child = command.spawn()?;
    // Its ends are the child's alone, or ours would never be closed.
    drop(command);
    let mut ours = File::from(ours);
    ours.write_all(b"typed\n")?;
    let mut shown = Vec::new();
    // At the end EIO: nobody has the other end any more.
    let end = ours.read_to_end(&mut shown);
    let status = child.wait()?;
    io::stdout().write_all(&shown)?;
    match end {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::IO.raw_os_error()) => Err(error.into()),
        _ if !status.success() => Err(format!("{words:?} ended with {status}").into()),
        _ => Ok(()),
    }
}

/// Says what terminal this process is at, and what is typed there.
pub(crate) fn look() -> io::Result<()> {
    let stdin = io::stdin();
    let size = tcgetwinsize(&stdin)?;
    // Only of its controlling terminal is a process told which group is in the foreground.
    let foreground = tcgetpgrp(&stdin)?;
    let mut line = String::new();
    stdin.read_line(&mut line)?;
    println!(
        "a terminal: {}, {} by {}, mine: {}, in it was {}",
        isatty(io::stdout()),
        size.ws_row,
        size.ws_col,
        foreground == getpgrp(),
        line.trim_end(),
    );
    Ok(())
}
