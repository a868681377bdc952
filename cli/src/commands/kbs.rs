//! `redoubt kbs`: the key broker.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use redoubt_kbs_server::{InitOptions, ServerConfig, verify_audit_log};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{CliError, Failure};
use crate::printer::Printer;
use crate::runtime;

/// What to do about the key broker.
#[derive(Debug, Subcommand)]
pub(crate) enum KbsCommand {
    /// Make a folder with a certificate, keys, a configuration and the default policy.
    Init(InitArgs),
    /// Answer guests until a signal ends it.
    Serve {
        /// Configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check that an audit log is complete and unchanged.
    VerifyAudit {
        /// The log, one record a line.
        file: PathBuf,
    },
}

/// A new broker's folder.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Folder to make.
    dir: PathBuf,
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Host name or address for the certificate, besides the one listened on; may be given several times.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Root certificate to trust besides AMD's, such as a simulator's ark.pem; may be given several times.
    #[arg(long = "anchor", value_name = "FILE")]
    anchors: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Made {
    config: PathBuf,
    certificate: PathBuf,
    resources: PathBuf,
    reference_values: PathBuf,
    policy: PathBuf,
}

impl KbsCommand {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Init(args) => init(printer, args),
            Self::Serve { config } => serve(&config),
            Self::VerifyAudit { file } => verify_audit(printer, &file),
        }
    }
}

fn init(printer: Printer, args: InitArgs) -> Result<(), Failure> {
    let defaults = InitOptions::default();
    let mut names = args.names;
    let own = args.listen.ip();
    if !own.is_unspecified() {
        names.push(own.to_string());
    }
    names.extend(
        defaults
            .names
            .into_iter()
            .filter(|_| own.is_loopback() || own.is_unspecified()),
    );
    names.sort();
    names.dedup();
    let options = InitOptions {
        names,
        listen: args.listen,
        trust_anchors: args.anchors,
    };
    let summary = redoubt_kbs_server::init(&args.dir, &options)?;
    let made = Made {
        config: summary.config,
        certificate: summary.certificate,
        resources: summary.resources,
        reference_values: summary.reference_values,
        policy: summary.policy,
    };
    printer.result(&made, || {
        format!(
            "configuration     {}\ncertificate       {}\nresources         {}\n\
             reference values  {}\nrelease policy    {}\n\
             Start it with: redoubt kbs serve --config {}\n",
            made.config.display(),
            made.certificate.display(),
            made.resources.display(),
            made.reference_values.display(),
            made.policy.display(),
            made.config.display()
        )
    })
}

fn serve(config: &Path) -> Result<(), Failure> {
    runtime::log_to_stderr();
    let config = ServerConfig::load(config)?;
    runtime::runtime()?.block_on(async {
        let shutdown = shutdown_signal()?;
        Ok(redoubt_kbs_server::serve(config, shutdown).await?)
    })
}

/// Completes when somebody asks the process to end.
fn shutdown_signal() -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Runtime)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[derive(Serialize)]
struct Verified {
    records: u64,
}

fn verify_audit(printer: Printer, file: &Path) -> Result<(), Failure> {
    let verified = Verified {
        records: verify_audit_log(file)?.records,
    };
    printer.result(&verified, || {
        format!("{} records, complete and unchanged", verified.records)
    })
}
