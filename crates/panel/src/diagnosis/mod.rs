//! The appliance looked over: what is well, what is not, what that means, and what to do. Facts are asked for first; what follows from them
//! is a function of them.

mod findings;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use cairn_api::{Certificates, Dumps, Graph, MachineState, NetworkState, Setup, Status, Top};

pub(crate) use findings::diagnose;

use crate::app::App;
use crate::directory::DirectoryError;
use crate::store::Trouble;
use crate::view::View;
use crate::words::Lang;

/// How it is with something, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mood {
    Bad,
    Warn,
    Good,
    /// It is not there, or cannot be looked at from here.
    Off,
}

/// One thing that was looked at. Its sentences are `diagnosis.KEY`, with `-means` and `-do` where something is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What it is about: a key of `diagnosis.topic-`.
    pub(crate) topic: &'static str,
    pub(crate) mood: Mood,
    key: &'static str,
    values: Vec<(&'static str, String)>,
    /// The unit to look at.
    pub(crate) unit: Option<String>,
}

/// A finding in somebody's language.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Said {
    pub(crate) topic: &'static str,
    pub(crate) state: Mood,
    /// What is.
    pub(crate) what: String,
    /// What that means; empty if all is well.
    pub(crate) means: String,
    /// What to do; empty if there is nothing to do.
    pub(crate) todo: String,
    pub(crate) unit: Option<String>,
}

impl Finding {
    pub(crate) fn say(&self, view: &View, lang: Lang) -> Said {
        let say = |end: &str| {
            let key = format!("diagnosis.{}{end}", self.key);
            match view.knows(&key) {
                true => view.say(lang, &key, &self.values),
                false => String::new(),
            }
        };
        Said {
            topic: self.topic,
            state: self.mood,
            what: say(""),
            means: say("-means"),
            todo: say("-do"),
            unit: self.unit.clone(),
        }
    }
}

/// What was asked for; what did not answer is not there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) status: Option<Status>,
    pub(crate) top: Option<Top>,
    pub(crate) graph: Option<Graph>,
    pub(crate) dumps: Option<Dumps>,
    pub(crate) certificates: Option<Certificates>,
    pub(crate) setup: Option<Setup>,
    pub(crate) machine: Option<MachineState>,
    pub(crate) network: Option<NetworkState>,
    /// How the directory answered, if there is one.
    pub(crate) directory: Option<Result<(), DirectoryError>>,
    /// The owner's domain, and to where it leads; `None`: it cannot be looked up here.
    pub(crate) domain: Option<(String, Option<Vec<IpAddr>>)>,
    pub(crate) trouble: Trouble,
    /// Seconds since 1970.
    pub(crate) now: i64,
}

/// Asks for everything.
pub(crate) async fn ask(app: &App) -> Facts {
    let certificates: Option<Certificates> = app.control.get("/v1/certificates").await.ok();
    let domain = match certificates.as_ref().and_then(domain) {
        Some(name) => Some((name.to_owned(), look_up(name).await)),
        None => None,
    };
    let directory = match app.directory.answers().await {
        Err(DirectoryError::None) => None,
        other => Some(other),
    };
    Facts {
        status: app.control.get("/v1/status").await.ok(),
        top: app.control.get("/v1/top").await.ok(),
        graph: app.control.get("/v1/graph").await.ok(),
        setup: app.control.get("/v1/setup").await.ok(),
        machine: app.control.get("/v1/machine").await.ok(),
        dumps: app.control.get("/v1/dumps").await.ok(),
        network: app.control.get("/v1/network").await.ok(),
        certificates,
        directory,
        domain,
        trouble: app.store.trouble().await,
        now: crate::store::now(),
    }
}

/// The owner's domain, if one was chosen.
pub(crate) fn domain(certificates: &Certificates) -> Option<&str> {
    let mut permitted = certificates.authority.iter().flat_map(|authority| &authority.permitted);
    let own = |name: &&String| {
        let text = name.trim_start_matches('.');
        !text.ends_with(".local") && !text.ends_with(".internal")
    };
    permitted.find(own).map(String::as_str)
}

/// Where a name leads. A panel without a way to the outside does not know.
pub(crate) async fn look_up(name: &str) -> Option<Vec<IpAddr>> {
    let asked = tokio::time::timeout(Duration::from_secs(3), tokio::net::lookup_host((name.to_owned(), 443))).await;
    Some(asked.ok()?.ok()?.map(|address| address.ip()).collect())
}
