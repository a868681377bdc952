//! Which protection a sandbox gets, and what of it is measured and reported.

use std::path::Path;

use redoubt_firmware::{Firmware, GuestArea};
use redoubt_id_block::{IdAuth, IdBlock};
use redoubt_initdata::Initdata;
use redoubt_launch_digest::{
    DEFAULT_GUEST_FEATURES, KernelHashes, LaunchDigest, SnpLaunch, check_guest_policy,
    snp_launch_digest,
};

use super::cmdline::AttesterParam;
use super::tdx;
use super::{Accelerator, IdBlockPlan, Protection, SnpLaunchPlan};
use crate::config::{Configuration, HypervisorSettings};
use crate::error::PlanError;
use crate::files::MeasuredFiles;
use crate::host::{HostFacts, SnpHost};

/// The model that every SNP guest gets unless the configuration names another.
const DEFAULT_SNP_MODEL: &str = "EPYC-v4";

/// The kind of protection, before anything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    None,
    Snp(SnpHost),
    SimulatedSnp,
    Tdx { quote_socket: bool },
}

impl Kind {
    /// Decides by configuration and host; a confidential guest never becomes a plain one.
    pub(crate) fn choose(
        settings: &HypervisorSettings,
        host: &HostFacts,
    ) -> Result<Self, PlanError> {
        let simulated = !settings.snp_simulation.as_os_str().is_empty();
        match (settings.confidential_guest, simulated) {
            (false, true) => Err(PlanError::SimulationWithoutGuest),
            (false, false) => Ok(Self::None),
            (true, true) => Ok(Self::SimulatedSnp),
            (true, false) if !settings.sev_snp_guest && host.sev_snp.is_some() => {
                Err(PlanError::PlainSev)
            }
            (true, false) => match host.sev_snp {
                Some(_) if settings.accelerator != Accelerator::Kvm => Err(PlanError::SnpNeedsKvm),
                Some(snp) => Ok(Self::Snp(snp)),
                None if host.tdx && settings.accelerator != Accelerator::Kvm => {
                    Err(PlanError::TdxNeedsKvm)
                }
                None if host.tdx => Ok(Self::Tdx {
                    quote_socket: host.tdx_quote_socket,
                }),
                None => Err(PlanError::NoTee),
            },
        }
    }

    pub(crate) fn attester(self) -> AttesterParam {
        match self {
            Self::None => AttesterParam::None,
            Self::Snp(_) => AttesterParam::Snp,
            Self::SimulatedSnp => AttesterParam::SimulatedSnp,
            Self::Tdx { .. } => AttesterParam::Tdx,
        }
    }

    /// Measures what the CPU would measure.
    pub(crate) fn measure(
        self,
        configuration: &Configuration,
        files: &MeasuredFiles,
        shape: &Shape<'_>,
    ) -> Result<Protection, PlanError> {
        let settings = &configuration.hypervisor;
        match self {
            Self::None => Ok(Protection::None),
            Self::Snp(host) => {
                let (launch, _, _) = snp_launch(settings, files, shape)?;
                Ok(Protection::Snp { host, launch })
            }
            Self::SimulatedSnp => {
                let (launch, hash_area, hashes) = snp_launch(settings, files, shape)?;
                Ok(Protection::SimulatedSnp {
                    identity_dir: settings.snp_simulation.clone(),
                    hash_area,
                    hash_table: hashes.table(),
                    launch,
                })
            }
            Self::Tdx { quote_socket } => Ok(Protection::Tdx {
                launch: tdx::launch(settings, files, shape, quote_socket)?,
            }),
        }
    }
}

/// What the digest depends on beside files and settings.
pub(crate) struct Shape<'a> {
    pub(crate) cmdline: &'a str,
    pub(crate) vcpus: u32,
    pub(crate) initdata: Option<&'a Initdata>,
}

fn snp_launch(
    settings: &HypervisorSettings,
    files: &MeasuredFiles,
    shape: &Shape<'_>,
) -> Result<(SnpLaunchPlan, GuestArea, KernelHashes), PlanError> {
    let (firmware, area) = snp_firmware(files)?;
    let hashes =
        KernelHashes::from_digests(files.kernel.sha256, files.initrd.sha256, shape.cmdline);
    let model = snp_cpu_model(settings);
    let launch_digest = snp_launch_digest(&SnpLaunch {
        firmware,
        kernel_hashes: Some(hashes),
        vcpus: shape.vcpus,
        cpu: model.parse().map_err(PlanError::Digest)?,
        guest_features: DEFAULT_GUEST_FEATURES,
    })
    .map_err(PlanError::Digest)?;
    let policy = settings.snp_guest_policy;
    check_guest_policy(policy).map_err(|_| PlanError::GuestPolicy { policy })?;
    let id_block = id_block(settings, launch_digest)?;
    let launch = SnpLaunchPlan {
        policy,
        launch_digest,
        host_data: shape.initdata.map(Initdata::host_data).unwrap_or_default(),
        measured_cpu_model: model.to_owned(),
        id_block,
    };
    Ok((launch, area, hashes))
}

pub(crate) fn snp_cpu_model(settings: &HypervisorSettings) -> &str {
    if settings.cpu_model.is_empty() {
        DEFAULT_SNP_MODEL
    } else {
        &settings.cpu_model
    }
}

/// The firmware's file and what was read in it.
pub(super) fn firmware(files: &MeasuredFiles) -> Result<(&Path, &Firmware), PlanError> {
    let firmware = files.firmware.as_ref().ok_or(PlanError::NotSet {
        key: "hypervisor.qemu.firmware",
    })?;
    let path = &firmware.file.path;
    let image = firmware
        .image
        .as_ref()
        .map_err(|cause| PlanError::Firmware {
            path: path.clone(),
            cause: cause.clone(),
        })?;
    Ok((path, image))
}

fn snp_firmware(files: &MeasuredFiles) -> Result<(&Firmware, GuestArea), PlanError> {
    let (path, image) = firmware(files)?;
    let area = image
        .require_kernel_hashes(path)
        .map_err(PlanError::NoKernelHashes)?;
    Ok((image, area))
}

/// Checks the ID block against this launch: the CPU would refuse another one after QEMU started.
fn id_block(
    settings: &HypervisorSettings,
    actual: LaunchDigest,
) -> Result<Option<IdBlockPlan>, PlanError> {
    let (block, auth) = (&settings.snp_id_block, &settings.snp_id_auth);
    match (block.is_empty(), auth.is_empty()) {
        (true, true) => return Ok(None),
        (false, true) => {
            return Err(PlanError::IdBlockPair {
                given: "snp_id_block",
            });
        }
        (true, false) => {
            return Err(PlanError::IdBlockPair {
                given: "snp_id_auth",
            });
        }
        (false, false) => {}
    }
    let parsed = IdBlock::from_base64(block).map_err(PlanError::id_block)?;
    let signed = IdAuth::from_base64(auth).map_err(PlanError::id_block)?;
    parsed
        .check_launch(actual, settings.snp_guest_policy)
        .and_then(|()| signed.verify(&parsed))
        .map_err(PlanError::id_block)?;
    Ok(Some(IdBlockPlan {
        block: block.clone(),
        auth: auth.clone(),
        author_key: signed.author_key().is_some(),
    }))
}
