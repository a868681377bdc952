//! What changed between generations of QEMU and of the firmware.

use std::fmt;
use std::str::FromStr;

use redoubt_firmware::{EdkRelease, FirmwareVersion};
use serde::Serialize;

use crate::error::TdxError;

/// The order in which a section's pages get into MRTD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PageOrder {
    /// Each page is added and measured before the next one: QEMU 9 and later.
    ByPage,
    /// All pages of a section are added, then all are measured: QEMU 8 with TDX patches.
    BySection,
}

/// What the firmware gets as the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelHeader {
    /// The file as it is: QEMU 10 and later with firmware of 2025.05 and later.
    Original,
    /// The file with a setup header into which QEMU has written.
    Patched,
}

/// A version of QEMU, major and minor: `10.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QemuVersion {
    /// Such as 10.
    pub major: u32,
    /// Such as 1.
    pub minor: u32,
}

impl QemuVersion {
    /// The order in which this version adds and measures pages.
    pub fn page_order(self) -> PageOrder {
        if self.major < 9 {
            PageOrder::BySection
        } else {
            PageOrder::ByPage
        }
    }

    /// The kernel that the firmware finds. Firmware whose release is not known counts as recent.
    pub fn kernel_header(self, firmware: Option<EdkRelease>) -> KernelHeader {
        let recent_firmware = firmware.is_none_or(|release| release >= UNPATCHED_SINCE);
        if self.major >= 10 && recent_firmware {
            KernelHeader::Original
        } else {
            KernelHeader::Patched
        }
    }
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for QemuVersion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for QemuVersion {
    type Err = TdxError;

    /// Reads `10`, `10.1` or `10.1.2`.
    fn from_str(text: &str) -> Result<Self, TdxError> {
        let wrong = || TdxError::QemuVersion {
            version: text.to_owned(),
        };
        let numbers: Vec<u32> = text
            .split('.')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| wrong())?;
        match numbers.as_slice() {
            [major] => Ok(Self {
                major: *major,
                minor: 0,
            }),
            [major, minor] | [major, minor, _] => Ok(Self {
                major: *major,
                minor: *minor,
            }),
            _ => Err(wrong()),
        }
    }
}

/// The release since which firmware takes the kernel as its file is.
const UNPATCHED_SINCE: EdkRelease = EdkRelease {
    year: 2025,
    month: 5,
};
/// The release since which RTMR0 holds SMBIOS tables and settings of QEMU.
const SMBIOS_SINCE: EdkRelease = EdkRelease {
    year: 2025,
    month: 5,
};
/// The release since which the separator before the boot is in RTMR1.
const SEPARATOR_IN_RTMR1_SINCE: EdkRelease = EdkRelease {
    year: 2024,
    month: 11,
};

/// The register that holds the separator between firmware and boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootSeparator {
    /// Firmware of 2024.11 and later.
    Rtmr1,
    /// Older firmware measures it into the register that has one already.
    Rtmr0,
}

/// What the variable `SecureBoot` holds where no platform key is enrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecureBootDriver {
    /// The firmware was built without secure boot: the variable does not exist.
    Absent,
    /// The firmware's driver sets the variable to 0.
    Present,
}

/// Which events the firmware measures, and into which register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EventLayout {
    /// Where the separator before the boot goes.
    pub boot_separator: BootSeparator,
    /// What `SecureBoot` holds.
    pub secure_boot_driver: SecureBootDriver,
    /// The release, where it measures what cannot be predicted.
    #[serde(skip)]
    unpredictable: Option<EdkRelease>,
}

impl EventLayout {
    /// The layout of firmware that is older than 2025.05.
    pub const fn new(boot_separator: BootSeparator, secure_boot_driver: SecureBootDriver) -> Self {
        Self {
            boot_separator,
            secure_boot_driver,
            unpredictable: None,
        }
    }

    /// The layout by what the firmware says about itself; without a version, that of 2024.11.
    pub fn of(version: &FirmwareVersion, secure_boot_driver: SecureBootDriver) -> Self {
        let release = version.release();
        let boot_separator = match release {
            Some(release) if release < SEPARATOR_IN_RTMR1_SINCE => BootSeparator::Rtmr0,
            _ => BootSeparator::Rtmr1,
        };
        Self {
            boot_separator,
            secure_boot_driver,
            unpredictable: release.filter(|release| *release >= SMBIOS_SINCE),
        }
    }

    /// An error for firmware whose RTMR0 holds more than this crate computes.
    pub(crate) fn require_predictable(self) -> Result<(), TdxError> {
        match self.unpredictable {
            None => Ok(()),
            Some(EdkRelease { year, month }) => Err(TdxError::UnpredictableLayout {
                release: format!("{year}.{month:02}"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout_of(version: &str) -> EventLayout {
        let version = FirmwareVersion {
            vendor: None,
            version: Some(version.to_owned()),
        };
        EventLayout::of(&version, SecureBootDriver::Absent)
    }

    #[test]
    fn versions_of_qemu_choose_page_order_and_kernel_header() {
        let version: QemuVersion = "8.2.2".parse().unwrap();
        assert_eq!(version.page_order(), PageOrder::BySection);
        assert_eq!(version.kernel_header(None), KernelHeader::Patched);
        let version: QemuVersion = "9.2".parse().unwrap();
        assert_eq!(version.page_order(), PageOrder::ByPage);
        assert_eq!(version.kernel_header(None), KernelHeader::Patched);
        let version: QemuVersion = "10".parse().unwrap();
        assert_eq!(version.page_order(), PageOrder::ByPage);
        assert_eq!(version.kernel_header(None), KernelHeader::Original);
        let old = Some(EdkRelease {
            year: 2025,
            month: 2,
        });
        assert_eq!(version.kernel_header(old), KernelHeader::Patched);
        for text in ["", "ten", "10.", "1.2.3.4", "-1"] {
            assert!(text.parse::<QemuVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn releases_of_the_firmware_choose_the_layout() {
        assert_eq!(
            layout_of("2024.02-3+tdx1.0").boot_separator,
            BootSeparator::Rtmr0
        );
        assert_eq!(layout_of("2024.11-1").boot_separator, BootSeparator::Rtmr1);
        assert_eq!(layout_of("2025.02-3").require_predictable(), Ok(()));
        assert_eq!(
            layout_of("2026.08+ds-2").require_predictable(),
            Err(TdxError::UnpredictableLayout {
                release: "2026.08".to_owned()
            })
        );
    }
}
