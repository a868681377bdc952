use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::KbsProtocolError;
use crate::error::shortened;

/// The kinds of trusted execution environment that the protocol names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Tee {
    /// AMD SEV-SNP behind Azure's vTPM.
    AzSnpVtpm,
    /// Intel TDX behind Azure's vTPM.
    AzTdxVtpm,
    /// NVIDIA GPU.
    Nvidia,
    /// Intel SGX.
    Sgx,
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
    /// Arm CCA.
    Cca,
    /// Hygon CSV.
    Csv,
    /// IBM Secure Execution.
    Se,
    /// Hygon DCU.
    HygonDcu,
    /// NVIDIA DPU.
    NvidiaDpu,
    /// A TPM.
    Tpm,
    /// Trustee's sample, which proves nothing.
    Sample,
    /// Trustee's sample device, which proves nothing.
    SampleDevice,
}

impl Tee {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::AzSnpVtpm,
        Self::AzTdxVtpm,
        Self::Nvidia,
        Self::Sgx,
        Self::Snp,
        Self::Tdx,
        Self::Cca,
        Self::Csv,
        Self::Se,
        Self::HygonDcu,
        Self::NvidiaDpu,
        Self::Tpm,
        Self::Sample,
        Self::SampleDevice,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AzSnpVtpm => "az-snp-vtpm",
            Self::AzTdxVtpm => "az-tdx-vtpm",
            Self::Nvidia => "nvidia",
            Self::Sgx => "sgx",
            Self::Snp => "snp",
            Self::Tdx => "tdx",
            Self::Cca => "cca",
            Self::Csv => "csv",
            Self::Se => "se",
            Self::HygonDcu => "hygondcu",
            Self::NvidiaDpu => "nvidia-dpu",
            Self::Tpm => "tpm",
            Self::Sample => "sample",
            Self::SampleDevice => "sampledevice",
        }
    }
}

impl FromStr for Tee {
    type Err = KbsProtocolError;

    /// Reads a name, also in the spellings of older guests.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let current = match name {
            "azsnpvtpm" => "az-snp-vtpm",
            "aztdxvtpm" => "az-tdx-vtpm",
            "nvidiadpu" => "nvidia-dpu",
            other => other,
        };
        Self::ALL
            .into_iter()
            .find(|tee| tee.name() == current)
            .ok_or_else(|| KbsProtocolError::UnknownTee(shortened(name)))
    }
}

impl TryFrom<String> for Tee {
    type Error = KbsProtocolError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<Tee> for &'static str {
    fn from(tee: Tee) -> Self {
        tee.name()
    }
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for tee in Tee::ALL {
            assert_eq!(tee.name().parse::<Tee>().unwrap(), tee);
            let json = serde_json::to_string(&tee).unwrap();
            assert_eq!(json, format!("\"{}\"", tee.name()));
            assert_eq!(serde_json::from_str::<Tee>(&json).unwrap(), tee);
        }
    }

    #[test]
    fn older_spellings_are_read_and_unknown_names_refused() {
        assert_eq!("azsnpvtpm".parse::<Tee>().unwrap(), Tee::AzSnpVtpm);
        assert_eq!("aztdxvtpm".parse::<Tee>().unwrap(), Tee::AzTdxVtpm);
        assert_eq!("nvidiadpu".parse::<Tee>().unwrap(), Tee::NvidiaDpu);
        for name in ["", "SNP", "snp ", "nosuch"] {
            assert!(
                matches!(name.parse::<Tee>(), Err(KbsProtocolError::UnknownTee(_))),
                "{name}"
            );
        }
    }
}
