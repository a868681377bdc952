//! `redoubt measure sandbox`: the digest of what the shim will launch.

use clap::Args;
use redoubt_launch_plan::{LaunchPlan, Protection};
use sha2::{Digest, Sha256};

use super::snp::DEFAULT_FEATURES;
use crate::commands::sandbox::SandboxArgs;
use crate::failure::{CliError, Failure};
use crate::printer::Printer;
use crate::reference::{Inputs, Measurement, OutputArgs};

/// A sandbox by configuration, annotations and OCI specification.
#[derive(Debug, Args)]
pub(crate) struct MeasureSandbox {
    #[command(flatten)]
    sandbox: SandboxArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl MeasureSandbox {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        let plan = self.sandbox.plan(printer)?;
        let measurement = measurement_of(&plan).ok_or(CliError::NotMeasured)?;
        self.output.print(printer, &[measurement])
    }
}

/// The measurement of a plan; `None` for a plain virtual machine.
pub(in crate::commands) fn measurement_of(plan: &LaunchPlan) -> Option<Measurement> {
    let snp = plan.snp()?;
    let firmware = plan.firmware.as_ref()?;
    let initdata = plan
        .initdata
        .as_ref()
        .map(|initdata| initdata.toml.as_bytes());
    Some(Measurement {
        tee: "snp",
        launch_digest: snp.launch_digest.to_string(),
        host_data: Some(hex::encode(snp.host_data)),
        inputs: Inputs {
            firmware_sha256: hex::encode(firmware.sha256),
            kernel_sha256: Some(hex::encode(plan.kernel.sha256)),
            initrd_sha256: Some(hex::encode(plan.initrd.sha256)),
            cmdline_sha256: Some(Inputs::sha256_of_cmdline(&plan.cmdline)),
            cmdline: Some(plan.cmdline.clone()),
            vcpus: Some(plan.vcpus),
            cpu_model: Some(snp.measured_cpu_model.clone()),
            guest_features: Some(DEFAULT_FEATURES.to_owned()),
            guest_policy: Some(format!("{:#x}", snp.policy)),
            initdata_sha256: initdata.map(|document| hex::encode(Sha256::digest(document))),
            simulated: matches!(plan.protection, Protection::SimulatedSnp { .. }),
            ..Inputs::default()
        },
    })
}
