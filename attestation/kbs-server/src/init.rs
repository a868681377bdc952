use std::fs::DirBuilder;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use time::{Duration, OffsetDateTime};

use crate::KbsServerError;
use crate::admin::AdminSigner;
use crate::config::StorageKind;
use crate::files::write_new;
use crate::session::SessionSealer;
use crate::token::TokenSigner;

/// What a new key broker's directory shall hold.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Host names and IP addresses for the certificate. None means the address
    /// to listen on and those of this machine itself.
    pub names: Vec<String>,
    /// Where it will listen.
    pub listen: SocketAddr,
    /// Further root certificates that its configuration shall trust, for
    /// instance a simulator's `ark.pem`.
    pub trust_anchors: Vec<PathBuf>,
    /// How it keeps resources, policies and reference values.
    pub storage: StorageKind,
}

impl Default for InitOptions {
    /// A broker for this machine alone.
    fn default() -> Self {
        Self {
            names: Vec::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            trust_anchors: Vec::new(),
            storage: StorageKind::default(),
        }
    }
}

/// Where the important files of a new key broker are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitSummary {
    /// The configuration, for `redoubt kbs serve --config`.
    pub config: PathBuf,
    /// The certificate that guests pin.
    pub certificate: PathBuf,
    /// The private key with which its administrator signs requests.
    pub admin_key: PathBuf,
    /// Where a broker in files keeps its things.
    pub files: Option<InitFiles>,
}

/// The directories of a broker that keeps its things in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitFiles {
    /// The directory for reference values.
    pub reference_values: PathBuf,
    /// The directory for resources.
    pub resources: PathBuf,
    /// The release policy.
    pub policy: PathBuf,
}

/// The release policy of a new broker.
pub const DEFAULT_POLICY: &str = include_str!("../policy/default.rego");

/// The administrator's private key in a new broker's directory.
pub const ADMIN_KEY_FILE: &str = "admin-key.pem";

/// How long a certificate made here is valid.
const CERTIFICATE_DAYS: i64 = 10 * 365;

/// Sets up a directory for a key broker: a self-signed certificate, keys and a
/// configuration; for storage in files also the default policy and empty
/// directories. Nothing that exists is overwritten.
pub fn init(dir: &Path, options: &InitOptions) -> Result<InitSummary, KbsServerError> {
    let files = InitFiles {
        reference_values: dir.join("reference-values"),
        resources: dir.join("resources"),
        policy: dir.join("policy.rego"),
    };
    let summary = InitSummary {
        config: dir.join("config.toml"),
        certificate: dir.join("tls-cert.pem"),
        admin_key: dir.join(ADMIN_KEY_FILE),
        files: (options.storage == StorageKind::Files).then_some(files),
    };
    make_dir(dir)?;
    if summary.config.exists() {
        return Err(KbsServerError::AlreadyThere {
            path: summary.config,
        });
    }
    let names = if options.names.is_empty() {
        own_names(options.listen.ip())
    } else {
        options.names.clone()
    };
    let anchors = absolute(&options.trust_anchors)?;
    let (certificate_pem, key_pem) = self_signed(&names)?;
    if let Some(files) = &summary.files {
        make_dir(&files.reference_values)?;
        make_dir(&files.resources)?;
        write_new(&files.policy, DEFAULT_POLICY.as_bytes(), 0o644)?;
    }
    write_new(&summary.certificate, certificate_pem.as_bytes(), 0o644)?;
    write_new(&dir.join("tls-key.pem"), key_pem.as_bytes(), 0o600)?;
    TokenSigner::create_key(&dir.join("token-key.pem"))?;
    SessionSealer::create(&dir.join("session-key"))?;
    let (private, public) = AdminSigner::generate()?;
    write_new(&summary.admin_key, private.as_bytes(), 0o600)?;
    write_new(&dir.join("admin-key.pub.pem"), public.as_bytes(), 0o644)?;
    // The configuration is written last: a directory with one is complete.
    write_new(
        &summary.config,
        config_text(options, &anchors).as_bytes(),
        0o644,
    )?;
    Ok(summary)
}

fn make_dir(path: &Path) -> Result<(), KbsServerError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| KbsServerError::Write {
            path: path.to_owned(),
            source,
        })
}

/// Makes a self-signed P-256 certificate for a server.
fn self_signed(names: &[String]) -> Result<(String, zeroize::Zeroizing<String>), KbsServerError> {
    let generation = |error: rcgen::Error| KbsServerError::KeyGeneration(Box::new(error));
    for name in names {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'*');
        let is_host = !name.is_empty() && name.len() <= 253 && name.bytes().all(plain);
        if !is_host && name.parse::<IpAddr>().is_err() {
            return Err(KbsServerError::CertificateName(
                name.chars().take(80).collect(),
            ));
        }
    }
    let mut params = CertificateParams::new(names.to_vec()).map_err(generation)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "Redoubt key broker");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = OffsetDateTime::now_utc();
    // Clocks differ: a guest must be able to use the certificate at once.
    params.not_before = now - Duration::DAY;
    params.not_after = now + Duration::days(CERTIFICATE_DAYS);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(generation)?;
    let certificate = params.self_signed(&key).map_err(generation)?;
    Ok((
        certificate.pem(),
        zeroize::Zeroizing::new(key.serialize_pem()),
    ))
}

fn own_names(listen: IpAddr) -> Vec<String> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    if !listen.is_unspecified() && !names.contains(&listen.to_string()) {
        names.push(listen.to_string());
    }
    names
}

/// The configuration may be read from elsewhere, so that its anchors need whole paths.
fn absolute(paths: &[PathBuf]) -> Result<Vec<PathBuf>, KbsServerError> {
    let whole = |path: &PathBuf| {
        path.canonicalize().map_err(|source| KbsServerError::Read {
            path: path.clone(),
            source,
        })
    };
    paths.iter().map(whole).collect()
}

fn config_text(options: &InitOptions, anchors: &[PathBuf]) -> String {
    let anchors: Vec<String> = anchors
        .iter()
        .map(|path| toml_string(&path.to_string_lossy()))
        .collect();
    let storage = match options.storage {
        StorageKind::Embedded => {
            r#"kind = "embedded"         # sealed, changed with `redoubt kbs put` and the like
database = "broker.redb"
key_file = "storage-key"  # back it up apart from the database"#
        }
        StorageKind::Files => {
            r#"kind = "files"
resources = "resources"                # <repository>/<type>/<tag>
reference_values = "reference-values"  # *.json, read again when they change
policy = "policy.rego"                 # who gets what, read again when it changes"#
        }
    };
    format!(
        r#"# Key broker. Paths are relative to this file.
listen = "{listen}"

[tls]
certificate = "tls-cert.pem"
private_key = "tls-key.pem"

[storage]
{storage}
audit_log = "audit.jsonl"

[token]
private_key = "token-key.pem"
lifetime_s = 300

[session]
lifetime_s = 300
key_file = "session-key"                # replicas share both
spent_challenges = "spent-challenges"

[http]
trustee_status_codes = false  # true: every refusal is 401, for guests that expect it
request_timeout_ms = 10000

[admin]
public_keys = ["admin-key.pub.pem"]  # no keys: no admin API

[limits]
requests_per_second = 50  # of one address
burst = 200

[snp]
amd_roots = true
trust_anchors = [{anchors}]  # further ARKs; whoever holds such a key can make any evidence
allow_debug = false
allow_migration = false
allow_smt = true

[snp.minimum_tcb]
bootloader = 0
tee = 0
snp = 0
microcode = 0
"#,
        listen = options.listen,
        anchors = anchors.join(", "),
    )
}

fn toml_string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::ServerConfig;
    use crate::admin::AdminKeys;
    use crate::policy::ReleasePolicies;
    use crate::storage::Storage;

    #[test]
    fn new_directory_is_complete_private_and_usable() {
        for storage in [StorageKind::Embedded, StorageKind::Files] {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path().join("kbs");
            let options = InitOptions {
                storage,
                ..InitOptions::default()
            };
            let summary = init(&dir, &options).unwrap();
            for name in [
                "tls-key.pem",
                "token-key.pem",
                "session-key",
                "admin-key.pem",
            ] {
                let mode = std::fs::metadata(dir.join(name))
                    .unwrap()
                    .permissions()
                    .mode();
                assert_eq!(mode & 0o777, 0o600, "{name}");
            }
            let config = ServerConfig::load(&summary.config).unwrap();
            assert_eq!(config.storage.kind, storage);
            assert_eq!(summary.files.is_some(), storage == StorageKind::Files);
            assert_eq!(
                config.tls.as_ref().unwrap().certificate,
                summary.certificate
            );
            assert!(config.snp.trust_anchors.is_empty());
            let opened = Storage::open(&config.storage).unwrap();
            ReleasePolicies::default().check(&opened).unwrap();
            let signer = AdminSigner::load(&summary.admin_key).unwrap();
            let keys = AdminKeys::load(&config.admin.public_keys).unwrap();
            assert_eq!(keys, AdminKeys::new(vec![signer.public_key()]));
        }
    }

    #[test]
    fn second_init_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let summary = init(dir.path(), &InitOptions::default()).unwrap();
        let before = std::fs::read(&summary.certificate).unwrap();
        let refused = init(dir.path(), &InitOptions::default());
        assert!(matches!(refused, Err(KbsServerError::AlreadyThere { .. })));
        assert_eq!(std::fs::read(&summary.certificate).unwrap(), before);
    }

    #[test]
    fn hostile_names_and_missing_anchors_are_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let with = |names: &[&str], anchors: &[&str]| InitOptions {
            names: names.iter().map(ToString::to_string).collect(),
            trust_anchors: anchors.iter().map(PathBuf::from).collect(),
            ..InitOptions::default()
        };
        for options in [
            with(&[""], &[]),
            with(&["a b"], &[]),
            with(&["x"], &["/no/ark.pem"]),
        ] {
            assert!(init(dir.path(), &options).is_err());
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn listen_address_is_in_the_certificate_names() {
        let names = own_names("10.1.2.3".parse().unwrap());
        assert_eq!(names, ["localhost", "127.0.0.1", "::1", "10.1.2.3"]);
        assert_eq!(own_names("0.0.0.0".parse().unwrap()).len(), 3);
    }
}
