//! As JSON, in the way of `journalctl -o json`: every value a string, one that is not printable UTF-8 an array of its bytes, and
//! a name that stands more than once an array of its values.

use serde_json::{Map, Value};

use super::fields;
use crate::record::Record;

/// One JSON object, without newline.
pub fn json(record: &Record) -> String {
    let mut object = Map::new();
    for (name, value) in fields(record) {
        let value = value_of(&value);
        match object.get_mut(name) {
            None => {
                object.insert(name.to_owned(), value);
            }
            // Several values: an array whose elements are strings or arrays. One value of bytes is an array of numbers.
            Some(Value::Array(several)) if !several.iter().all(Value::is_number) => several.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(object).to_string()
}

fn value_of(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| !c.is_control() || c == '\t' || c == '\n') => Value::from(text),
        _ => Value::from(bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::output::tests::record;
    use crate::record::{FieldName, Origin};

    #[test]
    fn text_is_text_bytes_are_numbers_and_repeated_names_are_arrays() {
        let mut record = record(b"\xffa");
        let mut origin = Origin::clone(&record.origin);
        for value in [b"1".as_slice(), b"\x01", b"3"] {
            origin.fields.push((FieldName::new("X").unwrap(), value.to_vec()));
        }
        record.origin = Arc::new(origin);
        let read: Value = serde_json::from_str(&json(&record)).unwrap();
        assert_eq!(read["MESSAGE"], serde_json::json!([255, 97]));
        assert_eq!(read["X"], serde_json::json!(["1", [1], "3"]));
        assert_eq!(read["PRIORITY"], "6");
        assert_eq!(read["__REALTIME_TIMESTAMP"], "1795336322123456");
    }
}
