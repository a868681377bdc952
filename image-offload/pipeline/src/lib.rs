//! Pull, verify, decrypt and unpack images inside the guest.
//!
//! The order is fixed: a layer's blob is staged and its digest compared with
//! the verified manifest; then, for an encrypted layer, its HMAC and sealed
//! plaintext digest; only then is it decompressed and unpacked, and it becomes
//! part of a root file system when its `diff_id` matched as well. A pull that
//! fails leaves nothing of the image behind.

mod credentials;
mod digest;
mod errors;
mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(feature = "host")]
pub mod host;
mod image;
mod interrupt;
mod keys;
mod layer;
mod mount;
mod opening;
mod options;
mod reference;
mod registry;
mod resolve;
mod signature;
mod sources;
mod staging;
mod store;
mod unpack;

pub use digest::Digest;
pub use errors::{EntryProblem, ImageError};
pub use events::{NoObserver, PullEvent, PullObserver};
pub use image::{
    Descriptor, ImageConfig, Index, MAX_CONFIG_BYTES, MAX_LAYERS, MAX_MANIFEST_BYTES, Manifest,
    ManifestDocument,
};
pub use keys::{KeySource, KeySourceError, StaticKeys};
pub use options::{
    AbsoluteNames, Devices, Platform, PullOptions, RegistryCredential, RegistryMirror,
    RegistryOptions, RetryOptions, Tags, TrustRoots, UnpackOptions,
};
pub use reference::{AnyReference, ImageReference};
pub use signature::{ImageIdentity, SignaturePayload, SignaturePolicy};
pub use store::{ImageStore, LayerDir, PulledImage};
