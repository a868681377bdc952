//! `redoubt explain`: why a launch digest is not the expected one.

use std::path::{Path, PathBuf};

use clap::Args;
use redoubt_digest_explain::{Boot, Candidates, Explanation, Named, SnpInputs, explain_snp};
use redoubt_evidence::{SnpEvidence, SnpReport};
use redoubt_firmware::Firmware;
use redoubt_initdata::Initdata;
use redoubt_launch_digest::{CpuSignature, DEFAULT_GUEST_FEATURES, LaunchDigest};
use redoubt_launch_plan::LaunchPlan;
use sha2::{Digest, Sha256};

use super::measure_pod::{PlannedPod, PodArgs};
use crate::explanation::{Answer, Reported};
use crate::failure::{CliError, Failure};
use crate::files;
use crate::printer::Printer;
use crate::values;

/// An expected digest, the one that a guest reported, and the inputs that somebody believes in.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Expected launch digest, such as a reference value of the key broker.
    #[arg(long, value_name = "HEX")]
    expected: LaunchDigest,
    /// Launch digest that the guest reported.
    #[arg(long, value_name = "HEX", required_unless_present = "report")]
    actual: Option<LaunchDigest>,
    /// Attestation report of the guest, as bytes or as the key broker's evidence.
    #[arg(long, value_name = "FILE", conflicts_with = "actual")]
    report: Option<PathBuf>,
    /// Another firmware, kernel or initrd that may have been launched; may be given several times.
    #[arg(long, value_name = "FILE")]
    candidate: Vec<PathBuf>,
    /// Another kernel parameter that may have been added; may be given several times.
    #[arg(long, value_name = "TEXT")]
    parameter: Vec<String>,
    #[command(flatten)]
    pod: PodArgs,
    #[command(flatten)]
    parts: PartsArgs,
}

/// The parts of a launch, instead of a pod and a configuration.
#[derive(Debug, Args)]
struct PartsArgs {
    /// OVMF image, instead of a pod or configuration.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["manifest", "oci_spec", "config", "annotations"])]
    firmware: Option<PathBuf>,
    /// Guest kernel.
    #[arg(long, value_name = "FILE", requires = "firmware")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Kernel command line.
    #[arg(long, value_name = "TEXT", requires = "kernel")]
    append: Option<String>,
    /// Number of vCPUs.
    #[arg(long, value_name = "N", requires = "firmware", default_value = "1")]
    vcpus: u32,
    /// CPU model as QEMU names it.
    #[arg(
        long,
        value_name = "NAME",
        requires = "firmware",
        default_value = "EPYC-v4"
    )]
    cpu_model: String,
    /// Guest features (`SEV_FEATURES`) that KVM enables.
    #[arg(long, value_name = "BITS", requires = "firmware", default_value = "0x1", value_parser = values::number)]
    guest_features: u64,
}

/// The inputs, as far as they are known.
struct Believed {
    firmware: Vec<u8>,
    boot: Option<Boot>,
    vcpus: u32,
    cpu: Named<CpuSignature>,
    guest_features: u64,
    host_data: Option<[u8; 32]>,
    policy: Option<u64>,
}

impl Explain {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        let report = self
            .report
            .as_ref()
            .map(|path| read_report(path))
            .transpose()?;
        let actual = match (&report, self.actual) {
            (Some(report), _) => LaunchDigest(*report.launch_digest()),
            (None, Some(actual)) => actual,
            (None, None) => self.expected,
        };
        let believed = self.believed(printer)?;
        let firmware = Firmware::parse(&believed.firmware)?;
        let inputs = SnpInputs {
            firmware: &firmware,
            boot: believed.boot.clone(),
            vcpus: believed.vcpus,
            cpu: believed.cpu.clone(),
            guest_features: believed.guest_features,
        };
        let files = CandidateFiles::read(&self.candidate)?;
        let candidates = Candidates {
            firmwares: files
                .firmwares
                .iter()
                .map(|(name, firmware)| named(name, firmware))
                .collect(),
            kernels: files.kernels,
            initrds: files.initrds,
            parameters: self.parameter.clone(),
        };
        let Explanation {
            computed,
            matches,
            tried,
        } = explain_snp(&[self.expected, actual], &inputs, &candidates)?;
        let answer = Answer {
            computed,
            expected: self.expected,
            actual,
            expected_match: matches.first().cloned().flatten(),
            actual_match: matches.get(1).cloned().flatten(),
            tried,
            reported: report.map(|report| Reported {
                host_data: *report.host_data(),
                expected_host_data: believed.host_data,
                policy: report.policy(),
                expected_policy: believed.policy,
            }),
        };
        printer.result(&answer.to_json(), || answer.to_text())
    }

    fn believed(&self, printer: Printer) -> Result<Believed, Failure> {
        if let Some(firmware) = &self.parts.firmware {
            let initdata = match &self.pod.initdata() {
                Some(path) => Some(Initdata::parse_toml(&files::read(path)?)?.host_data()),
                None => None,
            };
            return self.parts.believed(firmware, initdata);
        }
        let mut pods = self.pod.plans(printer)?;
        match (pods.pop(), pods.is_empty()) {
            (Some(PlannedPod { plan, .. }), true) => of_plan(&plan),
            _ => Err(CliError::SeveralWorkloads.into()),
        }
    }
}

impl PartsArgs {
    fn believed(&self, firmware: &Path, host_data: Option<[u8; 32]>) -> Result<Believed, Failure> {
        let boot = match &self.kernel {
            Some(kernel) => Some(Boot {
                kernel: files::sha256(kernel)?,
                initrd: match &self.initrd {
                    Some(initrd) => files::sha256(initrd)?,
                    None => Sha256::digest([]).into(),
                },
                cmdline: self.append.clone().unwrap_or_default(),
            }),
            None => None,
        };
        Ok(Believed {
            firmware: files::read(firmware)?,
            boot,
            vcpus: self.vcpus,
            cpu: named(&self.cpu_model, self.cpu_model.parse()?),
            guest_features: self.guest_features,
            host_data,
            policy: None,
        })
    }
}

fn of_plan(plan: &LaunchPlan) -> Result<Believed, Failure> {
    let (Some(snp), Some(firmware)) = (plan.snp(), &plan.firmware) else {
        return Err(CliError::NotMeasured.into());
    };
    let model = &snp.measured_cpu_model;
    Ok(Believed {
        firmware: files::read(&firmware.path)?,
        boot: Some(Boot {
            kernel: plan.kernel.sha256,
            initrd: plan.initrd.sha256,
            cmdline: plan.cmdline.clone(),
        }),
        vcpus: plan.vcpus,
        cpu: named(model, model.parse()?),
        guest_features: DEFAULT_GUEST_FEATURES,
        host_data: Some(snp.host_data),
        policy: Some(snp.policy),
    })
}

fn named<T>(name: &str, value: T) -> Named<T> {
    Named {
        name: name.to_owned(),
        value,
    }
}

/// Reads a report as the CPU gives it, or the evidence that carries it to the key broker.
fn read_report(path: &Path) -> Result<SnpReport, Failure> {
    let bytes = files::read(path)?;
    if bytes.trim_ascii_start().starts_with(b"{") {
        return Ok(SnpEvidence::parse_kbs_json(&bytes)?.report);
    }
    Ok(SnpReport::parse(&bytes)?)
}

/// Files that may have been launched, by what they can be.
#[derive(Default)]
struct CandidateFiles {
    firmwares: Vec<(String, Firmware)>,
    kernels: Vec<Named<[u8; 32]>>,
    initrds: Vec<Named<[u8; 32]>>,
}

impl CandidateFiles {
    fn read(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut files = Self::default();
        for path in paths {
            let name = path.display().to_string();
            let head = files::head(path)?;
            if head.get(0x202..0x206) == Some(b"HdrS") {
                files.kernels.push(named(&name, files::sha256(path)?));
                continue;
            }
            if let Ok(bytes) = files::read(path)
                && let Ok(firmware) = Firmware::parse(&bytes)
            {
                files.firmwares.push((name, firmware));
                continue;
            }
            let sha256 = files::sha256(path)?;
            files.initrds.push(named(&name, sha256));
            // A kernel in another format is no bzImage, and is measured all the same.
            files.kernels.push(named(&name, sha256));
        }
        Ok(files)
    }
}
