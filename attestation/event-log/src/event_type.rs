//! Event types by the numbers of the TCG (PC Client PFP 1.06, section 10.4.1).

use std::fmt;

use serde::{Serialize, Serializer};

/// What kind of event a record is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventType(pub u32);

impl EventType {
    /// A message of the firmware; older firmware uses it for ACPI tables.
    pub const POST_CODE: Self = Self(0x1);
    /// Information that extends no register.
    pub const NO_ACTION: Self = Self(0x3);
    /// The border between two phases of the boot.
    pub const SEPARATOR: Self = Self(0x4);
    /// A string that names what happened.
    pub const ACTION: Self = Self(0x5);
    /// An event with an identifier of its own.
    pub const EVENT_TAG: Self = Self(0x6);
    /// Configuration of the platform, such as ACPI tables.
    pub const PLATFORM_CONFIG_FLAGS: Self = Self(0xa);
    /// Initial program load: what a boot loader does.
    pub const IPL: Self = Self(0xd);
    /// A UEFI variable that configures drivers, such as the keys of secure boot.
    pub const EFI_VARIABLE_DRIVER_CONFIG: Self = Self(0x8000_0001);
    /// A UEFI variable that says what to boot.
    pub const EFI_VARIABLE_BOOT: Self = Self(0x8000_0002);
    /// A program that the firmware or a boot loader started.
    pub const EFI_BOOT_SERVICES_APPLICATION: Self = Self(0x8000_0003);
    /// A disk's partition table.
    pub const EFI_GPT_EVENT: Self = Self(0x8000_0006);
    /// A string that names what the firmware did.
    pub const EFI_ACTION: Self = Self(0x8000_0007);
    /// Part of the firmware.
    pub const EFI_PLATFORM_FIRMWARE_BLOB: Self = Self(0x8000_0008);
    /// Tables that the platform gave to the firmware.
    pub const EFI_HANDOFF_TABLES: Self = Self(0x8000_0009);
    /// Part of the firmware, with a description.
    pub const EFI_PLATFORM_FIRMWARE_BLOB2: Self = Self(0x8000_000a);
    /// Tables that the platform gave to the firmware, with a description.
    pub const EFI_HANDOFF_TABLES2: Self = Self(0x8000_000b);
    /// A UEFI variable that says what to boot, measured with its name.
    pub const EFI_VARIABLE_BOOT2: Self = Self(0x8000_000c);
    /// The key or entry that allowed a program to start.
    pub const EFI_VARIABLE_AUTHORITY: Self = Self(0x8000_00e0);

    /// The name in the TCG's specification, where this crate knows it.
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0x0 => "EV_PREBOOT_CERT",
            0x1 => "EV_POST_CODE",
            0x2 => "EV_UNUSED",
            0x3 => "EV_NO_ACTION",
            0x4 => "EV_SEPARATOR",
            0x5 => "EV_ACTION",
            0x6 => "EV_EVENT_TAG",
            0x7 => "EV_S_CRTM_CONTENTS",
            0x8 => "EV_S_CRTM_VERSION",
            0x9 => "EV_CPU_MICROCODE",
            0xa => "EV_PLATFORM_CONFIG_FLAGS",
            0xb => "EV_TABLE_OF_DEVICES",
            0xc => "EV_COMPACT_HASH",
            0xd => "EV_IPL",
            0xe => "EV_IPL_PARTITION_DATA",
            0xf => "EV_NONHOST_CODE",
            0x10 => "EV_NONHOST_CONFIG",
            0x11 => "EV_NONHOST_INFO",
            0x12 => "EV_OMIT_BOOT_DEVICE_EVENTS",
            0x13 => "EV_POST_CODE2",
            0x8000_0001 => "EV_EFI_VARIABLE_DRIVER_CONFIG",
            0x8000_0002 => "EV_EFI_VARIABLE_BOOT",
            0x8000_0003 => "EV_EFI_BOOT_SERVICES_APPLICATION",
            0x8000_0004 => "EV_EFI_BOOT_SERVICES_DRIVER",
            0x8000_0005 => "EV_EFI_RUNTIME_SERVICES_DRIVER",
            0x8000_0006 => "EV_EFI_GPT_EVENT",
            0x8000_0007 => "EV_EFI_ACTION",
            0x8000_0008 => "EV_EFI_PLATFORM_FIRMWARE_BLOB",
            0x8000_0009 => "EV_EFI_HANDOFF_TABLES",
            0x8000_000a => "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
            0x8000_000b => "EV_EFI_HANDOFF_TABLES2",
            0x8000_000c => "EV_EFI_VARIABLE_BOOT2",
            0x8000_000d => "EV_EFI_GPT_EVENT2",
            0x8000_0010 => "EV_EFI_HCRTM_EVENT",
            0x8000_00e0 => "EV_EFI_VARIABLE_AUTHORITY",
            0x8000_00e1 => "EV_EFI_SPDM_FIRMWARE_BLOB",
            0x8000_00e2 => "EV_EFI_SPDM_FIRMWARE_CONFIG",
            _ => return None,
        })
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "event type {:#x}", self.0),
        }
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
