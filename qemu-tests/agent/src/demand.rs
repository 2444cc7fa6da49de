//! A service that is given its sockets, `act echo`, and who connects to it, on the host: `say` and `outlive`.
//!
//! A place is `tcp:ADDRESS:PORT`, `udp:ADDRESS:PORT` or `unix:PATH`. Who connects says one line, and the service answers by it behind its
//! name for that socket; it ends when the line is `bye`.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use listenfd::ListenFd;
use rustix::process::{Pid, Signal, kill_process};

/// How long an answer may take: the service is started for it.
const PATIENCE: Duration = Duration::from_secs(120);
/// The word that ends the service.
const BYE: &str = "bye";

/// Answers at each socket that it was given, by its name, until it is told to end.
pub(crate) fn echo() -> io::Result<ExitCode> {
    let names = std::env::var("LISTEN_FDNAMES").map_err(io::Error::other)?;
    let mut given = ListenFd::from_env();
    let (ended, end) = channel();
    for (index, name) in names.split(':').enumerate() {
        let (own, ended) = (name.to_owned(), ended.clone());
        let none = || io::Error::other(format!("there is no socket {name}"));
        // Each by its kind: what is not what its name says is an error.
        match name {
            "tcp" => {
                let listener = given.take_tcp_listener(index)?.ok_or_else(none)?;
                thread::spawn(move || answer_each(&own, || TcpListener::accept(&listener).map(|new| new.0), &ended));
            }
            "udp" => {
                let socket = given.take_udp_socket(index)?.ok_or_else(none)?;
                thread::spawn(move || answer_datagrams(&own, &socket, &ended));
            }
            "unix" => {
                let listener = given.take_unix_listener(index)?.ok_or_else(none)?;
                thread::spawn(move || answer_each(&own, || UnixListener::accept(&listener).map(|new| new.0), &ended));
            }
            _ => return Err(io::Error::other(format!("what is the socket {name}?"))),
        }
    }
    drop(ended);
    println!("serving {names}");
    // What went wrong with one of them ends all.
    end.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
    Ok(ExitCode::SUCCESS)
}

fn answer_each<S: Read + Write>(
    name: &str,
    accept: impl Fn() -> io::Result<S>,
    ended: &Sender<io::Result<()>>,
) -> io::Result<()> {
    let serve = || -> io::Result<()> {
        loop {
            let mut stream = BufReader::new(accept()?);
            let mut line = String::new();
            stream.read_line(&mut line)?;
            stream.get_mut().write_all(format!("{name}: {line}").as_bytes())?;
            if line.trim_end() == BYE {
                return Ok(());
            }
        }
    };
    ended.send(serve()).map_err(io::Error::other)
}

fn answer_datagrams(name: &str, socket: &UdpSocket, ended: &Sender<io::Result<()>>) -> io::Result<()> {
    let serve = || -> io::Result<()> {
        let mut bytes = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut bytes)?;
            let line = String::from_utf8_lossy(&bytes[..length]);
            socket.send_to(format!("{name}: {line}").as_bytes(), from)?;
            if line.trim_end() == BYE {
                return Ok(());
            }
        }
    };
    ended.send(serve()).map_err(io::Error::other)
}

/// Says a line at each place and prints the answers.
pub(crate) fn say(word: &str, places: &[String]) -> io::Result<()> {
    heard(said(word, places)?)
}

/// The same, around the death of a process: it is stopped when somebody connects, so that it cannot notice, and then killed.
pub(crate) fn outlive(pid: &str, word: &str, places: &[String]) -> io::Result<()> {
    let pid = pid
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidInput)?;
    kill_process(pid, Signal::STOP)?;
    let said = said(word, places);
    kill_process(pid, Signal::KILL)?;
    heard(said?)
}

/// Reads one answer.
type Answer = Box<dyn FnOnce() -> io::Result<String>>;

fn said(word: &str, places: &[String]) -> io::Result<Vec<Answer>> {
    places.iter().map(|place| say_at(word, place)).collect()
}

fn heard(answers: Vec<Answer>) -> io::Result<()> {
    for answer in answers {
        println!("{}", answer()?.trim_end());
    }
    Ok(())
}

fn say_at(word: &str, place: &str) -> io::Result<Answer> {
    let line = format!("{word}\n");
    Ok(match place.split_once(':') {
        Some(("tcp", at)) => {
            let mut stream = TcpStream::connect(at)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(line.as_bytes())?;
            Box::new(|| io::read_to_string(stream))
        }
        Some(("unix", path)) => {
            let mut stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(line.as_bytes())?;
            Box::new(|| io::read_to_string(stream))
        }
        Some(("udp", at)) => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(at)?;
            socket.send(line.as_bytes())?;
            Box::new(move || {
                let mut bytes = [0; 512];
                let length = socket.recv(&mut bytes)?;
                Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
            })
        }
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    })
}
