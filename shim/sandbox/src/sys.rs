//! The kernel interfaces without a safe wrapper: all `unsafe` of this crate.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cgroup;

use nix::libc::{c_int, ifreq};

/// `KVM_GET_API_VERSION` has answered 12 since Linux 2.6.22.
const KVM_API_VERSION: c_int = 12;

nix::ioctl_write_int_bad!(
    /// `_IO(KVMIO, 0x00)`
    kvm_get_api_version,
    nix::request_code_none!(0xAE, 0x00)
);
nix::ioctl_write_int_bad!(
    /// `_IO(KVMIO, 0x01)`
    kvm_create_vm,
    nix::request_code_none!(0xAE, 0x01)
);
nix::ioctl_write_int_bad!(
    /// `_IO(KVMIO, 0x41)`
    kvm_create_vcpu,
    nix::request_code_none!(0xAE, 0x41)
);
nix::ioctl_write_ptr_bad!(
    /// `_IOW('T', 202, int)`
    tun_set_iff,
    nix::request_code_write!(b'T', 202, size_of::<c_int>()),
    ifreq
);
nix::ioctl_write_ptr!(
    /// `_IOW(VHOST_VIRTIO, 0x60, __u64)`
    vhost_vsock_set_guest_cid,
    0xAF,
    0x60,
    u64
);

/// Creates a virtual machine with one virtual CPU and throws it away.
///
/// `/dev/kvm` may exist and open where the processor, or the hypervisor below
/// it, cannot run a guest; the node alone says nothing.
pub(crate) fn try_kvm(kvm: &File) -> io::Result<()> {
    // SAFETY: the request takes no argument and changes nothing.
    let version = unsafe { kvm_get_api_version(kvm.as_raw_fd(), 0) }?;
    if version != KVM_API_VERSION {
        return Err(io::Error::other(format!("KVM API version {version}")));
    }
    // SAFETY: the argument is a machine type; the answer is a new descriptor, taken over below.
    let vm = unsafe { kvm_create_vm(kvm.as_raw_fd(), 0) }?;
    // SAFETY: the kernel has just returned this descriptor and nothing else owns it.
    let vm = unsafe { OwnedFd::from_raw_fd(vm) };
    // SAFETY: the argument is a virtual CPU's number; the answer is a new descriptor.
    let vcpu = unsafe { kvm_create_vcpu(vm.as_raw_fd(), 0) }?;
    // SAFETY: as above, nothing else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(vcpu) });
    Ok(())
}

/// EBX of CPUID leaf `Fn8000_001F`, the encrypted memory capabilities (AMD APM volume 3,
/// appendix E.4.17); `None` where the processor has no such leaf.
#[cfg(target_arch = "x86_64")]
pub(crate) fn memory_encryption_ebx() -> Option<u32> {
    use core::arch::x86_64::__cpuid;
    const MAX_EXTENDED: u32 = 0x8000_0000;
    const MEMORY_ENCRYPTION: u32 = 0x8000_001f;
    #[allow(unused_unsafe, reason = "safe to call in newer compilers only")]
    // SAFETY: every x86-64 processor has the CPUID instruction.
    let max = unsafe { __cpuid(MAX_EXTENDED) }.eax;
    if max < MEMORY_ENCRYPTION {
        return None;
    }
    #[allow(unused_unsafe, reason = "safe to call in newer compilers only")]
    // SAFETY: as above; the leaf exists.
    let capabilities = unsafe { __cpuid(MEMORY_ENCRYPTION) };
    Some(capabilities.ebx)
}

/// There is no SEV on other processors.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn memory_encryption_ebx() -> Option<u32> {
    None
}

/// Attaches `tun`, an open `/dev/net/tun`, to the tap device `name` in the thread's network
/// namespace. The device is created unless it exists and ends with its last descriptor.
pub(crate) fn attach_tap(tun: &File, name: &str, multi_queue: bool) -> io::Result<()> {
    // SAFETY: all zeroes is a valid `ifreq`.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = i8::try_from(byte).map_err(|_| io::ErrorKind::InvalidInput)?;
    }
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
    if multi_queue {
        flags = (flags & !libc::IFF_TUN_EXCL) | libc::IFF_MULTI_QUEUE;
    }
    // IFF_TUN_EXCL is the sign bit of the 16-bit field.
    request.ifr_ifru.ifru_flags = i16::from_ne_bytes(
        u16::try_from(flags)
            .map_err(|_| io::ErrorKind::InvalidInput)?
            .to_ne_bytes(),
    );
    // SAFETY: `request` is a valid `ifreq` for the duration of the call, and `tun` is open.
    unsafe { tun_set_iff(tun.as_raw_fd(), &raw const request) }?;
    Ok(())
}

/// Gives an open `/dev/vhost-vsock` its context id; `EADDRINUSE` when another guest has it.
pub(crate) fn set_guest_cid(vhost_vsock: &File, cid: u32) -> nix::Result<()> {
    let cid = u64::from(cid);
    // SAFETY: the pointer is to a live u64, as the request wants; the descriptor is open.
    unsafe { vhost_vsock_set_guest_cid(vhost_vsock.as_raw_fd(), &raw const cid) }?;
    Ok(())
}

/// The network namespace that a child process runs in.
#[derive(Debug)]
pub(crate) enum ChildNetwork {
    /// The one of the parent.
    Inherited,
    /// An existing one.
    Joined(OwnedFd),
    /// A new one, in which nothing is up.
    Fresh,
}

/// Writes a few bytes with one system call; for a forked child, which may do little else.
pub(crate) fn write_to(file: &File, bytes: &[u8]) {
    let _ = nix::unistd::write(file, bytes);
}

/// Makes a child die with the thread that starts it, and moves it into control groups and a
/// network namespace.
pub(crate) fn prepare_child(command: &mut Command, network: ChildNetwork, cgroups: Vec<File>) {
    let parent = nix::unistd::getpid();
    let hook = move || {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        if nix::unistd::getppid() != parent {
            // The parent died before the signal was armed.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        cgroup::join(&cgroups);
        match &network {
            ChildNetwork::Inherited => {}
            ChildNetwork::Joined(fd) => {
                nix::sched::setns(fd, nix::sched::CloneFlags::CLONE_NEWNET)?;
            }
            ChildNetwork::Fresh => nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?,
        }
        Ok(())
    };
    // SAFETY: between fork and exec the hook makes system calls only; it neither
    // allocates nor takes a lock.
    unsafe { command.pre_exec(hook) };
}
