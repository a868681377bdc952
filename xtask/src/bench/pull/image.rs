//! A large image whose layers are Debian packages.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::registry::LoopbackRegistry;
use crate::apt::{PrivateApt, run};
use crate::paths::{Paths, text};
use crate::printer::Printer;

const SUITE: &str = "bookworm";

/// The layers, lowest first, and the packages in each: many small files, few large ones,
/// text, programs, and fonts that are compressed already.
const LAYERS: [(&str, &[&str]); 10] = [
    (
        "base",
        &[
            "libc6",
            "coreutils",
            "perl-modules-5.36",
            "libpython3.11-stdlib",
        ],
    ),
    ("llvm", &["libllvm15"]),
    ("java", &["openjdk-17-jre-headless"]),
    ("go", &["golang-1.19-go"]),
    ("go-sources", &["golang-1.19-src"]),
    ("headers", &["libboost1.74-dev"]),
    ("compilers", &["gcc-12", "cpp-12"]),
    ("tools", &["vim-runtime", "git", "python3-sympy"]),
    ("office", &["libreoffice-core"]),
    ("fonts", &["fonts-noto-cjk"]),
];

/// The image that the benchmark promises.
const LEAST_BLOB_BYTES: u64 = 300 << 20;

/// How layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Compression {
    /// As most images are.
    Gzip,
    /// As images of the last years may be.
    Zstd,
}

impl Compression {
    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The program of the floor, with its arguments.
    pub(super) const fn decompressor(self) -> &'static str {
        match self {
            Self::Gzip => "pigz -dc",
            Self::Zstd => "zstd -dcq",
        }
    }

    fn compress(self, file: &Path) -> Result<PathBuf> {
        let (mut command, extension) = match self {
            Self::Gzip => (Command::new("pigz"), "tar.gz"),
            Self::Zstd => (Command::new("zstd"), "tar.zst"),
        };
        match self {
            Self::Gzip => command.args(["-6", "-n", "-k", "-f"]),
            Self::Zstd => command.args(["-q", "-3", "-T0", "-f"]),
        };
        run(command.arg(file), "compress a layer")?;
        Ok(file.with_extension(extension))
    }
}

/// The image as an OCI layout, and what it is made of.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BenchImage {
    layout: PathBuf,
    compression: String,
    /// Digests of the layers' blobs, lowest first.
    layers: Vec<String>,
    blob_bytes: u64,
    archive_bytes: u64,
    entries: u64,
    manifest: String,
}

/// The image in the registry.
pub(super) struct PushedImages {
    /// Reference by digest.
    pub(super) plain: String,
    /// The same image, its layers encrypted.
    pub(super) encrypted: String,
    /// Digests of the plain layers' blobs.
    pub(super) layers: Vec<String>,
}

impl BenchImage {
    /// Builds the image, or takes the one that an earlier run built.
    pub(super) fn prepare(
        printer: &Printer,
        paths: &Paths,
        folder: &Path,
        compression: Compression,
    ) -> Result<Self> {
        let record = folder.join(format!("{}.json", compression.name()));
        if let Ok(text) = fs::read_to_string(&record)
            && let Ok(image) = serde_json::from_str::<Self>(&text)
            && image.layout.join("index.json").exists()
        {
            return Ok(image);
        }
        printer.step("building the image from Debian packages");
        let archives = archives(printer, paths, folder)?;
        let image = Self::build(folder, &archives, compression)?;
        ensure!(
            image.blob_bytes >= LEAST_BLOB_BYTES,
            "the image has only {} bytes",
            image.blob_bytes
        );
        fs::write(record, serde_json::to_string_pretty(&image)?)?;
        Ok(image)
    }

    fn build(folder: &Path, archives: &[PathBuf], compression: Compression) -> Result<Self> {
        let layout = folder.join(format!("layout-{}", compression.name()));
        let _ = fs::remove_dir_all(&layout);
        fs::create_dir_all(layout.join("blobs/sha256"))?;
        let (mut diff_ids, mut descriptors, mut layers) = (vec![], vec![], vec![]);
        let (mut blob_bytes, mut archive_bytes, mut entries) = (0, 0, 0);
        for archive in archives {
            let (diff_id, bytes) = digest_of(archive)?;
            archive_bytes += bytes;
            entries += count_entries(archive)?;
            diff_ids.push(diff_id);
            let blob = compression.compress(archive)?;
            let (digest, size) = add_blob(&layout, &blob)?;
            let media_type = format!(
                "application/vnd.oci.image.layer.v1.tar+{}",
                compression.name()
            );
            descriptors.push(json!({"mediaType": media_type, "digest": digest, "size": size}));
            layers.push(digest);
            blob_bytes += size;
        }
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let (digest, size) = add_document(&layout, &config)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest, "size": size,
            },
            "layers": descriptors,
        });
        let (manifest, size) = add_document(&layout, &manifest)?;
        fs::write(
            layout.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": manifest, "size": size,
            "annotations": {"org.opencontainers.image.ref.name": "v1"},
        }]});
        fs::write(layout.join("index.json"), index.to_string())?;
        Ok(Self {
            layout,
            compression: compression.name().to_owned(),
            layers,
            blob_bytes,
            archive_bytes,
            entries,
            manifest,
        })
    }

    /// Pushes the image as it is and, by `redoubt image encrypt`, encrypted.
    pub(super) fn push(
        &self,
        registry: &LoopbackRegistry,
        program: &Path,
        key: &str,
    ) -> Result<PushedImages> {
        let source = format!("oci:{}:v1", text(&self.layout)?);
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--quiet", "--dest-tls-verify=false", &source]);
        copy.arg(format!("docker://{}", registry.reference(":plain")));
        run(&mut copy, "push the image")?;
        let mut encrypt = Command::new(program);
        encrypt.args(["image", "encrypt", "--plain-http", "--key", key, &source]);
        encrypt.arg(format!("docker://{}", registry.reference(":encrypted")));
        let output = encrypt.output().context("redoubt does not start")?;
        ensure!(
            output.status.success(),
            "cannot encrypt: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let shown = String::from_utf8(output.stdout)?;
        let digest = shown.lines().next().context("no digest was printed")?;
        Ok(PushedImages {
            plain: registry.reference(&format!("@{}", self.manifest)),
            encrypted: registry.reference(&format!("@{digest}")),
            layers: self.layers.clone(),
        })
    }

    /// The image in one line.
    pub(super) fn describe(&self) -> String {
        format!(
            "{} layers, {} MiB {}, {} MiB unpacked, {} entries, on tmpfs",
            self.layers.len(),
            self.blob_bytes >> 20,
            self.compression,
            self.archive_bytes >> 20,
            self.entries
        )
    }
}

/// One archive per layer, made once for both compressions.
fn archives(printer: &Printer, paths: &Paths, folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = folder.join("archives");
    let archives: Vec<PathBuf> = LAYERS
        .iter()
        .map(|(name, _)| folder.join(format!("{name}.tar")))
        .collect();
    if archives.iter().all(|archive| archive.exists()) {
        return Ok(archives);
    }
    fs::create_dir_all(&folder)?;
    let apt = PrivateApt::prepare(printer, &paths.apt().join("bench"), &[SUITE])?;
    for ((_, packages), archive) in LAYERS.iter().zip(&archives) {
        let unpacked = folder.join("unpacked");
        let mut command = Command::new("tar");
        command.args(["--create", "--format=pax", "--sort=name", "--numeric-owner"]);
        let unfinished = archive.with_extension("unfinished");
        command.arg("--file").arg(&unfinished);
        for package in *packages {
            let root = unpacked.join(package);
            apt.unpack(SUITE, package, &root)?;
            command.arg("-C").arg(root).arg(".");
        }
        run(&mut command, "make a layer")?;
        fs::rename(unfinished, archive)?;
        fs::remove_dir_all(&unpacked)?;
    }
    Ok(archives)
}

fn digest_of(path: &Path) -> Result<(String, u64)> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((format!("sha256:{}", hex::encode(hasher.finalize())), bytes));
        }
        bytes += count as u64;
        hasher.update(&buffer[..count]);
    }
}

fn count_entries(archive: &Path) -> Result<u64> {
    let output = Command::new("tar").arg("-tf").arg(archive).output()?;
    let lines = output.stdout.split(|&byte| byte == b'\n').count();
    Ok((lines as u64).saturating_sub(1))
}

fn add_blob(layout: &Path, file: &Path) -> Result<(String, u64)> {
    let (digest, bytes) = digest_of(file)?;
    let hex = digest.trim_start_matches("sha256:");
    fs::rename(file, layout.join("blobs/sha256").join(hex))?;
    Ok((digest, bytes))
}

fn add_document(layout: &Path, document: &Value) -> Result<(String, u64)> {
    let text = document.to_string();
    let hex = hex::encode(Sha256::digest(text.as_bytes()));
    fs::write(layout.join("blobs/sha256").join(&hex), &text)?;
    Ok((format!("sha256:{hex}"), text.len() as u64))
}
