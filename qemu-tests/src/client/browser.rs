//! A browser without script: it keeps cookies, and sends forms with the token of the page that it saw last.

use std::collections::BTreeMap;
use std::time::Duration;

use ureq::tls::TlsConfig;

use crate::error::HarnessError;

/// What came back.
#[derive(Debug, Clone)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// Where it leads; empty if nowhere.
    pub location: String,
    /// Its text.
    pub text: String,
}

/// The browser. It follows nothing and checks no certificate: a fresh appliance's is its own.
#[derive(Debug)]
pub struct Browser {
    agent: ureq::Agent,
    base: String,
    cookies: BTreeMap<String, String>,
    token: String,
    field: String,
}

impl Browser {
    /// One that visits a port of this machine.
    pub fn new(port: u16) -> Browser {
        let tls = TlsConfig::builder().disable_verification(true).build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .into();
        Browser {
            agent,
            base: format!("https://127.0.0.1:{port}"),
            cookies: BTreeMap::new(),
            token: String::new(),
            field: "form_token".to_owned(),
        }
    }

    /// The same where forms keep their token in another field.
    pub fn with_token(mut self, field: &str) -> Browser {
        field.clone_into(&mut self.field);
        self
    }

    /// Looks at a page.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn get(&mut self, path: &str) -> Result<Page, HarnessError> {
        let address = format!("{}{path}", self.base);
        let answer = self.agent.get(&address).header("cookie", self.cookie()).call();
        self.took(&address, answer)
    }

    /// Sends a form.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<Page, HarnessError> {
        let address = format!("{}{path}", self.base);
        let token = [(self.field.as_str(), self.token.as_str())];
        let all: Vec<(&str, &str)> = fields.iter().copied().chain(token).collect();
        let answer = self.agent.post(&address).header("cookie", self.cookie()).send_form(all);
        self.took(&address, answer)
    }

    /// Its cookies, as it sends them.
    pub fn cookie(&self) -> String {
        let all: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        all.join("; ")
    }

    fn took(
        &mut self,
        address: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Page, HarnessError> {
        let fail = |error: ureq::Error| HarnessError::Service {
            service: "HTTPS",
            address: address.to_owned(),
            reason: error.to_string(),
        };
        let mut answer = answer.map_err(fail)?;
        let text = answer.body_mut().read_to_string().map_err(fail)?;
        for cookie in answer.headers().get_all("set-cookie") {
            let pair = cookie
                .to_str()
                .unwrap_or_default()
                .split(';')
                .next()
                .unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        if let Some((_, rest)) = text.split_once(&format!("name=\"{}\" value=\"", self.field)) {
            self.token = rest.split('"').next().unwrap_or_default().to_owned();
        }
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        Ok(Page {
            status: answer.status().as_u16(),
            location: location.unwrap_or_default().to_owned(),
            text,
        })
    }
}
