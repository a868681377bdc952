//! Writes a document's text: the same entries always give the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::document::{Algorithm, VERSION};

pub(crate) fn document(algorithm: Algorithm, entries: &BTreeMap<String, String>) -> String {
    let mut text = format!("version = \"{VERSION}\"\nalgorithm = \"{algorithm}\"\n\n[data]\n");
    for (name, value) in entries {
        // Writing to a string has no way to fail.
        let _ = writeln!(text, "{} = {}", quoted(name), string(value));
    }
    text
}

/// A literal block, which people can read, where TOML allows it.
fn string(value: &str) -> String {
    let literal = !value.contains("'''")
        && !value.ends_with('\'')
        && value
            .chars()
            .all(|c| c == '\n' || c == '\t' || !c.is_control());
    if literal {
        format!("'''\n{value}'''")
    } else {
        quoted(value)
    }
}

/// A basic string with every special character escaped (TOML 1.0, section "String").
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
