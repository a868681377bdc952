//! A root disk that the guest verifies, the initrd that opens it, and their reference values.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use redoubt_guest_image::{GUEST_MODULES, LOADER_MODULES, RootDisk, loader_initrd};
use redoubt_lab::RootDiskFiles;

use crate::guest::{inputs, mib};
use crate::paths::Paths;
use crate::printer::Printer;
use crate::reference::{self, Launch};
use crate::setup::{self, Prepared};

/// The folder below the guest's.
const FOLDER: &str = "root-disk";
const INITRD: &str = "initrd.zst";
const IMAGE: &str = "root.img";
const PARAMS: &str = "kernel_verity_params";

/// What is written beside the guest image, from its folder.
pub(crate) const FILES: [&str; 7] = [
    "root-disk/initrd.zst",
    "root-disk/initrd-manifest.json",
    "root-disk/root.img",
    "root-disk/manifest.json",
    "root-disk/kernel_verity_params",
    "root-disk/reference-values.json",
    "root-disk/reference-values.rvps.json",
];

/// Builds the root disk into the target folder, where the guest image is already.
pub(crate) fn run(printer: &Printer) -> Result<RootDiskFiles> {
    printer.step("building the root disk");
    let paths = Paths::find()?;
    let prepared = setup::recorded(&paths).context("run `cargo xtask setup` first")?;
    let guest = paths.guest();
    let disk = write(&paths, &prepared, &guest)?;
    let initrd = guest.join(FOLDER).join(INITRD);
    printer.note(&format!(
        "disk {:.1} MiB ({} files), initrd {:.1} MiB, {}",
        mib(disk.bytes.len()),
        disk.manifest.entries.len(),
        mib(usize::try_from(fs::metadata(&initrd)?.len())?),
        disk.params
    ));
    Ok(RootDiskFiles {
        initrd,
        image: guest.join(FOLDER).join(IMAGE),
        kernel_verity_params: disk.params.to_string(),
    })
}

/// Writes everything into a folder of the guest image.
pub(crate) fn write(paths: &Paths, prepared: &Prepared, guest: &Path) -> Result<RootDisk> {
    let out = guest.join(FOLDER);
    fs::create_dir_all(&out)?;
    let initrd = loader_initrd(inputs(&paths.root_loader(), prepared, &LOADER_MODULES)?)
        .context("cannot build the initrd of root disks")?;
    fs::write(out.join(INITRD), &initrd.bytes)?;
    let manifest = serde_json::to_string_pretty(&initrd.manifest)?;
    fs::write(out.join("initrd-manifest.json"), manifest)?;
    let disk = RootDisk::build(inputs(&paths.agent(), prepared, &GUEST_MODULES)?)
        .context("cannot build the root disk")?;
    fs::write(out.join(IMAGE), &disk.bytes)?;
    let manifest = serde_json::to_string_pretty(&disk.manifest)?;
    fs::write(out.join("manifest.json"), manifest)?;
    let params = disk.params.to_string();
    fs::write(out.join(PARAMS), format!("{params}\n"))?;
    let launch = Launch {
        firmware: &prepared.firmware,
        kernel: &guest.join("vmlinuz"),
        initrd: &out.join(INITRD),
        root_disk: Some((&out.join(IMAGE), &params)),
    };
    reference::write(&paths.binary("redoubt"), &launch, &out)?;
    Ok(disk)
}
