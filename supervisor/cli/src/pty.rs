//! A terminal of its own for a command in a sandbox: what it does to it (modes, input pushed back, its size) stays there, and ours only
//! shows it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// Whether the caller is at a terminal: only then one is made.
pub(crate) fn is_wanted() -> bool {
    isatty(io::stdin()) && isatty(io::stdout())
}

/// Our end and the command's.
pub(crate) struct Pty {
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Pty {
    /// A new one, as large as the caller's.
    pub(crate) fn open() -> io::Result<Pty> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let theirs = ioctl_tiocgptpeer(&ours, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        if let Ok(size) = tcgetwinsize(io::stdin()) {
            tcsetwinsize(&ours, size)?;
        }
        Ok(Pty { ours, theirs })
    }

    /// The command's end, once more.
    pub(crate) fn theirs(&self) -> io::Result<OwnedFd> {
        self.theirs.try_clone()
    }

    /// Shows it on the caller's terminal until the last process has closed it.
    pub(crate) fn show(self) -> io::Result<()> {
        drop(self.theirs);
        let _raw = Raw::set()?;
        let (resized, keyed) = (self.ours.try_clone()?, self.ours.try_clone()?);
        let mut sizes = signal_hook::iterator::Signals::new([signal_hook::consts::SIGWINCH])?;
        std::thread::spawn(move || {
            for _ in sizes.forever() {
                if let Ok(size) = tcgetwinsize(io::stdin()) {
                    let _ = tcsetwinsize(&resized, size);
                }
            }
        });
        // It ends with the process: a key may never come.
        std::thread::spawn(move || io::copy(&mut io::stdin().lock(), &mut File::from(keyed)));
        let mut shown = File::from(self.ours);
        let mut bytes = [0; 4096];
        loop {
            match shown.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    let mut out = io::stdout().lock();
                    out.write_all(&bytes[..length])?;
                    out.flush()?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // EIO: nobody has the other end any more.
                Err(_) => return Ok(()),
            }
        }
    }
}

/// The caller's terminal without modes of its own, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn set() -> io::Result<Raw> {
        let before = tcgetattr(io::stdin().as_fd())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin().as_fd(), OptionalActions::Drain, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Drain, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_command_has_a_terminal_that_ends_with_it() {
        let pty = Pty::open().unwrap();
        let ends = [pty.theirs().unwrap(), pty.theirs().unwrap(), pty.theirs().unwrap()];
        let [stdin, stdout, stderr] = ends;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read word; test -t 0 && test -t 1 && echo \"got $word\""]);
        let mut child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap();
        drop(command);
        let mut ours = File::from(pty.ours);
        ours.write_all(b"this\n").unwrap();
        drop(pty.theirs);
        assert!(child.wait().unwrap().success());
        let mut said = Vec::new();
        let end = ours.read_to_end(&mut said);
        assert_eq!(
            end.unwrap_err().raw_os_error(),
            Some(rustix::io::Errno::IO.raw_os_error())
        );
        assert_eq!(String::from_utf8(said).unwrap(), "this\r\ngot this\r\n");
    }
}
