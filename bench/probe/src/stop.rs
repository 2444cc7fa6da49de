//! Stopping many units of ours at once, as an owner does: by the choices in site.toml.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use crate::now;

const CONTROL: &str = "/run/cairn/control.sock";

fn ask(request: &str) -> Result<BufReader<UnixStream>, Box<dyn Error>> {
    let mut stream = UnixStream::connect(CONTROL)?;
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: cairn\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if answer.read_line(&mut line)? == 0 {
            return Err("the manager does not answer".into());
        }
    }
    Ok(answer)
}

/// Puts the choices in force and prints how long it is until so many units have stopped, in nanoseconds.
pub(crate) fn measure(units: usize) -> Result<(), Box<dyn Error>> {
    let events = ask("GET /v1/events")?;
    let start = now();
    ask("POST /v1/reload")?.read_to_end(&mut Vec::new())?;
    let stopped = |line: &String| line.contains("\"state\":\"stopped\"");
    let mut left = events.lines().map_while(Result::ok).filter(stopped);
    for told in 0..units {
        left.next()
            .ok_or_else(|| format!("only {told} of {units} units stopped"))?;
    }
    println!("{}", now() - start);
    Ok(())
}
