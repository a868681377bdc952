//! The store of unpacked layers and the pulls into it.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use futures::stream::{self, StreamExt};
use redoubt_ocicrypt::Compression;
use rustix::fs::{FlockOperation, flock, statvfs};

use crate::digest::Digest;
use crate::errors::ImageError;
use crate::events::{PullEvent, PullObserver};
use crate::image::{ImageConfig, MAX_CONFIG_BYTES, Manifest};
use crate::interrupt::Interrupt;
use crate::keys::{KeyCache, KeySource};
use crate::layer::{FILES, Job, LayerContext, Prepared};
use crate::mount;
use crate::options::{PullOptions, Tags};
use crate::reference::AnyReference;
use crate::registry::{Access, DocumentKind, Registry};
use crate::resolve::resolve_manifest;
use crate::signature::check;
use crate::sources::sources;
use crate::staging::Staging;

/// Layers in work at the same time unless the options say otherwise.
const PARALLEL_LAYERS: usize = 3;
/// How many times its blob's size a compressed layer usually takes.
const USUAL_RATIO: u64 = 3;
const LAYERS: &str = "layers";
const STAGING: &str = "staging";
const LOCK: &str = "lock";

/// Unpacked layers under a work directory, which one process uses at a time.
#[derive(Debug)]
pub struct ImageStore {
    work_dir: PathBuf,
    /// Holds the lock as long as the store is open.
    _lock: File,
}

/// An image whose layers are all in the store, verified.
#[derive(Clone, Debug)]
pub struct PulledImage {
    /// The digest in the reference: of the manifest, or of an index above it.
    pub pinned_digest: Digest,
    /// Digest of the manifest for this platform.
    pub manifest_digest: Digest,
    /// What the image says about the process to run in it.
    pub config: ImageConfig,
    /// The image configuration as it is in the registry.
    pub config_json: Vec<u8>,
    /// The unpacked layers, lowest first.
    pub layers: Vec<LayerDir>,
}

/// One unpacked layer in overlay form: whiteouts are 0:0 devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerDir {
    /// Digest of the layer's uncompressed archive.
    pub diff_id: Digest,
    /// The directory with the layer's files.
    pub path: PathBuf,
}

impl ImageStore {
    /// Opens a store, creates its directory, and removes what an interrupted
    /// pull left behind.
    ///
    /// The directory must be on a file system with extended attributes; an
    /// initial RAM disk is none.
    pub fn open(work_dir: impl Into<PathBuf>) -> Result<Self, ImageError> {
        let work_dir = work_dir.into();
        let layers = work_dir.join(LAYERS);
        std::fs::create_dir_all(&layers)
            .map_err(|error| ImageError::io("create", &layers, error))?;
        let lock_path = work_dir.join(LOCK);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| ImageError::io("open", &lock_path, error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            ImageError::StoreBusy {
                path: work_dir.clone(),
            }
        })?;
        let stale = work_dir.join(STAGING);
        match std::fs::remove_dir_all(&stale) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ImageError::io("remove", stale, error));
            }
            _ => {}
        }
        Ok(Self {
            work_dir,
            _lock: lock,
        })
    }

    /// Pulls an image: verifies, decrypts and unpacks all layers. It is named
    /// by digest, or by tag where the options allow that.
    ///
    /// On an error nothing of the image remains.
    pub async fn pull(
        &self,
        reference: &str,
        options: &PullOptions,
        keys: &dyn KeySource,
        observer: &dyn PullObserver,
    ) -> Result<PulledImage, ImageError> {
        let text: String = reference.chars().take(300).collect();
        let reference = AnyReference::parse(reference)?;
        let policy = options.signature_policy.as_ref();
        if matches!(reference, AnyReference::Tagged { .. })
            && options.tags == Tags::NeedSignature
            && !policy.is_some_and(|policy| policy.requires_signature(&reference.identity()))
        {
            return Err(ImageError::ReferenceNotPinned { reference: text });
        }
        let interrupt = Interrupt::after(options.retry.deadline);
        // A caller that drops this future stops the threads as well.
        let _stop = CancelOnDrop(interrupt.clone());
        let sources = sources(
            &options.registries,
            reference.registry(),
            reference.repository(),
        )?;
        let mut failure = None;
        for source in &sources {
            let registry = Registry::new(
                &source.registry,
                &source.repository,
                Access::Pull,
                &options.registries,
                options.retry,
                interrupt.clone(),
                observer,
            )?;
            let pull = Pull {
                store: self,
                options,
                registry,
                interrupt: interrupt.clone(),
                observer,
            };
            match pull.resolve(&reference).await {
                Ok(resolved) => return pull.run(&reference, resolved, keys).await,
                // The next place holds the same image, or none.
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or(ImageError::Task))
    }

    /// Mounts the image's layers with a fresh writable layer on
    /// `bundle_dir/rootfs` and returns that path.
    ///
    /// Blocks for a few system calls; needs the right to mount.
    pub fn mount_rootfs(
        &self,
        image: &PulledImage,
        bundle_dir: &Path,
    ) -> Result<PathBuf, ImageError> {
        mount::mount_rootfs(image, bundle_dir)
    }

    /// Undoes [`ImageStore::mount_rootfs`] and removes the writable layer.
    pub fn unmount_rootfs(&self, bundle_dir: &Path) -> Result<(), ImageError> {
        mount::unmount_rootfs(bundle_dir)
    }

    fn layer_dir(&self, diff_id: Digest) -> PathBuf {
        self.work_dir.join(LAYERS).join(diff_id.hex())
    }

    fn has_layer(&self, diff_id: Digest) -> bool {
        self.layer_dir(diff_id).join(FILES).is_dir()
    }

    /// Makes prepared layers visible, all or none.
    fn commit(&self, prepared: &[Prepared]) -> Result<(), ImageError> {
        let mut committed = Vec::new();
        for layer in prepared {
            let target = self.layer_dir(layer.diff_id);
            match std::fs::rename(&layer.directory, &target) {
                Ok(()) => committed.push(target),
                // Another pull brought the same content meanwhile.
                Err(_) if self.has_layer(layer.diff_id) => {}
                Err(error) => {
                    for path in committed {
                        let _ = std::fs::remove_dir_all(path);
                    }
                    return Err(ImageError::io("move into the store", target, error));
                }
            }
        }
        Ok(())
    }
}

struct CancelOnDrop(Interrupt);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Refuses an image that is certain not to fit: unpacked, a layer takes at
/// least what its blob does.
fn predict_space(work_dir: &Path, jobs: &[Job<'_>]) -> Result<(), ImageError> {
    let found = statvfs(work_dir)
        .map_err(|error| ImageError::io("look up the space of", work_dir, error.into()))?;
    // A file system in memory may have no limit of its own.
    if found.f_blocks == 0 {
        return Ok(());
    }
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let sum = |of: &dyn Fn(&Job<'_>) -> u64| {
        jobs.iter()
            .fold(0_u64, |sum, job| sum.saturating_add(of(job)))
    };
    let least = sum(&|job| job.descriptor.size);
    if least <= free {
        return Ok(());
    }
    let likely = sum(&|job| {
        let is_bare = job
            .descriptor
            .layer_type()
            .is_ok_and(|layer| layer.compression == Compression::None);
        let factor = if is_bare { 1 } else { USUAL_RATIO };
        job.descriptor.size.saturating_mul(factor)
    });
    Err(ImageError::SpaceNeeded {
        least_mib: least.div_ceil(1 << 20),
        likely_mib: likely.div_ceil(1 << 20),
        free_mib: free >> 20,
        path: work_dir.to_owned(),
    })
}

/// One pull under way.
struct Pull<'a> {
    store: &'a ImageStore,
    options: &'a PullOptions,
    registry: Registry<'a>,
    interrupt: Interrupt,
    observer: &'a dyn PullObserver,
}

/// What a reference stands for.
struct Resolved {
    pinned: Digest,
    manifest_digest: Digest,
    manifest: Manifest,
}

impl Pull<'_> {
    async fn run(
        &self,
        reference: &AnyReference,
        resolved: Resolved,
        keys: &dyn KeySource,
    ) -> Result<PulledImage, ImageError> {
        let started = Instant::now();
        let keys = KeyCache::new(keys);
        let Resolved {
            pinned,
            manifest_digest,
            manifest,
        } = resolved;
        // Also for an image whose layers are all at hand: the policy may be new.
        if let Some(policy) = &self.options.signature_policy {
            let mut digests = vec![pinned, manifest_digest];
            digests.dedup();
            let image = reference.identity();
            let checked = check(policy, &image, &digests, &self.registry, &keys).await?;
            self.observer.event(PullEvent::PolicyChecked {
                signed: checked.signed,
            });
        }
        self.observer.event(PullEvent::ManifestVerified {
            digest: manifest_digest,
            layers: manifest.layers.len(),
            blob_bytes: manifest
                .layers
                .iter()
                .fold(0, |sum, layer| sum.saturating_add(layer.size)),
        });
        let (config, config_json) = self.config(&manifest).await?;
        let jobs = self.missing_layers(&manifest, &config);
        let blob_bytes = jobs
            .iter()
            .fold(0, |sum: u64, job| sum.saturating_add(job.descriptor.size));

        predict_space(&self.store.work_dir, &jobs)?;
        let staging = Staging::create(&self.store.work_dir.join(STAGING))?;
        let context = LayerContext {
            registry: &self.registry,
            keys: &keys,
            private_keys: &self.options.private_keys,
            observer: self.observer,
            staging: &staging,
            unpack: self.options.unpack,
            interrupt: &self.interrupt,
        };
        let prepared = self.prepare_all(&context, &jobs).await?;
        self.store.commit(&prepared)?;

        self.observer.event(PullEvent::Finished {
            digest: manifest_digest,
            layers: manifest.layers.len(),
            decrypted: prepared.iter().filter(|layer| layer.encrypted).count(),
            cached: manifest.layers.len() - jobs.len(),
            blob_bytes,
            elapsed: started.elapsed(),
        });
        let layers = config
            .diff_ids
            .iter()
            .map(|&diff_id| LayerDir {
                diff_id,
                path: self.store.layer_dir(diff_id).join(FILES),
            })
            .collect();
        Ok(PulledImage {
            pinned_digest: pinned,
            manifest_digest,
            config,
            config_json,
            layers,
        })
    }

    /// From the name to the manifest for this platform.
    async fn resolve(&self, reference: &AnyReference) -> Result<Resolved, ImageError> {
        let pinned = self.pinned(reference).await?;
        let (manifest_digest, manifest) =
            resolve_manifest(&self.registry, pinned, &self.options.platform).await?;
        Ok(Resolved {
            pinned,
            manifest_digest,
            manifest,
        })
    }

    /// The digest that everything else hangs on.
    async fn pinned(&self, reference: &AnyReference) -> Result<Digest, ImageError> {
        match reference {
            AnyReference::Pinned(pinned) => Ok(pinned.digest()),
            AnyReference::Tagged { tag, .. } => self.registry.resolve_tag(tag).await,
        }
    }

    async fn config(&self, manifest: &Manifest) -> Result<(ImageConfig, Vec<u8>), ImageError> {
        let Manifest { config, layers } = manifest;
        let limit = MAX_CONFIG_BYTES.min(config.size);
        let json = self
            .registry
            .document(DocumentKind::Config, config.digest, limit)
            .await?;
        let config = ImageConfig::parse(&json)?;
        if config.diff_ids.len() != layers.len() {
            let (diff_ids, layers) = (config.diff_ids.len(), layers.len());
            return Err(ImageError::LayerCount { diff_ids, layers });
        }
        Ok((config, json))
    }

    /// The layers that are not in the store, each content once, largest first.
    fn missing_layers<'m>(&self, manifest: &'m Manifest, config: &ImageConfig) -> Vec<Job<'m>> {
        let mut wanted = HashSet::new();
        let mut jobs = Vec::new();
        let pairs = manifest.layers.iter().zip(&config.diff_ids);
        for (index, (descriptor, &diff_id)) in pairs.enumerate() {
            if !wanted.insert(diff_id) {
                continue;
            }
            if self.store.has_layer(diff_id) {
                self.observer
                    .event(PullEvent::LayerCached { index, diff_id });
            } else {
                jobs.push(Job {
                    index,
                    descriptor,
                    diff_id,
                });
            }
        }
        // The largest first: a long one at the end would work alone.
        jobs.sort_by_key(|job| std::cmp::Reverse(job.descriptor.size));
        jobs
    }

    /// Prepares the layers side by side. After the first failure the others
    /// are stopped and waited for, so that nothing works on in the background.
    async fn prepare_all(
        &self,
        context: &LayerContext<'_>,
        jobs: &[Job<'_>],
    ) -> Result<Vec<Prepared>, ImageError> {
        let parallel = match self.options.parallel_layers {
            0 => PARALLEL_LAYERS,
            count => count,
        };
        // Collected first: a closure kept across an await makes the future not `Send`.
        let steps: Vec<_> = jobs.iter().map(|job| context.prepare(job)).collect();
        let mut results = stream::iter(steps).buffer_unordered(parallel);
        let mut prepared = Vec::with_capacity(jobs.len());
        let mut failure = None;
        while let Some(result) = results.next().await {
            match result {
                Ok(layer) => prepared.push(layer),
                Err(error) => {
                    self.interrupt.cancel();
                    failure.get_or_insert(error);
                }
            }
        }
        match failure {
            None => Ok(prepared),
            Some(error) => Err(error),
        }
    }
}
