//! The containerd shim: sandbox lifecycle, QEMU, host networking.

fn main() {}
