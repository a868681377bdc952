//! The calls without a safe wrapper that fits.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The largest signal number on Linux.
pub(crate) const MAX_SIGNAL: i32 = 64;

/// Sends a signal, realtime ones included, to the process behind a pidfd.
pub(crate) fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call; a null siginfo asks the kernel
    // to fill it in; the kernel checks the signal number.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What `rt_sigaction` takes on Linux: handler, flags, restorer and mask; all zero is `SIG_DFL`.
type KernelSigaction = [u64; 4];

/// Gives every signal its default effect.
///
/// The C library keeps two realtime signals to itself and leaves one of them ignored in
/// processes that it spawns, which a program would inherit; so the kernel is asked directly.
pub(crate) fn default_signals() {
    let default: KernelSigaction = [0; 4];
    for signal in 1..=MAX_SIGNAL {
        // SAFETY: the new action is readable for the length of the call and has the kernel's
        // layout for 64-bit machines; no old action is asked for; the mask has eight bytes. The
        // call changes no memory of this process. It fails for SIGKILL and SIGSTOP alone, which
        // have no other effect.
        let _ = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<KernelSigaction>(),
                size_of::<u64>(),
            )
        };
    }
}

/// Opens the other end of a pseudo-terminal, whatever mount namespace it belongs to.
pub(crate) fn terminal_peer(master: impl AsFd) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags by value and returns a new descriptor or -1.
    let fd = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets tokio tell when a descriptor is ready. Needs a tokio runtime.
pub(crate) fn watch_fd(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and always the same descriptor until it is dropped. The
    // `AsyncFd` owns it, and nothing in this crate takes a mutable reference out of one.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
