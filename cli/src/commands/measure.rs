//! `redoubt measure`: launch digests before anything is launched.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of options are their help"
)]

use std::path::PathBuf;

use clap::{Args, Subcommand};
use redoubt_firmware::Firmware;
use redoubt_initdata::Initdata;
use redoubt_launch_digest::{CpuSignature, KernelHashes, LaunchChain};
use redoubt_launch_plan::{LaunchPlan, Protection};
use sha2::{Digest, Sha256};

use super::measure_pod::MeasurePod;
use super::sandbox::SandboxArgs;
use crate::failure::{CliError, Failure};
use crate::files;
use crate::printer::Printer;
use crate::reference::{self, Format, Inputs, Measurement};
use crate::values::{self, CpuNumbers, VcpuRange};

/// Guest features that KVM enables for every SNP guest.
const DEFAULT_FEATURES: &str = "0x1";

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Measure {
    /// Measure an SEV-SNP launch from its parts.
    Snp(SnpArgs),
    /// Measure a sandbox as the shim will launch it.
    Sandbox(MeasureSandbox),
    /// Measure the pods of a Kubernetes manifest as the shim will launch them.
    Pod(MeasurePod),
}

impl Measure {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Snp(args) => args.run(printer),
            Self::Sandbox(args) => args.run(printer),
            Self::Pod(args) => args.run(printer),
        }
    }
}

/// The parts of an SEV-SNP launch by QEMU and KVM.
#[derive(Debug, Args)]
pub(crate) struct SnpArgs {
    /// OVMF image.
    #[arg(long, value_name = "FILE")]
    firmware: PathBuf,
    /// Guest kernel; without one only the firmware is measured.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Kernel command line.
    #[arg(long, value_name = "TEXT", requires = "kernel")]
    append: Option<String>,
    /// Number of vCPUs, or a range such as 1..8.
    #[arg(long, value_name = "N", default_value = "1")]
    vcpus: VcpuRange,
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
    /// Guest features (`SEV_FEATURES`) that KVM enables.
    #[arg(long, value_name = "BITS", default_value = DEFAULT_FEATURES, value_parser = values::number)]
    guest_features: u64,
    /// Initdata document whose digest the host passes as HOST_DATA.
    #[arg(long, value_name = "FILE")]
    initdata: Option<PathBuf>,
    /// How to print the result.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

impl SnpArgs {
    fn run(self, printer: Printer) -> Result<(), Failure> {
        let image = files::read(&self.firmware)?;
        let firmware = Firmware::parse(&image)?;
        let cpu = self.cpu()?;
        let initdata = match &self.initdata {
            Some(path) => Some(Initdata::parse_toml(&files::read(path)?)?),
            None => None,
        };
        let hashes = self.kernel_hashes()?;
        let chain = LaunchChain::new(&firmware, hashes.as_ref())?;
        let mut measurements = Vec::new();
        for vcpus in self.vcpus.counts() {
            measurements.push(Measurement {
                tee: "snp",
                launch_digest: chain.with_vcpus(vcpus, cpu, self.guest_features)?,
                host_data: initdata
                    .as_ref()
                    .map(|document| hex::encode(document.host_data())),
                inputs: Inputs {
                    firmware_sha256: hex::encode(Sha256::digest(&image)),
                    kernel_sha256: hashes.map(|hashes| hex::encode(hashes.kernel)),
                    initrd_sha256: hashes
                        .filter(|_| self.initrd.is_some())
                        .map(|hashes| hex::encode(hashes.initrd)),
                    cmdline: hashes.map(|_| self.append.clone().unwrap_or_default()),
                    vcpus,
                    cpu_model: self.cpu_name(cpu),
                    guest_features: format!("{:#x}", self.guest_features),
                    guest_policy: None,
                    initdata_sha256: initdata.as_ref().map(initdata_sha256),
                    simulated: false,
                },
            });
        }
        reference::print(printer, self.format, &measurements)
    }

    fn cpu(&self) -> Result<CpuSignature, Failure> {
        match self.cpu_family {
            Some(CpuNumbers {
                family,
                model,
                stepping,
            }) => Ok(CpuSignature::from_family(family, model, stepping)?),
            None => Ok(self.cpu_model.parse()?),
        }
    }

    fn cpu_name(&self, cpu: CpuSignature) -> String {
        match self.cpu_family {
            Some(_) => format!("signature {cpu}"),
            None => self.cpu_model.clone(),
        }
    }

    fn kernel_hashes(&self) -> Result<Option<KernelHashes>, Failure> {
        let Some(kernel) = &self.kernel else {
            return Ok(None);
        };
        let initrd = match &self.initrd {
            Some(initrd) => files::sha256(initrd)?,
            None => Sha256::digest([]).into(),
        };
        let cmdline = self.append.as_deref().unwrap_or_default();
        Ok(Some(KernelHashes::from_digests(
            files::sha256(kernel)?,
            initrd,
            cmdline,
        )))
    }
}

/// A sandbox by configuration, annotations and OCI specification.
#[derive(Debug, Args)]
pub(crate) struct MeasureSandbox {
    #[command(flatten)]
    sandbox: SandboxArgs,
    /// How to print the result.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

impl MeasureSandbox {
    fn run(self, printer: Printer) -> Result<(), Failure> {
        let plan = self.sandbox.plan(printer)?;
        let measurement = measurement_of(&plan).ok_or(CliError::NotMeasured)?;
        reference::print(printer, self.format, &[measurement])
    }
}

/// The measurement of a plan; `None` for a plain virtual machine.
pub(super) fn measurement_of(plan: &LaunchPlan) -> Option<Measurement> {
    let snp = plan.snp()?;
    let firmware = plan.firmware.as_ref()?;
    let initdata = plan
        .initdata
        .as_ref()
        .map(|initdata| initdata.toml.as_bytes());
    Some(Measurement {
        tee: "snp",
        launch_digest: snp.launch_digest,
        host_data: Some(hex::encode(snp.host_data)),
        inputs: Inputs {
            firmware_sha256: hex::encode(firmware.sha256),
            kernel_sha256: Some(hex::encode(plan.kernel.sha256)),
            initrd_sha256: Some(hex::encode(plan.initrd.sha256)),
            cmdline: Some(plan.cmdline.clone()),
            vcpus: plan.vcpus,
            cpu_model: snp.measured_cpu_model.clone(),
            guest_features: DEFAULT_FEATURES.to_owned(),
            guest_policy: Some(format!("{:#x}", snp.policy)),
            initdata_sha256: initdata.map(|document| hex::encode(Sha256::digest(document))),
            simulated: matches!(plan.protection, Protection::SimulatedSnp { .. }),
        },
    })
}

fn initdata_sha256(document: &Initdata) -> String {
    hex::encode(Sha256::digest(document.toml_bytes()))
}
