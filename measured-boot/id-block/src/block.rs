//! The ID block: what the guest's owner means to start.

use redoubt_launch_digest::{LaunchDigest, check_guest_policy};

use crate::error::{IdBlockError, IdPart};
use crate::fields::{array, from_base64, to_base64, u32_at};

/// Length of an ID block in bytes.
pub const ID_BLOCK_BYTES: usize = 96;
/// The only version of the structure.
const VERSION: u32 = 1;

const FAMILY_ID: usize = 0x30;
const IMAGE_ID: usize = 0x40;
const VERSION_AT: usize = 0x50;
const GUEST_SVN: usize = 0x54;
const POLICY: usize = 0x58;

/// An ID block (AMD 56860, `ID Block Structure`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdBlock {
    /// The launch digest that the guest must have.
    pub launch_digest: LaunchDigest,
    /// Name of a family of guests, given by their owner.
    pub family_id: [u8; 16],
    /// Name of the guest's image, given by its owner.
    pub image_id: [u8; 16],
    /// Security version of the guest, given by its owner.
    pub guest_svn: u32,
    /// The guest policy that the guest must have.
    pub policy: u64,
}

impl IdBlock {
    /// Reads an ID block.
    pub fn parse(bytes: &[u8]) -> Result<Self, IdBlockError> {
        let bytes: &[u8; ID_BLOCK_BYTES] = bytes.try_into().map_err(|_| IdBlockError::Length {
            part: IdPart::Block,
            expected: ID_BLOCK_BYTES,
            actual: bytes.len(),
        })?;
        let version = u32_at(bytes, VERSION_AT);
        if version != VERSION {
            return Err(IdBlockError::Version {
                offset: VERSION_AT,
                version,
            });
        }
        let policy = u64::from_le_bytes(array(bytes, POLICY));
        check_guest_policy(policy).map_err(|_| IdBlockError::Policy {
            offset: POLICY,
            policy,
        })?;
        Ok(Self {
            launch_digest: LaunchDigest(array(bytes, 0)),
            family_id: array(bytes, FAMILY_ID),
            image_id: array(bytes, IMAGE_ID),
            guest_svn: u32_at(bytes, GUEST_SVN),
            policy,
        })
    }

    /// Reads an ID block from base64.
    pub fn from_base64(text: &str) -> Result<Self, IdBlockError> {
        Self::parse(&from_base64::<ID_BLOCK_BYTES>(IdPart::Block, text)?)
    }

    /// The block's bytes, which are signed.
    pub fn to_bytes(&self) -> [u8; ID_BLOCK_BYTES] {
        let mut bytes = [0; ID_BLOCK_BYTES];
        bytes[..FAMILY_ID].copy_from_slice(self.launch_digest.as_bytes());
        bytes[FAMILY_ID..IMAGE_ID].copy_from_slice(&self.family_id);
        bytes[IMAGE_ID..VERSION_AT].copy_from_slice(&self.image_id);
        bytes[VERSION_AT..GUEST_SVN].copy_from_slice(&VERSION.to_le_bytes());
        bytes[GUEST_SVN..POLICY].copy_from_slice(&self.guest_svn.to_le_bytes());
        bytes[POLICY..].copy_from_slice(&self.policy.to_le_bytes());
        bytes
    }

    /// The block in base64, as QEMU and the configuration take it.
    pub fn to_base64(&self) -> String {
        to_base64(&self.to_bytes())
    }

    /// Refuses a launch that the CPU would refuse because of this block.
    pub fn check_launch(&self, actual: LaunchDigest, policy: u64) -> Result<(), IdBlockError> {
        if self.launch_digest != actual {
            return Err(IdBlockError::OtherDigest {
                expected: self.launch_digest,
                actual,
            });
        }
        if self.policy != policy {
            return Err(IdBlockError::OtherPolicy {
                expected: self.policy,
                actual: policy,
            });
        }
        Ok(())
    }
}
