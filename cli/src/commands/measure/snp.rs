//! `redoubt measure snp`: the SEV-SNP launch digest from a launch's parts.

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use redoubt_firmware::Firmware;
use redoubt_initdata::Initdata;
use redoubt_launch_digest::{
    FirmwareChain, LaunchChain, LaunchDigest, Svsm, Vmm, check_guest_policy,
};
use sha2::{Digest, Sha256};

use super::parts::{Parts, PartsArgs, read_firmware};
use super::shape::ShapeArgs;
use crate::commands::id_block;
use crate::failure::{CliError, Failure};
use crate::files;
use crate::printer::Printer;
use crate::reference::{IdBlockInput, Inputs, Measurement, OutputArgs};
use crate::values;

/// Guest features that KVM enables for every SNP guest.
pub(super) const DEFAULT_FEATURES: &str = "0x1";

/// The parts of an SEV-SNP launch.
#[derive(Debug, Args)]
pub(crate) struct SnpArgs {
    #[command(flatten)]
    parts: PartsArgs,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Who launches the guest.
    #[arg(long, value_enum, default_value_t)]
    vmm: VmmName,
    #[command(flatten)]
    svsm: SvsmArgs,
    /// Guest features (SEV_FEATURES) that the monitor enables.
    #[arg(long, value_name = "BITS", default_value = DEFAULT_FEATURES, value_parser = values::number)]
    guest_features: u64,
    /// Guest policy; it is not part of the digest, but of what the guest reports.
    #[arg(long, value_name = "BITS", value_parser = values::number)]
    guest_policy: Option<u64>,
    /// ID block that the launch must agree with: its bytes, or base64.
    #[arg(long, value_name = "FILE", requires_all = ["id_auth", "guest_policy"])]
    id_block: Option<PathBuf>,
    /// Authentication of the ID block: its bytes, or base64.
    #[arg(long, value_name = "FILE", requires = "id_block")]
    id_auth: Option<PathBuf>,
    /// Initdata document whose digest the host passes as HOST_DATA.
    #[arg(long, value_name = "FILE")]
    initdata: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Who launches the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum VmmName {
    /// QEMU with KVM.
    #[default]
    Qemu,
    /// Amazon EC2.
    Ec2,
    /// Google Compute Engine.
    Gce,
}

impl From<VmmName> for Vmm {
    fn from(name: VmmName) -> Self {
        match name {
            VmmName::Qemu => Self::Qemu,
            VmmName::Ec2 => Self::Ec2,
            VmmName::Gce => Self::Gce,
        }
    }
}

/// A secure VM service module between the host and the firmware.
#[derive(Debug, Args)]
struct SvsmArgs {
    /// COCONUT-SVSM image that QEMU starts instead of the firmware.
    #[arg(
        long,
        value_name = "FILE",
        requires = "variables",
        conflicts_with_all = ["kernel", "vmm", "guest_features"]
    )]
    svsm: Option<PathBuf>,
    /// Size in bytes of the variable store (OVMF_VARS) below the firmware.
    #[arg(
        long,
        value_name = "BYTES",
        group = "variables",
        requires = "svsm",
        value_parser = values::number
    )]
    vars_size: Option<u64>,
    /// The variable store itself, of which only the size counts.
    #[arg(long, value_name = "FILE", group = "variables", requires = "svsm")]
    vars_file: Option<PathBuf>,
}

impl SnpArgs {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        let cpu = self.shape.cpu()?;
        let vcpus = self.shape.vcpus()?;
        if let Some(policy) = self.guest_policy {
            check_guest_policy(policy)?;
        }
        let initdata = self.initdata()?;
        let (parts, chain) = self.measure()?;
        let digests = chain
            .with_each(vcpus.clone(), cpu, self.guest_features)
            .map_err(|cause| parts.in_firmware(cause))?;
        let id_block = self.id_block(&digests)?;
        let inputs = Inputs {
            id_block,
            cpu_model: Some(match self.vmm {
                VmmName::Qemu => self.shape.cpu_name(cpu),
                VmmName::Ec2 | VmmName::Gce => "any".to_owned(),
            }),
            guest_features: Some(format!("{:#x}", self.guest_features)),
            guest_policy: self.guest_policy.map(|policy| format!("{policy:#x}")),
            vmm: Some(Vmm::from(self.vmm).to_string()),
            initdata_sha256: initdata.as_ref().map(initdata_sha256),
            ..parts.inputs
        };
        let host_data = initdata.map(|document| hex::encode(document.host_data()));
        let measurements: Vec<_> = vcpus
            .zip(digests)
            .map(|(vcpus, digest)| Measurement {
                tee: "snp",
                launch_digest: digest.to_string(),
                host_data: host_data.clone(),
                inputs: Inputs {
                    vcpus: Some(vcpus),
                    ..inputs.clone()
                },
            })
            .collect();
        self.output.print(printer, &measurements)
    }

    fn initdata(&self) -> Result<Option<Initdata>, Failure> {
        Ok(match &self.initdata {
            Some(path) => Some(Initdata::parse_toml(&files::read(path)?)?),
            None => None,
        })
    }

    /// Reads the ID block, which must be for one of the measured shapes.
    fn id_block(&self, digests: &[LaunchDigest]) -> Result<Option<IdBlockInput>, Failure> {
        let (Some(block), Some(auth)) = (&self.id_block, &self.id_auth) else {
            return Ok(None);
        };
        let (parsed, signed) = id_block::load(block, auth)?;
        let of_block = digests
            .iter()
            .find(|digest| **digest == parsed.launch_digest);
        if let Some(actual) = of_block.or(digests.first()) {
            parsed
                .check_launch(*actual, self.guest_policy.unwrap_or_default())
                .map_err(|cause| CliError::IdBlock {
                    path: block.clone(),
                    cause: Box::new(cause),
                })?;
        }
        Ok(Some(IdBlockInput {
            sha256: hex::encode(Sha256::digest(parsed.to_bytes())),
            id_key_digest: hex::encode(signed.id_key().digest()),
            author_key_digest: signed.author_key().map(|key| hex::encode(key.digest())),
        }))
    }

    /// Measures everything but the vCPUs.
    fn measure(&self) -> Result<(Parts<FirmwareChain<Firmware>>, LaunchChain), Failure> {
        let module = self.svsm.load()?;
        let mut parts = self.parts.load(FirmwareChain::new)?;
        let chain = match module {
            None => parts
                .firmware
                .launch_by(self.vmm.into(), parts.hashes.as_ref()),
            Some((svsm, sha256)) => {
                parts.inputs.svsm_sha256 = Some(sha256);
                parts.firmware.launch_with_svsm(&svsm)
            }
        };
        let chain = chain.map_err(|cause| parts.in_firmware(cause))?;
        Ok((parts, chain))
    }
}

impl SvsmArgs {
    /// The module and the SHA-256 of its image.
    fn load(&self) -> Result<Option<(Svsm, String)>, CliError> {
        let Some(path) = &self.svsm else {
            return Ok(None);
        };
        let vars_bytes = match (&self.vars_file, self.vars_size) {
            (Some(file), _) => fs::metadata(file)
                .map_err(|cause| CliError::Read {
                    path: file.clone(),
                    cause,
                })?
                .len(),
            (None, size) => size.unwrap_or_default(),
        };
        let (image, sha256) = read_firmware(path)?;
        let svsm = Svsm::new(image, vars_bytes).map_err(|cause| CliError::Digest {
            path: path.clone(),
            cause,
        })?;
        Ok(Some((svsm, sha256)))
    }
}

fn initdata_sha256(document: &Initdata) -> String {
    hex::encode(Sha256::digest(document.toml_bytes()))
}
