//! The one place that changes an authority's folder. Each step replaces one file as a whole, or removes one, so that a power cut
//! between or within steps leaves one authority and pairs that belong together; the next plan goes on from there.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use rcgen::{Issuer, KeyPair};

use super::make;
use super::plan::{Certificate, Step, Wanted, plan};
use super::read::{Found, Held, Pair, authority, authority_file, issued_file, issued_folder, key};
use crate::disk::{Disk, put};
use crate::error::Error;

/// Only root reads a private key.
const MODE: u32 = 0o600;

/// Does what a plan says. Refusals in it are not touched: they are the caller's to tell.
///
/// # Errors
/// The disk's. What was done until then is done, and planning again goes on from there.
pub fn apply(disk: &dyn Disk, folder: &Path, steps: &[Step]) -> Result<(), Error> {
    if steps.iter().all(|step| step.refusal().is_some()) {
        return Ok(());
    }
    let issued = issued_folder(folder);
    disk.make_folder(&issued)
        .map_err(Error::io("make the folder", &issued))?;
    let place = authority_file(folder);
    for step in steps {
        match step {
            Step::Make { appliance, permitted } | Step::Replace { appliance, permitted } => {
                let key = make::new_key()?;
                let name = make::authority_name(appliance, &key);
                put(disk, &place, make::authority(&name, permitted, &key)?.as_bytes(), MODE)?;
            }
            Step::Rewrite {
                appliance, permitted, ..
            } => {
                let text = read(disk, &place)?;
                let key = key(&text).map_err(Error::Certificate)?;
                // Its name stays where it can be read: what it issued names it.
                let known = Pair::parse(&text).and_then(|pair| authority(&pair));
                let name = known.map_or_else(|_| make::authority_name(appliance, &key), |known| known.name);
                put(disk, &place, make::authority(&name, permitted, &key)?.as_bytes(), MODE)?;
            }
            Step::Issue(one, _) | Step::Renew(one, _) => issue(disk, folder, one)?,
            Step::Remove(of) => {
                let path = issued_file(folder, of);
                disk.remove(&path)
                    .and_then(|()| disk.sync_folder(&issued))
                    .map_err(Error::io("remove", &path))?;
            }
            Step::Refuse(..) => {}
        }
    }
    Ok(())
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, Error> {
    disk.read(path).map_err(Error::io("read", path))
}

fn issue(disk: &dyn Disk, folder: &Path, one: &Certificate) -> Result<(), Error> {
    let pair = Pair::parse(&read(disk, &authority_file(folder))?).map_err(Error::Certificate)?;
    let issuer: Issuer<'_, KeyPair> = Issuer::from_ca_cert_der(&pair.certificate.as_slice().into(), pair.key)
        .map_err(|why| Error::Certificate(format!("the authority's certificate cannot be used: {why}")))?;
    let text = make::certificate(one, &issuer)?;
    put(disk, &issued_file(folder, &one.of), text.as_bytes(), MODE)
}

/// Brings a folder to what is wanted at `now`, alone among those that do: of `only` one use, or of all. Gives the steps that were taken,
/// with the refusals.
///
/// # Errors
/// The disk's.
pub fn ensure(
    disk: &dyn Disk,
    folder: &Path,
    now: Timestamp,
    wanted: &Wanted,
    only: Option<&str>,
) -> Result<Vec<Step>, Error> {
    disk.make_folder(folder).map_err(Error::io("make the folder", folder))?;
    let _alone = disk.lock(folder).map_err(Error::io("lock", folder))?;
    let steps = plan(now, &Found::read(disk, folder, only)?, wanted);
    apply(disk, folder, &steps)?;
    Ok(steps)
}

/// The key and the certificate of a use, in PEM; `None` if there are none.
///
/// # Errors
/// The disk's.
pub fn issued(disk: &dyn Disk, folder: &Path, of: &str) -> Result<Option<String>, Error> {
    text(disk, &issued_file(folder, of))
}

/// The authority's certificate without its key, in PEM; `None` if there is none that can be used.
///
/// # Errors
/// The disk's.
pub fn authority_certificate(disk: &dyn Disk, folder: &Path) -> Result<Option<String>, Error> {
    let path = authority_file(folder);
    let Some(text) = text(disk, &path)? else {
        return Ok(None);
    };
    let pair = Pair::parse(text.as_bytes());
    let pair = pair.and_then(|pair| authority(&pair).map(|_| pair));
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Ok(pair
        .ok()
        .map(|pair| pem::encode_config(&pem::Pem::new("CERTIFICATE", pair.certificate), config)))
}

fn text(disk: &dyn Disk, path: &Path) -> Result<Option<String>, Error> {
    match disk.read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path)(e)),
    }
}

impl Found {
    /// Whether nothing in the folder is damaged, and every certificate is of the authority that is there.
    pub fn whole(&self) -> bool {
        let good = |held: &Held<super::read::Facts>| matches!(held, Held::Whole(facts) if facts.ours);
        matches!(&self.authority, Held::Whole(authority) if authority.certificate_damaged.is_none())
            && self.certificates.values().all(good)
    }
}
