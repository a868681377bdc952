//! Everything that can go wrong between a reference and a root file system.

#![expect(
    clippy::doc_markdown,
    reason = "the doc comments are the messages that users read"
)]

use std::io;
use std::path::PathBuf;

use redoubt_errors::{ErrorCode, UserError};
use redoubt_ocicrypt::OcicryptError;

use crate::digest::Digest;
use crate::keys::KeySourceError;

/// Why an image was not pulled, unpacked, mounted, encrypted or pushed.
#[derive(Debug, thiserror::Error, displaydoc::Display)]
#[non_exhaustive]
pub enum ImageError {
    /// image reference "{reference}" is not valid: {reason}
    ReferenceInvalid {
        /// The reference as given.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// image reference "{reference}" does not pin a digest
    ReferenceNotPinned {
        /// The reference as given.
        reference: String,
    },
    /// "{text}" is not a sha256 digest
    DigestInvalid {
        /// The text that should have been a digest.
        text: String,
    },
    /// registry {registry} cannot be reached
    RegistryUnreachable {
        /// Host and port.
        registry: String,
        /// The transport's own error, without the address.
        #[source]
        source: reqwest::Error,
    },
    /// registry {registry} answered {status} to {what}
    RegistryStatus {
        /// Host and port.
        registry: String,
        /// The HTTP status code.
        status: u16,
        /// What was asked for.
        what: String,
    },
    /// registry {registry} refused access to {what}
    RegistryUnauthorized {
        /// Host and port.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// registry {registry} asks for an authentication that is not supported: {reason}
    RegistryChallenge {
        /// Host and port.
        registry: String,
        /// What the challenge lacked.
        reason: String,
    },
    /// registry {registry} redirects to plain HTTP or once too often
    RegistryRedirect {
        /// Host and port.
        registry: String,
    },
    /// the trusted certificates for registries cannot be used: {reason}
    TrustRoots {
        /// What is wrong with them.
        reason: String,
    },
    /// the pull did not finish within {seconds} s
    Deadline {
        /// The time that was allowed, in seconds.
        seconds: u64,
    },
    /// the pull was cancelled
    Cancelled,
    /// {what} is larger than the limit of {limit_bytes} bytes
    DocumentTooLarge {
        /// Which document.
        what: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// manifest {digest} is not valid: {reason}
    ManifestInvalid {
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        reason: String,
    },
    /// {what} has digest {actual} instead of {expected}
    DigestMismatch {
        /// Which document or blob.
        what: String,
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// image index {digest} has nothing for {platform}
    NoPlatform {
        /// The index.
        digest: Digest,
        /// The platform that was looked for.
        platform: String,
    },
    /// image index {digest} refers to itself or nests deeper than {limit}
    IndexLoop {
        /// The index at which the walk was stopped.
        digest: Digest,
        /// The greatest allowed depth.
        limit: usize,
    },
    /// the image has {count} layers, the limit is {limit}
    TooManyLayers {
        /// Layers in the manifest.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// the image has no layers
    NoLayers,
    /// image configuration {digest} is not valid: {reason}
    ConfigInvalid {
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        reason: String,
    },
    /// the image configuration names {diff_ids} layers but the manifest {layers}
    LayerCount {
        /// Entries of `rootfs.diff_ids`.
        diff_ids: usize,
        /// Layers in the manifest.
        layers: usize,
    },
    /// layer {index} ({digest}) failed {progress}
    Layer {
        /// Position in the manifest, from 0.
        index: usize,
        /// Digest of the layer's blob.
        digest: Digest,
        /// How far the layer got.
        progress: String,
        /// What went wrong.
        #[source]
        source: Box<ImageError>,
    },
    /// media type "{media_type}" is not supported
    MediaType {
        /// The media type of the descriptor.
        media_type: String,
    },
    /// blob {digest} ended after {received} of {expected} bytes
    BlobTruncated {
        /// The blob.
        digest: Digest,
        /// Bytes that came.
        received: u64,
        /// Bytes that the manifest promised.
        expected: u64,
    },
    /// blob {digest} has {claimed} bytes where the manifest says {expected}
    BlobSize {
        /// The blob.
        digest: Digest,
        /// Bytes that the registry sent or announced.
        claimed: u64,
        /// Bytes that the manifest promised.
        expected: u64,
    },
    /// the connection to the registry broke
    Transfer(#[source] reqwest::Error),
    /// the layer's key is not available
    Key(#[source] KeySourceError),
    /// no key was given for key id "{kid}"
    KeyUnknown {
        /// The key id.
        kid: String,
    },
    /// the layer cannot be decrypted
    Decrypt(#[source] OcicryptError),
    /// the layer's content has diff_id {actual} instead of {expected}
    DiffId {
        /// What the image configuration says.
        expected: Digest,
        /// What the content has.
        actual: Digest,
    },
    /// the layer cannot be decompressed
    Decompress(#[source] io::Error),
    /// the layer's archive is not valid: {reason}
    Archive {
        /// What is wrong.
        reason: String,
    },
    /// entry "{path}": {reason}
    Entry {
        /// The entry's name, shortened and made printable.
        path: String,
        /// What is wrong.
        reason: EntryProblem,
    },
    /// the layer has more than {limit} entries
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// the layer unpacks to more than {limit_bytes} bytes
    UnpackedTooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// the layer expands to more than {limit} times its size
    ExpansionRatio {
        /// The limit.
        limit: u64,
    },
    /// no space left for the image (in {path})
    DiskFull {
        /// The work directory.
        path: PathBuf,
    },
    /// cannot {what} {path}
    Io {
        /// The operation, as a verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// image store {path} is in use by another process
    StoreBusy {
        /// The work directory.
        path: PathBuf,
    },
    /// cannot mount the root file system on {path}
    Mount {
        /// The mount point.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// an internal task of the pull ended early
    Task,
    /// OCI layout {path} is not usable: {reason}
    Layout {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// "{text}" is not a place for an image: {reason}
    Location {
        /// As given.
        text: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// the key for "{kid}" has {length} bytes instead of 32
    KeyLength {
        /// The key id.
        kid: String,
        /// Its length in bytes.
        length: usize,
    },
    /// the signature policy is not valid: {reason}
    PolicyInvalid {
        /// What is wrong.
        reason: String,
    },
    /// the signature policy rejects image {image}
    PolicyRejects {
        /// The image's name.
        image: String,
    },
    /// image {image} has no signature that the policy accepts: {reason}
    SignatureMissing {
        /// The image's name.
        image: String,
        /// What is wrong with those that it has.
        reason: &'static str,
    },
    /// the signature policy asks for {what}, which is not supported
    PolicyUnsupported {
        /// What it asks for.
        what: &'static str,
    },
    /// the signature policy's key {location} cannot be used: {reason}
    PolicyKey {
        /// Where the key is.
        location: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// registry {registry} is blocked by configuration
    RegistryBlocked {
        /// Host and port.
        registry: String,
    },
    /// the registry credentials are not valid: {reason}
    CredentialsInvalid {
        /// What is wrong; never what is in them.
        reason: &'static str,
    },
    /// the image takes at least {least_mib} MiB but only {free_mib} MiB are free in {path}
    SpaceNeeded {
        /// What it takes even if nothing in it can be compressed, in MiB.
        least_mib: u64,
        /// What an image of this size usually takes, in MiB.
        likely_mib: u64,
        /// What the file system has, in MiB.
        free_mib: u64,
        /// The work directory.
        path: PathBuf,
    },
    /// {path} exists and is not an empty directory
    DestinationNotEmpty {
        /// The directory.
        path: PathBuf,
    },
}

/// What is wrong with one entry of a layer's archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, displaydoc::Display)]
#[non_exhaustive]
pub enum EntryProblem {
    /// the name leaves the layer through ".."
    Traversal,
    /// the name is absolute
    AbsoluteName,
    /// the name is empty or not valid
    InvalidName,
    /// the name has more than the allowed bytes or levels
    NameTooLong,
    /// the way to it leads through a symbolic link out of the layer
    SymlinkEscape,
    /// a directory on the way to it is something else
    ParentNotDirectory,
    /// the hard link's target leaves the layer
    HardLinkEscape,
    /// the hard link's target does not exist in this layer
    HardLinkTargetMissing,
    /// the hard link's target cannot be linked
    HardLinkTarget,
    /// the symbolic link's target is empty or too long
    SymlinkTarget,
    /// the whiteout names nothing that can be hidden
    Whiteout,
    /// device nodes are not allowed
    DeviceRefused,
    /// the device number is not valid
    DeviceNumber,
    /// the entry's type is not supported
    Type,
    /// owner, mode or time is out of range
    Metadata,
    /// the extended attribute is reserved, too long or not valid
    Xattr,
    /// the extended attribute cannot be stored here
    XattrUnsupported,
    /// the map of the sparse file is not valid
    Sparse,
    /// the entry's data ended early
    Truncated,
}

impl ImageError {
    /// Wraps an I/O error with what was tried; a full disk is told apart.
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) {
            return Self::DiskFull { path };
        }
        Self::Io { what, path, source }
    }
}

impl From<OcicryptError> for ImageError {
    fn from(error: OcicryptError) -> Self {
        Self::Decrypt(error)
    }
}

impl From<KeySourceError> for ImageError {
    fn from(error: KeySourceError) -> Self {
        Self::Key(error)
    }
}

impl UserError for ImageError {
    fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::ReferenceInvalid { .. } => "RDT-IMG-001",
            Self::ReferenceNotPinned { .. } => "RDT-IMG-002",
            Self::DigestInvalid { .. } => "RDT-IMG-003",
            Self::RegistryUnreachable { .. } => "RDT-IMG-004",
            Self::RegistryStatus { .. } => "RDT-IMG-005",
            Self::RegistryUnauthorized { .. } => "RDT-IMG-006",
            Self::RegistryChallenge { .. } => "RDT-IMG-007",
            Self::RegistryRedirect { .. } => "RDT-IMG-008",
            Self::TrustRoots { .. } => "RDT-IMG-009",
            Self::Deadline { .. } => "RDT-IMG-010",
            Self::Cancelled => "RDT-IMG-011",
            Self::DocumentTooLarge { .. } => "RDT-IMG-012",
            Self::ManifestInvalid { .. } => "RDT-IMG-013",
            Self::DigestMismatch { .. } => "RDT-IMG-014",
            Self::NoPlatform { .. } => "RDT-IMG-015",
            Self::IndexLoop { .. } => "RDT-IMG-016",
            Self::TooManyLayers { .. } => "RDT-IMG-017",
            Self::NoLayers => "RDT-IMG-018",
            Self::ConfigInvalid { .. } => "RDT-IMG-019",
            Self::LayerCount { .. } => "RDT-IMG-020",
            Self::Layer { source, .. } => return source.code(),
            Self::MediaType { .. } => "RDT-IMG-021",
            Self::BlobTruncated { .. } => "RDT-IMG-022",
            Self::BlobSize { .. } => "RDT-IMG-023",
            Self::Transfer(_) => "RDT-IMG-024",
            Self::Key(error) => return error.code(),
            Self::KeyUnknown { .. } => "RDT-IMG-025",
            Self::Decrypt(error) => return error.code(),
            Self::DiffId { .. } => "RDT-IMG-026",
            Self::Decompress(_) => "RDT-IMG-027",
            Self::Archive { .. } => "RDT-IMG-028",
            Self::Entry { .. } => "RDT-IMG-029",
            Self::TooManyEntries { .. } => "RDT-IMG-030",
            Self::UnpackedTooLarge { .. } => "RDT-IMG-031",
            Self::ExpansionRatio { .. } => "RDT-IMG-032",
            Self::DiskFull { .. } => "RDT-IMG-033",
            Self::Io { .. } => "RDT-IMG-034",
            Self::StoreBusy { .. } => "RDT-IMG-035",
            Self::Mount { .. } => "RDT-IMG-036",
            Self::Task => "RDT-IMG-037",
            Self::Layout { .. } => "RDT-IMG-038",
            Self::Location { .. } => "RDT-IMG-039",
            Self::KeyLength { .. } => "RDT-IMG-040",
            Self::DestinationNotEmpty { .. } => "RDT-IMG-041",
            Self::PolicyInvalid { .. } => "RDT-IMG-042",
            Self::PolicyRejects { .. } => "RDT-IMG-043",
            Self::SignatureMissing { .. } => "RDT-IMG-044",
            Self::PolicyUnsupported { .. } => "RDT-IMG-045",
            Self::PolicyKey { .. } => "RDT-IMG-046",
            Self::RegistryBlocked { .. } => "RDT-IMG-047",
            Self::CredentialsInvalid { .. } => "RDT-IMG-048",
            Self::SpaceNeeded { .. } => "RDT-IMG-049",
        })
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::ReferenceNotPinned { .. } => "name the image as registry/name@sha256:…",
            Self::RegistryUnauthorized { .. } => "give credentials for this registry",
            Self::RegistryUnreachable { .. } => {
                "check address, network and certificate; plain HTTP must be configured"
            }
            Self::DiskFull { .. } => "give the guest more memory or a larger scratch disk",
            Self::TooManyEntries { .. }
            | Self::UnpackedTooLarge { .. }
            | Self::ExpansionRatio { .. } => "raise the unpack limit if this image is meant",
            Self::SignatureMissing { .. } => "sign it with: cosign sign --key …",
            Self::SpaceNeeded {
                likely_mib,
                free_mib,
                ..
            } => {
                return Some(format!(
                    "give the guest about {} MiB more memory",
                    likely_mib.saturating_sub(*free_mib)
                ));
            }
            Self::KeyLength { .. } => "make one with: head -c 32 /dev/urandom > key.bin",
            Self::Layer { source, .. } => return source.hint(),
            Self::Key(error) => return error.hint(),
            Self::Decrypt(error) => return error.hint(),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
