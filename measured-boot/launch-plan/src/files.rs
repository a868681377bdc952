//! The files that a launch measures, read and hashed beforehand.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use redoubt_firmware::{Firmware, MAX_FIRMWARE_BYTES};
use redoubt_launch_digest::check_kernel;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Configuration;
use crate::error::PlanError;
use crate::request::SandboxRequest;

/// The largest kernel or initrd that is read, in MiB.
const MAX_BOOT_FILE_MIB: u64 = 1024;
const KERNEL: &str = "hypervisor.qemu.kernel";
const INITRD: &str = "hypervisor.qemu.initrd";
const FIRMWARE: &str = "hypervisor.qemu.firmware";
const IMAGE: &str = "hypervisor.qemu.image";
const QEMU: &str = "hypervisor.qemu.path";

/// A file that is part of a launch: where it is and what was in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasuredFile {
    /// Path given to QEMU.
    pub path: PathBuf,
    /// SHA-256 of the contents.
    #[serde(with = "crate::hex_bytes")]
    pub sha256: [u8; 32],
    /// Length in bytes.
    pub size_bytes: u64,
}

/// Everything that the plan needs to know about files.
#[derive(Clone, Debug)]
pub struct MeasuredFiles {
    /// The QEMU binary, known to exist.
    pub qemu: PathBuf,
    /// The guest kernel, known to be a bzImage.
    pub kernel: MeasuredFile,
    /// The initial RAM disk.
    pub initrd: MeasuredFile,
    /// The firmware, where one is configured.
    pub firmware: Option<FirmwareFile>,
    /// Length of the root disk in bytes; `None` without one, or where it need not exist.
    pub root_disk_bytes: Option<u64>,
}

/// A firmware file and what it holds.
#[derive(Clone, Debug)]
pub struct FirmwareFile {
    /// Where it is.
    pub file: MeasuredFile,
    /// What it holds; `None` if it is no OVMF image, which only a plain virtual machine can use.
    pub image: Result<Firmware, redoubt_firmware::FirmwareError>,
}

/// Reads and hashes the files that a sandbox is launched with.
pub fn load_files(
    configuration: &Configuration,
    request: &SandboxRequest,
) -> Result<MeasuredFiles, PlanError> {
    load_files_of(configuration, request, true)
}

/// The same where QEMU and the root disk need not exist, for computing a digest away from the host.
pub fn load_measured_files(
    configuration: &Configuration,
    request: &SandboxRequest,
) -> Result<MeasuredFiles, PlanError> {
    load_files_of(configuration, request, false)
}

fn load_files_of(
    configuration: &Configuration,
    request: &SandboxRequest,
    with_qemu: bool,
) -> Result<MeasuredFiles, PlanError> {
    let (effective, _) = configuration
        .with_annotations(&request.annotations)
        .map_err(PlanError::Config)?;
    let settings = &effective.hypervisor;
    if with_qemu {
        check_qemu(&settings.path)?;
    }
    let firmware = (!settings.firmware.as_os_str().is_empty())
        .then(|| read_firmware(&settings.firmware))
        .transpose()?;
    let root_disk = with_qemu && settings.has_root_disk();
    Ok(MeasuredFiles {
        root_disk_bytes: root_disk
            .then(|| size_bytes(IMAGE, &settings.image))
            .transpose()?,
        qemu: settings.path.clone(),
        kernel: measure_kernel(&settings.kernel)?,
        initrd: measure(INITRD, &settings.initrd, |_| Ok(()))?,
        firmware,
    })
}

/// Hashes a guest kernel after a look at its header.
pub fn measure_kernel(path: &Path) -> Result<MeasuredFile, PlanError> {
    measure(KERNEL, path, |head| {
        check_kernel(head).map_err(|cause| PlanError::NotBzImage {
            path: path.to_owned(),
            cause,
        })
    })
}

/// Hashes an initrd.
pub fn measure_initrd(path: &Path) -> Result<MeasuredFile, PlanError> {
    measure(INITRD, path, |_| Ok(()))
}

/// Reads a firmware image.
pub fn read_firmware(path: &Path) -> Result<FirmwareFile, PlanError> {
    let limit = MAX_FIRMWARE_BYTES as u64;
    let mut bytes = Vec::new();
    open(FIRMWARE, path)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|cause| unreadable(FIRMWARE, path, cause))?;
    if bytes.len() as u64 > limit {
        return Err(PlanError::TooLarge {
            key: FIRMWARE,
            path: path.to_owned(),
            limit_mib: limit >> 20,
        });
    }
    let file = MeasuredFile {
        path: path.to_owned(),
        sha256: Sha256::digest(&bytes).into(),
        size_bytes: bytes.len() as u64,
    };
    Ok(FirmwareFile {
        file,
        image: Firmware::parse(&bytes),
    })
}

/// The length of a file whose contents are not read: the guest verifies them.
fn size_bytes(key: &'static str, path: &Path) -> Result<u64, PlanError> {
    let metadata = open(key, path)?.metadata();
    Ok(metadata
        .map_err(|cause| unreadable(key, path, cause))?
        .len())
}

fn check_qemu(path: &Path) -> Result<(), PlanError> {
    let file = fs::metadata(path).map_err(|cause| unreadable(QEMU, path, cause))?;
    if file.is_file() && file.permissions().mode() & 0o111 != 0 {
        return Ok(());
    }
    Err(PlanError::NotExecutable {
        path: path.to_owned(),
    })
}

fn open(key: &'static str, path: &Path) -> Result<File, PlanError> {
    if path.as_os_str().is_empty() {
        return Err(PlanError::NotSet { key });
    }
    let file = File::open(path).map_err(|cause| unreadable(key, path, cause))?;
    let kind = file
        .metadata()
        .map_err(|cause| unreadable(key, path, cause))?;
    if kind.is_file() {
        return Ok(file);
    }
    let cause = std::io::Error::new(ErrorKind::InvalidInput, "not a regular file");
    Err(unreadable(key, path, cause))
}

fn unreadable(key: &'static str, path: &Path, cause: std::io::Error) -> PlanError {
    let path = path.to_owned();
    match cause.kind() {
        ErrorKind::NotFound => PlanError::Missing { key, path },
        _ => PlanError::Read { key, path, cause },
    }
}

/// Hashes a file piece by piece; `check` sees its first piece.
fn measure(
    key: &'static str,
    path: &Path,
    check: impl Fn(&[u8]) -> Result<(), PlanError>,
) -> Result<MeasuredFile, PlanError> {
    let mut file = open(key, path)?;
    let mut piece = vec![0; 1 << 20];
    let mut hash = Sha256::new();
    let mut size_bytes = 0;
    loop {
        let len = read_full(&mut file, &mut piece).map_err(|cause| unreadable(key, path, cause))?;
        let filled = piece.get(..len).unwrap_or(&piece);
        if size_bytes == 0 {
            check(filled)?;
        }
        if len == 0 {
            break;
        }
        hash.update(filled);
        size_bytes += len as u64;
        if size_bytes > MAX_BOOT_FILE_MIB << 20 {
            return Err(PlanError::TooLarge {
                key,
                path: path.to_owned(),
                limit_mib: MAX_BOOT_FILE_MIB,
            });
        }
    }
    Ok(MeasuredFile {
        path: path.to_owned(),
        sha256: hash.finalize().into(),
        size_bytes,
    })
}

fn read_full(file: &mut File, piece: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = piece.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
