//! Signed JSON documents of Intel's provisioning certification service.

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::error::VerifierError;

/// The length of an ECDSA P-256 signature in bytes.
const SIGNATURE_BYTES: usize = 64;

/// A JSON document and the signature over its very bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedDocument {
    /// The signed text, exactly as it came.
    pub text: String,
    /// ECDSA P-256 with SHA-256 over `text`: r and s, 32 bytes each.
    pub signature: [u8; SIGNATURE_BYTES],
    /// The text as a value.
    pub value: Value,
}

impl SignedDocument {
    /// Reads an answer such as `{"tcbInfo": {...}, "signature": "..."}`; `member`
    /// names the document.
    ///
    /// The signature is over the bytes of the member's value, so they are cut
    /// out as they stand and not written anew.
    pub fn parse(answer: &[u8], member: &'static str) -> Result<Self, VerifierError> {
        let wrong = || VerifierError::SignedDocument { member };
        let answer = std::str::from_utf8(answer).map_err(|_| wrong())?;
        let whole: Value = serde_json::from_str(answer).map_err(|_| wrong())?;
        let value = whole.get(member).filter(|value| value.is_object());
        let value = value.ok_or_else(wrong)?.clone();
        let mut signature = [0; SIGNATURE_BYTES];
        whole
            .get("signature")
            .and_then(Value::as_str)
            .and_then(|text| hex::decode_to_slice(text, &mut signature).ok())
            .ok_or_else(wrong)?;
        let text = cut_out(answer, member).ok_or_else(wrong)?;
        // The text that was cut out must be the value that was looked at.
        if serde_json::from_str::<Value>(text).ok().as_ref() != Some(&value) {
            return Err(wrong());
        }
        Ok(Self {
            text: text.to_owned(),
            signature,
            value,
        })
    }

    /// A member of the document that is text.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.value.get(name).and_then(Value::as_str)
    }
}

/// The text of the value behind the first `"member":`.
fn cut_out<'a>(answer: &'a str, member: &str) -> Option<&'a str> {
    let key = format!("\"{member}\"");
    let (_, rest) = answer.split_once(&key)?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    rest.get(..values.byte_offset())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "0101010101010101010101010101010101010101010101010101010101010101\
        0202020202020202020202020202020202020202020202020202020202020202";

    #[test]
    fn the_signed_text_is_cut_out_byte_by_byte() {
        for (answer, text) in [
            (
                format!(r#"{{"tcbInfo":{{"b": 1,"a":"}}"}},"signature":"{SIGNATURE}"}}"#),
                r#"{"b": 1,"a":"}"}"#,
            ),
            (
                format!(r#"{{"signature":"{SIGNATURE}", "tcbInfo" : {{ }} }}"#),
                "{ }",
            ),
        ] {
            let document = SignedDocument::parse(answer.as_bytes(), "tcbInfo").unwrap();
            assert_eq!(document.text, text);
            assert_eq!(document.signature[31..33], [1, 2]);
        }
    }

    #[test]
    fn answers_without_document_or_signature_are_refused() {
        for answer in [
            String::new(),
            "<html>busy</html>".to_owned(),
            "{}".to_owned(),
            format!(r#"{{"signature":"{SIGNATURE}"}}"#),
            format!(r#"{{"tcbInfo":"text","signature":"{SIGNATURE}"}}"#),
            r#"{"tcbInfo":{}}"#.to_owned(),
            r#"{"tcbInfo":{},"signature":"0102"}"#.to_owned(),
            r#"{"tcbInfo":{},"signature":7}"#.to_owned(),
            // The same text earlier, in another place: what is signed would not be what is read.
            format!(
                r#"{{"x":{{"tcbInfo":{{"a":1}}}},"tcbInfo":{{"a":2}},"signature":"{SIGNATURE}"}}"#
            ),
        ] {
            assert!(
                SignedDocument::parse(answer.as_bytes(), "tcbInfo").is_err(),
                "{answer}"
            );
        }
        assert!(SignedDocument::parse(&[0xFF, 0xFE], "tcbInfo").is_err());
    }
}
