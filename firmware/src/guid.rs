//! GUIDs in the mixed byte order of UEFI (UEFI 2.10, appendix A).

use std::fmt;

use serde::{Serialize, Serializer};

/// A GUID as it stands in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// Footer of the GUID table.
    pub const FOOTER: Self = Self::new(
        0x96b5_82de,
        0x1fb2,
        0x45f7,
        0xbaea,
        [0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d],
    );
    /// Guest memory that takes the kernel-hash table.
    pub const SEV_HASH_TABLE: Self = Self::new(
        0x7255_371f,
        0x3a3b,
        0x4b04,
        0x927b,
        [0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54],
    );
    /// Guest memory that takes an injected SEV secret.
    pub const SEV_SECRET: Self = Self::new(
        0x4c2e_b361,
        0x7d9b,
        0x4cc3,
        0x8081,
        [0x12, 0x7c, 0x90, 0xd3, 0xd2, 0x94],
    );
    /// Where application processors start under SEV-ES and SEV-SNP.
    pub const SEV_ES_RESET: Self = Self::new(
        0x00f7_71de,
        0x1a7e,
        0x4fcb,
        0x890e,
        [0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e],
    );
    /// Where vCPUs enter a secure VM service module.
    pub const SVSM_INFO: Self = Self::new(
        0xa789_a612,
        0x0597,
        0x4c4b,
        0xa49f,
        [0xcb, 0xb1, 0xfe, 0x9d, 0x1d, 0xdd],
    );
    /// SEV metadata.
    pub const SEV_METADATA: Self = Self::new(
        0xdc88_6566,
        0x984a,
        0x4798,
        0xa75e,
        [0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc],
    );
    /// TDX metadata.
    pub const TDX_METADATA: Self = Self::new(
        0xe47a_6535,
        0x984a,
        0x4798,
        0x865e,
        [0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2],
    );

    /// Builds a GUID from the five groups of its usual notation.
    pub const fn new(first: u32, second: u16, third: u16, fourth: u16, last: [u8; 6]) -> Self {
        let mut bytes = [0; 16];
        let (head, tail) = bytes.split_at_mut(8);
        let (clock, node) = tail.split_at_mut(2);
        let (low, mid_high) = head.split_at_mut(4);
        let (mid, high) = mid_high.split_at_mut(2);
        low.copy_from_slice(&first.to_le_bytes());
        mid.copy_from_slice(&second.to_le_bytes());
        high.copy_from_slice(&third.to_le_bytes());
        clock.copy_from_slice(&fourth.to_be_bytes());
        node.copy_from_slice(&last);
        Self(bytes)
    }

    /// What the GUID stands for, where this crate knows it.
    pub fn name(&self) -> Option<&'static str> {
        match *self {
            Self::FOOTER => Some("footer"),
            Self::SEV_HASH_TABLE => Some("SEV kernel-hash table"),
            Self::SEV_SECRET => Some("SEV secret"),
            Self::SEV_ES_RESET => Some("SEV-ES reset block"),
            Self::SEV_METADATA => Some("SEV metadata"),
            Self::SVSM_INFO => Some("SVSM launch offset"),
            Self::TDX_METADATA => Some("TDX metadata"),
            _ => None,
        }
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, at) in [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
            .iter()
            .enumerate()
        {
            if [4, 6, 8, 10].contains(&index) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[*at])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Guid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_shown_in_its_usual_notation() {
        assert_eq!(
            Guid::FOOTER.to_string(),
            "96b582de-1fb2-45f7-baea-a366c55a082d"
        );
        assert_eq!(
            Guid::SEV_HASH_TABLE.to_string(),
            "7255371f-3a3b-4b04-927b-1da6efa8d454"
        );
        assert_eq!(
            Guid::SEV_ES_RESET.to_string(),
            "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
        );
        assert_eq!(
            Guid::SEV_METADATA.to_string(),
            "dc886566-984a-4798-a75e-5585a7bf67cc"
        );
    }
}
