use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::KbsServerError;
use crate::files::read_text;

/// Largest configuration file, in bytes.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// A key broker's configuration, with all paths absolute or relative to the
/// working directory.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Certificate and key; without them the broker speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The directories and files that it serves from and writes to.
    pub storage: StoragePaths,
    /// Attestation tokens.
    pub token: TokenSettings,
    /// Sessions.
    pub session: SessionSettings,
    /// Answers and their limits.
    pub http: HttpSettings,
    /// What SEV-SNP evidence must show before anything else is looked at.
    pub snp: SnpSettings,
}

/// PEM files for TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub private_key: PathBuf,
}

/// Where the broker keeps its things.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoragePaths {
    /// Resources, as `<repository>/<type>/<tag>` below this directory.
    pub resources: PathBuf,
    /// Reference values: a directory of JSON files.
    pub reference_values: PathBuf,
    /// The release policy (Rego).
    pub policy: PathBuf,
    /// The audit log (JSON lines).
    pub audit_log: PathBuf,
}

impl Default for StoragePaths {
    fn default() -> Self {
        Self {
            resources: "resources".into(),
            reference_values: "reference-values".into(),
            policy: "policy.rego".into(),
            audit_log: "audit.jsonl".into(),
        }
    }
}

/// How tokens are made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenSettings {
    /// The P-256 signing key in PKCS#8 PEM; made when it is missing.
    pub private_key: PathBuf,
    /// For how long a token is valid, in seconds.
    pub lifetime_s: u32,
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self {
            private_key: "token-key.pem".into(),
            lifetime_s: 300,
        }
    }
}

/// How sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionSettings {
    /// For how long a challenge can be answered, in seconds.
    pub lifetime_s: u32,
    /// How many sessions there are at most; further guests are asked to come again.
    pub max_sessions: u32,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            lifetime_s: 300,
            max_sessions: 10_000,
        }
    }
}

/// How the broker answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Answer 401 to every refusal, as Trustee does, for guests that know only this.
    pub trustee_status_codes: bool,
    /// How long one request may take, in milliseconds.
    pub request_timeout_ms: u32,
    /// How long open requests are waited for when the server stops, in milliseconds.
    pub shutdown_grace_ms: u32,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            trustee_status_codes: false,
            request_timeout_ms: 10_000,
            shutdown_grace_ms: 5_000,
        }
    }
}

impl HttpSettings {
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms.into())
    }

    pub(crate) fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms.into())
    }
}

/// What SEV-SNP evidence must show. VMPL 0, a valid signature and the binding
/// to the session are always asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one switch of its own in the file"
)]
pub struct SnpSettings {
    /// Trust AMD's own root keys (built in).
    pub amd_roots: bool,
    /// Further root certificates (ARK) in PEM, for instance a simulator's.
    /// Whoever holds such a root's key can make any evidence.
    pub trust_anchors: Vec<PathBuf>,
    /// Accept a guest policy that allows debugging: the host can read such a guest's memory.
    pub allow_debug: bool,
    /// Accept a guest policy that allows a migration agent.
    pub allow_migration: bool,
    /// Accept a guest policy that allows simultaneous multithreading.
    pub allow_smt: bool,
    /// The least TCB versions.
    pub minimum_tcb: MinimumTcb,
}

impl Default for SnpSettings {
    fn default() -> Self {
        Self {
            amd_roots: true,
            trust_anchors: Vec::new(),
            allow_debug: false,
            allow_migration: false,
            allow_smt: true,
            minimum_tcb: MinimumTcb::default(),
        }
    }
}

/// Least security version numbers, compared part by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MinimumTcb {
    /// FMC (Turin and later).
    pub fmc: u8,
    /// Bootloader of the secure processor.
    pub bootloader: u8,
    /// Operating system of the secure processor.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// CPU microcode.
    pub microcode: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    listen: SocketAddr,
    #[serde(default)]
    insecure_http: bool,
    tls: Option<TlsFiles>,
    #[serde(default)]
    storage: StoragePaths,
    #[serde(default)]
    token: TokenSettings,
    #[serde(default)]
    session: SessionSettings,
    #[serde(default)]
    http: HttpSettings,
    #[serde(default)]
    snp: SnpSettings,
}

impl ServerConfig {
    /// Reads a configuration file. Paths in it are relative to its directory.
    pub fn load(path: &Path) -> Result<Self, KbsServerError> {
        let text = read_text(path, MAX_CONFIG_BYTES)?;
        Self::parse(&text, path)
    }

    /// Reads a configuration's text; `path` names it in errors and its
    /// directory is where relative paths start.
    pub fn parse(text: &str, path: &Path) -> Result<Self, KbsServerError> {
        let file: ConfigFile =
            toml::from_str(text).map_err(|error| syntax_error(text, path, &error))?;
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        let invalid = |key, reason: &str| KbsServerError::ConfigValue {
            path: path.to_owned(),
            key,
            reason: reason.to_owned(),
        };
        if file.tls.is_none() && !file.insecure_http {
            return Err(invalid(
                "tls",
                "it is missing; plain HTTP needs insecure_http = true",
            ));
        }
        if file.tls.is_some() && file.insecure_http {
            return Err(invalid(
                "insecure_http",
                "it is set beside [tls]; remove one of them",
            ));
        }
        if !(1..=86_400).contains(&file.token.lifetime_s) {
            return Err(invalid("token.lifetime_s", "it must be 1 to 86400"));
        }
        if !(1..=3_600).contains(&file.session.lifetime_s) {
            return Err(invalid("session.lifetime_s", "it must be 1 to 3600"));
        }
        if !(1..=1_000_000).contains(&file.session.max_sessions) {
            return Err(invalid("session.max_sessions", "it must be 1 to 1000000"));
        }
        if !(100..=600_000).contains(&file.http.request_timeout_ms) {
            return Err(invalid(
                "http.request_timeout_ms",
                "it must be 100 to 600000",
            ));
        }
        if !file.snp.amd_roots && file.snp.trust_anchors.is_empty() {
            return Err(invalid(
                "snp.trust_anchors",
                "no root is trusted: name one, or amd_roots",
            ));
        }
        Ok(file.resolve(base))
    }
}

impl ConfigFile {
    fn resolve(self, base: &Path) -> ServerConfig {
        let at = |path: &PathBuf| base.join(path);
        ServerConfig {
            listen: self.listen,
            tls: self.tls.map(|tls| TlsFiles {
                certificate: at(&tls.certificate),
                private_key: at(&tls.private_key),
            }),
            storage: StoragePaths {
                resources: at(&self.storage.resources),
                reference_values: at(&self.storage.reference_values),
                policy: at(&self.storage.policy),
                audit_log: at(&self.storage.audit_log),
            },
            token: TokenSettings {
                private_key: at(&self.token.private_key),
                ..self.token
            },
            session: self.session,
            http: self.http,
            snp: SnpSettings {
                trust_anchors: self.snp.trust_anchors.iter().map(at).collect(),
                ..self.snp
            },
        }
    }
}

/// Says on which line and at which key the parser stopped.
fn syntax_error(text: &str, path: &Path, error: &toml::de::Error) -> KbsServerError {
    let reason = error.message().to_owned();
    let missing = reason
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next());
    if let Some(key) = missing {
        // What is not there has no line.
        return KbsServerError::ConfigMissing {
            path: path.to_owned(),
            key: key.to_owned(),
        };
    }
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let line_text = text.lines().nth(line - 1).unwrap_or_default();
    let key = line_text.split('=').next().unwrap_or_default().trim();
    KbsServerError::ConfigSyntax {
        path: path.to_owned(),
        line,
        key: key.chars().take(80).collect(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use redoubt_errors::OneLine;

    use super::*;

    const MINIMAL: &str = "listen = \"127.0.0.1:8080\"\ninsecure_http = true\n";

    fn error_of(text: &str) -> String {
        let error = ServerConfig::parse(text, Path::new("/etc/kbs/config.toml")).unwrap_err();
        OneLine(&error).to_string()
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let text = format!("{MINIMAL}[snp]\ntrust_anchors = [\"ark.pem\", \"/abs/ark.pem\"]\n");
        let config = ServerConfig::parse(&text, Path::new("/etc/kbs/config.toml")).unwrap();
        assert_eq!(config.storage.policy, Path::new("/etc/kbs/policy.rego"));
        assert_eq!(
            config.snp.trust_anchors,
            [
                PathBuf::from("/etc/kbs/ark.pem"),
                PathBuf::from("/abs/ark.pem")
            ]
        );
        assert!(config.tls.is_none());
        assert!(!config.http.trustee_status_codes);
    }

    #[test]
    fn errors_name_file_line_and_key() {
        insta::assert_snapshot!(error_of("listen = 5\n"), @r#"[RDT-KBS-105] /etc/kbs/config.toml, line 1, key "listen": invalid type: integer `5`, expected socket address"#);
        insta::assert_snapshot!(error_of(&format!("{MINIMAL}[token]\nlifetime = 3\n")), @r#"[RDT-KBS-105] /etc/kbs/config.toml, line 4, key "lifetime": unknown field `lifetime`, expected `private_key` or `lifetime_s`"#);
        insta::assert_snapshot!(error_of(&format!("{MINIMAL}[token]\nlifetime_s = 0\n")), @r#"[RDT-KBS-106] /etc/kbs/config.toml, key "token.lifetime_s": it must be 1 to 86400"#);
        insta::assert_snapshot!(error_of(&format!("{MINIMAL}[token\n")), @r#"[RDT-KBS-105] /etc/kbs/config.toml, line 3, key "[token": unclosed table, expected `]`"#);
        insta::assert_snapshot!(error_of("insecure_http = true\n"), @r#"[RDT-KBS-119] /etc/kbs/config.toml lacks the key "listen""#);
    }

    #[test]
    fn contradictions_are_refused() {
        insta::assert_snapshot!(error_of("listen = \"127.0.0.1:1\"\n"), @r#"[RDT-KBS-106] /etc/kbs/config.toml, key "tls": it is missing; plain HTTP needs insecure_http = true"#);
        insta::assert_snapshot!(
            error_of(&format!("{MINIMAL}[tls]\ncertificate = \"c\"\nprivate_key = \"k\"\n")), @r#"[RDT-KBS-106] /etc/kbs/config.toml, key "insecure_http": it is set beside [tls]; remove one of them"#);
        insta::assert_snapshot!(error_of(&format!("{MINIMAL}[snp]\namd_roots = false\n")), @r#"[RDT-KBS-106] /etc/kbs/config.toml, key "snp.trust_anchors": no root is trusted: name one, or amd_roots"#);
    }
}
