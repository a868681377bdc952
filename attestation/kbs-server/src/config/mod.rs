//! The broker's configuration file.

mod sections;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use sections::{
    AdminSettings, HttpSettings, LimitSettings, MetricsSettings, MinimumTcb, SessionSettings,
    SnpSettings, StorageKind, StorageSettings, TlsFiles, TokenSettings,
};

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
    /// Where resources, policies, reference values and the audit log are.
    pub storage: StorageSettings,
    /// Attestation tokens.
    pub token: TokenSettings,
    /// Sessions.
    pub session: SessionSettings,
    /// Answers and their times.
    pub http: HttpSettings,
    /// The admin API.
    pub admin: AdminSettings,
    /// Limits on requests.
    pub limits: LimitSettings,
    /// Metrics.
    pub metrics: MetricsSettings,
    /// What SEV-SNP evidence must show before anything else is looked at.
    pub snp: SnpSettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    listen: SocketAddr,
    #[serde(default)]
    insecure_http: bool,
    tls: Option<TlsFiles>,
    #[serde(default)]
    storage: StorageSettings,
    #[serde(default)]
    token: TokenSettings,
    #[serde(default)]
    session: SessionSettings,
    #[serde(default)]
    http: HttpSettings,
    #[serde(default)]
    admin: AdminSettings,
    #[serde(default)]
    limits: LimitSettings,
    #[serde(default)]
    metrics: MetricsSettings,
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
        check_storage(text, path)?;
        if let Err((key, reason)) = file.check() {
            return Err(invalid(path, key, reason));
        }
        Ok(file.resolve(base))
    }
}

/// The keys of `[storage]` that belong to one kind alone.
const EMBEDDED_KEYS: [&str; 2] = ["database", "key_file"];
const FILES_KEYS: [&str; 3] = ["resources", "reference_values", "policy"];

/// Refuses keys of the other kind, which would be passed over in silence.
fn check_storage(text: &str, path: &Path) -> Result<(), KbsServerError> {
    let Ok(document) = toml::from_str::<toml::Table>(text) else {
        return Ok(());
    };
    let Some(storage) = document.get("storage").and_then(toml::Value::as_table) else {
        return Ok(());
    };
    let is_files = storage.get("kind").and_then(toml::Value::as_str) == Some("files");
    let (foreign, reason) = if is_files {
        (
            EMBEDDED_KEYS.as_slice(),
            "it is \"files\", and a key of \"embedded\" stands beside it",
        )
    } else {
        (
            FILES_KEYS.as_slice(),
            "it is not \"files\", and a key of \"files\" stands beside it",
        )
    };
    if foreign.iter().any(|key| storage.contains_key(*key)) {
        return Err(invalid(path, "storage.kind", reason));
    }
    Ok(())
}

fn invalid(path: &Path, key: &'static str, reason: &str) -> KbsServerError {
    KbsServerError::ConfigValue {
        path: path.to_owned(),
        key,
        reason: reason.to_owned(),
    }
}

impl ConfigFile {
    /// The first key whose value is not possible, and why.
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let must = |holds: bool, key, reason| if holds { Ok(()) } else { Err((key, reason)) };
        must(
            self.tls.is_some() || self.insecure_http,
            "tls",
            "it is missing; plain HTTP needs insecure_http = true",
        )?;
        must(
            self.tls.is_none() || !self.insecure_http,
            "insecure_http",
            "it is set beside [tls]; remove one of them",
        )?;
        must(
            (1..=86_400).contains(&self.token.lifetime_s),
            "token.lifetime_s",
            "it must be 1 to 86400",
        )?;
        must(
            (1..=200).contains(&self.token.issuer.len()),
            "token.issuer",
            "it must have 1 to 200 bytes",
        )?;
        must(
            (1..=200).contains(&self.token.audience.len()),
            "token.audience",
            "it must have 1 to 200 bytes",
        )?;
        must(
            self.token.previous_keys.len() <= 16,
            "token.previous_keys",
            "there are more than 16",
        )?;
        must(
            (1..=3_600).contains(&self.session.lifetime_s),
            "session.lifetime_s",
            "it must be 1 to 3600",
        )?;
        must(
            (100..=600_000).contains(&self.http.request_timeout_ms),
            "http.request_timeout_ms",
            "it must be 100 to 600000",
        )?;
        must(
            (1..=1_000_000).contains(&self.limits.requests_per_second),
            "limits.requests_per_second",
            "it must be 1 to 1000000",
        )?;
        must(
            (1..=1_000_000).contains(&self.limits.burst),
            "limits.burst",
            "it must be 1 to 1000000",
        )?;
        must(
            (1..=1_000_000).contains(&self.limits.max_addresses),
            "limits.max_addresses",
            "it must be 1 to 1000000",
        )?;
        must(
            (1..=10_000).contains(&self.limits.max_requests_in_flight),
            "limits.max_requests_in_flight",
            "it must be 1 to 10000",
        )?;
        must(
            self.snp.amd_roots || !self.snp.trust_anchors.is_empty(),
            "snp.trust_anchors",
            "no root is trusted: name one, or amd_roots",
        )
    }

    fn resolve(self, base: &Path) -> ServerConfig {
        let at = |path: &PathBuf| base.join(path);
        ServerConfig {
            listen: self.listen,
            tls: self.tls.map(|tls| TlsFiles {
                certificate: at(&tls.certificate),
                private_key: at(&tls.private_key),
            }),
            storage: StorageSettings {
                kind: self.storage.kind,
                database: at(&self.storage.database),
                key_file: at(&self.storage.key_file),
                resources: at(&self.storage.resources),
                reference_values: at(&self.storage.reference_values),
                policy: at(&self.storage.policy),
                audit_log: at(&self.storage.audit_log),
            },
            token: TokenSettings {
                private_key: at(&self.token.private_key),
                previous_keys: self.token.previous_keys.iter().map(at).collect(),
                ..self.token
            },
            session: SessionSettings {
                key_file: at(&self.session.key_file),
                spent_challenges: at(&self.session.spent_challenges),
                ..self.session
            },
            http: self.http,
            admin: AdminSettings {
                public_keys: self.admin.public_keys.iter().map(at).collect(),
            },
            limits: self.limits,
            metrics: self.metrics,
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
        insta::assert_snapshot!(error_of(&format!("{MINIMAL}[token]\nlifetime = 3\n")), @r#"[RDT-KBS-105] /etc/kbs/config.toml, line 4, key "lifetime": unknown field `lifetime`, expected one of `private_key`, `lifetime_s`, `issuer`, `audience`, `previous_keys`"#);
        insta::assert_snapshot!(error_of(&format!("{MINIMAL}[token]\nlifetime_s = 0\n")), @r#"[RDT-KBS-106] /etc/kbs/config.toml, key "token.lifetime_s": it must be 1 to 86400"#);
        insta::assert_snapshot!(error_of(&format!("{MINIMAL}[token\n")), @r#"[RDT-KBS-105] /etc/kbs/config.toml, line 3, key "[token": unclosed table, expected `]`"#);
        insta::assert_snapshot!(error_of("insecure_http = true\n"), @r#"[RDT-KBS-119] /etc/kbs/config.toml lacks the key "listen""#);
    }

    #[test]
    fn keys_of_the_other_kind_of_storage_are_refused() {
        insta::assert_snapshot!(error_of(&format!("{MINIMAL}[storage]\nresources = \"r\"\n")), @r#"[RDT-KBS-106] /etc/kbs/config.toml, key "storage.kind": it is not "files", and a key of "files" stands beside it"#);
        insta::assert_snapshot!(error_of(&format!("{MINIMAL}[storage]\nkind = \"files\"\ndatabase = \"d\"\n")), @r#"[RDT-KBS-106] /etc/kbs/config.toml, key "storage.kind": it is "files", and a key of "embedded" stands beside it"#);
        let text = format!("{MINIMAL}[storage]\nkind = \"files\"\nresources = \"r\"\n");
        let config = ServerConfig::parse(&text, Path::new("/e/c.toml")).unwrap();
        assert_eq!(config.storage.kind, StorageKind::Files);
        assert_eq!(config.storage.resources, Path::new("/e/r"));
    }

    #[test]
    fn contradictions_are_refused() {
        insta::assert_snapshot!(error_of("listen = \"127.0.0.1:1\"\n"), @r#"[RDT-KBS-106] /etc/kbs/config.toml, key "tls": it is missing; plain HTTP needs insecure_http = true"#);
        insta::assert_snapshot!(
            error_of(&format!("{MINIMAL}[tls]\ncertificate = \"c\"\nprivate_key = \"k\"\n")), @r#"[RDT-KBS-106] /etc/kbs/config.toml, key "insecure_http": it is set beside [tls]; remove one of them"#);
        insta::assert_snapshot!(error_of(&format!("{MINIMAL}[snp]\namd_roots = false\n")), @r#"[RDT-KBS-106] /etc/kbs/config.toml, key "snp.trust_anchors": no root is trusted: name one, or amd_roots"#);
    }
}
