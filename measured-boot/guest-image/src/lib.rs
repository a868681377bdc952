//! The guest's initrd or root disk: which files it holds, in which bytes.
//!
//! Both are measured, so the same files must always give the same bytes:
//! entries are sorted, times and owners are zero, inode numbers count up, and
//! the compressor runs on one thread with fixed parameters. This crate does no
//! I/O; the caller brings the bytes of each file and writes the result.

#![forbid(unsafe_code)]

mod archive;
mod erofs;
mod error;
mod initrd;
mod manifest;
mod modules;
mod root_disk;

pub use archive::{Entry, EntryKind, write_newc};
pub use erofs::write_erofs;
pub use error::GuestImageError;
pub use initrd::{Initrd, InitrdInputs};
pub use manifest::{Manifest, ManifestEntry};
pub use modules::{GUEST_MODULES, GuestModule, LOADER_MODULES, MODULE_LIST_PATH, module_list};
pub use root_disk::{LOADER_MODULE_DIR, RootDisk, RootDiskManifest, loader_initrd};
