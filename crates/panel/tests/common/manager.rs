//! A manager that only pretends: it answers on a Unix socket as the real one does, and remembers what it was asked to do.

#[path = "answers.rs"]
mod answers;

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};

pub(crate) use answers::upgrade;
use answers::{LOG, certificates, dumps, explained, graph, history, network, past, security, setup, status, top};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::broadcast;

/// What the manager knows and was told.
#[derive(Debug)]
pub(crate) struct Told {
    /// Whether it waits to be set up.
    pub(crate) open: bool,
    /// Wrong codes so far.
    pub(crate) wrong_codes: u32,
    /// Requests that change something, with their bodies.
    pub(crate) posts: Vec<(String, Value)>,
    /// What was compared.
    pub(crate) looks: Vec<String>,
    /// For whom it was asked.
    pub(crate) actors: Vec<String>,
    /// How it answers the next `apply`, if not as usual.
    pub(crate) apply: Option<(u16, Value)>,
    /// An account that it has for the panel.
    pub(crate) administrator: Value,
    /// The recovery key of the data partition, until it is saved.
    pub(crate) data_key: Option<String>,
    /// Whether everything is ready.
    pub(crate) settled: bool,
    /// Every unit's log.
    pub(crate) log: String,
    /// The domain that the owner chose.
    pub(crate) domain: Option<String>,
    /// What it says of the network.
    pub(crate) network: Value,
    /// What it says of versions; null: it was built without upgrades.
    pub(crate) upgrade: Value,
    clock: u64,
}

/// The manager.
#[derive(Debug, Clone)]
pub(crate) struct Manager {
    /// What it knows and was told.
    pub(crate) told: Arc<Mutex<Told>>,
    /// Lines of its stream of events.
    pub(crate) events: broadcast::Sender<String>,
}

/// The code on its console.
pub(crate) const CODE: &str = "K7QM-4RTX";

type Body = BoxBody<Bytes, Infallible>;

impl Manager {
    /// Listens on this socket.
    pub(crate) fn start(socket: &Path, open: bool) -> Manager {
        let manager = Manager {
            told: Arc::new(Mutex::new(Told {
                open,
                wrong_codes: 0,
                posts: Vec::new(),
                looks: Vec::new(),
                actors: Vec::new(),
                apply: None,
                administrator: Value::Null,
                data_key: None,
                settled: !open,
                log: LOG.to_owned(),
                domain: None,
                network: network(),
                upgrade: upgrade("new"),
                clock: 90_000,
            })),
            events: broadcast::channel(16).0,
        };
        let listener = UnixListener::bind(socket).unwrap();
        let shared = manager.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = shared.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let shared = shared.clone();
                        async move { Ok::<_, Infallible>(shared.answer(request).await) }
                    });
                    let mut http = hyper::server::conn::http1::Builder::new();
                    http.keep_alive(false);
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        manager
    }

    /// What it was asked to change, without the tries of codes.
    pub(crate) fn posts(&self) -> Vec<String> {
        self.told
            .lock()
            .unwrap()
            .posts
            .iter()
            .map(|(path, _)| path.clone())
            .collect()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request
            .uri()
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default();
        let post = request.method() == "POST";
        let actor = request
            .headers()
            .get("cairn-actor")
            .map(|actor| String::from_utf8_lossy(actor.as_bytes()).into_owned());
        self.told.lock().unwrap().actors.extend(actor.filter(|_| post));
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if path == "/v1/events" {
            let events = self.events.subscribe();
            return stream(events);
        }
        if path.contains("follow=1") {
            return stream(self.events.subscribe());
        }
        if path.starts_with("/v1/logs") {
            self.told.lock().unwrap().looks.push(path);
            let log = self.told.lock().unwrap().log.clone();
            let body = Full::new(Bytes::from(log)).boxed();
            return Response::new(body);
        }
        let (status, value) = match post {
            true => self.change(&path, body),
            false => self.look(&path),
        };
        let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed());
        *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap();
        response
    }

    fn change(&self, path: &str, body: Value) -> (u16, Value) {
        let mut told = self.told.lock().unwrap();
        match path {
            "/v1/setup/code" if told.wrong_codes >= 5 => (429, json!({ "error": "too many tries", "after_s": 60 })),
            "/v1/setup/code" if body["code"] == CODE => (200, json!({})),
            "/v1/setup/code" => {
                told.wrong_codes += 1;
                (403, json!({ "error": "that is not the code" }))
            }
            "/v1/setup/apply" => {
                told.posts.push((path.to_owned(), body.clone()));
                if let Some(answer) = told.apply.take() {
                    return answer;
                }
                if !told.open {
                    return (409, json!({ "error": "the appliance is set up already" }));
                }
                if body["code"] != CODE {
                    return (403, json!({ "error": "that is not the code" }));
                }
                told.open = false;
                (200, json!({ "version": 1 }))
            }
            _ if path.starts_with("/v1/power/factory-reset") && !path.ends_with("?name=birch") => {
                (409, json!({ "error": "nothing was removed" }))
            }
            "/v1/site" if body["text"].as_str().is_none_or(|text| text.contains("wrong")) => {
                let place = json!({ "line": 2, "column": 1, "error": "unknown key `wrong`", "help": null });
                (
                    400,
                    json!({ "error": "site.toml:2:1: unknown key `wrong`", "problems": [place] }),
                )
            }
            _ if path.ends_with("/settings") && body.to_string().contains("Wrong") => {
                (409, json!({ "error": "`names` must be a domain in lower case" }))
            }
            _ if path.starts_with("/v1/network") => {
                told.posts.push((path.to_owned(), body.clone()));
                if let Some(answer) = told.apply.take() {
                    return answer;
                }
                match path {
                    "/v1/network" => {
                        told.network["chosen"] = body;
                        told.network["pending"] = json!({ "who": "ada (panel)", "left_s": 180, "before": {} });
                    }
                    _ => told.network["pending"] = Value::Null,
                }
                (200, json!({ "changes": [], "took_us": 1 }))
            }
            "/v1/setup/administrator/taken" => {
                told.administrator = Value::Null;
                told.posts.push((path.to_owned(), body));
                (200, json!({ "units": [] }))
            }
            "/v1/data/recovery-key/saved" => {
                told.posts.push((path.to_owned(), body));
                match told.data_key.take() {
                    Some(_) => (202, json!({ "accepted": true })),
                    None => (404, json!({ "error": "it is not kept here any more" })),
                }
            }
            _ => {
                told.posts.push((path.to_owned(), body));
                (200, json!({ "units": [] }))
            }
        }
    }

    fn look(&self, path: &str) -> (u16, Value) {
        let mut told = self.told.lock().unwrap();
        let bare = path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = bare.split('/').skip(2).collect();
        let value = match parts[..] {
            ["setup"] => setup(told.open),
            ["setup", "administrator"] => json!({ "administrator": told.administrator }),
            ["status"] => status(told.settled),
            ["top"] => {
                told.clock += 5000;
                top(told.clock)
            }
            ["graph"] => graph(),
            ["network"] => told.network.clone(),
            ["data", "recovery-key"] => match &told.data_key {
                Some(key) => json!({ "key": key }),
                None => return (404, json!({ "error": "the data partition is not encrypted" })),
            },
            ["units", unit, "explain"] => match status(told.settled)["units"]
                .as_array()
                .unwrap()
                .iter()
                .find(|u| u["name"] == unit)
            {
                Some(found) => explained(found.clone()),
                None => return (404, json!({ "error": format!("there is no unit {unit}") })),
            },
            ["units", unit, "security"] => security(unit),
            ["units", "mariadb", "dumps"] => dumps(),
            ["units", unit, "dumps"] => return (404, json!({ "error": format!("{unit} is not dumped") })),
            ["dumps"] => json!({ "units": [dumps()] }),
            ["certificates"] => {
                let mut all = certificates();
                if let (Some(names), Some(domain)) = (all["authority"]["permitted"].as_array_mut(), &told.domain) {
                    names.push(json!(domain));
                }
                all
            }
            ["upgrade"] if told.upgrade.is_null() => {
                return (409, json!({ "error": "this appliance was built without upgrades" }));
            }
            ["upgrade"] => told.upgrade.clone(),
            ["upgrade", "history"] => past(),
            ["machine"] => json!({
                "memory": 4u64 << 30, "cpus": 2, "data": { "size": 10u64 << 30, "used": 2u64 << 30, "free": 7u64 << 30 },
                "clock": { "now": "2026-11-23T19:00:00Z", "synchronised": false, "error_us": null },
            }),
            ["site"] => json!({ "text": "[appliance]\nname = \"birch\"\n", "version": 3, "instead": null }),
            ["site", "history"] => history(),
            ["site", "diff"] => {
                told.looks.push(path.to_owned());
                json!({ "from": "2", "to": "3", "diff": "--- 2\n+++ 3\n@@ -1,4 +1,4 @@\n [units]\n-mariadb = { memory_max = \"256M\" }\n+mariadb = { memory_max = \"512M\" }\n valkey = {}\n" })
            }
            _ => return (404, json!({ "error": format!("there is nothing at {bare}") })),
        };
        (200, value)
    }
}

fn stream(mut events: broadcast::Receiver<String>) -> Response<Body> {
    let (to, mut from) = tokio::sync::mpsc::channel::<Bytes>(4);
    tokio::spawn(async move {
        while let Ok(line) = events.recv().await {
            if to.send(Bytes::from(line + "\n")).await.is_err() {
                return;
            }
        }
    });
    let parts = Parts(std::future::poll_fn(move |context| from.poll_recv(context)));
    Response::new(BodyExt::boxed(StreamBody::new(parts)))
}

/// A stream of a function that is asked again and again.
struct Parts<F>(F);

impl<F> futures_core::Stream for Parts<std::future::PollFn<F>>
where
    F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<Bytes>> + Unpin,
{
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        use std::future::Future as _;
        std::pin::Pin::new(&mut self.0)
            .poll(context)
            .map(|part| part.map(|bytes| Ok(Frame::data(bytes))))
    }
}
