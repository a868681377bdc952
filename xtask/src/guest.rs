//! Builds the guest's kernel and initrd, with a manifest of every file and reference values.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use redoubt_guest_image::{GUEST_MODULES, GuestModule, Initrd, InitrdInputs};

use crate::build;
use crate::paths::Paths;
use crate::printer::Printer;
use crate::reference::{self, FOR_BROKER, FOR_RVPS, Launch};
use crate::root_disk;
use crate::setup::{self, Prepared, sha256_of};

const MIB: usize = 1024 * 1024;
/// The largest agent and initrd that are accepted.
const AGENT_BUDGET: usize = 12 * MIB;
const INITRD_BUDGET: usize = 20 * MIB;

/// What the guest image consists of.
const FILES: [&str; 5] = [
    "vmlinuz",
    "initrd.zst",
    "manifest.json",
    FOR_BROKER,
    FOR_RVPS,
];

/// Options of the guest image.
#[derive(Debug, Args)]
pub(crate) struct GuestOptions {
    /// Also build a root disk that the guest verifies, and the initrd that opens it.
    #[arg(long)]
    root_disk: bool,
}

/// Builds what was asked for.
pub(crate) fn run_options(printer: &Printer, options: &GuestOptions) -> Result<()> {
    run(printer)?;
    if options.root_disk {
        root_disk::run(printer)?;
    }
    Ok(())
}

/// Builds the guest image into the target folder; an unchanged one is left as it is.
pub(crate) fn run(printer: &Printer) -> Result<PathBuf> {
    let paths = Paths::find()?;
    let prepared = match setup::recorded(&paths) {
        Some(prepared) => prepared,
        None => setup::run(printer)?,
    };
    build::programs(printer, &paths)?;
    let agent = paths.agent();
    let out = paths.guest();
    fs::create_dir_all(&out)?;
    let stamp = stamp(&paths, &prepared)?;
    let stamp_file = out.join("inputs.sha256");
    let unchanged = fs::read_to_string(&stamp_file).is_ok_and(|last| last == stamp);
    if unchanged && FILES.iter().all(|file| out.join(file).exists()) {
        return Ok(out);
    }
    printer.step("building the guest image");
    let initrd = write_image(&paths, &prepared, &out)?;
    fs::write(stamp_file, stamp)?;
    let agent_bytes = fs::metadata(&agent)?.len();
    printer.note(&format!(
        "agent {:.1} MiB, initrd {:.1} MiB ({} files), sha256 {}",
        mib(usize::try_from(agent_bytes)?),
        mib(initrd.bytes.len()),
        initrd.manifest.entries.len(),
        initrd.manifest.initrd_sha256
    ));
    Ok(out)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes for people, one digit after the point"
)]
pub(crate) fn mib(bytes: usize) -> f64 {
    bytes as f64 / MIB as f64
}

/// Fails when agent or initrd are larger than they may be.
pub(crate) fn check_budgets() -> Result<()> {
    let paths = Paths::find()?;
    let initrd = paths.guest().join("initrd.zst");
    for (file, budget) in [(paths.agent(), AGENT_BUDGET), (initrd, INITRD_BUDGET)] {
        let size = usize::try_from(fs::metadata(&file)?.len())?;
        ensure!(
            size <= budget,
            "{} has {:.1} MiB, more than its budget of {:.0} MiB",
            file.display(),
            mib(size),
            mib(budget)
        );
    }
    Ok(())
}

/// Writes kernel, initrd, manifest and reference values into a folder.
fn write_image(paths: &Paths, prepared: &Prepared, out: &Path) -> Result<Initrd> {
    fs::create_dir_all(out)?;
    let inputs = inputs(&paths.agent(), prepared, &GUEST_MODULES)?;
    let initrd = Initrd::build(inputs).context("cannot build the initrd")?;
    fs::copy(&prepared.kernel, out.join("vmlinuz"))?;
    fs::write(out.join("initrd.zst"), &initrd.bytes)?;
    let manifest = serde_json::to_string_pretty(&initrd.manifest)?;
    fs::write(out.join("manifest.json"), manifest)?;
    let launch = Launch {
        firmware: &prepared.firmware,
        kernel: &out.join("vmlinuz"),
        initrd: &out.join("initrd.zst"),
        root_disk: None,
    };
    reference::write(&paths.binary("redoubt"), &launch, out)?;
    Ok(initrd)
}

/// Builds the image twice in different folders and compares every byte.
pub(crate) fn check_reproducible(printer: &Printer) -> Result<()> {
    printer.step("building the guest image twice in different folders");
    let paths = Paths::find()?;
    let prepared = setup::recorded(&paths).context("run `cargo xtask setup` first")?;
    let folders = ["first", "a/second/folder"].map(|name| paths.assets().join("twice").join(name));
    for folder in &folders {
        write_image(&paths, &prepared, folder)?;
        root_disk::write(&paths, &prepared, folder)?;
    }
    let [first, second] = &folders;
    for file in FILES.iter().chain(&root_disk::FILES) {
        let same = fs::read(first.join(file))? == fs::read(second.join(file))?;
        ensure!(same, "{file} differs between two builds of the same inputs");
    }
    fs::remove_dir_all(paths.assets().join("twice"))?;
    Ok(())
}

/// Everything that decides the image's bytes, as one text.
fn stamp(paths: &Paths, prepared: &Prepared) -> Result<String> {
    Ok([
        sha256_of(&paths.agent())?,
        sha256_of(&paths.binary("redoubt"))?,
        sha256_of(&prepared.firmware)?,
        sha256_of(&prepared.kernel)?,
        sha256_of(Path::new("/proc/self/exe"))?,
    ]
    .join("\n"))
}

/// A program for the guest, and those of the modules that the kernel has.
pub(crate) fn inputs(
    program: &Path,
    prepared: &Prepared,
    wanted: &[GuestModule],
) -> Result<InitrdInputs> {
    let agent = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let mut files = BTreeMap::new();
    find_modules(&prepared.modules, &mut files)?;
    let mut modules = BTreeMap::new();
    for module in wanted {
        if let Some(file) = files.get(module.name) {
            modules.insert(module.name.to_owned(), module_bytes(file)?);
        }
    }
    Ok(InitrdInputs { agent, modules })
}

/// All modules below a folder by name.
fn find_modules(dir: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find_modules(&path, found)?;
        } else if let Some(file) = path.file_name().and_then(|name| name.to_str())
            && let Some((name, _)) = file.split_once(".ko")
        {
            found.insert(name.to_owned(), path);
        }
    }
    Ok(())
}

/// A module's bytes, uncompressed: the initrd is compressed as a whole.
fn module_bytes(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    }
    let output = Command::new("xz")
        .arg("-dc")
        .arg(file)
        .output()
        .context("cannot start xz")?;
    ensure!(output.status.success(), "xz cannot read {}", file.display());
    Ok(output.stdout)
}
