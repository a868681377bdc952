//! What can be wrong with evidence.

use redoubt_errors::{ErrorCode, UserError};

use crate::certs::CertKind;

/// A reason why bytes are not evidence.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
pub enum EvidenceError {
    /// the SNP report is {actual} bytes long, expected 1184
    ReportSize {
        /// The length that was given, in bytes.
        actual: usize,
    },
    /// the SNP report has version {0}; versions 2, 3 and 5 are known
    ReportVersion(u32),
    /// the certificate table is {actual} bytes long, more than {limit}
    TableSize {
        /// The length that was given, in bytes.
        actual: usize,
        /// The largest length accepted, in bytes.
        limit: usize,
    },
    /// the certificate table has no end within its first {limit} entries
    TableUnterminated {
        /// How many entries a table may have.
        limit: usize,
    },
    /// certificate table entry {index} lies outside of the table (offset {offset}, length {length})
    TableEntryOutside {
        /// Which entry, from 0.
        index: usize,
        /// The entry's offset, in bytes from the start of the table.
        offset: u32,
        /// The entry's length in bytes.
        length: u32,
    },
    /// certificate table entries {first} and {second} overlap
    TableOverlap {
        /// The entry that begins first, from 0.
        first: usize,
        /// The entry that begins inside it, from 0.
        second: usize,
    },
    /// there is more than one {0} certificate
    DuplicateCertificate(CertKind),
    /// the {kind} certificate is {actual} bytes long, more than {limit} or none at all
    CertificateSize {
        /// Which certificate.
        kind: CertKind,
        /// Its length in bytes.
        actual: usize,
        /// The largest length accepted, in bytes.
        limit: usize,
    },
    /// the evidence JSON is {actual} bytes long, more than {limit}
    JsonSize {
        /// The length that was given, in bytes.
        actual: usize,
        /// The largest length accepted, in bytes.
        limit: usize,
    },
    /// the evidence is not the JSON of an SNP report
    Json(#[source] serde_json::Error),
    /// the evidence JSON's member `report` is not Base64
    ReportEncoding(#[source] base64::DecodeError),
    /// the evidence JSON holds two different reports in `report` and `attestation_report`
    ReportsDiffer,
    /// the evidence JSON holds neither `report` nor `attestation_report`
    NoReport,
    /// the PSP request is {actual} bytes long, expected 96
    RequestSize {
        /// The length that was given, in bytes.
        actual: usize,
    },
    /// the PSP request's reserved bytes are not zero
    RequestReserved,
    /// the PSP request selects the unknown key {0}
    RequestKey(u32),
    /// the PSP response is {actual} bytes long, too short or too long
    ResponseSize {
        /// The length that was given, in bytes.
        actual: usize,
    },
    /// the PSP refused to make a report, status {0:#x}
    ResponseStatus(u32),
    /// the PSP announces a report of {0} bytes, expected 1184
    ResponseReportSize(u32),
    /// the TDX quote is {actual} bytes long, more than {limit}
    QuoteSize {
        /// The length that was given, in bytes.
        actual: usize,
        /// The largest length accepted, in bytes.
        limit: usize,
    },
    /// the TDX quote ends inside its {field}
    QuoteCut {
        /// Where it ends.
        field: &'static str,
    },
    /// the quote has version {0}; TDX quotes have version 4 or 5
    QuoteVersion(u16),
    /// the quote is of TEE type {0:#x}, TDX is 0x81
    QuoteTeeType(u32),
    /// the quote is signed with a key of type {0}; only ECDSA P-256 (2) is known
    QuoteKeyType(u16),
    /// the quote's body has type {0}; TD reports have type 2, 3 or 4
    QuoteBodyType(u16),
    /// the quote's body of type {kind} says that it is {size} bytes long
    QuoteBodySize {
        /// The body's type.
        kind: u16,
        /// The length it claims, in bytes.
        size: usize,
    },
    /// the quote's certification data has type {0}, expected 6
    QuoteCertType(u16),
    /// the evidence is not the JSON of a TDX quote
    TdxJson(#[source] serde_json::Error),
    /// the evidence JSON's member `{member}` is about {actual} bytes long, more than {limit}
    MemberSize {
        /// The member's name.
        member: &'static str,
        /// Its decoded length in bytes, about.
        actual: usize,
        /// The largest length accepted, in bytes.
        limit: usize,
    },
    /// the evidence JSON's member `{member}` is not Base64
    MemberEncoding {
        /// The member's name.
        member: &'static str,
        /// What is wrong with it.
        #[source]
        cause: base64::DecodeError,
    },
}

impl UserError for EvidenceError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::ReportSize { .. } => "RDT-EVD-001",
            Self::ReportVersion(_) => "RDT-EVD-002",
            Self::TableSize { .. } => "RDT-EVD-003",
            Self::TableUnterminated { .. } => "RDT-EVD-004",
            Self::TableEntryOutside { .. } => "RDT-EVD-005",
            Self::TableOverlap { .. } => "RDT-EVD-006",
            Self::DuplicateCertificate(_) => "RDT-EVD-007",
            Self::CertificateSize { .. } => "RDT-EVD-008",
            Self::JsonSize { .. } => "RDT-EVD-009",
            Self::Json(_) => "RDT-EVD-010",
            Self::ReportEncoding(_) => "RDT-EVD-011",
            Self::ReportsDiffer => "RDT-EVD-012",
            Self::NoReport => "RDT-EVD-013",
            Self::RequestSize { .. } => "RDT-EVD-014",
            Self::RequestReserved => "RDT-EVD-015",
            Self::RequestKey(_) => "RDT-EVD-016",
            Self::ResponseSize { .. } => "RDT-EVD-017",
            Self::ResponseStatus(_) => "RDT-EVD-018",
            Self::ResponseReportSize(_) => "RDT-EVD-019",
            Self::QuoteSize { .. } => "RDT-EVD-020",
            Self::QuoteCut { .. } => "RDT-EVD-021",
            Self::QuoteVersion(_) => "RDT-EVD-022",
            Self::QuoteTeeType(_) => "RDT-EVD-023",
            Self::QuoteKeyType(_) => "RDT-EVD-024",
            Self::QuoteBodyType(_) => "RDT-EVD-025",
            Self::QuoteBodySize { .. } => "RDT-EVD-026",
            Self::QuoteCertType(_) => "RDT-EVD-027",
            Self::TdxJson(_) => "RDT-EVD-028",
            Self::MemberSize { .. } => "RDT-EVD-029",
            Self::MemberEncoding { .. } => "RDT-EVD-030",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::ReportSize { .. } => Some(
                "give the raw report as /dev/sev-guest or configfs-tsm's outblob returns it".into(),
            ),
            Self::ReportVersion(_) => {
                Some("a newer Redoubt may know this firmware's report version".into())
            }
            Self::QuoteTeeType(0) => {
                Some("this is an SGX quote; only quotes of TDX guests are verified".into())
            }
            _ => None,
        }
    }
}
