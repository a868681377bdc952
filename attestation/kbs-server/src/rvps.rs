//! Reference values in the form that Trustee's reference value provider takes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::reference::SnpReferenceValue;

/// The only version and kind of message that carries plain values.
const VERSION: &str = "0.1.0";
const SAMPLE: &str = "sample";

/// The name under which launch digests stand.
const LAUNCH_MEASUREMENT: &str = "snp_launch_measurement";

const DIGEST_BYTES: usize = 48;

#[derive(Deserialize)]
struct Message {
    version: String,
    #[serde(rename = "type")]
    kind: String,
    payload: String,
}

/// What a message holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RvpsImport {
    /// The launch digests, as reference values that ask for no `HOST_DATA`.
    pub values: Vec<SnpReferenceValue>,
    /// Names of values that have no counterpart here, such as lists of exact
    /// firmware versions; minimum versions are the configuration's.
    pub left_out: Vec<String>,
}

/// Reads a message (`{"version":"0.1.0","type":"sample","payload":"<base64>"}`)
/// or its payload (`{"<name>": [values]}`); `source` is used in the values.
pub fn parse_rvps(bytes: &[u8], source: &str) -> Result<RvpsImport, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let payload = if value.get("payload").is_some() {
        read_message(value)?
    } else {
        value
    };
    let Value::Object(names) = payload else {
        return Err("the payload is not a map of names to values".to_owned());
    };
    read_names(&names, source)
}

fn read_message(value: Value) -> Result<Value, String> {
    let message: Message = serde_json::from_value(value).map_err(|error| error.to_string())?;
    if message.version != VERSION {
        let version: String = message.version.chars().take(40).collect();
        return Err(format!(
            "message version {version:?} is not supported, only {VERSION}"
        ));
    }
    if message.kind != SAMPLE {
        let kind: String = message.kind.chars().take(40).collect();
        return Err(format!(
            "message type {kind:?} is not supported, only {SAMPLE}"
        ));
    }
    let payload = STANDARD
        .decode(message.payload)
        .map_err(|_| "the payload is not base64".to_owned())?;
    serde_json::from_slice(&payload).map_err(|error| format!("payload: {error}"))
}

fn read_names(names: &Map<String, Value>, source: &str) -> Result<RvpsImport, String> {
    let mut left_out: Vec<String> = names
        .keys()
        .filter(|name| *name != LAUNCH_MEASUREMENT)
        .map(|name| redoubt_errors::flatten(name).chars().take(80).collect())
        .collect();
    left_out.sort();
    let listed = match names.get(LAUNCH_MEASUREMENT) {
        None => &[][..],
        Some(Value::Array(list)) => list.as_slice(),
        Some(single) => std::slice::from_ref(single),
    };
    let mut values = Vec::with_capacity(listed.len());
    for (index, value) in listed.iter().enumerate() {
        let wrong =
            || format!("{LAUNCH_MEASUREMENT}[{index}] is not 48 bytes in hexadecimal or base64");
        let text = value.as_str().ok_or_else(wrong)?;
        values.push(SnpReferenceValue {
            launch_digest: digest(text).ok_or_else(wrong)?,
            host_data: None,
            source: format!("{source}#{index}"),
        });
    }
    Ok(RvpsImport { values, left_out })
}

/// Tools print the measurement in either form; their lengths differ.
fn digest(text: &str) -> Option<[u8; DIGEST_BYTES]> {
    let mut digest = [0; DIGEST_BYTES];
    if text.len() == 2 * DIGEST_BYTES {
        hex::decode_to_slice(text, &mut digest).ok()?;
        return Some(digest);
    }
    (STANDARD.decode_slice(text, &mut digest) == Ok(DIGEST_BYTES)).then_some(digest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(payload: &Value) -> Vec<u8> {
        json!({
            "version": VERSION,
            "type": SAMPLE,
            "payload": STANDARD.encode(payload.to_string()),
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn digests_are_taken_and_other_names_reported() {
        let payload = json!({
            "snp_launch_measurement": ["ab".repeat(48), STANDARD.encode([1; 48])],
            "snp_bootloader": ["3"],
            "mr_td": "00",
        });
        for bytes in [message(&payload), payload.to_string().into_bytes()] {
            let import = parse_rvps(&bytes, "release").unwrap();
            let digests: Vec<_> = import.values.iter().map(|v| v.launch_digest[0]).collect();
            assert_eq!(digests, [0xab, 1]);
            assert_eq!(import.values[1].source, "release#1");
            assert_eq!(import.left_out, ["mr_td", "snp_bootloader"]);
        }
        let single = json!({ "snp_launch_measurement": "ab".repeat(48) });
        assert_eq!(parse_rvps(&message(&single), "r").unwrap().values.len(), 1);
    }

    #[test]
    fn malformed_messages_are_refused() {
        let change = |member: &str, value: Value| {
            let mut message: Value = serde_json::from_slice(&message(&json!({}))).unwrap();
            message[member] = value;
            message.to_string().into_bytes()
        };
        for bytes in [
            b"".to_vec(),
            b"[]".to_vec(),
            change("version", json!("0.2.0")),
            change("type", json!("swid")),
            change("payload", json!("%")),
            change("payload", json!(STANDARD.encode("["))),
            change("payload", json!(STANDARD.encode("[]"))),
            message(&json!({ "snp_launch_measurement": ["zz"] })),
            message(&json!({ "snp_launch_measurement": [7] })),
            message(&json!({ "snp_launch_measurement": "ab".repeat(47) })),
        ] {
            assert!(parse_rvps(&bytes, "r").is_err());
        }
    }
}
