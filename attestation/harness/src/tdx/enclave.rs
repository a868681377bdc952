//! The quoting enclave in software, and its platform.

use std::fmt;

use redoubt_evidence::tdx::{RawTdReport, RawTdReport15, TEE_TYPE_TDX};
use redoubt_verifier::Bundle;
use sha2::{Digest as _, Sha256};
use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::error::HarnessError;
use crate::tdx::documents::Documents;
use crate::tdx::pki::{Holder, Key, Platform};

/// The vendor of quoting enclaves: Intel.
const VENDOR: [u8; 16] = [
    0x93, 0x9A, 0x72, 0x33, 0xF7, 0x9C, 0x4C, 0xA9, 0x94, 0x0A, 0x0D, 0xB3, 0x95, 0x7F, 0x06, 0x07,
];

pub(super) const QE_MRSIGNER: [u8; 32] = [0x5A; 32];
pub(super) const QE_PRODUCT: u16 = 2;
pub(super) const QE_SVN: u16 = 4;

/// `SEPT_VE_DISABLE`.
const SEPT_VE_DISABLE: u64 = 1 << 28;

/// What a quoting enclave hashes beside its attestation key.
const AUTHENTICATION_DATA: [u8; 32] = [0x20; 32];

/// A TD as a quote describes it.
#[derive(Clone, Debug)]
pub struct TdProfile {
    /// The report of TDX 1.0.
    pub report: RawTdReport,
    /// What TDX 1.5 adds; the quote has version 5 with it, else version 4.
    pub report_15: Option<RawTdReport15>,
}

impl TdProfile {
    /// A release TD with these measurements.
    pub fn new(mr_td: [u8; 48], rtmrs: [[u8; 48]; 4], report_data: [u8; 64]) -> Self {
        let mut report = RawTdReport::new_zeroed();
        report.td_attributes = SEPT_VE_DISABLE.into();
        report.xfam = 0x0006_1AE7.into();
        report.mr_td = mr_td;
        report.rtmrs = rtmrs;
        report.report_data = report_data;
        Self {
            report,
            report_15: None,
        }
    }
}

/// What goes wrong inside the quoting enclave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Its report vouches for another attestation key.
    OtherKey,
    /// The PCK certificate is of another platform.
    OtherPck,
    /// The chain ends in another root of the same name.
    OtherRoot,
}

/// A simulated TDX platform: it signs quotes of any content, and has all the
/// documents that Intel would have about it.
pub struct QuotingEnclave {
    pub(super) root: Holder,
    pub(super) platform_ca: Holder,
    pub(super) signer: Holder,
    pub(super) pck: Holder,
    other_pck: Holder,
    /// PCK certificate and authority under another root.
    stranger: [Holder; 2],
    attestation: Key,
    pub(super) platform: Platform,
}

impl fmt::Debug for QuotingEnclave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuotingEnclave(..)")
    }
}

impl QuotingEnclave {
    /// Makes a platform and its PKI.
    pub fn generate() -> Result<Self, HarnessError> {
        let platform = Platform {
            fmspc: [0x5E, 0xD0, 0xB7, 0, 0, 0],
            ppid: [0x11; 16],
            instance_id: [0x22; 16],
            cpu_svn: [3; 16],
            pce_svn: 11,
        };
        let root = Holder::root()?;
        let platform_ca = root.platform_ca()?;
        let other = Holder::root()?.platform_ca()?;
        Ok(Self {
            signer: root.tcb_signer()?,
            pck: platform_ca.pck(&platform, 0x10)?,
            other_pck: platform_ca.pck(&platform, 0x11)?,
            stranger: [other.pck(&platform, 0x10)?, other],
            attestation: Key::generate()?,
            root,
            platform_ca,
            platform,
        })
    }

    /// The root's certificate in DER: a verifier must be told to trust it.
    pub fn root_certificate(&self) -> &[u8] {
        &self.root.der
    }

    /// The collateral that goes with its quotes.
    pub fn bundle(&self) -> Result<Bundle, HarnessError> {
        self.bundle_with(Documents::default())
    }

    /// A quote of a TD.
    pub fn quote(&self, profile: &TdProfile) -> Result<Vec<u8>, HarnessError> {
        self.quote_with(profile, Fault::None)
    }

    pub(crate) fn quote_with(
        &self,
        profile: &TdProfile,
        fault: Fault,
    ) -> Result<Vec<u8>, HarnessError> {
        let mut quote = header(if profile.report_15.is_some() { 5 } else { 4 });
        if let Some(more) = &profile.report_15 {
            quote.extend(3_u16.to_le_bytes());
            let size = size_of::<RawTdReport>() + size_of::<RawTdReport15>();
            quote.extend(length(size));
            quote.extend(profile.report.as_bytes());
            quote.extend(more.as_bytes());
        } else {
            quote.extend(profile.report.as_bytes());
        }
        let mut data = self.attestation.sign(&quote)?;
        data.extend(self.attestation.public_point());
        let certification = self.certification(fault)?;
        data.extend(6_u16.to_le_bytes());
        data.extend(length(certification.len()));
        data.extend(certification);
        quote.extend(length(data.len()));
        quote.extend(data);
        Ok(quote)
    }

    /// The enclave's own report, its signature, and the PCK chain.
    fn certification(&self, fault: Fault) -> Result<Vec<u8>, HarnessError> {
        let report = self.enclave_report(fault);
        let mut data = report.clone();
        data.extend(self.pck.key.sign(&report)?);
        data.extend(32_u16.to_le_bytes());
        data.extend(AUTHENTICATION_DATA);
        let chain = self.pck_chain(fault);
        data.extend(5_u16.to_le_bytes());
        data.extend(length(chain.len()));
        data.extend(chain.as_bytes());
        Ok(data)
    }

    fn pck_chain(&self, fault: Fault) -> String {
        let [stranger, strange_ca] = &self.stranger;
        let (leaf, issuer) = match fault {
            Fault::None | Fault::OtherKey => (&self.pck, &self.platform_ca),
            Fault::OtherPck => (&self.other_pck, &self.platform_ca),
            Fault::OtherRoot => (stranger, strange_ca),
        };
        // With the NUL at its end that real ones have.
        [&leaf.pem, &issuer.pem, &self.root.pem, "\0"].concat()
    }

    /// 384 bytes of an SGX report (Intel SDM volume 3D, table "REPORT").
    fn enclave_report(&self, fault: Fault) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(self.attestation.public_point());
        hash.update(AUTHENTICATION_DATA);
        let mut bound = hash.finalize().to_vec();
        if fault == Fault::OtherKey
            && let Some(byte) = bound.first_mut()
        {
            *byte ^= 1;
        }
        let mut report = self.platform.cpu_svn.to_vec();
        // MISCSELECT and reserved bytes.
        report.extend([0; 32]);
        // Initialised, 64-bit, without debugging.
        report.extend([0x05 | 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        report.extend([0x33; 32]);
        report.extend([0; 32]);
        report.extend(QE_MRSIGNER);
        report.extend([0; 96]);
        report.extend(QE_PRODUCT.to_le_bytes());
        report.extend(QE_SVN.to_le_bytes());
        report.extend([0; 60]);
        report.extend(bound);
        report.extend([0; 32]);
        report
    }
}

fn header(version: u16) -> Vec<u8> {
    let mut header = version.to_le_bytes().to_vec();
    // ECDSA P-256.
    header.extend(2_u16.to_le_bytes());
    header.extend(TEE_TYPE_TDX.to_le_bytes());
    header.extend([0; 4]);
    header.extend(VENDOR);
    header.extend([0; 20]);
    header
}

/// A length in the quote; nothing here is longer than 4 GiB.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}
