//! The certificate. It is renewed while the panel runs, so each handshake takes the one that was read last.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read the certificate {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not hold what it should.
    #[error("{path} has to hold a private key and its certificates in PEM: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}

/// The certificate in force, and the file that it comes from.
#[derive(Debug)]
pub struct Identity {
    path: PathBuf,
    now: RwLock<(Option<SystemTime>, Arc<CertifiedKey>)>,
}

impl Identity {
    /// Reads the file.
    ///
    /// # Errors
    /// If there is no key, no certificate, or they do not belong together.
    pub fn read(path: &Path) -> Result<Identity, TlsError> {
        Ok(Identity {
            path: path.to_owned(),
            now: RwLock::new(load(path)?),
        })
    }

    /// Reads the file again if it changed, or anyway; a wrong file leaves the certificate as it was. Tells whether it is another.
    ///
    /// # Errors
    /// As [`Identity::read`].
    pub fn refresh(&self, anyway: bool) -> Result<bool, TlsError> {
        let seen = changed(&self.path);
        let known = self.now.read().map_or(None, |now| now.0);
        if !anyway && seen == known {
            return Ok(false);
        }
        let read = load(&self.path)?;
        if let Ok(mut now) = self.now.write() {
            *now = read;
        }
        Ok(true)
    }

    /// The names that the certificate is for; not those for every name below another, and no addresses.
    pub fn names(&self) -> Vec<String> {
        self.with_leaf(|leaf| {
            let names = leaf.valid_dns_names().filter(|name| !name.starts_with('*'));
            names.map(str::to_ascii_lowercase).collect()
        })
        .unwrap_or_default()
    }

    /// Whether the certificate is for this name; never for an address.
    pub fn is_for(&self, name: &str) -> bool {
        let Ok(name) = DnsName::try_from(name) else {
            return false;
        };
        self.with_leaf(|leaf| {
            leaf.verify_is_valid_for_subject_name(&ServerName::DnsName(name))
                .is_ok()
        })
        .unwrap_or(false)
    }

    fn with_leaf<T>(&self, look: impl FnOnce(&webpki::EndEntityCert<'_>) -> T) -> Option<T> {
        let certified = self.now.read().ok()?.1.clone();
        let leaf = webpki::EndEntityCert::try_from(certified.end_entity_cert().ok()?).ok()?;
        Some(look(&leaf))
    }

    /// What a server needs for its handshakes: TLS 1.2 and 1.3, HTTP/1.1.
    ///
    /// # Errors
    /// If the TLS library refuses its own defaults.
    pub fn config(self: &Arc<Identity>) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.now.read().ok().map(|now| now.1.clone())
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

fn load(path: &Path) -> Result<(Option<SystemTime>, Arc<CertifiedKey>), TlsError> {
    let content = |why: String| TlsError::Content {
        path: path.to_owned(),
        why,
    };
    // The time first: a change during the reading is then seen by the next look.
    let time = changed(path);
    let pem = std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|e| content(e.to_string()))?;
    if chain.is_empty() {
        return Err(content("there is no certificate".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| content(e.to_string()))?;
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
    Ok((time, Arc::new(certified.map_err(|e| content(e.to_string()))?)))
}
