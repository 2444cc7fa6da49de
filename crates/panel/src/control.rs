//! The manager, asked over its socket. Each question is a connection of its own, as the manager closes after an answer.

use std::path::PathBuf;
use std::time::Duration;

use cairn_api::{Setup, SetupAnswers, SetupCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A question that was not answered as hoped.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ControlError {
    /// The manager cannot be reached.
    #[error("the manager does not answer on {path}: {why}")]
    Away {
        /// Its socket.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The manager refuses.
    #[error("{error}")]
    Refused {
        /// The status.
        status: u16,
        /// In words.
        error: String,
        /// The whole answer.
        answer: Value,
    },
}

impl ControlError {
    /// The status by which the manager refused; 0 if it did not answer.
    pub fn status(&self) -> u16 {
        match self {
            ControlError::Away { .. } => 0,
            ControlError::Refused { status, .. } => *status,
        }
    }

    /// A value of the refusal.
    pub fn value(&self, name: &str) -> Option<&Value> {
        match self {
            ControlError::Away { .. } => None,
            ControlError::Refused { answer, .. } => answer.get(name),
        }
    }
}

/// The most that an answer may have.
const ANSWER_MAX: usize = 8 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The way to the manager.
#[derive(Debug, Clone)]
pub struct Control {
    path: PathBuf,
    actor: Option<HeaderValue>,
}

impl Control {
    /// By this socket.
    pub fn new(path: PathBuf) -> Control {
        Control { path, actor: None }
    }

    /// For this person, whom the manager then notes beside the panel.
    #[must_use]
    pub fn of(&self, person: &str) -> Control {
        Control {
            actor: HeaderValue::from_bytes(person.as_bytes()).ok(),
            ..self.clone()
        }
    }

    /// Asks for what changes nothing.
    ///
    /// # Errors
    /// If the manager refuses or does not answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlError> {
        self.read(Method::GET, path, None).await
    }

    /// Has something changed.
    ///
    /// # Errors
    /// If the manager refuses or does not answer.
    pub async fn post(&self, path: &str, body: Option<Value>) -> Result<Value, ControlError> {
        self.read(Method::POST, path, body).await
    }

    /// Text, such as logs.
    ///
    /// # Errors
    /// If the manager refuses or does not answer.
    pub async fn text(&self, path: &str) -> Result<String, ControlError> {
        let bytes = self.whole(Method::GET, path, None).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether the appliance waits to be set up, and what for.
    ///
    /// # Errors
    /// If the manager does not answer.
    pub async fn setup(&self) -> Result<Setup, ControlError> {
        self.get("/v1/setup").await
    }

    /// Whether this is the code from the console.
    ///
    /// # Errors
    /// If it is not, or was tried too often.
    pub async fn try_code(&self, code: &str) -> Result<(), ControlError> {
        let code = SetupCode { code: code.to_owned() };
        let body = serde_json::to_value(code).ok();
        self.post("/v1/setup/code", body).await.map(|_| ())
    }

    /// Sets the appliance up.
    ///
    /// # Errors
    /// If something in the choice is wrong, or it is set up already.
    pub async fn apply(&self, choice: &SetupAnswers) -> Result<Value, ControlError> {
        self.post("/v1/setup/apply", serde_json::to_value(choice).ok()).await
    }

    /// Lines as they come, until the receiver is dropped or the manager ends them.
    ///
    /// # Errors
    /// If the manager refuses or does not answer.
    pub async fn lines(&self, path: &str) -> Result<mpsc::Receiver<String>, ControlError> {
        let answer = timeout(PATIENCE, self.ask(Method::GET, path, None)).await;
        let answer = answer.map_err(|_| self.away("it takes too long"))??;
        let answer = self.accepted(answer).await?;
        let (to, lines) = mpsc::channel(64);
        tokio::spawn(async move {
            let (mut body, mut rest) = (answer.into_body(), Vec::new());
            loop {
                let frame = tokio::select! {
                    frame = body.frame() => frame,
                    () = to.closed() => return,
                };
                let Some(Ok(frame)) = frame else { return };
                rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line[..end]).into_owned();
                    if to.send(line).await.is_err() {
                        return;
                    }
                }
                if rest.len() > 1 << 20 {
                    return;
                }
            }
        });
        Ok(lines)
    }

    fn away(&self, why: impl ToString) -> ControlError {
        ControlError::Away {
            path: self.path.clone(),
            why: why.to_string(),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Response<Incoming>, ControlError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|e| self.away(e))?;
        let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.away(e))?;
        tokio::spawn(connection);
        let body = body.map(|value| value.to_string()).unwrap_or_default();
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "cairn")
            .header("content-type", "application/json");
        if let Some(actor) = &self.actor {
            request = request.header("cairn-actor", actor);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|e| self.away(e))?;
        send.send_request(request).await.map_err(|e| self.away(e))
    }

    async fn accepted(&self, answer: Response<Incoming>) -> Result<Response<Incoming>, ControlError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let bytes = body.map_err(|e| self.away(e))?.to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let error = answer["error"].as_str().map(str::to_owned);
        Err(ControlError::Refused {
            status: status.as_u16(),
            error: error.unwrap_or_else(|| format!("the manager answered with status {}", status.as_u16())),
            answer,
        })
    }

    async fn whole(&self, method: Method, path: &str, body: Option<Value>) -> Result<Bytes, ControlError> {
        let work = async {
            let answer = self.ask(method, path, body).await?;
            let answer = self.accepted(answer).await?;
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            Ok(body.map_err(|e| self.away(e))?.to_bytes())
        };
        let done = timeout(PATIENCE, work).await;
        done.map_err(|_| self.away("it takes too long"))?
    }

    async fn read<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, ControlError> {
        let bytes = self.whole(method, path, body).await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| self.away(format!("its answer to {path} is not what was expected: {e}")))
    }
}

/// What stands as it is in a path and a query; the manager takes the names of units as they are written.
const PLAIN: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'@');

/// A value in a path or a query of the manager.
pub fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, PLAIN).to_string()
}
