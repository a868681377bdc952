//! What a verification is told to expect.

use redoubt_evidence::TcbVersion;
use serde::{Deserialize, Serialize};

/// A reference value and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<T, S = &'static str> {
    /// The value.
    pub value: T,
    /// Where it came from, in words.
    pub source: S,
}

/// Values of which one must be seen; none at all means that any value will do
/// and the claim is not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferenceSet<const N: usize> {
    values: Vec<Reference<[u8; N], String>>,
}

impl<const N: usize> ReferenceSet<N> {
    /// A set of one value.
    pub fn one(value: [u8; N], source: impl Into<String>) -> Self {
        let mut set = Self::default();
        set.insert(value, source);
        set
    }

    /// Adds a value.
    pub fn insert(&mut self, value: [u8; N], source: impl Into<String>) {
        self.values.push(Reference {
            value,
            source: source.into(),
        });
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All values.
    pub fn values(&self) -> &[Reference<[u8; N], String>] {
        &self.values
    }

    /// The values for a person; of many, the first few.
    pub(crate) fn in_words(&self) -> String {
        const SHOWN: usize = 4;
        let shown: Vec<String> = self
            .values
            .iter()
            .take(SHOWN)
            .map(|reference| hex::encode(reference.value))
            .collect();
        match self.values.len() {
            1 => shown.concat(),
            count if count <= SHOWN => format!("one of {}", shown.join(", ")),
            count => format!("one of {count} values: {}, ...", shown.join(", ")),
        }
    }
}

/// Which report layouts are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportVersions {
    /// Versions 3 and 5, which identify the CPU.
    #[default]
    Current,
    /// Version 2 as well. Its processor line is taken from the certificate.
    WithVersion2,
}

/// Rules on the guest policy, which the host gives and the hardware enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one bit of the guest policy"
)]
pub struct PolicyRules {
    /// Accept a guest that the host may debug, which means read and change.
    pub allow_debug: bool,
    /// Accept a guest that a migration agent may move.
    pub allow_migration_agent: bool,
    /// Accept a guest that may run with simultaneous multithreading.
    pub allow_smt: bool,
    /// Accept only a guest that must run on one socket.
    pub require_single_socket: bool,
    /// Accept a guest that may be given CXL memory and devices.
    pub allow_cxl: bool,
    /// Accept only a guest whose memory must be encrypted with AES-256-XTS.
    pub require_aes_256_xts: bool,
    /// Accept only a guest that demands that power readings (RAPL) are off.
    pub require_rapl_disabled: bool,
    /// Accept only a guest that demands ciphertext hiding.
    pub require_ciphertext_hiding: bool,
    /// Accept only a guest whose pages the host's swap commands cannot move.
    pub require_page_swap_disabled: bool,
    /// The least firmware ABI (major, minor) that the guest must have asked for.
    pub minimum_abi: Option<(u8, u8)>,
}

impl Default for PolicyRules {
    fn default() -> Self {
        Self {
            allow_debug: false,
            allow_migration_agent: false,
            allow_smt: true,
            require_single_socket: false,
            allow_cxl: false,
            require_aes_256_xts: false,
            require_rapl_disabled: false,
            require_ciphertext_hiding: false,
            require_page_swap_disabled: false,
            minimum_abi: None,
        }
    }
}

/// Rules on the platform, which the firmware describes as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one bit of the platform information"
)]
pub struct PlatformRules {
    /// Accept only a platform whose firmware has looked for memory aliases.
    pub require_alias_check: bool,
    /// Accept only a platform on which simultaneous multithreading is off.
    pub require_smt_disabled: bool,
    /// Accept only a platform with transparent memory encryption.
    pub require_tsme: bool,
    /// Accept only a platform with ECC memory.
    pub require_ecc: bool,
    /// Accept only a platform on which power readings (RAPL) are off.
    pub require_rapl_disabled: bool,
    /// Accept only a platform that hides the ciphertext of guest memory.
    pub require_ciphertext_hiding: bool,
}

/// Minimum versions of the firmware components, compared one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MinimumTcb {
    /// Of the TCB that the signing key is bound to.
    pub reported: Option<TcbVersion>,
    /// Of the TCB that the platform cannot go below.
    pub committed: Option<TcbVersion>,
    /// Of the TCB at the guest's launch.
    pub launch: Option<TcbVersion>,
}

impl MinimumTcb {
    /// The same minimum for all three.
    pub fn all(minimum: TcbVersion) -> Self {
        Self {
            reported: Some(minimum),
            committed: Some(minimum),
            launch: Some(minimum),
        }
    }
}

/// Everything a verification expects of the report.
///
/// The default accepts a release guest at VMPL 0 with any content; its verdict
/// is at best [`crate::State::PartiallyVerified`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectations {
    /// Launch digests, one of which must be seen.
    pub launch_digests: ReferenceSet<48>,
    /// `HOST_DATA` values, one of which must be seen.
    pub host_data: ReferenceSet<32>,
    /// `REPORT_DATA` values, one of which must be seen.
    pub report_data: ReferenceSet<64>,
    /// Chips, one of which must be seen.
    pub chip_ids: ReferenceSet<64>,
    /// Id key digests, one of which must be seen.
    pub id_key_digests: ReferenceSet<48>,
    /// Author key digests, one of which must be seen.
    pub author_key_digests: ReferenceSet<48>,
    /// Report layouts that are accepted.
    pub report_versions: ReportVersions,
    /// Rules on the guest policy.
    pub policy: PolicyRules,
    /// Rules on the platform.
    pub platform: PlatformRules,
    /// Minimum firmware versions.
    pub minimum_tcb: MinimumTcb,
    /// The least security version that the guest's id block must name.
    pub minimum_guest_svn: Option<u32>,
    /// The highest VMPL number accepted; 0 is the most privileged.
    pub maximum_vmpl: u32,
}
