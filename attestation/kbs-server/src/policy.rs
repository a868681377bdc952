//! Release policies in Rego.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redoubt_kbs_protocol::ResourcePath;
use regorus::{Engine, Value};
use serde_json::json;

use crate::KbsServerError;
use crate::names::{PolicyName, Tenant};
use crate::refusal::{Refusal, Refused, chain_text};
use crate::storage::{Revision, Storage};
use crate::token::TokenClaims;

/// Largest policy, in bytes.
pub(crate) const MAX_POLICY_BYTES: usize = 256 * 1024;

/// Longest evaluation.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The rule that decides.
const RULE: &str = "data.policy.allow";

/// The rule that may say why not, in texts for the audit log.
const REASONS: &str = "data.policy.reasons";

/// Most reasons that are recorded, and the longest one in characters.
const MAX_REASONS: usize = 16;
const MAX_REASON_CHARS: usize = 500;

/// Most compiled policies in memory.
const MAX_COMPILED: usize = 64;

/// What a policy says about a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDecision {
    /// Whether the resource is released.
    pub allowed: bool,
    /// Why not, where the policy says so.
    pub reasons: Vec<String>,
}

/// Evaluates a policy's text as the broker does. `input` is the claims of a
/// token as JSON.
pub fn test_policy(
    text: &str,
    input: &str,
    resource: &ResourcePath,
    query: &BTreeMap<String, String>,
) -> Result<PolicyDecision, String> {
    PolicyProgram::compile("policy", text)?.decide(input, resource, query)
}

/// A compiled policy.
#[derive(Clone)]
pub(crate) struct PolicyProgram {
    engine: Engine,
    has_reasons: bool,
}

impl PolicyProgram {
    /// Compiles a policy and evaluates it once without a guest, which shows
    /// errors that only appear then.
    pub(crate) fn compile(name: &str, text: &str) -> Result<Self, String> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(format!("it has more than {MAX_POLICY_BYTES} bytes"));
        }
        let mut engine = Engine::new();
        engine.set_execution_timer_config(regorus::utils::limits::ExecutionTimerConfig {
            limit: TIME_LIMIT,
            check_interval: NonZeroU32::MIN.saturating_add(999),
        });
        let package = engine
            .add_policy(name.to_owned(), text.to_owned())
            .map_err(|error| error.to_string())?;
        if package != "data.policy" {
            return Err(format!("its package is {package}, not policy"));
        }
        let mut probe = engine.clone();
        probe.set_input(Value::new_object());
        probe
            .eval_rule(RULE.to_owned())
            .map_err(|error| error.to_string())?;
        let has_reasons = probe.eval_rule(REASONS.to_owned()).is_ok();
        Ok(Self {
            engine,
            has_reasons,
        })
    }

    pub(crate) fn decide(
        &self,
        input: &str,
        resource: &ResourcePath,
        query: &BTreeMap<String, String>,
    ) -> Result<PolicyDecision, String> {
        let mut engine = self.engine.clone();
        let data = json!({
            "plugin": "resource",
            "resource-path": resource.parts(),
            "query": query,
        });
        engine
            .add_data_json(&data.to_string())
            .map_err(|error| error.to_string())?;
        engine
            .set_input_json(input)
            .map_err(|error| error.to_string())?;
        let outcome = engine
            .eval_rule(RULE.to_owned())
            .map_err(|error| error.to_string())?;
        let allowed = outcome == Value::Bool(true);
        let reasons = if allowed || !self.has_reasons {
            Vec::new()
        } else {
            let reasons = engine
                .eval_rule(REASONS.to_owned())
                .map_err(|error| error.to_string())?;
            texts(&reasons)
        };
        Ok(PolicyDecision { allowed, reasons })
    }
}

/// The texts in a set or list.
fn texts(value: &Value) -> Vec<String> {
    let short = |value: &Value| {
        let text = value.as_string().ok()?;
        Some(text.chars().take(MAX_REASON_CHARS).collect())
    };
    if let Ok(set) = value.as_set() {
        set.iter().filter_map(short).take(MAX_REASONS).collect()
    } else if let Ok(list) = value.as_array() {
        list.iter().filter_map(short).take(MAX_REASONS).collect()
    } else {
        Vec::new()
    }
}

/// Decides by the policies in a storage, and keeps them compiled.
#[derive(Default)]
pub(crate) struct ReleasePolicies {
    compiled: Mutex<HashMap<(Tenant, PolicyName), (Revision, PolicyProgram)>>,
}

impl ReleasePolicies {
    /// Makes sure at the start that the default policy is usable.
    pub(crate) fn check(&self, storage: &Storage) -> Result<(), KbsServerError> {
        let (tenant, name) = (Tenant::default(), PolicyName::default());
        self.program(storage, &tenant, &name).map(|_| ())
    }

    /// Asks a policy as it is now. One that is missing or cannot be used
    /// releases nothing.
    pub(crate) fn decide(
        &self,
        storage: &Storage,
        claims: &TokenClaims,
        name: &PolicyName,
        resource: &ResourcePath,
        query: &BTreeMap<String, String>,
    ) -> Result<PolicyDecision, Refused> {
        let program = self
            .program(storage, &claims.tenant, name)
            .map_err(|error| Refusal::Internal.because(chain_text(&error)))?;
        let input = serde_json::to_string(claims)
            .map_err(|error| Refusal::Internal.because(error.to_string()))?;
        program
            .decide(&input, resource, query)
            .map_err(|error| Refusal::Internal.because(format!("policy {name}: {error}")))
    }

    fn program(
        &self,
        storage: &Storage,
        tenant: &Tenant,
        name: &PolicyName,
    ) -> Result<PolicyProgram, KbsServerError> {
        let missing = || KbsServerError::NoSuchPolicy { name: name.clone() };
        let now = storage.policy_revision(tenant, name)?.ok_or_else(missing)?;
        let key = (tenant.clone(), name.clone());
        if let Some((revision, program)) = self.lock().get(&key)
            && *revision == now
        {
            return Ok(program.clone());
        }
        // Until the new text is known to be good, there is no policy to use.
        self.lock().remove(&key);
        let text = storage.policy(tenant, name)?.ok_or_else(missing)?;
        let program = PolicyProgram::compile(name.as_str(), &text).map_err(|reason| {
            KbsServerError::PolicyText {
                name: name.clone(),
                reason,
            }
        })?;
        let mut compiled = self.lock();
        if compiled.len() >= MAX_COMPILED {
            compiled.clear();
        }
        compiled.insert(key, (now, program.clone()));
        tracing::info!(%tenant, policy = %name, "read a release policy");
        Ok(program)
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<(Tenant, PolicyName), (Revision, PolicyProgram)>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for ReleasePolicies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReleasePolicies").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use redoubt_kbs_protocol::TeeKeyPair;

    use super::*;
    use crate::DEFAULT_POLICY;
    use crate::appraisal::Findings;
    use crate::config::{StorageKind, StorageSettings};

    fn claims(launch_digest_matched: bool, host_data_matched: bool) -> TokenClaims {
        TokenClaims {
            submods: json!({ "cpu0": { "ear.status": "affirming" } }),
            redoubt: Findings {
                launch_digest_matched,
                host_data_matched,
                ..Findings::default()
            },
            ..TokenClaims::of_test(TeeKeyPair::generate().unwrap().public_key())
        }
    }

    fn path() -> ResourcePath {
        ResourcePath::parse("default/key/1").unwrap()
    }

    fn ask(text: &str, claims: &TokenClaims) -> Result<PolicyDecision, String> {
        let query = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let input = serde_json::to_string(claims).unwrap();
        test_policy(text, &input, &path(), &query)
    }

    fn allows(text: &str, claims: &TokenClaims) -> bool {
        ask(text, claims).unwrap().allowed
    }

    #[test]
    fn default_policy_asks_for_launch_digest_and_host_data() {
        assert!(allows(DEFAULT_POLICY, &claims(true, true)));
        assert!(!allows(DEFAULT_POLICY, &claims(true, false)));
        assert!(!allows(DEFAULT_POLICY, &claims(false, true)));
        assert!(!allows(DEFAULT_POLICY, &claims(false, false)));
    }

    #[test]
    fn policy_sees_path_query_and_status_as_trustee_lays_them_out() {
        let text = "package policy\nimport rego.v1\ndefault allow := false\nallow if {\n\
             data[\"resource-path\"] == [\"default\", \"key\", \"1\"]\n\
             data.query.a == \"b\"\n\
             input.submods.cpu0[\"ear.status\"] == \"affirming\"\n}\n";
        assert!(allows(text, &claims(false, false)));
    }

    #[test]
    fn only_true_is_yes() {
        for value in ["\"true\"", "1", "[true]", "{\"a\": true}", "null"] {
            let text = format!("package policy\nallow := {value}\n");
            assert!(!allows(&text, &claims(true, true)), "{value}");
        }
    }

    #[test]
    fn policy_may_say_why_not() {
        let text = "package policy\nimport rego.v1\ndefault allow := false\n\
             reasons contains \"digest\" if not input.redoubt.launch_digest_matched\n\
             reasons contains \"host data\" if not input.redoubt.host_data_matched\n";
        let decision = ask(text, &claims(false, true)).unwrap();
        assert_eq!(decision.reasons, ["digest"]);
        let list = "package policy\nallow := false\nreasons := [\"a\", 7, \"b\"]\n";
        assert_eq!(ask(list, &claims(true, true)).unwrap().reasons, ["a", "b"]);
        assert!(
            ask(DEFAULT_POLICY, &claims(false, false))
                .unwrap()
                .reasons
                .is_empty()
        );
    }

    #[test]
    fn unusable_policies_are_refused() {
        let long = format!(
            "package policy\nallow := true\n#{}",
            "x".repeat(MAX_POLICY_BYTES)
        );
        for text in [
            "",
            "package policy",
            "package other\nallow := true",
            "package policy\nallow if {",
            &long,
        ] {
            assert!(ask(text, &claims(true, true)).is_err(), "{text:.40?}");
        }
    }

    #[test]
    fn endless_policy_is_stopped() {
        let text = "package policy\nimport rego.v1\ndefault allow := false\nallow if {\n\
             input.redoubt\n\
             some a in numbers.range(1, 3000)\nsome b in numbers.range(1, 3000)\n\
             some c in numbers.range(1, 3000)\na + b + c < 0\n}\n";
        let started = std::time::Instant::now();
        assert!(ask(text, &claims(true, true)).is_err());
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn changed_file_counts_at_once_and_a_broken_one_releases_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let settings = StorageSettings {
            kind: StorageKind::Files,
            resources: dir.path().to_owned(),
            reference_values: dir.path().to_owned(),
            policy: dir.path().join("policy.rego"),
            ..StorageSettings::default()
        };
        let write = |text: &str| std::fs::write(&settings.policy, text).unwrap();
        let storage = Storage::open(&settings).unwrap();
        let policies = ReleasePolicies::default();
        let ask = |claims: &TokenClaims| {
            let name = PolicyName::default();
            let decision = policies.decide(&storage, claims, &name, &path(), &BTreeMap::new());
            decision
                .map(|decision| decision.allowed)
                .map_err(|refused| refused.refusal)
        };
        assert!(policies.check(&storage).is_err());
        write("package policy\nallow := true\n");
        assert_eq!(ask(&claims(false, false)), Ok(true));
        write("package policy\nallow := false\n");
        assert_eq!(ask(&claims(true, true)), Ok(false));
        write("package policy\nallow := \n");
        assert_eq!(ask(&claims(true, true)), Err(Refusal::Internal));
        assert_eq!(ask(&claims(true, true)), Err(Refusal::Internal));
        std::fs::remove_file(&settings.policy).unwrap();
        assert_eq!(ask(&claims(true, true)), Err(Refusal::Internal));
    }
}
