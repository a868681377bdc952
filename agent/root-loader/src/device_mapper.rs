//! Device-mapper's ioctls (Linux, `include/uapi/linux/dm-ioctl.h`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::libc;
use redoubt_dm_verity::VerityParams;

use crate::error::LoaderError;

const CONTROL: &str = "/dev/mapper/control";
/// The name of the device.
const NAME: &str = "root";
/// The version of the interface; the kernel refuses another major one.
const VERSION: [u32; 3] = [4, 0, 0];

/// Length of `struct dm_ioctl`, and of `struct dm_target_spec` behind it.
const HEADER_LEN: usize = 312;
const TARGET_LEN: usize = 40;
const AT_DATA_SIZE: usize = 12;
const AT_DATA_START: usize = 16;
const AT_TARGET_COUNT: usize = 20;
const AT_FLAGS: usize = 28;
const AT_DEVICE: usize = 40;
const AT_NAME: usize = 48;
const READ_ONLY: u32 = 1;

/// What the kernel does when a block does not match: going on with errors would leave it to each
/// program what a broken root means.
const ON_CORRUPTION: &str = "1 panic_on_corruption";

/// The commands in use. Suspending without a flag means resuming.
#[derive(Clone, Copy)]
enum Command {
    Create = 3,
    Resume = 6,
    Load = 9,
}

impl Command {
    /// `_IOWR(0xfd, command, struct dm_ioctl)`.
    fn request(self) -> libc::c_ulong {
        0xc138_fd00 | self as libc::c_ulong
    }

    fn action(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Resume => "start",
            Self::Load => "load the table of",
        }
    }
}

/// Makes the device whose blocks are checked; gives its path.
pub(crate) fn open_verified(disk: &Path, params: &VerityParams) -> Result<PathBuf, LoaderError> {
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open(CONTROL)
        .map_err(LoaderError::file("open", CONTROL))?;
    let created = run(&control, Command::Create, header(0, HEADER_LEN, 0))?;
    let disk = disk.to_string_lossy();
    let table = params.table(&disk, &disk, params.tree_block());
    let load = table_load(params.sectors(), &format!("{table} {ON_CORRUPTION}"));
    run(&control, Command::Load, load)?;
    run(&control, Command::Resume, header(0, HEADER_LEN, 0))?;
    Ok(format!("/dev/dm-{}", minor(&created)).into())
}

/// The header of a message of `len` bytes.
fn header(flags: u32, len: usize, targets: u32) -> Vec<u8> {
    let mut message = vec![0; len];
    let mut put = |at: usize, bytes: &[u8]| message[at..at + bytes.len()].copy_from_slice(bytes);
    for (index, part) in VERSION.iter().enumerate() {
        put(index * 4, &part.to_le_bytes());
    }
    put(AT_DATA_SIZE, &length(len));
    put(AT_DATA_START, &length(HEADER_LEN));
    put(AT_TARGET_COUNT, &targets.to_le_bytes());
    put(AT_FLAGS, &flags.to_le_bytes());
    put(AT_NAME, NAME.as_bytes());
    message
}

/// A message with one target, `verity`, over the whole device.
fn table_load(sectors: u64, arguments: &str) -> Vec<u8> {
    // The arguments end with a NUL, the next target would be aligned to 8 bytes.
    let target_len = (TARGET_LEN + arguments.len() + 1).next_multiple_of(8);
    let mut message = header(READ_ONLY, HEADER_LEN + target_len, 1);
    let target = &mut message[HEADER_LEN..];
    let mut put = |at: usize, bytes: &[u8]| target[at..at + bytes.len()].copy_from_slice(bytes);
    put(8, &sectors.to_le_bytes());
    put(20, &length(target_len));
    put(24, b"verity");
    put(TARGET_LEN, arguments.as_bytes());
    message
}

/// Lengths here are those of short texts.
fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes()
}

/// The minor number of the device in an answer: `huge_encode_dev` splits it around the major one.
fn minor(answer: &[u8]) -> u32 {
    let device = answer.get(AT_DEVICE..).and_then(|rest| rest.first_chunk());
    let device = u32::from_le_bytes(device.copied().unwrap_or_default());
    (device & 0xff) | (device >> 12 & 0xf_ff00)
}

/// Gives the kernel a message; returns its answer.
fn run(control: &File, command: Command, mut message: Vec<u8>) -> Result<Vec<u8>, LoaderError> {
    // SAFETY: the request is one of device-mapper's, whose argument is a `dm_ioctl` with
    // `data_size` bytes in all. `header` wrote the vector's length there, so that the kernel
    // reads and writes within the vector, which lives until the call returns.
    let result =
        unsafe { libc::ioctl(control.as_raw_fd(), command.request(), message.as_mut_ptr()) };
    if result < 0 {
        return Err(LoaderError::DeviceMapper {
            action: command.action(),
            source: io::Error::last_os_error(),
        });
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_fields_where_the_kernel_looks() {
        let message = table_load(1024, "1 /dev/vda /dev/vda");
        assert_eq!(message.len(), 312 + 64);
        let number = |at: usize| u32::from_le_bytes(*message[at..].first_chunk().unwrap());
        assert_eq!([number(0), number(4), number(8)], [4, 0, 0]);
        assert_eq!(number(12) as usize, message.len());
        assert_eq!((number(16), number(20), number(28)), (312, 1, 1));
        assert_eq!(&message[48..53], b"root\0");
        let target = &message[312..];
        assert_eq!(target[..8], [0; 8]);
        assert_eq!(target[8..16], 1024_u64.to_le_bytes());
        assert_eq!(target[20..24], 64_u32.to_le_bytes());
        assert_eq!(&target[24..31], b"verity\0");
        assert_eq!(&target[40..60], b"1 /dev/vda /dev/vda\0");
    }

    #[test]
    fn the_requests_are_those_of_the_kernels_header() {
        let requests = [Command::Create, Command::Resume, Command::Load].map(Command::request);
        assert_eq!(requests, [0xc138_fd03, 0xc138_fd06, 0xc138_fd09]);
    }

    #[test]
    fn the_minor_number_is_put_together_from_its_parts() {
        let mut answer = header(0, HEADER_LEN, 0);
        // Major 252 (0xfc), minor 0x123.
        answer[AT_DEVICE..AT_DEVICE + 4].copy_from_slice(&0x0010_fc23_u32.to_le_bytes());
        assert_eq!(minor(&answer), 0x123);
        answer[AT_DEVICE..AT_DEVICE + 4].copy_from_slice(&0xfc00_u32.to_le_bytes());
        assert_eq!(minor(&answer), 0);
    }
}
