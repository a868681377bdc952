//! `redoubt image encrypt` and `decrypt`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use redoubt_image_offload::Platform;
use redoubt_image_offload::host::{
    BrokerKey, DecryptRequest, EncryptRequest, ImageLocation, decrypt_image, encrypt_image,
};
use redoubt_ocicrypt::{OcicryptError, PacketVersion, PublicKey, RecipientCertificate};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{KeyArgs, RegistryArgs};
use crate::failure::Failure;
use crate::files;
use crate::printer::Printer;
use crate::runtime;
use crate::values::NamedFile;

/// An image to encrypt.
#[derive(Debug, Args)]
pub(crate) struct EncryptArgs {
    /// Image to encrypt: oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker://HOST:PORT/NAME:TAG.
    source: ImageLocation,
    /// Where it goes, in one of the same forms.
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
    /// Form of the packets that name keys of the key broker.
    #[arg(long, value_enum, default_value_t = Packets::V1)]
    packets: Packets,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Forms of provider packets.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Packets {
    /// Without a version; every reader knows it.
    V1,
    /// With a version and the provider's name.
    V2,
}

/// An image to decrypt.
#[derive(Debug, Args)]
pub(crate) struct DecryptArgs {
    /// Image to decrypt: oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker://HOST:PORT/NAME:TAG.
    source: ImageLocation,
    /// Where it goes, in one of the same forms.
    destination: ImageLocation,
    #[command(flatten)]
    keys: KeyArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Serialize)]
struct Encrypted {
    manifest_digest: String,
    layers: usize,
    layer_bytes: u64,
}

#[derive(Serialize)]
struct Decrypted {
    manifest_digest: String,
    layers: usize,
}

fn registries(places: [&ImageLocation; 2]) -> impl Iterator<Item = &str> {
    places.into_iter().filter_map(ImageLocation::registry)
}

pub(super) fn encrypt(args: EncryptArgs, printer: Printer) -> Result<(), Failure> {
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

pub(super) fn decrypt(args: DecryptArgs, printer: Printer) -> Result<(), Failure> {
    let (private_keys, broker_keys) = args.keys.read()?;
    let access = args
        .registry
        .access(registries([&args.source, &args.destination]))?;
    let request = DecryptRequest {
        source: args.source,
        destination: args.destination,
        private_keys,
        platform: Platform::default(),
        access,
    };
    let made = runtime::runtime()?.block_on(decrypt_image(&request, &broker_keys))?;
    let decrypted = Decrypted {
        manifest_digest: made.manifest_digest.to_string(),
        layers: made.layers,
    };
    printer.result(&decrypted, || {
        format!(
            "{}\n{} layers decrypted\n",
            decrypted.manifest_digest, decrypted.layers
        )
    })
}

/// What a recipient's file holds.
enum RecipientKey {
    Public(PublicKey),
    Certificate(RecipientCertificate),
}

impl RecipientKey {
    fn parse(bytes: &[u8]) -> Result<Self, OcicryptError> {
        let is_certificate = bytes
            .windows(22)
            .any(|window| window == b"-----BEGIN CERTIFICATE");
        if is_certificate {
            return RecipientCertificate::parse(bytes).map(Self::Certificate);
        }
        match PublicKey::parse(bytes) {
            Ok(key) => Ok(Self::Public(key)),
            // In DER both are bytes; the key's error is the one to show.
            Err(error) => RecipientCertificate::parse(bytes)
                .map(Self::Certificate)
                .map_err(|_| error),
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
        let (mut public_keys, mut certificates) = (Vec::new(), Vec::new());
        for path in &self.recipients {
            match RecipientKey::parse(&files::read(path)?)? {
                RecipientKey::Public(key) => public_keys.push(key),
                RecipientKey::Certificate(certificate) => certificates.push(certificate),
            }
        }
        let access = self
            .registry
            .access(registries([&self.source, &self.destination]))?;
        Ok(EncryptRequest {
            source: self.source,
            destination: self.destination,
            broker_keys,
            packet_version: match self.packets {
                Packets::V1 => PacketVersion::V1,
                Packets::V2 => PacketVersion::V2,
            },
            public_keys,
            certificates,
            platform: Platform::default(),
            access,
        })
    }
}
