//! Revoking a certificate. That is noted, so that `run` gets another in its place, if one is still wanted.

use instant_acme::{RevocationReason, RevocationRequest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::held::hash;
use crate::run::World;
use crate::trouble::Trouble;

/// Has the authority revoke the certificate that is held; `compromised` says that others may have its key.
///
/// # Errors
/// There is none, or the authority refuses.
pub async fn revoke(world: &World, of: &str, compromised: bool) -> Result<(), Trouble> {
    let pem = world.store.pem(of)?;
    let pem = pem.ok_or_else(|| Trouble::refused(format!("there is no certificate `{of}`")))?;
    let leaf = CertificateDer::from_pem_slice(pem.as_bytes());
    let leaf = leaf.map_err(|e| Trouble::refused(format!("the certificate `{of}` cannot be read: {e}")))?;
    let account = world.account().await?;
    let reason = match compromised {
        true => RevocationReason::KeyCompromise,
        false => RevocationReason::CessationOfOperation,
    };
    let request = RevocationRequest {
        certificate: &leaf,
        reason: Some(reason),
    };
    match account.revoke(&request).await.map_err(Trouble::from) {
        // Asked twice, it is as it should be.
        Err(trouble) if trouble.is("alreadyRevoked") => {}
        other => other?,
    }
    let mut kept = world.store.kept(of)?;
    kept.revoked = hash(&pem);
    world.store.keep(of, &kept)
}
