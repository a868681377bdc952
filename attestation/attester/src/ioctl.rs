//! The one ioctl of the SNP guest driver that is used, and all the `unsafe` of
//! this crate (Linux `include/uapi/linux/sev-guest.h`).

#![expect(unsafe_code, reason = "an ioctl hands raw pointers to the kernel")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use redoubt_evidence::psp::REQUEST_BYTES;

use crate::error::AttesterError;

/// The room for certificates: the most that the driver passes on, 16 KiB.
pub(crate) const CERTS_BYTES: usize = 0x4000;

/// The length of the driver's response buffer in bytes.
const RESPONSE_BYTES: usize = 4000;

/// The version of the guest message format.
const MESSAGE_VERSION: u8 = 1;

/// `struct snp_ext_report_req`.
#[repr(C)]
struct ExtendedRequest {
    request: [u8; REQUEST_BYTES],
    certs_address: u64,
    certs_bytes: u32,
}

/// `struct snp_guest_request_ioctl`.
#[repr(C)]
struct GuestRequest {
    message_version: u8,
    request: u64,
    response: u64,
    firmware_error: u32,
    hypervisor_error: u32,
}

const _: () = assert!(size_of::<ExtendedRequest>() == 112);
const _: () = assert!(size_of::<GuestRequest>() == 32);

mod sys {
    nix::ioctl_readwrite!(snp_get_ext_report, b'S', 2, super::GuestRequest);
}

/// What the driver filled in.
pub(crate) struct ExtendedReport {
    /// `MSG_REPORT_RSP` and zeros behind it.
    pub(crate) response: Vec<u8>,
    /// The certificate table and zeros behind it.
    pub(crate) certs: Vec<u8>,
}

/// Asks the driver once for a report and the host's certificates.
pub(crate) fn get_extended_report(
    device: &File,
    request: &[u8; REQUEST_BYTES],
) -> Result<ExtendedReport, AttesterError> {
    let mut certs = vec![0_u8; CERTS_BYTES];
    let mut response = vec![0_u8; RESPONSE_BYTES];
    let mut extended = ExtendedRequest {
        request: *request,
        certs_address: address(certs.as_mut_ptr().cast_const()),
        certs_bytes: 0x4000,
    };
    let mut ioctl = GuestRequest {
        message_version: MESSAGE_VERSION,
        request: address((&raw mut extended).cast_const()),
        response: address(response.as_mut_ptr().cast_const()),
        firmware_error: 0,
        hypervisor_error: 0,
    };
    // SAFETY: `ioctl`, and through it `extended`, `response` and `certs`, are
    // live, writable, and have the layout and at least the length that the
    // driver uses: 112 bytes at `request`, which it reads and where it may write
    // another `certs_bytes`; 4000 written at `response`; at most `certs_bytes`
    // written at `certs_address`. All of them are used again only after the call.
    let result = unsafe { sys::snp_get_ext_report(device.as_raw_fd(), &raw mut ioctl) };
    match result {
        Ok(_) => Ok(ExtendedReport { response, certs }),
        Err(errno) => Err(AttesterError::Driver {
            firmware: ioctl.firmware_error,
            hypervisor: ioctl.hypervisor_error,
            source: io::Error::from(errno),
        }),
    }
}

/// A pointer as the driver's structures hold it; the memory is thereby exposed
/// to the kernel.
fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_number_is_the_kernels() {
        // _IOWR('S', 2, struct snp_guest_request_ioctl) with 32 bytes.
        assert_eq!(
            nix::request_code_readwrite!(b'S', 2, size_of::<GuestRequest>()),
            0xC020_5302
        );
    }

    #[test]
    fn a_file_that_is_no_device_is_an_error_and_nothing_is_filled_in() {
        let file = tempfile::tempfile().unwrap();
        let error = get_extended_report(&file, &[0; REQUEST_BYTES])
            .err()
            .unwrap();
        assert!(matches!(
            error,
            AttesterError::Driver { firmware: 0, hypervisor: 0, source }
                if source.raw_os_error() == Some(nix::libc::ENOTTY)
        ));
    }
}
