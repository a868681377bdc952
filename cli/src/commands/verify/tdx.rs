//! `redoubt verify tdx`.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of options are their help"
)]

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use redoubt_evidence::tdx::{TdxEvidence, TdxQuote};
use redoubt_tdx_verifier::{
    AttributeRules, PlatformFlagRules, TcbRules, TcbStatus, TdxCollateral, TdxExpectations, Trust,
    verify,
};
use redoubt_verifier::Verdict;

use super::common::{CommonArgs, set};
use super::options::{Allow, Hex, Require};
use crate::failure::Failure;
use crate::files;

/// A quote to judge.
#[derive(Debug, Args)]
pub(crate) struct TdxArgs {
    /// The quote, of version 4 or 5.
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// Event log (CCEL) that goes with it.
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    rules: TdxRules,
}

/// What to expect of TDX evidence.
#[derive(Debug, Args)]
#[command(next_help_heading = "TDX")]
pub(super) struct TdxRules {
    /// Expected MRTD; may be given several times.
    #[arg(long, value_name = "HEX")]
    mrtd: Vec<Hex<48>>,
    /// Expected value of a run-time register, such as 1=HEX; may be given several times.
    #[arg(long = "rtmr", value_name = "NUMBER=HEX")]
    rtmrs: Vec<Register>,
    /// Expected MRCONFIGID; may be given several times.
    #[arg(long, value_name = "HEX")]
    mrconfigid: Vec<Hex<48>>,
    /// Expected MROWNER; may be given several times.
    #[arg(long, value_name = "HEX")]
    mrowner: Vec<Hex<48>>,
    /// Expected MROWNERCONFIG; may be given several times.
    #[arg(long, value_name = "HEX")]
    mrownerconfig: Vec<Hex<48>>,
    /// Measurement of the TDX module that is accepted; may be given several times.
    #[arg(long, value_name = "HEX")]
    mrseam: Vec<Hex<48>>,
    /// Extended features that are accepted, 8 bytes as in the quote; may be given several times.
    #[arg(long, value_name = "HEX")]
    xfam: Vec<Hex<8>>,
    /// Platform instance id that is accepted; may be given several times.
    #[arg(long = "platform-id", value_name = "HEX")]
    platform_ids: Vec<Hex<16>>,
    /// TCB status that is accepted, by Intel's name; UpToDate alone by default.
    #[arg(long = "tcb-status", value_delimiter = ',', value_name = "NAME,...", value_parser = status)]
    tcb_statuses: Vec<TcbStatus>,
    /// Advisory that must not apply, such as INTEL-SA-00837.
    #[arg(
        long = "reject-advisory",
        value_delimiter = ',',
        value_name = "NAME,..."
    )]
    rejected_advisories: Vec<String>,
    /// Least evaluation data number of the collateral.
    #[arg(long, value_name = "NUMBER")]
    min_tcb_evaluation: Option<u32>,
}

/// `NUMBER=HEX` of a run-time register.
#[derive(Clone, Copy, Debug)]
struct Register {
    index: usize,
    value: [u8; 48],
}

impl FromStr for Register {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(number, value)| {
            let index = number.parse().ok().filter(|index| *index < 4)?;
            let Hex(value) = value.parse().ok()?;
            Some(Self { index, value })
        });
        parsed.ok_or_else(|| "expected a register such as 1=HEX, with 48 bytes".to_owned())
    }
}

fn status(text: &str) -> Result<TcbStatus, String> {
    text.parse()
        .map_err(|_| "expected a status such as UpToDate or SWHardeningNeeded".to_owned())
}

impl TdxArgs {
    pub(super) fn verdict(&self) -> Result<Verdict, Failure> {
        let log = self.event_log.as_deref().map(files::read).transpose()?;
        let evidence = TdxEvidence {
            quote: TdxQuote::parse(&files::read(&self.quote)?)?,
            event_log: log,
        };
        self.rules.verdict(&evidence, &self.common)
    }
}

impl TdxRules {
    /// Judges evidence.
    pub(super) fn verdict(
        &self,
        evidence: &TdxEvidence,
        common: &CommonArgs,
    ) -> Result<Verdict, Failure> {
        let collateral = match &common.collateral {
            Some(path) => Some(TdxCollateral::of_file(
                &files::read(path)?,
                &evidence.quote,
            )?),
            None => None,
        };
        let mut trust = Trust::new(collateral.as_ref(), common.at());
        for path in &common.anchors {
            trust = trust.with_root(&files::read(path)?)?;
        }
        Ok(verify(
            evidence,
            &trust,
            &self.expectations(evidence, common)?,
        ))
    }

    fn expectations(
        &self,
        evidence: &TdxEvidence,
        common: &CommonArgs,
    ) -> Result<TdxExpectations, Failure> {
        let values = |given: &[Hex<48>]| set(given.iter().map(|value| value.0));
        let mut mr_config_id = values(&self.mrconfigid);
        if let Some((initdata, source)) = common.initdata()? {
            mr_config_id.insert(initdata.mr_config_id(), source);
        }
        let rtmr = |index| {
            let given = self.rtmrs.iter().filter(move |given| given.index == index);
            set(given.map(|given| given.value))
        };
        let mut expected = TdxExpectations {
            mrtd: values(&self.mrtd),
            rtmrs: [rtmr(0), rtmr(1), rtmr(2), rtmr(3)],
            mr_config_id,
            mr_owner: values(&self.mrowner),
            mr_owner_config: values(&self.mrownerconfig),
            mr_seam: values(&self.mrseam),
            xfam: set(self.xfam.iter().map(|value| value.0)),
            report_data: common.report_data(),
            platform_ids: set(self.platform_ids.iter().map(|value| value.0)),
            attributes: AttributeRules {
                allow_debug: common.allows(Allow::Debug),
                allow_service_td: common.allows(Allow::ServiceTd),
                allow_performance_monitoring: !common.requires(Require::NoPerformanceMonitoring),
            },
            tcb: self.tcb(),
            platform: PlatformFlagRules {
                forbid_dynamic: common.requires(Require::PlatformNotDynamic),
                forbid_cached_keys: common.requires(Require::PlatformNoCachedKeys),
                forbid_smt: common.requires(Require::PlatformNoSmt),
            },
        };
        expected.apply(&common.references()?, &evidence.quote);
        Ok(expected)
    }

    fn tcb(&self) -> TcbRules {
        let defaults = TcbRules::default();
        TcbRules {
            statuses: if self.tcb_statuses.is_empty() {
                defaults.statuses
            } else {
                self.tcb_statuses.clone()
            },
            rejected_advisories: self.rejected_advisories.clone(),
            minimum_evaluation: self.min_tcb_evaluation,
        }
    }
}
