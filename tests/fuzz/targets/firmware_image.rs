//! Reads the footer GUID table and SEV metadata of a firmware, and measures what it says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_firmware::Firmware;
use redoubt_launch_digest::{
    CpuSignature, DEFAULT_GUEST_FEATURES, FirmwareChain, KernelHashes, Svsm, Vmm,
    sev_es_launch_digests, sev_launch_digest,
};

fuzz_target!(|data: &[u8]| {
    let Ok(firmware) = Firmware::parse(data) else {
        return;
    };
    let _ = firmware.capabilities();
    let cpu = CpuSignature(0x80_0f12);
    let hashes = KernelHashes::of(b"kernel", b"initrd", "console=ttyS0");
    let chain = FirmwareChain::new(&firmware);
    for vmm in Vmm::ALL {
        if let Ok(launch) = chain.launch_by(vmm, Some(&hashes)) {
            let _ = launch.with_each(1..=2, cpu, DEFAULT_GUEST_FEATURES);
        }
    }
    let _ = sev_launch_digest(&firmware, Some(&hashes));
    let _ = sev_es_launch_digests(&firmware, Some(&hashes), 1..=2, cpu);
    if let Ok(svsm) = Svsm::new(firmware.clone(), 0x8_4000)
        && let Ok(launch) = chain.launch_with_svsm(&svsm)
    {
        let _ = launch.with_vcpus(2, cpu, DEFAULT_GUEST_FEATURES);
    }
});
