//! Reads the footer GUID table and SEV metadata of a firmware, and measures what it says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_firmware::Firmware;
use redoubt_launch_digest::{
    CpuSignature, DEFAULT_GUEST_FEATURES, KernelHashes, SnpLaunch, snp_launch_digest,
};

fuzz_target!(|data: &[u8]| {
    let Ok(firmware) = Firmware::parse(data) else {
        return;
    };
    let _ = firmware.capabilities();
    let Ok(cpu) = "EPYC-v4".parse::<CpuSignature>() else {
        return;
    };
    let _ = snp_launch_digest(&SnpLaunch {
        firmware: &firmware,
        kernel_hashes: Some(KernelHashes::of(b"kernel", b"initrd", "console=ttyS0")),
        vcpus: 2,
        cpu,
        guest_features: DEFAULT_GUEST_FEATURES,
    });
});
