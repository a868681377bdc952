//! The checked form of an attestation report.

use std::fmt;

use zerocopy::{FromBytes, IntoBytes};

use crate::error::EvidenceError;
use crate::fields::{GuestPolicy, KeyInfo, PlatformInfo};
use crate::layout::{REPORT_BYTES, RawFirmwareVersion, RawReport, SIGNED_BYTES};
use crate::product::Product;
use crate::tcb::{TcbLayout, TcbVersion};

/// The report layouts this crate knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportVersion {
    /// Version 2: no CPU identification.
    V2,
    /// Version 3: with CPU family, model and stepping.
    V3,
    /// Version 5: with mitigation vectors.
    V5,
}

impl ReportVersion {
    /// The number in the report.
    pub fn number(self) -> u32 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
            Self::V5 => 5,
        }
    }

    fn from_number(number: u32) -> Result<Self, EvidenceError> {
        match number {
            2 => Ok(Self::V2),
            3 => Ok(Self::V3),
            5 => Ok(Self::V5),
            other => Err(EvidenceError::ReportVersion(other)),
        }
    }
}

/// CPU family, model and stepping, extended and base parts combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuId {
    /// Family, for example 0x19.
    pub family: u8,
    /// Model, for example 0x11.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

/// A version of the SNP firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirmwareVersion {
    /// Major version.
    pub major: u8,
    /// Minor version.
    pub minor: u8,
    /// Build number.
    pub build: u8,
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

impl From<RawFirmwareVersion> for FirmwareVersion {
    fn from(raw: RawFirmwareVersion) -> Self {
        Self {
            major: raw.major,
            minor: raw.minor,
            build: raw.build,
        }
    }
}

/// A well-formed attestation report: 1184 bytes with a known version.
///
/// Well-formed is not authentic; no field may be believed before the signature
/// is verified. The bytes are kept as received, reserved ones included.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SnpReport {
    raw: RawReport,
    version: ReportVersion,
}

impl SnpReport {
    /// Reads exactly 1184 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let raw = RawReport::read_from_bytes(bytes).map_err(|_| EvidenceError::ReportSize {
            actual: bytes.len(),
        })?;
        Self::from_raw(raw)
    }

    /// Checks the version of a report that was filled in by hand.
    pub fn from_raw(raw: RawReport) -> Result<Self, EvidenceError> {
        let version = ReportVersion::from_number(raw.version.get())?;
        Ok(Self { raw, version })
    }

    /// The report field by field, as received.
    pub fn raw(&self) -> &RawReport {
        &self.raw
    }

    /// All 1184 bytes, as received.
    pub fn as_bytes(&self) -> &[u8] {
        self.raw.as_bytes()
    }

    /// The bytes that the signature covers.
    pub fn signed_bytes(&self) -> &[u8] {
        &self.raw.as_bytes()[..SIGNED_BYTES]
    }

    /// All 1184 bytes, as received.
    pub fn to_array(&self) -> [u8; REPORT_BYTES] {
        zerocopy::transmute!(self.raw)
    }

    /// The layout's version.
    pub fn version(&self) -> ReportVersion {
        self.version
    }

    /// The guest's security version from its id block.
    pub fn guest_svn(&self) -> u32 {
        self.raw.guest_svn.get()
    }

    /// The guest policy of the launch.
    pub fn policy(&self) -> GuestPolicy {
        GuestPolicy(self.raw.policy.get())
    }

    /// The VMPL that the report was made for.
    pub fn vmpl(&self) -> u32 {
        self.raw.vmpl.get()
    }

    /// The signature algorithm; 1 is ECDSA P-384 with SHA-384.
    pub fn signature_algorithm(&self) -> u32 {
        self.raw.signature_algorithm.get()
    }

    /// What is on or off on the platform.
    pub fn platform_info(&self) -> PlatformInfo {
        PlatformInfo(self.raw.platform_info.get())
    }

    /// How the report was signed.
    pub fn key_info(&self) -> KeyInfo {
        KeyInfo(self.raw.key_info.get())
    }

    /// The guest's own data (`REPORT_DATA`).
    pub fn report_data(&self) -> &[u8; 64] {
        &self.raw.report_data
    }

    /// The launch digest (`MEASUREMENT`).
    pub fn launch_digest(&self) -> &[u8; 48] {
        &self.raw.launch_digest
    }

    /// The host's data of the launch (`HOST_DATA`).
    pub fn host_data(&self) -> &[u8; 32] {
        &self.raw.host_data
    }

    /// SHA-384 of the id key that signed the id block; zero without one.
    pub fn id_key_digest(&self) -> &[u8; 48] {
        &self.raw.id_key_digest
    }

    /// SHA-384 of the author key; zero without one.
    pub fn author_key_digest(&self) -> &[u8; 48] {
        &self.raw.author_key_digest
    }

    /// The id of this guest.
    pub fn report_id(&self) -> &[u8; 32] {
        &self.raw.report_id
    }

    /// The chip's id; zero when masked or signed by a VLEK.
    pub fn chip_id(&self) -> &[u8; 64] {
        &self.raw.chip_id
    }

    /// CPU family, model and stepping; version 2 has none.
    pub fn cpuid(&self) -> Option<CpuId> {
        (self.version >= ReportVersion::V3).then_some(CpuId {
            family: self.raw.cpuid_family,
            model: self.raw.cpuid_model,
            stepping: self.raw.cpuid_stepping,
        })
    }

    /// The processor line, where the report says it and it is known.
    pub fn product(&self) -> Option<Product> {
        self.cpuid().and_then(Product::from_cpuid)
    }

    /// The byte order of this report's TCB versions.
    ///
    /// Version 2 predates family 1Ah, so it has the older order.
    pub fn tcb_layout(&self) -> TcbLayout {
        match self.cpuid() {
            Some(cpuid) if cpuid.family >= 0x1A => TcbLayout::Turin,
            _ => TcbLayout::MilanGenoa,
        }
    }

    /// The TCB that the signing key was derived with.
    pub fn reported_tcb(&self) -> TcbVersion {
        TcbVersion::from_bytes(self.raw.reported_tcb, self.tcb_layout())
    }

    /// The TCB now running.
    pub fn current_tcb(&self) -> TcbVersion {
        TcbVersion::from_bytes(self.raw.current_tcb, self.tcb_layout())
    }

    /// The TCB that the firmware cannot go below.
    pub fn committed_tcb(&self) -> TcbVersion {
        TcbVersion::from_bytes(self.raw.committed_tcb, self.tcb_layout())
    }

    /// The TCB when the guest was launched or imported.
    pub fn launch_tcb(&self) -> TcbVersion {
        TcbVersion::from_bytes(self.raw.launch_tcb, self.tcb_layout())
    }

    /// The firmware version now running.
    pub fn current_version(&self) -> FirmwareVersion {
        self.raw.current_version.into()
    }

    /// The firmware version that the platform cannot go below.
    pub fn committed_version(&self) -> FirmwareVersion {
        self.raw.committed_version.into()
    }

    /// The mitigations present at launch and now; only version 5 has them.
    pub fn mitigations(&self) -> Option<(u64, u64)> {
        (self.version >= ReportVersion::V5).then(|| {
            (
                self.raw.launch_mitigations.get(),
                self.raw.current_mitigations.get(),
            )
        })
    }
}

impl fmt::Debug for SnpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnpReport")
            .field("version", &self.version.number())
            .field("policy", &self.policy())
            .field("vmpl", &self.vmpl())
            .field("launch_digest", &hex::encode(self.launch_digest()))
            .field("host_data", &hex::encode(self.host_data()))
            .field("report_data", &hex::encode(self.report_data()))
            .finish_non_exhaustive()
    }
}
