//! Sending records to another machine's syslog: RFC 5424, over UDP (RFC 5426) or TCP (RFC 6587, octet counting).
//!
//! The store is the queue: what could not be sent stays there and is sent later. What comes faster than it can be sent, or what
//! came while the other machine was away for long, is passed over when it is more than [`BEHIND`] records, and that is said.
//! Over TCP a record counts as sent when the kernel has it: a connection that breaks may take the last ones with it.
//! A successor of a killed manager goes on where it was, and may send the last records again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use cairn_log::syslog::{Outgoing, datagram, octet_counted};
use cairn_log::{Cursor, Follow, Priority, Query, Reader, Record};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::{Logs, OWN, Store, Word};

/// So many records are taken at a time.
const BATCH: usize = 256;
/// So many records may wait; the older ones are passed over.
const BEHIND: u64 = 100_000;
/// RFC 5426: every receiver should take datagrams of this size.
const LARGEST_DATAGRAM: usize = 2048;
/// How long a connection or a write may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after a failure doubles from the first to the last.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// Between two looks for news, so that many records go together.
const GATHER: Duration = Duration::from_millis(200);

/// How it gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

/// Where records are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    transport: Transport,
    host: String,
    port: u16,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let refused =
            || format!("{text:?} is not a target: write udp://HOST:PORT or tcp://HOST:PORT (514 without PORT)");
        let (scheme, rest) = text.split_once("://").ok_or_else(refused)?;
        let transport = match scheme {
            "udp" => Transport::Udp,
            "tcp" => Transport::Tcp,
            _ => return Err(refused()),
        };
        // An IPv6 address stands in brackets.
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some("514"))),
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, Some("514")),
            },
        };
        let port = port
            .and_then(|port| port.parse().ok())
            .filter(|port| *port > 0)
            .ok_or_else(refused)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:_".contains(&b);
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(refused());
        }
        let host = host.to_owned();
        Ok(Target { transport, host, port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.transport == Transport::Udp { "udp" } else { "tcp" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// The file that says where to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    log: Option<Section>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    forward: Option<String>,
}

impl Target {
    /// What `path` says: `[log]` with `forward = "udp://HOST:514"`. Nothing, if there is no such file.
    pub(super) fn configured(path: &Path) -> Result<Option<Target>, String> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        let file: File = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let target = file.log.and_then(|log| log.forward);
        target.map(|text| text.parse()).transpose()
    }
}

/// A way to the other machine.
enum Way {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Way {
    async fn open(target: &Target) -> std::io::Result<Way> {
        let to = (target.host.as_str(), target.port);
        match target.transport {
            Transport::Tcp => Ok(Way::Tcp(TcpStream::connect(to).await?)),
            Transport::Udp => {
                let mut last = std::io::Error::other("the name has no address");
                for address in tokio::net::lookup_host(to).await? {
                    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                    let socket = UdpSocket::bind(any).await?;
                    match socket.connect(address).await {
                        Ok(()) => return Ok(Way::Udp(socket)),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    async fn send(&mut self, message: &[u8]) -> std::io::Result<()> {
        match self {
            Way::Udp(socket) => socket.send(datagram(message, LARGEST_DATAGRAM)).await.map(drop),
            Way::Tcp(stream) => {
                // A receiver says nothing; an end that has come means that what is written now would be lost.
                let mut word = [0; 64];
                let closed = tokio::select! {
                    biased;
                    read = stream.read(&mut word) => !matches!(read, Ok(1..)),
                    () = std::future::ready(()) => false,
                };
                if closed {
                    return Err(std::io::ErrorKind::ConnectionReset.into());
                }
                stream.write_all(&octet_counted(message)).await
            }
        }
    }
}

/// Records that are on their way, from the first that was not sent.
struct Queue {
    follow: Option<Follow>,
    batch: std::collections::VecDeque<Record>,
    sent: Cursor,
    saved: PathBuf,
}

impl Queue {
    fn new(reader: &Reader, store: &Store, saved: PathBuf) -> Queue {
        let text = std::fs::read_to_string(&saved).unwrap_or_default();
        let sent: Cursor = text.trim().parse().unwrap_or_default();
        // Of this boot: what an earlier one could not send is history.
        let query = Query {
            boot: Some(store.boot),
            ..Query::default()
        };
        Queue {
            follow: Some(reader.follow(&query, sent)),
            batch: std::collections::VecDeque::new(),
            sent,
            saved,
        }
    }

    /// Takes the next records from the store; false when it cannot be read.
    async fn fill(&mut self) -> bool {
        let Some(mut follow) = self.follow.take() else {
            return false;
        };
        let polled = tokio::task::spawn_blocking(move || {
            let records = follow.poll(BATCH);
            (follow, records)
        });
        let Ok((follow, records)) = polled.await else {
            return false;
        };
        self.follow = Some(follow);
        self.batch.extend(records.unwrap_or_default());
        true
    }

    fn sent(&mut self) {
        if let Some(record) = self.batch.pop_front() {
            self.sent = self.sent.max(Cursor(record.seq));
        }
        if self.batch.is_empty()
            && let Some(follow) = &self.follow
        {
            // `/run` is memory: a successor needs it, another boot does not.
            let new = self.saved.with_extension("new");
            let _ = std::fs::write(&new, follow.cursor().to_string()).and_then(|()| std::fs::rename(&new, &self.saved));
        }
    }

    /// Passes over what is too far behind `newest`; how many.
    fn pass_over(&mut self, reader: &Reader, newest: u64) -> u64 {
        let behind = newest.saturating_sub(self.sent.0.0);
        // Places of another writer are far away, and say nothing about how many records there are.
        if behind <= BEHIND || behind >= 1 << 40 || self.sent == Cursor::default() {
            return 0;
        }
        let from = Cursor(cairn_log::Seq(newest - BEHIND / 2));
        let skipped = from.0.0 - self.sent.0.0;
        self.follow = Some(reader.follow(&Query::default(), from));
        self.batch.clear();
        self.sent = from;
        skipped
    }
}

/// Sends for ever. What goes wrong is said once, until it works again.
pub(super) async fn run(target: Target, host: String, store: Store, saved: PathBuf, logs: Logs) {
    let reader = Reader::new(&store.root);
    let mut queue = Queue::new(&reader, &store, saved);
    let mut newest = store.newest.clone();
    let mut pause = PAUSES[0];
    let mut failing = false;
    loop {
        let trouble = match tokio::time::timeout(PATIENCE, Way::open(&target)).await {
            Ok(Ok(mut way)) => {
                let sent = send_all(&mut way, &mut queue, &mut newest, &host, || {
                    pause = PAUSES[0];
                    if std::mem::take(&mut failing) {
                        logs.say(Word::new(OWN, Priority::Info, &format!("logs reach {target} again")));
                    }
                });
                match sent.await {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                }
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if !std::mem::replace(&mut failing, true) {
            let text = format!("logs do not reach {target}: {trouble}; what comes meanwhile is sent later");
            logs.say(Word::new(OWN, Priority::Warning, &text));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES[1]);
        let latest = *newest.borrow();
        match queue.pass_over(&reader, latest) {
            0 => {}
            count => {
                let text = format!("{count} records were not sent to {target}: it was away for too long");
                logs.say(Word::new(OWN, Priority::Warning, &text));
            }
        }
    }
}

/// Sends until that fails, or the store's writer is gone.
async fn send_all(
    way: &mut Way,
    queue: &mut Queue,
    newest: &mut tokio::sync::watch::Receiver<u64>,
    host: &str,
    mut works: impl FnMut(),
) -> std::io::Result<()> {
    let form = Outgoing { host };
    loop {
        newest.mark_unchanged();
        if queue.batch.is_empty() && !queue.fill().await {
            return Ok(());
        }
        if queue.batch.is_empty() {
            if newest.changed().await.is_err() {
                return Ok(());
            }
            tokio::time::sleep(GATHER).await;
            continue;
        }
        while let Some(record) = queue.batch.front() {
            let message = form.message(record);
            let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
            tokio::time::timeout(PATIENCE, way.send(&message))
                .await
                .map_err(late)??;
            queue.sent();
            works();
        }
    }
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
