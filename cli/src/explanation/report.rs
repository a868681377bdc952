//! What a guest reported beside the digest, and what the inputs let expect.

use std::path::Path;

use redoubt_evidence::tdx::TdxQuote;
use redoubt_evidence::{Evidence, SnpReport};

use crate::failure::{CliError, Failure};
use crate::files;
use crate::text::Text;

/// What a report says beside the digest, and what the inputs let expect.
#[derive(Debug)]
pub(crate) struct Reported {
    /// The field that carries the digest of initdata.
    initdata_field: &'static str,
    initdata: Vec<u8>,
    expected_initdata: Option<Vec<u8>>,
    /// The field that carries what the host may do.
    policy_field: &'static str,
    policy: u64,
    expected_policy: Option<u64>,
    /// Whether the host may look into the guest.
    pub(crate) debug: bool,
}

/// Reads a report as the CPU gives it, or the evidence that carries it to the key broker.
pub(crate) fn snp(path: &Path) -> Result<SnpReport, Failure> {
    let bytes = files::read(path)?;
    if !is_json(&bytes) {
        return Ok(SnpReport::parse(&bytes)?);
    }
    match Evidence::parse_kbs_json(&bytes)? {
        Evidence::Snp(evidence) => Ok(evidence.report),
        Evidence::Tdx(_) => Err(other_tee(path, "SEV-SNP")),
    }
}

/// Reads a quote, or the evidence that carries it to the key broker.
pub(crate) fn tdx(path: &Path) -> Result<TdxQuote, Failure> {
    let bytes = files::read(path)?;
    if !is_json(&bytes) {
        return Ok(TdxQuote::parse(&bytes)?);
    }
    match Evidence::parse_kbs_json(&bytes)? {
        Evidence::Tdx(evidence) => Ok(evidence.quote),
        Evidence::Snp(_) => Err(other_tee(path, "TDX")),
    }
}

fn is_json(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{")
}

fn other_tee(path: &Path, expected: &'static str) -> Failure {
    let path = path.to_owned();
    CliError::OtherTee { path, expected }.into()
}

impl Reported {
    /// What a report of SEV-SNP says.
    pub(crate) fn snp(
        report: &SnpReport,
        expected_host_data: Option<[u8; 32]>,
        expected_policy: Option<u64>,
    ) -> Self {
        Self {
            initdata_field: "HOST_DATA",
            initdata: report.host_data().to_vec(),
            expected_initdata: expected_host_data.map(Vec::from),
            policy_field: "Guest policy",
            policy: report.policy().0,
            expected_policy,
            debug: report.policy().debug_allowed(),
        }
    }

    /// What a quote of TDX says.
    pub(crate) fn tdx(quote: &TdxQuote, expected_config_id: Option<[u8; 48]>) -> Self {
        Self {
            initdata_field: "MRCONFIGID",
            initdata: quote.report().mr_config_id.to_vec(),
            expected_initdata: expected_config_id.map(Vec::from),
            policy_field: "TD attributes",
            policy: quote.attributes().0,
            expected_policy: None,
            debug: quote.attributes().debug(),
        }
    }

    /// Whether the guest was launched with other initdata; `None` where none is known.
    pub(crate) fn initdata_differs(&self) -> Option<bool> {
        let expected = self.expected_initdata.as_ref()?;
        Some(*expected != self.initdata)
    }

    pub(crate) fn write(&self, text: &mut Text) {
        text.heading(self.initdata_field);
        text.line(format_args!("  reported  {}", hex::encode(&self.initdata)));
        match &self.expected_initdata {
            None => text.line(format_args!("  Not compared: give --initdata.")),
            Some(expected) if *expected == self.initdata => {
                text.line(format_args!("  It is that of the inputs."));
            }
            Some(expected) => {
                text.line(format_args!("  inputs    {}", hex::encode(expected)));
                let different = different(expected, &self.initdata);
                text.line(format_args!("  {different}"));
            }
        }
        text.heading(self.policy_field);
        text.line(format_args!("  reported  {:#x}", self.policy));
        if let Some(expected) = self.expected_policy
            && expected != self.policy
        {
            text.line(format_args!("  inputs    {expected:#x}"));
        }
        if self.debug {
            text.line(format_args!(
                "  It lets the host read and change the guest's memory (debug bit)."
            ));
        }
    }
}

fn different(expected: &[u8], reported: &[u8]) -> &'static str {
    let is_none = |digest: &[u8]| digest.iter().all(|byte| *byte == 0);
    if is_none(reported) {
        "The guest was launched without initdata: see that containerd passes the annotation \
         (pod_annotations)."
    } else if is_none(expected) {
        "The guest was launched with initdata, the inputs have none."
    } else {
        "The guest was launched with other initdata."
    }
}
