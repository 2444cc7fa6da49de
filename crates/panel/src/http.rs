//! A request and an answer as values, so that what the panel does can be told apart from the network.

use std::net::IpAddr;

use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;

/// Names and values, of a query or of a form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// Reads `application/x-www-form-urlencoded`; `None` if it is not UTF-8.
    pub fn parse(text: &str) -> Option<Fields> {
        let decode = |part: &str| {
            let spaced = part.replace('+', " ");
            percent_decode_str(&spaced)
                .decode_utf8()
                .ok()
                .map(|text| text.into_owned())
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        pairs.collect::<Option<Vec<_>>>().map(Fields)
    }

    /// Reads `multipart/form-data` (RFC 7578), a file's content being its field's value; `None` if it is broken or not UTF-8.
    pub fn parse_multipart(kind: &str, body: &[u8]) -> Option<Fields> {
        let boundary = kind.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?;
        let mark = format!("\r\n--{}", boundary.trim_matches('"'));
        let text = format!("\r\n{}", std::str::from_utf8(body).ok()?);
        let mut fields = Vec::new();
        // What stands before the first mark and after the last is no field.
        let mut parts = text.split(mark.as_str()).skip(1);
        loop {
            let part = parts.next()?;
            if part.starts_with("--") {
                return Some(Fields(fields));
            }
            let (head, value) = part.strip_prefix("\r\n")?.split_once("\r\n\r\n")?;
            let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
            let (_, told) = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-disposition"))?;
            let name = told.split(';').find_map(|part| part.trim().strip_prefix("name="))?;
            fields.push((name.trim_matches('"').to_owned(), value.to_owned()));
        }
    }

    /// The first value of that name; empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// Every value of that name.
    pub fn all(&self, name: &str) -> Vec<String> {
        let found = self.0.iter().filter(|(own, _)| own == name);
        found.map(|(_, value)| value.clone()).collect()
    }
}

/// A request, whole.
#[derive(Debug, Clone)]
pub struct Request {
    /// How it is asked.
    pub method: Method,
    /// The path, as it was sent.
    pub path: String,
    /// The path's parts, decoded.
    pub parts: Vec<String>,
    /// The query.
    pub query: Fields,
    /// The body, if it is a form.
    pub form: Fields,
    /// The body.
    pub body: Bytes,
    /// The head.
    pub headers: HeaderMap,
    /// Who asks.
    pub peer: IpAddr,
}

impl Request {
    /// Reads a request; `None` if a part of it is not UTF-8.
    pub fn new(method: Method, uri: &Uri, headers: HeaderMap, body: Bytes, peer: IpAddr) -> Option<Request> {
        let parts = uri.path().split('/').filter(|part| !part.is_empty());
        let parts = parts.map(|part| {
            percent_decode_str(part)
                .decode_utf8()
                .ok()
                .map(|text| text.into_owned())
        });
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let form = match kind {
            Some(kind) if kind.starts_with("application/x-www-form-urlencoded") => {
                Fields::parse(std::str::from_utf8(&body).ok()?)?
            }
            Some(kind) if kind.starts_with("multipart/form-data") => Fields::parse_multipart(kind, &body)?,
            _ => Fields::default(),
        };
        Some(Request {
            path: uri.path().to_owned(),
            parts: parts.collect::<Option<Vec<_>>>()?,
            query: Fields::parse(uri.query().unwrap_or_default())?,
            method,
            form,
            body,
            headers,
            peer,
        })
    }

    /// A field of the head; empty if there is none.
    pub fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// A cookie.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        cookie(&self.headers, name)
    }
}

/// A cookie in a request's head.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter();
    let cookies = all.filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(own, _)| *own == name).map(|(_, value)| value)
}

/// A body.
#[derive(Debug)]
pub enum Body {
    /// Bytes.
    Whole(Bytes),
    /// Parts, as they come.
    Stream(mpsc::Receiver<Bytes>),
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The head, but for what every answer has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Body,
}

impl Response {
    /// An answer of this media type.
    pub fn new(status: u16, kind: &'static str, body: impl Into<Bytes>) -> Response {
        Response {
            status,
            headers: vec![(header::CONTENT_TYPE, HeaderValue::from_static(kind))],
            body: Body::Whole(body.into()),
        }
    }

    /// A page.
    pub fn page(status: u16, text: String) -> Response {
        Response::new(status, "text/html; charset=utf-8", text)
    }

    /// Text.
    pub fn text(status: u16, text: impl Into<String>) -> Response {
        Response::new(status, "text/plain; charset=utf-8", text.into())
    }

    /// JSON.
    pub fn json(status: u16, value: &serde_json::Value) -> Response {
        Response::new(status, "application/json", format!("{value}\n"))
    }

    /// The same for a program: where a sentence says why something is refused, JSON has it, as the API's document says.
    #[must_use]
    pub fn for_a_program(self) -> Response {
        let is_text = |(name, value): &(HeaderName, HeaderValue)| {
            *name == header::CONTENT_TYPE && value.as_bytes().starts_with(b"text/plain")
        };
        match &self.body {
            Body::Whole(text) if self.status >= 400 && self.headers.iter().any(is_text) => {
                let error = String::from_utf8_lossy(text);
                let mut answer = Response::json(self.status, &serde_json::json!({ "error": error.trim_end() }));
                answer
                    .headers
                    .extend(self.headers.into_iter().filter(|field| !is_text(field)));
                answer
            }
            _ => self,
        }
    }

    /// To another page, which is asked for by GET.
    pub fn see(path: &str) -> Response {
        Response::text(303, "").with(header::LOCATION, path)
    }

    /// A stream of events for the browser.
    pub fn events(parts: mpsc::Receiver<Bytes>) -> Response {
        let mut answer = Response::new(200, "text/event-stream", "");
        answer.body = Body::Stream(parts);
        answer
    }

    /// With one more field in its head; a value that no head can hold is left out.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &str) -> Response {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// The fields that every answer has: nothing but the panel's own files is loaded, nothing is framed, guessed or kept.
    pub fn guard(headers: &mut HeaderMap) {
        const GUARD: [(&str, &str); 8] = [
            (
                "content-security-policy",
                "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; \
                 form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            ),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            (
                "permissions-policy",
                "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
            ),
            ("strict-transport-security", "max-age=31536000"),
        ];
        for (name, value) in GUARD {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let kept = headers.contains_key(header::CACHE_CONTROL);
        if !kept {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_browsers_write_it() {
        let form = Fields::parse("a=1&b=x+y%26z&a=2&empty=&%C3%A4=%F0%9F%90%84").unwrap();
        assert_eq!((form.get("a"), form.get("b"), form.get("ä")), ("1", "x y&z", "🐄"));
        assert_eq!(
            (form.all("a"), form.get("none")),
            (vec!["1".to_owned(), "2".to_owned()], "")
        );
        assert_eq!(Fields::parse("a=%FF"), None);
    }

    #[test]
    fn a_program_is_refused_in_json_and_a_browser_in_words() {
        let refused = || Response::text(429, "Too many.\n").with(header::RETRY_AFTER, "3");
        let answer = refused().for_a_program();
        let Body::Whole(body) = &answer.body else {
            panic!("{answer:?}")
        };
        assert_eq!(body.as_ref(), b"{\"error\":\"Too many.\"}\n");
        let fields: Vec<&str> = answer
            .headers
            .iter()
            .map(|(_, value)| value.to_str().unwrap())
            .collect();
        assert_eq!((answer.status, fields), (429, vec!["application/json", "3"]));
        let found = Response::text(200, "as it is").for_a_program();
        assert!(matches!(found.body, Body::Whole(text) if text.as_ref() == b"as it is"));
    }

    #[test]
    fn a_form_with_a_file_is_read_and_a_broken_one_is_not() {
        let kind = "multipart/form-data; boundary=\"xX\"";
        let body = "--xX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--xX\r\ncontent-disposition: form-data; name=\"file\"; \
                    filename=\"people.csv\"\r\nContent-Type: text/csv\r\n\r\nuid\r\n--ada\r\n\r\n--xX--\r\n";
        let form = Fields::parse_multipart(kind, body.as_bytes()).unwrap();
        assert_eq!((form.get("a"), form.get("file")), ("1", "uid\r\n--ada\r\n"));
        for broken in [&body[..body.len() - 4], "", "--xX--", "--xX\r\n\r\n--xX--"] {
            let read = Fields::parse_multipart(kind, broken.as_bytes());
            assert!(read.is_none() || broken == "--xX--", "{broken}");
        }
        assert_eq!(Fields::parse_multipart("multipart/form-data", body.as_bytes()), None);
    }
}
