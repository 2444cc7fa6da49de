//! `imagegen schema`: the formats' JSON Schemas, and their reference as text.

use super::Outcome;
use super::arguments::{Schema, SchemaOf};
use crate::reference;
use crate::report::print;

pub(super) fn run(options: &Schema) -> Outcome {
    if options.markdown {
        return print(&match options.format {
            SchemaOf::Unit => reference::unit_markdown(),
            SchemaOf::Recipe => reference::recipe_markdown(),
            SchemaOf::Site => reference::site_markdown(),
            SchemaOf::All => reference::markdown(),
        });
    }
    let schema = match options.format {
        SchemaOf::Unit => reference::unit_schema(),
        SchemaOf::Recipe => reference::recipe_schema(),
        SchemaOf::Site => reference::site_schema(),
        SchemaOf::All => serde_json::json!({ "unit": reference::unit_schema(), "recipe": reference::recipe_schema() }),
    };
    print(&format!("{}\n", serde_json::to_string_pretty(&schema)?))
}
