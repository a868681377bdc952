//! `redoubt-harness`: cases for verifiers and key brokers, without hardware.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of options are their help"
)]

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use redoubt_evidence::GuestPolicy;
use redoubt_harness::{
    BrokerClient, LocalBroker, LocalServices, Mood, Report, Row, Selection, Site, Target, run,
};
use redoubt_snp_simulator::{LaunchFacts, SimulatedIdentity, SoftwarePsp, serve};

/// Simulated TEEs, and the cases that a verifier or key broker must tell apart.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the cases; exit code 0 if all came out as they must, else 1.
    Run(RunArgs),
    /// Make a site: the keys of simulated chips, and what a broker under test is to be given.
    Init {
        /// Folder for its files.
        dir: PathBuf,
    },
    /// Serve reports of a simulated secure processor to one guest.
    Psp(PspArgs),
    /// Answer as AMD's and Intel's services do about the platforms of a site.
    Services(ServicesArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Address of the broker to try, instead of one in this process. It must have been given the
    /// files of the site.
    #[arg(long, value_name = "URL", requires = "site")]
    against: Option<String>,
    /// Folder of the site, made by `redoubt-harness init`; a new one by default.
    #[arg(long, value_name = "DIR")]
    site: Option<PathBuf>,
    /// Certificate of the broker in PEM, where it is not one of the web's.
    #[arg(long, value_name = "FILE", requires = "against")]
    certificate: Option<PathBuf>,
    /// Only these parts of the matrix.
    #[arg(long, value_delimiter = ',', value_name = "ROW,...", value_parser = row)]
    rows: Vec<Row>,
    /// Only the cases for one target.
    #[arg(long, value_enum, value_name = "TARGET")]
    only: Option<Only>,
    /// How long the broker's sessions last: wait for so long in the case of one that has ended,
    /// which is left out without it.
    #[arg(long, value_name = "SECONDS")]
    session_lifetime: Option<u64>,
    /// Print JSON.
    #[arg(long, conflicts_with = "junit")]
    json: bool,
    /// Print XML as JUnit does.
    #[arg(long)]
    junit: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Only {
    Verifier,
    Broker,
}

#[derive(Debug, Args)]
struct PspArgs {
    /// Folder of a simulated chip, made by `redoubt simulator init`; a new one by default.
    #[arg(long, value_name = "DIR")]
    chip: Option<PathBuf>,
    /// Socket to serve.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The guest's launch digest, 48 bytes in hexadecimal.
    #[arg(long, value_name = "HEX", value_parser = hex_of::<48>)]
    launch_digest: [u8; 48],
    /// The guest's HOST_DATA, 32 bytes in hexadecimal; zero by default.
    #[arg(long, value_name = "HEX", value_parser = hex_of::<32>)]
    host_data: Option<[u8; 32]>,
    /// The guest's policy.
    #[arg(long, value_name = "NUMBER", default_value = "0x30000", value_parser = number)]
    policy: u64,
}

#[derive(Debug, Args)]
struct ServicesArgs {
    /// Folder of the site; a new one by default.
    #[arg(long, value_name = "DIR")]
    site: Option<PathBuf>,
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Answer every second request with 429, and this many seconds to wait.
    #[arg(long, value_name = "SECONDS", conflicts_with = "failing")]
    busy: Option<u32>,
    /// Answer every second request with 503.
    #[arg(long)]
    failing: bool,
}

fn row(text: &str) -> Result<Row, String> {
    let row = Row::ALL.into_iter().find(|row| row.name() == text);
    row.ok_or_else(|| format!("expected one of {}", Row::ALL.map(Row::name).join(", ")))
}

fn hex_of<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| format!("expected {N} bytes in hexadecimal"))?;
    Ok(bytes)
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "expected a number such as 0x30000".to_owned())
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = runtime
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(dispatch(Cli::parse().command)));
    outcome.unwrap_or_else(|error| {
        // Nobody is left to be told that this failed.
        let _ = writeln!(std::io::stderr(), "{error:#}");
        ExitCode::from(2)
    })
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run_cases(&args).await,
        Command::Init { dir } => init(&dir),
        Command::Psp(args) => psp(&args).await,
        Command::Services(args) => services(&args).await,
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn site(dir: Option<&Path>) -> anyhow::Result<Site> {
    Ok(match dir {
        Some(dir) => Site::load(dir)?,
        None => Site::generate()?,
    })
}

async fn run_cases(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let site = site(args.site.as_deref())?;
    let selection = Selection {
        rows: args.rows.clone(),
        target: args.only.map(|only| match only {
            Only::Verifier => Target::Verifier,
            Only::Broker => Target::Broker,
        }),
        session_lifetime: args.session_lifetime.map(Duration::from_secs),
    };
    let report = if let Some(url) = &args.against {
        let certificate = args.certificate.as_ref().map(std::fs::read).transpose()?;
        let client = BrokerClient::new(url, certificate.as_deref())?;
        run(&site, &client, &selection).await
    } else {
        let broker = LocalBroker::start(&site)?;
        let report = run(&site, &broker.client()?, &selection).await;
        broker.stop().await?;
        report
    };
    print(&shown(&report, args))?;
    anyhow::ensure!(!report.cases.is_empty(), "no case was selected");
    Ok(if report.failed().next().is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn shown(report: &Report, args: &RunArgs) -> String {
    if args.json {
        format!("{:#}\n", report.to_json())
    } else if args.junit {
        report.to_junit()
    } else {
        report.to_string()
    }
}

fn init(dir: &Path) -> anyhow::Result<ExitCode> {
    Site::create(dir)?;
    print(&format!(
        "site in {0}; its keys protect nothing. Give the broker under test:\n\
         \x20 root of SEV-SNP      {0}/snp-root.pem\n\
         \x20 reference values     {0}/reference-values.json\n\
         \x20 resource             {0}/resource as default/harness/1\n\
         \x20 least SNP firmware   20 ([snp.minimum_tcb] snp = 20)\n\
         then: redoubt-harness run --only broker --site {0} --against URL\n",
        dir.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn psp(args: &PspArgs) -> anyhow::Result<ExitCode> {
    let identity = match &args.chip {
        Some(dir) => SimulatedIdentity::load(dir)?,
        None => SimulatedIdentity::generate()?,
    };
    let facts = LaunchFacts::new(
        args.launch_digest,
        args.host_data.unwrap_or_default(),
        GuestPolicy(args.policy),
    );
    let anchor = identity.trust_anchor_pem()?;
    let psp = SoftwarePsp::new(identity, &facts)?;
    let listener = tokio::net::UnixListener::bind(&args.socket)
        .with_context(|| format!("cannot listen on {}", args.socket.display()))?;
    print(&format!(
        "{anchor}serving reports on {}\n",
        args.socket.display()
    ))?;
    tokio::select! {
        () = serve(Arc::new(psp), listener) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    std::fs::remove_file(&args.socket)?;
    Ok(ExitCode::SUCCESS)
}

async fn services(args: &ServicesArgs) -> anyhow::Result<ExitCode> {
    let site = site(args.site.as_deref())?;
    let mood = match (args.busy, args.failing) {
        (Some(retry_after_s), _) => Mood::Busy { retry_after_s },
        (None, true) => Mood::Failing,
        (None, false) => Mood::Willing,
    };
    let services = LocalServices::start(&site, args.listen, mood)?;
    print(&format!("answering on {}\n", services.url()))?;
    tokio::signal::ctrl_c().await?;
    Ok(ExitCode::SUCCESS)
}
