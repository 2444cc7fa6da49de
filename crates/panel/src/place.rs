//! Where browsers reach the panel by a name: passkeys belong to one.

use std::sync::Arc;

use hyper::header;

use crate::http::Request;
use crate::tls::Identity;
use crate::webauthn::Party;

/// The own names, which are those that the certificate is for, and the own port.
#[derive(Debug)]
pub(crate) struct Place {
    identity: Arc<Identity>,
    port: u16,
}

impl Place {
    /// Of this certificate, at this port.
    pub(crate) fn new(identity: Arc<Identity>, port: u16) -> Place {
        Place { identity, port }
    }

    /// Where a request was made, if passkeys can belong to it. A page at another port is another service's, and what is used there is not
    /// meant for the panel.
    pub(crate) fn party(&self, request: &Request) -> Option<Party> {
        let host = request.header(header::HOST).to_ascii_lowercase();
        let (name, port) = match host.split_once(':') {
            Some((name, port)) => (name, port.parse().ok()?),
            None => (host.as_str(), 443),
        };
        let own = port == self.port && !name.ends_with('.') && self.identity.is_for(name);
        own.then(|| Party {
            name: name.to_owned(),
            origin: self.origin(name),
        })
    }

    /// The address by which passkeys can be used, if the panel has a name.
    pub(crate) fn address(&self) -> Option<String> {
        let names = self.identity.names();
        // Names below `internal` are for services alone.
        let name = names.iter().find(|name| !name.ends_with(".internal"))?;
        Some(self.origin(name))
    }

    /// The origin, as browsers write it: the port of HTTPS is left out.
    fn origin(&self, name: &str) -> String {
        match self.port {
            443 => format!("https://{name}"),
            port => format!("https://{name}:{port}"),
        }
    }
}
