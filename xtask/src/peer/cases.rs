//! Random launches, as the command lines of both programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::rng::Rng;
use crate::paths::{Paths, text};

/// Test data of the crate that computes digests.
const TESTDATA: &str = "measured-boot/launch-digest/testdata";

/// CPU models that both programs know.
const CPU_MODELS: [&str; 16] = [
    "EPYC",
    "EPYC-v1",
    "EPYC-v2",
    "EPYC-IBPB",
    "EPYC-v3",
    "EPYC-v4",
    "EPYC-Rome",
    "EPYC-Rome-v1",
    "EPYC-Rome-v2",
    "EPYC-Rome-v3",
    "EPYC-Milan",
    "EPYC-Milan-v1",
    "EPYC-Milan-v2",
    "EPYC-Genoa",
    "EPYC-Genoa-v1",
    "EPYC-Turin",
];
/// Lengths of made-up boot files at which something may change.
const LENGTHS: [usize; 8] = [0, 1, 63, 4095, 4096, 4097, 262_144, 300_001];
/// The longest command line that the kernel keeps, in bytes.
const MAX_CMDLINE_BYTES: usize = 2047;

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// SEV-SNP under QEMU.
    Qemu,
    /// SEV-SNP under QEMU, computed together with smaller shapes.
    QemuRange,
    /// SEV-SNP on Amazon EC2.
    Ec2,
    /// SEV-SNP on Google Compute Engine.
    Gce,
    /// SEV-SNP under QEMU with a service module.
    Svsm,
    SevEs,
    Sev,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Qemu => "QEMU",
            Self::QemuRange => "QEMU in a range",
            Self::Ec2 => "EC2",
            Self::Gce => "GCE",
            Self::Svsm => "SVSM",
            Self::SevEs => "SEV-ES",
            Self::Sev => "SEV",
        }
    }
}

/// Each as often as it matters; percentages.
const KINDS: [(Kind, u64); 7] = [
    (Kind::Qemu, 35),
    (Kind::QemuRange, 15),
    (Kind::Ec2, 10),
    (Kind::Gce, 10),
    (Kind::Svsm, 10),
    (Kind::SevEs, 12),
    (Kind::Sev, 8),
];

/// One launch.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) kind: Kind,
    /// Arguments of `redoubt`.
    pub(super) ours: Vec<String>,
    /// Arguments of `sev-snp-measure`.
    pub(super) theirs: Vec<String>,
    /// Such a launch cannot be: both programs must refuse it.
    pub(super) is_impossible: bool,
}

/// Files that launches are made of.
pub(super) struct Files {
    /// Debian's AmdSev build of OVMF.
    amdsev: PathBuf,
    /// A complete OVMF that cannot take kernel hashes.
    generic: PathBuf,
    svsm: PathBuf,
    /// Kernels and initrds: a real kernel, and made-up files.
    boot: Vec<PathBuf>,
}

impl Files {
    /// Writes what is not there yet into `folder`.
    pub(super) fn prepare(
        paths: &Paths,
        folder: &Path,
        (amdsev, kernel): (&Path, &Path),
        rng: &mut Rng,
    ) -> Result<Self> {
        let packed = |name: &str| unpack(&paths.root.join(TESTDATA).join(name), folder);
        let mut boot = vec![kernel.to_owned()];
        for len in LENGTHS {
            let path = folder.join(format!("{len}.bin"));
            fs::write(&path, rng.bytes(len))?;
            boot.push(path);
        }
        Ok(Self {
            amdsev: amdsev.to_owned(),
            generic: packed("OVMF-ubuntu-2025.02-3ubuntu2.fd.gz")?,
            svsm: packed("svsm.bin.gz")?,
            boot,
        })
    }
}

fn unpack(packed: &Path, folder: &Path) -> Result<PathBuf> {
    let output = Command::new("gzip").arg("-dc").arg(packed).output()?;
    ensure!(
        output.status.success(),
        "cannot unpack {}",
        packed.display()
    );
    let path = folder.join(packed.file_stem().context("a file without a name")?);
    fs::write(&path, output.stdout)?;
    Ok(path)
}

/// A random launch.
pub(super) fn case(files: &Files, rng: &mut Rng) -> Result<Case> {
    let kind = kind(rng);
    let (verb, mode) = match kind {
        Kind::Svsm => ("snp", "snp:svsm"),
        Kind::SevEs => ("sev-es", "seves"),
        Kind::Sev => ("sev", "sev"),
        _ => ("snp", "snp"),
    };
    let mut case = Case {
        kind,
        ours: ["measure", verb, "--bare"].map(str::to_owned).to_vec(),
        theirs: ["--mode", mode].map(str::to_owned).to_vec(),
        is_impossible: false,
    };
    let is_generic = kind != Kind::Svsm && rng.chance(15);
    let firmware = if is_generic {
        &files.generic
    } else {
        &files.amdsev
    };
    case.both("--firmware", "--ovmf", text(firmware)?);
    if kind == Kind::Svsm {
        case.both("--svsm", "--svsm", text(&files.svsm)?);
        let pages = rng.between(1, 256);
        case.both("--vars-size", "--vars-size", &(pages << 12).to_string());
    } else if rng.chance(75) {
        case.boot(files, rng)?;
        case.is_impossible = is_generic;
    }
    if kind != Kind::Sev {
        case.vcpus(rng);
    }
    if let Some((ours, theirs)) = match kind {
        Kind::Ec2 => Some(("ec2", "ec2")),
        Kind::Gce => Some(("gce", "gce")),
        Kind::Qemu => Some(("qemu", "QEMU")),
        _ => None,
    } {
        case.ours.push(format!("--vmm={ours}"));
        case.theirs.push(format!("--vmm-type={theirs}"));
    }
    if matches!(kind, Kind::Qemu | Kind::QemuRange | Kind::Ec2 | Kind::Gce) {
        let features = match rng.between(0, 3) {
            0 => 0x1,
            1 => 0x21,
            2 => 1 << rng.between(0, 63) | 1,
            _ => rng.next(),
        };
        let features = format!("{features:#x}");
        case.both("--guest-features", "--guest-features", &features);
    }
    Ok(case)
}

fn kind(rng: &mut Rng) -> Kind {
    let mut left = rng.between(1, 100);
    for (kind, percent) in KINDS {
        if left <= percent {
            return kind;
        }
        left -= percent;
    }
    Kind::Qemu
}

impl Case {
    /// The same value for both programs. It may start with a dash.
    fn both(&mut self, ours: &str, theirs: &str, value: &str) {
        self.ours.push(format!("{ours}={value}"));
        self.theirs.push(format!("{theirs}={value}"));
    }

    /// A kernel, and maybe an initrd and a command line.
    fn boot(&mut self, files: &Files, rng: &mut Rng) -> Result<()> {
        let file = |rng: &mut Rng| {
            let path = rng.pick(&files.boot).context("there are no boot files")?;
            text(path).map(str::to_owned)
        };
        self.both("--kernel", "--kernel", &file(rng)?);
        self.ours.push("--kernel-format=any".to_owned());
        if rng.chance(75) {
            self.both("--initrd", "--initrd", &file(rng)?);
        }
        if rng.chance(80) {
            self.both("--append", "--append", &cmdline(rng));
        }
        Ok(())
    }

    fn vcpus(&mut self, rng: &mut Rng) {
        let most = if rng.chance(80) { 16 } else { 1024 };
        let vcpus = rng.between(1, most);
        self.theirs.push(format!("--vcpus={vcpus}"));
        self.ours.push(if self.kind == Kind::QemuRange {
            format!("--range=vcpus={}..{vcpus}", rng.between(1, vcpus))
        } else {
            format!("--vcpus={vcpus}")
        });
        if rng.chance(60) {
            let model = rng.pick(&CPU_MODELS).copied().unwrap_or_default();
            self.both("--cpu-model", "--vcpu-type", model);
        } else {
            // The other program takes family 0 for none given.
            let family = rng.between(1, 0xf + 0xff);
            let (model, stepping) = (rng.between(0, 0xff), rng.between(0, 0xf));
            self.ours
                .push(format!("--cpu-family={family},{model},{stepping}"));
            for (name, value) in [("family", family), ("model", model), ("stepping", stepping)] {
                self.theirs.push(format!("--vcpu-{name}={value}"));
            }
        }
    }
}

/// Parameters as they are, and signs that are more than a byte long.
fn cmdline(rng: &mut Rng) -> String {
    const WORDS: [&str; 10] = [
        "console=ttyS0",
        "quiet",
        "panic=1",
        "-- --debug",
        "a=\"b c\"",
        "\\",
        "\t",
        "größe=1",
        "\u{1f512}",
        " ",
    ];
    let most = usize::try_from(rng.between(0, MAX_CMDLINE_BYTES as u64)).unwrap_or_default();
    let mut line = String::new();
    while let Some(word) = rng.pick(&WORDS)
        && line.len() + word.len() < most
    {
        line += word;
        line.push(' ');
    }
    line
}
