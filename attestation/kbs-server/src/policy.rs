use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redoubt_kbs_protocol::ResourcePath;
use regorus::{Engine, Value};
use serde_json::json;

use crate::KbsServerError;
use crate::files::read_text;
use crate::refusal::{Refusal, Refused, chain_text};
use crate::stamp::FileStamp;
use crate::token::TokenClaims;

/// Largest policy, in bytes.
const MAX_POLICY_BYTES: u64 = 1024 * 1024;

/// Longest evaluation.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The rule that decides.
const RULE: &str = "data.policy.allow";

/// The release policy in a file, read again when it changed.
pub(crate) struct ReleasePolicy {
    path: PathBuf,
    cache: Mutex<(Option<FileStamp>, Engine)>,
}

impl ReleasePolicy {
    /// Reads the policy; it must be usable.
    pub(crate) fn open(path: PathBuf) -> Result<Self, KbsServerError> {
        let stamp = stamp(&path)?;
        let engine = compile(&path)?;
        Ok(Self {
            path,
            cache: Mutex::new((Some(stamp), engine)),
        })
    }

    /// Asks the policy as the file says now. A file that cannot be used
    /// releases nothing.
    pub(crate) fn allows(
        &self,
        claims: &TokenClaims,
        resource: &ResourcePath,
        query: &BTreeMap<String, String>,
    ) -> Result<bool, Refused> {
        let unusable = |error: &KbsServerError| Refusal::Internal.because(chain_text(error));
        let mut engine = self.engine().map_err(|error| unusable(&error))?;
        let failed = |error: &dyn std::fmt::Display| {
            Refusal::Internal.because(format!("policy {}: {error}", self.path.display()))
        };
        let data = json!({
            "plugin": "resource",
            "resource-path": resource.parts(),
            "query": query,
        });
        let input = serde_json::to_string(claims)
            .map_err(|error| Refusal::Internal.because(error.to_string()))?;
        engine
            .add_data_json(&data.to_string())
            .map_err(|error| failed(&error))?;
        engine
            .set_input_json(&input)
            .map_err(|error| failed(&error))?;
        let outcome = engine
            .eval_rule(RULE.to_owned())
            .map_err(|error| failed(&error))?;
        Ok(outcome == Value::Bool(true))
    }

    fn engine(&self) -> Result<Engine, KbsServerError> {
        let now = stamp(&self.path)?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.0 != Some(now) {
            // Until the new file is known to be good, there is no policy to use.
            cache.0 = None;
            cache.1 = compile(&self.path)?;
            cache.0 = Some(now);
            tracing::info!(path = %self.path.display(), "read the release policy");
        }
        Ok(cache.1.clone())
    }
}

impl std::fmt::Debug for ReleasePolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReleasePolicy")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn stamp(path: &Path) -> Result<FileStamp, KbsServerError> {
    std::fs::metadata(path)
        .map(|metadata| FileStamp::of(&metadata))
        .map_err(|source| KbsServerError::Read {
            path: path.to_owned(),
            source,
        })
}

fn compile(path: &Path) -> Result<Engine, KbsServerError> {
    let text = read_text(path, MAX_POLICY_BYTES)?;
    let refuse = |reason: String| KbsServerError::Policy {
        path: path.to_owned(),
        reason,
    };
    let mut engine = Engine::new();
    engine.set_execution_timer_config(regorus::utils::limits::ExecutionTimerConfig {
        limit: TIME_LIMIT,
        check_interval: NonZeroU32::MIN.saturating_add(999),
    });
    let package = engine
        .add_policy(path.display().to_string(), text.to_string())
        .map_err(|error| refuse(error.to_string()))?;
    if package != "data.policy" {
        return Err(refuse(format!("its package is {package}, not policy")));
    }
    // An evaluation without a guest shows errors that only appear then.
    let mut probe = engine.clone();
    probe.set_input(Value::new_object());
    probe
        .eval_rule(RULE.to_owned())
        .map_err(|error| refuse(error.to_string()))?;
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use redoubt_kbs_protocol::TeeKeyPair;

    use super::*;
    use crate::DEFAULT_POLICY;
    use crate::appraisal::Findings;

    fn policy(text: &str) -> (tempfile::TempDir, Result<ReleasePolicy, KbsServerError>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.rego");
        std::fs::write(&path, text).unwrap();
        let policy = ReleasePolicy::open(path);
        (dir, policy)
    }

    fn claims(launch_digest_matched: bool, host_data_matched: bool) -> TokenClaims {
        TokenClaims {
            iss: "x".to_owned(),
            iat: 0,
            exp: 1,
            eat_nonce: "n".to_owned(),
            tee_pubkey: TeeKeyPair::generate().unwrap().public_key(),
            submods: json!({ "cpu0": { "ear.status": "affirming" } }),
            redoubt: Findings {
                launch_digest_matched,
                host_data_matched,
                ..Findings::default()
            },
        }
    }

    fn ask(policy: &ReleasePolicy, claims: &TokenClaims) -> Result<bool, Refusal> {
        let path = ResourcePath::parse("default/key/1").unwrap();
        let query = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        policy
            .allows(claims, &path, &query)
            .map_err(|refused| refused.refusal)
    }

    #[test]
    fn default_policy_asks_for_launch_digest_and_host_data() {
        let (_dir, policy) = policy(DEFAULT_POLICY);
        let policy = policy.unwrap();
        assert_eq!(ask(&policy, &claims(true, true)), Ok(true));
        assert_eq!(ask(&policy, &claims(true, false)), Ok(false));
        assert_eq!(ask(&policy, &claims(false, true)), Ok(false));
        assert_eq!(ask(&policy, &claims(false, false)), Ok(false));
    }

    #[test]
    fn policy_sees_path_query_and_status_as_trustee_lays_them_out() {
        let (_dir, policy) = policy(
            "package policy\nimport rego.v1\ndefault allow := false\nallow if {\n\
             data[\"resource-path\"] == [\"default\", \"key\", \"1\"]\n\
             data.query.a == \"b\"\n\
             input.submods.cpu0[\"ear.status\"] == \"affirming\"\n}\n",
        );
        assert_eq!(ask(&policy.unwrap(), &claims(false, false)), Ok(true));
    }

    #[test]
    fn only_true_is_yes() {
        for value in ["\"true\"", "1", "[true]", "{\"a\": true}", "null"] {
            let (_dir, policy) = policy(&format!("package policy\nallow := {value}\n"));
            assert_eq!(
                ask(&policy.unwrap(), &claims(true, true)),
                Ok(false),
                "{value}"
            );
        }
    }

    #[test]
    fn unusable_policies_are_refused_at_the_start() {
        for text in [
            "",
            "package policy",
            "package other\nallow := true",
            "package policy\nallow if {",
        ] {
            let (_dir, policy) = policy(text);
            assert!(
                matches!(policy, Err(KbsServerError::Policy { .. })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn changed_policy_counts_at_once_and_a_broken_one_releases_nothing() {
        let (dir, policy) = policy("package policy\nallow := true\n");
        let policy = policy.unwrap();
        let write = |text: &str| std::fs::write(dir.path().join("policy.rego"), text).unwrap();
        assert_eq!(ask(&policy, &claims(false, false)), Ok(true));
        write("package policy\nallow := false\n");
        assert_eq!(ask(&policy, &claims(true, true)), Ok(false));
        write("package policy\nallow := \n");
        assert_eq!(ask(&policy, &claims(true, true)), Err(Refusal::Internal));
        assert_eq!(ask(&policy, &claims(true, true)), Err(Refusal::Internal));
        std::fs::remove_file(dir.path().join("policy.rego")).unwrap();
        assert_eq!(ask(&policy, &claims(true, true)), Err(Refusal::Internal));
    }

    #[test]
    fn endless_policy_is_stopped() {
        let (_dir, policy) = policy(
            "package policy\nimport rego.v1\ndefault allow := false\nallow if {\n\
             input.redoubt\n\
             some a in numbers.range(1, 3000)\nsome b in numbers.range(1, 3000)\n\
             some c in numbers.range(1, 3000)\na + b + c < 0\n}\n",
        );
        let started = std::time::Instant::now();
        assert_eq!(
            ask(&policy.unwrap(), &claims(true, true)),
            Err(Refusal::Internal)
        );
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
