//! The sandbox: QEMU life cycle, host network, console and cleanup.
