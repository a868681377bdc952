//! Virtual machine monitors, as far as they differ in what they have measured.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::DigestError;

/// Who launches the guest.
///
/// They differ in the initial state of the vCPUs and in how they prepare the firmware's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vmm {
    /// QEMU with KVM.
    #[default]
    Qemu,
    /// Amazon EC2.
    Ec2,
    /// Google Compute Engine.
    Gce,
}

impl Vmm {
    /// All that are known.
    pub const ALL: [Self; 3] = [Self::Qemu, Self::Ec2, Self::Gce];

    fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Ec2 => "ec2",
            Self::Gce => "gce",
        }
    }
}

impl fmt::Display for Vmm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Vmm {
    type Err = DigestError;

    /// Reads a name in any case.
    fn from_str(name: &str) -> Result<Self, DigestError> {
        Self::ALL
            .into_iter()
            .find(|vmm| vmm.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| DigestError::UnknownVmm {
                name: name.to_owned(),
            })
    }
}
