//! The root disk and the measured parameter that verifies it.

use redoubt_dm_verity::VerityParams;

use crate::config::HypervisorSettings;
use crate::error::PlanError;
use crate::files::MeasuredFiles;

impl HypervisorSettings {
    /// Whether the guest's root is a disk. An image that nothing verifies is not one.
    pub(crate) fn has_root_disk(&self) -> bool {
        !self.image.as_os_str().is_empty() && !self.kernel_verity_params.is_empty()
    }
}

/// What the command line says about the root disk, where there is one.
pub(crate) fn verity_params(
    settings: &HypervisorSettings,
    files: &MeasuredFiles,
) -> Result<Option<VerityParams>, PlanError> {
    if settings.kernel_verity_params.is_empty() {
        return Ok(None);
    }
    if !settings.has_root_disk() {
        return Err(PlanError::NoRootDisk);
    }
    let params: VerityParams = settings
        .kernel_verity_params
        .parse()
        .map_err(PlanError::VerityParams)?;
    let needed_bytes = params.device_bytes();
    match files.root_disk_bytes {
        Some(size_bytes) if size_bytes < needed_bytes => Err(PlanError::RootDiskSize {
            path: settings.image.clone(),
            size_bytes,
            needed_bytes,
        }),
        _ => Ok(Some(params)),
    }
}

/// What to say about an image that is not used.
pub(crate) fn warning(settings: &HypervisorSettings) -> Option<String> {
    let unverified = !settings.image.as_os_str().is_empty() && !settings.has_root_disk();
    unverified.then(|| {
        "hypervisor.qemu.image has no effect without kernel_verity_params: the root file system \
         is the measured initrd"
            .to_owned()
    })
}
