//! The guest's initrd: which files it holds, in which bytes.
//!
//! The initrd is measured, so the same files must always give the same bytes:
//! entries are sorted, times and owners are zero, inode numbers count up, and
//! the compressor runs on one thread with fixed parameters. This crate does no
//! I/O; the caller brings the bytes of each file and writes the result.

#![forbid(unsafe_code)]

mod archive;
mod error;
mod initrd;
mod manifest;
mod modules;

pub use archive::{Entry, EntryKind, write_newc};
pub use error::GuestImageError;
pub use initrd::{Initrd, InitrdInputs};
pub use manifest::{Manifest, ManifestEntry};
pub use modules::{GUEST_MODULES, GuestModule, MODULE_LIST_PATH, module_list};
