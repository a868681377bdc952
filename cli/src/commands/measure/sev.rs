//! `redoubt measure sev-es` and `redoubt measure sev`: digests of the older generations.

use clap::Args;
use redoubt_launch_digest::{sev_es_launch_digests, sev_launch_digest};

use super::parts::PartsArgs;
use super::shape::ShapeArgs;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::reference::{Inputs, Measurement, OutputArgs};

/// The parts of an SEV-ES launch by QEMU and KVM.
#[derive(Debug, Args)]
pub(crate) struct SevEsArgs {
    #[command(flatten)]
    parts: PartsArgs,
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl SevEsArgs {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        let cpu = self.shape.cpu()?;
        let vcpus = self.shape.vcpus()?;
        let parts = self.parts.load(|firmware| firmware)?;
        let digests =
            sev_es_launch_digests(&parts.firmware, parts.hashes.as_ref(), vcpus.clone(), cpu)
                .map_err(|cause| parts.in_firmware(cause))?;
        let measurements: Vec<_> = vcpus
            .zip(digests)
            .map(|(vcpus, digest)| Measurement {
                tee: "sev-es",
                launch_digest: digest.to_string(),
                host_data: None,
                inputs: Inputs {
                    vcpus: Some(vcpus),
                    cpu_model: Some(self.shape.cpu_name(cpu)),
                    ..parts.inputs.clone()
                },
            })
            .collect();
        self.output.print(printer, &measurements)
    }
}

/// The parts of an SEV launch by QEMU and KVM. Its vCPUs are not measured.
#[derive(Debug, Args)]
pub(crate) struct SevArgs {
    #[command(flatten)]
    parts: PartsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl SevArgs {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        let parts = self.parts.load(|firmware| firmware)?;
        let digest = sev_launch_digest(&parts.firmware, parts.hashes.as_ref())
            .map_err(|cause| parts.in_firmware(cause))?;
        let measurement = Measurement {
            tee: "sev",
            launch_digest: digest.to_string(),
            host_data: None,
            inputs: parts.inputs,
        };
        self.output.print(printer, &[measurement])
    }
}
