//! `http-01` (RFC 8555, 8.3): a page for each token. A reverse proxy hands on what is asked below [`BELOW`].

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Answers, bind};
use crate::trouble::Trouble;

/// Where the pages are.
const BELOW: &str = "/.well-known/acme-challenge/";

/// The longest head of a request that is read.
const LONGEST: usize = 8 << 10;

/// Answers at an address for as long as the tasks are kept, 32 callers at a time.
pub(super) async fn listen(at: SocketAddr, answers: Answers, tasks: &mut JoinSet<()>) -> Result<SocketAddr, Trouble> {
    let (listener, own) = bind(at).await?;
    let places = Arc::new(Semaphore::new(32));
    tasks.spawn(async move {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                // Too many open files, most likely: those who are served will close theirs.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let answers = answers.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(Duration::from_secs(10), serve(stream, &answers)).await;
                drop(place);
            });
        }
    });
    Ok(own)
}

async fn serve(mut stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < LONGEST {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let (status, body) = answer(&String::from_utf8_lossy(&head), answers);
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

fn answer(head: &str, answers: &Answers) -> (&'static str, String) {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let page = path.strip_prefix(BELOW).and_then(|token| {
        let pages = answers.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.get(token).cloned()
    });
    match (method, page) {
        ("GET", Some(page)) => ("200 OK", page),
        ("HEAD", Some(_)) => ("200 OK", String::new()),
        ("GET" | "HEAD", None) => ("404 Not Found", String::new()),
        _ => ("405 Method Not Allowed", String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_given_for_its_token_alone_and_only_while_it_is_there() {
        let answers = Answers::default();
        answers.page("abc", Some("abc.key".into()));
        let ask = |line: &str| answer(&format!("{line} HTTP/1.1\r\nHost: a.example\r\n\r\n"), &answers);
        assert_eq!(
            ask("GET /.well-known/acme-challenge/abc"),
            ("200 OK", "abc.key".to_owned())
        );
        assert_eq!(ask("GET /.well-known/acme-challenge/abc?x").0, "200 OK");
        for none in [
            "GET /.well-known/acme-challenge/",
            "GET /.well-known/acme-challenge/../abc",
            "GET /abc",
            "GET ",
        ] {
            assert_eq!(ask(none), ("404 Not Found", String::new()), "{none}");
        }
        assert_eq!(ask("POST /.well-known/acme-challenge/abc").0, "405 Method Not Allowed");
        answers.page("abc", None);
        assert_eq!(ask("GET /.well-known/acme-challenge/abc").0, "404 Not Found");
    }
}
