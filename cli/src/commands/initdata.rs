//! `redoubt initdata`: documents, annotations, disk images and digests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use redoubt_initdata::{Algorithm, DISK_MAGIC, Initdata, MAX_ANNOTATION_BYTES};
use serde::Serialize;

use crate::failure::{CliError, Failure};
use crate::files;
use crate::printer::Printer;
use crate::text::Text;
use crate::values::NamedFile;

/// What to do with initdata.
#[derive(Debug, Subcommand)]
pub(crate) enum InitdataCommand {
    /// Build a document from files.
    Build(BuildArgs),
    /// Show what a document, an annotation or a disk image holds.
    Inspect {
        /// Document, annotation's value, or disk image.
        file: PathBuf,
    },
    /// Show a document's digest as each TEE reports it.
    Digest {
        /// Document, annotation's value, or disk image.
        file: PathBuf,
    },
}

/// A document to build.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Hash of the digest: sha256 fits SEV-SNP, sha384 fits TDX.
    #[arg(long, default_value = "sha256", value_parser = algorithm)]
    algorithm: Algorithm,
    /// Entry with its contents, such as policy.rego=FILE; may be given several times.
    #[arg(long = "file", value_name = "NAME=FILE", required = true)]
    entries: Vec<NamedFile>,
    /// What to write.
    #[arg(long, value_enum, default_value = "toml")]
    format: BuildFormat,
    /// Where to write it; standard output by default.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Forms of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BuildFormat {
    /// The document itself.
    Toml,
    /// The value of the annotation.
    Annotation,
    /// The disk image for the guest.
    Disk,
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    text.parse()
        .map_err(|_| "expected sha256, sha384 or sha512".to_owned())
}

impl InitdataCommand {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Build(args) => build(printer, &args),
            Self::Inspect { file } => {
                let report = Report::of(&read_any(&file)?);
                printer.result(&report, || report.text())
            }
            Self::Digest { file } => {
                let digests = Digests::of(&read_any(&file)?);
                printer.result(&digests, || digests.text())
            }
        }
    }
}

fn build(printer: Printer, args: &BuildArgs) -> Result<(), Failure> {
    let mut entries = BTreeMap::new();
    for NamedFile { name, path } in &args.entries {
        if entries
            .insert(name.clone(), files::read_text(path)?)
            .is_some()
        {
            return Err(CliError::EntryTwice { name: name.clone() }.into());
        }
    }
    let document = Initdata::build(args.algorithm, entries)?;
    let bytes = match args.format {
        BuildFormat::Toml => document.toml_bytes().to_vec(),
        BuildFormat::Annotation => (document.to_annotation()? + "\n").into_bytes(),
        BuildFormat::Disk => document.to_disk_image(),
    };
    match &args.output {
        Some(path) => {
            files::write(path, &bytes)?;
            let digests = Digests::of(&document);
            printer.result(&digests, || digests.text())
        }
        None => printer.bytes(&bytes),
    }
}

/// Tells the three forms apart by their first bytes.
pub(crate) fn read_any(path: &Path) -> Result<Initdata, Failure> {
    let bytes = files::read(path)?;
    if bytes.starts_with(&DISK_MAGIC) {
        return Ok(Initdata::from_disk_image(&bytes)?);
    }
    let unknown = || CliError::NotInitdata {
        path: path.to_owned(),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| unknown())?;
    if text.contains('\n') && text.contains('=') && !text.trim().starts_with("H4sI") {
        return Ok(Initdata::parse_toml(&bytes)?);
    }
    Ok(Initdata::from_annotation(text)?)
}

#[derive(Serialize)]
struct Digests {
    algorithm: Algorithm,
    digest: String,
    /// As SEV-SNP reports it.
    host_data: String,
    /// As TDX reports it.
    mr_config_id: String,
}

impl Digests {
    fn of(document: &Initdata) -> Self {
        Self {
            algorithm: document.algorithm(),
            digest: hex::encode(document.digest()),
            host_data: hex::encode(document.host_data()),
            mr_config_id: hex::encode(document.mr_config_id()),
        }
    }

    fn text(&self) -> String {
        format!(
            "{:<17}{}\nSNP HOST_DATA    {}\nTDX MRCONFIGID   {}\n",
            self.algorithm.to_string(),
            self.digest,
            self.host_data,
            self.mr_config_id
        )
    }
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    digests: Digests,
    document_bytes: usize,
    /// Length of the annotation; nothing if it would be too long.
    annotation_bytes: Option<usize>,
    entries: BTreeMap<String, String>,
}

impl Report {
    fn of(document: &Initdata) -> Self {
        Self {
            digests: Digests::of(document),
            document_bytes: document.toml_bytes().len(),
            annotation_bytes: document
                .to_annotation()
                .ok()
                .map(|annotation| annotation.len()),
            entries: document.entries().clone(),
        }
    }

    fn text(&self) -> String {
        let limit = format!("{MAX_ANNOTATION_BYTES} bytes that Kubernetes allows");
        let annotation = match self.annotation_bytes {
            Some(bytes) => format!("{bytes} of the {limit}"),
            None => format!("too long: more than the {limit}"),
        };
        let mut text = Text::default();
        text.line(format_args!("{}", self.digests.text().trim_end()));
        text.line(format_args!(
            "document         {} bytes",
            self.document_bytes
        ));
        text.line(format_args!("annotation       {annotation}"));
        for (name, contents) in &self.entries {
            text.heading(&format!("--- {name}"));
            text.line(format_args!("{}", contents.trim_end_matches('\n')));
        }
        text.into()
    }
}
