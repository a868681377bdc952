//! `redoubt report`: evidence in words.

use std::path::PathBuf;

use clap::Subcommand;
use redoubt_evidence::tdx::{self, TdxQuote};
use redoubt_evidence::{CertTable, Evidence, REPORT_BYTES, SnpReport};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::files;
use crate::printer::Printer;
use crate::text::Text;

/// What to do with reports.
#[derive(Debug, Subcommand)]
pub(crate) enum ReportCommand {
    /// Show every field in words. Nothing is verified.
    Show {
        /// SEV-SNP report, TDX quote, or evidence in a key broker's JSON.
        file: PathBuf,
    },
}

impl ReportCommand {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        let Self::Show { file } = self;
        let shown = Shown::read(&files::read(&file)?)?;
        printer.result(&shown, || shown.text())
    }
}

/// A report's or quote's own words.
#[derive(Serialize)]
struct Shown {
    tee: &'static str,
    /// Always false: this command believes nothing.
    verified: bool,
    fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<String>,
    #[serde(skip)]
    rows: Vec<(&'static str, String)>,
}

impl Shown {
    fn read(bytes: &[u8]) -> Result<Self, Failure> {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        if first == Some(&b'{') {
            return Ok(match Evidence::parse_kbs_json(bytes)? {
                Evidence::Snp(evidence) => Self::snp(&evidence.report, &evidence.certs),
                Evidence::Tdx(evidence) => Self::tdx(&evidence.quote),
            });
        }
        // A quote is longer than a report, and says what it is.
        if bytes.len() > REPORT_BYTES && matches!(bytes.first(), Some(3..=5)) {
            return Ok(Self::tdx(&TdxQuote::parse(bytes)?));
        }
        Ok(Self::snp(&SnpReport::parse(bytes)?, &CertTable::default()))
    }

    fn snp(report: &SnpReport, certs: &CertTable) -> Self {
        Self {
            certificates: certs
                .entries()
                .iter()
                .map(|entry| format!("{} ({} bytes)", entry.kind, entry.data.len()))
                .collect(),
            ..Self::of("snp", redoubt_evidence::rows(report))
        }
    }

    fn tdx(quote: &TdxQuote) -> Self {
        Self::of("tdx", tdx::rows(quote))
    }

    fn of(tee: &'static str, rows: Vec<(&'static str, String)>) -> Self {
        let fields = rows
            .iter()
            .map(|(name, value)| (name.replace(' ', "_"), Value::from(value.as_str())));
        Self {
            tee,
            verified: false,
            fields: fields.collect(),
            certificates: Vec::new(),
            rows,
        }
    }

    fn text(&self) -> String {
        let mut text = Text::default();
        for (name, value) in &self.rows {
            text.line(format_args!("{name:<22} {value}"));
        }
        for certificate in &self.certificates {
            text.line(format_args!("{:<22} {certificate}", "certificate"));
        }
        text.line(format_args!(
            "\nnot verified: this is what the evidence says of itself"
        ));
        text.into()
    }
}
