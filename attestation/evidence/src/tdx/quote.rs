//! A quote: header, TD report, signature data.

use std::fmt;

use zerocopy::FromBytes;

use crate::error::EvidenceError;
use crate::tdx::attributes::TdAttributes;
use crate::tdx::body::{RawTdReport, RawTdReport15};

/// The largest quote that is read, in bytes, with what follows it.
pub const MAX_QUOTE_BYTES: usize = 64 * 1024;

/// The `tee_type` of a TDX quote.
pub const TEE_TYPE_TDX: u32 = 0x81;

const HEADER_BYTES: usize = 48;

/// The only kind of attestation key: ECDSA P-256.
const KEY_TYPE_ECDSA_P256: u16 = 2;

/// Certification data: the report of the quoting enclave and what certifies it.
const CERT_TYPE_QE_REPORT: u16 = 6;

/// Certification data: the PCK certificate chain in PEM.
const CERT_TYPE_PCK_CHAIN: u16 = 5;

/// How many bytes TDX 1.5 "extended" has behind the report of TDX 1.5.
const EXTENDED_BYTES: usize = 885 - 648;

/// The versions of quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuoteVersion {
    /// Version 4: TDX 1.0.
    V4,
    /// Version 5: the header names the body's type.
    V5,
}

impl QuoteVersion {
    /// The number in the quote.
    pub fn number(self) -> u16 {
        match self {
            Self::V4 => 4,
            Self::V5 => 5,
        }
    }
}

/// A well-formed TDX quote.
#[derive(Clone, PartialEq, Eq)]
pub struct TdxQuote {
    bytes: Vec<u8>,
    version: QuoteVersion,
    qe_svn: u16,
    pce_svn: u16,
    report: RawTdReport,
    report_15: Option<RawTdReport15>,
    pck_chain: Option<Vec<u8>>,
}

impl TdxQuote {
    /// Reads a quote. What follows it is left out: some drivers hand out their
    /// whole buffer.
    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_QUOTE_BYTES {
            return Err(EvidenceError::QuoteSize {
                actual: bytes.len(),
                limit: MAX_QUOTE_BYTES,
            });
        }
        let mut reader = Reader { rest: bytes };
        let header = reader.take(HEADER_BYTES, "header")?;
        let version = check_header(header)?;
        let (report, report_15) = read_body(version, &mut reader)?;
        let length = reader.length_u32("signature data length")?;
        let signature_data = reader.take(length, "signature data")?;
        let used = bytes.len() - reader.rest.len();
        Ok(Self {
            bytes: bytes.get(..used).unwrap_or_default().to_vec(),
            version,
            qe_svn: u16_at(header, 8),
            pce_svn: u16_at(header, 10),
            report,
            report_15,
            pck_chain: read_signature_data(signature_data)?,
        })
    }

    /// The quote without what followed it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The layout's version.
    pub fn version(&self) -> QuoteVersion {
        self.version
    }

    /// Security version of the quoting enclave.
    pub fn qe_svn(&self) -> u16 {
        self.qe_svn
    }

    /// Security version of the provisioning certification enclave.
    pub fn pce_svn(&self) -> u16 {
        self.pce_svn
    }

    /// The TD report.
    pub fn report(&self) -> &RawTdReport {
        &self.report
    }

    /// What TDX 1.5 adds to the report.
    pub fn report_15(&self) -> Option<&RawTdReport15> {
        self.report_15.as_ref()
    }

    /// The TD's attributes.
    pub fn attributes(&self) -> TdAttributes {
        TdAttributes(self.report.td_attributes.get())
    }

    /// The PCK certificate chain in PEM, where the quote carries it.
    pub fn pck_chain(&self) -> Option<&[u8]> {
        self.pck_chain.as_deref()
    }
}

impl fmt::Debug for TdxQuote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TdxQuote")
            .field("version", &self.version.number())
            .field("attributes", &self.attributes())
            .field("mr_td", &hex::encode(self.report.mr_td))
            .field("report_data", &hex::encode(self.report.report_data))
            .finish_non_exhaustive()
    }
}

fn check_header(header: &[u8]) -> Result<QuoteVersion, EvidenceError> {
    let tee_type = u32::from(u16_at(header, 4)) | u32::from(u16_at(header, 6)) << 16;
    let version = match u16_at(header, 0) {
        4 => QuoteVersion::V4,
        5 => QuoteVersion::V5,
        other => return Err(EvidenceError::QuoteVersion(other)),
    };
    if tee_type != TEE_TYPE_TDX {
        return Err(EvidenceError::QuoteTeeType(tee_type));
    }
    match u16_at(header, 2) {
        KEY_TYPE_ECDSA_P256 => Ok(version),
        other => Err(EvidenceError::QuoteKeyType(other)),
    }
}

fn read_body(
    version: QuoteVersion,
    reader: &mut Reader<'_>,
) -> Result<(RawTdReport, Option<RawTdReport15>), EvidenceError> {
    const REPORT: usize = size_of::<RawTdReport>();
    const REPORT_15: usize = size_of::<RawTdReport15>();
    let extension = match version {
        QuoteVersion::V4 => 0,
        QuoteVersion::V5 => {
            let kind = reader.u16("body type")?;
            let size = reader.length_u32("body size")?;
            let extension = match kind {
                2 => 0,
                3 => REPORT_15,
                4 => REPORT_15 + EXTENDED_BYTES,
                other => return Err(EvidenceError::QuoteBodyType(other)),
            };
            if size != REPORT + extension {
                return Err(EvidenceError::QuoteBodySize { kind, size });
            }
            extension
        }
    };
    let report = RawTdReport::read_from_bytes(reader.take(REPORT, "TD report")?)
        .map_err(|_| EvidenceError::QuoteCut { field: "TD report" })?;
    if extension == 0 {
        return Ok((report, None));
    }
    let report_15 = RawTdReport15::read_from_bytes(reader.take(REPORT_15, "TDX 1.5 report")?)
        .map_err(|_| EvidenceError::QuoteCut {
            field: "TDX 1.5 report",
        })?;
    reader.take(extension - REPORT_15, "TDX 1.5 extension")?;
    Ok((report, Some(report_15)))
}

/// Walks the signature data and returns the PCK chain.
fn read_signature_data(data: &[u8]) -> Result<Option<Vec<u8>>, EvidenceError> {
    let mut reader = Reader { rest: data };
    reader.take(64, "signature")?;
    reader.take(64, "attestation key")?;
    let kind = reader.u16("certification data type")?;
    if kind != CERT_TYPE_QE_REPORT {
        return Err(EvidenceError::QuoteCertType(kind));
    }
    let length = reader.length_u32("certification data length")?;
    let mut inner = Reader {
        rest: reader.take(length, "certification data")?,
    };
    inner.take(384, "report of the quoting enclave")?;
    inner.take(64, "signature of the quoting enclave's report")?;
    let length = usize::from(inner.u16("authentication data length")?);
    inner.take(length, "authentication data")?;
    let kind = inner.u16("PCK data type")?;
    let length = inner.length_u32("PCK data length")?;
    let chain = inner.take(length, "PCK data")?;
    Ok((kind == CERT_TYPE_PCK_CHAIN).then(|| chain.to_vec()))
}

/// Takes fields off the front.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], EvidenceError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(EvidenceError::QuoteCut { field })?;
        self.rest = rest;
        Ok(taken)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, EvidenceError> {
        Ok(u16_at(self.take(2, field)?, 0))
    }

    /// A length in bytes; one that does not fit cannot be inside the quote.
    fn length_u32(&mut self, field: &'static str) -> Result<usize, EvidenceError> {
        let bytes = self.take(4, field)?;
        let length = u32::from_le_bytes(bytes.try_into().unwrap_or_default());
        usize::try_from(length).map_err(|_| EvidenceError::QuoteCut { field })
    }
}

/// The little-endian number at `offset`; zero where `bytes` ends before it.
fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    bytes
        .get(offset..offset + 2)
        .and_then(|slice| slice.try_into().ok())
        .map_or(0, u16::from_le_bytes)
}
