//! A simulated chip: its endorsement key, its certificates, and where they lie.

use std::fmt;
use std::path::Path;
use std::thread;

use der::Decode as _;
use p384::SecretKey;
use p384::ecdsa::SigningKey;
use p384::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use redoubt_evidence::{CertKind, CertTable, CpuId, Product, SIMULATED_NAME_PREFIX, TcbVersion};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::SimulatorError;
use crate::files::{self, Mode};
use crate::pki::{Authority, AuthorityKey, EndorsementProfile, Lifetime, RsaBits};

const ARK_FILE: &str = "ark.pem";
const ASK_FILE: &str = "ask.pem";
const VCEK_FILE: &str = "vcek.pem";
const KEY_FILE: &str = "vcek-key.pem";
const IDENTITY_FILE: &str = "identity.json";

/// The CPU that a simulated guest sees itself on: Genoa, QEMU's `EPYC-v4`.
const CPUID: CpuId = CpuId {
    family: 0x19,
    model: 0x11,
    stepping: 0,
};

/// A TCB as a Genoa machine reported it in 2025.
const TCB: TcbVersion = TcbVersion {
    fmc: None,
    bootloader: 10,
    tee: 0,
    snp: 23,
    microcode: 25,
};

/// A simulated chip with its certificates.
///
/// The authorities' keys are gone once it is made: nothing else can be signed.
#[derive(Clone)]
pub struct SimulatedIdentity {
    pub(crate) key: SigningKey,
    ark: Vec<u8>,
    ask: Vec<u8>,
    vcek: Vec<u8>,
    pub(crate) description: Description,
}

/// What `identity.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// A word of warning for whoever opens the file.
    note: String,
    pub(crate) product: Product,
    pub(crate) cpuid_family: u8,
    pub(crate) cpuid_model: u8,
    pub(crate) cpuid_stepping: u8,
    pub(crate) tcb: TcbVersion,
    #[serde(with = "hex_array")]
    pub(crate) chip_id: [u8; 64],
}

mod hex_array {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        bytes: &[u8; 64],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 64], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        hex::decode_to_slice(text, &mut bytes).map_err(de::Error::custom)?;
        Ok(bytes)
    }
}

impl fmt::Debug for SimulatedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedIdentity")
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

impl SimulatedIdentity {
    /// Makes a chip and its authorities with RSA-4096 keys; takes some seconds.
    pub fn generate() -> Result<Self, SimulatorError> {
        Self::generate_with(RsaBits::Rsa4096)
    }

    /// The same with authorities of another key size.
    pub fn generate_with(bits: RsaBits) -> Result<Self, SimulatorError> {
        let other = thread::spawn(move || AuthorityKey::generate(bits));
        let intermediate_key = AuthorityKey::generate(bits)?;
        let root_key = other
            .join()
            .map_err(|_panic| SimulatorError::Interrupted)??;
        let ark = Authority::root(root_key, &name("ARK"), Lifetime::years(25))?;
        let ask = ark.intermediate(intermediate_key, &name("ASK"), Lifetime::years(25))?;

        let mut chip_id = [0; 64];
        getrandom::fill(&mut chip_id).map_err(SimulatorError::Random)?;
        let key = random_key()?;
        let profile = EndorsementProfile::vcek(&name("VCEK"), Product::Genoa, TCB, &chip_id);
        let vcek = ask.endorse(p384::PublicKey::from(key.verifying_key()), &profile)?;
        Ok(Self {
            key,
            ark: ark.certificate().to_vec(),
            ask: ask.certificate().to_vec(),
            vcek,
            description: Description {
                note: "a simulated chip: its reports prove nothing about hardware".to_owned(),
                product: Product::Genoa,
                cpuid_family: CPUID.family,
                cpuid_model: CPUID.model,
                cpuid_stepping: CPUID.stepping,
                tcb: TCB,
                chip_id,
            },
        })
    }

    /// Writes the identity to a directory, which is made if it is missing.
    ///
    /// A directory that already holds an identity is refused. `identity.json` is
    /// written last, so an interrupted attempt leaves no identity behind.
    pub fn store(&self, dir: &Path) -> Result<(), SimulatorError> {
        files::create_dir(dir)?;
        if dir.join(IDENTITY_FILE).exists() {
            return Err(SimulatorError::Exists {
                path: dir.to_owned(),
            });
        }
        let secret = SecretKey::from(self.key.as_nonzero_scalar());
        let key_pem = secret
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| SimulatorError::Content {
                path: dir.join(KEY_FILE),
                what: "a private key",
            })?;
        files::write(&dir.join(KEY_FILE), key_pem.as_bytes(), Mode::Private)?;
        for (file, der) in [
            (ARK_FILE, &self.ark),
            (ASK_FILE, &self.ask),
            (VCEK_FILE, &self.vcek),
        ] {
            files::write(
                &dir.join(file),
                certificate_pem(der)?.as_bytes(),
                Mode::Public,
            )?;
        }
        let mut json =
            serde_json::to_vec_pretty(&self.description).map_err(SimulatorError::Identity)?;
        json.push(b'\n');
        files::write(&dir.join(IDENTITY_FILE), &json, Mode::Public)
    }

    /// Reads an identity that [`SimulatedIdentity::store`] wrote.
    pub fn load(dir: &Path) -> Result<Self, SimulatorError> {
        let json = files::read(&dir.join(IDENTITY_FILE))?;
        let description: Description =
            serde_json::from_slice(&json).map_err(SimulatorError::Identity)?;
        let key_path = dir.join(KEY_FILE);
        files::require_private(&key_path)?;
        let pem = Zeroizing::new(files::read(&key_path)?);
        let secret = std::str::from_utf8(&pem)
            .ok()
            .and_then(|pem| SecretKey::from_pkcs8_pem(pem).ok());
        let secret = secret.ok_or(SimulatorError::Content {
            path: key_path,
            what: "a P-384 private key",
        })?;
        let identity = Self {
            key: SigningKey::from(&secret),
            ark: read_certificate(dir, ARK_FILE)?,
            ask: read_certificate(dir, ASK_FILE)?,
            vcek: read_certificate(dir, VCEK_FILE)?,
            description,
        };
        identity.require_own_vcek(dir)?;
        Ok(identity)
    }

    /// Key and description must be the VCEK's; else nobody would accept a report.
    fn require_own_vcek(&self, dir: &Path) -> Result<(), SimulatorError> {
        let vcek = x509_cert::Certificate::from_der(&self.vcek)?;
        let vcek = vcek.tbs_certificate();
        let certified = vcek
            .subject_public_key_info()
            .subject_public_key
            .raw_bytes();
        if certified != self.key.verifying_key().to_sec1_point(false).as_bytes() {
            let path = dir.join(KEY_FILE);
            return Err(SimulatorError::Content {
                path,
                what: "the VCEK's key",
            });
        }
        let Description {
            tcb,
            chip_id,
            product,
            ..
        } = &self.description;
        let profile = EndorsementProfile::vcek(&name("VCEK"), *product, *tcb, chip_id);
        for (what, expected) in profile.described()? {
            if !vcek
                .extensions()
                .is_some_and(|extensions| extensions.contains(&expected))
            {
                return Err(SimulatorError::IdentityDiffers { what });
            }
        }
        Ok(())
    }

    /// ARK and ASK as PEM: what a verifier must be given by hand.
    pub fn trust_anchor_pem(&self) -> Result<String, SimulatorError> {
        Ok(certificate_pem(&self.ark)? + &certificate_pem(&self.ask)?)
    }

    /// The certificates as a host hands them out: ARK, ASK and VCEK.
    pub fn cert_table(&self) -> Result<CertTable, SimulatorError> {
        let mut table = CertTable::default();
        table.insert(CertKind::Ark, self.ark.clone())?;
        table.insert(CertKind::Ask, self.ask.clone())?;
        table.insert(CertKind::Vcek, self.vcek.clone())?;
        Ok(table)
    }

    /// The simulated chip's id.
    pub fn chip_id(&self) -> &[u8; 64] {
        &self.description.chip_id
    }

    /// The simulated firmware's TCB.
    pub fn tcb(&self) -> TcbVersion {
        self.description.tcb
    }
}

/// Makes an identity and writes it to `dir`; for `redoubt simulator init`.
///
/// A directory that already holds one is refused before any key is made.
pub fn init(dir: &Path) -> Result<SimulatedIdentity, SimulatorError> {
    if dir.join(IDENTITY_FILE).exists() {
        return Err(SimulatorError::Exists {
            path: dir.to_owned(),
        });
    }
    let identity = SimulatedIdentity::generate()?;
    identity.store(dir)?;
    Ok(identity)
}

fn name(role: &str) -> String {
    format!("CN={SIMULATED_NAME_PREFIX} {role},O={SIMULATED_NAME_PREFIX} SEV-SNP")
}

fn random_key() -> Result<SigningKey, SimulatorError> {
    let mut scalar = Zeroizing::new([0; 48]);
    loop {
        getrandom::fill(scalar.as_mut_slice()).map_err(SimulatorError::Random)?;
        // All but a vanishing part of the numbers are valid scalars.
        if let Ok(key) = SigningKey::from_slice(scalar.as_slice()) {
            return Ok(key);
        }
    }
}

fn certificate_pem(der: &[u8]) -> Result<String, SimulatorError> {
    der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, der)
        .map_err(|error| SimulatorError::Der(error.into()))
}

fn read_certificate(dir: &Path, file: &str) -> Result<Vec<u8>, SimulatorError> {
    let path = dir.join(file);
    let pem = files::read(&path)?;
    match der::pem::decode_vec(&pem) {
        Ok(("CERTIFICATE", der)) => Ok(der),
        _ => Err(SimulatorError::Content {
            path,
            what: "a PEM certificate",
        }),
    }
}
