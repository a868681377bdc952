//! `redoubt kbs`: the key broker.

mod admin;
mod client;
mod error;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use redoubt_kbs_server::{InitOptions, InitSummary, ServerConfig, StorageKind};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use self::client::BrokerArgs;
use crate::failure::{CliError, Failure};
use crate::printer::Printer;
use crate::runtime;
use crate::text::Text;

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
    /// Store a resource, or replace it; its bytes come from a file or standard input.
    Put(admin::PutArgs),
    /// List resources, without their bytes.
    List {
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Remove a resource.
    Delete(admin::DeleteArgs),
    /// Set, show and test release policies.
    #[command(subcommand)]
    Policy(admin::PolicyCommand),
    /// Import, list and remove reference values.
    #[command(subcommand)]
    Reference(admin::ReferenceCommand),
    /// Check an audit log.
    #[command(subcommand)]
    Audit(admin::AuditCommand),
    /// Seal everything in the database with a new key.
    RotateKey {
        #[command(flatten)]
        broker: BrokerArgs,
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
    /// How resources, policies and reference values are kept.
    #[arg(long, value_enum, default_value_t = Storage::Embedded)]
    storage: Storage,
}

/// How a broker keeps its things.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Storage {
    /// In a sealed database, changed with `redoubt kbs` commands.
    Embedded,
    /// In files that the operator writes.
    Files,
}

#[derive(Serialize)]
struct Made {
    config: PathBuf,
    certificate: PathBuf,
    admin_key: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference_values: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<PathBuf>,
}

impl From<InitSummary> for Made {
    fn from(summary: InitSummary) -> Self {
        let files = summary.files.as_ref();
        Self {
            resources: files.map(|files| files.resources.clone()),
            reference_values: files.map(|files| files.reference_values.clone()),
            policy: files.map(|files| files.policy.clone()),
            config: summary.config,
            certificate: summary.certificate,
            admin_key: summary.admin_key,
        }
    }
}

impl Made {
    fn text(&self) -> String {
        let mut text = Text::default();
        let rows = [
            ("configuration", Some(&self.config)),
            ("certificate", Some(&self.certificate)),
            ("admin key", Some(&self.admin_key)),
            ("resources", self.resources.as_ref()),
            ("reference values", self.reference_values.as_ref()),
            ("release policy", self.policy.as_ref()),
        ];
        for (name, path) in rows {
            if let Some(path) = path {
                text.line(format_args!("{name:<18}{}", path.display()));
            }
        }
        let config = self.config.display();
        text.line(format_args!(
            "Start it with: redoubt kbs serve --config {config}"
        ));
        text.into()
    }
}

impl KbsCommand {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Init(args) => init(printer, args),
            Self::Serve { config } => serve(&config),
            Self::Put(args) => admin::put(printer, &args),
            Self::List { broker } => admin::list(printer, &broker),
            Self::Delete(args) => admin::delete(printer, &args),
            Self::Policy(command) => command.run(printer),
            Self::Reference(command) => command.run(printer),
            Self::Audit(command) => command.run(printer),
            Self::RotateKey { broker } => admin::rotate_key(printer, &broker),
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
        storage: match args.storage {
            Storage::Embedded => StorageKind::Embedded,
            Storage::Files => StorageKind::Files,
        },
    };
    let made = Made::from(redoubt_kbs_server::init(&args.dir, &options)?);
    printer.result(&made, || made.text())
}

fn serve(config: &Path) -> Result<(), Failure> {
    runtime::log_to_stderr();
    let config = ServerConfig::load(config)?;
    runtime::server_runtime()?.block_on(async {
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
