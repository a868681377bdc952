//! `redoubt image pull` against skopeo with umoci and against the bare floor, in one run.

mod image;
mod measure;
mod registry;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::image::{BenchImage, Compression, PushedImages};
use self::measure::{Sample, Series, measured};
use self::registry::LoopbackRegistry;
use crate::apt;
use crate::build;
use crate::paths::{Paths, text};
use crate::printer::Printer;
use crate::setup::find_program;

/// Programs that this benchmark runs, and the package that brings each.
const PROGRAMS: [(&str, &str); 8] = [
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
    ("curl", "curl"),
    ("pigz", "pigz"),
    ("zstd", "zstd"),
    ("tar", "tar"),
    ("bash", "bash"),
];

/// The id under which `redoubt image encrypt` and `pull` know the layers' key.
const KEY_ID: &str = "kbs:///default/key/bench";

/// Encrypted over plain, at most.
const AIM_ENCRYPTED: f64 = 1.1;
/// Skopeo and umoci over ours, at least.
const AIM_PEER: f64 = 2.5;
/// Ours over the floor, at most.
const AIM_FLOOR: f64 = 1.2;
/// Peak resident memory of one pull, at most.
const AIM_PEAK_KIB: u64 = 48 * 1024;

/// Options of `bench pull`.
#[derive(Debug, Args)]
pub(super) struct PullOptions {
    /// How many times each side is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How the layers are compressed.
    #[arg(long, value_enum, default_value_t = Compression::Gzip)]
    compression: Compression,
    /// A `redoubt` to measure instead of the one that is built from this checkout.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Runs the benchmark and prints times, peaks and ratios.
pub(super) fn run(printer: &Printer, options: &PullOptions) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "run this as root: layers are unpacked with their owners"
    );
    install_missing(printer)?;
    let paths = Paths::find()?;
    let program = if let Some(program) = &options.program {
        program.clone()
    } else {
        printer.step("building the command line");
        build::host_programs(&paths)?;
        paths.binary("redoubt")
    };
    let folder = paths.bench().join("pull");
    let image = BenchImage::prepare(printer, &paths, &folder, options.compression)?;
    let scratch = Scratch::create()?;
    let key = scratch.path().join("layer.key");
    fs::write(&key, [0x5a; 32])?;
    let registry = LoopbackRegistry::start(scratch.path())?;
    printer.step("pushing the image, plain and encrypted");
    let pushed = image.push(&registry, &program, &format!("{KEY_ID}={}", text(&key)?))?;

    let contest = Contest {
        program,
        key,
        registry,
        pushed,
        compression: options.compression,
        scratch,
    };
    let results = contest.run(printer, options.rounds.max(1))?;
    results.print(printer, &image);
    Ok(())
}

fn install_missing(printer: &Printer) -> Result<()> {
    let mut missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    printer.step(&format!("installing {}", missing.join(", ")));
    apt::install_from_system(&missing)
}

/// A folder in memory, as the guest's layer store is; gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Result<Self> {
        let path = Path::new("/dev/shm").join(format!("redoubt-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    /// An empty folder for one run.
    fn fresh(&self) -> Result<PathBuf> {
        let path = self.0.join("run");
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Everything that the sides are measured with.
struct Contest {
    program: PathBuf,
    key: PathBuf,
    registry: LoopbackRegistry,
    pushed: PushedImages,
    compression: Compression,
    scratch: Scratch,
}

#[derive(Default)]
struct Results {
    plain: Series,
    encrypted: Series,
    peer: Series,
    floor: Series,
}

impl Contest {
    /// The sides take turns, so that a disturbance meets all of them.
    fn run(&self, printer: &Printer, rounds: usize) -> Result<Results> {
        let mut results = Results::default();
        for round in 1..=rounds {
            results.plain.add(self.ours(&self.pushed.plain)?);
            results.encrypted.add(self.ours(&self.pushed.encrypted)?);
            results.peer.add(self.peer()?);
            results.floor.add(self.floor()?);
            printer.step(&format!("round {round} of {rounds}"));
        }
        Ok(results)
    }

    fn ours(&self, reference: &str) -> Result<Sample> {
        let run = self.scratch.fresh()?;
        let mut command = Command::new(&self.program);
        command.args(["image", "pull", "--plain-http", "--dest"]);
        command.arg(run.join("image")).arg("--key");
        command.arg(format!("{KEY_ID}={}", self.key.display()));
        measured(command.arg(reference))
    }

    fn peer(&self) -> Result<Sample> {
        let run = self.scratch.fresh()?;
        let layout = format!("oci:{}:v1", run.join("layout").display());
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--quiet", "--src-tls-verify=false"]);
        copy.arg(format!("docker://{}", self.pushed.plain))
            .arg(layout);
        let mut unpack = Command::new("umoci");
        unpack.args(["unpack", "--image"]);
        unpack.arg(format!("{}:v1", run.join("layout").display()));
        unpack.arg(run.join("bundle"));
        Ok(measured(&mut copy)?.then(measured(&mut unpack)?))
    }

    /// What any pull has to do at least: fetch, decompress and write, and no check at all.
    fn floor(&self) -> Result<Sample> {
        let run = self.scratch.fresh()?;
        fs::create_dir(run.join("root"))?;
        let mut script = String::from("set -e -o pipefail\ncurl -fsS");
        for digest in &self.pushed.layers {
            let _ = write!(script, " -o {digest} {}", self.registry.blob_url(digest));
        }
        for digest in &self.pushed.layers {
            let decompress = self.compression.decompressor();
            let _ = write!(script, "\n{decompress} {digest} | tar -x -p -C root");
        }
        measured(Command::new("bash").arg("-c").arg(script).current_dir(&run))
    }
}

impl Results {
    fn print(&self, printer: &Printer, image: &BenchImage) {
        printer.line(&image.describe());
        for (what, series) in [
            ("redoubt image pull, plain", &self.plain),
            ("redoubt image pull, encrypted", &self.encrypted),
            ("skopeo copy + umoci unpack", &self.peer),
            ("floor: curl, decompress | tar", &self.floor),
        ] {
            printer.line(&format!("{what:32} {series}"));
        }
        let ratio = |above: &Series, below: &Series| above.seconds() / below.seconds();
        let (encrypted, peer, floor) = (
            ratio(&self.encrypted, &self.plain),
            ratio(&self.peer, &self.plain),
            ratio(&self.plain, &self.floor),
        );
        let peak_kib = self.plain.peak_kib().max(self.encrypted.peak_kib());
        for (what, value, aim, is_met) in [
            (
                "encrypted / plain",
                format!("{encrypted:.2}"),
                format!("at most {AIM_ENCRYPTED}"),
                encrypted <= AIM_ENCRYPTED,
            ),
            (
                "skopeo + umoci / plain",
                format!("{peer:.2}"),
                format!("at least {AIM_PEER}"),
                peer >= AIM_PEER,
            ),
            (
                "plain / floor",
                format!("{floor:.2}"),
                format!("at most {AIM_FLOOR}"),
                floor <= AIM_FLOOR,
            ),
            (
                "peak resident memory, MiB",
                format!("{:.1}", measure::mib(peak_kib)),
                format!("at most {}", AIM_PEAK_KIB / 1024),
                peak_kib <= AIM_PEAK_KIB,
            ),
        ] {
            let verdict = if is_met { "met" } else { "missed" };
            printer.line(&format!("{what:32} {value:>7}   {aim:13} {verdict}"));
        }
    }
}
