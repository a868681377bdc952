//! The random comparison of `redoubt` with `sev-snp-measure`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::cases::{self, Case, Files, Kind};
use super::rng::Rng;
use super::{Answer, Request, SevSnpMeasure, VERSION};
use crate::paths::{Paths, text};
use crate::printer::Printer;
use crate::setup::Prepared;

const LAUNCHES: usize = 256;
const ID_BLOCKS: usize = 16;
/// Test keys: they protect nothing.
const KEYS: &str = "measured-boot/id-block/testdata";
/// The guest policy that the other program signs.
const THEIR_POLICY: &str = "0x30000";
/// How a launch without a place for kernel hashes is refused: SEV-SNP, and the older generations.
const REFUSALS: [&str; 2] = ["[RDT-DIG-006]", "[RDT-DIG-010]"];

/// Compares random launches and ID blocks; fails at the first that the programs disagree on.
///
/// Without a seed, the launches are others each time.
pub(crate) fn run(
    printer: &Printer,
    paths: &Paths,
    prepared: &Prepared,
    seed: Option<u64>,
) -> Result<()> {
    let peer = SevSnpMeasure::install(printer, paths)?;
    let seed = match seed {
        Some(seed) => seed,
        None => fresh_seed()?,
    };
    printer.step(&format!(
        "comparing with sev-snp-measure {VERSION} (--seed {seed} repeats it)"
    ));
    let folder = std::env::temp_dir().join(format!("redoubt-peer-{}", std::process::id()));
    fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let comparison = Comparison {
        redoubt: paths.binary("redoubt"),
        folder: folder.clone(),
        peer,
    };
    let mut rng = Rng::new(seed);
    let compared = comparison
        .launches(printer, paths, prepared, &mut rng)
        .and_then(|()| comparison.id_blocks(printer, paths, &mut rng));
    fs::remove_dir_all(&folder)?;
    compared
}

fn fresh_seed() -> Result<u64> {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH)?;
    Ok(since.as_secs() ^ u64::from(since.subsec_nanos()))
}

struct Comparison {
    redoubt: PathBuf,
    folder: PathBuf,
    peer: SevSnpMeasure,
}

impl Comparison {
    fn launches(
        &self,
        printer: &Printer,
        paths: &Paths,
        prepared: &Prepared,
        rng: &mut Rng,
    ) -> Result<()> {
        let given = (prepared.firmware.as_path(), prepared.kernel.as_path());
        let files = Files::prepare(paths, &self.folder, given, rng)?;
        let cases = (0..LAUNCHES)
            .map(|_| cases::case(&files, rng))
            .collect::<Result<Vec<_>>>()?;
        let requests: Vec<_> = cases
            .iter()
            .map(|case| Request {
                program: "sev-snp-measure",
                arguments: &case.theirs,
            })
            .collect();
        let answers = self.peer.answers(&requests, &self.folder)?;
        let mut digests = BTreeSet::new();
        let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
        for (case, answer) in cases.iter().zip(answers) {
            digests.extend(self.launch(case, &answer)?);
            *kinds.entry(case.kind).or_default() += 1;
        }
        let impossible = cases.iter().filter(|case| case.is_impossible).count();
        // Comparisons of one and the same launch would be no comparisons.
        ensure!(
            digests.len() + impossible >= LAUNCHES * 9 / 10,
            "only {} of {LAUNCHES} digests differ from each other",
            digests.len()
        );
        let kinds: Vec<_> = kinds
            .iter()
            .map(|(kind, count)| format!("{} {count}", kind.name()))
            .collect();
        printer.line(&format!(
            "launches        {LAUNCHES} agree: {} digests, {impossible} refused ({})",
            digests.len(),
            kinds.join(", ")
        ));
        Ok(())
    }

    /// The digest that both computed, if the launch is possible.
    fn launch(&self, case: &Case, theirs: &Answer) -> Result<Option<String>> {
        let output = Command::new(&self.redoubt).args(&case.ours).output()?;
        let stdout = String::from_utf8(output.stdout)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        // Of a range, the other program computes the largest.
        let ours = stdout.lines().last().unwrap_or_default();
        let agreed = if case.is_impossible {
            let refused = REFUSALS.iter().any(|code| stderr.starts_with(code));
            theirs.code == 1 && refused && ours.is_empty()
        } else {
            theirs.code == 0 && output.status.success() && ours == theirs.output.trim()
        };
        ensure!(
            agreed,
            "redoubt and sev-snp-measure disagree on {}\n\
             redoubt {}\n  {ours}{stderr}\nsev-snp-measure {}\n  {}",
            case.kind.name(),
            quoted(&case.ours),
            quoted(&case.theirs),
            theirs.output.trim()
        );
        Ok((!case.is_impossible).then(|| ours.to_owned()))
    }

    fn id_blocks(&self, printer: &Printer, paths: &Paths, rng: &mut Rng) -> Result<()> {
        let key = |name: &str| paths.root.join(KEYS).join(name);
        let keys = (key("py-id_key_test.pem"), key("py-author_key_test.pem"));
        for _ in 0..ID_BLOCKS {
            self.id_block((&keys.0, &keys.1), &rng.bytes(48))?;
        }
        printer.line(&format!(
            "ID blocks       {ID_BLOCKS} agree, and the signatures of sev-snp-measure hold"
        ));
        Ok(())
    }

    /// One ID block by both programs. The other's signatures, which are never the same twice,
    /// must hold.
    fn id_block(&self, (id_key, author_key): (&Path, &Path), digest: &[u8]) -> Result<()> {
        let (id_key, author_key) = (text(id_key)?, text(author_key)?);
        let arguments = [
            format!("--measurement={}", STANDARD.encode(digest)),
            format!("--idkey={id_key}"),
            format!("--authorkey={author_key}"),
        ];
        let request = Request {
            program: "snp-create-id-block",
            arguments: &arguments,
        };
        let answer = self.peer.answers(&[request], &self.folder)?;
        let answer = answer.first().context("there is no answer")?;
        ensure!(answer.code == 0, "snp-create-id-block fails");
        let (block, rest) = answer
            .output
            .strip_prefix("id-block=")
            .and_then(|text| text.split_once(",id-auth="))
            .context("snp-create-id-block prints no ID block")?;
        let auth = rest.lines().next().unwrap_or_default();
        let (block_file, auth_file) = (self.folder.join("block"), self.folder.join("auth"));
        fs::write(&block_file, block)?;
        fs::write(&auth_file, auth)?;
        let theirs = Self::json(Command::new(&self.redoubt).args([
            "id-block",
            "inspect",
            "--json",
            text(&block_file)?,
            text(&auth_file)?,
        ]))?;
        let mut create = Command::new(&self.redoubt);
        create.args(["id-block", "create", "--json"]);
        create.args(["--digest", &hex::encode(digest)]);
        create.args(["--guest-policy", THEIR_POLICY]);
        create.args(["--id-key", id_key, "--author-key", author_key]);
        let ours = Self::json(&mut create)?;
        for member in [
            "launch_digest",
            "guest_policy",
            "id_key_digest",
            "author_key_digest",
            "snp_id_block",
        ] {
            ensure!(
                ours[member].is_string() && ours[member] == theirs[member],
                "the programs disagree on {member}: {} and {}",
                ours[member],
                theirs[member]
            );
        }
        Ok(())
    }

    fn json(command: &mut Command) -> Result<Value> {
        let output = command.output()?;
        if !output.status.success() {
            bail!("redoubt: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// Arguments as a shell takes them.
fn quoted(arguments: &[String]) -> String {
    let quoted = arguments
        .iter()
        .map(|argument| format!("'{}'", argument.replace('\'', r"'\''")));
    quoted.collect::<Vec<_>>().join(" ")
}
