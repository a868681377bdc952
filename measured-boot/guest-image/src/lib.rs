//! Reproducible initrd: newc archive, manifest, module order.
