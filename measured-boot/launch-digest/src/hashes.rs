//! The kernel-hash table that QEMU writes into the firmware's area.
//!
//! Every part starts with a GUID and a `u16` length that counts GUID and length
//! too: first the table, then its entries for command line, initrd and kernel.

use redoubt_firmware::Guid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const TABLE: Guid = Guid::new(
    0x9438_d606,
    0x4f22,
    0x4cc9,
    0xb479,
    [0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21],
);
const CMDLINE: Guid = Guid::new(
    0x97d0_2dd8,
    0xbd20,
    0x4c94,
    0xaa78,
    [0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a],
);
const INITRD: Guid = Guid::new(
    0x44ba_f731,
    0x3a2f,
    0x4bd7,
    0x9af1,
    [0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d],
);
const KERNEL: Guid = Guid::new(
    0x4de7_9437,
    0xabd2,
    0x427f,
    0xb835,
    [0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b],
);

const HEADER_LEN: u8 = 18;
const ENTRY_LEN: u8 = HEADER_LEN + 32;
const CONTENT_LEN: u8 = HEADER_LEN + 3 * ENTRY_LEN;

/// Length of the padded table in bytes.
pub const TABLE_LEN: usize = (CONTENT_LEN as usize).next_multiple_of(16);

/// SHA-256 of what the firmware will boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelHashes {
    /// Of the kernel file.
    pub kernel: [u8; 32],
    /// Of the initrd file; of nothing if there is none.
    pub initrd: [u8; 32],
    /// Of the command line with its trailing NUL.
    pub cmdline: [u8; 32],
}

impl KernelHashes {
    /// Hashes a kernel, an initrd (empty if there is none) and a command line.
    pub fn of(kernel: &[u8], initrd: &[u8], cmdline: &str) -> Self {
        Self::from_digests(
            Sha256::digest(kernel).into(),
            Sha256::digest(initrd).into(),
            cmdline,
        )
    }

    /// The same for files that were hashed before.
    pub fn from_digests(kernel: [u8; 32], initrd: [u8; 32], cmdline: &str) -> Self {
        let cmdline = Sha256::new()
            .chain_update(cmdline)
            .chain_update([0])
            .finalize()
            .into();
        Self {
            kernel,
            initrd,
            cmdline,
        }
    }

    /// The table's bytes, padded with zeros to 16 bytes as QEMU does.
    pub fn table(&self) -> Vec<u8> {
        let mut table = Vec::with_capacity(TABLE_LEN);
        push_header(&mut table, TABLE, CONTENT_LEN);
        for (guid, hash) in [
            (CMDLINE, &self.cmdline),
            (INITRD, &self.initrd),
            (KERNEL, &self.kernel),
        ] {
            push_header(&mut table, guid, ENTRY_LEN);
            table.extend_from_slice(hash);
        }
        table.resize(TABLE_LEN, 0);
        table
    }
}

fn push_header(table: &mut Vec<u8>, guid: Guid, len: u8) {
    table.extend_from_slice(&guid.0);
    table.extend_from_slice(&u16::from(len).to_le_bytes());
}
