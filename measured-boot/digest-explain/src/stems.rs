//! The inputs of a launch less its vCPUs, and what may have been in their place.

use redoubt_firmware::Firmware;
use redoubt_launch_digest::{CpuSignature, KernelHashes};

use crate::cmdline::{Variant, double_edits, single_edits};
use crate::difference::Difference;

/// SHA-256 of no initrd.
const NO_INITRD: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Something with the name under which people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<T> {
    /// The name, such as a file's path.
    pub name: String,
    /// What it names.
    pub value: T,
}

/// What the firmware boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// SHA-256 of the kernel.
    pub kernel: [u8; 32],
    /// SHA-256 of the initrd; of nothing if there is none.
    pub initrd: [u8; 32],
    /// The command line.
    pub cmdline: String,
}

impl Boot {
    fn hashes(&self) -> KernelHashes {
        KernelHashes::from_digests(self.kernel, self.initrd, &self.cmdline)
    }
}

/// The inputs that somebody believes in.
#[derive(Clone, Debug)]
pub struct SnpInputs<'a> {
    /// The firmware.
    pub firmware: &'a Firmware,
    /// What it boots; `None` where only the firmware is measured.
    pub boot: Option<Boot>,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// The CPU model.
    pub cpu: Named<CpuSignature>,
    /// `SEV_FEATURES` of the vCPUs.
    pub guest_features: u64,
}

/// What may have been launched in place of the inputs.
#[derive(Clone, Debug, Default)]
pub struct Candidates<'a> {
    /// Other firmware images.
    pub firmwares: Vec<Named<&'a Firmware>>,
    /// SHA-256 of other kernels.
    pub kernels: Vec<Named<[u8; 32]>>,
    /// SHA-256 of other initrds.
    pub initrds: Vec<Named<[u8; 32]>>,
    /// Kernel parameters beside those that are always tried.
    pub parameters: Vec<String>,
}

/// One choice of everything but the vCPUs.
#[derive(Clone, Debug)]
pub(crate) struct Stem {
    /// Index into the firmwares: 0 is that of the inputs.
    pub(crate) firmware: usize,
    pub(crate) hashes: Option<KernelHashes>,
    pub(crate) differences: Vec<Difference>,
}

/// All choices, those with the fewest differences first.
pub(crate) fn stems(inputs: &SnpInputs<'_>, candidates: &Candidates<'_>) -> Vec<Stem> {
    let mut stems = Vec::new();
    for (firmware, changed) in firmwares(candidates) {
        match &inputs.boot {
            Some(boot) => boots(firmware, &changed, boot, candidates, &mut stems),
            None => stems.push(Stem {
                firmware,
                hashes: None,
                differences: changed,
            }),
        }
    }
    stems.sort_by_key(|stem| stem.differences.len());
    stems
}

fn firmwares(candidates: &Candidates<'_>) -> Vec<(usize, Vec<Difference>)> {
    let others = candidates.firmwares.iter().enumerate();
    let others =
        others.map(|(index, other)| (index + 1, vec![Difference::Firmware(other.name.clone())]));
    std::iter::once((0, Vec::new())).chain(others).collect()
}

fn boots(
    firmware: usize,
    changed: &[Difference],
    boot: &Boot,
    candidates: &Candidates<'_>,
    stems: &mut Vec<Stem>,
) {
    let mut push = |hashes, more: &[Difference]| {
        stems.push(Stem {
            firmware,
            hashes,
            differences: [changed, more].concat(),
        });
    };
    push(None, &[Difference::NoKernelHashes]);
    for (files, of_files) in files(boot, candidates) {
        push(Some(files.hashes()), &of_files);
        // More differences than these are no explanation, and many combinations.
        let variants = match changed.len() + of_files.len() {
            0 => {
                let mut variants = single_edits(&boot.cmdline, &candidates.parameters);
                variants.extend(double_edits(&boot.cmdline, &candidates.parameters));
                variants
            }
            1 => single_edits(&boot.cmdline, &candidates.parameters),
            _ => Vec::new(),
        };
        for Variant {
            cmdline,
            differences,
        } in variants
        {
            let hashes = KernelHashes::from_digests(files.kernel, files.initrd, &cmdline);
            push(Some(hashes), &[&of_files[..], &differences].concat());
        }
    }
}

/// The kernel with the initrd, each as in the inputs or one of the candidates.
fn files(boot: &Boot, candidates: &Candidates<'_>) -> Vec<(Boot, Vec<Difference>)> {
    let mut kernels = vec![(boot.kernel, Vec::new())];
    kernels.extend(candidates.kernels.iter().map(|kernel| {
        let difference = Difference::Kernel(kernel.name.clone());
        (kernel.value, vec![difference])
    }));
    let mut initrds = vec![(boot.initrd, Vec::new())];
    initrds.extend(candidates.initrds.iter().map(|initrd| {
        let difference = Difference::Initrd(initrd.name.clone());
        (initrd.value, vec![difference])
    }));
    if boot.initrd != NO_INITRD {
        initrds.push((NO_INITRD, vec![Difference::NoInitrd]));
    }
    let mut files = Vec::new();
    for (kernel, of_kernel) in &kernels {
        for (initrd, of_initrd) in &initrds {
            let boot = Boot {
                kernel: *kernel,
                initrd: *initrd,
                cmdline: boot.cmdline.clone(),
            };
            files.push((boot, [&of_kernel[..], of_initrd].concat()));
        }
    }
    files
}
