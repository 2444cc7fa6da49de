//! The HTTP client below the ACME client: ureq in threads that may wait. It bounds time and size, turns what is no answer of an
//! authority into a sentence, keeps `Retry-After` with the refusal that it came with, and notes the server's clock.

use std::collections::HashMap;
use std::future::Future;
use std::io::Read as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient, Problem};
use jiff::{SignedDuration, Timestamp};
use ureq::http::{self, Request, Response, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::trouble::{Kind, Trouble};

/// The longest answer that is read. A chain takes some kilobytes.
const LONGEST: u64 = 1 << 20;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest that a server's wish to be left alone is obeyed for.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What was seen in answers.
#[derive(Default)]
struct Seen {
    /// How far the server's clock is ahead of ours.
    ahead: Option<SignedDuration>,
    /// Chains by their address, with the addresses of the other chains for the same certificate.
    chains: HashMap<String, (String, Vec<String>)>,
}

/// The client. Copies share what was seen.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    now: fn() -> Timestamp,
    seen: Arc<Mutex<Seen>>,
}

/// The roots of a PEM file, or the system's.
///
/// # Errors
/// The file cannot be read or has none.
pub fn trusted(file: Option<&Path>) -> Result<RootCerts, String> {
    let Some(path) = file else {
        return Ok(RootCerts::PlatformVerifier);
    };
    let text = std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let all = parse_pem(&text).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let all: Vec<Certificate<'static>> = all.collect();
    match all.is_empty() {
        true => Err(format!("{} has no certificate in PEM", path.display())),
        false => Ok(RootCerts::from(all)),
    }
}

impl Client {
    /// A client that trusts `roots` and goes by the clock `now`.
    pub fn new(roots: RootCerts, now: fn() -> Timestamp) -> Client {
        let tls = TlsConfig::builder().root_certs(roots).build();
        let config = ureq::Agent::config_builder()
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .user_agent(concat!("cairn-acme/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls);
        Client {
            agent: config.build().new_agent(),
            now,
            seen: Arc::default(),
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the server's clock was ahead of ours in its last answer.
    pub(crate) fn ahead(&self) -> Option<SignedDuration> {
        self.seen().ahead
    }

    /// A chain that came from an address, with the addresses of the other chains. It is given once.
    pub(crate) fn take_chain(&self, url: &str) -> Option<(String, Vec<String>)> {
        self.seen().chains.remove(url)
    }

    fn ask(&self, request: Request<Vec<u8>>) -> Result<Response<Full<Bytes>>, Trouble> {
        let url = request.uri().to_string();
        let answer = self.agent.run(request).map_err(|why| unreachable(&url, &why))?;
        let (parts, body) = answer.into_parts();
        let mut bytes = Vec::new();
        let mut reader = body.into_with_config().limit(LONGEST).reader();
        let read = reader.read_to_end(&mut bytes);
        read.map_err(|why| Trouble::unreachable(format!("{url}: the answer broke off: {why}")))?;
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(date) = text(header::DATE).and_then(time) {
            self.seen().ahead = Some(date.duration_since((self.now)()));
        }
        let kind = text(header::CONTENT_TYPE).unwrap_or_default();
        if parts.status.is_success() && kind.starts_with("application/pem-certificate-chain") {
            let links = parts.headers.get_all(header::LINK);
            let others = links.iter().filter_map(|link| alternate(link.to_str().ok()?)).collect();
            let chain = String::from_utf8_lossy(&bytes).into_owned();
            self.seen().chains.insert(url.clone(), (chain, others));
        }
        if parts.status.is_client_error() || parts.status.is_server_error() {
            let wait = text(header::RETRY_AFTER).and_then(|value| retry_after(value, (self.now)()));
            let Ok(problem) = serde_json::from_slice::<Problem>(&bytes) else {
                let mut trouble = Trouble::unreachable(format!("{url} answers {}", parts.status));
                trouble.not_before = wait;
                return Err(trouble);
            };
            // Others have to reach the ACME client, which tries again by itself where it can.
            if wait.is_some() || parts.status == http::StatusCode::TOO_MANY_REQUESTS {
                let mut trouble = Trouble::from(problem);
                trouble.kind = Kind::Limited;
                trouble.not_before = wait;
                return Err(trouble);
            }
        }
        Ok(Response::from_parts(parts, Full::new(bytes.into())))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let request = Request::from_parts(parts, body.to_bytes().to_vec());
            let asked = tokio::task::spawn_blocking(move || client.ask(request)).await;
            match asked {
                Ok(Ok(answer)) => Ok(BytesResponse::from(answer)),
                Ok(Err(trouble)) => Err(Error::Other(Box::new(trouble))),
                Err(why) => Err(Error::Other(Box::new(why))),
            }
        })
    }
}

fn unreachable(url: &str, why: &ureq::Error) -> Trouble {
    let host = url.split('/').nth(2).unwrap_or(url);
    let mut told = why.to_string();
    // A chain of causes is where a resolver or TLS says what it was.
    let mut source = std::error::Error::source(why);
    while let Some(inner) = source {
        let text = inner.to_string();
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        source = inner.source();
    }
    let lower = told.to_lowercase();
    let help = if lower.contains("not valid yet") || lower.contains("notvalidyet") || lower.contains("expired") {
        "; look whether the appliance's clock is right"
    } else if lower.contains("certificate") {
        "; the server's certificate is not trusted: set `trust` to its root if it is your own"
    } else {
        "; it is tried again by itself"
    };
    Trouble::unreachable(format!("{host} does not answer: {told}{help}"))
}

/// The address of a `Link` header, if it is another chain's (RFC 8555, 7.4.2).
fn alternate(link: &str) -> Option<String> {
    let (url, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let relation = rest
        .split(';')
        .any(|part| matches!(part.trim(), "rel=\"alternate\"" | "rel=alternate"));
    relation.then(|| url.to_owned())
}

/// A time as HTTP writes it (RFC 9110, 5.6.7).
fn time(text: &str) -> Option<Timestamp> {
    let read = jiff::fmt::rfc2822::DateTimeParser::new();
    read.parse_timestamp(text).ok()
}

/// The moment that a `Retry-After` names: seconds or a date (RFC 9110, 10.2.3).
fn retry_after(text: &str, now: Timestamp) -> Option<Timestamp> {
    let longest = now.checked_add(LONGEST_WAIT).ok()?;
    let named = match text.trim().parse::<u32>() {
        Ok(seconds) => now.checked_add(SignedDuration::from_secs(seconds.into())).ok()?,
        Err(_) => time(text.trim())?,
    };
    Some(named.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_be_left_alone_is_read_in_both_forms_and_bounded() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let read = |text: &str| retry_after(text, now).map(|at| at.to_string());
        assert_eq!(read("120").as_deref(), Some("2026-03-01T12:02:00Z"));
        assert_eq!(
            read("Sun, 01 Mar 2026 13:00:00 GMT").as_deref(),
            Some("2026-03-01T13:00:00Z")
        );
        assert_eq!(read("4000000000").as_deref(), Some("2026-03-08T12:00:00Z"));
        assert_eq!(read("soon"), None);
    }

    #[test]
    fn only_links_to_other_chains_are_taken() {
        let one = alternate("<https://ca.example/c/1/1>;rel=\"alternate\"");
        assert_eq!(one.as_deref(), Some("https://ca.example/c/1/1"));
        assert_eq!(alternate("<https://ca.example/dir>;rel=\"index\""), None);
        assert_eq!(alternate("nonsense"), None);
    }
}
