//! CPU models by QEMU's names, and their CPUID signatures.

use std::fmt;
use std::str::FromStr;

use crate::error::DigestError;

/// Family, model and stepping as CPUID `Fn0000_0001` EAX reports them.
///
/// It is the initial value of RDX in every measured VMSA.
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

/// All EPYC models of QEMU. Versions of a model differ in features, not in signature.
pub const CPU_MODELS: &[CpuModel] = &[
    CpuModel {
        name: "EPYC",
        signature: NAPLES,
    },
    CpuModel {
        name: "EPYC-v1",
        signature: NAPLES,
    },
    CpuModel {
        name: "EPYC-v2",
        signature: NAPLES,
    },
    CpuModel {
        name: "EPYC-IBPB",
        signature: NAPLES,
    },
    CpuModel {
        name: "EPYC-v3",
        signature: NAPLES,
    },
    CpuModel {
        name: "EPYC-v4",
        signature: NAPLES,
    },
    CpuModel {
        name: "EPYC-v5",
        signature: NAPLES,
    },
    CpuModel {
        name: "EPYC-Rome",
        signature: ROME,
    },
    CpuModel {
        name: "EPYC-Rome-v1",
        signature: ROME,
    },
    CpuModel {
        name: "EPYC-Rome-v2",
        signature: ROME,
    },
    CpuModel {
        name: "EPYC-Rome-v3",
        signature: ROME,
    },
    CpuModel {
        name: "EPYC-Rome-v4",
        signature: ROME,
    },
    CpuModel {
        name: "EPYC-Rome-v5",
        signature: ROME,
    },
    CpuModel {
        name: "EPYC-Milan",
        signature: MILAN,
    },
    CpuModel {
        name: "EPYC-Milan-v1",
        signature: MILAN,
    },
    CpuModel {
        name: "EPYC-Milan-v2",
        signature: MILAN,
    },
    CpuModel {
        name: "EPYC-Milan-v3",
        signature: MILAN,
    },
    CpuModel {
        name: "EPYC-Genoa",
        signature: GENOA,
    },
    CpuModel {
        name: "EPYC-Genoa-v1",
        signature: GENOA,
    },
    CpuModel {
        name: "EPYC-Genoa-v2",
        signature: GENOA,
    },
    CpuModel {
        name: "EPYC-Turin",
        signature: TURIN,
    },
    CpuModel {
        name: "EPYC-Turin-v1",
        signature: TURIN,
    },
];

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
