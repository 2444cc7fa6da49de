//! The text of `site.toml` with something else in it, so that comments and the owner's own way of writing stay.

use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike};

/// The text to be edited.
///
/// # Errors
///
/// Says where it is no TOML.
pub(crate) fn parse(text: &str) -> Result<DocumentMut, String> {
    text.parse().map_err(|e: toml_edit::TomlError| e.to_string())
}

/// The table at a path of keys, made where there is none.
///
/// # Errors
///
/// Names the path where one of its keys is something else.
pub(crate) fn table_at<'a>(site: &'a mut DocumentMut, path: &[&str]) -> Result<&'a mut dyn TableLike, String> {
    let wrong = || format!("[{}] is not a table", path.join("."));
    let mut place = site.as_item_mut();
    for (depth, key) in (1..).zip(path) {
        let inline = place.is_inline_table();
        let table = place.as_table_like_mut().ok_or_else(wrong)?;
        place = table.entry(key).or_insert_with(|| empty(inline, depth < path.len()));
    }
    place.as_table_like_mut().ok_or_else(wrong)
}

/// A table for a place in another one; an implicit one has a heading only once it holds values. What is written in one line has no room for a table with a heading: that would be
/// left out when the text is printed.
fn empty(inline: bool, implicit: bool) -> Item {
    if inline {
        return toml_edit::value(InlineTable::new());
    }
    let mut table = Table::new();
    table.set_implicit(implicit);
    Item::Table(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_found_or_made_however_the_owner_writes_tables() {
        for (own, written) in [
            ("", "[a.b.c]\nnew = 1\n"),
            ("[a]\nx = 0 # mine\n", "[a]\nx = 0 # mine\n\n[a.b.c]\nnew = 1\n"),
            ("[a.b]\nc.x = 0\n", "[a.b]\nc.x = 0\nc.new = 1\n"),
            ("[a.b]\nc = { x = 0 }\n", "[a.b]\nc = { x = 0, new = 1 }\n"),
            ("[a.b]\nc = {}\n", "[a.b]\nc = { new = 1 }\n"),
            ("a = { x = 0 }\n", "a = { x = 0, b = { c = { new = 1 } } }\n"),
            ("a = { b = { x = 0 } }\n", "a = { b = { x = 0, c = { new = 1 } } }\n"),
            ("[a]\nb = { x = 0 }\n", "[a]\nb = { x = 0, c = { new = 1 } }\n"),
            ("a = { b.x = 0 }\n", "a = { b.x = 0, b.c = { new = 1 } }\n"),
            ("a.b.x = 0\n", "a.b.x = 0\n\n[a.b.c]\nnew = 1\n"),
            ("a.x = 0\n", "a.x = 0\n\n[a.b.c]\nnew = 1\n"),
            ("[x]\n", "[x]\n\n[a.b.c]\nnew = 1\n"),
        ] {
            let mut site = parse(own).unwrap();
            table_at(&mut site, &["a", "b", "c"])
                .unwrap()
                .insert("new", toml_edit::value(1));
            let text = site.to_string();
            let read: toml::Table = toml::from_str(&text).expect(&text);
            assert_eq!(read["a"]["b"]["c"]["new"].as_integer(), Some(1), "{text}");
            // What stood last in a line keeps the space behind it.
            assert_eq!(text.replace(" ,", ","), written, "{own}");
        }
        for other in ["a = 1\n", "a.b = 1\n", "[a.b]\nc = []\n", "[[a]]\n"] {
            let mut site = parse(other).unwrap();
            let refused = table_at(&mut site, &["a", "b", "c"]).err();
            assert_eq!(refused.as_deref(), Some("[a.b.c] is not a table"), "{other}");
        }
    }
}
