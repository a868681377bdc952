//! A root disk that the guest verifies block by block, and the initrd that opens it.

use redoubt_dm_verity::{Format, Superblock, TreeBuilder, VerityParams};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::archive::{Entry, EntryKind};
use crate::erofs::{BLOCK_BYTES, write_erofs};
use crate::error::GuestImageError;
use crate::initrd::{Initrd, InitrdInputs, console, guest_entries};
use crate::manifest::ManifestEntry;
use crate::modules::LOADER_MODULES;

/// Where the initrd of a root disk has its modules; they are loaded in the order of their names.
pub const LOADER_MODULE_DIR: &str = "modules";

/// A finished root disk: file system, superblock and hash tree.
#[derive(Clone, Debug)]
pub struct RootDisk {
    /// The disk's bytes.
    pub bytes: Vec<u8>,
    /// What the measured command line says about it.
    pub params: VerityParams,
    /// What it holds.
    pub manifest: RootDiskManifest,
}

/// Every file of a root disk with its digest, and what verifies the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootDiskManifest {
    /// The sha256 of the disk.
    pub image_sha256: String,
    /// Size of the disk in bytes.
    pub image_bytes: usize,
    /// Value of `kernel_verity_params`.
    pub kernel_verity_params: String,
    /// The files by path.
    pub entries: Vec<ManifestEntry>,
}

impl RootDisk {
    /// Builds the disk with what an initrd would hold; the same inputs give the same bytes.
    pub fn build(inputs: InitrdInputs) -> Result<Self, GuestImageError> {
        let mut entries = guest_entries(inputs)?;
        // The root cannot be written to; name servers are only known at run time.
        entries.push(Entry {
            path: "etc/resolv.conf".to_owned(),
            mode: 0o777,
            kind: EntryKind::Symlink("../run/resolv.conf".to_owned()),
        });
        let mut bytes = write_erofs(&entries)?;
        // A salt keeps trees of different images apart; one of the contents stays reproducible.
        let salt: [u8; 32] = Sha256::digest(&bytes).into();
        let format = Format::usual(&salt)?;
        let mut tree = TreeBuilder::new(format.clone());
        tree.push(&bytes)?;
        let tree = tree.finish()?;
        let root_hash = tree
            .root_hash
            .as_slice()
            .try_into()
            .map_err(|_| GuestImageError::RootHash)?;
        let block_bytes = u32::try_from(BLOCK_BYTES).unwrap_or_default();
        let params =
            VerityParams::new(root_hash, &salt, tree.data_blocks, block_bytes, block_bytes)?;
        let uuid = *salt.first_chunk().unwrap_or(&[0; 16]);
        bytes.extend(Superblock::new(uuid, format, tree.data_blocks)?.to_block());
        bytes.extend(&tree.bytes);
        let mut listed: Vec<ManifestEntry> = entries.iter().map(ManifestEntry::of).collect();
        listed.sort_by(|left, right| left.path.cmp(&right.path));
        let manifest = RootDiskManifest {
            image_sha256: hex::encode(Sha256::digest(&bytes)),
            image_bytes: bytes.len(),
            kernel_verity_params: params.to_string(),
            entries: listed,
        };
        Ok(Self {
            bytes,
            params,
            manifest,
        })
    }
}

/// Builds the initrd that opens a root disk and goes on there.
///
/// `inputs.agent` is the program that does it; of the modules those are taken that it needs.
pub fn loader_initrd(mut inputs: InitrdInputs) -> Result<Initrd, GuestImageError> {
    let folders = ["dev", "proc", "root", "sys", LOADER_MODULE_DIR];
    let mut entries: Vec<Entry> = folders.map(Entry::directory).into();
    entries.push(console());
    entries.push(Entry::file("init", 0o755, inputs.agent));
    for (number, module) in LOADER_MODULES.iter().enumerate() {
        let name = module.name;
        match inputs.modules.remove(name) {
            Some(bytes) => {
                let path = format!("{LOADER_MODULE_DIR}/{number:02}-{name}.ko");
                entries.push(Entry::file(&path, 0o644, bytes));
            }
            None if module.required => return Err(GuestImageError::MissingModule { name }),
            None => {}
        }
    }
    Initrd::of(&entries)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::modules::{GUEST_MODULES, GuestModule};

    fn inputs(modules: &[GuestModule]) -> InitrdInputs {
        let modules: BTreeMap<_, _> = modules
            .iter()
            .map(|module| (module.name.to_owned(), module.name.as_bytes().to_vec()))
            .collect();
        InitrdInputs {
            agent: b"\x7fELF agent".repeat(1000),
            modules,
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_disk() {
        let first = RootDisk::build(inputs(&GUEST_MODULES)).unwrap();
        let second = RootDisk::build(inputs(&GUEST_MODULES)).unwrap();
        assert_eq!(first.bytes, second.bytes);
        assert_eq!(first.manifest, second.manifest);
        let json = serde_json::to_string(&first.manifest).unwrap();
        let read: RootDiskManifest = serde_json::from_str(&json).unwrap();
        assert_eq!(read, first.manifest);
    }

    #[test]
    fn file_system_superblock_and_tree_stand_one_behind_the_other() {
        let disk = RootDisk::build(inputs(&GUEST_MODULES)).unwrap();
        let data_bytes = usize::try_from(disk.params.sectors()).unwrap() * 512;
        assert_eq!(disk.bytes.len() as u64, disk.params.device_bytes());
        let superblock = Superblock::parse(&disk.bytes[data_bytes..]).unwrap();
        assert_eq!(superblock.data_blocks, disk.params.data_blocks());
        assert_eq!(&superblock.format, disk.params.format());
        let tree_at = usize::try_from(disk.params.tree_block()).unwrap() * BLOCK_BYTES;
        assert_eq!(tree_at, data_bytes + BLOCK_BYTES);
        // The first block of the tree is the one that the root hash is of.
        let mut top = Sha256::new();
        top.update(disk.params.format().salt());
        top.update(&disk.bytes[tree_at..tree_at + BLOCK_BYTES]);
        assert_eq!(<[u8; 32]>::from(top.finalize()), disk.params.root_hash());
    }

    #[test]
    fn one_changed_byte_of_the_agent_changes_the_root_hash() {
        let mut changed = inputs(&GUEST_MODULES);
        changed.agent[5000] ^= 1;
        let params = |inputs| RootDisk::build(inputs).unwrap().params.root_hash();
        assert_ne!(params(inputs(&GUEST_MODULES)), params(changed));
    }

    #[test]
    fn the_initrd_numbers_the_modules_in_the_order_of_loading() {
        let initrd = loader_initrd(inputs(&LOADER_MODULES)).unwrap();
        let paths: Vec<_> = initrd
            .manifest
            .entries
            .iter()
            .map(|entry| entry.path.as_str())
            .filter(|path| path.starts_with("modules/"))
            .collect();
        let expected: Vec<_> = LOADER_MODULES
            .iter()
            .enumerate()
            .map(|(number, module)| format!("modules/{number:02}-{}.ko", module.name))
            .collect();
        assert_eq!(paths, expected);
        let without = inputs(&LOADER_MODULES[..LOADER_MODULES.len() - 1]);
        assert!(matches!(
            loader_initrd(without),
            Err(GuestImageError::MissingModule { name: "erofs" })
        ));
    }
}
