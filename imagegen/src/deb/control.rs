//! What a package says of itself: its control fields and the names of its configuration files.

use std::collections::BTreeMap;
use std::io::Read;

use serde::{Deserialize, Serialize};

use crate::resolve::Stanza;

/// No control file is larger than this.
const LIMIT: u64 = 4 << 20;

/// The parts of `control.tar` that matter here. Scripts are not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// The fields of `control`.
    pub fields: BTreeMap<String, String>,
    /// The paths in `conffiles`, without the leading slash.
    pub conffiles: Vec<String>,
}

impl Control {
    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    pub(super) fn read(tar: impl Read) -> Result<Self, String> {
        let mut control = Self::default();
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries().map_err(|e| e.to_string())? {
            let entry = entry.map_err(|e| format!("control.tar: {e}"))?;
            let path = entry.path_bytes().into_owned();
            let name = path.strip_prefix(b"./").unwrap_or(&path);
            if name != b"control" && name != b"conffiles" {
                continue;
            }
            let is_control = name == b"control";
            let (mut text, size) = (String::new(), entry.size());
            entry
                .take(LIMIT)
                .read_to_string(&mut text)
                .map_err(|e| format!("control.tar: {e}"))?;
            if text.len() as u64 != size {
                return Err("control.tar is cut off".into());
            }
            if is_control {
                let fields = Stanza(&text)
                    .fields()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()));
                control.fields = fields.collect();
            } else {
                // A line may carry a flag before the path (deb-conffiles(5)).
                let paths = text.lines().filter_map(|line| line.split_ascii_whitespace().last());
                control.conffiles = paths.map(|path| path.trim_start_matches('/').to_owned()).collect();
            }
        }
        if control.field("Package").is_none() {
            return Err("control.tar has no control file with a Package field".into());
        }
        Ok(control)
    }
}
