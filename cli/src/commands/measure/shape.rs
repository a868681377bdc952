//! Number and model of a guest's vCPUs.

use std::ops::RangeInclusive;

use clap::Args;
use redoubt_launch_digest::{CpuSignature, check_vcpus};

use crate::failure::Failure;
use crate::values::{CpuNumbers, RangeOf, VcpuRange};

/// Number and model of the vCPUs.
#[derive(Debug, Args)]
pub(super) struct ShapeArgs {
    /// Number of vCPUs, or a range such as 1..8.
    #[arg(long, value_name = "N", default_value = "1")]
    vcpus: VcpuRange,
    /// Measure all shapes of a range at once, such as vcpus=1..64.
    #[arg(long, value_name = "INPUT=FROM..TO", conflicts_with = "vcpus")]
    range: Option<RangeOf>,
    /// CPU model as QEMU names it.
    #[arg(long, value_name = "NAME", default_value = "EPYC-v4")]
    cpu_model: String,
    /// CPU family, model and stepping instead of a model's name, such as 25,1,1.
    #[arg(
        long,
        value_name = "FAMILY,MODEL,STEPPING",
        conflicts_with = "cpu_model"
    )]
    cpu_family: Option<CpuNumbers>,
}

impl ShapeArgs {
    /// The numbers of vCPUs, each of which a guest can have.
    pub(super) fn vcpus(&self) -> Result<RangeInclusive<u32>, Failure> {
        let range = match self.range {
            Some(RangeOf::Vcpus(range)) => range,
            None => self.vcpus,
        };
        check_vcpus(&range.counts())?;
        Ok(range.counts())
    }

    pub(super) fn cpu(&self) -> Result<CpuSignature, Failure> {
        match self.cpu_family {
            Some(CpuNumbers {
                family,
                model,
                stepping,
            }) => Ok(CpuSignature::from_family(family, model, stepping)?),
            None => Ok(self.cpu_model.parse()?),
        }
    }

    pub(super) fn cpu_name(&self, cpu: CpuSignature) -> String {
        match self.cpu_family {
            Some(_) => format!("signature {cpu}"),
            None => self.cpu_model.clone(),
        }
    }
}
