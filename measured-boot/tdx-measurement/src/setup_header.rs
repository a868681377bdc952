//! What QEMU before version 10 writes into a kernel's setup header before the firmware measures it.
//!
//! Offsets are those of the Linux boot protocol for x86 (Documentation/arch/x86/boot.rst).

use crate::bytes::{array, u16_at, u32_at};
use crate::error::TdxError;
use crate::hob::MemorySplit;

const BOOT_FLAG_AT: usize = 0x1fe;
const MAGIC_AT: usize = 0x202;
const VERSION_AT: usize = 0x206;
const TYPE_OF_LOADER_AT: usize = 0x210;
const LOADFLAGS_AT: usize = 0x211;
const RAMDISK_IMAGE_AT: usize = 0x218;
const RAMDISK_SIZE_AT: usize = 0x21c;
const HEAP_END_AT: usize = 0x224;
const CMDLINE_POINTER_AT: usize = 0x228;
const INITRD_MAX_AT: usize = 0x22c;
const XLOADFLAGS_AT: usize = 0x236;
/// A setup header that is as long as version 2.12 of the protocol asks for.
const HEADER_END: usize = 0x268;

/// The oldest protocol with a pointer to the command line and a limit for the initrd.
const MIN_VERSION: u16 = 0x203;
/// The protocol that brought `xloadflags`.
const XLOADFLAGS_VERSION: u16 = 0x20c;
const LOADED_HIGH: u8 = 1;
const CAN_USE_HEAP: u8 = 0x80;
const CAN_BE_LOADED_ABOVE_4G: u16 = 2;
const QEMU_LOADER: u8 = 0xb0;
/// What QEMU keeps free for ACPI tables at the end of memory below 4 GiB.
const ACPI_RESERVED: u64 = 0x2_8000;
const PAGE_MASK: u64 = 0xfff;

/// The kernel as QEMU before version 10 gives it to the firmware.
pub fn patched_kernel(
    kernel: &[u8],
    initrd_bytes: u64,
    memory_mib: u64,
) -> Result<Vec<u8>, TdxError> {
    let wrong = |offset, field| TdxError::NoLinuxKernel { offset, field };
    if kernel.len() < HEADER_END {
        return Err(wrong(kernel.len(), "end of the file"));
    }
    if array(kernel, BOOT_FLAG_AT) != Some([0x55, 0xaa]) {
        return Err(wrong(BOOT_FLAG_AT, "boot flag"));
    }
    if array(kernel, MAGIC_AT) != Some(*b"HdrS") {
        return Err(wrong(MAGIC_AT, "magic of the setup header"));
    }
    let version = u16_at(kernel, VERSION_AT)
        .filter(|version| *version >= MIN_VERSION)
        .ok_or(wrong(VERSION_AT, "version of the boot protocol"))?;
    let [flags] = array(kernel, LOADFLAGS_AT).unwrap_or_default();
    // Where QEMU would put the kernel's first part and the command line.
    let (real_mode, cmdline): (u32, u32) = if flags & LOADED_HIGH == 0 {
        (0x9_0000, 0x9_a000)
    } else {
        (0x1_0000, 0x2_0000)
    };
    let initrd = match initrd_bytes {
        0 => None,
        size => Some(initrd_place(kernel, version, size, memory_mib)?),
    };
    let mut patched = kernel.to_vec();
    let mut write = |at: usize, bytes: &[u8]| {
        if let Some(field) = patched.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    write(TYPE_OF_LOADER_AT, &[QEMU_LOADER]);
    write(LOADFLAGS_AT, &[flags | CAN_USE_HEAP]);
    write(HEAP_END_AT, &(cmdline - real_mode - 0x200).to_le_bytes());
    write(CMDLINE_POINTER_AT, &cmdline.to_le_bytes());
    if let Some((address, size)) = initrd {
        write(RAMDISK_IMAGE_AT, &address.to_le_bytes());
        write(RAMDISK_SIZE_AT, &size.to_le_bytes());
    }
    Ok(patched)
}

/// Address and length of the initrd: as high as kernel and memory allow.
fn initrd_place(
    kernel: &[u8],
    version: u16,
    size: u64,
    memory_mib: u64,
) -> Result<(u32, u32), TdxError> {
    let xloadflags = u16_at(kernel, XLOADFLAGS_AT).unwrap_or(0);
    let anywhere = version >= XLOADFLAGS_VERSION && xloadflags & CAN_BE_LOADED_ABOVE_4G != 0;
    let kernel_limit = if anywhere {
        u32::MAX
    } else {
        u32_at(kernel, INITRD_MAX_AT).unwrap_or(0)
    };
    let memory_end = MemorySplit::of(memory_mib)?
        .low
        .saturating_sub(ACPI_RESERVED);
    let mut limit = u64::from(kernel_limit);
    if limit >= memory_end {
        limit = memory_end.saturating_sub(1);
    }
    let too_large = TdxError::InitrdSize { size, memory_mib };
    if size >= limit {
        return Err(too_large);
    }
    let address = (limit - size) & !PAGE_MASK;
    match (u32::try_from(address), u32::try_from(size)) {
        (Ok(address), Ok(size)) => Ok((address, size)),
        _ => Err(too_large),
    }
}
