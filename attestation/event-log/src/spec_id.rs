//! The first record, which describes all others (PC Client PFP 1.06, section 10.4.5.1).

use crate::algorithm::HashAlgorithm;
use crate::error::EventLogError;
use crate::event_type::EventType;
use crate::reader::Reader;

const SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";
const MAX_ALGORITHMS: u32 = 8;
/// The first record has the older form with one SHA-1 digest, which is zero.
const LEGACY_DIGEST_LEN: usize = 20;

/// What the first record says about the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecId {
    /// Version of the specification: major, minor, errata.
    pub version: [u8; 3],
    /// Algorithms of the digests and the digests' lengths in bytes.
    pub algorithms: Vec<(HashAlgorithm, u16)>,
    /// What the writer says about itself; td-shim gives its name.
    pub vendor: Vec<u8>,
}

impl SpecId {
    pub(crate) fn parse(log: &mut Reader<'_>) -> Result<Self, EventLogError> {
        log.u32("register")?;
        if EventType(log.u32("event type")?) != EventType::NO_ACTION {
            return Err(EventLogError::NoSpecId);
        }
        log.take(LEGACY_DIGEST_LEN, "digest")?;
        let size_at = log.at();
        let data = log.sized("length of the first event", "first event")?;
        if !data.starts_with(SIGNATURE) {
            return Err(EventLogError::NoSpecId);
        }
        let mut reader = Reader::new(data);
        let parsed = Self::parse_data(&mut reader, size_at + 4);
        // Offsets within the record become offsets within the log.
        parsed.map_err(|error| match error {
            EventLogError::Truncated {
                offset,
                field,
                needed,
                left,
            } => EventLogError::Truncated {
                offset: offset + size_at + 4,
                field,
                needed,
                left,
            },
            other => other,
        })
    }

    fn parse_data(reader: &mut Reader<'_>, base: usize) -> Result<Self, EventLogError> {
        reader.take(SIGNATURE.len(), "signature")?;
        reader.u32("platform class")?;
        let minor = reader.u8("minor version")?;
        let major = reader.u8("major version")?;
        let errata = reader.u8("errata")?;
        reader.u8("size of UINTN")?;
        let count_at = base + reader.at();
        let count = reader.u32("number of algorithms")?;
        if !(1..=MAX_ALGORITHMS).contains(&count) {
            return Err(EventLogError::AlgorithmCount {
                offset: count_at,
                count,
            });
        }
        let mut algorithms: Vec<(HashAlgorithm, u16)> = Vec::new();
        for _ in 0..count {
            let offset = base + reader.at();
            let algorithm = HashAlgorithm::from(reader.u16("algorithm")?);
            let size = reader.u16("length of a digest")?;
            if algorithm.digest_len().is_some_and(|len| len != size) || size == 0 {
                return Err(EventLogError::AlgorithmSize {
                    offset,
                    algorithm,
                    size,
                });
            }
            if algorithms.iter().any(|(other, _)| *other == algorithm) {
                return Err(EventLogError::AlgorithmTwice { offset, algorithm });
            }
            algorithms.push((algorithm, size));
        }
        let vendor_len = reader.u8("length of the vendor's information")?;
        let vendor = reader.take(usize::from(vendor_len), "vendor's information")?;
        Ok(Self {
            version: [major, minor, errata],
            algorithms,
            vendor: vendor.to_vec(),
        })
    }

    /// Length in bytes of this algorithm's digests.
    pub(crate) fn digest_len(&self, algorithm: HashAlgorithm) -> Option<u16> {
        self.algorithms
            .iter()
            .find(|(known, _)| *known == algorithm)
            .map(|(_, size)| *size)
    }
}
