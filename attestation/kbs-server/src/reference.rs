//! Reference values: launches that are known to be good.

use serde::Deserialize;
use serde_json::{Value, json};

/// A launch that is known to be good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpReferenceValue {
    /// The launch digest.
    pub launch_digest: [u8; 48],
    /// The `HOST_DATA` that must come with it, where one is asked for.
    pub host_data: Option<[u8; 32]>,
    /// Where the value stands: file and position.
    pub source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    values: Vec<Entry>,
}

/// Unknown members are refused: one may be a condition that would be ignored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    tee: String,
    launch_digest: String,
    host_data: Option<String>,
    /// What the value was computed from; for people.
    #[serde(default, rename = "inputs")]
    _inputs: Value,
}

/// Reads a file of reference values; `name` is used in sources and errors.
/// Values of other TEEs than SEV-SNP are skipped.
pub fn parse_reference_values(bytes: &[u8], name: &str) -> Result<Vec<SnpReferenceValue>, String> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if file.version != 1 {
        return Err(format!("version {} is not supported, only 1", file.version));
    }
    let mut values = Vec::new();
    for (index, entry) in file.values.iter().enumerate() {
        if entry.tee != "snp" {
            continue;
        }
        let wrong = |member: &str, size: usize| {
            format!("values[{index}].{member} is not {size} bytes in hexadecimal")
        };
        let mut launch_digest = [0; 48];
        hex::decode_to_slice(&entry.launch_digest, &mut launch_digest)
            .map_err(|_| wrong("launch_digest", 48))?;
        let host_data = match &entry.host_data {
            None => None,
            Some(text) => {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| wrong("host_data", 32))?;
                Some(bytes)
            }
        };
        let source = format!("{name}#{index}");
        values.push(SnpReferenceValue {
            launch_digest,
            host_data,
            source,
        });
    }
    Ok(values)
}

/// Writes values in the form that [`parse_reference_values`] reads.
pub(crate) fn write_reference_values(values: &[SnpReferenceValue]) -> Vec<u8> {
    let entries: Vec<Value> = values
        .iter()
        .map(|value| {
            json!({
                "tee": "snp",
                "launch_digest": hex::encode(value.launch_digest),
                "host_data": value.host_data.map(hex::encode),
            })
        })
        .collect();
    json!({ "version": 1, "values": entries })
        .to_string()
        .into_bytes()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn file(digest: &str, host_data: &str) -> String {
        format!(
            r#"{{"version":1,"values":[{{"tee":"snp","launch_digest":"{digest}","host_data":{host_data},"inputs":{{"vcpus":1}}}}]}}"#
        )
    }

    #[test]
    fn values_are_read_in_either_case() {
        let text = file(&"Ab".repeat(48), &format!("\"{}\"", "01".repeat(32)));
        let values = parse_reference_values(text.as_bytes(), "f.json").unwrap();
        assert_eq!(
            values,
            [SnpReferenceValue {
                launch_digest: [0xab; 48],
                host_data: Some([1; 32]),
                source: "f.json#0".to_owned(),
            }]
        );
        let text = file(&"ab".repeat(48), "null");
        assert_eq!(
            parse_reference_values(text.as_bytes(), "f").unwrap()[0].host_data,
            None
        );
    }

    #[test]
    fn other_tees_are_skipped_and_malformed_values_refused() {
        let tdx = r#"{"version":1,"values":[{"tee":"tdx","launch_digest":"00"}]}"#;
        assert!(
            parse_reference_values(tdx.as_bytes(), "f")
                .unwrap()
                .is_empty()
        );
        for text in [
            "",
            "[]",
            r#"{"version":2,"values":[]}"#,
            r#"{"values":[]}"#,
            r#"{"version":1,"values":[{"tee":"snp","launch_digest":"00"}]}"#,
            r#"{"version":1,"values":[{"tee":"snp"}]}"#,
            &file(&"ab".repeat(48), "\"00\""),
            &file(&"zz".repeat(48), "null"),
            &file(&"ab".repeat(48), "null").replace("inputs", "minimum_tcb"),
        ] {
            assert!(
                parse_reference_values(text.as_bytes(), "f").is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn written_values_read_back() {
        let text = file(&"ab".repeat(48), &format!("\"{}\"", "01".repeat(32)));
        let values = parse_reference_values(text.as_bytes(), "f").unwrap();
        let again = parse_reference_values(&write_reference_values(&values), "f").unwrap();
        assert_eq!(again, values);
    }
}
