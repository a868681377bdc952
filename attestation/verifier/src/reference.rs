//! Reference values as `redoubt measure` writes them.

use redoubt_evidence::SnpReport;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::VerifierError;
use crate::expect::{Expectations, ReferenceSet};

/// The largest file that is read, in bytes.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The version of the file format.
const VERSION: u32 = 1;

/// A launch of an SEV-SNP guest that is known to be good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpReferenceValue {
    /// The launch digest.
    pub launch_digest: [u8; 48],
    /// The `HOST_DATA` that must come with it, where one is asked for.
    pub host_data: Option<[u8; 32]>,
    /// Where the value stands: file and position.
    pub source: String,
}

/// A launch of a TDX guest that is known to be good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxReferenceValue {
    /// MRTD.
    pub mrtd: [u8; 48],
    /// RTMR0 to RTMR3, where known.
    pub rtmrs: [Option<[u8; 48]>; 4],
    /// The MRCONFIGID that must come with it, where one is asked for.
    pub mr_config_id: Option<[u8; 48]>,
    /// Where the value stands: file and position.
    pub source: String,
}

/// Launches that are known to be good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferenceValues {
    /// Of SEV-SNP guests.
    pub snp: Vec<SnpReferenceValue>,
    /// Of TDX guests.
    pub tdx: Vec<TdxReferenceValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    values: Vec<Entry>,
}

/// Unknown members are refused: one may be a condition that would be ignored.
#[derive(Deserialize)]
#[serde(tag = "tee", rename_all = "lowercase", deny_unknown_fields)]
enum Entry {
    Snp {
        launch_digest: String,
        #[serde(default)]
        host_data: Option<String>,
        /// What the value was computed from; for people.
        #[serde(default, rename = "inputs")]
        _inputs: Option<IgnoredAny>,
    },
    Tdx {
        mrtd: String,
        #[serde(default)]
        rtmr0: Option<String>,
        #[serde(default)]
        rtmr1: Option<String>,
        #[serde(default)]
        rtmr2: Option<String>,
        #[serde(default)]
        rtmr3: Option<String>,
        #[serde(default)]
        mr_config_id: Option<String>,
        /// What the value was computed from; for people.
        #[serde(default, rename = "inputs")]
        _inputs: Option<IgnoredAny>,
    },
}

impl ReferenceValues {
    /// Reads a file of reference values; `name` is used in sources.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, VerifierError> {
        if bytes.len() > MAX_BYTES {
            return Err(VerifierError::ReferenceSize {
                actual: bytes.len(),
                limit: MAX_BYTES,
            });
        }
        let file: File = serde_json::from_slice(bytes).map_err(VerifierError::ReferenceJson)?;
        if file.version != VERSION {
            return Err(VerifierError::ReferenceVersion(file.version));
        }
        let mut values = Self::default();
        for (index, entry) in file.values.into_iter().enumerate() {
            values.add(entry, index, format!("{name}#{index}"))?;
        }
        Ok(values)
    }

    /// Both lists together.
    pub fn extend(&mut self, other: Self) {
        self.snp.extend(other.snp);
        self.tdx.extend(other.tdx);
    }

    fn add(&mut self, entry: Entry, index: usize, source: String) -> Result<(), VerifierError> {
        let digest = |member, text: String| decode(index, member, &text);
        match entry {
            Entry::Snp {
                launch_digest,
                host_data,
                ..
            } => self.snp.push(SnpReferenceValue {
                launch_digest: digest("launch_digest", launch_digest)?,
                host_data: host_data
                    .map(|text| decode(index, "host_data", &text))
                    .transpose()?,
                source,
            }),
            Entry::Tdx {
                mrtd,
                rtmr0,
                rtmr1,
                rtmr2,
                rtmr3,
                mr_config_id,
                ..
            } => {
                let optional = |member, text: Option<String>| {
                    text.map(|text| digest(member, text)).transpose()
                };
                self.tdx.push(TdxReferenceValue {
                    mrtd: digest("mrtd", mrtd)?,
                    rtmrs: [
                        optional("rtmr0", rtmr0)?,
                        optional("rtmr1", rtmr1)?,
                        optional("rtmr2", rtmr2)?,
                        optional("rtmr3", rtmr3)?,
                    ],
                    mr_config_id: optional("mr_config_id", mr_config_id)?,
                    source,
                });
            }
        }
        Ok(())
    }

    /// Adds what these values say about a report to what is expected of it.
    ///
    /// Every launch digest is accepted. Where the values for the digest that
    /// the report has ask for a `HOST_DATA`, one of theirs must be seen.
    pub fn apply_snp(&self, report: &SnpReport, expected: &mut Expectations) {
        for value in &self.snp {
            expected
                .launch_digests
                .insert(value.launch_digest, value.source.clone());
        }
        let of_this_launch = || {
            self.snp
                .iter()
                .filter(|value| value.launch_digest == *report.launch_digest())
        };
        // A value that asks for no HOST_DATA accepts any.
        if !expected.host_data.is_empty() || of_this_launch().any(|v| v.host_data.is_none()) {
            return;
        }
        let mut host_data = ReferenceSet::default();
        for value in of_this_launch() {
            if let Some(wanted) = value.host_data {
                host_data.insert(wanted, value.source.clone());
            }
        }
        expected.host_data = host_data;
    }
}

fn decode<const N: usize>(
    index: usize,
    member: &'static str,
    text: &str,
) -> Result<[u8; N], VerifierError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| VerifierError::ReferenceValue {
        index,
        member,
        bytes: N,
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &[u8] = include_bytes!("../testdata/attestation-rs-live-report-v5-genoa.bin");

    fn file(values: &str) -> String {
        format!(r#"{{"version":1,"values":[{values}]}}"#)
    }

    #[test]
    fn values_of_both_tees_are_read() {
        let digest = "ab".repeat(48);
        let text = file(&format!(
            r#"{{"tee":"snp","launch_digest":"{digest}","host_data":null,"inputs":{{"vcpus":1}}}},
               {{"tee":"tdx","mrtd":"{digest}","rtmr1":"{digest}"}}"#
        ));
        let values = ReferenceValues::parse(text.as_bytes(), "f").unwrap();
        assert_eq!(values.snp[0].launch_digest, [0xAB; 48]);
        assert_eq!(values.snp[0].source, "f#0");
        assert_eq!(values.tdx[0].rtmrs, [None, Some([0xAB; 48]), None, None]);
        assert_eq!(values.tdx[0].source, "f#1");
    }

    #[test]
    fn unusable_values_are_refused() {
        let parse = |text: &str| ReferenceValues::parse(text.as_bytes(), "f").unwrap_err();
        assert!(matches!(parse(""), VerifierError::ReferenceJson(_)));
        assert!(matches!(
            parse(r#"{"version":2,"values":[]}"#),
            VerifierError::ReferenceVersion(2)
        ));
        for entry in [
            r#"{"tee":"snp"}"#,
            r#"{"tee":"sgx","launch_digest":"00"}"#,
            r#"{"tee":"snp","launch_digest":"00","condition":1}"#,
        ] {
            assert!(
                matches!(parse(&file(entry)), VerifierError::ReferenceJson(_)),
                "{entry}"
            );
        }
        assert!(matches!(
            parse(&file(r#"{"tee":"snp","launch_digest":"00"}"#)),
            VerifierError::ReferenceValue {
                index: 0,
                member: "launch_digest",
                bytes: 48
            }
        ));
        let huge = vec![b' '; MAX_BYTES + 1];
        assert!(matches!(
            ReferenceValues::parse(&huge, "f").unwrap_err(),
            VerifierError::ReferenceSize { .. }
        ));
    }

    #[test]
    fn host_data_is_asked_for_only_with_its_launch_digest() {
        let report = SnpReport::parse(REPORT).unwrap();
        let value = |launch_digest, host_data| SnpReferenceValue {
            launch_digest,
            host_data,
            source: "test".to_owned(),
        };
        let own = *report.launch_digest();
        let host_data_of = |snp: Vec<SnpReferenceValue>| {
            let mut expected = Expectations::default();
            let values = ReferenceValues {
                snp,
                ..Default::default()
            };
            values.apply_snp(&report, &mut expected);
            let values = expected.host_data.values().to_vec();
            values.into_iter().map(|r| r.value).collect::<Vec<_>>()
        };
        assert_eq!(
            host_data_of(vec![
                value(own, Some([1; 32])),
                value([9; 48], Some([2; 32]))
            ]),
            [[1; 32]]
        );
        assert!(host_data_of(vec![value(own, Some([1; 32])), value(own, None)]).is_empty());
    }
}
