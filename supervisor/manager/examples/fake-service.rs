//! A service for tests that does what its arguments say, one after the other, and then waits for signals.
//!
//! `ready`, `stopping`, `alive`, `trigger`, `status=TEXT`, `extend=MS`, `sleep=MS`, `alive-for=MS` (every 50 ms), `say=LINE`, `write=FILE`, `exit=CODE`,
//! `listen=PORT`, `store=NAME` (a pipe), `stored` (says how many descriptors it was given, and their names).
//! SIGHUP: a reload by the protocol. SIGTERM: the end.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use sd_notify::{NotifyState, notify};
use signal_hook::consts::{SIGHUP, SIGTERM};

fn tell(state: NotifyState<'_>) {
    notify(&[state]).expect("a notification");
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().expect("an open output");
}

fn main() {
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGTERM]).expect("signals");
    let mut listeners = Vec::new();
    for argument in std::env::args().skip(1) {
        let (word, value) = argument.split_once('=').unwrap_or((&argument, ""));
        let ms = || Duration::from_millis(value.parse().expect("a number"));
        match word {
            "ready" => tell(NotifyState::Ready),
            "stopping" => tell(NotifyState::Stopping),
            "alive" => tell(NotifyState::Watchdog),
            "trigger" => tell(NotifyState::WatchdogTrigger),
            "status" => tell(NotifyState::Status(value)),
            "extend" => tell(NotifyState::ExtendTimeoutUsec(ms().as_micros() as u32)),
            "sleep" => std::thread::sleep(ms()),
            "alive-for" => {
                let end = Instant::now() + ms();
                while Instant::now() < end {
                    tell(NotifyState::Watchdog);
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            "say" => say(value),
            "write" => std::fs::write(value, std::process::id().to_string()).expect("a file"),
            "exit" => std::process::exit(value.parse().expect("a code")),
            "listen" => listeners
                .push(std::net::TcpListener::bind(("127.0.0.1", value.parse().expect("a port"))).expect("a port")),
            "store" => {
                let (read, write) = std::io::pipe().expect("a pipe");
                let states = [NotifyState::FdStore, NotifyState::FdName(value)];
                sd_notify::notify_with_fds(&states, &[read.as_fd()]).expect("a notification");
                drop(write);
            }
            "stored" => {
                let count = std::env::var("LISTEN_FDS").unwrap_or_default();
                let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
                say(&format!("stored {count} {names}"));
            }
            other => panic!("what is {other}?"),
        }
    }
    for signal in signals.forever() {
        if signal == SIGTERM {
            return;
        }
        notify(&[
            NotifyState::Reloading,
            NotifyState::monotonic_usec_now().expect("a clock"),
        ])
        .expect("a notification");
        say("reloading");
        tell(NotifyState::Ready);
    }
}
