//! What went wrong with a certificate, in words, and what that means for the next attempt.

use instant_acme::{Error, Problem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nobody answered, or not as this protocol answers: nothing was counted anywhere.
    Unreachable,
    /// The authority, the name server or the manager said no.
    Refused,
    /// The authority asks for patience.
    Limited,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{why}")]
pub struct Trouble {
    /// What happened and what to do about it, one sentence.
    pub why: String,
    /// What kind it is.
    pub kind: Kind,
    /// Before when the other side does not want to be asked again.
    pub not_before: Option<Timestamp>,
    /// The problem's type (RFC 8555, 6.7) without its prefix, if the authority named one.
    pub problem: Option<String>,
}

impl Trouble {
    /// Somebody said no.
    pub fn refused(why: impl Into<String>) -> Trouble {
        Trouble::new(Kind::Refused, why)
    }

    /// Nobody answered.
    pub fn unreachable(why: impl Into<String>) -> Trouble {
        Trouble::new(Kind::Unreachable, why)
    }

    pub(crate) fn new(kind: Kind, why: impl Into<String>) -> Trouble {
        Trouble {
            why: why.into(),
            kind,
            not_before: None,
            problem: None,
        }
    }

    /// The same, with what was being done in front.
    pub(crate) fn at(mut self, what: &str) -> Trouble {
        self.why = format!("{what}: {}", self.why);
        self
    }

    pub(crate) fn is(&self, problem: &str) -> bool {
        self.problem.as_deref() == Some(problem)
    }
}

impl From<cairn_config::Error> for Trouble {
    fn from(error: cairn_config::Error) -> Trouble {
        Trouble::unreachable(error.to_string())
    }
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Trouble {
        let kind = problem.r#type.as_deref().map(|name| {
            let name = name.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(name);
            name.to_owned()
        });
        let mut trouble = Trouble::refused(words(&problem, kind.as_deref()));
        if kind.as_deref() == Some("rateLimited") {
            trouble.kind = Kind::Limited;
        }
        if matches!(kind.as_deref(), Some("serverInternal" | "badNonce")) {
            trouble.kind = Kind::Unreachable;
        }
        trouble.problem = kind;
        trouble
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        match error {
            Error::Api(problem) => problem.into(),
            Error::Timeout(next) => {
                let mut trouble =
                    Trouble::unreachable("the authority has not finished in time; it is asked again later");
                let wait = next.map(|next| next.saturating_duration_since(std::time::Instant::now()));
                trouble.not_before = wait.and_then(|wait| Timestamp::now().checked_add(wait).ok());
                trouble
            }
            Error::Other(inner) => match inner.downcast::<Trouble>() {
                Ok(trouble) => *trouble,
                Err(other) => Trouble::unreachable(other.to_string()),
            },
            Error::Json(why) => Trouble::unreachable(format!(
                "the server does not answer as ACME has it ({why}); is `directory` the address of an ACME directory?"
            )),
            other => Trouble::unreachable(other.to_string()),
        }
    }
}

/// A problem document as a sentence, with what to do where that is known.
fn words(problem: &Problem, kind: Option<&str>) -> String {
    let mut out = problem.detail.clone().unwrap_or_else(|| "no reason given".to_owned());
    for sub in &problem.subproblems {
        if let Some(detail) = &sub.detail {
            let name = sub.identifier.as_ref().map(|name| name.authorized(false).to_string());
            out.push_str(&format!("; {}: {detail}", name.unwrap_or_default()));
        }
    }
    let help = match kind {
        Some("externalAccountRequired") => "the authority wants an external account: set [external_account]",
        Some("dns") => "look whether the name stands in the public DNS and points here",
        Some("connection") => "look whether the authority reaches this appliance from outside",
        Some("caa") => "a CAA record of the domain forbids this authority",
        Some("rejectedIdentifier") => "the authority does not issue for this name",
        Some("invalidContact" | "unsupportedContact") => "set `contact` to an address like mailto:admin@home.example",
        Some("badNonce" | "rateLimited") | None => "it is tried again later",
        Some("unauthorized" | "incorrectResponse") => "something else answers under this name",
        Some(_) => return format!("the authority refuses: {out} ({})", kind.unwrap_or_default()),
    };
    format!("the authority refuses: {out} ({}); {help}", kind.unwrap_or("error"))
}
