//! `redoubt image`: encrypted and signed container images.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of options are their help"
)]

mod convert;
mod inspect;
mod pull;

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use redoubt_image_offload::host::RegistryAccess;
use redoubt_image_offload::{RegistryCredential, RegistryOptions, StaticKeys, TrustRoots};
use redoubt_ocicrypt::PrivateKey;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::files;
use crate::printer::Printer;
use crate::values::NamedFile;

/// What to do about images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Encrypt an image's layers and write or push the result.
    Encrypt(convert::EncryptArgs),
    /// Decrypt an image's layers and write or push the result.
    Decrypt(convert::DecryptArgs),
    /// Show an image's layers and who can open them.
    Inspect(inspect::InspectArgs),
    /// Pull an image as a guest does, and unpack it into a directory.
    Pull(pull::PullArgs),
    /// Hold an image against a signature policy without pulling it.
    SignCheck(inspect::SignCheckArgs),
}

impl ImageCommand {
    pub(super) fn run(self, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Encrypt(args) => convert::encrypt(args, printer),
            Self::Decrypt(args) => convert::decrypt(args, printer),
            Self::Inspect(args) => inspect::inspect(&args, printer),
            Self::Pull(args) => pull::pull(&args, printer),
            Self::SignCheck(args) => inspect::sign_check(&args, printer),
        }
    }
}

/// How registries are reached.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Speak plain HTTP with the registry; a registry on this machine's loopback needs no saying.
    #[arg(long)]
    plain_http: bool,
    /// Further root certificate (PEM) for the registry; may be given several times.
    #[arg(long = "ca", value_name = "FILE")]
    authorities: Vec<PathBuf>,
    /// User names and passwords, as container tools keep them (auth.json).
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

impl RegistryArgs {
    /// The options for these registries, `HOST[:PORT]` each.
    fn options<'a>(
        &self,
        registries: impl IntoIterator<Item = &'a str>,
    ) -> Result<RegistryOptions, Failure> {
        let mut authorities = Vec::new();
        for path in &self.authorities {
            authorities.push(files::read_text(path)?);
        }
        let speaks_plain = |registry: &&str| {
            self.plain_http || (self.authorities.is_empty() && is_loopback(registry))
        };
        let insecure = registries
            .into_iter()
            .filter(speaks_plain)
            .map(str::to_owned)
            .collect();
        let trust = if authorities.is_empty() {
            TrustRoots::Public
        } else {
            TrustRoots::PublicAnd(authorities)
        };
        let credentials = match &self.authfile {
            Some(path) => {
                let json = Zeroizing::new(files::read(path)?);
                RegistryCredential::from_auth_json(&json)?
            }
            None => Vec::new(),
        };
        Ok(RegistryOptions {
            trust,
            insecure,
            credentials,
            ..RegistryOptions::default()
        })
    }

    fn access<'a>(
        &self,
        registries: impl IntoIterator<Item = &'a str>,
    ) -> Result<RegistryAccess, Failure> {
        Ok(RegistryAccess {
            registries: self.options(registries)?,
            ..RegistryAccess::default()
        })
    }
}

/// Whether a registry is on this machine's loopback, which nobody else can
/// listen to: other tools speak plain HTTP with it too.
fn is_loopback(registry: &str) -> bool {
    let host = registry
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(registry, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Keys to open layers with.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// Key: a file with a private key (PEM, DER or JWK; EC P-256 or RSA) for JWE and PKCS #7, or
    /// KID=FILE with the 32 bytes of a broker key; may be given several times.
    #[arg(long = "key", value_name = "FILE|KID=FILE")]
    keys: Vec<LayerKey>,
}

impl KeyArgs {
    fn read(&self) -> Result<(Vec<PrivateKey>, StaticKeys), Failure> {
        let mut private_keys = Vec::new();
        let mut broker_keys = StaticKeys::none();
        for key in &self.keys {
            match key {
                LayerKey::Private(path) => {
                    let bytes = Zeroizing::new(files::read(path)?);
                    private_keys.push(PrivateKey::parse(&bytes)?);
                }
                LayerKey::Broker(NamedFile { name, path }) => {
                    let bytes = Zeroizing::new(files::read(path)?);
                    broker_keys = broker_keys.with(name.as_str(), bytes);
                }
            }
        }
        Ok((private_keys, broker_keys))
    }
}

/// A key to open layers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LayerKey {
    Private(PathBuf),
    Broker(NamedFile),
}

impl FromStr for LayerKey {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_needs_no_saying_on_loopback_alone() {
        for (registry, expected) in [
            ("127.0.0.1:5000", true),
            ("127.8.9.1", true),
            ("localhost:5000", true),
            ("localhost", true),
            ("[::1]:5000", true),
            ("10.0.0.1:5000", false),
            ("localhost.example", false),
            ("127.0.0.1.example:5000", false),
        ] {
            assert_eq!(is_loopback(registry), expected, "{registry}");
        }
    }

    #[test]
    fn a_key_is_a_file_unless_a_key_id_stands_before_it() {
        assert_eq!(
            "a=b.pem".parse::<LayerKey>().unwrap(),
            LayerKey::Private("a=b.pem".into())
        );
        assert!(matches!(
            "kbs:///a/b/c=k".parse::<LayerKey>().unwrap(),
            LayerKey::Broker(_)
        ));
    }
}
