//! Options that every kind of evidence has.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of options are their help"
)]

use std::path::{Path, PathBuf};

use clap::Args;
use redoubt_initdata::Initdata;
use redoubt_verifier::{Bundle, ReferenceSet, ReferenceValues};
use time::OffsetDateTime;

use super::options::{Allow, ReportData, Require, time};
use crate::commands::initdata::read_any;
use crate::failure::Failure;
use crate::files;

/// What to expect of evidence of any TEE, and what to trust.
#[derive(Debug, Args)]
pub(super) struct CommonArgs {
    /// Time at which everything must be valid, such as 2026-06-01T12:00:00Z; now by default.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<OffsetDateTime>,
    /// Expected REPORT_DATA, up to 64 bytes in hexadecimal, filled up with zeros; may be given several times.
    #[arg(long, value_name = "HEX")]
    report_data: Vec<ReportData>,
    /// Initdata whose digest is expected in HOST_DATA or MRCONFIGID: document, annotation's value or disk image.
    #[arg(long, value_name = "FILE")]
    initdata: Option<PathBuf>,
    /// Reference values made by `redoubt measure ... --format redoubt`; may be given several times.
    #[arg(long = "reference", value_name = "FILE")]
    references: Vec<PathBuf>,
    /// Collateral: a bundle made by `redoubt collateral export`.
    #[arg(long, value_name = "FILE")]
    pub(super) collateral: Option<PathBuf>,
    /// Root certificate to trust besides the built-in ones, such as a simulator's; may be given several times.
    #[arg(long = "anchor", value_name = "FILE")]
    pub(super) anchors: Vec<PathBuf>,
    /// What to accept although it is refused by default.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT,...")]
    allow: Vec<Allow>,
    /// What to require although any value will do by default.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT,...")]
    require: Vec<Require>,
}

impl CommonArgs {
    /// The time to judge at.
    pub(super) fn at(&self) -> OffsetDateTime {
        self.at.unwrap_or_else(OffsetDateTime::now_utc)
    }

    pub(super) fn allows(&self, what: Allow) -> bool {
        self.allow.contains(&what)
    }

    pub(super) fn requires(&self, what: Require) -> bool {
        self.require.contains(&what)
    }

    /// The `REPORT_DATA` values of the command line.
    pub(super) fn report_data(&self) -> ReferenceSet<64> {
        set(self.report_data.iter().map(|data| data.0))
    }

    /// The initdata and where it came from.
    pub(super) fn initdata(&self) -> Result<Option<(Initdata, String)>, Failure> {
        let Some(path) = &self.initdata else {
            return Ok(None);
        };
        Ok(Some((read_any(path)?, format!("initdata {}", name(path)))))
    }

    /// All reference values.
    pub(super) fn references(&self) -> Result<ReferenceValues, Failure> {
        let mut all = ReferenceValues::default();
        for path in &self.references {
            all.extend(ReferenceValues::parse(&files::read(path)?, &name(path))?);
        }
        Ok(all)
    }

    /// The bundle of the command line; empty without one.
    pub(super) fn bundle(&self) -> Result<Bundle, Failure> {
        match &self.collateral {
            Some(path) => Ok(Bundle::parse(&files::read(path)?)?),
            None => Ok(Bundle::default()),
        }
    }
}

/// A file's name without its folder.
pub(super) fn name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Values that the command line gives.
pub(super) fn set<const N: usize>(values: impl Iterator<Item = [u8; N]>) -> ReferenceSet<N> {
    let mut set = ReferenceSet::default();
    for value in values {
        set.insert(value, "command line");
    }
    set
}
