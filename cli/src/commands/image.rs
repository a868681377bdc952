//! `redoubt image`: encrypted container images.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of options are their help"
)]

use std::path::PathBuf;

use clap::{Args, Subcommand};
use redoubt_image_offload::host::{
    BrokerKey, EncryptRequest, ImageLocation, PushTarget, encrypt_image,
};
use redoubt_image_offload::{Platform, RegistryOptions, TrustRoots};
use redoubt_ocicrypt::PublicKey;
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
}

/// An image to encrypt.
#[derive(Debug, Args)]
pub(crate) struct EncryptArgs {
    /// Image to encrypt: oci:DIR[:TAG].
    source: ImageLocation,
    /// Where it goes: oci:DIR[:TAG] or docker://HOST:PORT/NAME:TAG.
    destination: ImageLocation,
    /// Key of the key broker, such as kbs:///default/key/app=FILE with 32 bytes in the file.
    #[arg(long, value_name = "KID=FILE")]
    key: Option<NamedFile>,
    /// Public key (PEM) of a recipient; may be given several times.
    #[arg(
        long = "recipient",
        value_name = "FILE",
        required_unless_present = "key"
    )]
    recipients: Vec<PathBuf>,
    /// Speak plain HTTP with the registry.
    #[arg(long)]
    plain_http: bool,
    /// Further root certificate (PEM) for the registry; may be given several times.
    #[arg(long = "ca", value_name = "FILE")]
    authorities: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Encrypted {
    manifest_digest: String,
    layers: usize,
    layer_bytes: u64,
}

impl ImageCommand {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        let Self::Encrypt(args) = self;
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
}

impl EncryptArgs {
    fn request(self) -> Result<EncryptRequest, Failure> {
        let broker_key = match self.key {
            Some(NamedFile { name, path }) => Some(BrokerKey {
                kid: name,
                key: Zeroizing::new(files::read(&path)?),
            }),
            None => None,
        };
        let mut public_keys = Vec::new();
        for path in &self.recipients {
            public_keys.push(PublicKey::parse(&files::read(path)?)?);
        }
        let mut authorities = Vec::new();
        for path in &self.authorities {
            authorities.push(files::read_text(path)?);
        }
        let trust = if authorities.is_empty() {
            TrustRoots::Public
        } else {
            TrustRoots::PublicAnd(authorities)
        };
        let insecure = match &self.destination {
            ImageLocation::Registry { registry, .. } if self.plain_http => vec![registry.clone()],
            _ => Vec::new(),
        };
        let registries = RegistryOptions {
            trust,
            insecure,
            ..RegistryOptions::default()
        };
        Ok(EncryptRequest {
            source: self.source,
            destination: self.destination,
            broker_key,
            public_keys,
            platform: Platform::default(),
            target: PushTarget {
                registries,
                ..PushTarget::default()
            },
        })
    }
}
