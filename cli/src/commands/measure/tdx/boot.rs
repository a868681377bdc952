//! What is booted: kernel, command line and initrd.

use std::path::Path;

use redoubt_launch_digest::check_cmdline;
use redoubt_tdx_measurement::{
    KernelDigest, KernelHeader, authenticode_sha384, patched_kernel, rtmr1_events, rtmr2_events,
};
use sha2::{Digest, Sha256, Sha384};

use super::Prediction;
use super::generation::Generation;
use super::inputs::{TdxInputs, sha256};
use crate::failure::{CliError, Failure};
use crate::files;
use crate::in_file::NameFile;

/// The largest kernel, in MiB.
const MAX_KERNEL_MIB: u64 = 256;

/// The files and text that are booted.
pub(super) struct Boot<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initrd: Option<&'a Path>,
    pub(super) cmdline: &'a str,
}

impl Boot<'_> {
    /// Events of RTMR1 and RTMR2.
    pub(super) fn events(
        &self,
        generation: Generation,
        inputs: &mut TdxInputs,
    ) -> Result<Prediction, Failure> {
        check_cmdline(self.cmdline).map_err(CliError::Cmdline)?;
        let kernel = files::read_up_to(self.kernel, MAX_KERNEL_MIB)?;
        inputs.kernel_sha256 = Some(sha256(&kernel));
        let initrd = self.initrd.map(hash_initrd).transpose()?;
        inputs.initrd_sha256 = initrd.as_ref().map(|initrd| initrd.sha256.clone());
        inputs.cmdline = Some(self.cmdline.to_owned());
        let kernel = match (generation.kernel_header, inputs.memory_mib, &initrd) {
            (KernelHeader::Original, _, _) => kernel,
            (KernelHeader::Patched, None, Some(_)) => {
                return Ok(Err(
                    "QEMU writes the initrd's place into the kernel, which depends on --memory",
                ));
            }
            (KernelHeader::Patched, memory_mib, initrd) => {
                let bytes = initrd.as_ref().map_or(0, |initrd| initrd.bytes);
                patched_kernel(&kernel, bytes, memory_mib.unwrap_or(1)).in_file(self.kernel)?
            }
        };
        let digest = KernelDigest(authenticode_sha384(&kernel).in_file(self.kernel)?);
        let mut events = rtmr1_events(digest, generation.layout);
        let initrd = initrd.map(|initrd| initrd.sha384);
        events.extend(rtmr2_events(self.cmdline, initrd)?);
        Ok(Ok(events))
    }
}

struct InitrdHashes {
    sha256: String,
    sha384: [u8; 48],
    bytes: u64,
}

fn hash_initrd(path: &Path) -> Result<InitrdHashes, Failure> {
    let (mut sha256, mut sha384) = (Sha256::new(), Sha384::new());
    let bytes = files::pieces(path, |piece| {
        sha256.update(piece);
        sha384.update(piece);
        Ok(())
    })?;
    Ok(InitrdHashes {
        sha256: hex::encode(sha256.finalize()),
        sha384: sha384.finalize().into(),
        bytes,
    })
}
