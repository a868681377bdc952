//! The files that a launch measures, read and hashed beforehand.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
    pub firmware: Option<MeasuredFile>,
}
