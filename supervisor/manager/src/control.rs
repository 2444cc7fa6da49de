//! The control API's transport: HTTP/1.1 on a Unix socket, callers known by the kernel's word. What a request means is
//! the supervisor's business, but for logs: those are read beside it ([`crate::log::api`]).

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::error::Error;
use crate::log::api::Api;

/// A request, reduced to what counts.
#[derive(Debug)]
pub struct Asked {
    /// Whether it changes something.
    pub write: bool,
    /// The path.
    pub path: String,
    /// The caller's user id.
    pub uid: u32,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answered>,
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
pub(crate) async fn serve<M: Send + 'static>(socket: OwnedFd, to: UnboundedSender<M>, wrap: fn(Asked) -> M, logs: Api) {
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
        let (to, uid, logs) = (to.clone(), who.uid(), logs.clone());
        tokio::spawn(async move {
            let long = Arc::new(AtomicBool::new(false));
            let told = long.clone();
            let service = service_fn(move |request| handle(request, uid, to.clone(), wrap, logs.clone(), told.clone()));
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

async fn handle<M>(
    request: Request<Incoming>,
    uid: u32,
    to: UnboundedSender<M>,
    wrap: fn(Asked) -> M,
    logs: Api,
    long: Arc<AtomicBool>,
) -> Result<Response<Content>, Infallible> {
    if request.method() == Method::GET && request.uri().path() == "/v1/logs" {
        return Ok(
            match logs.answer(uid, request.uri().query().unwrap_or_default()).await {
                Ok((kind, stream)) => {
                    long.store(true, Ordering::Relaxed);
                    respond(200, kind, Content::Stream(stream))
                }
                Err(refused) => respond(refused.status, refused.kind, Content::Whole(Some(refused.body.into()))),
            },
        );
    }
    let (answer, answered) = oneshot::channel();
    let write = match *request.method() {
        Method::GET => Some(false),
        Method::POST => Some(true),
        _ => None,
    };
    let answered = match write {
        None => Answered::error(405, "only GET and POST"),
        Some(true) if uid != 0 => Answered::error(403, "only root can change something"),
        Some(write) => {
            let _ = to.send(wrap(Asked {
                write,
                path: request.uri().path().to_owned(),
                uid,
                answer,
            }));
            answered
                .await
                .unwrap_or_else(|_| Answered::error(503, "the manager is going away"))
        }
    };
    Ok(respond(
        answered.status,
        answered.kind,
        Content::Whole(Some(answered.body.into())),
    ))
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
