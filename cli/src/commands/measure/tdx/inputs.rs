//! What the measurements of a TDX guest depend on.

use redoubt_firmware::FirmwareVersion;
use redoubt_tdx_measurement::{KernelHeader, PageOrder};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::generation::Generation;
use crate::text::Text;

/// What the measurements depend on.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TdxInputs {
    pub(super) firmware_sha256: String,
    pub(super) firmware_version: Option<String>,
    pub(super) kernel_sha256: Option<String>,
    pub(super) initrd_sha256: Option<String>,
    pub(super) cmdline: Option<String>,
    pub(super) memory_mib: Option<u64>,
    pub(super) vcpus: Option<u32>,
    pub(super) acpi_sha256: Option<AcpiSha256>,
    pub(super) event_log_sha256: Option<String>,
    pub(super) initdata_sha256: Option<String>,
    #[serde(flatten)]
    pub(super) generation: Generation,
}

/// SHA-256 of the files of ACPI tables; root pointer and loader may have been made.
#[derive(Clone, Debug, Serialize)]
pub(super) struct AcpiSha256 {
    pub(super) tables: String,
    pub(super) rsdp: Option<String>,
    pub(super) loader: Option<String>,
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl TdxInputs {
    pub(super) fn new(image: &[u8], version: FirmwareVersion, generation: Generation) -> Self {
        Self {
            firmware_sha256: sha256(image),
            firmware_version: version.version,
            kernel_sha256: None,
            initrd_sha256: None,
            cmdline: None,
            memory_mib: None,
            vcpus: None,
            acpi_sha256: None,
            event_log_sha256: None,
            initdata_sha256: None,
            generation,
        }
    }

    pub(super) fn show(&self, text: &mut Text) {
        let Generation {
            qemu,
            page_order,
            kernel_header,
            layout: _,
        } = self.generation;
        text.heading("Made from");
        let order = match page_order {
            PageOrder::ByPage => "page by page",
            PageOrder::BySection => "section by section",
        };
        let header = match kernel_header {
            KernelHeader::Original => "as in the file",
            KernelHeader::Patched => "filled in by QEMU",
        };
        let acpi = self.acpi_sha256.as_ref().map(|acpi| acpi.tables.clone());
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        for (name, value) in [
            ("firmware", Some(self.firmware_sha256.clone())),
            ("its version", self.firmware_version.clone()),
            ("kernel", self.kernel_sha256.clone()),
            ("initrd", self.initrd_sha256.clone()),
            ("command line", self.cmdline.clone()),
            ("memory in MiB", number(self.memory_mib)),
            ("vCPUs", number(self.vcpus.map(u64::from))),
            ("ACPI tables", acpi),
            ("event log", self.event_log_sha256.clone()),
            ("initdata", self.initdata_sha256.clone()),
            ("QEMU", Some(qemu.to_string())),
            ("pages", Some(order.to_owned())),
            ("kernel header", Some(header.to_owned())),
        ] {
            if let Some(value) = value {
                text.line(format_args!("  {name:<16}{value}"));
            }
        }
    }
}
