//! The disk that the host attached as the guest's root.

use std::fs;
use std::path::{Path, PathBuf};

use redoubt_dm_verity::VerityParams;

use crate::error::LoaderError;

/// The serial number that the launch plan gives the disk. Any disk may claim it: what is
/// believed is the root hash alone.
const SERIAL: &str = "rootfs";
const BLOCK_DEVICES: &str = "/sys/block";
/// The most disks that are looked at.
const MAX_DISKS: usize = 32;
/// Sizes in sysfs are in sectors of 512 bytes, whatever the disk's own are.
const SECTOR_BYTES: u64 = 512;

/// Finds the disk; it is known to be large enough.
pub(crate) fn find(params: &VerityParams) -> Result<PathBuf, LoaderError> {
    let folder = Path::new(BLOCK_DEVICES);
    let name = with_serial(folder)?.ok_or(LoaderError::NoDisk { serial: SERIAL })?;
    let bytes = size_bytes(&folder.join(&name).join("size"))?;
    let needed = params.device_bytes();
    if bytes < needed {
        return Err(LoaderError::DiskSize { bytes, needed });
    }
    Ok(Path::new("/dev").join(name))
}

/// The name of the first virtio disk with the serial number.
fn with_serial(folder: &Path) -> Result<Option<String>, LoaderError> {
    let failed = || LoaderError::file("read", folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        names.extend(
            name.into_string()
                .ok()
                .filter(|name| name.starts_with("vd")),
        );
    }
    names.sort();
    names.truncate(MAX_DISKS);
    Ok(names.into_iter().find(|name| {
        fs::read_to_string(folder.join(name).join("serial"))
            .is_ok_and(|serial| serial.trim_end() == SERIAL)
    }))
}

fn size_bytes(path: &Path) -> Result<u64, LoaderError> {
    let text = fs::read_to_string(path).map_err(LoaderError::file("read", path))?;
    let sectors: u64 = text.trim_end().parse().map_err(|_| {
        let error = std::io::Error::new(std::io::ErrorKind::InvalidData, "not a number");
        LoaderError::file("read", path)(error)
    })?;
    Ok(sectors.saturating_mul(SECTOR_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks(disks: &[(&str, Option<&str>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, serial) in disks {
            let disk = folder.path().join(name);
            fs::create_dir(&disk).unwrap();
            if let Some(serial) = serial {
                fs::write(disk.join("serial"), serial).unwrap();
            }
        }
        folder
    }

    #[test]
    fn the_first_virtio_disk_with_the_serial_number_is_the_root() {
        let folder = disks(&[
            ("sda", Some("rootfs")),
            ("vda", Some("initdata")),
            ("vdb", None),
            ("vdc", Some("rootfs\n")),
            ("vdd", Some("rootfs")),
        ]);
        let found = with_serial(folder.path()).unwrap();
        assert_eq!(found.as_deref(), Some("vdc"));
        let none = disks(&[("vda", Some("rootfs2"))]);
        assert_eq!(with_serial(none.path()).unwrap(), None);
    }

    #[test]
    fn a_size_is_a_number_of_sectors() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("size");
        fs::write(&file, "16\n").unwrap();
        assert_eq!(size_bytes(&file).unwrap(), 8192);
        fs::write(&file, "many\n").unwrap();
        assert!(size_bytes(&file).is_err());
    }
}
