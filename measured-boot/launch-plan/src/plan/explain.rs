//! The plan read as sentences for people.

use std::fmt::Write as _;

use redoubt_firmware::GuestArea;

use super::{
    LaunchPlan, NetworkModel, Protection, QuoteService, SnpLaunchPlan, TdxLaunchPlan, VsockPlan,
};
use crate::files::MeasuredFile;

impl LaunchPlan {
    /// What will be launched, what of it is measured, and where each value came from.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        // Writing to a string has no way to fail, here and below.
        let _ = writeln!(text, "Sandbox {}", self.sandbox_id);
        self.explain_protection(&mut text);
        let _ = writeln!(
            text,
            "\nSize\n  {} vCPU{}, {} MiB of memory",
            self.vcpus,
            if self.vcpus == 1 { "" } else { "s" },
            self.memory_mib
        );
        self.explain_boot(&mut text);
        self.explain_connections(&mut text);
        text.push_str("\nWhere the values came from\n");
        for origin in &self.origins {
            let _ = writeln!(
                text,
                "  {} = {}  ({})",
                origin.key, origin.value, origin.source
            );
        }
        if !self.warnings.is_empty() {
            text.push_str("\nWarnings\n");
            for warning in &self.warnings {
                let _ = writeln!(text, "  {warning}");
            }
        }
        text
    }

    fn explain_protection(&self, text: &mut String) {
        match &self.protection {
            Protection::None => text.push_str(
                "\nProtection\n  none: the host can read and change everything in this guest\n",
            ),
            Protection::Snp { launch, .. } => {
                text.push_str("\nProtection\n  AMD SEV-SNP\n");
                explain_snp(text, launch);
            }
            Protection::Tdx { launch } => {
                text.push_str("\nProtection\n  Intel TDX\n");
                explain_tdx(text, launch);
            }
            Protection::SimulatedSnp {
                identity_dir,
                hash_area,
                launch,
                ..
            } => {
                let GuestArea { gpa, size } = hash_area;
                let _ = writeln!(
                    text,
                    "\nProtection\n  simulated SEV-SNP: the host can read and change everything in \
                     this guest\n  identity {}\n  kernel-hash table of {size} bytes at {gpa:#x}",
                    identity_dir.display()
                );
                explain_snp(text, launch);
            }
        }
    }

    fn explain_boot(&self, text: &mut String) {
        let measured = if self.is_confidential() {
            " (measured)"
        } else {
            ""
        };
        let _ = writeln!(text, "\nBoot{measured}");
        if let Some(firmware) = &self.firmware {
            explain_file(text, "firmware", firmware);
        }
        explain_file(text, "kernel", &self.kernel);
        explain_file(text, "initrd", &self.initrd);
        if let Some(disk) = &self.root_disk {
            let _ = writeln!(
                text,
                "  root disk {}, verified by the root hash on the command line",
                disk.display()
            );
        }
        let _ = writeln!(text, "  command line {:?}", self.cmdline);
        match &self.initdata {
            Some(initdata) => {
                let register = match &self.protection {
                    Protection::Tdx { .. } => "MRCONFIGID",
                    _ => "HOST_DATA",
                };
                let _ = writeln!(
                    text,
                    "  initdata of {} bytes, as {register}",
                    initdata.toml.len()
                );
            }
            None => text.push_str("  no initdata\n"),
        }
    }

    fn explain_connections(&self, text: &mut String) {
        let vsock = match &self.vsock {
            VsockPlan::Vhost => "/dev/vhost-vsock".to_owned(),
            VsockPlan::VhostUser { daemon } => format!("the daemon {}", daemon.display()),
        };
        let network = match (self.network_model, self.vhost_net) {
            (NetworkModel::None, _) => "none",
            (NetworkModel::TcFilter, true) => "tap device with vhost-net",
            (NetworkModel::TcFilter, false) => "tap device without vhost-net",
        };
        let _ = writeln!(
            text,
            "\nConnections\n  vsock through {vsock}\n  network: {network}"
        );
    }
}

fn explain_snp(text: &mut String, launch: &SnpLaunchPlan) {
    let debug = if launch.policy & 1 << 19 == 0 {
        "no debugging"
    } else {
        "DEBUGGING ALLOWED"
    };
    let _ = writeln!(
        text,
        "  launch digest {}\n  HOST_DATA {}\n  guest policy {:#x} ({debug})\n  CPU model {}\n  ID block: {}",
        launch.launch_digest,
        hex::encode(launch.host_data),
        launch.policy,
        launch.measured_cpu_model,
        match &launch.id_block {
            None => "no",
            Some(block) if block.author_key => "signed, with an author key",
            Some(_) => "signed",
        },
    );
}

fn explain_tdx(text: &mut String, launch: &TdxLaunchPlan) {
    let service = match &launch.quote_service {
        QuoteService::Unix { path } => path.display().to_string(),
        QuoteService::Vsock { port } => format!("vsock port {port} of the host"),
    };
    let _ = writeln!(
        text,
        "  MRCONFIGID {}\n  quotes by the service at {service}",
        hex::encode(launch.mr_config_id),
    );
}

fn explain_file(text: &mut String, what: &str, file: &MeasuredFile) {
    let _ = writeln!(
        text,
        "  {what} {} of {} bytes, sha256 {}",
        file.path.display(),
        file.size_bytes,
        hex::encode(file.sha256)
    );
}
