//! `tls-alpn-01` (RFC 8737): for the protocol `acme-tls/1` a certificate that signs itself and has the answer in it. Nothing else
//! is spoken here; who asks for another protocol is refused in the handshake.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Answers, bind};
use crate::trouble::Trouble;

/// The protocol's name.
const PROTOCOL: &[u8] = b"acme-tls/1";

/// The certificate that answers for a name.
pub(super) fn certificate(name: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, Trouble> {
    let failed = |why: String| Trouble::refused(format!("cannot make the answer for {name}: {why}"));
    if digest.len() != 32 {
        return Err(failed("its digest is no SHA-256".into()));
    }
    let mut wanted = CertificateParams::new([name.to_owned()]).map_err(|e| failed(e.to_string()))?;
    wanted.distinguished_name = DistinguishedName::new();
    wanted.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(|e| failed(e.to_string()))?;
    let made = wanted.self_signed(&key).map_err(|e| failed(e.to_string()))?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|e| failed(e.to_string()))?;
    Ok(Arc::new(CertifiedKey::new(
        vec![CertificateDer::from(made.der().to_vec())],
        key,
    )))
}

struct ByName(Answers);

impl std::fmt::Debug for ByName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ByName")
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Who does not offer the protocol is not an authority.
        let mut offered = hello.alpn()?;
        offered.find(|name| *name == PROTOCOL)?;
        let all = self.0.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&hello.server_name()?.to_ascii_lowercase()).cloned()
    }
}

/// Answers at an address for as long as the tasks are kept, 16 callers at a time.
pub(super) async fn listen(at: SocketAddr, answers: Answers, tasks: &mut JoinSet<()>) -> Result<SocketAddr, Trouble> {
    let (listener, own) = bind(at).await?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|e| Trouble::refused(format!("TLS cannot be spoken: {e}")))?;
    let mut config = config
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(answers)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    let (config, places) = (Arc::new(config), Arc::new(Semaphore::new(16)));
    tasks.spawn(async move {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let config = config.clone();
            tokio::task::spawn_blocking(move || {
                let _ = stream.into_std().and_then(|stream| shake(stream, config));
                drop(place);
            });
        }
    });
    Ok(own)
}

/// One handshake, and the end.
fn shake(mut stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
    // Each read waits for 5 seconds at most; no handshake has more than a few.
    for _ in 0..16 {
        if !connection.is_handshaking() {
            break;
        }
        connection.complete_io(&mut stream)?;
    }
    connection.send_close_notify();
    while connection.wants_write() {
        connection.write_tls(&mut stream)?;
    }
    Ok(())
}
