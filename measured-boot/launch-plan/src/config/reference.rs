//! The reference of all keys, made from their declarations.

use std::fmt::Write as _;

use super::Configuration;
use super::spec::{AnnotationGate, KeySpec};

/// All keys with type, default, annotation and meaning, as Markdown.
pub fn reference() -> String {
    let mut text = String::from("# Configuration reference\n");
    let mut table = "";
    for key in Configuration::keys().filter(|key| key.unused.is_none()) {
        if key.table != table {
            table = key.table;
            // Writing to a string has no way to fail.
            let _ = write!(
                text,
                "\n## `[{table}]`\n\n| Key | Type | Default | Annotation | Meaning |\n|---|---|---|---|---|\n"
            );
        }
        let _ = writeln!(
            text,
            "| `{}`{} | {} | `{}` | {} | {} |",
            key.name,
            other_spellings(key),
            key.type_name,
            (key.default)(),
            annotation(key),
            key.doc.trim()
        );
    }
    text.push_str(
        "\n## Accepted without effect\n\nThese keys of Kata Containers are read and checked, and \
         change nothing here.\n\n| Key | Type | Why |\n|---|---|---|\n",
    );
    for key in Configuration::keys() {
        if let Some(reason) = key.unused {
            let _ = writeln!(text, "| `{}` | {} | {reason} |", key.path(), key.type_name);
        }
    }
    text
}

fn other_spellings(key: &KeySpec) -> String {
    key.spellings.iter().fold(String::new(), |text, spelling| {
        text + ", `" + spelling + "`"
    })
}

fn annotation(key: &KeySpec) -> &'static str {
    match key.gate {
        AnnotationGate::Never => "no",
        AnnotationGate::Gated => "where enabled",
        AnnotationGate::Always => "yes",
    }
}
