//! The secure processor in software.

use std::fmt;

use p384::ecdsa::Signature;
use p384::ecdsa::signature::Signer;
use redoubt_evidence::psp::{KeySelector, Refusal, ReportRequest, ReportResponse};
use redoubt_evidence::{
    CertTable, EvidenceError, GuestPolicy, RawFirmwareVersion, RawReport, SnpEvidence, SnpReport,
    TcbLayout,
};

use crate::error::SimulatorError;
use crate::identity::SimulatedIdentity;

/// The version of the report layout that is produced.
const REPORT_VERSION: u32 = 3;

/// ECDSA P-384 with SHA-384.
const SIGNATURE_ALGORITHM: u32 = 1;

/// SMT and ECC on, alias check complete.
const PLATFORM_INFO: u64 = 1 | 1 << 2 | 1 << 5;

/// A firmware version that goes with the simulated TCB.
const FIRMWARE: RawFirmwareVersion = RawFirmwareVersion {
    build: 40,
    minor: 55,
    major: 1,
    reserved: 0,
};

/// The highest VMPL.
const MAX_VMPL: u32 = 3;

/// What the secure processor would know from a guest's launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchFacts {
    /// The launch digest.
    pub launch_digest: [u8; 48],
    /// The host's data of the launch.
    pub host_data: [u8; 32],
    /// The guest policy.
    pub policy: GuestPolicy,
    /// The id block, if the launch had one.
    pub id_block: Option<IdBlockFacts>,
}

/// What an id block adds to a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdBlockFacts {
    /// SHA-384 of the id key.
    pub id_key_digest: [u8; 48],
    /// SHA-384 of the author key, if the launch had one.
    pub author_key_digest: Option<[u8; 48]>,
    /// Family id.
    pub family_id: [u8; 16],
    /// Image id.
    pub image_id: [u8; 16],
    /// The guest's security version.
    pub guest_svn: u32,
}

impl LaunchFacts {
    /// A launch without an id block.
    pub fn new(launch_digest: [u8; 48], host_data: [u8; 32], policy: GuestPolicy) -> Self {
        Self {
            launch_digest,
            host_data,
            policy,
            id_block: None,
        }
    }
}

/// A secure processor for one simulated guest.
pub struct SoftwarePsp {
    identity: SimulatedIdentity,
    certs: CertTable,
    /// The report without the guest's own data, VMPL and signature.
    template: RawReport,
}

impl fmt::Debug for SoftwarePsp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftwarePsp")
            .field("launch_digest", &hex::encode(self.template.launch_digest))
            .field("host_data", &hex::encode(self.template.host_data))
            .finish_non_exhaustive()
    }
}

impl SoftwarePsp {
    /// A secure processor that knows of one launch.
    pub fn new(identity: SimulatedIdentity, facts: &LaunchFacts) -> Result<Self, SimulatorError> {
        let certs = identity.cert_table()?;
        let template = template(&identity, facts)?;
        Ok(Self {
            identity,
            certs,
            template,
        })
    }

    /// Answers a guest's request.
    pub fn report(&self, request: &ReportRequest) -> Result<ReportResponse, SimulatorError> {
        if request.vmpl > MAX_VMPL {
            return Ok(ReportResponse::Refused(Refusal::InvalidParameters));
        }
        if request.key == KeySelector::Vlek {
            return Ok(ReportResponse::Refused(Refusal::InvalidKey));
        }
        let mut raw = self.template;
        raw.report_data = request.report_data;
        raw.vmpl = request.vmpl.into();
        self.sign(&mut raw)?;
        let evidence = SnpEvidence {
            report: SnpReport::from_raw(raw)?,
            certs: self.certs.clone(),
        };
        Ok(ReportResponse::Report(Box::new(evidence)))
    }

    /// Answers the bytes of a request; a malformed one gets a refusal.
    pub fn respond(&self, request: &[u8]) -> Result<Vec<u8>, SimulatorError> {
        let response = match ReportRequest::parse(request) {
            Ok(request) => self.report(&request)?,
            Err(EvidenceError::RequestKey(_)) => ReportResponse::Refused(Refusal::InvalidKey),
            Err(_) => ReportResponse::Refused(Refusal::InvalidParameters),
        };
        Ok(response.to_bytes()?)
    }

    fn sign(&self, raw: &mut RawReport) -> Result<(), SimulatorError> {
        let unsigned = SnpReport::from_raw(*raw)?;
        let signature: Signature = self
            .identity
            .key
            .try_sign(unsigned.signed_bytes())
            .map_err(SimulatorError::EcdsaSignature)?;
        let (r, s) = signature.split_bytes();
        fill_little_endian(&mut raw.signature.r, &r);
        fill_little_endian(&mut raw.signature.s, &s);
        Ok(())
    }
}

fn fill_little_endian(target: &mut [u8; 72], big_endian: &[u8]) {
    for (target, byte) in target.iter_mut().zip(big_endian.iter().rev()) {
        *target = *byte;
    }
}

fn template(
    identity: &SimulatedIdentity,
    facts: &LaunchFacts,
) -> Result<RawReport, SimulatorError> {
    let description = &identity.description;
    let tcb = description.tcb.to_bytes(TcbLayout::MilanGenoa);
    let mut raw = RawReport::zeroed();
    raw.version = REPORT_VERSION.into();
    raw.policy = facts.policy.0.into();
    raw.signature_algorithm = SIGNATURE_ALGORITHM.into();
    raw.platform_info = PLATFORM_INFO.into();
    raw.launch_digest = facts.launch_digest;
    raw.host_data = facts.host_data;
    if let Some(block) = &facts.id_block {
        raw.id_key_digest = block.id_key_digest;
        raw.author_key_digest = block.author_key_digest.unwrap_or([0; 48]);
        raw.key_info = u32::from(block.author_key_digest.is_some()).into();
        raw.family_id = block.family_id;
        raw.image_id = block.image_id;
        raw.guest_svn = block.guest_svn.into();
    }
    getrandom::fill(&mut raw.report_id).map_err(SimulatorError::Random)?;
    raw.report_id_ma = [0xFF; 32];
    raw.current_tcb = tcb;
    raw.reported_tcb = tcb;
    raw.committed_tcb = tcb;
    raw.launch_tcb = tcb;
    raw.cpuid_family = description.cpuid_family;
    raw.cpuid_model = description.cpuid_model;
    raw.cpuid_stepping = description.cpuid_stepping;
    raw.chip_id = description.chip_id;
    raw.current_version = FIRMWARE;
    raw.committed_version = FIRMWARE;
    Ok(raw)
}
