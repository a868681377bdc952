//! The files of a launch, read and hashed.

use std::path::{Path, PathBuf};
use std::thread;

use clap::{Args, ValueEnum};
use redoubt_firmware::Firmware;
use redoubt_launch_digest::{DigestError, KernelHashes, check_cmdline, check_kernel};
use sha2::{Digest, Sha256};

use crate::failure::{CliError, Failure};
use crate::files;
use crate::reference::Inputs;

/// Firmware, and what it boots.
#[derive(Debug, Args)]
pub(super) struct PartsArgs {
    /// OVMF image.
    #[arg(long, value_name = "FILE")]
    firmware: PathBuf,
    /// Guest kernel; without one only the firmware is measured.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Which files pass for a kernel.
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        requires = "kernel"
    )]
    kernel_format: KernelFormat,
    /// Initial RAM disk.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Kernel command line.
    #[arg(long, value_name = "TEXT", requires = "kernel")]
    append: Option<String>,
    /// Kernel command line in a file, whose last line end does not count.
    #[arg(
        long,
        value_name = "FILE",
        requires = "kernel",
        conflicts_with = "append"
    )]
    append_file: Option<PathBuf>,
}

/// Which files pass for a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum KernelFormat {
    /// What the boot protocol of x86 calls a bzImage.
    #[default]
    Bzimage,
    /// Anything.
    Any,
}

/// What the files of a launch are.
pub(super) struct Parts<T> {
    /// The firmware, or what was made of it.
    pub(super) firmware: T,
    pub(super) hashes: Option<KernelHashes>,
    pub(super) inputs: Inputs,
    path: PathBuf,
}

impl<T> Parts<T> {
    /// Says which file the digest's calculation failed at.
    pub(super) fn in_firmware(&self, cause: DigestError) -> CliError {
        CliError::Digest {
            path: self.path.clone(),
            cause,
        }
    }
}

impl PartsArgs {
    /// Reads the files and hashes them, kernel and initrd beside the firmware.
    ///
    /// `measure` is the part of the measurement that the firmware alone decides.
    pub(super) fn load<T>(&self, measure: impl FnOnce(Firmware) -> T) -> Result<Parts<T>, Failure> {
        let cmdline = self.cmdline()?;
        let (firmware, kernel) = thread::scope(|scope| {
            let kernel = scope.spawn(|| self.kernel_hashes(&cmdline));
            let firmware =
                read_firmware(&self.firmware).map(|(image, sha256)| (measure(image), sha256));
            (firmware, kernel.join())
        });
        let (firmware, firmware_sha256) = firmware?;
        let hashes = kernel.unwrap_or(Err(CliError::Thread))?;
        Ok(Parts {
            inputs: Inputs {
                firmware_sha256,
                kernel_sha256: hashes.map(|hashes| hex::encode(hashes.kernel)),
                initrd_sha256: hashes
                    .filter(|_| self.initrd.is_some())
                    .map(|hashes| hex::encode(hashes.initrd)),
                cmdline_sha256: hashes.map(|hashes| hex::encode(hashes.cmdline)),
                cmdline: hashes.map(|_| cmdline),
                ..Inputs::default()
            },
            hashes,
            firmware,
            path: self.firmware.clone(),
        })
    }

    fn cmdline(&self) -> Result<String, CliError> {
        let Some(path) = &self.append_file else {
            let text = self.append.clone().unwrap_or_default();
            check_cmdline(&text).map_err(CliError::Cmdline)?;
            return Ok(text);
        };
        let text = files::read_text(path)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        check_cmdline(text).map_err(|cause| CliError::Digest {
            path: path.clone(),
            cause,
        })?;
        Ok(text.to_owned())
    }

    fn kernel_hashes(&self, cmdline: &str) -> Result<Option<KernelHashes>, CliError> {
        let Some(kernel) = &self.kernel else {
            return Ok(None);
        };
        let format = self.kernel_format;
        let kernel = files::sha256_checked(kernel, |head| match format {
            KernelFormat::Bzimage => check_kernel(head),
            KernelFormat::Any => Ok(()),
        })?;
        let initrd = match &self.initrd {
            Some(initrd) => files::sha256(initrd)?,
            None => Sha256::digest([]).into(),
        };
        Ok(Some(KernelHashes::from_digests(kernel, initrd, cmdline)))
    }
}

/// Reads a firmware image and its SHA-256.
pub(super) fn read_firmware(path: &Path) -> Result<(Firmware, String), CliError> {
    let image = files::read(path)?;
    let firmware = Firmware::parse(&image).map_err(|cause| CliError::Firmware {
        path: path.to_owned(),
        cause,
    })?;
    Ok((firmware, hex::encode(Sha256::digest(&image))))
}
