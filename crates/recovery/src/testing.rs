//! What the tests of this crate begin with.

use cairn_upgrade::entries::EntryName;

use crate::findings::{Content, Data, Findings, Medium, Slot};

/// A slot with this entry, as `box_1.0.0+0-3.efi`; none if that is empty.
pub(crate) fn slot(file: &str) -> Slot {
    let entry = EntryName::parse(file);
    Slot {
        label: "root".into(),
        file: file.into(),
        content: if entry.is_some() {
            Content::Readable
        } else {
            Content::Empty
        },
        entry,
    }
}

/// An appliance with these two slots, whose data can be read.
pub(crate) fn findings(first: &str, second: &str) -> Findings {
    Findings {
        name: "box".into(),
        slots: vec![slot(first), slot(second)],
        data: Data::Open {
            tried: None,
            history: Vec::new(),
        },
        ..Findings::default()
    }
}

/// A medium with this bundle.
pub(crate) fn medium(bundle: &str) -> Medium {
    Medium {
        device: "sdb1".into(),
        kind: "vfat".into(),
        bundles: vec![bundle.into()],
    }
}
