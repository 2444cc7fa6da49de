//! Where browsers reach the panel by a name: passkeys belong to one.
//!
//! An authenticator binds a passkey to a host name alone; that it was used on the panel's own page, and not on that of another service at
//! another port of the name, is told by the origin only. The panel's own port is not the only one at which browsers may see it: a router or
//! a virtual machine's host may forward another. So an origin may have the port of the `Host` header, but not one at which the appliance
//! itself has another service. Whoever sends a stolen use writes that header too, so of a service at the same name that is not the
//! appliance's (a router that forwards its ports to several machines) it does not protect: such a service is sent the session's cookie
//! as well, since cookies know no ports. Names are for one machine.

use std::sync::Arc;

use hyper::header;

use crate::control::Control;
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

    /// Where a request was made, if passkeys can belong to it: at one of the appliance's names, and not at a port of another service.
    pub(crate) async fn party(&self, request: &Request, control: &Control) -> Option<Party> {
        let (party, port) = self.named(request)?;
        if port == self.port {
            return Some(party);
        }
        let graph: cairn_api::Graph = control.get("/v1/graph").await.ok()?;
        let taken = graph.nodes.iter().flat_map(|node| &node.publishes);
        let tcp = format!("{port}/tcp");
        (!taken.into_iter().any(|own| *own == tcp)).then_some(party)
    }

    /// The own name by which a request was made, and the port.
    fn named(&self, request: &Request) -> Option<(Party, u16)> {
        let host = request.header(header::HOST).to_ascii_lowercase();
        let (name, port) = match host.split_once(':') {
            // As browsers write it, digits alone.
            Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => (name, port.parse().ok()?),
            Some(_) => return None,
            None => (host.as_str(), 443),
        };
        if name.ends_with('.') || !self.identity.is_for(name) {
            return None;
        }
        let party = Party {
            name: name.to_owned(),
            origin: origin(name, port),
        };
        Some((party, port))
    }

    /// The address by which passkeys can be used, if the panel has a name.
    pub(crate) fn address(&self) -> Option<String> {
        let names = self.identity.names();
        // Names below `internal` are for services alone.
        let name = names.iter().find(|name| !name.ends_with(".internal"))?;
        Some(origin(name, self.port))
    }
}

/// The origin, as browsers write it: the port of HTTPS is left out.
fn origin(name: &str, port: u16) -> String {
    match port {
        443 => format!("https://{name}"),
        port => format!("https://{name}:{port}"),
    }
}
