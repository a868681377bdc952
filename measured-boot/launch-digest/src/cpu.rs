//! CPU models by QEMU's names, and their CPUID signatures.

use std::fmt;
use std::str::FromStr;

use crate::error::DigestError;

/// Family, model and stepping as CPUID `Fn0000_0001` EAX reports them.
///
/// QEMU/KVM puts it into RDX of every measured VMSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CpuSignature(pub u32);

/// A CPU model that QEMU names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuModel {
    /// Name as in `-cpu`.
    pub name: &'static str,
    /// The signature that a guest of this model sees.
    pub signature: CpuSignature,
}

const NAPLES: CpuSignature = CpuSignature(signature(23, 1, 2));
const ROME: CpuSignature = CpuSignature(signature(23, 49, 0));
const MILAN: CpuSignature = CpuSignature(signature(25, 1, 1));
const GENOA: CpuSignature = CpuSignature(signature(25, 17, 0));
const TURIN: CpuSignature = CpuSignature(signature(26, 0, 0));
const DHYANA: CpuSignature = CpuSignature(signature(24, 0, 1));
const OPTERON_G1: CpuSignature = CpuSignature(signature(15, 6, 1));
const OPTERON_G3: CpuSignature = CpuSignature(signature(16, 2, 3));
const OPTERON_G4: CpuSignature = CpuSignature(signature(21, 1, 2));
const OPTERON_G5: CpuSignature = CpuSignature(signature(21, 2, 0));
const QEMU64: CpuSignature = CpuSignature(signature(15, 107, 1));

/// The models of QEMU whose signature is an AMD processor's, and its generic 64-bit models.
///
/// Versions of a model differ in features, not in signature. `host` and `max` are missing: their
/// signature is that of the machine that QEMU runs on.
pub const CPU_MODELS: &[CpuModel] = &[
    model("EPYC", NAPLES),
    model("EPYC-v1", NAPLES),
    model("EPYC-v2", NAPLES),
    model("EPYC-IBPB", NAPLES),
    model("EPYC-v3", NAPLES),
    model("EPYC-v4", NAPLES),
    model("EPYC-v5", NAPLES),
    model("EPYC-Rome", ROME),
    model("EPYC-Rome-v1", ROME),
    model("EPYC-Rome-v2", ROME),
    model("EPYC-Rome-v3", ROME),
    model("EPYC-Rome-v4", ROME),
    model("EPYC-Rome-v5", ROME),
    model("EPYC-Milan", MILAN),
    model("EPYC-Milan-v1", MILAN),
    model("EPYC-Milan-v2", MILAN),
    model("EPYC-Milan-v3", MILAN),
    model("EPYC-Genoa", GENOA),
    model("EPYC-Genoa-v1", GENOA),
    model("EPYC-Genoa-v2", GENOA),
    model("EPYC-Turin", TURIN),
    model("EPYC-Turin-v1", TURIN),
    model("Dhyana", DHYANA),
    model("Dhyana-v1", DHYANA),
    model("Dhyana-v2", DHYANA),
    model("Opteron_G1", OPTERON_G1),
    model("Opteron_G1-v1", OPTERON_G1),
    model("Opteron_G2", OPTERON_G1),
    model("Opteron_G2-v1", OPTERON_G1),
    model("kvm64", OPTERON_G1),
    model("kvm64-v1", OPTERON_G1),
    model("Opteron_G3", OPTERON_G3),
    model("Opteron_G3-v1", OPTERON_G3),
    model("phenom", OPTERON_G3),
    model("phenom-v1", OPTERON_G3),
    model("Opteron_G4", OPTERON_G4),
    model("Opteron_G4-v1", OPTERON_G4),
    model("Opteron_G5", OPTERON_G5),
    model("Opteron_G5-v1", OPTERON_G5),
    model("qemu64", QEMU64),
    model("qemu64-v1", QEMU64),
];

const fn model(name: &'static str, signature: CpuSignature) -> CpuModel {
    CpuModel { name, signature }
}

impl CpuSignature {
    /// The signature of a family, model and stepping, extended parts included.
    pub fn from_family(family: u32, model: u32, stepping: u32) -> Result<Self, DigestError> {
        // Values outside the fields of the signature would be measured as another CPU.
        if family > 0xf + 0xff || model > 0xff || stepping > 0xf {
            return Err(DigestError::CpuSignature {
                family,
                model,
                stepping,
            });
        }
        Ok(Self(signature(family, model, stepping)))
    }
}

/// Packs the fields of CPUID `Fn0000_0001` EAX (AMD APM volume 3, appendix E).
const fn signature(family: u32, model: u32, stepping: u32) -> u32 {
    let (base, extended) = if family > 0xf {
        (0xf, family - 0xf)
    } else {
        (family, 0)
    };
    extended << 20 | (model >> 4) << 16 | base << 8 | (model & 0xf) << 4 | stepping
}

impl FromStr for CpuSignature {
    type Err = DigestError;

    /// Looks up a model by QEMU's name.
    fn from_str(name: &str) -> Result<Self, DigestError> {
        CPU_MODELS
            .iter()
            .find(|model| model.name.eq_ignore_ascii_case(name))
            .map(|model| model.signature)
            .ok_or_else(|| DigestError::UnknownCpuModel {
                name: name.to_owned(),
                nearest: nearest_model(name),
            })
    }
}

impl fmt::Display for CpuSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

fn nearest_model(name: &str) -> Option<&'static str> {
    CPU_MODELS
        .iter()
        .map(|model| (strsim::jaro_winkler(name, model.name), model.name))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_model_gets_the_nearest_name() {
        assert_eq!(
            "EPYC-Millan".parse::<CpuSignature>(),
            Err(DigestError::UnknownCpuModel {
                name: "EPYC-Millan".to_owned(),
                nearest: Some("EPYC-Milan")
            })
        );
    }

    #[test]
    fn parts_that_do_not_fit_are_refused_instead_of_cut() {
        assert_eq!(CpuSignature::from_family(25, 1, 1), Ok(MILAN));
        assert!(CpuSignature::from_family(25, 1, 16).is_err());
        assert!(CpuSignature::from_family(25, 256, 0).is_err());
        assert!(CpuSignature::from_family(271, 0, 0).is_err());
    }
}
