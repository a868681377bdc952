//! A guest whose root is a verified disk: it works, and a changed disk does not.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use redoubt_e2e::Fixture;
use redoubt_lab::{RootDiskFiles, SECRET, ScenarioOptions};

/// The shim's code for a kernel that panicked, as it does over a block that does not match.
const KERNEL_PANIC: &str = "RDT-VMM-019";
/// The shim's code for a guest that ended itself.
const GAVE_UP: &str = "RDT-VMM-020";
const BLOCK_BYTES: usize = 4096;

#[test]
fn a_pod_runs_from_a_verified_root_disk_and_not_from_a_changed_one() -> Result<()> {
    let fixture = Fixture::start()?;
    let disk = fixture.lab.guest.root_disk.clone();
    let disk = disk.context("no root disk was built")?;
    let options = booting_from(&fixture, &disk, &disk.image);
    let outcome = fixture.run(&options)?;
    ensure!(
        outcome.status == 0 && outcome.stdout.contains(SECRET),
        "{}{}",
        outcome.stderr,
        fixture.logs()
    );

    let image = fs::read(&disk.image)?;
    let agent = first_block_of_a_program(&image)?;
    let tree = image.len() - BLOCK_BYTES;
    for (what, at) in [("agent", agent + 100), ("tree", tree + 40)] {
        let mut changed = image.clone();
        changed[at] ^= 1;
        let path = fixture.lab.dir().join(format!("changed-{what}.img"));
        fs::write(&path, changed)?;
        // The launch digest is the same: it is the guest that finds out.
        let outcome =
            fixture.expect_failure(&booting_from(&fixture, &disk, &path), KERNEL_PANIC)?;
        let said = &outcome.stderr;
        ensure!(
            said.contains("dm-verity device corrupted"),
            "{what}: {said}"
        );
        fs::remove_file(path)?;
    }
    fixture.expect_nothing_left()
}

#[test]
fn an_initrd_that_does_not_open_the_root_disk_starts_no_guest() -> Result<()> {
    let fixture = Fixture::start()?;
    let disk = fixture.lab.guest.root_disk.clone();
    let disk = disk.context("no root disk was built")?;
    let initrd = fixture.lab.guest.initrd.display();
    let options = booting_from(&fixture, &disk, &disk.image);
    let options = options.hypervisor("initrd", &format!("\"{initrd}\""));
    expect_last_words(&fixture, &options, "RDT-AGT-026")?;
    let without = fixture.working();
    let without = without.hypervisor("initrd", &format!("\"{}\"", disk.initrd.display()));
    expect_last_words(&fixture, &without, "RDT-ROOT-002")
}

/// The guest gives up before it serves, and says why.
fn expect_last_words(fixture: &Fixture, options: &ScenarioOptions, code: &str) -> Result<()> {
    let outcome = fixture.expect_failure(options, GAVE_UP)?;
    let said = &outcome.stderr;
    ensure!(said.contains(code), "expected {code}: {said}");
    Ok(())
}

fn booting_from(fixture: &Fixture, disk: &RootDiskFiles, image: &Path) -> ScenarioOptions {
    let quoted = |text: String| format!("\"{text}\"");
    fixture
        .working()
        .hypervisor("initrd", &quoted(disk.initrd.display().to_string()))
        .hypervisor("image", &quoted(image.display().to_string()))
        .hypervisor(
            "kernel_verity_params",
            &quoted(disk.kernel_verity_params.clone()),
        )
}

/// Where the disk's largest program begins: the first block with the magic of one, as modules are
/// programs, too, and the agent stands before them.
fn first_block_of_a_program(image: &[u8]) -> Result<usize> {
    let block = image
        .chunks(BLOCK_BYTES)
        .position(|block| block.starts_with(b"\x7fELF"));
    Ok(block.context("no program on the disk")? * BLOCK_BYTES)
}
