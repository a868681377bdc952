//! How to pull: registries, limits, times.

use std::fmt;
use std::time::Duration;

use redoubt_ocicrypt::PrivateKey;
use zeroize::Zeroizing;

use crate::signature::SignaturePolicy;

/// Everything that may be set for one pull.
#[derive(Debug, Default)]
pub struct PullOptions {
    /// How registries are reached and trusted.
    pub registries: RegistryOptions,
    /// Times and attempts.
    pub retry: RetryOptions,
    /// Bounds for what a layer may unpack to.
    pub unpack: UnpackOptions,
    /// Which image of an index to take.
    pub platform: Platform,
    /// Layers in work at the same time; 0 means the default of 3.
    pub parallel_layers: usize,
    /// Private keys of JWE recipients, tried before any key broker.
    pub private_keys: Vec<PrivateKey>,
    /// Who must have signed the image; without a policy nobody must.
    pub signature_policy: Option<SignaturePolicy>,
    /// Whether a reference may name an image by its tag alone.
    pub tags: Tags,
}

/// What happens to a reference without a digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tags {
    /// It is an error, unless the signature policy accepts the image only with
    /// a signature.
    #[default]
    NeedSignature,
    /// The tag is resolved once; the registry decides which image it is.
    Resolve,
}

/// How registries are reached and trusted.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// Which certificates a registry may have.
    pub trust: TrustRoots,
    /// Registries (`host` or `host:port`) that are spoken to in plain HTTP.
    pub insecure: Vec<String>,
    /// User names and passwords.
    pub credentials: Vec<RegistryCredential>,
    /// Other places that hold the same images, tried first.
    pub mirrors: Vec<RegistryMirror>,
    /// Registries, or repositories in them (`host[:port][/path]`), that
    /// nothing is pulled from.
    pub blocked: Vec<String>,
    /// Proxy for HTTPS registries, as a URL.
    pub https_proxy: Option<String>,
}

/// Another place for the images below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryMirror {
    /// `host[:port][/path]` of the names that it stands in for.
    pub prefix: String,
    /// `host[:port][/path]` that takes the prefix's place.
    pub location: String,
}

/// Which certificate authorities are trusted for registries.
#[derive(Clone, Debug, Default)]
pub enum TrustRoots {
    /// The public web's, as Mozilla lists them; compiled in.
    #[default]
    Public,
    /// The public web's and these (PEM, one or more certificates each).
    PublicAnd(Vec<String>),
    /// These and no others (PEM, one or more certificates each).
    Only(Vec<String>),
}

/// A user name and a password for one registry.
#[derive(Clone)]
pub struct RegistryCredential {
    /// `host[:port][/path]`, as in the reference; the longest that fits is used.
    pub registry: String,
    /// The user's name.
    pub username: String,
    /// The password or token.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for RegistryCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryCredential")
            .field("registry", &self.registry)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Times and attempts.
#[derive(Clone, Copy, Debug)]
pub struct RetryOptions {
    /// The whole pull must end within this time.
    pub deadline: Duration,
    /// Attempts per document or blob, the first included.
    pub attempts: u32,
    /// Pause after the first failed attempt; doubles with each further one.
    pub first_pause: Duration,
    /// A connection must stand within this time.
    pub connect_timeout: Duration,
    /// A transfer that brings nothing for this time has failed.
    pub stall_timeout: Duration,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(600),
            attempts: 5,
            first_pause: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(20),
        }
    }
}

/// Bounds for what a layer may unpack to.
#[derive(Clone, Copy, Debug)]
pub struct UnpackOptions {
    /// Entries in one layer.
    pub max_entries: u64,
    /// Bytes of an entry's name.
    pub max_path_bytes: usize,
    /// Levels of an entry's name.
    pub max_path_depth: usize,
    /// Bytes of one layer's uncompressed archive and of the files in it.
    pub max_layer_bytes: u64,
    /// How many times its compressed size a layer may unpack to; layers
    /// below [`UnpackOptions::ratio_free_bytes`] are exempt.
    pub max_ratio: u64,
    /// Uncompressed size up to which the ratio does not matter.
    pub ratio_free_bytes: u64,
    /// Whether device nodes are created or refused.
    pub devices: Devices,
    /// Whether names that begin with "/" are refused or taken as relative.
    pub absolute_names: AbsoluteNames,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self {
            max_entries: 1_000_000,
            max_path_bytes: 4095,
            max_path_depth: 256,
            max_layer_bytes: 32 << 30,
            max_ratio: 200,
            ratio_free_bytes: 64 << 20,
            devices: Devices::Allow,
            absolute_names: AbsoluteNames::Refuse,
        }
    }
}

/// What happens to device nodes in a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Devices {
    /// They are created; the container's device rules decide about their use.
    #[default]
    Allow,
    /// They are an error.
    Refuse,
}

/// What happens to entries whose name begins with "/".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AbsoluteNames {
    /// They are an error.
    #[default]
    Refuse,
    /// They are taken as relative to the image's root.
    InsideRoot,
}

/// An operating system and architecture, as Go names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
}

impl Default for Platform {
    fn default() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}
