//! One way to read a URL from an offset: `http://`, `https://` and `file://`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

/// What went wrong with one request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The server (or the folder) does not have it.
    #[error("{url} does not exist there")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// The server answered with an error.
    #[error("{url}: the server answered with status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// No answer, or it broke off.
    #[error("{url}: {reason}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why.
        reason: String,
    },
    /// Not an address that can be read.
    #[error("{url}: only http://, https:// and file:// addresses can be read")]
    Scheme {
        /// What was asked for.
        url: String,
    },
}

impl TransportError {
    /// Whether the same request may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429 || *status == 408,
            Self::NotFound { .. } | Self::Scheme { .. } => false,
        }
    }
}

/// The content of a URL from `start` on.
pub struct Body {
    /// The offset of the first byte that `reader` gives: 0 when the server ignored the range.
    pub start: u64,
    /// The bytes.
    pub reader: Box<dyn Read + Send>,
}

/// Reads URLs. The proxy variables of the environment hold for http and https.
#[derive(Debug, Clone)]
pub struct Transport {
    agent: ureq::Agent,
}

impl Default for Transport {
    fn default() -> Self {
        Self::new(Duration::from_secs(30))
    }
}

impl Transport {
    /// A transport that gives up on a peer that is silent for `patience`.
    pub fn new(patience: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .user_agent(concat!("cairn-imagegen/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into() }
    }

    /// Opens `url`, from byte `from` on where the server can do that.
    pub fn open(&self, url: &str, from: u64) -> Result<Body, TransportError> {
        if let Some(path) = url.strip_prefix("file://") {
            return open_file(url, path, from);
        }
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(TransportError::Scheme { url: url.into() });
        }
        let unreachable = |e: ureq::Error| TransportError::Unreachable {
            url: url.into(),
            reason: e.to_string(),
        };
        let mut request = self.agent.get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let response = request.call().map_err(unreachable)?;
        let start = match response.status().as_u16() {
            200 => 0,
            206 => content_range_start(response.headers().get("content-range")).unwrap_or(from),
            404 | 410 => return Err(TransportError::NotFound { url: url.into() }),
            // Nothing lies past `from`: the partial file is not a prefix of this one. Take it from the start.
            416 if from > 0 => return self.open(url, 0),
            status => {
                return Err(TransportError::Status {
                    url: url.into(),
                    status,
                });
            }
        };
        if start != 0 && start != from {
            return self.open(url, 0);
        }
        Ok(Body {
            start,
            reader: Box::new(response.into_body().into_reader()),
        })
    }

    /// The whole of a small file, at most `limit` bytes.
    pub fn read(&self, url: &str, limit: u64) -> Result<Vec<u8>, TransportError> {
        let unreachable = |reason: String| TransportError::Unreachable {
            url: url.into(),
            reason,
        };
        let mut bytes = Vec::new();
        let body = self.open(url, 0)?;
        body.reader
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| unreachable(e.to_string()))?;
        if bytes.len() as u64 > limit {
            return Err(unreachable(format!(
                "it is larger than {limit} bytes, which this kind of file never is"
            )));
        }
        Ok(bytes)
    }
}

fn open_file(url: &str, path: &str, from: u64) -> Result<Body, TransportError> {
    let unreachable = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => TransportError::NotFound { url: url.into() },
        _ => TransportError::Unreachable {
            url: url.into(),
            reason: e.to_string(),
        },
    };
    let mut file = File::open(PathBuf::from(path)).map_err(unreachable)?;
    let length = file.metadata().map_err(unreachable)?.len();
    let start = if from <= length { from } else { 0 };
    file.seek(SeekFrom::Start(start)).map_err(unreachable)?;
    Ok(Body {
        start,
        reader: Box::new(file),
    })
}

/// The first offset of `Content-Range: bytes 5-9/10` (RFC 9110, 14.4).
fn content_range_start(value: Option<&ureq::http::HeaderValue>) -> Option<u64> {
    let range = value?.to_str().ok()?.strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}
