//! The engine: one loaded policy, its state, and its verdicts.

use std::collections::BTreeSet;
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use json_patch::PatchOperation;
use redoubt_errors::flatten;
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, PolicyLengthConfig, Value};
use serde::Deserialize;

use crate::error::NO_REASON;
use crate::{PolicyError, PolicyRequest, state};

const PACKAGE: &str = "data.agent_policy";

/// Limits on a policy's text: a generated policy holds whole container
/// specifications on one line, and far more lines than the engine's default.
const MAX_LINE_CHARS: NonZeroU32 = NonZeroU32::new(64 << 10).unwrap();
const MAX_POLICY_BYTES: NonZeroUsize = NonZeroUsize::new(16 << 20).unwrap();
const MAX_LINES: NonZeroUsize = NonZeroUsize::new(200_000).unwrap();

/// The longest evaluation; a host must not be able to keep the agent busy with
/// a request that the policy judges slowly.
const MAX_EVALUATION: Duration = Duration::from_secs(10);
const STEPS_BETWEEN_TIME_CHECKS: NonZeroU32 = NonZeroU32::new(256).unwrap();

/// How much of a rule's prints goes into an error.
const MAX_PRINTS: usize = 16;
const MAX_TEXT_CHARS: usize = 240;

/// A policy's word on one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may proceed.
    pub allowed: bool,
    /// Whether the rule refused and `AllowRequestsFailingPolicy` overruled it.
    pub overruled: bool,
    /// What the rule printed: at most 16 texts of 240 characters, without
    /// control characters; the last ones where there were more.
    pub prints: Vec<String>,
}

/// One loaded policy with its state.
pub struct PolicyEngine {
    inner: Mutex<Inner>,
    allow_failing: bool,
}

/// The engine's data and the same state as JSON; they change together.
struct Inner {
    engine: Engine,
    state: serde_json::Value,
}

impl fmt::Debug for PolicyEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyEngine")
            .field("allow_failing", &self.allow_failing)
            .finish_non_exhaustive()
    }
}

/// What a rule may answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Verdict(bool),
    WithState {
        allowed: bool,
        #[serde(default)]
        ops: Vec<PatchOperation>,
    },
}

impl PolicyEngine {
    /// Loads a policy for a confidential guest.
    ///
    /// A policy that sets `AllowRequestsFailingPolicy` is refused.
    pub fn new(rego: &str) -> Result<Self, PolicyError> {
        let engine = Self::lenient(rego)?;
        if engine.allow_failing {
            return Err(PolicyError::FailuresAllowed);
        }
        Ok(engine)
    }

    /// Loads a policy for a guest that is not confidential: where it sets
    /// `AllowRequestsFailingPolicy`, refused requests pass.
    pub fn lenient(rego: &str) -> Result<Self, PolicyError> {
        let mut engine = Engine::new();
        engine.set_rego_v0(true);
        engine.set_strict_builtin_errors(false);
        engine.set_gather_prints(true);
        engine.set_policy_length_config(PolicyLengthConfig {
            max_col: MAX_LINE_CHARS,
            max_file_bytes: MAX_POLICY_BYTES,
            max_lines: MAX_LINES,
        });
        engine.set_execution_timer_config(ExecutionTimerConfig {
            limit: MAX_EVALUATION,
            check_interval: STEPS_BETWEEN_TIME_CHECKS,
        });
        let package = engine
            .add_policy("policy.rego".to_owned(), rego.to_owned())
            .map_err(|error| PolicyError::Load(bounded(&error.to_string())))?;
        if package != PACKAGE {
            return Err(PolicyError::Package(bounded(&package)));
        }
        let state = state::empty();
        let mut inner = Inner { engine, state };
        inner
            .sync()
            .map_err(|error| PolicyError::Load(bounded(&error.to_string())))?;
        // The first evaluation also checks the policy as a whole.
        let allow_failing = match inner.rule("AllowRequestsFailingPolicy") {
            Ok(value) => value == Some(Value::from(true)),
            Err(error) => return Err(PolicyError::Load(bounded(&error))),
        };
        Ok(Self {
            inner: Mutex::new(inner),
            allow_failing,
        })
    }

    /// Evaluates the rule `entry_point` and, where it allows, applies its
    /// changes of state.
    ///
    /// A rule that refuses or does not exist is a decision; an error means that
    /// the policy gave none, and the request must not proceed.
    pub fn evaluate(
        &self,
        entry_point: &str,
        input: serde_json::Value,
    ) -> Result<Decision, PolicyError> {
        self.judge(entry_point, input).map(|(decision, _)| decision)
    }

    /// Evaluates the rule for `request`: an error unless the request may proceed.
    pub fn check(&self, request: &impl PolicyRequest) -> Result<Decision, PolicyError> {
        let entry_point = request.entry_point();
        let (decision, rule) = self.judge(entry_point, request.policy_input()?)?;
        if decision.allowed {
            return Ok(decision);
        }
        Err(match rule {
            RuleIs::Defined => PolicyError::Denied {
                entry_point: entry_point.to_owned(),
                reason: reason(&decision.prints),
            },
            RuleIs::Undefined => PolicyError::NoRule(entry_point.to_owned()),
        })
    }

    /// The image manifest digests that the policy names in `image_digests`,
    /// or `None` when it has no such rule.
    pub fn image_digests(&self) -> Result<Option<BTreeSet<String>>, PolicyError> {
        let Some(value) = self
            .lock()
            .rule("image_digests")
            .map_err(|_| PolicyError::ImageDigests)?
        else {
            return Ok(None);
        };
        let json = serde_json::to_value(&value).map_err(|_| PolicyError::ImageDigests)?;
        let digests: BTreeSet<String> =
            serde_json::from_value(json).map_err(|_| PolicyError::ImageDigests)?;
        if digests.iter().all(|digest| is_sha256_digest(digest)) {
            Ok(Some(digests))
        } else {
            Err(PolicyError::ImageDigests)
        }
    }

    fn judge(
        &self,
        entry_point: &str,
        input: serde_json::Value,
    ) -> Result<(Decision, RuleIs), PolicyError> {
        if entry_point.is_empty() || !entry_point.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(PolicyError::EntryPoint(bounded(entry_point)));
        }
        let input: Value = serde_json::from_value(input).map_err(PolicyError::Input)?;
        let mut inner = self.lock();
        inner.engine.set_input(input);
        let result = inner.rule(entry_point);
        inner.engine.set_input(Value::new_object());
        let prints = inner.prints();
        let value = result.map_err(|reason| PolicyError::Evaluate {
            entry_point: entry_point.to_owned(),
            reason: bounded(&reason),
        })?;
        let rule = if value.is_some() {
            RuleIs::Defined
        } else {
            RuleIs::Undefined
        };
        let (allowed, ops) = match value {
            None => (false, Vec::new()),
            Some(value) => answer(entry_point, &value)?,
        };
        if allowed && !ops.is_empty() {
            inner.change_state(entry_point, &ops)?;
        }
        let overruled = !allowed && self.allow_failing;
        Ok((
            Decision {
                allowed: allowed || overruled,
                overruled,
                prints,
            },
            rule,
        ))
    }

    /// The lock is held for one evaluation. Every change of [`Inner`] is whole,
    /// so that a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy)]
enum RuleIs {
    Defined,
    Undefined,
}

impl Inner {
    /// The value of a rule; `None` when it is undefined or does not exist.
    fn rule(&mut self, name: &str) -> Result<Option<Value>, String> {
        match self.engine.eval_rule(format!("{PACKAGE}.{name}")) {
            Ok(Value::Undefined) => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let text = format!("{error:#}");
                // The engine has no other way to say that a rule is not there.
                if text.contains("not a valid rule path") {
                    Ok(None)
                } else {
                    Err(text)
                }
            }
        }
    }

    fn prints(&mut self) -> Vec<String> {
        let prints = self.engine.take_prints().unwrap_or_default();
        let skip = prints.len().saturating_sub(MAX_PRINTS);
        prints.iter().skip(skip).map(|text| bounded(text)).collect()
    }

    fn change_state(
        &mut self,
        entry_point: &str,
        ops: &[PatchOperation],
    ) -> Result<(), PolicyError> {
        let next = state::patched(entry_point, &self.state, ops)?;
        let before = std::mem::replace(&mut self.state, next);
        if let Err(error) = self.sync() {
            self.state = before;
            // The old state was accepted before.
            let _ = self.sync();
            return Err(PolicyError::Evaluate {
                entry_point: entry_point.to_owned(),
                reason: bounded(&error.to_string()),
            });
        }
        Ok(())
    }

    /// Gives the engine the state as its data.
    fn sync(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let data: Value = serde_json::from_value(self.state.clone())?;
        self.engine.clear_data();
        self.engine.add_data(data)?;
        Ok(())
    }
}

/// What the rule printed, on one line.
fn reason(prints: &[String]) -> String {
    if prints.is_empty() {
        NO_REASON.to_owned()
    } else {
        prints.join("; ")
    }
}

fn answer(entry_point: &str, value: &Value) -> Result<(bool, Vec<PatchOperation>), PolicyError> {
    let wrong = || PolicyError::Answer(entry_point.to_owned());
    let json = serde_json::to_value(value).map_err(|_| wrong())?;
    match serde_json::from_value(json).map_err(|_| wrong())? {
        Answer::Verdict(allowed) => Ok((allowed, Vec::new())),
        Answer::WithState { allowed, ops } => Ok((allowed, ops)),
    }
}

fn is_sha256_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Text of the policy or the engine, fit for one line of an error.
pub(crate) fn bounded(text: &str) -> String {
    let flat = flatten(text);
    match flat.char_indices().nth(MAX_TEXT_CHARS) {
        None => flat,
        Some((end, _)) => format!("{}…", &flat[..end]),
    }
}
