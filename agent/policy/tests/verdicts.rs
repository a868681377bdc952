//! Policies and the requests that they let pass or refuse.

#![expect(clippy::unwrap_used, reason = "test helpers")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use redoubt_agent_api::agent::*;
use redoubt_agent_policy::{ALLOW_ALL, PolicyEngine, PolicyError, allow_all, default_deny};
use redoubt_errors::{OneLine, UserError};
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn policy(rules: &str) -> PolicyEngine {
    PolicyEngine::new(&format!(
        "package agent_policy\nimport future.keywords\n{rules}"
    ))
    .unwrap()
}

#[derive(Deserialize)]
struct Case {
    allowed: bool,
    description: String,
    kind: String,
    request: Value,
}

/// Every recorded request goes through our message first, so that the policy
/// judges the JSON that the agent makes, not the recorded text.
fn judge_all<M: protobuf::Message + Serialize + DeserializeOwned>(rules: &str, cases: &str) {
    let engine = policy(rules);
    let cases: Vec<Case> = serde_json::from_str(cases).unwrap();
    assert!(cases.iter().any(|case| case.allowed) && cases.iter().any(|case| !case.allowed));
    for case in cases {
        assert_eq!(case.kind, M::NAME);
        let request: M = serde_json::from_value(case.request).unwrap();
        let result = engine.check(&request);
        assert_eq!(
            result.is_ok(),
            case.allowed,
            "{}: {result:?}",
            case.description
        );
        if let Err(error) = result {
            assert_eq!(error.code().0, "RDT-POL-001");
        }
    }
}

#[test]
fn neighbours_are_judged_one_by_one() {
    judge_all::<AddARPNeighborsRequest>(
        r#"
        default AddARPNeighborsRequest := false
        AddARPNeighborsRequest if {
            every n in input.neighbors.ARPNeighbors {
                n.device != "lo"
                not startswith(n.toIPAddress.address, "127.")
                n.state in {2, 128}
                n.flags in {0, 8, 128}
            }
        }"#,
        include_str!("../testdata/addarpneighbors.json"),
    );
}

#[test]
fn an_interface_is_judged_by_name_address_and_flags() {
    judge_all::<UpdateInterfaceRequest>(
        r#"
        default UpdateInterfaceRequest := false
        UpdateInterfaceRequest if {
            i := input.interface
            print("interface", i.name)
            i.name != "lo"
            i.hwAddr != "00:00:00:00:00:00"
            i.raw_flags in {0, 128}
        }"#,
        include_str!("../testdata/updateinterface.json"),
    );
}

#[test]
fn a_sandbox_is_judged_by_what_the_host_slips_in() {
    judge_all::<CreateSandboxRequest>(
        r#"
        default CreateSandboxRequest := false
        CreateSandboxRequest if {
            input.sandbox_pidns == false
            input.guest_hook_path == ""
            count(input.kernel_modules) == 0
        }"#,
        include_str!("../testdata/createsandbox.json"),
    );
}

#[test]
fn a_container_is_judged_by_its_capitalised_specification() {
    judge_all::<CreateContainerRequest>(
        r"
        default CreateContainerRequest := false
        CreateContainerRequest if {
            u := input.OCI.Process.User
            [u.UID, u.GID, u.AdditionalGids] == [2, 1, [1]]
            is_null(input.OCI.Hooks)
            is_null(input.OCI.Linux.Seccomp)
        }",
        include_str!("../testdata/gid.json"),
    );
}

const STATEFUL: &str = r#"
    default CreateContainerRequest := {"allowed": false}
    CreateContainerRequest := {"allowed": true, "ops": ops} if {
        not data.pstate[input.container_id]
        ops := [{"op": "add", "path": concat("", ["/pstate/", input.container_id]), "value": 7}]
    }
    default ExecProcessRequest := false
    ExecProcessRequest if data.pstate[input.container_id] == 7
    default RemoveContainerRequest := {"allowed": false}
    RemoveContainerRequest := {"allowed": true, "ops": [
        {"op": "remove", "path": concat("", ["/pstate/", input.container_id])},
    ]} if true
"#;

#[test]
fn state_follows_the_allowed_requests() {
    let engine = policy(STATEFUL);
    let create = CreateContainerRequest {
        container_id: "c1".to_owned(),
        ..Default::default()
    };
    let exec = ExecProcessRequest {
        container_id: "c1".to_owned(),
        ..Default::default()
    };
    let remove = RemoveContainerRequest {
        container_id: "c1".to_owned(),
        ..Default::default()
    };
    assert!(engine.check(&exec).is_err());
    engine.check(&create).unwrap();
    assert!(engine.check(&create).is_err(), "the same container twice");
    engine.check(&exec).unwrap();
    engine.check(&remove).unwrap();
    assert!(engine.check(&exec).is_err());
    assert!(matches!(
        engine.check(&remove),
        Err(PolicyError::StateChange { .. })
    ));
    engine.check(&create).unwrap();
}

#[test]
fn a_denied_request_changes_no_state() {
    let engine = policy(
        r#"
        A := {"allowed": false, "ops": [{"op": "add", "path": "/pstate/x", "value": 1}]} if true
        default B := false
        B if data.pstate.x == 1
        "#,
    );
    assert!(!engine.evaluate("A", json!({})).unwrap().allowed);
    assert!(!engine.evaluate("B", json!({})).unwrap().allowed);
}

#[test]
fn a_denial_names_the_rule_and_its_prints_and_never_the_input() {
    let engine = policy(
        r#"
        default ExecProcessRequest := false
        ExecProcessRequest if {
            print("command is", input.process.Args[0])
            print("two\nlines", "\u001b[2J")
            input.process.Args[0] == "id"
        }"#,
    );
    let mut request = ExecProcessRequest {
        container_id: "c1".to_owned(),
        ..Default::default()
    };
    let process = request.process.mut_or_insert_default();
    process.Args = vec!["sh".to_owned()];
    process.Env = vec!["TOKEN=hunter2".to_owned()];
    let error = engine.check(&request).unwrap_err();
    assert_eq!(
        OneLine(&error).to_string(),
        "[RDT-POL-001] ExecProcessRequest is blocked by policy: \
         policy.rego:6: command is sh; policy.rego:7: two lines  [2J"
    );
}

#[test]
fn a_rule_that_prints_nothing_is_refused_with_a_hint() {
    let engine = policy("default ExecProcessRequest := false");
    let error = engine.check(&ExecProcessRequest::default()).unwrap_err();
    assert_eq!(
        OneLine(&error).to_string(),
        "[RDT-POL-001] ExecProcessRequest is blocked by policy: no body of the rule allows it \
         (hint: a print() in the rule's body appears here)"
    );
}

#[test]
fn prints_are_bounded() {
    let engine = policy(
        r"
        default A := false
        A if {
            some i in numbers.range(1, 1000)
            print(i, input.long)
            false
        }",
    );
    let decision = engine
        .evaluate("A", json!({ "long": "x".repeat(100_000) }))
        .unwrap();
    assert!(!decision.allowed);
    assert!(decision.prints.len() <= 16);
    assert!(
        decision
            .prints
            .iter()
            .all(|text| text.chars().count() <= 241)
    );
}

#[test]
fn a_request_without_a_rule_is_refused_by_name() {
    let error = policy("default A := true")
        .check(&GetMetricsRequest::new())
        .unwrap_err();
    assert_eq!(
        OneLine(&error).to_string(),
        "[RDT-POL-002] GetMetricsRequest is blocked by policy: the policy has no such rule \
         (hint: add \"default GetMetricsRequest := true\" to allow it)"
    );
}

#[test]
fn a_rule_with_another_kind_of_answer_is_an_error() {
    let engine = policy("A := 1\nB := {\"allowed\": \"yes\"}\nC := \"true\"\nD := {\"ops\": []}");
    for name in ["A", "B", "C", "D"] {
        assert!(
            matches!(
                engine.evaluate(name, json!({})),
                Err(PolicyError::Answer(_))
            ),
            "{name}"
        );
    }
}

#[test]
fn a_confidential_guest_refuses_a_policy_that_lets_failures_pass() {
    let rego = "package agent_policy\nAllowRequestsFailingPolicy := true\ndefault A := false";
    let error = PolicyEngine::new(rego).unwrap_err();
    assert_eq!(error.code().0, "RDT-POL-005");

    let lenient = PolicyEngine::lenient(rego).unwrap();
    for name in ["A", "Undefined"] {
        let decision = lenient.evaluate(name, json!({})).unwrap();
        assert!(decision.allowed && decision.overruled);
    }
    let off = "package agent_policy\ndefault AllowRequestsFailingPolicy := false";
    PolicyEngine::new(off).unwrap();
}

#[test]
fn texts_that_are_no_policy_do_not_load() {
    for (text, code) in [
        ("", "RDT-POL-003"),
        ("package agent_policy\nallow if {", "RDT-POL-003"),
        ("package other", "RDT-POL-004"),
        ("package agent_policy.deeper", "RDT-POL-004"),
    ] {
        assert_eq!(
            PolicyEngine::new(text).unwrap_err().code().0,
            code,
            "{text:?}"
        );
    }
}

#[test]
fn limits_fit_generated_policies_and_no_more() {
    let line = |chars: usize| format!("package agent_policy\nx := \"{}\"", "y".repeat(chars));
    PolicyEngine::new(&line(60_000)).unwrap();
    assert!(PolicyEngine::new(&line(70_000)).is_err());
    let lines = |count: usize| format!("package agent_policy\n{}", "#\n".repeat(count));
    PolicyEngine::new(&lines(150_000)).unwrap();
    assert!(PolicyEngine::new(&lines(200_001)).is_err());
}

#[test]
fn image_digests_are_a_set_of_digests_or_absent() {
    let digest = format!("sha256:{}", "a1".repeat(32));
    for list in [format!("{{\"{digest}\"}}"), format!("[\"{digest}\"]")] {
        let engine = policy(&format!("image_digests := {list}"));
        assert_eq!(
            engine.image_digests().unwrap(),
            Some(BTreeSet::from([digest.clone()])),
        );
    }
    assert_eq!(policy("default A := true").image_digests().unwrap(), None);
    for list in ["\"sha256:aa\"", "[1]", "{\"sha512:00\"}", "true"] {
        let engine = policy(&format!("image_digests := {list}"));
        assert!(
            matches!(engine.image_digests(), Err(PolicyError::ImageDigests)),
            "{list}"
        );
    }
}

#[test]
fn without_a_policy_a_confidential_guest_says_what_is_missing() {
    let engine = default_deny().unwrap();
    engine.check(&GuestDetailsRequest::new()).unwrap();
    engine.check(&DestroySandboxRequest::new()).unwrap();
    let error = engine.check(&CreateSandboxRequest::new()).unwrap_err();
    assert!(
        error.to_string().contains("no initdata with a policy.rego"),
        "{error}"
    );
    assert!(engine.check(&CreateContainerRequest::new()).is_err());
    assert!(engine.check(&ExecProcessRequest::new()).is_err());
    assert!(engine.check(&SetPolicyRequest::new()).is_err());
}

#[test]
fn allow_all_has_a_rule_for_every_request_of_the_service() {
    let service = include_str!("../../api/proto/agent.proto");
    let engine = allow_all().unwrap();
    let mut seen = BTreeSet::new();
    for line in service
        .lines()
        .filter_map(|line| line.trim().strip_prefix("rpc "))
    {
        let (_, rest) = line.split_once('(').unwrap();
        let (request, _) = rest.split_once(')').unwrap();
        assert!(
            engine.evaluate(request, json!({})).unwrap().allowed,
            "{request}"
        );
        seen.insert(request);
    }
    assert_eq!(seen.len(), 41);
    assert_eq!(
        ALLOW_ALL
            .lines()
            .filter(|line| line.starts_with("default "))
            .count(),
        seen.len()
    );
}

#[test]
fn a_name_that_is_no_request_is_refused() {
    let engine = allow_all().unwrap();
    for name in ["", "a.b", "data", "x y", "A\n"] {
        let result = engine.evaluate(name, json!({}));
        assert!(!result.is_ok_and(|decision| decision.allowed), "{name:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_loads_or_is_refused(text in "(package agent_policy\n)?[ -~\n]{0,200}") {
        let _ = PolicyEngine::new(&text);
    }
}
