//! Shared by the tests of the formats.

use cairn_unit::Source;

/// A source as if `file` held `text`.
pub(crate) fn source(file: &str, text: &str) -> Source {
    Source {
        file: file.into(),
        text: text.to_owned(),
    }
}
