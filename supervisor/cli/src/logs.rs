//! `cairn logs`: asks for logs, and writes the answer as it comes.

use std::io::{self, BufRead, BufReader, IsTerminal as _, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::client;

/// How many last lines are shown where nothing says which.
const LINES: &str = "1000";
/// And before those that are followed.
const FOLLOWED: &str = "10";

/// What to show.
#[derive(Debug, Args)]
#[command(
    after_help = "Times are UTC: 2026-01-31, \"2026-01-31 10:00\", 10:00, today, yesterday, -1h, \"10 min ago\", @SECONDS.\n\
    The kernel's messages are those of the unit kernel, the manager's own of the unit cairn.\n\n\
    Examples:\n  cairn logs mariadb\n  cairn logs --since -1h --priority err\n  cairn logs -f caddy kernel\n  \
    cairn logs --output export -n all | systemd-journal-remote -o all.journal -"
)]
pub(crate) struct Logs {
    /// Of these units; of all if none is given.
    units: Vec<String>,
    /// Not earlier than this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Not later than this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// Only messages that match this regular expression; (?i) at its start ignores case.
    #[arg(long, value_name = "EXPRESSION")]
    grep: Option<String>,
    /// Only messages at least as urgent as this: emerg, alert, crit, err, warning, notice, info, debug, or 0 to 7.
    #[arg(short, long)]
    priority: Option<String>,
    /// Only the last so many, or "all". Left out: the last 1000, where neither --since, --until nor --grep says which.
    #[arg(short = 'n', long, value_name = "LINES")]
    lines: Option<String>,
    /// Go on with what comes, after the last 10 or -n lines.
    #[arg(short, long)]
    follow: bool,
    /// Only of this boot.
    #[arg(long)]
    boot: bool,
    /// How records are written.
    #[arg(short, long, default_value = "short")]
    output: Output,
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line each, for people.
    Short,
    /// A line of JSON each.
    Json,
    /// The journal's export format, for systemd's tools.
    Export,
}

impl Logs {
    /// The request's path where another machine is asked, which tells of no more than so many lines and no longer than it is asked.
    #[cfg(feature = "remote")]
    pub(crate) fn remote_path(&self) -> Result<String, String> {
        const MOST: &str = "2000";
        let here = [
            ("--follow", self.follow),
            ("--boot", self.boot),
            ("--output", self.output != Output::Short),
        ];
        if let Some((option, _)) = here.iter().find(|(_, given)| *given) {
            return Err(format!("{option} is only for logs on the appliance itself"));
        }
        let narrow = self.since.is_some() || self.until.is_some() || self.grep.is_some();
        let lines = match self.lines.as_deref() {
            Some("all") => MOST,
            None if narrow => MOST,
            None => LINES,
            Some(lines) => lines,
        };
        let pairs = self.asked().chain([("lines", lines)]);
        Ok(format!("/v1/logs?{}", joined(pairs)))
    }

    /// Of what is asked.
    fn asked(&self) -> impl Iterator<Item = (&str, &str)> {
        let given = [
            ("since", &self.since),
            ("until", &self.until),
            ("grep", &self.grep),
            ("priority", &self.priority),
        ];
        let given = given
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)));
        self.units.iter().map(|unit| ("unit", unit.as_str())).chain(given)
    }

    /// The request's path.
    fn path(&self, terminal: bool) -> String {
        let mut pairs: Vec<(&str, &str)> = self.asked().collect();
        let narrow = self.since.is_some() || self.until.is_some() || self.grep.is_some();
        match (self.lines.as_deref(), self.follow) {
            (Some("all"), _) => {}
            (Some(lines), _) => pairs.push(("lines", lines)),
            (None, _) if narrow => {}
            (None, true) => pairs.push(("lines", FOLLOWED)),
            (None, false) => pairs.push(("lines", LINES)),
        }
        let output = match self.output {
            Output::Short => "short",
            Output::Json => "json",
            Output::Export => "export",
        };
        pairs.push(("output", output));
        let flags = [
            ("follow", self.follow),
            ("boot", self.boot),
            ("colour", terminal && self.output == Output::Short),
        ];
        pairs.extend(flags.iter().filter(|(_, on)| *on).map(|(name, _)| (*name, "1")));
        format!("/v1/logs?{}", joined(pairs))
    }

    /// Shows them. Exit codes as of the other commands.
    pub(crate) fn run(&self, socket: &Path) -> ExitCode {
        let out = io::stdout();
        let path = self.path(out.is_terminal());
        let failed = |error: io::Error| {
            eprintln!("cairn: the manager does not answer on {}: {error}", socket.display());
            ExitCode::from(4)
        };
        let ask = || -> io::Result<Answer<BufReader<UnixStream>>> {
            let mut stream = UnixStream::connect(socket)?;
            // Until the first line of the answer; a follower then waits as long as it takes.
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\n\r\n"
            )?;
            let control = stream.try_clone()?;
            let answer = Answer::begin(BufReader::new(stream))?;
            control.set_read_timeout(None)?;
            Ok(answer)
        };
        let mut answer = match ask() {
            Ok(answer) => answer,
            Err(error) => return failed(error),
        };
        if answer.status >= 400 {
            let mut body = Vec::new();
            let _ = answer.read_to_end(&mut body);
            let value: Value = serde_json::from_slice(&body).unwrap_or_default();
            eprintln!("cairn: {}", value["error"].as_str().unwrap_or("the manager refused"));
            return ExitCode::from(1);
        }
        match copy(&mut answer, &mut out.lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cairn: the manager stopped in the middle of its answer ({error}); ask again");
                ExitCode::from(4)
            }
        }
    }
}

fn joined<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pairs = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={}", client::encode(value)));
    pairs.collect::<Vec<String>>().join("&")
}

/// As far as the reader wants it: a closed pipe is its wish.
fn copy(answer: &mut impl Read, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = match answer.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if out.write_all(&buffer[..length]).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
    }
}

/// How an answer's end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// Chunks (RFC 9112, 7.1): so many bytes are left of this one; `true` before the first.
    Chunks(u64, bool),
    /// The connection's end.
    Close,
    Done,
}

/// An answer whose body is read as it comes. An end that comes too early is an error.
struct Answer<R> {
    status: u16,
    framing: Framing,
    from: R,
}

/// No line of a head is longer.
const LONGEST: u64 = 16 << 10;

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    from.take(LONGEST).read_line(&mut text)?;
    match text.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(invalid()),
    }
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP")
}

impl<R: BufRead> Answer<R> {
    /// Reads the head.
    fn begin(mut from: R) -> io::Result<Answer<R>> {
        let first = line(&mut from)?;
        let status = first
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .ok_or_else(invalid)?;
        let mut framing = Framing::Close;
        loop {
            let header = line(&mut from)?.to_ascii_lowercase();
            match header.split_once(':').map(|(name, value)| (name, value.trim())) {
                None if header.is_empty() => return Ok(Answer { status, framing, from }),
                Some(("transfer-encoding", "chunked")) => framing = Framing::Chunks(0, true),
                Some(("content-length", length)) => framing = Framing::Length(length.parse().map_err(|_| invalid())?),
                Some(_) => {}
                None => return Err(invalid()),
            }
        }
    }
}

impl<R: BufRead> Read for Answer<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Framing::Chunks(0, first) = self.framing {
            if !first && !line(&mut self.from)?.is_empty() {
                return Err(invalid());
            }
            let head = line(&mut self.from)?;
            let digits = head.split(';').next().unwrap_or_default().trim();
            self.framing = match u64::from_str_radix(digits, 16) {
                Ok(0) => Framing::Done,
                Ok(size) => Framing::Chunks(size, false),
                Err(_) => return Err(invalid()),
            };
        }
        let left = match self.framing {
            Framing::Done | Framing::Length(0) => return Ok(0),
            Framing::Close => return self.from.read(buffer),
            Framing::Length(left) | Framing::Chunks(left, _) => left,
        };
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let length = self.from.read(&mut buffer[..room])?;
        if length == 0 && room > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let left = left - length as u64;
        self.framing = match self.framing {
            Framing::Chunks(..) => Framing::Chunks(left, false),
            _ => Framing::Length(left),
        };
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        logs: Logs,
    }

    fn path(words: &str) -> String {
        let words = words.split(' ').map(|word| word.replace('_', " "));
        Cli::parse_from(["logs".to_owned()].into_iter().chain(words.filter(|w| !w.is_empty())))
            .logs
            .path(true)
    }

    #[cfg(feature = "remote")]
    #[test]
    fn another_machine_is_asked_for_what_its_panel_tells() {
        let asked = |words: &[&str]| Cli::parse_from([&["logs"], words].concat()).logs.remote_path();
        assert_eq!(asked(&[]), Ok("/v1/logs?lines=1000".into()));
        assert_eq!(
            asked(&["web", "db", "--since", "-1h", "-p", "err"]),
            Ok("/v1/logs?unit=web&unit=db&since=-1h&priority=err&lines=2000".into())
        );
        assert_eq!(asked(&["-n", "5"]), Ok("/v1/logs?lines=5".into()));
        assert_eq!(asked(&["-n", "all"]), Ok("/v1/logs?lines=2000".into()));
        for option in ["--follow", "--boot", "--output=json"] {
            let why = asked(&[option]).unwrap_err();
            assert!(option.starts_with(why.split(' ').next().unwrap()), "{why}");
        }
    }

    #[test]
    fn what_people_ask_is_what_is_asked_for() {
        assert_eq!(path(""), "/v1/logs?lines=1000&output=short&colour=1");
        assert_eq!(
            path("web db -n 5 -o json"),
            "/v1/logs?unit=web&unit=db&lines=5&output=json"
        );
        assert_eq!(path("--since -1h"), "/v1/logs?since=-1h&output=short&colour=1");
        assert_eq!(
            path("-f --boot"),
            "/v1/logs?lines=10&output=short&follow=1&boot=1&colour=1"
        );
        assert_eq!(
            path("--until 10_min_ago --grep a+b&c=é -p err -n all -o export"),
            "/v1/logs?until=10%20min%20ago&grep=a%2Bb%26c%3D%C3%A9&priority=err&output=export"
        );
    }

    fn body(answer: &str) -> io::Result<String> {
        let mut text = String::new();
        let mut answer = Answer::begin(answer.as_bytes())?;
        answer.read_to_string(&mut text)?;
        Ok(format!("{} {text}", answer.status))
    }

    #[test]
    fn a_whole_answer_is_read_and_one_that_breaks_off_is_an_error() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n4;x=y\r\n\r\ntw\r\n0\r\n\r\n";
        assert_eq!(body(chunked).unwrap(), "200 one\r\ntw");
        let counted = "HTTP/1.1 404 No\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(body(counted).unwrap(), "404 abc");
        assert_eq!(body("HTTP/1.0 200 OK\r\n\r\nto the end").unwrap(), "200 to the end");
        for cut in 1..chunked.len() - 5 {
            assert!(body(&chunked[..cut]).is_err(), "{cut}");
        }
        assert!(body(&counted[..counted.len() - 1]).is_err());
        assert!(body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").is_err());
    }
}
