//! Puts the guest's files together.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::archive::{Entry, EntryKind, write_newc};
use crate::error::GuestImageError;
use crate::manifest::{Manifest, ManifestEntry};
use crate::modules::{GUEST_MODULES, GuestModule, MODULE_LIST_PATH, module_list};

/// The compression level: slower to build, smaller to load and to hash.
const ZSTD_LEVEL: i32 = 19;

/// Folders that the agent mounts on or that hold its files.
const FOLDERS: [&str; 10] = [
    "dev",
    "etc",
    "etc/redoubt",
    "lib",
    "lib/modules",
    "mnt",
    "proc",
    "run",
    "sys",
    "tmp",
];

/// What an initrd is made of.
#[derive(Clone, Debug)]
pub struct InitrdInputs {
    /// The static `kata-agent`.
    pub agent: Vec<u8>,
    /// Kernel modules by name, uncompressed.
    pub modules: BTreeMap<String, Vec<u8>>,
}

/// A finished initrd.
#[derive(Clone, Debug)]
pub struct Initrd {
    /// The compressed archive.
    pub bytes: Vec<u8>,
    /// What it holds.
    pub manifest: Manifest,
}

impl Initrd {
    /// Builds the initrd; the same inputs give the same bytes.
    pub fn build(inputs: InitrdInputs) -> Result<Self, GuestImageError> {
        Self::of(&guest_entries(inputs)?)
    }

    /// An initrd with these files.
    pub(crate) fn of(entries: &[Entry]) -> Result<Self, GuestImageError> {
        let archive = write_newc(entries)?;
        let bytes =
            zstd::bulk::compress(&archive, ZSTD_LEVEL).map_err(GuestImageError::Compress)?;
        let mut listed: Vec<ManifestEntry> = entries.iter().map(ManifestEntry::of).collect();
        listed.sort_by(|left, right| left.path.cmp(&right.path));
        let manifest = Manifest {
            initrd_sha256: hex::encode(Sha256::digest(&bytes)),
            initrd_bytes: bytes.len(),
            archive_bytes: archive.len(),
            entries: listed,
        };
        Ok(Self { bytes, manifest })
    }
}

/// The console, which the kernel opens before anything is mounted.
pub(crate) fn console() -> Entry {
    Entry {
        path: "dev/console".to_owned(),
        mode: 0o600,
        kind: EntryKind::CharacterDevice { major: 5, minor: 1 },
    }
}

/// The files of a guest's root.
pub(crate) fn guest_entries(mut inputs: InitrdInputs) -> Result<Vec<Entry>, GuestImageError> {
    let mut entries: Vec<Entry> = FOLDERS.iter().map(|path| Entry::directory(path)).collect();
    entries.push(console());
    entries.push(Entry::file("init", 0o755, inputs.agent));
    let mut present: Vec<GuestModule> = Vec::new();
    for module in GUEST_MODULES {
        match inputs.modules.remove(module.name) {
            Some(bytes) => {
                entries.push(Entry::file(&module.path(), 0o644, bytes));
                present.push(module);
            }
            None if module.required => {
                return Err(GuestImageError::MissingModule { name: module.name });
            }
            None => {}
        }
    }
    entries.push(Entry::file(
        MODULE_LIST_PATH,
        0o644,
        module_list(&present).into_bytes(),
    ));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> InitrdInputs {
        let modules = GUEST_MODULES
            .iter()
            .filter(|module| module.required)
            .map(|module| (module.name.to_owned(), module.name.as_bytes().to_vec()))
            .collect();
        InitrdInputs {
            agent: b"\x7fELF agent".to_vec(),
            modules,
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes() {
        let first = Initrd::build(inputs()).unwrap();
        let second = Initrd::build(inputs()).unwrap();
        assert_eq!(first.bytes, second.bytes);
        assert_eq!(first.manifest, second.manifest);
    }

    #[test]
    fn one_changed_byte_of_the_agent_changes_the_initrd_and_its_manifest() {
        let mut changed = inputs();
        changed.agent.push(0);
        let (first, second) = (
            Initrd::build(inputs()).unwrap(),
            Initrd::build(changed).unwrap(),
        );
        assert_ne!(first.bytes, second.bytes);
        assert_ne!(first.manifest.initrd_sha256, second.manifest.initrd_sha256);
    }

    #[test]
    fn a_missing_required_module_is_named() {
        let mut without = inputs();
        without.modules.remove("overlay");
        let error = Initrd::build(without).unwrap_err();
        assert!(
            matches!(error, GuestImageError::MissingModule { name: "overlay" }),
            "{error}"
        );
    }

    #[test]
    fn the_manifest_lists_every_file_with_its_digest() {
        let manifest = Initrd::build(inputs()).unwrap().manifest;
        let agent = manifest
            .entries
            .iter()
            .find(|entry| entry.path == "init")
            .unwrap();
        assert_eq!(agent.mode, "0755");
        assert_eq!(
            agent.sha256,
            Some(hex::encode(Sha256::digest(b"\x7fELF agent")))
        );
        let json = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    }
}
