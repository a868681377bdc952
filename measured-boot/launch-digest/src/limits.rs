//! What a launch may ask for beside files.

use crate::error::DigestError;

/// The longest command line in bytes, without its NUL: what a Linux kernel keeps
/// (`COMMAND_LINE_SIZE`, x86 boot protocol `cmdline_size`).
pub const MAX_CMDLINE_BYTES: usize = 2047;

/// Guest policy: bit 17 is reserved and must be one, bits from 26 on must be zero.
const POLICY_MUST_BE_ONE: u64 = 1 << 17;
const POLICY_MUST_BE_ZERO: u64 = !0 << 26;

/// Refuses a guest policy that the CPU would refuse (AMD 56860, table 9).
pub fn check_guest_policy(policy: u64) -> Result<(), DigestError> {
    if policy & POLICY_MUST_BE_ONE == 0 || policy & POLICY_MUST_BE_ZERO != 0 {
        return Err(DigestError::GuestPolicy { policy });
    }
    Ok(())
}

/// Refuses a command line that the guest would see differently from what is measured.
pub fn check_cmdline(cmdline: &str) -> Result<(), DigestError> {
    if let Some(offset) = cmdline.bytes().position(|byte| byte == 0) {
        return Err(DigestError::CmdlineNul { offset });
    }
    let len = cmdline.len();
    if len > MAX_CMDLINE_BYTES {
        return Err(DigestError::CmdlineTooLong {
            len,
            max: MAX_CMDLINE_BYTES,
        });
    }
    Ok(())
}

/// Refuses a kernel file that starts unlike a bzImage (Linux, x86 boot protocol: `boot_flag` and
/// `header`). `head` is the file's beginning, at least 518 bytes of it.
pub fn check_kernel(head: &[u8]) -> Result<(), DigestError> {
    let marks: [(&str, usize, &[u8]); 2] = [
        ("boot flag", 0x1fe, &[0x55, 0xaa]),
        ("magic \"HdrS\"", 0x202, b"HdrS"),
    ];
    for (field, offset, expected) in marks {
        if head.get(offset..offset + expected.len()) != Some(expected) {
            return Err(DigestError::NotBzImage { field, offset });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_start_as_the_boot_protocol_says() {
        let mut head = vec![0; 0x206];
        let refused = |head: &[u8], field, offset| {
            assert_eq!(
                check_kernel(head),
                Err(DigestError::NotBzImage { field, offset })
            );
        };
        refused(&head, "boot flag", 0x1fe);
        refused(&[], "boot flag", 0x1fe);
        head[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        refused(&head, "magic \"HdrS\"", 0x202);
        head[0x202..].copy_from_slice(b"HdrS");
        assert_eq!(check_kernel(&head), Ok(()));
        refused(&head[..0x205], "magic \"HdrS\"", 0x202);
    }

    #[test]
    fn policies_keep_the_reserved_bits() {
        for policy in [0x3_0000, 0x2_0000, 0x3ff_ffff] {
            assert_eq!(check_guest_policy(policy), Ok(()));
        }
        for policy in [0, 0x1_0000, 0x403_0000, 1 << 63 | 0x3_0000] {
            assert_eq!(
                check_guest_policy(policy),
                Err(DigestError::GuestPolicy { policy })
            );
        }
    }

    #[test]
    fn command_lines_are_what_the_kernel_keeps() {
        assert_eq!(check_cmdline(&"x".repeat(2047)), Ok(()));
        assert_eq!(
            check_cmdline(&"x".repeat(2048)),
            Err(DigestError::CmdlineTooLong {
                len: 2048,
                max: 2047
            })
        );
        assert_eq!(
            check_cmdline("quiet\0init=/bin/sh"),
            Err(DigestError::CmdlineNul { offset: 5 })
        );
    }
}
