//! What an OVMF image holds: footer GUID table, SEV metadata, kernel-hash area.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// A range of guest physical memory that the firmware names for its launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestArea {
    /// Guest physical address of the first byte.
    pub gpa: u64,
    /// Length in bytes.
    pub size: u32,
}
