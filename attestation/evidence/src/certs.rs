//! The certificate table of an extended report (GHCB specification, AMD 56421,
//! section "`SNP Extended Guest Request`").
//!
//! The host fills this table, so its content is untrusted; only its shape is
//! checked here.

use std::fmt;

use crate::error::EvidenceError;

/// The largest certificate table that is read, in bytes. Linux stops at 16 KiB.
pub const MAX_TABLE_BYTES: usize = 64 * 1024;

/// The largest single certificate that is kept, in bytes.
pub const MAX_CERT_BYTES: usize = 32 * 1024;

/// How many entries a table may have, its end not counted.
const MAX_ENTRIES: usize = 16;

/// GUID, offset and length.
const ENTRY_BYTES: usize = 24;

/// A GUID in the byte order of its text, as this table stores it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(pub [u8; 16]);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a table entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CertKind {
    /// AMD root key.
    Ark,
    /// AMD SEV key (or the VLEK's own intermediate).
    Ask,
    /// Versioned chip endorsement key.
    Vcek,
    /// Versioned loaded endorsement key.
    Vlek,
    /// Certificate revocation list.
    Crl,
    /// Something else, by its GUID.
    Other(Guid),
}

const ARK: Guid = Guid([
    0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae,
]);
const ASK: Guid = Guid([
    0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82,
]);
const VCEK: Guid = Guid([
    0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd,
]);
const VLEK: Guid = Guid([
    0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1,
]);
const CRL: Guid = Guid([
    0x92, 0xf8, 0x1b, 0xc3, 0x58, 0x11, 0x4d, 0x3d, 0x97, 0xff, 0xd1, 0x9f, 0x88, 0xdc, 0x67, 0xea,
]);

impl CertKind {
    /// The kind that a GUID names.
    pub fn from_guid(guid: Guid) -> Self {
        [Self::Ark, Self::Ask, Self::Vcek, Self::Vlek, Self::Crl]
            .into_iter()
            .find(|kind| kind.guid() == guid)
            .unwrap_or(Self::Other(guid))
    }

    /// The GUID of this kind.
    pub fn guid(self) -> Guid {
        match self {
            Self::Ark => ARK,
            Self::Ask => ASK,
            Self::Vcek => VCEK,
            Self::Vlek => VLEK,
            Self::Crl => CRL,
            Self::Other(guid) => guid,
        }
    }
}

impl fmt::Display for CertKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ark => f.write_str("ARK"),
            Self::Ask => f.write_str("ASK"),
            Self::Vcek => f.write_str("VCEK"),
            Self::Vlek => f.write_str("VLEK"),
            Self::Crl => f.write_str("CRL"),
            Self::Other(guid) => fmt::Display::fmt(guid, f),
        }
    }
}

/// One certificate (or other blob) of a table.
#[derive(Clone, PartialEq, Eq)]
pub struct CertEntry {
    /// What it is said to be.
    pub kind: CertKind,
    /// Its bytes; certificates are DER.
    pub data: Vec<u8>,
}

impl fmt::Debug for CertEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.kind, self.data.len())
    }
}

/// The certificates that came with a report; at most one of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertTable {
    entries: Vec<CertEntry>,
}

impl CertTable {
    /// Reads a table. No bytes at all, or only zeros, are an empty table.
    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_TABLE_BYTES {
            return Err(EvidenceError::TableSize {
                actual: bytes.len(),
                limit: MAX_TABLE_BYTES,
            });
        }
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let headers = parse_headers(bytes)?;
        check_extents(&headers, bytes.len())?;
        let mut table = Self::default();
        for header in &headers {
            // `check_extents` has shown that the range lies in `bytes`.
            let data = bytes.get(header.start..header.end).unwrap_or_default();
            table.insert(CertKind::from_guid(header.guid), data.to_vec())?;
        }
        Ok(table)
    }

    /// Adds an entry; a second one of the same kind is refused.
    pub fn insert(&mut self, kind: CertKind, data: Vec<u8>) -> Result<(), EvidenceError> {
        if data.is_empty() || data.len() > MAX_CERT_BYTES {
            return Err(EvidenceError::CertificateSize {
                kind,
                actual: data.len(),
                limit: MAX_CERT_BYTES,
            });
        }
        if self.get(kind).is_some() {
            return Err(EvidenceError::DuplicateCertificate(kind));
        }
        if self.entries.len() >= MAX_ENTRIES {
            return Err(EvidenceError::TableUnterminated { limit: MAX_ENTRIES });
        }
        self.entries.push(CertEntry { kind, data });
        Ok(())
    }

    /// The bytes of the entry of this kind.
    pub fn get(&self, kind: CertKind) -> Option<&[u8]> {
        self.entries
            .iter()
            .find(|entry| entry.kind == kind)
            .map(|entry| entry.data.as_slice())
    }

    /// All entries in the order of the table.
    pub fn entries(&self) -> &[CertEntry] {
        &self.entries
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Writes the table: entries, an all-zero entry, then the certificates.
    pub fn build(&self) -> Result<Vec<u8>, EvidenceError> {
        let header_bytes = (self.entries.len() + 1) * ENTRY_BYTES;
        let total = header_bytes + self.entries.iter().map(|e| e.data.len()).sum::<usize>();
        let too_long = || EvidenceError::TableSize {
            actual: total,
            limit: MAX_TABLE_BYTES,
        };
        if total > MAX_TABLE_BYTES {
            return Err(too_long());
        }
        let mut table = Vec::with_capacity(total);
        let mut offset = header_bytes;
        for entry in &self.entries {
            table.extend_from_slice(&entry.kind.guid().0);
            table.extend_from_slice(&u32::try_from(offset).map_err(|_| too_long())?.to_le_bytes());
            let length = u32::try_from(entry.data.len()).map_err(|_| too_long())?;
            table.extend_from_slice(&length.to_le_bytes());
            offset += entry.data.len();
        }
        table.resize(header_bytes, 0);
        for entry in &self.entries {
            table.extend_from_slice(&entry.data);
        }
        Ok(table)
    }
}

struct Header {
    index: usize,
    guid: Guid,
    offset: u32,
    length: u32,
    start: usize,
    end: usize,
}

/// Reads the entries up to the one with a zero GUID.
fn parse_headers(bytes: &[u8]) -> Result<Vec<Header>, EvidenceError> {
    let mut headers = Vec::new();
    for (index, entry) in bytes.chunks_exact(ENTRY_BYTES).enumerate() {
        let (guid, rest) = entry.split_at(16);
        let guid = Guid(guid.try_into().unwrap_or_default());
        if guid == Guid::default() {
            return Ok(headers);
        }
        if index == MAX_ENTRIES {
            break;
        }
        let (offset, length) = rest.split_at(4);
        let offset = u32::from_le_bytes(offset.try_into().unwrap_or_default());
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default());
        let outside = || EvidenceError::TableEntryOutside {
            index,
            offset,
            length,
        };
        let start = usize::try_from(offset).map_err(|_| outside())?;
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| start.checked_add(length))
            .ok_or_else(outside)?;
        headers.push(Header {
            index,
            guid,
            offset,
            length,
            start,
            end,
        });
    }
    Err(EvidenceError::TableUnterminated { limit: MAX_ENTRIES })
}

/// Every entry lies behind the headers and inside the table, none in another.
fn check_extents(headers: &[Header], table_bytes: usize) -> Result<(), EvidenceError> {
    let header_bytes = (headers.len() + 1) * ENTRY_BYTES;
    for header in headers {
        if header.start < header_bytes || header.end > table_bytes {
            return Err(EvidenceError::TableEntryOutside {
                index: header.index,
                offset: header.offset,
                length: header.length,
            });
        }
    }
    let mut by_start: Vec<&Header> = headers.iter().collect();
    by_start.sort_by_key(|header| (header.start, header.end));
    for pair in by_start.windows(2) {
        if let [first, second] = pair
            && second.start < first.end
        {
            return Err(EvidenceError::TableOverlap {
                first: first.index,
                second: second.index,
            });
        }
    }
    Ok(())
}
