//! The policy's memory: `data.pstate` and the patches that change it.

use json_patch::PatchOperation;
use serde_json::{Value, json};

use crate::PolicyError;

/// The most that a policy remembers, as JSON.
const MAX_STATE_BYTES: usize = 1 << 20;

/// The state that a policy starts with.
pub(crate) fn empty() -> Value {
    json!({ "pstate": {} })
}

/// The state after `ops`, or why they are refused. The old state stays as it is.
pub(crate) fn patched(
    entry_point: &str,
    state: &Value,
    ops: &[PatchOperation],
) -> Result<Value, PolicyError> {
    for op in ops {
        for path in paths(op) {
            if !path.starts_with("/pstate/") {
                return Err(PolicyError::StatePath {
                    entry_point: entry_point.to_owned(),
                    path: crate::engine::bounded(path),
                });
            }
        }
    }
    let mut next = state.clone();
    json_patch::patch(&mut next, ops).map_err(|source| PolicyError::StateChange {
        entry_point: entry_point.to_owned(),
        source,
    })?;
    if next.to_string().len() > MAX_STATE_BYTES {
        return Err(PolicyError::StateSize {
            limit_bytes: MAX_STATE_BYTES,
        });
    }
    Ok(next)
}

fn paths(op: &PatchOperation) -> Vec<&str> {
    match op {
        PatchOperation::Add(op) => vec![op.path.as_str()],
        PatchOperation::Remove(op) => vec![op.path.as_str()],
        PatchOperation::Replace(op) => vec![op.path.as_str()],
        PatchOperation::Test(op) => vec![op.path.as_str()],
        PatchOperation::Move(op) => vec![op.from.as_str(), op.path.as_str()],
        PatchOperation::Copy(op) => vec![op.from.as_str(), op.path.as_str()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(state: &Value, ops: Value) -> Result<Value, PolicyError> {
        patched(
            "X",
            state,
            &serde_json::from_value::<Vec<PatchOperation>>(ops).unwrap(),
        )
    }

    #[test]
    fn operations_change_the_state_in_order() {
        let state = apply(
            &empty(),
            json!([
                {"op": "add", "path": "/pstate/c1", "value": 0},
                {"op": "add", "path": "/pstate/name", "value": "pod"},
                {"op": "remove", "path": "/pstate/c1"},
            ]),
        );
        assert_eq!(state.unwrap(), json!({"pstate": {"name": "pod"}}));
    }

    #[test]
    fn operations_outside_the_state_are_refused() {
        for op in [
            json!({"op": "add", "path": "/agent_policy/x", "value": 0}),
            json!({"op": "replace", "path": "/pstate", "value": 0}),
            json!({"op": "move", "from": "/other/x", "path": "/pstate/x"}),
            json!({"op": "copy", "from": "/other/x", "path": "/pstate/x"}),
        ] {
            assert!(matches!(
                apply(&empty(), json!([op])),
                Err(PolicyError::StatePath { .. })
            ));
        }
    }

    #[test]
    fn an_operation_that_does_not_apply_changes_nothing() {
        let ops = json!([
            {"op": "add", "path": "/pstate/a", "value": 1},
            {"op": "remove", "path": "/pstate/absent"},
        ]);
        assert!(matches!(
            apply(&empty(), ops),
            Err(PolicyError::StateChange { .. })
        ));
    }

    #[test]
    fn the_state_is_bounded() {
        let ops = json!([{"op": "add", "path": "/pstate/a", "value": "x".repeat(MAX_STATE_BYTES)}]);
        assert!(matches!(
            apply(&empty(), ops),
            Err(PolicyError::StateSize { .. })
        ));
    }
}
