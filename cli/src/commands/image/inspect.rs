//! `redoubt image inspect` and `sign-check`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use redoubt_image_offload::host::{ImageLocation, check_signatures, inspect_image};
use redoubt_image_offload::{Platform, SignaturePolicy, StaticKeys};
use serde::Serialize;

use super::RegistryArgs;
use super::pull::without_transport;
use crate::failure::Failure;
use crate::files;
use crate::printer::Printer;
use crate::runtime;

/// An image to look into.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Image: oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker://HOST:PORT/NAME:TAG.
    source: ImageLocation,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// An image to hold against a policy.
#[derive(Debug, Args)]
pub(crate) struct SignCheckArgs {
    /// Image: HOST:PORT/NAME@sha256:… or HOST:PORT/NAME:TAG.
    reference: String,
    /// Signature policy (containers policy.json).
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Serialize)]
struct Inspected {
    manifest_digest: String,
    layers: Vec<InspectedLayer>,
}

#[derive(Serialize)]
struct InspectedLayer {
    digest: String,
    bytes: u64,
    media_type: String,
    recipients: Vec<String>,
}

#[derive(Serialize)]
struct Accepted {
    digest: String,
    signed: usize,
}

pub(super) fn inspect(args: &InspectArgs, printer: Printer) -> Result<(), Failure> {
    let access = args.registry.access(args.source.registry())?;
    let platform = Platform::default();
    let inspecting = inspect_image(&args.source, &platform, &access);
    let image = runtime::runtime()?.block_on(inspecting)?;
    let inspected = Inspected {
        manifest_digest: image.manifest_digest.to_string(),
        layers: image
            .layers
            .into_iter()
            .map(|layer| InspectedLayer {
                digest: layer.digest.to_string(),
                bytes: layer.bytes,
                media_type: layer.media_type,
                recipients: layer.recipients,
            })
            .collect(),
    };
    printer.result(&inspected, || {
        let mut text = format!("{}\n", inspected.manifest_digest);
        for layer in &inspected.layers {
            let recipients = if layer.recipients.is_empty() {
                "not encrypted".to_owned()
            } else {
                layer.recipients.join(", ")
            };
            let _ = writeln!(
                text,
                "{}  {} bytes  {}  {recipients}",
                layer.digest, layer.bytes, layer.media_type
            );
        }
        text
    })
}

pub(super) fn sign_check(args: &SignCheckArgs, printer: Printer) -> Result<(), Failure> {
    let reference = without_transport(&args.reference);
    let policy = SignaturePolicy::parse(&files::read(&args.policy)?)?;
    let access = args.registry.access(reference.split('/').next())?;
    let keys = StaticKeys::none();
    let platform = Platform::default();
    let checking = check_signatures(reference, &policy, &platform, &access, &keys);
    let image = runtime::runtime()?.block_on(checking)?;
    let accepted = Accepted {
        digest: image.digest.to_string(),
        signed: image.signed,
    };
    printer.result(&accepted, || {
        format!(
            "{}\naccepted; signatures that the policy asked for: {}\n",
            accepted.digest, accepted.signed
        )
    })
}
