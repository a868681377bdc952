//! Generations of QEMU and firmware, by options or by what follows from versions.

use clap::{Args, ValueEnum};
use redoubt_firmware::FirmwareVersion;
use redoubt_tdx_measurement::{
    BootSeparator, EventLayout, KernelHeader, PageOrder, QemuVersion, SecureBootDriver, TdxError,
};
use serde::Serialize;

/// Generations of QEMU and firmware, as far as they matter.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Generation {
    pub(super) qemu: QemuVersion,
    pub(super) page_order: PageOrder,
    pub(super) kernel_header: KernelHeader,
    pub(super) layout: EventLayout,
}

/// Which QEMU and which firmware launch the guest.
#[derive(Debug, Args)]
pub(crate) struct GenerationArgs {
    /// Version of QEMU, which page order and kernel header follow from.
    #[arg(long, value_name = "VERSION", default_value = "10.1", value_parser = qemu_version)]
    qemu: QemuVersion,
    /// How QEMU adds and measures pages.
    #[arg(long, value_enum)]
    page_order: Option<PageOrderName>,
    /// Whether QEMU writes into the kernel's setup header.
    #[arg(long, value_enum)]
    kernel_header: Option<KernelHeaderName>,
    /// Where the firmware measures the separator before the boot; by default, by its version.
    #[arg(long, value_enum)]
    boot_separator: Option<BootSeparatorName>,
    /// The firmware has a driver for secure boot, which sets SecureBoot to 0 where no key is enrolled.
    #[arg(long)]
    secure_boot_driver: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PageOrderName {
    /// Page by page: QEMU 9 and later.
    ByPage,
    /// Section by section: QEMU 8 with TDX patches.
    BySection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KernelHeaderName {
    /// As in the file: QEMU 10 and firmware of 2025.05, and later.
    Original,
    /// With what older QEMU writes into it.
    Patched,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BootSeparatorName {
    /// Firmware before 2024.11.
    Rtmr0,
    /// Firmware of 2024.11 and later.
    Rtmr1,
}

fn qemu_version(text: &str) -> Result<QemuVersion, String> {
    text.parse().map_err(|error: TdxError| error.to_string())
}

impl GenerationArgs {
    /// What was asked for, completed by what follows from the versions.
    pub(super) fn resolve(&self, firmware: &FirmwareVersion) -> Generation {
        let page_order = match self.page_order {
            Some(PageOrderName::ByPage) => PageOrder::ByPage,
            Some(PageOrderName::BySection) => PageOrder::BySection,
            None => self.qemu.page_order(),
        };
        let kernel_header = match self.kernel_header {
            Some(KernelHeaderName::Original) => KernelHeader::Original,
            Some(KernelHeaderName::Patched) => KernelHeader::Patched,
            None => self.qemu.kernel_header(firmware.release()),
        };
        let driver = if self.secure_boot_driver {
            SecureBootDriver::Present
        } else {
            SecureBootDriver::Absent
        };
        let mut layout = EventLayout::of(firmware, driver);
        match self.boot_separator {
            Some(BootSeparatorName::Rtmr0) => layout.boot_separator = BootSeparator::Rtmr0,
            Some(BootSeparatorName::Rtmr1) => layout.boot_separator = BootSeparator::Rtmr1,
            None => {}
        }
        Generation {
            qemu: self.qemu,
            page_order,
            kernel_header,
            layout,
        }
    }
}
