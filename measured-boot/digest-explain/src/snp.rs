//! The search around the launch digest of SEV-SNP.

use redoubt_launch_digest::{
    CPU_MODELS, CpuSignature, DigestError, FirmwareChain, LaunchChain, LaunchDigest,
};

use crate::cmdline::KNOWN_PARAMETERS;
use crate::difference::{Difference, Match};
use crate::stems::{Candidates, Named, SnpInputs, Stem, stems};

/// Guests are tried with 1 to this number of vCPUs.
pub const MAX_VCPUS_TRIED: u32 = 64;
/// What KVM enables by version and host: SNP, and with it `DebugSwap`, `ReflectVC` or Secure TSC.
const GUEST_FEATURES: [u64; 6] = [0x1, 0x21, 0x5, 0x25, 0x201, 0x221];
/// The most combinations of files and command lines, which bounds the time to some seconds.
const MAX_STEMS: usize = 4000;

/// What was found, and what was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The digest of the inputs as they are.
    pub computed: LaunchDigest,
    /// For each digest in question the nearest inputs that give it.
    pub matches: Vec<Option<Match>>,
    /// What the digests in question were compared with.
    pub tried: Tried,
}

/// What the digests in question were compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Guests of 1 to this number of vCPUs.
    pub max_vcpus: u32,
    /// CPU models, one for each signature.
    pub cpus: Vec<Named<CpuSignature>>,
    /// Guest features.
    pub guest_features: Vec<u64>,
    /// Kernel parameters that were added, or took the place of others of their name.
    pub parameters: Vec<String>,
    /// Combinations of firmware, kernel, initrd and command line.
    pub combinations: usize,
    /// True when there were more combinations than are tried.
    pub cut_off: bool,
    /// Candidates for firmware, kernel and initrd by name.
    pub candidates: Vec<String>,
    /// Digests that were computed.
    pub digests: u64,
}

/// Searches the neighbourhood of the inputs for digests.
///
/// Fails where the inputs themselves cannot be measured. The answer for each
/// digest is the one with the fewest differences.
pub fn explain_snp(
    digests: &[LaunchDigest],
    inputs: &SnpInputs<'_>,
    candidates: &Candidates<'_>,
) -> Result<Explanation, DigestError> {
    let mut search = Search::new(digests, inputs, candidates);
    let firmwares: Vec<FirmwareChain<_>> = std::iter::once(inputs.firmware)
        .chain(candidates.firmwares.iter().map(|named| named.value))
        .map(FirmwareChain::new)
        .collect();
    let hashes = inputs.boot.as_ref().map(|boot| {
        redoubt_launch_digest::KernelHashes::from_digests(boot.kernel, boot.initrd, &boot.cmdline)
    });
    let computed = LaunchChain::new(inputs.firmware, hashes.as_ref())?.with_vcpus(
        inputs.vcpus,
        inputs.cpu.value,
        inputs.guest_features,
    )?;
    let mut stems = stems(inputs, candidates);
    search.tried.cut_off = stems.len() > MAX_STEMS;
    stems.truncate(MAX_STEMS);
    for stem in &stems {
        if search.is_over(stem.differences.len()) {
            break;
        }
        search.tried.combinations += 1;
        // A candidate that cannot be launched matches nothing.
        if let Some(firmware) = firmwares.get(stem.firmware)
            && let Ok(chain) = firmware.launch(stem.hashes.as_ref())
        {
            search.walk(stem, &chain);
        }
    }
    Ok(Explanation {
        computed,
        matches: search.matches,
        tried: search.tried,
    })
}

struct Search<'a> {
    digests: &'a [LaunchDigest],
    inputs: &'a SnpInputs<'a>,
    matches: Vec<Option<Match>>,
    tried: Tried,
}

impl<'a> Search<'a> {
    fn new(
        digests: &'a [LaunchDigest],
        inputs: &'a SnpInputs<'a>,
        candidates: &Candidates<'_>,
    ) -> Self {
        let mut guest_features = vec![inputs.guest_features];
        guest_features.extend(GUEST_FEATURES);
        dedup(&mut guest_features);
        let named = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>();
        Self {
            digests,
            inputs,
            matches: vec![None; digests.len()],
            tried: Tried {
                max_vcpus: MAX_VCPUS_TRIED.max(inputs.vcpus),
                cpus: cpus(&inputs.cpu),
                guest_features,
                parameters: candidates
                    .parameters
                    .iter()
                    .map(String::as_str)
                    .chain(KNOWN_PARAMETERS.iter().copied())
                    .map(str::to_owned)
                    .collect(),
                combinations: 0,
                cut_off: false,
                candidates: [
                    named(candidates.firmwares.iter().map(|c| &c.name).collect()),
                    named(candidates.kernels.iter().map(|c| &c.name).collect()),
                    named(candidates.initrds.iter().map(|c| &c.name).collect()),
                ]
                .concat(),
                digests: 0,
            },
        }
    }

    /// True when no stem of that many differences can improve anything.
    fn is_over(&self, differences: usize) -> bool {
        self.matches.iter().all(|found| {
            found
                .as_ref()
                .is_some_and(|found| found.differences.len() <= differences)
        })
    }

    /// Tries all vCPUs on top of one choice of firmware, files and command line.
    fn walk(&mut self, stem: &Stem, chain: &LaunchChain) {
        // Two differences and other features, too, are no explanation any more.
        let features = if stem.differences.len() < 2 {
            self.tried.guest_features.clone()
        } else {
            vec![self.inputs.guest_features]
        };
        let cpus = self.tried.cpus.clone();
        for features in features {
            for cpu in &cpus {
                let all = 1..=self.tried.max_vcpus;
                let found = chain
                    .with_each(all, cpu.value, features)
                    // Without a reset block only guests of one vCPU start.
                    .or_else(|_| chain.with_each(1..=1, cpu.value, features));
                for (digest, vcpus) in found.unwrap_or_default().iter().zip(1..) {
                    self.compare(digest, stem, vcpus, cpu, features);
                }
            }
        }
    }

    fn compare(
        &mut self,
        digest: &LaunchDigest,
        stem: &Stem,
        vcpus: u32,
        cpu: &Named<CpuSignature>,
        features: u64,
    ) {
        self.tried.digests += 1;
        for (wanted, found) in self.digests.iter().zip(&mut self.matches) {
            if wanted != digest {
                continue;
            }
            let mut differences = stem.differences.clone();
            if vcpus != self.inputs.vcpus {
                differences.push(Difference::Vcpus(vcpus));
            }
            if cpu.value != self.inputs.cpu.value {
                differences.push(Difference::Cpu {
                    model: cpu.name.clone(),
                    signature: cpu.value,
                });
            }
            if features != self.inputs.guest_features {
                differences.push(Difference::GuestFeatures(features));
            }
            let better = found
                .as_ref()
                .is_none_or(|best| differences.len() < best.differences.len());
            if better {
                *found = Some(Match { differences });
            }
        }
    }
}

/// The CPU of the inputs, then one model for every other signature that a host of SEV-SNP can have.
fn cpus(own: &Named<CpuSignature>) -> Vec<Named<CpuSignature>> {
    let mut cpus = vec![own.clone()];
    for model in CPU_MODELS
        .iter()
        .filter(|model| model.name.starts_with("EPYC"))
    {
        if cpus.iter().all(|cpu| cpu.value != model.signature) {
            cpus.push(Named {
                name: model.name.to_owned(),
                value: model.signature,
            });
        }
    }
    cpus
}

fn dedup(features: &mut Vec<u64>) {
    let mut seen = Vec::new();
    features.retain(|feature| {
        let new = !seen.contains(feature);
        seen.push(*feature);
        new
    });
}
