//! A JSON Schema, as schemars writes it, as Markdown: one table of keys for each table of the format.

use std::collections::BTreeMap;

use serde_json::Value;

/// The section on one format: its keys, table by table, then the sample.
pub(super) fn reference(title: &str, schema: &Value, sample: &str) -> String {
    let example: toml::Table = sample.parse().unwrap_or_default();
    let mut text = format!("## {title}\n\n{}\n", description(schema));
    section(schema, schema, "", &toml::Value::Table(example), &mut text);
    text.push_str(&format!("\n### A file that uses every key\n\n```toml\n{}```\n", sample));
    text
}

/// The section on the values that are text with a form of their own.
pub(super) fn values(schemas: &[Value]) -> String {
    let mut rows = BTreeMap::new();
    for schema in schemas {
        for (name, def) in schema["$defs"].as_object().into_iter().flatten() {
            if def["type"] == "string" && def.get("pattern").is_some() {
                let examples = def["examples"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str);
                let examples: Vec<_> = examples.map(|e| format!("`\"{e}\"`")).collect();
                rows.insert(
                    label(name),
                    format!(
                        "| {} | {} | {} |\n",
                        label(name),
                        cell(&description(def)),
                        examples.join(", ")
                    ),
                );
            }
        }
    }
    let rows: String = rows.into_values().collect();
    format!("## Values\n\n| type | form | examples |\n| --- | --- | --- |\n{rows}")
}

/// The table of `node`'s keys under `heading`, then a section for each key that is a table itself.
fn section(root: &Value, node: &Value, heading: &str, example: &toml::Value, text: &mut String) {
    let required: Vec<&str> = node["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    text.push_str("\n| key | type | default | meaning | example |\n| --- | --- | --- | --- | --- |\n");
    let mut below = Vec::new();
    for (key, value) in node["properties"].as_object().into_iter().flatten() {
        let shape = shape(root, value);
        let given = example.get(key);
        let default = match value.get("default") {
            _ if required.contains(&key.as_str()) => "required".to_owned(),
            _ if shape.table.is_some() => String::new(),
            Some(default) if !default.is_null() => format!("`{}`", inline(default)),
            _ => String::new(),
        };
        let shown = match (&shape.table, given) {
            (None, Some(value)) => format!("`{}`", value.to_string().replace('\n', " ")),
            _ => String::new(),
        };
        let mut meaning = description(value);
        for (constant, words) in shape.choices.iter().filter(|(_, words)| !words.is_empty()) {
            meaning.push_str(&format!("<br>{constant}: {words}"));
        }
        text.push_str(&format!(
            "| `{key}` | {} | {default} | {} | {} |\n",
            cell(&shape.label),
            cell(&meaning),
            cell(&shown)
        ));
        if let Some((table, kind)) = shape.table {
            below.push((key.clone(), table, kind, given.cloned()));
        }
    }
    for (key, table, kind, given) in below {
        let path = if heading.is_empty() {
            key.clone()
        } else {
            format!("{heading}.{key}")
        };
        let (title, given) = match (kind, given) {
            (Kind::One, given) => (format!("[{path}]"), given),
            (Kind::Many, given) => (
                format!("[[{path}]]"),
                given.and_then(|g| g.as_array()?.first().cloned()),
            ),
            (Kind::Map(of), given) => (
                format!("[{path}.{of}]"),
                given.and_then(|g| g.as_table()?.values().next().cloned()),
            ),
        };
        text.push_str(&format!("\n### `{title}`\n\n{}\n", description(&table)));
        section(root, &table, &path, &given.unwrap_or(toml::Value::Boolean(false)), text);
    }
}

/// How often a table stands under its key.
enum Kind {
    One,
    Many,
    /// Once for each key, which is of this type.
    Map(String),
}

/// What a value looks like.
struct Shape {
    label: String,
    table: Option<(Value, Kind)>,
    choices: Vec<(String, String)>,
}

fn shape(root: &Value, value: &Value) -> Shape {
    let leaf = |label: &str| Shape {
        label: label.to_owned(),
        table: None,
        choices: Vec::new(),
    };
    if let Some(name) = value["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
        let target = &root["$defs"][name];
        if target.get("properties").is_some() {
            return Shape {
                label: "table".into(),
                table: Some((target.clone(), Kind::One)),
                choices: Vec::new(),
            };
        }
        if target["type"] == "string" && target.get("pattern").is_some() {
            return leaf(&label(name));
        }
        return shape(root, target);
    }
    for key in ["anyOf", "oneOf"] {
        let Some(options) = value[key].as_array() else { continue };
        let real: Vec<&Value> = options.iter().filter(|o| o["type"] != "null").collect();
        if let [one] = real[..] {
            return shape(root, one);
        }
        let choices: Vec<(String, String)> = real.iter().flat_map(|o| choice(root, o)).collect();
        let label = choices.iter().map(|(c, _)| c.as_str()).collect::<Vec<_>>().join(" or ");
        return Shape {
            label,
            table: None,
            choices,
        };
    }
    if let Some(constants) = value["enum"].as_array() {
        let label = constants
            .iter()
            .map(|c| format!("`{c}`"))
            .collect::<Vec<_>>()
            .join(" or ");
        return leaf(&label);
    }
    let kind = match &value["type"] {
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|k| *k != "null")
            .unwrap_or_default(),
        kind => kind.as_str().unwrap_or_default(),
    };
    match kind {
        "array" => {
            let of = shape(root, &value["items"]);
            match of.table {
                Some((table, _)) => Shape {
                    label: "list of tables".into(),
                    table: Some((table, Kind::Many)),
                    choices: Vec::new(),
                },
                None => Shape {
                    label: format!("list of {}", plural(&of.label)),
                    table: None,
                    choices: of.choices,
                },
            }
        }
        "object" => map(root, value),
        "integer" => {
            let bound = |key: &str| value[key].as_u64().map(|n| n.to_string());
            match (bound("minimum"), bound("maximum")) {
                (Some(low), Some(high)) => leaf(&format!("number, {low} to {high}")),
                _ => leaf("number"),
            }
        }
        "boolean" => leaf("`true` or `false`"),
        _ => leaf("text"),
    }
}

/// A table whose keys the writer chooses. Keys with a form of their own stand under `patternProperties`.
fn map(root: &Value, value: &Value) -> Shape {
    let patterns = value["patternProperties"].as_object().and_then(|p| p.iter().next());
    let (keys, inner) = match patterns {
        Some((pattern, inner)) => (key_type(root, pattern), inner),
        None => ("name".to_owned(), &value["additionalProperties"]),
    };
    let keys = keys.to_uppercase();
    let of = shape(root, inner);
    match of.table {
        Some((table, _)) => Shape {
            label: format!("tables by {keys}"),
            table: Some((table, Kind::Map(keys))),
            choices: Vec::new(),
        },
        None => Shape {
            label: format!("table: {keys} = {}", of.label),
            table: None,
            choices: of.choices,
        },
    }
}

/// The type of a map's keys, found by its pattern.
fn key_type(root: &Value, pattern: &str) -> String {
    let defs = root["$defs"].as_object();
    let name = defs
        .into_iter()
        .flatten()
        .find(|(_, def)| def["pattern"] == pattern)
        .map(|(name, _)| name.as_str());
    match name {
        Some(name) => label(name),
        None if pattern.starts_with("^/") => "path".into(),
        None => "name".into(),
    }
}

/// One choice of an enumeration, with its meaning. A choice that carries a value is a table with one key.
fn choice(root: &Value, option: &Value) -> Vec<(String, String)> {
    let words = description(option);
    if let Some(constant) = option["const"].as_str() {
        return vec![(format!("`\"{constant}\"`"), words)];
    }
    if let Some(constants) = option["enum"].as_array() {
        return constants.iter().map(|c| (format!("`{c}`"), words.clone())).collect();
    }
    let carried = option["properties"].as_object().and_then(|p| p.iter().next());
    match carried {
        Some((key, value)) => vec![(format!("`{{ {key} = … }}` ({})", shape(root, value).label), words)],
        None => vec![(shape(root, option).label, words)],
    }
}

/// A type's name as readers know it.
fn label(name: &str) -> String {
    match name {
        "Bytes" => "size".into(),
        "Seconds" => "duration".into(),
        other => other.to_lowercase(),
    }
}

fn plural(label: &str) -> String {
    match label {
        "text" => "texts".into(),
        "name" | "path" | "size" | "number" => format!("{label}s"),
        other => other.to_owned(),
    }
}

fn description(value: &Value) -> String {
    value["description"].as_str().unwrap_or_default().replace('\n', " ")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// A JSON value as TOML writes it in a line.
fn inline(value: &Value) -> String {
    toml::Value::try_from(value).map_or_else(|_| value.to_string(), |v| v.to_string().replace('\n', " "))
}
