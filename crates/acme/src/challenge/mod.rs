//! Showing that a name is the owner's, in the three ways that authorities ask for.
//!
//! The answers for `http-01` and `tls-alpn-01` live in memory: an order that is gone on with after a kill gives them again. Records of
//! a zone outlive the program, so they are noted before they are made ([`crate::held::Kept::records`]).

mod alpn;
pub mod dns;
mod http;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use crate::config::Config;
use crate::trouble::Trouble;

/// What is answered, shared with those who answer.
#[derive(Clone, Default)]
pub(crate) struct Answers {
    /// Pages by their token.
    pages: Arc<Mutex<HashMap<String, String>>>,
    /// Certificates by their name.
    certificates: Arc<Mutex<HashMap<String, Arc<rustls::sign::CertifiedKey>>>>,
}

impl Answers {
    pub(crate) fn page(&self, token: &str, text: Option<String>) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        match text {
            Some(text) => drop(pages.insert(token.to_owned(), text)),
            None => drop(pages.remove(token)),
        }
    }

    pub(crate) fn certificate(&self, name: &str, digest: Option<&[u8]>) -> Result<(), Trouble> {
        let made = digest.map(|digest| alpn::certificate(name, digest)).transpose()?;
        let mut all = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        match made {
            Some(made) => drop(all.insert(name.to_owned(), made)),
            None => drop(all.remove(name)),
        }
        Ok(())
    }
}

/// The addresses at which challenges are answered, which differ from the configured ones where those have port 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Of `http-01`.
    pub http: Option<SocketAddr>,
    /// Of `tls-alpn-01`.
    pub tls_alpn: Option<SocketAddr>,
}

/// Begins to answer. It ends when the tasks are dropped.
pub(crate) async fn listen(config: &Config, answers: &Answers) -> Result<(Addresses, JoinSet<()>), Trouble> {
    let (mut addresses, mut tasks) = (Addresses::default(), JoinSet::new());
    if let Some(at) = config.http {
        addresses.http = Some(http::listen(at, answers.clone(), &mut tasks).await?);
    }
    if let Some(at) = config.tls_alpn {
        addresses.tls_alpn = Some(alpn::listen(at, answers.clone(), &mut tasks).await?);
    }
    Ok((addresses, tasks))
}

async fn bind(at: SocketAddr) -> Result<(tokio::net::TcpListener, SocketAddr), Trouble> {
    let failed = |e| Trouble::refused(format!("cannot listen on {at}: {e}"));
    let listener = tokio::net::TcpListener::bind(at).await.map_err(failed)?;
    let own = listener.local_addr().map_err(failed)?;
    Ok((listener, own))
}
