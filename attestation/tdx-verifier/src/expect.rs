//! What a verification of a quote is told to expect.

use redoubt_verifier::{ReferenceSet, ReferenceValues};

use redoubt_evidence::tdx::TdxQuote;

use crate::status::TcbStatus;

/// Rules on the TD's attributes, which the host gives and the TDX module enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeRules {
    /// Accept a TD that the host may debug or profile, which means read and change.
    pub allow_debug: bool,
    /// Accept a TD to which service TDs are bound.
    pub allow_service_td: bool,
    /// Accept a TD that may use performance monitoring.
    pub allow_performance_monitoring: bool,
}

impl Default for AttributeRules {
    fn default() -> Self {
        Self {
            allow_debug: false,
            allow_service_td: false,
            allow_performance_monitoring: true,
        }
    }
}

/// Rules on what Intel says of the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcbRules {
    /// Statuses that are accepted; [`TcbStatus::Revoked`] never is.
    pub statuses: Vec<TcbStatus>,
    /// Advisories that must not apply.
    pub rejected_advisories: Vec<String>,
    /// The least evaluation data number of the collateral.
    pub minimum_evaluation: Option<u32>,
}

impl Default for TcbRules {
    fn default() -> Self {
        Self {
            statuses: vec![TcbStatus::UpToDate],
            rejected_advisories: Vec::new(),
            minimum_evaluation: None,
        }
    }
}

/// Rules on the platform flags of the PCK certificate; one that the certificate
/// does not say counts as not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlatformFlagRules {
    /// Refuse platforms to which packages can be added.
    pub forbid_dynamic: bool,
    /// Refuse platforms whose keys Intel's registration service keeps.
    pub forbid_cached_keys: bool,
    /// Refuse platforms with simultaneous multithreading.
    pub forbid_smt: bool,
}

/// Everything a verification expects of a quote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TdxExpectations {
    /// MRTD values, one of which must be seen.
    pub mrtd: ReferenceSet<48>,
    /// Values of RTMR0 to RTMR3, one of which must be seen in each.
    pub rtmrs: [ReferenceSet<48>; 4],
    /// MRCONFIGID values, one of which must be seen.
    pub mr_config_id: ReferenceSet<48>,
    /// MROWNER values, one of which must be seen.
    pub mr_owner: ReferenceSet<48>,
    /// MROWNERCONFIG values, one of which must be seen.
    pub mr_owner_config: ReferenceSet<48>,
    /// Measurements of the TDX module, one of which must be seen.
    pub mr_seam: ReferenceSet<48>,
    /// Extended features, one set of which must be seen; 8 bytes, little-endian.
    pub xfam: ReferenceSet<8>,
    /// `REPORT_DATA` values, one of which must be seen.
    pub report_data: ReferenceSet<64>,
    /// Platform instance ids, one of which must be seen.
    pub platform_ids: ReferenceSet<16>,
    /// Rules on attributes.
    pub attributes: AttributeRules,
    /// Rules on the TCB.
    pub tcb: TcbRules,
    /// Rules on the platform.
    pub platform: PlatformFlagRules,
}

impl TdxExpectations {
    /// Adds what reference values say about a quote to what is expected of it.
    ///
    /// Every MRTD is accepted. RTMRs and MRCONFIGID are expected as the values
    /// with the quote's MRTD have them; one that any of these leaves open stays
    /// open. RTMRs are judged one by one: values of different launches with one
    /// MRTD can mix.
    pub fn apply(&mut self, values: &ReferenceValues, quote: &TdxQuote) {
        for value in &values.tdx {
            self.mrtd.insert(value.mrtd, value.source.clone());
        }
        let of_this_launch: Vec<_> = values
            .tdx
            .iter()
            .filter(|value| value.mrtd == quote.report().mr_td)
            .collect();
        let collect =
            |member: &dyn Fn(&redoubt_verifier::TdxReferenceValue) -> Option<[u8; 48]>| {
                let mut set = ReferenceSet::default();
                for value in &of_this_launch {
                    match member(value) {
                        Some(digest) => set.insert(digest, value.source.clone()),
                        None => return ReferenceSet::default(),
                    }
                }
                set
            };
        for (index, set) in self.rtmrs.iter_mut().enumerate() {
            if set.is_empty() {
                *set = collect(&|value| value.rtmrs.get(index).copied().flatten());
            }
        }
        if self.mr_config_id.is_empty() {
            self.mr_config_id = collect(&|value| value.mr_config_id);
        }
    }
}
