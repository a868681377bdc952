//! Reference values of the guest image: the launch digests of guests with 1 to 8 vCPUs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What the key broker imports: a folder of its reference values takes the file as it is.
pub(crate) const FOR_BROKER: &str = "reference-values.json";
/// A message to the reference value provider service of Trustee.
pub(crate) const FOR_RVPS: &str = "reference-values.rvps.json";
const VCPUS: &str = "1..8";
/// A sandbox of one vCPU, the first of the values.
const CONFIGURATION: &str = "confidential_guest = true\ndefault_vcpus = 1.0\n";

/// Files of a launch.
pub(crate) struct Launch<'a> {
    pub(crate) firmware: &'a Path,
    pub(crate) kernel: &'a Path,
    pub(crate) initrd: &'a Path,
    /// Disk and `kernel_verity_params`, where the guest's root is a disk.
    pub(crate) root_disk: Option<(&'a Path, &'a str)>,
}

/// Writes the reference values of a guest that is configured by default, in both forms.
///
/// The command line is the one that the shim would use; that the first value is the digest
/// that the shim's own plan predicts is checked.
pub(crate) fn write(redoubt: &Path, launch: &Launch<'_>, out: &Path) -> Result<()> {
    let planned = planned(redoubt, launch, out)?;
    let inputs = &planned["inputs"];
    let text = |name: &str| {
        inputs[name]
            .as_str()
            .with_context(|| format!("the measurement has no {name}"))
    };
    let snp = |format: &str| {
        let mut command = Command::new(redoubt);
        command.args(["measure", "snp", "--vcpus", VCPUS, "--format", format]);
        command.arg("--firmware").arg(launch.firmware);
        command.arg("--kernel").arg(launch.kernel);
        command.arg("--initrd").arg(launch.initrd);
        command.args(["--append", text("cmdline")?]);
        command.args(["--cpu-model", text("cpu_model")?]);
        command.args(["--guest-features", text("guest_features")?]);
        command.args(["--guest-policy", text("guest_policy")?]);
        output(&mut command)
    };
    let for_broker = snp("redoubt")?;
    let values: Value = serde_json::from_slice(&for_broker)?;
    ensure!(
        values["values"][0]["launch_digest"] == planned["launch_digest"],
        "the digest of the parts is not that of the plan"
    );
    fs::write(out.join(FOR_BROKER), for_broker)?;
    fs::write(out.join(FOR_RVPS), snp("rvps")?)?;
    Ok(())
}

/// The measurement of the sandbox that the shim would launch.
fn planned(redoubt: &Path, launch: &Launch<'_>, out: &Path) -> Result<Value> {
    let configuration = out.join("measured.toml");
    let mut table = toml::Table::new();
    for (key, path) in [
        ("firmware", launch.firmware),
        ("kernel", launch.kernel),
        ("initrd", launch.initrd),
    ] {
        let path = path.to_str().context("a path is not text")?;
        table.insert(key.to_owned(), toml::Value::String(path.to_owned()));
    }
    if let Some((image, params)) = launch.root_disk {
        let image = image.to_str().context("a path is not text")?;
        for (key, value) in [("image", image), ("kernel_verity_params", params)] {
            table.insert(key.to_owned(), toml::Value::String(value.to_owned()));
        }
    }
    let keys = toml::to_string(&table)?;
    fs::write(
        &configuration,
        format!("[hypervisor.qemu]\n{CONFIGURATION}{keys}"),
    )?;
    let mut command = Command::new(redoubt);
    command.args(["measure", "sandbox", "--json", "--config"]);
    let measured = output(command.arg(&configuration));
    fs::remove_file(&configuration)?;
    let mut measured: Vec<Value> = serde_json::from_slice(&measured?)?;
    measured.pop().context("nothing was measured")
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().context("cannot start redoubt")?;
    ensure!(
        output.status.success(),
        "redoubt cannot measure the guest: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}
