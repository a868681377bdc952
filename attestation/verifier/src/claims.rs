//! Claims: while they are collected, and in their typed form for a policy.

use redoubt_evidence::{SnpEvidence, TcbVersion};
use serde::Serialize;
use serde_json::Value;

use crate::expect::ReferenceSet;
use crate::name::ClaimName;
use crate::verdict::{Claim, State, Status, Verdict};

/// Collects claims in the order of checking.
#[derive(Clone, Debug, Default)]
pub struct ClaimList(Vec<Claim>);

impl ClaimList {
    /// Records a claim that was checked.
    pub fn check(
        &mut self,
        name: ClaimName,
        expected: String,
        seen: String,
        source: &str,
        good: bool,
    ) {
        let status = if good { Status::Passed } else { Status::Failed };
        self.0.push(Claim {
            name,
            expected,
            seen,
            source: source.to_owned(),
            status,
        });
    }

    /// Records a claim that could not be checked.
    pub fn unchecked(&mut self, name: ClaimName, expected: &str) {
        self.unchecked_seen(name, expected, "not looked at".to_owned());
    }

    /// Records a claim that nobody has an expectation for.
    pub fn unchecked_seen(&mut self, name: ClaimName, expected: &str, seen: String) {
        self.0.push(Claim {
            name,
            expected: expected.to_owned(),
            seen,
            source: "none".to_owned(),
            status: Status::NotChecked,
        });
    }

    /// Records whether one of the reference values is seen; without any, the
    /// claim is not checked.
    pub fn check_set<const N: usize>(
        &mut self,
        name: ClaimName,
        references: &ReferenceSet<N>,
        seen: &[u8; N],
    ) {
        if references.is_empty() {
            self.unchecked_seen(name, "no value given", hex::encode(seen));
            return;
        }
        let matching = references
            .values()
            .iter()
            .find(|reference| reference.value == *seen);
        let source = matching.map_or("reference values", |reference| &reference.source);
        self.check(
            name,
            references.in_words(),
            hex::encode(seen),
            source,
            matching.is_some(),
        );
    }

    /// The claims, in the order of checking.
    pub fn into_claims(self) -> Vec<Claim> {
        self.0
    }
}

/// The report's content as typed values, and the verdict on it, for a policy.
///
/// Names are those that Trustee's policies use where it has one; byte strings
/// are lower-case hexadecimal, versions are numbers, bits are booleans. A policy
/// must look at [`SnpClaims::verdict`] before it believes anything else here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one bit of the report"
)]
pub struct SnpClaims {
    /// The verdict's state.
    pub verdict: State,
    /// The names of the claims that passed.
    pub passed: Vec<ClaimName>,
    /// The names of the claims that failed.
    pub failed: Vec<ClaimName>,
    /// Whether the chain ends in a simulated root.
    pub simulated: bool,
    /// The report's layout version.
    pub report_version: u32,
    /// The processor line, where known.
    pub product: Option<&'static str>,
    /// The launch digest.
    pub measurement: String,
    /// `REPORT_DATA`.
    pub report_data: String,
    /// `HOST_DATA`, which carries the initdata digest.
    pub init_data: String,
    /// The chip's id.
    pub chip_id: String,
    /// The guest's id.
    pub report_id: String,
    /// SHA-384 of the id key.
    pub id_key_digest: String,
    /// SHA-384 of the author key.
    pub author_key_digest: String,
    /// Family id of the id block.
    pub family_id: String,
    /// Image id of the id block.
    pub image_id: String,
    /// The guest's security version of the id block.
    pub guest_svn: u32,
    /// The VMPL that asked.
    pub vmpl: u32,
    /// The key that signed: `VCEK` or `VLEK`.
    pub signing_key: String,
    /// The least firmware ABI, major.
    pub policy_abi_major: u8,
    /// The least firmware ABI, minor.
    pub policy_abi_minor: u8,
    /// The policy allows simultaneous multithreading.
    pub policy_smt_allowed: bool,
    /// The policy allows a migration agent.
    pub policy_migrate_ma: bool,
    /// The policy allows debugging.
    pub policy_debug_allowed: bool,
    /// The policy requires a single socket.
    pub policy_single_socket: bool,
    /// The policy requires ciphertext hiding.
    pub policy_ciphertext_hiding: bool,
    /// Simultaneous multithreading is on.
    pub platform_smt_enabled: bool,
    /// Transparent memory encryption is on.
    pub platform_tsme_enabled: bool,
    /// ECC memory is used.
    pub platform_ecc_enabled: bool,
    /// Running average power limiting is off.
    pub platform_rapl_disabled: bool,
    /// Ciphertext hiding is on.
    pub platform_ciphertext_hiding_enabled: bool,
    /// The alias check is complete.
    pub platform_alias_check_complete: bool,
    /// The TCB of the signing key.
    #[serde(flatten, serialize_with = "reported")]
    pub reported_tcb: TcbVersion,
    /// The TCB that the platform cannot go below.
    pub committed_tcb: TcbVersion,
    /// The TCB at launch.
    pub launch_tcb: TcbVersion,
    /// The TCB now running.
    pub current_tcb: TcbVersion,
}

/// Writes the reported TCB as Trustee does, one member per component.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn reported<S: serde::Serializer>(tcb: &TcbVersion, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap as _;
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("reported_tcb_bootloader", &tcb.bootloader)?;
    map.serialize_entry("reported_tcb_tee", &tcb.tee)?;
    map.serialize_entry("reported_tcb_snp", &tcb.snp)?;
    map.serialize_entry("reported_tcb_microcode", &tcb.microcode)?;
    if let Some(fmc) = tcb.fmc {
        map.serialize_entry("reported_tcb_fmc", &fmc)?;
    }
    map.end()
}

impl SnpClaims {
    /// The claims of evidence and the verdict on it.
    pub fn of(evidence: &SnpEvidence, verdict: &Verdict) -> Self {
        let report = &evidence.report;
        let (policy, platform) = (report.policy(), report.platform_info());
        let names = |status: Status| {
            let chosen = verdict
                .claims
                .iter()
                .filter(move |claim| claim.status == status);
            chosen.map(|claim| claim.name).collect()
        };
        Self {
            verdict: verdict.state,
            passed: names(Status::Passed),
            failed: names(Status::Failed),
            simulated: verdict.simulated,
            report_version: report.version().number(),
            product: report.product().map(redoubt_evidence::Product::name),
            measurement: hex::encode(report.launch_digest()),
            report_data: hex::encode(report.report_data()),
            init_data: hex::encode(report.host_data()),
            chip_id: hex::encode(report.chip_id()),
            report_id: hex::encode(report.report_id()),
            id_key_digest: hex::encode(report.id_key_digest()),
            author_key_digest: hex::encode(report.author_key_digest()),
            family_id: hex::encode(report.raw().family_id),
            image_id: hex::encode(report.raw().image_id),
            guest_svn: report.guest_svn(),
            vmpl: report.vmpl(),
            signing_key: report.key_info().signing_key().to_string(),
            policy_abi_major: policy.abi_major(),
            policy_abi_minor: policy.abi_minor(),
            policy_smt_allowed: policy.smt_allowed(),
            policy_migrate_ma: policy.migration_agent_allowed(),
            policy_debug_allowed: policy.debug_allowed(),
            policy_single_socket: policy.single_socket_required(),
            policy_ciphertext_hiding: policy.ciphertext_hiding_required(),
            platform_smt_enabled: platform.smt_enabled(),
            platform_tsme_enabled: platform.tsme_enabled(),
            platform_ecc_enabled: platform.ecc_enabled(),
            platform_rapl_disabled: platform.rapl_disabled(),
            platform_ciphertext_hiding_enabled: platform.ciphertext_hiding_enabled(),
            platform_alias_check_complete: platform.alias_check_complete(),
            reported_tcb: report.reported_tcb(),
            committed_tcb: report.committed_tcb(),
            launch_tcb: report.launch_tcb(),
            current_tcb: report.current_tcb(),
        }
    }

    /// The claims as JSON for a policy engine.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }
}
