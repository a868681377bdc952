use serde_json::Value;

use crate::KbsProtocolError;

/// Writes JSON in its canonical form (RFC 8785).
///
/// Numbers are limited to integers below 2^53, the only ones that the protocol
/// could need; anything else is an error, not a guess.
pub fn canonical_json(value: &Value) -> Result<String, KbsProtocolError> {
    let mut out = String::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut String) -> Result<(), KbsProtocolError> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => {
            const LIMIT: u64 = 1 << 53;
            let exact = number.as_i64().is_some_and(|n| n.unsigned_abs() < LIMIT);
            if !exact {
                return Err(KbsProtocolError::NotCanonical(number.to_string()));
            }
            out.push_str(&number.to_string());
        }
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            // RFC 8785 orders names by UTF-16 code units, which is not the order of UTF-8 bytes.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write(member, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// Escapes as ECMAScript's `JSON.stringify` does (RFC 8785 section 3.2.2.2).
fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if u32::from(c) < 0x20 => {
                out.push_str("\\u00");
                for shift in [4, 0] {
                    let nibble = (u32::from(c) >> shift) & 0xf;
                    out.push(char::from_digit(nibble, 16).unwrap_or('0'));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_ordered_by_utf16_and_strings_escaped() {
        // RFC 8785 section 3.2.3: U+1F600 sorts before U+FB33, although its UTF-8 is greater.
        let value = json!({"\u{fb33}": 1, "\u{1f600}": 2, "\u{20ac}": 3, "\r": 4, "1": 5});
        assert_eq!(
            canonical_json(&value).unwrap(),
            "{\"\\r\":4,\"1\":5,\"\u{20ac}\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}"
        );
        assert_eq!(
            canonical_json(&json!("\u{20ac}$\u{f}\nA'B\"\\\u{7f}/")).unwrap(),
            "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\u{7f}/\""
        );
    }

    #[test]
    fn inexact_numbers_are_refused() {
        for value in [
            json!(1.5),
            json!(1_u64 << 53),
            json!(u64::MAX),
            json!(-(1_i64 << 53)),
        ] {
            assert!(matches!(
                canonical_json(&value),
                Err(KbsProtocolError::NotCanonical(_))
            ));
        }
        assert_eq!(
            canonical_json(&json!([0, -7, null, true, false])).unwrap(),
            "[0,-7,null,true,false]"
        );
    }

    proptest! {
        #[test]
        fn any_text_reads_back_the_same(text in any::<String>()) {
            let canonical = canonical_json(&json!({ "k": text.clone() })).unwrap();
            let back: Value = serde_json::from_str(&canonical).unwrap();
            prop_assert_eq!(back, json!({ "k": text }));
        }
    }
}
