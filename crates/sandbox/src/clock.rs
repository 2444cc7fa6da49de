//! The machine's clock, kept by a unit that has no right to it.
//!
//! Only who is root of the whole machine may set the clock; a capability inside a user namespace is not enough. With
//! [`crate::Seccomp::clock`] a unit's calls for it wait for a listener, and whoever holds that does them in the unit's place. So an
//! ordinary time client, which knows nothing of this, keeps the clock, and can do nothing else that root can.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::libc;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

use crate::{calls, sys};

/// The calls that read and set the clock.
pub(crate) const CALLS: &[&str] = &["adjtimex", "clock_adjtime", "clock_settime", "settimeofday"];

/// Does the clock's calls of one sandbox. It has to be kept, and [`Keeper::serve`] called, for as long as the sandbox runs: without it
/// they fail with `ENOSYS`.
#[derive(Debug)]
pub struct Keeper {
    descriptor: OwnedFd,
    earliest: SystemTime,
}

/// A call that set the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// Forward, by so much.
    Forward(Duration),
    /// Back, by so much.
    Back(Duration),
    /// It was refused: the clock would have shown a time before the earliest.
    Refused,
}

/// What a call wants.
#[derive(Clone, Copy)]
enum Wish {
    /// To read and steer: how fast it goes, how far off it is held to be, and by how much it is set.
    Adjust { at: u64, timex: Timex },
    /// This time.
    Time(SystemTime),
}

impl Keeper {
    /// Of the descriptor that came with [`crate::Report::Listener`]. Nothing sets the clock to a time before `earliest`.
    #[must_use]
    pub fn new(descriptor: OwnedFd, earliest: SystemTime) -> Self {
        Self { descriptor, earliest }
    }

    /// Waits for calls and does them, until there is nobody left who could call. `told` hears of each that set the clock by a step;
    /// calls wait while it does.
    ///
    /// # Errors
    /// The descriptor is not a listener, or a call cannot be answered.
    pub fn serve(&self, mut told: impl FnMut(Set)) -> io::Result<()> {
        while let Some(call) = calls::next(&self.descriptor)? {
            let (answer, set) = match self.wish(&call) {
                Ok(wish) => self.grant(&call, wish),
                Err(error) => (Err(error), None),
            };
            set.into_iter().for_each(&mut told);
            match sys::answer(&self.descriptor, call.id, answer) {
                Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn wish(&self, call: &libc::seccomp_notif) -> Result<Wish, Errno> {
        let [first, second, ..] = call.data.args;
        let real = |clock: u64| {
            (clock as libc::clockid_t == libc::CLOCK_REALTIME)
                .then_some(())
                .ok_or(Errno::EPERM)
        };
        let read = |at: u64, bytes: &mut [u8]| {
            read_from(call.pid, at, bytes)?;
            // Otherwise its number may be another process's already, and what was read that one's.
            sys::still_waits(&self.descriptor, call.id)
                .then_some(())
                .ok_or(Errno::EPERM)
        };
        let adjust = |at: u64| {
            let mut bytes = [0; Timex::SIZE];
            read(at, &mut bytes)?;
            Ok(Wish::Adjust {
                at,
                timex: Timex::of(&bytes),
            })
        };
        let time = |at: u64, part: u64| {
            let mut bytes = [0; 16];
            read(at, &mut bytes)?;
            let word = |from: usize| u64::from_ne_bytes(bytes[from..from + 8].try_into().unwrap_or_default());
            let (seconds, parts) = (word(0), word(8));
            let nanos = parts
                .checked_mul(part)
                .filter(|nanos| *nanos < 1_000_000_000)
                .ok_or(Errno::EINVAL)?;
            let since = Duration::new(seconds, nanos as u32);
            // The kernel takes none that is negative either, which is here a very late one.
            UNIX_EPOCH.checked_add(since).map(Wish::Time).ok_or(Errno::EINVAL)
        };
        match i64::from(call.data.nr) {
            libc::SYS_adjtimex => adjust(first),
            libc::SYS_clock_adjtime => real(first).and_then(|()| adjust(second)),
            libc::SYS_clock_settime => real(first).and_then(|()| time(second, 1)),
            // The time zone is the kernel's own, which nobody here has a use for.
            libc::SYS_settimeofday if first != 0 && second == 0 => time(first, 1000),
            _ => Err(Errno::EPERM),
        }
    }

    fn grant(&self, call: &libc::seccomp_notif, wish: Wish) -> (Result<i64, Errno>, Option<Set>) {
        let now = SystemTime::now();
        let wanted = match wish {
            Wish::Time(time) => Some(time),
            Wish::Adjust { timex, .. } => match timex.step() {
                Some(step) => match step.of(now) {
                    Some(time) => Some(time),
                    None => return (Err(Errno::EINVAL), None),
                },
                None => None,
            },
        };
        if wanted.is_some_and(|time| time < self.earliest) {
            return (Err(Errno::EPERM), Some(Set::Refused));
        }
        let done = match wish {
            Wish::Time(time) => set(time).map(|()| 0),
            Wish::Adjust { at, mut timex } => sys::adjust_clock(&mut timex.0).and_then(|state| {
                sys::still_waits(&self.descriptor, call.id)
                    .then_some(())
                    .ok_or(Errno::EPERM)?;
                write(call.pid, at, &timex.bytes())?;
                Ok(i64::from(state))
            }),
        };
        let set = wanted
            .filter(|_| done.is_ok())
            .map(|time| match time.duration_since(now) {
                Ok(ahead) => Set::Forward(ahead),
                Err(back) => Set::Back(back.duration()),
            });
        (done, set)
    }
}

/// From the memory of a process, all of it or nothing.
fn read_from(process: u32, at: u64, bytes: &mut [u8]) -> Result<(), Errno> {
    let (there, length) = (there(at, bytes.len()), bytes.len());
    let read = process_vm_readv(pid(process), &mut [IoSliceMut::new(bytes)], &there)?;
    (read == length).then_some(()).ok_or(Errno::EFAULT)
}

/// To the memory of a process, where that may write itself.
fn write(process: u32, at: u64, bytes: &[u8]) -> Result<(), Errno> {
    let written = process_vm_writev(pid(process), &[IoSlice::new(bytes)], &there(at, bytes.len()))?;
    (written == bytes.len()).then_some(()).ok_or(Errno::EFAULT)
}

fn there(at: u64, len: usize) -> [RemoteIoVec; 1] {
    [RemoteIoVec { base: at as usize, len }]
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(process.cast_signed())
}

fn set(time: SystemTime) -> Result<(), Errno> {
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| Errno::EINVAL)?;
    let time = rustix::time::Timespec {
        tv_sec: i64::try_from(since.as_secs()).map_err(|_| Errno::EINVAL)?,
        tv_nsec: since.subsec_nanos().into(),
    };
    rustix::time::clock_settime(rustix::time::ClockId::Realtime, time)
        .map_err(|error| Errno::from_raw(error.raw_os_error()))
}

/// `struct __kernel_timex` (linux/timex.h), 64 bits each.
#[derive(Clone, Copy, Default)]
struct Timex([u64; Timex::SIZE / 8]);

impl Timex {
    const SIZE: usize = 208;
    /// Where the seconds of its time are; the parts of a second follow.
    const TIME: usize = 72 / 8;

    fn of(bytes: &[u8; Timex::SIZE]) -> Timex {
        let mut words = Timex::default();
        for (word, bytes) in words.0.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
        }
        words
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// The step that it asks for; one that the kernel would refuse counts as none.
    fn step(&self) -> Option<Step> {
        // The lower half: all machines that we run on have it first.
        let modes = self.0[0] as u32;
        let part = if modes & libc::ADJ_NANO == 0 { 1000 } else { 1 };
        let nanos = self.0[Timex::TIME + 1]
            .checked_mul(part)
            .filter(|nanos| *nanos < 1_000_000_000);
        (modes & libc::ADJ_SETOFFSET != 0).then_some(Step {
            seconds: self.0[Timex::TIME].cast_signed(),
            nanos: nanos? as u32,
        })
    }
}

/// A step that `adjtimex` is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    seconds: i64,
    /// Less than a second, and always forward.
    nanos: u32,
}

impl Step {
    fn of(self, time: SystemTime) -> Option<SystemTime> {
        let whole = Duration::from_secs(self.seconds.unsigned_abs());
        let moved = match self.seconds {
            ..0 => time.checked_sub(whole),
            _ => time.checked_add(whole),
        };
        moved?.checked_add(Duration::from_nanos(self.nanos.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_has_whole_seconds_back_and_the_rest_forward() {
        let at = UNIX_EPOCH + Duration::from_secs(100);
        let step = |seconds, nanos| Step { seconds, nanos }.of(at).unwrap();
        assert_eq!(step(-3, 500_000_000), at - Duration::from_millis(2500));
        assert_eq!(step(2, 250_000_000), at + Duration::from_millis(2250));
        assert_eq!(
            Step {
                seconds: i64::MAX,
                nanos: 0
            }
            .of(at),
            None
        );
    }

    #[test]
    fn a_timex_tells_its_step_in_either_unit_and_only_one_that_the_kernel_takes() {
        let timex = |modes: u32, seconds: i64, part: u64| {
            let mut timex = Timex::default();
            timex.0[0] = modes.into();
            timex.0[Timex::TIME] = i64::cast_unsigned(seconds);
            timex.0[Timex::TIME + 1] = part;
            timex.step()
        };
        let (step, nano) = (libc::ADJ_SETOFFSET, libc::ADJ_NANO);
        assert_eq!(timex(libc::ADJ_OFFSET, 5, 6), None);
        assert_eq!(
            timex(step, 5, 6),
            Some(Step {
                seconds: 5,
                nanos: 6000
            })
        );
        assert_eq!(timex(step | nano, -5, 6), Some(Step { seconds: -5, nanos: 6 }));
        assert_eq!(timex(step, 5, 1_000_000), None);
        assert_eq!(timex(step, 5, u64::MAX), None);
    }
}
