//! The reference of the text formats, made from their types: JSON Schemas for editors, Markdown for people.
//!
//! The words are the types' own comments. The examples come from two sample files beside this one, which a test parses
//! and in which it looks for every key.

mod markdown;

use schemars::schema_for;
use serde_json::{Value, json};

/// A unit that uses every key.
pub const UNIT_SAMPLE: &str = include_str!("unit.toml");
/// A recipe that uses every key.
pub const RECIPE_SAMPLE: &str = include_str!("sample.toml");

/// First choices that use every key.
pub const SITE_SAMPLE: &str = include_str!("site.toml");

/// The JSON Schema of `setup.toml`; `site.toml` is the same without `administrator`.
pub fn site_schema() -> Value {
    titled(schema_for!(cairn_unit::First).to_value(), "Cairn first choices")
}

/// The whole of `docs/site.md`.
pub fn site_markdown() -> String {
    format!(
        "# The owner's choices\n\nMade by `imagegen schema site --markdown` from the types in `crates/unit`; a test fails when this file differs.\n\n\
         What the owner chose stands in one file on the data partition, `/data/site/site.toml`. The panel, `cairn enable` and `cairn upgrade hold` write it; so can an \
         editor, followed by `cairn reload`. A file with a mistake changes nothing: the mistake is said with its line, and what held before goes on \
         holding. Every version is kept: `cairn config history`, `diff` and `rollback`.\n\n`setup.toml` is the same file with `[administrator]` in \
         it. It sets an appliance up that waits for that, without a person ([how](operating.md#without-a-person)). An unknown key is an \
         error.\n\n{}\n{}",
        markdown::values(&[site_schema()]),
        markdown::reference("Site: `site.toml` and `setup.toml`", &site_schema(), SITE_SAMPLE)
    )
}

/// The JSON Schema of a unit.
pub fn unit_schema() -> Value {
    titled(schema_for!(cairn_unit::Unit).to_value(), "Cairn unit")
}

/// The JSON Schema of a recipe.
pub fn recipe_schema() -> Value {
    titled(schema_for!(cairn_unit::Recipe).to_value(), "Cairn recipe")
}

fn titled(mut schema: Value, title: &str) -> Value {
    schema["title"] = json!(title);
    schema
}

/// The unit's reference.
pub fn unit_markdown() -> String {
    markdown::reference("Unit: `units/NAME.toml`", &unit_schema(), UNIT_SAMPLE)
}

/// The recipe's reference.
pub fn recipe_markdown() -> String {
    markdown::reference("Recipe: `appliances/NAME.toml`", &recipe_schema(), RECIPE_SAMPLE)
}

/// The whole of `docs/units.md`.
pub fn markdown() -> String {
    format!(
        "# Units and recipes\n\nMade by `imagegen schema all --markdown` from the types in `crates/unit`; a test fails when \
         this file differs. `imagegen schema unit` and `imagegen schema recipe` print JSON Schemas, with which an \
         editor completes and checks these files. An unknown key is an error.\n\n{}\n{}\n{}",
        markdown::values(&[unit_schema(), recipe_schema()]),
        unit_markdown(),
        recipe_markdown()
    )
}
