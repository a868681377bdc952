//! `redoubt image pull`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use redoubt_image_offload::host::pull_to_directory;
use redoubt_image_offload::{PullEvent, PullObserver, PullOptions, SignaturePolicy, Tags};
use serde::Serialize;

use super::{KeyArgs, RegistryArgs};
use crate::failure::Failure;
use crate::files;
use crate::printer::Printer;
use crate::runtime;

/// An image to pull.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Image: HOST:PORT/NAME@sha256:… or, resolved once, HOST:PORT/NAME:TAG.
    reference: String,
    /// Directory for config.json and rootfs/; must be empty or absent.
    #[arg(long, value_name = "DIR")]
    dest: PathBuf,
    #[command(flatten)]
    keys: KeyArgs,
    /// Signature policy (containers policy.json) that the image must meet.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Serialize)]
struct Pulled {
    manifest_digest: String,
    rootfs: PathBuf,
    config: PathBuf,
    elapsed_ms: u128,
}

/// The spelling of other tools is welcome too.
pub(super) fn without_transport(reference: &str) -> &str {
    reference.strip_prefix("docker://").unwrap_or(reference)
}

pub(super) fn pull(args: &PullArgs, printer: Printer) -> Result<(), Failure> {
    let started = Instant::now();
    let reference = without_transport(&args.reference);
    let registry = reference.split('/').next();
    let (private_keys, broker_keys) = args.keys.read()?;
    let signature_policy = match &args.policy {
        Some(path) => Some(SignaturePolicy::parse(&files::read(path)?)?),
        None => None,
    };
    let options = PullOptions {
        registries: args.registry.options(registry)?,
        private_keys,
        signature_policy,
        tags: Tags::Resolve,
        ..PullOptions::default()
    };
    let observer = Remarks(printer);
    let pulling = pull_to_directory(&args.dest, reference, &options, &broker_keys, &observer);
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
