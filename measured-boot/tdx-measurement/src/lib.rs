//! MRTD and RTMRs of TDX guests, computed before the launch.
//!
//! A TDX guest reports MRTD, a hash over the pages that the launcher adds
//! ([`mrtd`]), and four registers that firmware and kernel extend while they
//! boot: RTMR0 with what the host gave the firmware ([`rtmr0_events`]), RTMR1
//! with what was booted ([`rtmr1_events`]), RTMR2 with the kernel's command
//! line and initrd ([`rtmr2_events`]); RTMR3 stays zero until the guest runs.
//! [`replay`] makes registers of events.
//!
//! What goes into them depends on the generation of QEMU ([`QemuVersion`])
//! and of the firmware ([`EventLayout`]). This crate describes a kernel that
//! QEMU gives to OVMF (`-kernel`), as Redoubt and Kata Containers boot.

#![forbid(unsafe_code)]

mod acpi;
mod authenticode;
mod bytes;
mod error;
mod events;
mod generation;
mod hob;
mod linker_loader;
mod mrtd;
mod setup_header;
mod variables;

pub use acpi::{AcpiDigests, AcpiTables, MAX_ACPI_BYTES};
pub use authenticode::authenticode_sha384;
pub use error::TdxError;
pub use events::{
    KernelDigest, MeasuredEvent, Platform, replay, rtmr0_events, rtmr0_events_from_log,
    rtmr1_events, rtmr2_events,
};
pub use generation::{
    BootSeparator, EventLayout, KernelHeader, PageOrder, QemuVersion, SecureBootDriver,
};
pub use hob::{MAX_MEMORY_MIB, td_hob};
pub use mrtd::mrtd;
pub use setup_header::patched_kernel;
