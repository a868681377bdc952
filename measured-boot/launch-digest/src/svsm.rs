//! A secure VM service module (COCONUT-SVSM) and the place that QEMU gives it.

use redoubt_firmware::{Firmware, PAGE_BYTES, SevSection};

use crate::error::DigestError;

/// The image of a service module, and how much room lies between it and the firmware.
#[derive(Clone, Debug)]
pub struct Svsm {
    image: Firmware,
    launch_offset: u32,
    vars_bytes: u64,
}

impl Svsm {
    /// Takes an image as [`Firmware::parse`] has read it.
    ///
    /// `vars_bytes` is the size of the firmware's variable store (`OVMF_VARS`), which QEMU maps
    /// right below the firmware's code.
    pub fn new(image: Firmware, vars_bytes: u64) -> Result<Self, DigestError> {
        let launch_offset = image.svsm_launch_offset().ok_or(DigestError::NotSvsm)?;
        if launch_offset as usize >= image.bytes().len() {
            return Err(DigestError::SvsmEntry {
                offset: launch_offset,
                size: image.bytes().len(),
            });
        }
        if !vars_bytes.is_multiple_of(PAGE_BYTES as u64) {
            return Err(DigestError::SvsmVars { vars_bytes });
        }
        Ok(Self {
            image,
            launch_offset,
            vars_bytes,
        })
    }

    /// The module's image.
    pub fn image(&self) -> &Firmware {
        &self.image
    }

    /// Guest address of the image's first byte and of the vCPUs' first instruction.
    pub(crate) fn place_below(&self, firmware: &Firmware) -> Result<(u64, u32), DigestError> {
        let sections_end = self.image.sev_sections().iter().map(SevSection::end);
        let lowest = sections_end.max().unwrap_or_default();
        let no_room = DigestError::SvsmRoom {
            firmware_gpa: firmware.gpa(),
            vars_bytes: self.vars_bytes,
            svsm_bytes: self.image.bytes().len(),
        };
        let gpa = firmware
            .gpa()
            .checked_sub(self.vars_bytes)
            .and_then(|end| end.checked_sub(self.image.bytes().len() as u64))
            .filter(|gpa| *gpa >= lowest)
            .ok_or(no_room.clone())?;
        let eip = u32::try_from(gpa + u64::from(self.launch_offset)).map_err(|_| no_room)?;
        Ok((gpa, eip))
    }
}
