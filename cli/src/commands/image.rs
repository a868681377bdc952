//! `redoubt image`: encrypted container images.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of options are their help"
)]

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use clap::{Args, Subcommand};
use redoubt_image_offload::host::{
    BrokerKey, EncryptRequest, ImageLocation, PushTarget, encrypt_image, pull_to_directory,
};
use redoubt_image_offload::{
    Platform, PullEvent, PullObserver, PullOptions, RegistryOptions, StaticKeys, TrustRoots,
};
use redoubt_ocicrypt::{PacketVersion, PrivateKey, PublicKey, RecipientCertificate};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::files;
use crate::printer::Printer;
use crate::runtime;
use crate::values::NamedFile;

/// What to do about images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Encrypt an image's layers and write or push the result.
    Encrypt(EncryptArgs),
    /// Pull an image as a guest does, and unpack it into a directory.
    Pull(PullArgs),
}

/// How the registry is reached.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Speak plain HTTP with the registry.
    #[arg(long)]
    plain_http: bool,
    /// Further root certificate (PEM) for the registry; may be given several times.
    #[arg(long = "ca", value_name = "FILE")]
    authorities: Vec<PathBuf>,
}

impl RegistryArgs {
    /// The options for one registry, `HOST[:PORT]`.
    fn options(&self, registry: Option<&str>) -> Result<RegistryOptions, Failure> {
        let mut authorities = Vec::new();
        for path in &self.authorities {
            authorities.push(files::read_text(path)?);
        }
        let trust = if authorities.is_empty() {
            TrustRoots::Public
        } else {
            TrustRoots::PublicAnd(authorities)
        };
        let insecure = registry.filter(|_| self.plain_http).map(str::to_owned);
        Ok(RegistryOptions {
            trust,
            insecure: insecure.into_iter().collect(),
            ..RegistryOptions::default()
        })
    }
}

/// An image to encrypt.
#[derive(Debug, Args)]
pub(crate) struct EncryptArgs {
    /// Image to encrypt: oci:DIR[:TAG].
    source: ImageLocation,
    /// Where it goes: oci:DIR[:TAG] or docker://HOST:PORT/NAME:TAG.
    destination: ImageLocation,
    /// Key of the key broker, such as kbs:///default/key/app=FILE with 32 bytes in the file;
    /// may be given several times.
    #[arg(long = "key", value_name = "KID=FILE")]
    keys: Vec<NamedFile>,
    /// Public key (PEM, DER or JWK; makes a JWE) or certificate (makes PKCS #7) of a recipient;
    /// may be given several times.
    #[arg(
        long = "recipient",
        value_name = "FILE",
        required_unless_present = "keys"
    )]
    recipients: Vec<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// An image to pull.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Image by digest: HOST:PORT/NAME@sha256:….
    reference: String,
    /// Directory for config.json and rootfs/; must be empty or absent.
    #[arg(long, value_name = "DIR")]
    dest: PathBuf,
    /// Key: a file with an EC P-256 private key, or KID=FILE with the 32 bytes of a broker key;
    /// may be given several times.
    #[arg(long = "key", value_name = "FILE|KID=FILE")]
    keys: Vec<PullKey>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// A key to open layers with.
#[derive(Clone, Debug)]
pub(crate) enum PullKey {
    Private(PathBuf),
    Broker(NamedFile),
}

impl FromStr for PullKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Key ids of a broker are URIs; anything else is the name of a file.
        if text
            .split_once('=')
            .is_some_and(|(kid, _)| kid.contains("://"))
        {
            return text.parse().map(Self::Broker);
        }
        Ok(Self::Private(text.into()))
    }
}

#[derive(Serialize)]
struct Encrypted {
    manifest_digest: String,
    layers: usize,
    layer_bytes: u64,
}

impl ImageCommand {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Encrypt(args) => encrypt(args, printer),
            Self::Pull(args) => pull(&args, printer),
        }
    }
}

fn encrypt(args: EncryptArgs, printer: Printer) -> Result<(), Failure> {
    let request = args.request()?;
    let made = runtime::runtime()?.block_on(encrypt_image(&request))?;
    let encrypted = Encrypted {
        manifest_digest: made.manifest_digest.to_string(),
        layers: made.layers,
        layer_bytes: made.layer_bytes,
    };
    printer.result(&encrypted, || {
        format!(
            "{}\n{} layers, {} bytes encrypted\n",
            encrypted.manifest_digest, encrypted.layers, encrypted.layer_bytes
        )
    })
}

#[derive(Serialize)]
struct Pulled {
    manifest_digest: String,
    rootfs: PathBuf,
    config: PathBuf,
    elapsed_ms: u128,
}

fn pull(args: &PullArgs, printer: Printer) -> Result<(), Failure> {
    let started = Instant::now();
    // The spelling of other tools is welcome too.
    let reference = args
        .reference
        .strip_prefix("docker://")
        .unwrap_or(&args.reference);
    let registry = reference.split('/').next();
    let mut options = PullOptions {
        registries: args.registry.options(registry)?,
        ..PullOptions::default()
    };
    let mut keys = StaticKeys::none();
    for key in &args.keys {
        match key {
            PullKey::Private(path) => {
                let bytes = Zeroizing::new(files::read(path)?);
                options.private_keys.push(PrivateKey::parse(&bytes)?);
            }
            PullKey::Broker(NamedFile { name, path }) => {
                keys = keys.with(name.as_str(), Zeroizing::new(files::read(path)?));
            }
        }
    }
    let observer = Remarks(printer);
    let pulling = pull_to_directory(&args.dest, reference, &options, &keys, &observer);
    let image = runtime::runtime()?.block_on(pulling)?;
    let pulled = Pulled {
        manifest_digest: image.manifest_digest.to_string(),
        rootfs: image.rootfs,
        config: image.config,
        elapsed_ms: started.elapsed().as_millis(),
    };
    printer.result(&pulled, || {
        format!(
            "{}\nunpacked to {} in {} ms\n",
            pulled.manifest_digest,
            pulled.rootfs.display(),
            pulled.elapsed_ms
        )
    })
}

/// Tells of attempts that are repeated; the rest is in the result.
struct Remarks(Printer);

impl PullObserver for Remarks {
    fn event(&self, event: PullEvent) {
        if let PullEvent::Retrying {
            what,
            attempt,
            reason,
            ..
        } = event
        {
            self.0
                .remark(&format!("attempt {attempt} for {what} failed: {reason}"));
        }
    }
}

impl EncryptArgs {
    fn request(self) -> Result<EncryptRequest, Failure> {
        let mut broker_keys = Vec::new();
        for NamedFile { name, path } in self.keys {
            broker_keys.push(BrokerKey {
                kid: name,
                key: Zeroizing::new(files::read(&path)?),
            });
        }
        let mut public_keys = Vec::new();
        let mut certificates = Vec::new();
        for path in &self.recipients {
            let bytes = files::read(path)?;
            if let Ok(certificate) = RecipientCertificate::parse(&bytes) {
                certificates.push(certificate);
            } else {
                public_keys.push(PublicKey::parse(&bytes)?);
            }
        }
        let registry = match &self.destination {
            ImageLocation::Registry { registry, .. } => Some(registry.as_str()),
            ImageLocation::Layout { .. } => None,
        };
        let registries = self.registry.options(registry)?;
        Ok(EncryptRequest {
            source: self.source,
            destination: self.destination,
            broker_keys,
            packet_version: PacketVersion::V1,
            public_keys,
            certificates,
            platform: Platform::default(),
            target: PushTarget {
                registries,
                ..PushTarget::default()
            },
        })
    }
}
