//! The control API's transport: HTTP/1.1 on a Unix socket, callers known by the kernel's word. What a request means is
//! the supervisor's business, but for logs: those are read beside it ([`crate::log::api`]).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use cairn_api::{Endpoint, Route, Scope};
use cairn_unit::{ControlScope, Manifest};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::error::Error;
use crate::events::Events;
use crate::log::api::Api;

/// The most bytes of a request's body.
const BODY: usize = 256 << 10;
/// The header with the name of the person for whom a unit asks.
const ACTOR: &str = "cairn-actor";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// What it may ask.
    pub(crate) scope: Scope,
    /// What it is called.
    pub(crate) name: String,
}

impl Caller {
    /// The name with that of the person for whom it asks, if it told one that can be shown.
    fn named(&self, actor: Option<&[u8]>) -> String {
        let actor = actor.and_then(|bytes| std::str::from_utf8(bytes).ok());
        match actor.filter(|text| !text.is_empty() && text.len() <= 128 && !text.chars().any(char::is_control)) {
            Some(person) => format!("{person} ({})", self.name),
            None => self.name.clone(),
        }
    }
}

/// Who may ask what: root everything, a unit what its file grants, anybody else on the appliance what everybody may know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Callers(Arc<BTreeMap<u32, Caller>>);

impl Callers {
    /// Those of an appliance.
    pub(crate) fn new(manifest: &Manifest) -> Callers {
        let granted = manifest.units.iter().filter_map(|(name, unit)| {
            let scope = match unit.unit.sandbox.control? {
                ControlScope::Observe => Scope::Observe,
                ControlScope::Operate => Scope::Operate,
                ControlScope::Own => Scope::Own,
            };
            let name = name.to_string();
            Some((crate::address::id_base(unit.index) >> 16, Caller { scope, name }))
        });
        Callers(Arc::new(granted.collect()))
    }

    /// The caller with this id on the host.
    fn of(&self, uid: u32) -> Caller {
        let other = |scope, name: &str| Caller {
            scope,
            name: name.to_owned(),
        };
        match (uid, self.0.get(&(uid >> 16))) {
            (0, _) => other(Scope::Root, "root"),
            (1..=0xffff, _) | (_, None) => other(Scope::Observe, &format!("uid {uid}")),
            (_, Some(unit)) => unit.clone(),
        }
    }
}

/// A request, reduced to what counts.
#[derive(Debug)]
pub struct Asked {
    /// What is asked for.
    pub endpoint: Endpoint,
    /// The values in its path.
    pub values: Vec<String>,
    /// The values in its query, decoded.
    pub query: Vec<(String, String)>,
    /// Its body; empty where the route has none.
    pub body: Vec<u8>,
    /// Who asks, for people to read.
    pub who: String,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answered>,
}

impl Asked {
    /// A value of the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as what the route takes; otherwise what is wrong with it.
    pub fn body<T: serde::de::DeserializeOwned>(&self) -> Result<T, Answered> {
        serde_json::from_slice(&self.body).map_err(|e| Answered::error(400, &format!("the request's body: {e}")))
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// The media type.
    pub kind: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// A file whose text is the body instead.
    pub file: Option<std::fs::File>,
}

impl Answered {
    /// JSON.
    pub fn json(status: u16, value: &serde_json::Value) -> Answered {
        let mut body = value.to_string().into_bytes();
        body.push(b'\n');
        Answered {
            status,
            kind: "application/json",
            body,
            file: None,
        }
    }

    /// A file as it is.
    pub fn file(file: std::fs::File) -> Answered {
        Answered {
            status: 200,
            kind: "application/octet-stream",
            body: Vec::new(),
            file: Some(file),
        }
    }

    /// A value as JSON.
    pub fn of<T: serde::Serialize>(status: u16, value: &T) -> Answered {
        match serde_json::to_value(value) {
            Ok(value) => Answered::json(status, &value),
            Err(e) => Answered::error(500, &e.to_string()),
        }
    }

    /// A refusal.
    pub fn error(status: u16, why: &str) -> Answered {
        Answered::json(status, &serde_json::json!({ "error": why }))
    }
}

/// Makes the socket.
pub fn listen(path: &Path) -> Result<OwnedFd, Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let make = || -> std::io::Result<OwnedFd> {
        let _ = std::fs::remove_file(path);
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        Ok(listener.into())
    };
    make().map_err(Error::io("listen on", path))
}

/// Serves for ever, at most 32 callers at a time.
pub(crate) async fn serve<M: Send + 'static>(
    socket: OwnedFd,
    callers: Callers,
    to: UnboundedSender<M>,
    wrap: fn(Asked) -> M,
    logs: Api,
    events: Events,
) {
    let listener = std::os::unix::net::UnixListener::from(socket);
    let ready = listener
        .set_nonblocking(true)
        .and_then(|()| UnixListener::from_std(listener));
    let Ok(listener) = ready else { return };
    let places = Arc::new(Semaphore::new(32));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let Ok(who) = stream.peer_cred() else { continue };
        let (to, logs, events) = (to.clone(), logs.clone(), events.clone());
        let caller = callers.of(who.uid());
        tokio::spawn(async move {
            let long = Arc::new(AtomicBool::new(false));
            let told = long.clone();
            let service = service_fn(move |request| {
                handle(
                    request,
                    caller.clone(),
                    to.clone(),
                    wrap,
                    logs.clone(),
                    events.clone(),
                    told.clone(),
                )
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.keep_alive(false).max_buf_size(16 << 10);
            let late = async {
                loop {
                    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
                    if !long.load(Ordering::Relaxed) {
                        return;
                    }
                }
            };
            tokio::select! {
                _ = server.serve_connection(Stream(stream), service) => {}
                () = late => {}
            }
            drop(place);
        });
    }
}

/// The route of a request and the values in its path, or why this caller does not get further.
pub(crate) fn admit<'a>(method: &str, path: &'a str, scope: Scope) -> Result<(&'static Route, Vec<&'a str>), Answered> {
    let Some((route, values)) = cairn_api::find(method, path) else {
        let why = format!("there is nothing at {path}; GET /v1/openapi.json tells what there is");
        return Err(Answered::error(404, &why));
    };
    if route.method.as_str() != method {
        let why = format!("{} is asked by {}", route.path, route.method.as_str());
        return Err(Answered::error(405, &why));
    }
    if scope < route.scope {
        return Err(Answered::error(
            403,
            &format!("only {} may ask for this", route.scope.who()),
        ));
    }
    Ok((route, values))
}

/// Why a unit does not get what it asks, if that is its own end: nobody could ask it to start again.
fn own_end(caller: &Caller, endpoint: Endpoint, values: &[&str]) -> Option<String> {
    let name = caller.name.as_str();
    let word = match endpoint {
        Endpoint::Stop => "stop",
        Endpoint::Disable => "disable",
        _ => return None,
    };
    (caller.scope < Scope::Root && values.first() == Some(&name)).then(|| {
        format!("{name} would not be there to be asked to start again; `cairn {word} {name}` on the console does it")
    })
}

async fn handle<M>(
    request: Request<Incoming>,
    caller: Caller,
    to: UnboundedSender<M>,
    wrap: fn(Asked) -> M,
    logs: Api,
    events: Events,
    long: Arc<AtomicBool>,
) -> Result<Response<Content>, Infallible> {
    let answered = |answered: Answered| {
        respond(
            answered.status,
            answered.kind,
            Content::Whole(Some(answered.body.into())),
        )
    };
    let refuse = |status: u16, why: &str| Ok(answered(Answered::error(status, why)));
    let (head, body) = request.into_parts();
    let uri = &head.uri;
    let (route, values) = match admit(head.method.as_str(), uri.path(), caller.scope) {
        Ok(admitted) => admitted,
        Err(refused) => return Ok(answered(refused)),
    };
    if let Some(why) = own_end(&caller, route.endpoint, &values) {
        return refuse(409, &why);
    }
    let query = uri.query().unwrap_or_default();
    match route.endpoint {
        Endpoint::Logs => {
            return Ok(match logs.answer(query).await {
                Ok((kind, stream)) => {
                    long.store(true, Ordering::Relaxed);
                    respond(200, kind, Content::Stream(stream))
                }
                Err(refused) => answered(refused),
            });
        }
        Endpoint::Events => {
            long.store(true, Ordering::Relaxed);
            return Ok(respond(200, route.media, Content::Stream(events.subscribe())));
        }
        _ => {}
    }
    let body = match route.body {
        None => Vec::new(),
        Some(_) => match http_body_util::Limited::new(body, BODY).collect().await {
            Ok(body) => body.to_bytes().to_vec(),
            Err(_) => return refuse(413, &format!("the request's body is longer than {} KiB", BODY >> 10)),
        },
    };
    let (answer, told) = oneshot::channel();
    let _ = to.send(wrap(Asked {
        body,
        who: caller.named(head.headers.get(ACTOR).map(|value| value.as_bytes())),
        endpoint: route.endpoint,
        values: values.into_iter().map(str::to_owned).collect(),
        query: crate::log::api::pairs(query),
        answer,
    }));
    match told.await {
        Ok(Answered {
            status,
            kind,
            file: Some(file),
            ..
        }) => {
            long.store(true, Ordering::Relaxed);
            Ok(respond(status, kind, Content::Stream(parts_of(file))))
        }
        Ok(answer) => Ok(answered(answer)),
        Err(_) => refuse(503, "the manager is going away"),
    }
}

fn respond(status: u16, kind: &'static str, content: Content) -> Response<Content> {
    let mut response = Response::new(content);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}

/// The parts of a body that is being made. An error ends it in a way that the caller sees.
pub(crate) type Parts = mpsc::Receiver<std::io::Result<Vec<u8>>>;

/// A file's parts, read in a thread of its own as fast as they are taken.
fn parts_of(mut file: std::fs::File) -> Parts {
    use std::io::Read as _;
    let (to, parts) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        let mut block = vec![0; 1 << 16];
        loop {
            let part = match file.read(&mut block) {
                Ok(0) => return,
                Ok(length) => Ok(block[..length].to_vec()),
                Err(e) => Err(e),
            };
            let ended = part.is_err();
            if to.blocking_send(part).is_err() || ended {
                return;
            }
        }
    });
    parts
}

/// A body.
enum Content {
    Whole(Option<Bytes>),
    Stream(Parts),
}

impl Body for Content {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match &mut *self {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Stream(parts) => {
                let next = parts.poll_recv(context);
                next.map(|part| part.map(|bytes| bytes.map(|bytes| Frame::data(bytes.into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}

/// A Unix stream as hyper reads and writes it.
struct Stream(UnixStream);

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut block = [0u8; 4096];
        let room = into.remaining().min(block.len());
        let mut buffer = ReadBuf::new(&mut block[..room]);
        match Pin::new(&mut self.0).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => {
                into.put_slice(buffer.filled());
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_may_ask_what_its_file_grants_and_no_other_sandbox_more_than_everybody() {
        let manifest = crate::testing::manifest(&[
            ("a", r#"{"sandbox":{"control":"own","reason":"x"}}"#),
            ("b", r#"{"sandbox":{"control":"operate","reason":"x"}}"#),
            ("c", "{}"),
        ]);
        let callers = Callers::new(&manifest);
        let scope = |uid| callers.of(uid).scope;
        let base = |unit: u32| crate::address::id_base(unit);
        assert_eq!(scope(0), Scope::Root);
        assert_eq!(scope(1000), Scope::Observe);
        assert_eq!((scope(base(0)), scope(base(0) + 65_535)), (Scope::Own, Scope::Own));
        assert_eq!(scope(base(1) + 101), Scope::Operate);
        assert_eq!(scope(base(2)), Scope::Observe);
        let may = |method, path, uid| admit(method, path, scope(uid)).is_ok();
        assert!(may("POST", "/v1/units/a/restart", base(1)) && !may("POST", "/v1/setup/apply", base(1)));
        assert!(may("POST", "/v1/setup/apply", base(0)) && !may("POST", "/v1/manager/upgrade", base(0)));
        assert!(!may("GET", "/v1/logs", base(2)) && may("GET", "/v1/status", base(2)));
    }

    #[test]
    fn a_unit_does_not_end_itself_and_whoever_is_at_the_console_does() {
        let of = |scope, name: &str| Caller {
            scope,
            name: name.into(),
        };
        let panel = of(Scope::Own, "panel");
        let why = own_end(&panel, Endpoint::Stop, &["panel"]).unwrap();
        assert!(why.contains("`cairn stop panel`"), "{why}");
        assert!(own_end(&panel, Endpoint::Disable, &["panel"]).is_some());
        for (caller, endpoint, unit) in [
            (&panel, Endpoint::Restart, "panel"),
            (&panel, Endpoint::Stop, "wiki"),
            (&of(Scope::Root, "root"), Endpoint::Stop, "root"),
        ] {
            assert_eq!(own_end(caller, endpoint, &[unit]), None, "{unit}");
        }
    }

    #[test]
    fn the_person_for_whom_a_unit_asks_is_noted_if_it_can_be_shown() {
        let caller = Caller {
            scope: Scope::Own,
            name: "panel".into(),
        };
        let named = |actor: &str| caller.named(Some(actor.as_bytes()));
        assert_eq!(named("anna"), "anna (panel)");
        assert_eq!(caller.named(None), "panel");
        for bad in ["", "a\nb", &"a".repeat(129)] {
            assert_eq!(named(bad), "panel");
        }
        assert_eq!(caller.named(Some(b"\xff")), "panel");
    }
}
