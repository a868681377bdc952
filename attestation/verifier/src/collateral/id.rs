//! Ids of collateral documents, and their text form.

use std::fmt;
use std::str::FromStr;

use redoubt_evidence::{Product, SnpReport, TcbVersion};

use crate::error::VerifierError;

/// Family, model, stepping, platform type and SKU of an Intel platform: 6 bytes
/// that select the TCB information that applies to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fmspc(pub [u8; 6]);

impl fmt::Display for Fmspc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Fmspc {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let mut bytes = [0; 6];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| VerifierError::CollateralId {
            id: crate::cert::one_line(text),
        })?;
        Ok(Self(bytes))
    }
}

/// Which of AMD's two intermediates a chain or list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VekIssuer {
    /// The ASK, which signs VCEKs.
    Vcek,
    /// The ASVK, which signs VLEKs.
    Vlek,
}

impl VekIssuer {
    /// The name in AMD's URLs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vcek => "vcek",
            Self::Vlek => "vlek",
        }
    }
}

/// Which of Intel's two authorities signed a PCK certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PckAuthority {
    /// Multi-package platforms.
    Platform,
    /// Single-package platforms.
    Processor,
}

impl PckAuthority {
    /// The name in Intel's URLs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }
}

/// What a VCEK certificate is issued for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VcekId {
    /// The processor line.
    pub product: Product,
    /// The chip; only the first [`Product::hwid_bytes`] count.
    pub chip_id: [u8; 64],
    /// The TCB that the key is derived with.
    pub tcb: TcbVersion,
}

impl VcekId {
    /// The VCEK that signed a report. `product` is asked for where the report
    /// does not say it (version 2).
    pub fn of_report(report: &SnpReport, product: Option<Product>) -> Option<Self> {
        Some(Self {
            product: report.product().or(product)?,
            chip_id: *report.chip_id(),
            tcb: report.reported_tcb(),
        })
    }

    /// The bytes of the chip id that this product uses.
    pub fn hardware_id(&self) -> &[u8] {
        self.chip_id
            .get(..self.product.hwid_bytes())
            .unwrap_or_default()
    }
}

/// One document of AMD's key distribution service or Intel's provisioning
/// certification service.
///
/// The text form names a document in bundles and caches:
///
/// ```
/// use redoubt_verifier::CollateralId;
/// let id: CollateralId = "tdx/tcb-info/50806f000000".parse()?;
/// assert_eq!(id.to_string(), "tdx/tcb-info/50806f000000");
/// assert!("tdx/tcb-info/../../etc".parse::<CollateralId>().is_err());
/// # Ok::<(), redoubt_verifier::VerifierError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CollateralId {
    /// `snp/vcek/<product>/<chip>/<bootloader>-<tee>-<snp>-<microcode>[-<fmc>]`
    Vcek(VcekId),
    /// `snp/chain/<product>/<vcek or vlek>`: intermediate and root.
    Chain(Product, VekIssuer),
    /// `snp/crl/<product>/<vcek or vlek>`: the root's revocation list.
    Crl(Product, VekIssuer),
    /// `tdx/tcb-info/<fmspc>`
    TcbInfo(Fmspc),
    /// `tdx/qe-identity`: of the TD quoting enclave.
    QeIdentity,
    /// `tdx/pck-crl/<platform or processor>`
    PckCrl(PckAuthority),
    /// `tdx/root-ca-crl`
    RootCaCrl,
}

impl fmt::Display for CollateralId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcek(vcek) => {
                let TcbVersion {
                    fmc,
                    bootloader,
                    tee,
                    snp,
                    microcode,
                } = vcek.tcb;
                let chip = hex::encode(vcek.hardware_id());
                let product = vcek.product;
                write!(
                    f,
                    "snp/vcek/{product}/{chip}/{bootloader}-{tee}-{snp}-{microcode}"
                )?;
                fmc.map_or(Ok(()), |fmc| write!(f, "-{fmc}"))
            }
            Self::Chain(product, issuer) => write!(f, "snp/chain/{product}/{}", issuer.name()),
            Self::Crl(product, issuer) => write!(f, "snp/crl/{product}/{}", issuer.name()),
            Self::TcbInfo(fmspc) => write!(f, "tdx/tcb-info/{fmspc}"),
            Self::QeIdentity => f.write_str("tdx/qe-identity"),
            Self::PckCrl(authority) => write!(f, "tdx/pck-crl/{}", authority.name()),
            Self::RootCaCrl => f.write_str("tdx/root-ca-crl"),
        }
    }
}

impl FromStr for CollateralId {
    type Err = VerifierError;

    /// Reads an id; only the form that is written is accepted, so that one
    /// document has one name.
    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let parts: Vec<&str> = text.split('/').take(6).collect();
        let id = match parts.as_slice() {
            ["snp", "vcek", product, chip, tcb] => vcek(product, chip, tcb).map(Self::Vcek),
            ["snp", "chain", product, issuer] => {
                issued(product, issuer).map(|(product, issuer)| Self::Chain(product, issuer))
            }
            ["snp", "crl", product, issuer] => {
                issued(product, issuer).map(|(product, issuer)| Self::Crl(product, issuer))
            }
            ["tdx", "tcb-info", fmspc] => fmspc.parse().ok().map(Self::TcbInfo),
            ["tdx", "qe-identity"] => Some(Self::QeIdentity),
            ["tdx", "pck-crl", "platform"] => Some(Self::PckCrl(PckAuthority::Platform)),
            ["tdx", "pck-crl", "processor"] => Some(Self::PckCrl(PckAuthority::Processor)),
            ["tdx", "root-ca-crl"] => Some(Self::RootCaCrl),
            _ => None,
        };
        id.filter(|id| id.to_string() == text)
            .ok_or_else(|| VerifierError::CollateralId {
                id: crate::cert::one_line(text),
            })
    }
}

fn product(name: &str) -> Option<Product> {
    Product::ALL
        .into_iter()
        .find(|product| product.name() == name)
}

fn issued(name: &str, issuer: &str) -> Option<(Product, VekIssuer)> {
    let issuer = match issuer {
        "vcek" => VekIssuer::Vcek,
        "vlek" => VekIssuer::Vlek,
        _ => return None,
    };
    Some((product(name)?, issuer))
}

fn vcek(name: &str, chip: &str, tcb: &str) -> Option<VcekId> {
    let product = product(name)?;
    let mut chip_id = [0; 64];
    let used = chip_id.get_mut(..product.hwid_bytes())?;
    hex::decode_to_slice(chip, used).ok()?;
    let numbers: Option<Vec<u8>> = tcb.split('-').map(|part| part.parse().ok()).collect();
    let (fmc, [bootloader, tee, snp, microcode]) = match numbers?.as_slice() {
        [bootloader, tee, snp, microcode] => (None, [*bootloader, *tee, *snp, *microcode]),
        [bootloader, tee, snp, microcode, fmc] => {
            (Some(*fmc), [*bootloader, *tee, *snp, *microcode])
        }
        _ => return None,
    };
    Some(VcekId {
        product,
        chip_id,
        tcb: TcbVersion {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_read_as_it_is_written() {
        let report = SnpReport::parse(include_bytes!(
            "../../testdata/attestation-rs-live-report-v5-genoa.bin"
        ))
        .unwrap();
        let genoa = VcekId::of_report(&report, None).unwrap();
        let turin = VcekId {
            product: Product::Turin,
            chip_id: {
                let mut id = [0; 64];
                id[..8].copy_from_slice(&[7; 8]);
                id
            },
            tcb: TcbVersion {
                fmc: Some(1),
                ..genoa.tcb
            },
        };
        for id in [
            CollateralId::Vcek(genoa),
            CollateralId::Vcek(turin),
            CollateralId::Chain(Product::Milan, VekIssuer::Vlek),
            CollateralId::Crl(Product::Turin, VekIssuer::Vcek),
            CollateralId::TcbInfo(Fmspc([0x50, 0x80, 0x6F, 0, 0, 0])),
            CollateralId::QeIdentity,
            CollateralId::PckCrl(PckAuthority::Platform),
            CollateralId::PckCrl(PckAuthority::Processor),
            CollateralId::RootCaCrl,
        ] {
            assert_eq!(id.to_string().parse::<CollateralId>().unwrap(), id);
        }
        assert_eq!(
            CollateralId::Vcek(turin).to_string(),
            "snp/vcek/Turin/0707070707070707/10-0-27-27-1"
        );
    }

    #[test]
    fn another_spelling_is_no_id() {
        for text in [
            "",
            "snp",
            "snp/crl/Rome/vcek",
            "snp/crl/genoa/vcek",
            "snp/crl/Genoa/vcek/",
            "snp/vcek/Turin/0707070707070707/1-2-3",
            "snp/vcek/Turin/0707070707070707/01-2-3-4",
            "snp/vcek/Turin/070707070707070/1-2-3-4",
            "snp/vcek/Turin/0707070707070707/1-2-3-256",
            "tdx/tcb-info/50806F000000",
            "tdx/tcb-info/50806f0000",
            "tdx/pck-crl/other",
            "../tdx/qe-identity",
            "tdx/qe-identity\n",
        ] {
            assert!(text.parse::<CollateralId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_version_2_report_needs_to_be_told_its_product() {
        let report =
            SnpReport::parse(include_bytes!("../../testdata/trustee-test-report.bin")).unwrap();
        assert_eq!(VcekId::of_report(&report, None), None);
        let id = VcekId::of_report(&report, Some(Product::Milan)).unwrap();
        assert_eq!(id.hardware_id().len(), 64);
    }
}
