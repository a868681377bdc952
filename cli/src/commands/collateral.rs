//! `redoubt collateral`: what verification needs, in a file.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of options are their help"
)]

use std::path::PathBuf;

use clap::{Args, Subcommand};
use redoubt_collateral::{ClientOptions, CollateralClient, DiskCache, Services, TcbUpdate};
use redoubt_errors::{ErrorCode, UserError};
use redoubt_evidence::tdx::TdxQuote;
use redoubt_evidence::{Product, SigningKey, SnpReport};
use redoubt_tdx_verifier::PckInfo;
use redoubt_verifier::{Bundle, CollateralId, CollateralItem, VcekId, VekIssuer};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::failure::Failure;
use crate::files;
use crate::printer::Printer;
use crate::runtime;
use crate::text::Text;

/// What to do about collateral.
#[derive(Debug, Subcommand)]
pub(crate) enum CollateralCommand {
    /// Fetch what the verification of reports and quotes needs, and write it into one file.
    Export(ExportArgs),
    /// Put a bundle's documents into the cache.
    Import {
        /// Bundle.
        file: PathBuf,
        #[command(flatten)]
        cache: CacheArgs,
    },
    /// Show what a bundle holds.
    Show {
        /// Bundle.
        file: PathBuf,
    },
}

/// Where collateral is kept.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// Folder of the cache; by default redoubt/collateral in $XDG_CACHE_HOME or ~/.cache.
    #[arg(long = "cache", value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// A bundle to write.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// SEV-SNP report to be verified; may be given several times.
    #[arg(long = "report", value_name = "FILE")]
    reports: Vec<PathBuf>,
    /// TDX quote to be verified; may be given several times.
    #[arg(long = "quote", value_name = "FILE")]
    quotes: Vec<PathBuf>,
    /// Processor line of reports that do not say it (version 2).
    #[arg(long, value_name = "NAME", value_parser = super::verify::product)]
    product: Option<Product>,
    /// Further document by its id, such as snp/crl/Genoa/vcek; may be given several times.
    #[arg(long = "id", value_name = "ID", value_parser = id)]
    ids: Vec<CollateralId>,
    /// Ask no service: take everything from the cache.
    #[arg(long)]
    offline: bool,
    /// Intel's newest TCB levels, before platforms can be expected to meet them.
    #[arg(long)]
    early: bool,
    /// Address in the place of AMD's key distribution service.
    #[arg(long, value_name = "URL")]
    kds: Option<String>,
    /// Address in the place of Intel's provisioning certification service and its certificate store.
    #[arg(long, value_name = "URL")]
    pcs: Option<String>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Where to write the bundle.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// Why there is nothing to export.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
enum ExportError {
    /// {id} is not in the cache
    NotCached {
        /// The document that is missing.
        id: CollateralId,
    },
    /// nothing says what to export
    NothingWanted,
    /// the report does not say which processor line it is of
    NoProduct,
}

impl UserError for ExportError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::NotCached { .. } => "RDT-CLI-101",
            Self::NothingWanted => "RDT-CLI-102",
            Self::NoProduct => "RDT-CLI-103",
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotCached { .. } => "export without --offline, or import a bundle".to_owned(),
            Self::NothingWanted => "give --report, --quote or --id".to_owned(),
            Self::NoProduct => "give --product milan, genoa or turin".to_owned(),
        })
    }
}

fn id(text: &str) -> Result<CollateralId, String> {
    text.parse()
        .map_err(|_| "expected an id such as snp/crl/Genoa/vcek".to_owned())
}

impl CollateralCommand {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Export(args) => args.run(printer),
            Self::Import { file, cache } => import(printer, &file, &cache),
            Self::Show { file } => {
                let shown = Shown::of(Bundle::parse(&files::read(&file)?)?.items());
                printer.result(&shown, || shown.text())
            }
        }
    }
}

impl CacheArgs {
    fn open(&self) -> DiskCache {
        let folder = |name, below: &str| {
            let folder = std::env::var_os(name).filter(|folder| !folder.is_empty())?;
            Some(PathBuf::from(folder).join(below))
        };
        let dir = self.dir.clone().unwrap_or_else(|| {
            folder("XDG_CACHE_HOME", "redoubt/collateral")
                .or_else(|| folder("HOME", ".cache/redoubt/collateral"))
                .unwrap_or_else(|| PathBuf::from("/var/cache/redoubt/collateral"))
        });
        DiskCache::new(dir)
    }
}

impl ExportArgs {
    fn run(&self, printer: Printer) -> Result<(), Failure> {
        let ids = self.wanted()?;
        let cache = self.cache.open();
        let mut bundle = Bundle::default();
        if self.offline {
            for id in ids {
                let item = cache.get(&id).ok_or(ExportError::NotCached { id })?;
                bundle.insert(item)?;
            }
        } else {
            let client = CollateralClient::new(self.options(), Some(cache))?;
            let now = OffsetDateTime::now_utc();
            runtime::runtime()?.block_on(async {
                for id in ids {
                    bundle.insert(client.get(id, now).await?)?;
                }
                Ok::<(), Failure>(())
            })?;
        }
        files::write(&self.output, bundle.to_json()?.as_bytes())?;
        let shown = Shown::of(bundle.items());
        printer.result(&shown, || shown.text())
    }

    fn options(&self) -> ClientOptions {
        let mut services = Services {
            tcb_update: if self.early {
                TcbUpdate::Early
            } else {
                TcbUpdate::Standard
            },
            ..Services::default()
        };
        if let Some(url) = &self.kds {
            services.amd_kds.clone_from(url);
        }
        if let Some(url) = &self.pcs {
            services.intel_pcs.clone_from(url);
            services.intel_root.clone_from(url);
        }
        ClientOptions {
            services,
            ..ClientOptions::default()
        }
    }

    /// The ids of everything that is needed, each once.
    fn wanted(&self) -> Result<Vec<CollateralId>, Failure> {
        let mut ids = self.ids.clone();
        for path in &self.reports {
            let report = SnpReport::parse(&files::read(path)?)?;
            ids.extend(self.of_report(&report)?);
        }
        for path in &self.quotes {
            let quote = TdxQuote::parse(&files::read(path)?)?;
            ids.extend(PckInfo::of(&quote)?.documents());
        }
        let mut once: Vec<CollateralId> = Vec::new();
        for id in ids {
            if !once.contains(&id) {
                once.push(id);
            }
        }
        if once.is_empty() {
            return Err(ExportError::NothingWanted.into());
        }
        Ok(once)
    }

    fn of_report(&self, report: &SnpReport) -> Result<Vec<CollateralId>, Failure> {
        let product = report.product().or(self.product);
        let product = product.ok_or(ExportError::NoProduct)?;
        // AMD hands out VLEKs to providers only: they come with the evidence.
        if report.key_info().signing_key() == SigningKey::Vlek {
            return Ok(vec![
                CollateralId::Chain(product, VekIssuer::Vlek),
                CollateralId::Crl(product, VekIssuer::Vlek),
            ]);
        }
        let vcek = VcekId::of_report(report, Some(product)).ok_or(ExportError::NoProduct)?;
        Ok(vec![
            CollateralId::Vcek(vcek),
            CollateralId::Chain(product, VekIssuer::Vcek),
            CollateralId::Crl(product, VekIssuer::Vcek),
        ])
    }
}

fn import(printer: Printer, file: &std::path::Path, cache: &CacheArgs) -> Result<(), Failure> {
    let bundle = Bundle::parse(&files::read(file)?)?;
    let cache = cache.open();
    for item in bundle.items() {
        // A list that is here and newer stays.
        let newer = cache
            .get(&item.id)
            .is_some_and(|known| known.fetched_at > item.fetched_at);
        if !newer {
            cache.put(item)?;
        }
    }
    let shown = Shown::of(bundle.items());
    printer.result(&shown, || shown.text())
}

/// Documents for a person.
#[derive(Serialize)]
struct Shown {
    documents: Vec<Document>,
}

#[derive(Serialize)]
struct Document {
    id: String,
    bytes: usize,
    fetched_at: String,
    /// Until when its issuer says that it is current.
    next_update: Option<String>,
}

impl Shown {
    fn of(items: &[CollateralItem]) -> Self {
        let time = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
        let documents = items.iter().map(|item| Document {
            id: item.id.to_string(),
            bytes: item.body.len(),
            fetched_at: time(item.fetched_at),
            next_update: item.next_update().map(time),
        });
        let mut documents: Vec<Document> = documents.collect();
        documents.sort_by(|one, other| one.id.cmp(&other.id));
        Self { documents }
    }

    fn text(&self) -> String {
        let mut text = Text::default();
        for document in &self.documents {
            let until = document
                .next_update
                .as_ref()
                .map_or_else(String::new, |until| format!(", current until {until}"));
            text.line(format_args!(
                "{}  {} bytes{until}",
                document.id, document.bytes
            ));
        }
        text.into()
    }
}
