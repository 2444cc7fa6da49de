//! A folder as a web server gives it: files, and stretches of files, to whoever asks on the loopback.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder that is served for as long as the test runs.
#[derive(Debug)]
pub struct Served {
    /// The port on the loopback.
    pub port: u16,
    sent: Arc<AtomicU64>,
}

impl Served {
    /// Serves it.
    ///
    /// # Errors
    /// No port is free.
    pub fn folder(folder: &Path) -> io::Result<Served> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (port, sent) = (listener.local_addr()?.port(), Arc::new(AtomicU64::new(0)));
        let (folder, counted) = (folder.to_owned(), sent.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Head and body are written apart: without this the second waits for the client's acknowledgement of the first.
                let _ = stream.set_nodelay(true);
                let (folder, counted) = (folder.clone(), counted.clone());
                std::thread::spawn(move || {
                    // Who goes away in the middle is not this side's trouble.
                    let _ = serve(&folder, &stream, &counted);
                });
            }
        });
        Ok(Served { port, sent })
    }

    /// The bytes of files that were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

fn serve(folder: &Path, stream: &TcpStream, sent: &AtomicU64) -> io::Result<()> {
    let mut lines = BufReader::new(stream);
    loop {
        let (mut first, mut range) = (String::new(), None);
        if lines.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            lines.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(asked) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                let (from, to) = asked.trim().split_once('-').unwrap_or_default();
                range = from.parse::<u64>().ok().zip(to.parse::<u64>().ok());
            }
        }
        let name = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
        let path: PathBuf = folder.join(name);
        let mut out = stream;
        let found = File::open(&path).ok().filter(|_| !name.contains(".."));
        let Some(mut file) = found else {
            write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        let size = file.metadata()?.len();
        let (from, length, status) = match range {
            Some((from, to)) => (from, (to + 1).min(size).saturating_sub(from), "206 Partial Content"),
            None => (0, size, "200 OK"),
        };
        file.seek(SeekFrom::Start(from))?;
        write!(out, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n")?;
        let copied = io::copy(&mut file.take(length), &mut out)?;
        sent.fetch_add(copied, Ordering::Relaxed);
    }
}
