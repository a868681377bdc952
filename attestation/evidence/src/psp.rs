//! Messages between a guest and the secure processor (AMD 56860, `MSG_REPORT_REQ`
//! and `MSG_REPORT_RSP`), and their framing towards a software secure processor.
//!
//! On the stream each message is preceded by its length as a little-endian
//! `u32`. A response is followed, inside the same frame, by the certificate
//! table that real hardware delivers through the hypervisor.

use crate::certs::{CertTable, MAX_TABLE_BYTES};
use crate::error::EvidenceError;
use crate::json::SnpEvidence;
use crate::layout::REPORT_BYTES;
use crate::report::SnpReport;

/// The host's vsock port where a software secure processor listens.
pub const VSOCK_PORT: u32 = 1030;

/// The length of a request in bytes.
pub const REQUEST_BYTES: usize = 96;

/// The length of a response's header in bytes.
pub const RESPONSE_HEADER_BYTES: usize = 32;

/// The longest response in bytes, its length prefix not counted.
pub const MAX_RESPONSE_BYTES: usize = RESPONSE_HEADER_BYTES + REPORT_BYTES + MAX_TABLE_BYTES;

/// The key that a guest asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeySelector {
    /// The VLEK if the host installed one, else the VCEK; 0.
    #[default]
    Either,
    /// The VCEK; 1.
    Vcek,
    /// The VLEK; 2.
    Vlek,
}

impl KeySelector {
    fn number(self) -> u32 {
        match self {
            Self::Either => 0,
            Self::Vcek => 1,
            Self::Vlek => 2,
        }
    }

    fn from_number(number: u32) -> Result<Self, EvidenceError> {
        match number {
            0 => Ok(Self::Either),
            1 => Ok(Self::Vcek),
            2 => Ok(Self::Vlek),
            other => Err(EvidenceError::RequestKey(other)),
        }
    }
}

/// A guest's request for a report (`MSG_REPORT_REQ`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportRequest {
    /// The guest's data for the report.
    pub report_data: [u8; 64],
    /// The VMPL to put in the report; not below the caller's own.
    pub vmpl: u32,
    /// The key to sign with.
    pub key: KeySelector,
}

impl ReportRequest {
    /// A request for VMPL 0 and whichever key the host has.
    pub fn new(report_data: [u8; 64]) -> Self {
        Self {
            report_data,
            vmpl: 0,
            key: KeySelector::Either,
        }
    }

    /// Reads exactly 96 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let bytes: &[u8; REQUEST_BYTES] =
            bytes.try_into().map_err(|_| EvidenceError::RequestSize {
                actual: bytes.len(),
            })?;
        let (report_data, rest) = bytes.split_at(64);
        let (numbers, reserved) = rest.split_at(8);
        if reserved.iter().any(|byte| *byte != 0) {
            return Err(EvidenceError::RequestReserved);
        }
        let mut array = [0; 64];
        array.copy_from_slice(report_data);
        Ok(Self {
            report_data: array,
            vmpl: u32_at(numbers, 0),
            key: KeySelector::from_number(u32_at(numbers, 4))?,
        })
    }

    /// Writes the 96 bytes.
    pub fn to_bytes(&self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[..64].copy_from_slice(&self.report_data);
        bytes[64..68].copy_from_slice(&self.vmpl.to_le_bytes());
        bytes[68..72].copy_from_slice(&self.key.number().to_le_bytes());
        bytes
    }
}

/// Why a secure processor makes no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request's parameters are wrong, 0x16.
    InvalidParameters,
    /// The key that was asked for does not exist, 0x27.
    InvalidKey,
}

impl Refusal {
    /// The status in the response.
    pub fn status(self) -> u32 {
        match self {
            Self::InvalidParameters => 0x16,
            Self::InvalidKey => 0x27,
        }
    }
}

/// The answer to a [`ReportRequest`] (`MSG_REPORT_RSP` and the certificate table).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportResponse {
    /// A report with the certificates that the host has.
    Report(Box<SnpEvidence>),
    /// No report.
    Refused(Refusal),
}

impl ReportResponse {
    /// Writes header, report and certificate table.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EvidenceError> {
        let mut bytes = vec![0; RESPONSE_HEADER_BYTES];
        match self {
            Self::Refused(refusal) => bytes[..4].copy_from_slice(&refusal.status().to_le_bytes()),
            Self::Report(evidence) => {
                const REPORT_BYTES_U32: u32 = 0x4A0;
                bytes[4..8].copy_from_slice(&REPORT_BYTES_U32.to_le_bytes());
                bytes.extend_from_slice(evidence.report.as_bytes());
                bytes.extend_from_slice(&evidence.certs.build()?);
            }
        }
        Ok(bytes)
    }

    /// Reads a response; a refusal is an error that holds its status.
    pub fn parse(bytes: &[u8]) -> Result<SnpEvidence, EvidenceError> {
        if bytes.len() > MAX_RESPONSE_BYTES {
            return Err(EvidenceError::ResponseSize {
                actual: bytes.len(),
            });
        }
        let (report, rest) = parse_report_message(bytes)?;
        Ok(SnpEvidence {
            report,
            certs: CertTable::parse(rest)?,
        })
    }
}

/// Reads the report of a `MSG_REPORT_RSP`, and returns what follows it.
pub fn parse_report_message(bytes: &[u8]) -> Result<(SnpReport, &[u8]), EvidenceError> {
    let too_short = || EvidenceError::ResponseSize {
        actual: bytes.len(),
    };
    let (header, rest) = bytes
        .split_at_checked(RESPONSE_HEADER_BYTES)
        .ok_or_else(too_short)?;
    let status = u32_at(header, 0);
    if status != 0 {
        return Err(EvidenceError::ResponseStatus(status));
    }
    let report_bytes = u32_at(header, 4);
    if usize::try_from(report_bytes) != Ok(REPORT_BYTES) {
        return Err(EvidenceError::ResponseReportSize(report_bytes));
    }
    let (report, rest) = rest.split_at_checked(REPORT_BYTES).ok_or_else(too_short)?;
    Ok((SnpReport::parse(report)?, rest))
}

/// The little-endian number at `offset`; zero where `bytes` ends before it.
fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes
        .get(offset..offset + 4)
        .and_then(|slice| slice.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}
