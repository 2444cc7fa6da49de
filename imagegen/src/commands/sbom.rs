//! `imagegen sbom`: the bill of materials of a built image.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::Outcome;
use super::arguments::{Sbom, SbomFormat};
use super::inspect::need_manifest;
use crate::report::print;
use crate::sbom::{cyclonedx, spdx};

pub(super) fn run(options: &Sbom) -> Outcome {
    let mut inventory = need_manifest(&options.image)?.inventory;
    inventory.sha256 = Some(sha256(&options.image)?);
    let document = match options.format {
        SbomFormat::Spdx => spdx(&inventory),
        SbomFormat::Cyclonedx => cyclonedx(&inventory),
    };
    let text = format!("{}\n", serde_json::to_string_pretty(&document)?);
    match &options.output {
        None => print(&text),
        Some(path) => std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()).into()),
    }
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect()),
            count => hash.update(&buffer[..count]),
        }
    }
}
