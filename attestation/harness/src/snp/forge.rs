//! A PKI with the shape of AMD's, and reports under it that say anything.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use p384::ecdsa::signature::Signer;
use p384::ecdsa::{Signature, SigningKey};
use redoubt_evidence::{
    CertKind, CertTable, GuestPolicy, Product, RawReport, SnpEvidence, SnpReport, TcbLayout,
    TcbVersion,
};
use redoubt_snp_simulator::RsaBits;
use redoubt_snp_simulator::pki::{Authority, AuthorityKey, EndorsementProfile, Lifetime};

use crate::error::HarnessError;
use crate::site::{read, write_private};

const CHIP: [u8; 64] = [0xC1; 64];

/// The TCB of the good drafts.
pub(crate) const GENOA_TCB: TcbVersion = TcbVersion {
    fmc: None,
    bootloader: 9,
    tee: 1,
    snp: 21,
    microcode: 72,
};

const TURIN_TCB: TcbVersion = TcbVersion {
    fmc: Some(2),
    bootloader: 9,
    tee: 3,
    snp: 21,
    microcode: 72,
};

/// Bits 2 to 4 of the key information: a VLEK signed.
const KEY_INFO_VLEK: u32 = 1 << 2;

/// An attestation key's issuer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Issuer {
    /// The intermediate of the root.
    #[default]
    Intermediate,
    /// An intermediate with its name, of a root with the root's name, but with
    /// other keys.
    Stranger,
    /// The root itself.
    Root,
    /// An intermediate that was valid until yesterday.
    Expired,
}

/// Keys that sign SEV-SNP evidence of any content.
pub struct SnpForge {
    root: Authority,
    intermediate: Authority,
    expired: Authority,
    stranger: Authority,
    key: SigningKey,
}

impl fmt::Debug for SnpForge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnpForge(..)")
    }
}

/// The keys of the root, of its intermediate, and of another root.
const KEY_FILES: [&str; 3] = [
    "snp-root-key.pem",
    "snp-intermediate-key.pem",
    "snp-stranger-key.pem",
];

/// The root's certificate.
pub(crate) const ROOT_FILE: &str = "snp-root.pem";

impl SnpForge {
    /// Makes new keys.
    pub fn generate() -> Result<Self, HarnessError> {
        let key = || AuthorityKey::generate(RsaBits::Rsa2048);
        let pems = [key()?, key()?, key()?].map(|key| key.to_pkcs8_pem());
        let [root, intermediate, stranger] = pems;
        Self::of([&root?, &intermediate?, &stranger?])
    }

    /// Writes new keys to a directory, and returns them.
    pub(crate) fn create(dir: &Path) -> Result<Self, HarnessError> {
        let mut pems = Vec::new();
        for name in KEY_FILES {
            let pem = AuthorityKey::generate(RsaBits::Rsa2048)?.to_pkcs8_pem()?;
            write_private(&dir.join(name), pem.as_bytes())?;
            pems.push(pem);
        }
        match pems.as_slice() {
            [root, intermediate, stranger] => Self::of([root, intermediate, stranger]),
            _ => Err(HarnessError::Key),
        }
    }

    /// Reads keys that [`SnpForge::create`] wrote. The certificates are made
    /// anew: what counts are names and keys.
    pub(crate) fn load(dir: &Path) -> Result<Self, HarnessError> {
        let file = |name: &str| {
            let bytes = read(&dir.join(name))?;
            String::from_utf8(bytes).map_err(|_| HarnessError::Vector {
                what: "a key of the site",
            })
        };
        let [root, intermediate, stranger] = KEY_FILES.map(file);
        Self::of([&root?, &intermediate?, &stranger?])
    }

    fn of(pems: [&str; 3]) -> Result<Self, HarnessError> {
        const ROOT: &str = "CN=Redoubt simulated harness ARK";
        const INTERMEDIATE: &str = "CN=Redoubt simulated harness ASK";
        let key = |pem: &str| AuthorityKey::from_pkcs8_pem(pem);
        let [root, intermediate, stranger] = pems;
        let long = Lifetime::years(25);
        let other = Authority::root(key(stranger)?, ROOT, long)?;
        let root = Authority::root(key(root)?, ROOT, long)?;
        Ok(Self {
            expired: root.intermediate(key(intermediate)?, INTERMEDIATE, ended())?,
            stranger: other.intermediate(key(intermediate)?, INTERMEDIATE, long)?,
            intermediate: root.intermediate(key(intermediate)?, INTERMEDIATE, long)?,
            root,
            key: random_key()?,
        })
    }

    /// The root's certificate in DER.
    pub fn root_certificate(&self) -> &[u8] {
        self.root.certificate()
    }

    /// Evidence that must be accepted: a release guest of a Genoa machine.
    pub fn good(
        &self,
        launch_digest: [u8; 48],
        host_data: [u8; 32],
        report_data: [u8; 64],
    ) -> Result<SnpEvidence, HarnessError> {
        self.evidence(&Draft::genoa(launch_digest, host_data, report_data))
    }

    /// A revocation list of the root, in DER.
    pub(crate) fn revocation_list(&self, of_intermediate: bool) -> Result<Vec<u8>, HarnessError> {
        let revoked = [self.intermediate.certificate()];
        let revoked = if of_intermediate { &revoked[..] } else { &[] };
        Ok(self.root.revocation_list(revoked, Lifetime::years(1))?)
    }

    /// A list of the intermediate that names a VCEK, in DER. All VCEKs of an
    /// intermediate have the same serial number, as AMD's have.
    pub(crate) fn revoked_vcek(&self, vcek: &[u8]) -> Result<Vec<u8>, HarnessError> {
        let lifetime = Lifetime::years(1);
        Ok(self.intermediate.revocation_list(&[vcek], lifetime)?)
    }

    /// What AMD's service holds of a draft: VCEK, chain and revocation list.
    pub(crate) fn documents(&self, draft: &Draft) -> Result<[Vec<u8>; 3], HarnessError> {
        let public = p384::PublicKey::from(self.key.verifying_key());
        let vcek = self.intermediate.endorse(public, &draft.profile)?;
        let chain = [
            pem(self.intermediate.certificate()),
            pem(self.root.certificate()),
        ];
        let list = self.revocation_list(false)?;
        Ok([vcek, chain.concat().into_bytes(), list])
    }

    pub(crate) fn evidence(&self, draft: &Draft) -> Result<SnpEvidence, HarnessError> {
        let issuer = match draft.issuer {
            Issuer::Intermediate => &self.intermediate,
            Issuer::Stranger => &self.stranger,
            Issuer::Root => &self.root,
            Issuer::Expired => &self.expired,
        };
        let public = p384::PublicKey::from(self.key.verifying_key());
        let vek = issuer.endorse(public, &draft.profile)?;
        let kind = if draft.profile.hardware_id.is_some() {
            CertKind::Vcek
        } else {
            CertKind::Vlek
        };
        let mut certs = CertTable::default();
        certs.insert(kind, vek)?;
        certs.insert(CertKind::Ask, issuer.certificate().to_vec())?;
        let mut raw = self.signed(draft.raw)?;
        (draft.tamper)(&mut raw);
        Ok(SnpEvidence {
            report: SnpReport::from_raw(raw)?,
            certs,
        })
    }

    fn signed(&self, mut raw: RawReport) -> Result<RawReport, HarnessError> {
        let unsigned = SnpReport::from_raw(raw)?;
        let signature: Signature = self
            .key
            .try_sign(unsigned.signed_bytes())
            .map_err(|_| HarnessError::Key)?;
        let (r, s) = signature.split_bytes();
        for (target, big_endian) in [(&mut raw.signature.r, r), (&mut raw.signature.s, s)] {
            for (target, byte) in target.iter_mut().zip(big_endian.iter().rev()) {
                *target = *byte;
            }
        }
        Ok(raw)
    }
}

fn random_key() -> Result<SigningKey, HarnessError> {
    use ring::rand::SecureRandom as _;
    let random = ring::rand::SystemRandom::new();
    loop {
        let mut secret = [0; 48];
        random.fill(&mut secret).map_err(|_| HarnessError::Key)?;
        // All but a few of all numbers of that length are keys.
        if let Ok(key) = SigningKey::from_slice(&secret) {
            return Ok(key);
        }
    }
}

/// Until yesterday.
pub(crate) fn ended() -> Lifetime {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let now = SystemTime::now();
    Lifetime {
        not_before: now.checked_sub(DAY * 2).unwrap_or(now),
        not_after: now.checked_sub(DAY).unwrap_or(now),
    }
}

/// A certificate in PEM.
pub(crate) fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Evidence before it is signed.
pub(crate) struct Draft {
    pub(crate) raw: RawReport,
    pub(crate) profile: EndorsementProfile,
    pub(crate) issuer: Issuer,
    /// What is done to the report once it is signed.
    pub(crate) tamper: fn(&mut RawReport),
}

impl Draft {
    pub(crate) fn genoa(
        launch_digest: [u8; 48],
        host_data: [u8; 32],
        report_data: [u8; 64],
    ) -> Self {
        let mut raw = RawReport::zeroed();
        raw.version = 3.into();
        raw.policy = GuestPolicy::RELEASE.0.into();
        raw.signature_algorithm = 1.into();
        raw.launch_digest = launch_digest;
        raw.host_data = host_data;
        raw.report_data = report_data;
        raw.report_id_ma = [0xFF; 32];
        (raw.cpuid_family, raw.cpuid_model, raw.cpuid_stepping) = (0x19, 0x11, 1);
        raw.chip_id = CHIP;
        let mut draft = Self {
            raw,
            profile: profile(Product::Genoa, GENOA_TCB),
            issuer: Issuer::default(),
            tamper: |_| {},
        };
        draft.set_tcb(GENOA_TCB.to_bytes(TcbLayout::MilanGenoa));
        draft
    }

    fn set_tcb(&mut self, tcb: [u8; 8]) {
        let raw = &mut self.raw;
        raw.reported_tcb = tcb;
        raw.current_tcb = tcb;
        raw.committed_tcb = tcb;
        raw.launch_tcb = tcb;
    }

    /// Makes it one of a Milan machine.
    pub(crate) fn milan(&mut self) {
        self.raw.cpuid_model = 0x01;
        self.profile = profile(Product::Milan, GENOA_TCB);
    }

    /// Makes it one of a Turin machine.
    pub(crate) fn turin(&mut self) {
        (self.raw.cpuid_family, self.raw.cpuid_model) = (0x1A, 0x02);
        self.raw.chip_id = [0; 64];
        for (to, from) in self.raw.chip_id.iter_mut().zip(&CHIP).take(8) {
            *to = *from;
        }
        self.profile = profile(Product::Turin, TURIN_TCB);
        self.set_tcb(TURIN_TCB.to_bytes(TcbLayout::Turin));
    }

    /// Makes it one that a VLEK signed.
    pub(crate) fn vlek(&mut self) {
        self.raw.key_info = KEY_INFO_VLEK.into();
        self.raw.chip_id = [0; 64];
        self.vlek_certificate();
    }

    /// Gives it a VLEK certificate, whatever the report says.
    pub(crate) fn vlek_certificate(&mut self) {
        self.profile.hardware_id = None;
        self.profile.provider_id = Some("provider".to_owned());
    }

    /// An older SNP firmware.
    pub(crate) fn older_snp() -> [u8; 8] {
        TcbVersion {
            snp: GENOA_TCB.snp - 2,
            ..GENOA_TCB
        }
        .to_bytes(TcbLayout::MilanGenoa)
    }
}

fn profile(product: Product, tcb: TcbVersion) -> EndorsementProfile {
    EndorsementProfile::vcek("CN=Redoubt simulated harness VCEK", product, tcb, &CHIP)
}
