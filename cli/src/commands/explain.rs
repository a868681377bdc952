//! `redoubt explain`: why a launch digest is not the expected one.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use redoubt_digest_explain::{
    Boot, Candidates, Explanation, Named, SnpInputs, TdxBoot, explain_mrtd, explain_rtmr2,
    explain_snp,
};
use redoubt_firmware::Firmware;
use redoubt_initdata::Initdata;
use redoubt_launch_digest::{CpuSignature, DEFAULT_GUEST_FEATURES, LaunchDigest};
use redoubt_launch_plan::LaunchPlan;
use redoubt_tdx_measurement::QemuVersion;
use sha2::{Digest, Sha256};

use super::measure_pod::{PlannedPod, PodArgs};
use crate::explanation::{
    Answer, Reported, report, tried_around_mrtd, tried_around_rtmr2, tried_around_snp,
};
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
    /// Attestation report or quote of the guest, as bytes or as the key broker's evidence.
    #[arg(long, value_name = "FILE", conflicts_with = "actual")]
    report: Option<PathBuf>,
    /// Another firmware, kernel or initrd that may have been launched; may be given several times.
    #[arg(long, value_name = "FILE")]
    candidate: Vec<PathBuf>,
    /// Another kernel parameter that may have been added; may be given several times.
    #[arg(long, value_name = "TEXT")]
    parameter: Vec<String>,
    /// What the digests are: SEV-SNP's launch digest, or a register of TDX.
    #[arg(long, value_enum, default_value_t)]
    register: Register,
    /// Version of QEMU that is believed to launch TDX guests.
    #[arg(long, value_name = "VERSION", default_value = "10.1")]
    qemu: QemuVersion,
    #[command(flatten)]
    pod: PodArgs,
    #[command(flatten)]
    parts: PartsArgs,
}

/// What is explained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Register {
    /// The launch digest (MEASUREMENT) of SEV-SNP.
    #[default]
    LaunchDigest,
    /// MRTD of TDX: the firmware. Needs --firmware.
    Mrtd,
    /// RTMR2 of TDX: command line and initrd. Needs --firmware and --kernel.
    Rtmr2,
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
        let answer = match self.register {
            Register::LaunchDigest => self.launch_digest(printer)?,
            Register::Mrtd | Register::Rtmr2 => self.tdx_register()?,
        };
        printer.result(&answer.to_json(), || answer.to_text())
    }

    fn launch_digest(&self, printer: Printer) -> Result<Answer, Failure> {
        let report = self.report.as_deref().map(report::snp).transpose()?;
        let actual = match (&report, self.actual) {
            (Some(report), _) => LaunchDigest(*report.launch_digest()),
            (None, actual) => actual.unwrap_or(self.expected),
        };
        let believed = self.believed(printer)?;
        let firmware = Firmware::parse(&believed.firmware)?;
        let inputs = SnpInputs {
            firmware: &firmware,
            boot: believed.boot,
            vcpus: believed.vcpus,
            cpu: believed.cpu,
            guest_features: believed.guest_features,
        };
        let files = CandidateFiles::read(&self.candidate)?;
        let candidates = Candidates {
            firmwares: files.firmwares(),
            kernels: files.kernels.clone(),
            initrds: files.initrds.clone(),
            parameters: self.parameter.clone(),
        };
        let Explanation {
            computed,
            matches,
            tried,
        } = explain_snp(&[self.expected, actual], &inputs, &candidates)?;
        Ok(Answer {
            what: "Launch digest",
            computed,
            expected: self.expected,
            actual,
            matches,
            digests_tried: tried.digests,
            tried: tried_around_snp(&tried),
            reported: report
                .map(|report| Reported::snp(&report, believed.host_data, believed.policy)),
        })
    }

    /// TDX guests are not launched by the shim, so that their parts are always given one by one.
    fn tdx_register(&self) -> Result<Answer, Failure> {
        let missing = |option| CliError::ExplainNeeds { option };
        let path = self.parts.firmware.as_ref().ok_or(missing("--firmware"))?;
        let quote = self.report.as_deref().map(report::tdx).transpose()?;
        let reported = quote.as_ref().map(|quote| match self.register {
            Register::Rtmr2 => quote.report().rtmrs[2],
            _ => quote.report().mr_td,
        });
        let actual = reported
            .map(LaunchDigest)
            .or(self.actual)
            .unwrap_or(self.expected);
        let values = [self.expected.0, actual.0];
        let (what, found, tried) = if self.register == Register::Rtmr2 {
            let cmdline = self.parts.append.clone().unwrap_or_default();
            self.parts.kernel.as_ref().ok_or(missing("--kernel"))?;
            let initrd_sha384 = self
                .parts
                .initrd
                .as_deref()
                .map(files::sha384)
                .transpose()?;
            let initrds = named_sha384(&self.candidate)?;
            let boot = TdxBoot {
                cmdline,
                initrd_sha384,
            };
            let found = explain_rtmr2(&values, &boot, &initrds, &self.parameter)?;
            (
                "RTMR2",
                found,
                tried_around_rtmr2(&self.candidate, &self.parameter),
            )
        } else {
            let firmware = Firmware::parse(&files::read(path)?)?;
            let files = CandidateFiles::read(&self.candidate)?;
            let order = self.qemu.page_order();
            let found = explain_mrtd(&values, &firmware, order, &files.firmwares())?;
            ("MRTD", found, tried_around_mrtd(&self.candidate))
        };
        let initdata = self.initdata()?;
        Ok(Answer {
            what,
            computed: LaunchDigest(found.computed),
            expected: self.expected,
            actual,
            matches: found.matches,
            digests_tried: found.values,
            tried,
            reported: quote
                .map(|quote| Reported::tdx(&quote, initdata.as_ref().map(Initdata::mr_config_id))),
        })
    }

    fn initdata(&self) -> Result<Option<Initdata>, Failure> {
        match self.pod.initdata() {
            Some(path) => Ok(Some(Initdata::parse_toml(&files::read(path)?)?)),
            None => Ok(None),
        }
    }

    fn believed(&self, printer: Printer) -> Result<Believed, Failure> {
        if let Some(firmware) = &self.parts.firmware {
            let initdata = self.initdata()?;
            let host_data = initdata.as_ref().map(Initdata::host_data);
            return self.parts.believed(firmware, host_data);
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

fn named_sha384(paths: &[PathBuf]) -> Result<Vec<Named<[u8; 48]>>, Failure> {
    let named = |path: &PathBuf| Ok(named(&path.display().to_string(), files::sha384(path)?));
    paths.iter().map(named).collect()
}

/// Files that may have been launched, by what they can be.
#[derive(Default)]
struct CandidateFiles {
    firmwares: Vec<(String, Firmware)>,
    kernels: Vec<Named<[u8; 32]>>,
    initrds: Vec<Named<[u8; 32]>>,
}

impl CandidateFiles {
    fn firmwares(&self) -> Vec<Named<&Firmware>> {
        let firmwares = self.firmwares.iter();
        firmwares.map(|(name, image)| named(name, image)).collect()
    }

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
