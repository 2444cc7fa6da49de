//! The network: accepts, bounds what a client may take in time and size, and hands requests to [`App`].

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sd_notify::NotifyState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::api;
use crate::app::App;
use crate::http::{Body, Request, Response};
use crate::importing::{self, Room};
use crate::settings::Settings;
use crate::tls::Identity;

/// Connections at a time, all together and of one address.
const PLACES: usize = 256;
const PLACES_OF_ONE: usize = 48;
/// How long a connection lasts at most; browsers come again by themselves.
const LIFE: Duration = Duration::from_secs(600);
/// How long an answer may take to be made.
const ANSWER: Duration = Duration::from_secs(40);
/// So much of a table that is too long is read to no end, so that its answer is seen.
const DRAIN: usize = 64 << 20;
/// How long requests that are under way have when the panel is stopped.
const FAREWELL: Duration = Duration::from_secs(5);

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// A panel that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    settings: Settings,
    identity: Arc<Identity>,
    app: Arc<App>,
    stop: watch::Sender<bool>,
}

/// Runs the panel until SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot listen, has no certificate, or its store cannot be opened or made.
pub async fn run(settings: Settings) -> Result<(), AnyError> {
    let server = Server::bind(settings).await?;
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hup = signal(SignalKind::hangup())?;
    let (identity, stop) = (server.identity.clone(), server.stop.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = int.recv() => break,
                _ = hup.recv() => refresh(&identity, true),
                // It is also looked at now and then, should nobody say that it changed.
                () = tokio::time::sleep(Duration::from_secs(30)) => refresh(&identity, false),
            }
        }
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        let _ = stop.send(true);
    });
    server.serve().await;
    Ok(())
}

fn refresh(identity: &Identity, anyway: bool) {
    match identity.refresh(anyway) {
        Ok(true) => eprintln!("the certificate was read again"),
        Ok(false) => {}
        Err(error) => eprintln!("<3>the certificate stays as it was: {error}"),
    }
}

impl Server {
    /// Reads the certificate, opens the store, and listens.
    ///
    /// # Errors
    /// If one of these fails.
    pub async fn bind(settings: Settings) -> Result<Server, AnyError> {
        let identity = Arc::new(Identity::read(&settings.tls)?);
        let (stop, stopped) = watch::channel(false);
        let app = App::start(settings.clone(), identity.clone(), stopped).await?;
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|e| format!("cannot listen on {}: {e}", settings.listen))?;
        Ok(Server {
            listener,
            settings,
            identity,
            app,
            stop,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Ends [`Server::serve`].
    pub fn stopper(&self) -> watch::Sender<bool> {
        self.stop.clone()
    }

    /// The certificate in force.
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.clone()
    }

    /// Serves until it is stopped, and then what is under way.
    pub async fn serve(self) {
        let Ok(config) = self.identity.config() else { return };
        let acceptor = TlsAcceptor::from(config);
        let places = Arc::new(Semaphore::new(PLACES));
        let crowd = Arc::new(Crowd::default());
        let mut stopped = self.stop.subscribe();
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stopped.wait_for(|stop| *stop) => break,
            };
            let Ok((stream, peer)) = accepted else {
                // Out of descriptors: those that are there will end.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                continue;
            };
            let Some(own) = crowd.enter(peer.ip()) else { continue };
            let (acceptor, app, settings) = (acceptor.clone(), self.app.clone(), self.settings.clone());
            let stopped = self.stop.subscribe();
            connections.spawn(async move {
                let work = connection(stream, peer.ip(), acceptor, app, settings, stopped);
                let _ = timeout(LIFE, work).await;
                drop((place, own));
            });
        }
        drop(self.listener);
        let rest = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(FAREWELL, rest).await;
    }
}

/// How many connections each address has.
#[derive(Debug, Default)]
struct Crowd(Mutex<HashMap<IpAddr, usize>>);

struct Place(Arc<Crowd>, IpAddr);

impl Crowd {
    fn enter(self: &Arc<Crowd>, who: IpAddr) -> Option<Place> {
        let mut all = self.0.lock().ok()?;
        let count = all.entry(who).or_default();
        (*count < PLACES_OF_ONE).then(|| {
            *count += 1;
            Place(self.clone(), who)
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Ok(mut all) = self.0.0.lock() {
            let left = all.get(&self.1).map_or(0, |count| count.saturating_sub(1));
            match left {
                0 => all.remove(&self.1),
                left => all.insert(self.1, left),
            };
        }
    }
}

async fn connection(
    mut stream: TcpStream,
    peer: IpAddr,
    acceptor: TlsAcceptor,
    app: Arc<App>,
    settings: Settings,
    mut stopped: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    // A handshake begins with byte 22; whoever speaks plain HTTP gets a sentence instead of silence.
    let mut first = [0];
    match timeout(settings.patience, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] == 22 => {}
        Ok(Ok(1)) => {
            say_https(&mut stream, settings.patience).await;
            return;
        }
        _ => return,
    }
    let Ok(Ok(stream)) = timeout(settings.patience, acceptor.accept(stream)).await else {
        return;
    };
    let patience = settings.patience;
    let service = service_fn(move |request| {
        let (app, settings) = (app.clone(), settings.clone());
        async move { Ok::<_, Infallible>(answer(request, peer, &app, &settings).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(16 << 10)
        .max_headers(64);
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = serving.await;
}

async fn say_https(stream: &mut TcpStream, patience: Duration) {
    const TEXT: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
        This page is served by HTTPS only: write https:// in front of the address.\n";
    let _ = stream.write_all(TEXT).await;
    let _ = stream.shutdown().await;
    // What is left unread would make the kernel reset the connection, and the sentence with it.
    let rest = async {
        let mut block = [0; 1024];
        for _ in 0..16 {
            if !matches!(stream.read(&mut block).await, Ok(1..)) {
                return;
            }
        }
    };
    let _ = timeout(patience, rest).await;
}

async fn answer(
    request: hyper::Request<Incoming>,
    peer: IpAddr,
    app: &Arc<App>,
    settings: &Settings,
) -> hyper::Response<Content> {
    let (head, body) = request.into_parts();
    let for_programs = head.uri.path().starts_with("/api/");
    // Holds the place of a table until it is answered.
    let room = importing::room(app, &head.method, &head.uri, &head.headers, settings.body_max).await;
    let (drain, patience) = match room {
        Room::Table { .. } => (DRAIN, settings.patience * 6),
        Room::Usual | Room::Busy => (0, settings.patience),
    };
    let response = match timeout(patience, read(body, room.max(settings.body_max), drain)).await {
        _ if matches!(room, Room::Busy) => Response::text(503, "Another table is being read; try again in a moment.\n"),
        Err(_) => Response::text(408, "The request did not come in time.\n"),
        Ok(Read::TooLong) if matches!(room, Room::Table { .. }) => {
            match importing::is_import(&head.method, &head.uri) {
                (_, true) => api::table_too_long(),
                _ => Response::see("/people-import?wrong=big"),
            }
        }
        Ok(Read::TooLong) => Response::text(413, format!("A request has at most {} bytes.\n", settings.body_max)),
        Ok(Read::Broken) => Response::text(400, "The request broke off.\n"),
        Ok(Read::Whole(body)) => match Request::new(head.method, &head.uri, head.headers, body, peer) {
            None => Response::text(400, "The request is not UTF-8.\n"),
            Some(request) => match timeout(ANSWER, app.clone().handle(request)).await {
                Ok(response) => response,
                Err(_) => Response::text(504, "The answer took too long; try it again.\n"),
            },
        },
    };
    let response = if for_programs {
        response.for_a_program()
    } else {
        response
    };
    let close = matches!(response.status, 408 | 413);
    let mut out = hyper::Response::new(Content(response.body));
    *out.status_mut() = hyper::StatusCode::from_u16(response.status).unwrap_or_default();
    for (name, value) in response.headers {
        out.headers_mut().append(name, value);
    }
    if close {
        let value = hyper::header::HeaderValue::from_static("close");
        out.headers_mut().insert(hyper::header::CONNECTION, value);
    }
    Response::guard(out.headers_mut());
    out
}

/// What came of reading a body.
enum Read {
    Whole(Bytes),
    TooLong,
    Broken,
}

/// Reads a body of at most `max` bytes. Of a longer one up to `drain` bytes are read and forgotten: a browser that still sends does not
/// see the answer.
async fn read(mut body: Incoming, max: usize, drain: usize) -> Read {
    let (mut bytes, mut over) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Read::Broken };
        let Some(data) = frame.data_ref() else { continue };
        if over > 0 || bytes.len() + data.len() > max {
            over += data.len();
            bytes = Vec::new();
            if over > drain {
                break;
            }
        } else {
            bytes.extend_from_slice(data);
        }
    }
    match over {
        0 => Read::Whole(bytes.into()),
        _ => Read::TooLong,
    }
}

/// A body as hyper sends it.
struct Content(Body);

impl hyper::body::Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Body::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Body::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Body::Stream(parts) => parts
                .poll_recv(context)
                .map(|part| part.map(|part| Ok(Frame::data(part)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Body::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Stream(_) => SizeHint::default(),
        }
    }
}
