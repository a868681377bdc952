//! Evidence as the key-broker protocol carries it.
//!
//! The shape is the one that Trustee reads and writes: the report's fields as a
//! JSON object and the certificates as arrays of numbers. Reserved bytes have no
//! place in it, so a report of a later firmware would not survive. Therefore
//! the raw report travels beside it as Base64 in the member `report`, which
//! brokers that do not know it ignore; where it is present it is what counts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use zerocopy::byteorder::little_endian::{U32, U64};

use crate::certs::{CertKind, CertTable};
use crate::error::EvidenceError;
use crate::layout::{REPORT_BYTES, RawFirmwareVersion, RawReport};
use crate::report::{FirmwareVersion, SnpReport};
use crate::tcb::{TcbLayout, TcbVersion};

/// The largest evidence document that is read, in bytes.
pub const MAX_EVIDENCE_JSON_BYTES: usize = 512 * 1024;

/// A report and the certificates that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpEvidence {
    /// The attestation report.
    pub report: SnpReport,
    /// The certificates, perhaps none.
    pub certs: CertTable,
}

impl SnpEvidence {
    /// Reads a JSON document of at most [`MAX_EVIDENCE_JSON_BYTES`].
    pub fn parse_kbs_json(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_EVIDENCE_JSON_BYTES {
            return Err(EvidenceError::JsonSize {
                actual: bytes.len(),
                limit: MAX_EVIDENCE_JSON_BYTES,
            });
        }
        EvidenceJson::into_evidence(serde_json::from_slice(bytes).map_err(EvidenceError::Json)?)
    }

    /// Reads a JSON value whose size the caller has bounded.
    pub fn from_kbs_json(value: &Value) -> Result<Self, EvidenceError> {
        let document = EvidenceJson::deserialize(value).map_err(EvidenceError::Json)?;
        document.into_evidence()
    }

    /// The JSON for a key broker: Trustee's members and the raw report beside them.
    ///
    /// Table entries without a name in that protocol are left out.
    pub fn to_kbs_json(&self) -> Result<Value, EvidenceError> {
        let certs: Vec<CertJson> = self
            .certs
            .entries()
            .iter()
            .filter_map(|entry| {
                let cert_type = NamedCert::of(entry.kind)?;
                Some(CertJson {
                    cert_type: CertTypeJson::Named(cert_type),
                    data: entry.data.clone(),
                })
            })
            .collect();
        let document = EvidenceJson {
            attestation_report: Some(ReportJson::of(&self.report)),
            cert_chain: (!certs.is_empty()).then_some(certs),
            report: Some(STANDARD.encode(self.report.as_bytes())),
        };
        serde_json::to_value(document).map_err(EvidenceError::Json)
    }
}

/// The members that [`SnpEvidence::to_kbs_json`] writes. Whoever bounds the size
/// of a message reads its evidence in place with this.
impl<'de> Deserialize<'de> for SnpEvidence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = EvidenceJson::deserialize(deserializer)?;
        document.into_evidence().map_err(D::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
struct EvidenceJson {
    attestation_report: Option<ReportJson>,
    cert_chain: Option<Vec<CertJson>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report: Option<String>,
}

impl EvidenceJson {
    fn into_evidence(self) -> Result<SnpEvidence, EvidenceError> {
        let raw = self.report.as_deref().map(decode_report).transpose()?;
        let spelt_out = self
            .attestation_report
            .map(ReportJson::into_report)
            .transpose()?;
        let report = match (raw, spelt_out) {
            (None, None) => return Err(EvidenceError::NoReport),
            (Some(report), None) | (None, Some(report)) => report,
            (Some(raw), Some(spelt_out)) => {
                if ReportJson::of(&raw) != ReportJson::of(&spelt_out) {
                    return Err(EvidenceError::ReportsDiffer);
                }
                raw
            }
        };
        let mut certs = CertTable::default();
        for cert in self.cert_chain.unwrap_or_default() {
            if let CertTypeJson::Named(named) = cert.cert_type {
                certs.insert(named.kind(), cert.data)?;
            }
        }
        Ok(SnpEvidence { report, certs })
    }
}

fn decode_report(text: &str) -> Result<SnpReport, EvidenceError> {
    const ENCODED: usize = REPORT_BYTES.div_ceil(3) * 4;
    if text.len() > ENCODED {
        return Err(EvidenceError::ReportSize {
            actual: text.len() / 4 * 3,
        });
    }
    SnpReport::parse(
        &STANDARD
            .decode(text)
            .map_err(EvidenceError::ReportEncoding)?,
    )
}

#[derive(Serialize, Deserialize)]
struct CertJson {
    cert_type: CertTypeJson,
    data: Vec<u8>,
}

/// A name, or an object such as `{"OTHER": "<guid>"}`, which is skipped.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum CertTypeJson {
    Named(NamedCert),
    Other(serde_json::Map<String, Value>),
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum NamedCert {
    Ark,
    Ask,
    Vcek,
    Vlek,
    Crl,
}

impl NamedCert {
    fn of(kind: CertKind) -> Option<Self> {
        match kind {
            CertKind::Ark => Some(Self::Ark),
            CertKind::Ask => Some(Self::Ask),
            CertKind::Vcek => Some(Self::Vcek),
            CertKind::Vlek => Some(Self::Vlek),
            CertKind::Crl => Some(Self::Crl),
            CertKind::Other(_) => None,
        }
    }

    fn kind(self) -> CertKind {
        match self {
            Self::Ark => CertKind::Ark,
            Self::Ask => CertKind::Ask,
            Self::Vcek => CertKind::Vcek,
            Self::Vlek => CertKind::Vlek,
            Self::Crl => CertKind::Crl,
        }
    }
}

/// A JSON array of exactly `N` bytes.
#[derive(Clone, PartialEq, Eq)]
struct ByteArray<const N: usize>([u8; N]);

impl<const N: usize> Serialize for ByteArray<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter())
    }
}

impl<'de, const N: usize> Deserialize<'de> for ByteArray<N> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        let length = bytes.len();
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| serde::de::Error::invalid_length(length, &format!("{N} bytes").as_str()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct TcbJson {
    #[serde(default)]
    fmc: Option<u8>,
    bootloader: u8,
    tee: u8,
    snp: u8,
    microcode: u8,
}

impl From<TcbVersion> for TcbJson {
    fn from(tcb: TcbVersion) -> Self {
        let TcbVersion {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        } = tcb;
        Self {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        }
    }
}

impl TcbJson {
    fn to_bytes(self, layout: TcbLayout) -> [u8; 8] {
        let Self {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        } = self;
        TcbVersion {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        }
        .to_bytes(layout)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct VersionJson {
    major: u8,
    minor: u8,
    build: u8,
}

impl From<FirmwareVersion> for VersionJson {
    fn from(version: FirmwareVersion) -> Self {
        Self {
            major: version.major,
            minor: version.minor,
            build: version.build,
        }
    }
}

impl From<VersionJson> for RawFirmwareVersion {
    fn from(version: VersionJson) -> Self {
        let VersionJson {
            major,
            minor,
            build,
        } = version;
        Self {
            build,
            minor,
            major,
            reserved: 0,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SignatureJson {
    r: ByteArray<72>,
    s: ByteArray<72>,
}

/// The members of `attestation_report`, in the order in which Trustee writes them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ReportJson {
    version: u32,
    guest_svn: u32,
    policy: u64,
    family_id: ByteArray<16>,
    image_id: ByteArray<16>,
    vmpl: u32,
    sig_algo: u32,
    current_tcb: TcbJson,
    plat_info: u64,
    key_info: u32,
    report_data: ByteArray<64>,
    measurement: ByteArray<48>,
    host_data: ByteArray<32>,
    id_key_digest: ByteArray<48>,
    author_key_digest: ByteArray<48>,
    report_id: ByteArray<32>,
    report_id_ma: ByteArray<32>,
    reported_tcb: TcbJson,
    #[serde(default)]
    cpuid_fam_id: Option<u8>,
    #[serde(default)]
    cpuid_mod_id: Option<u8>,
    #[serde(default)]
    cpuid_step: Option<u8>,
    chip_id: ByteArray<64>,
    committed_tcb: TcbJson,
    current: VersionJson,
    committed: VersionJson,
    launch_tcb: TcbJson,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    launch_mit_vector: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current_mit_vector: Option<u64>,
    signature: SignatureJson,
}

impl ReportJson {
    fn of(report: &SnpReport) -> Self {
        let raw = report.raw();
        let cpuid = report.cpuid();
        let mitigations = report.mitigations();
        Self {
            version: report.version().number(),
            guest_svn: report.guest_svn(),
            policy: report.policy().0,
            family_id: ByteArray(raw.family_id),
            image_id: ByteArray(raw.image_id),
            vmpl: report.vmpl(),
            sig_algo: report.signature_algorithm(),
            current_tcb: report.current_tcb().into(),
            plat_info: report.platform_info().0,
            key_info: report.key_info().0,
            report_data: ByteArray(raw.report_data),
            measurement: ByteArray(raw.launch_digest),
            host_data: ByteArray(raw.host_data),
            id_key_digest: ByteArray(raw.id_key_digest),
            author_key_digest: ByteArray(raw.author_key_digest),
            report_id: ByteArray(raw.report_id),
            report_id_ma: ByteArray(raw.report_id_ma),
            reported_tcb: report.reported_tcb().into(),
            cpuid_fam_id: cpuid.map(|cpuid| cpuid.family),
            cpuid_mod_id: cpuid.map(|cpuid| cpuid.model),
            cpuid_step: cpuid.map(|cpuid| cpuid.stepping),
            chip_id: ByteArray(raw.chip_id),
            committed_tcb: report.committed_tcb().into(),
            current: report.current_version().into(),
            committed: report.committed_version().into(),
            launch_tcb: report.launch_tcb().into(),
            launch_mit_vector: mitigations.map(|(launch, _)| launch),
            current_mit_vector: mitigations.map(|(_, current)| current),
            signature: SignatureJson {
                r: ByteArray(raw.signature.r),
                s: ByteArray(raw.signature.s),
            },
        }
    }

    /// Writes the 1184 bytes; what the JSON cannot say is zero.
    fn into_report(self) -> Result<SnpReport, EvidenceError> {
        let layout = match self.cpuid_fam_id {
            Some(family) if family >= 0x1A => TcbLayout::Turin,
            _ => TcbLayout::MilanGenoa,
        };
        let mut raw = RawReport::zeroed();
        raw.version = U32::new(self.version);
        raw.guest_svn = U32::new(self.guest_svn);
        raw.policy = U64::new(self.policy);
        raw.family_id = self.family_id.0;
        raw.image_id = self.image_id.0;
        raw.vmpl = U32::new(self.vmpl);
        raw.signature_algorithm = U32::new(self.sig_algo);
        raw.current_tcb = self.current_tcb.to_bytes(layout);
        raw.platform_info = U64::new(self.plat_info);
        raw.key_info = U32::new(self.key_info);
        raw.report_data = self.report_data.0;
        raw.launch_digest = self.measurement.0;
        raw.host_data = self.host_data.0;
        raw.id_key_digest = self.id_key_digest.0;
        raw.author_key_digest = self.author_key_digest.0;
        raw.report_id = self.report_id.0;
        raw.report_id_ma = self.report_id_ma.0;
        raw.reported_tcb = self.reported_tcb.to_bytes(layout);
        raw.cpuid_family = self.cpuid_fam_id.unwrap_or(0);
        raw.cpuid_model = self.cpuid_mod_id.unwrap_or(0);
        raw.cpuid_stepping = self.cpuid_step.unwrap_or(0);
        raw.chip_id = self.chip_id.0;
        raw.committed_tcb = self.committed_tcb.to_bytes(layout);
        raw.current_version = self.current.into();
        raw.committed_version = self.committed.into();
        raw.launch_tcb = self.launch_tcb.to_bytes(layout);
        raw.launch_mitigations = U64::new(self.launch_mit_vector.unwrap_or(0));
        raw.current_mitigations = U64::new(self.current_mit_vector.unwrap_or(0));
        raw.signature.r = self.signature.r.0;
        raw.signature.s = self.signature.s.0;
        SnpReport::from_raw(raw)
    }
}
