//! Manifests as people write them, and as nobody should.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use insta::assert_snapshot;
use proptest::prelude::*;
use redoubt_errors::OneLine;
use redoubt_launch_plan::ResourceLimits;
use redoubt_pod_shape::{Manifest, PodError, Workload, WorkloadKind};

fn parse(text: &str) -> Result<Manifest, PodError> {
    Manifest::parse(text.as_bytes())
}

/// The only workload of a manifest.
fn workload(text: &str) -> Workload {
    let mut workloads = parse(text).unwrap().workloads;
    assert_eq!(workloads.len(), 1);
    workloads.remove(0)
}

/// A pod with these lines in its specification.
fn limits_of(spec: &str) -> ResourceLimits {
    workload(&pod(spec)).resources.limits()
}

fn pod(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n{spec}")
}

fn refusal(text: &str) -> String {
    OneLine(&parse(text).unwrap_err()).to_string()
}

fn limits(quota: i64, shares: u64, memory: i64) -> ResourceLimits {
    ResourceLimits {
        cpu_quota_us: Some(quota),
        cpu_period_us: Some(100_000),
        cpu_shares: Some(shares),
        memory_bytes: Some(memory),
    }
}

#[test]
fn a_pod_without_resources_has_no_limits_and_the_least_weight() {
    let spec = "  containers:\n  - name: a\n    image: i\n";
    assert_eq!(limits_of(spec), limits(0, 2, 0));
}

#[test]
fn containers_add_up_and_one_without_a_limit_adds_nothing() {
    let spec = "
  containers:
  - name: a
    resources: {limits: {cpu: 1500m, memory: 1Gi}, requests: {cpu: 250m}}
  - name: b
    resources: {limits: {cpu: 1, memory: 512Mi}}
  - name: c
";
    // Requests: 250m stated and 1 taken from the limit.
    assert_eq!(limits_of(spec), limits(250_000, 1280, 1536 << 20));
}

#[test]
fn the_largest_init_container_counts_beside_the_sidecars_started_before_it() {
    let spec = "
  initContainers:
  - name: first
    resources: {limits: {cpu: 3, memory: 100Mi}}
  - name: proxy
    restartPolicy: Always
    resources: {limits: {cpu: 500m, memory: 64Mi}}
  - name: second
    resources: {limits: {cpu: 2, memory: 1Gi}}
  containers:
  - name: main
    resources: {limits: {cpu: 1, memory: 200Mi}}
";
    // CPU: first alone (3) beats second with the proxy (2.5) and main with the proxy (1.5).
    // Memory: second with the proxy (1088 MiB) beats the others.
    assert_eq!(limits_of(spec), limits(300_000, 3072, 1088 << 20));
}

#[test]
fn a_sidecar_runs_beside_the_containers() {
    let spec = "
  initContainers:
  - {name: s, restartPolicy: Always, resources: {limits: {cpu: 1, memory: 1Gi}}}
  - {name: i, resources: {limits: {cpu: 1, memory: 1Gi}}}
  containers:
  - {name: m, resources: {limits: {cpu: 2, memory: 2Gi}}}
";
    assert_eq!(limits_of(spec), limits(300_000, 3072, 3 << 30));
}

#[test]
fn what_the_pod_itself_states_replaces_the_sum() {
    let spec = "
  resources: {limits: {cpu: 4}, requests: {cpu: 2}}
  containers:
  - {name: m, resources: {limits: {cpu: 1, memory: 1Gi}}}
";
    assert_eq!(limits_of(spec), limits(400_000, 2048, 1 << 30));
}

#[test]
fn tiny_and_huge_limits_stay_within_what_the_kubelet_sets() {
    let spec = |cpu: &str| {
        format!("  containers:\n  - {{name: a, resources: {{limits: {{cpu: {cpu}}}}}}}\n")
    };
    assert_eq!(limits_of(&spec("1m")), limits(1000, 2, 0));
    assert_eq!(limits_of(&spec("0.5")), limits(50_000, 512, 0));
    assert_eq!(limits_of(&spec("'2'")), limits(200_000, 2048, 0));
    assert_eq!(limits_of(&spec("1000")), limits(100_000_000, 262_144, 0));
    assert_eq!(limits_of(&spec("0")), limits(0, 2, 0));
}

#[test]
fn every_kind_is_found_at_its_own_path() {
    let pod = "{metadata: {annotations: {a: b}}, spec: {runtimeClassName: kata, containers: []}}";
    for (kind, body) in [
        (
            "Pod",
            "metadata: {name: x, annotations: {a: b}}\nspec: {runtimeClassName: kata}".to_owned(),
        ),
        (
            "PodTemplate",
            format!("metadata: {{name: x}}\ntemplate: {pod}"),
        ),
        (
            "Deployment",
            format!("metadata: {{name: x}}\nspec: {{template: {pod}}}"),
        ),
        (
            "ReplicaSet",
            format!("metadata: {{name: x}}\nspec: {{template: {pod}}}"),
        ),
        (
            "ReplicationController",
            format!("metadata: {{name: x}}\nspec: {{template: {pod}}}"),
        ),
        (
            "StatefulSet",
            format!("metadata: {{name: x}}\nspec: {{template: {pod}}}"),
        ),
        (
            "DaemonSet",
            format!("metadata: {{name: x}}\nspec: {{template: {pod}}}"),
        ),
        (
            "Job",
            format!("metadata: {{name: x}}\nspec: {{template: {pod}}}"),
        ),
        (
            "CronJob",
            format!("metadata: {{name: x}}\nspec: {{jobTemplate: {{spec: {{template: {pod}}}}}}}"),
        ),
    ] {
        let workload = workload(&format!("kind: {kind}\n{body}\n"));
        assert_eq!(workload.to_string(), format!("{kind} x"));
        assert_eq!(workload.kind, WorkloadKind::from_name(kind).unwrap());
        assert_eq!(workload.runtime_class.as_deref(), Some("kata"));
        assert_eq!(workload.annotations["a"], "b", "{kind}");
        assert!(workload.remarks.is_empty(), "{:?}", workload.remarks);
    }
}

#[test]
fn several_documents_and_lists_give_their_workloads_in_order() {
    let text = "
# a comment alone
---
kind: Service
spec: {selector: {app: web}}
---
kind: List
items:
- {kind: Pod, metadata: {name: a, namespace: shop}, spec: {}}
- {kind: ConfigMap, data: {}}
- {kind: Job, metadata: {generateName: b-}, spec: {template: {spec: {}}}}
---
---
{\"kind\": \"Pod\", \"metadata\": {\"name\": \"c\"}, \"spec\": {}}
";
    let workloads = parse(text).unwrap().workloads;
    let shown: Vec<_> = workloads
        .iter()
        .map(|w| format!("{w} in {}", w.namespace))
        .collect();
    assert_eq!(
        shown,
        ["Pod a in shop", "Job b- in default", "Pod c in default"]
    );
}

#[test]
fn anchors_and_merge_keys_are_followed() {
    let text = "
kind: Pod
metadata: {name: x, annotations: {io.katacontainers.a: &v text, b: *v}}
spec:
  containers:
  - &base {name: a, resources: {limits: {cpu: 1}}}
  - {<<: *base, name: b}
";
    let workload = workload(text);
    assert_eq!(workload.annotations["b"], "text");
    assert_eq!(workload.resources.limits(), limits(200_000, 2048, 0));
}

#[test]
fn only_annotations_that_containerd_passes_reach_the_shim() {
    let text = "
kind: Pod
metadata:
  name: web
  namespace: shop
  annotations:
    io.katacontainers.config.hypervisor.kernel_params: agent.log=debug
    example.com/owner: me
    io.kubernetes.cri.sandbox-memory: '1'
spec:
  runtimeClassName: kata-qemu-snp
  containers:
  - {name: a, resources: {limits: {cpu: 1, memory: 1Gi}}}
";
    let annotations = workload(text).sandbox_annotations("abc");
    let shown: Vec<_> = annotations
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_snapshot!(shown.join("\n"), @r#"
    io.katacontainers.config.hypervisor.kernel_params=agent.log=debug
    io.kubernetes.cri.container-type=sandbox
    io.kubernetes.cri.sandbox-cpu-period=100000
    io.kubernetes.cri.sandbox-cpu-quota=100000
    io.kubernetes.cri.sandbox-cpu-shares=1024
    io.kubernetes.cri.sandbox-id=abc
    io.kubernetes.cri.sandbox-memory=1073741824
    io.kubernetes.cri.sandbox-name=web
    io.kubernetes.cri.sandbox-namespace=shop
    "#);
}

#[test]
fn mistakes_that_kubernetes_accepts_are_remarked() {
    let text = "
kind: Deployment
metadata:
  name: web
  annotations: {io.katacontainers.config.hypervisor.cc_init_data: H4sI}
spec:
  template:
    metadata: {annotations: {io.katacontainers.config.runtime.cc_init_data: H4sI}}
    spec: {containers: [{name: a}]}
";
    let remarks: Vec<_> = workload(text)
        .remarks
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_snapshot!(remarks.join("\n"), @r#"
    Deployment web names no runtimeClassName, so that its pods run without a virtual machine unless something else adds one
    Deployment web: annotation io.katacontainers.config.runtime.cc_init_data has no effect, initdata belongs into io.katacontainers.config.hypervisor.cc_init_data
    Deployment web: annotation io.katacontainers.config.hypervisor.cc_init_data stands on the Deployment instead of its pod template, where it has no effect
    "#);
}

#[test]
fn a_manifest_without_a_pod_names_what_it_holds() {
    assert_snapshot!(refusal("kind: Service\n---\nkind: ConfigMap\n"), @r#"
    [RDT-POD-004] Kubernetes manifest describes no pod: it holds ConfigMap, Service (hint: give a Pod, Deployment, ReplicaSet, StatefulSet, DaemonSet, Job or CronJob)
    "#);
    assert_snapshot!(refusal("# nothing\n"), @r#"
    [RDT-POD-004] Kubernetes manifest describes no pod: it holds nothing (hint: give a Pod, Deployment, ReplicaSet, StatefulSet, DaemonSet, Job or CronJob)
    "#);
    assert_snapshot!(refusal("kind: List\nitems: []\n"), @r#"
    [RDT-POD-004] Kubernetes manifest describes no pod: it holds nothing (hint: give a Pod, Deployment, ReplicaSet, StatefulSet, DaemonSet, Job or CronJob)
    "#);
}

#[test]
fn a_wrong_field_is_named_with_its_path() {
    let cases = [
        "just text",
        "- kind: Pod",
        "metadata: {}",
        "kind: [Pod]",
        "kind: Pod\nspec: text",
        "kind: Pod\nmetadata: {name: x}",
        "kind: Deployment\nmetadata: {name: x}\nspec: {replicas: 1}",
        "kind: Deployment\nmetadata: {name: x}\nspec: {template: {metadata: {}}}",
        "kind: Pod\nmetadata: {name: x, annotations: {a: 1}}\nspec: {}",
        "kind: Pod\nmetadata: {name: x, annotations: {a: yes}}\nspec: {}",
        "kind: Pod\nmetadata: {name: x}\nspec: {containers: {a: b}}",
        "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{resources: {limits: {cpu: two}}}]}",
        "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{resources: {limits: {cpu: -1}}}]}",
        "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{resources: {limits: {memory: [1]}}}]}",
        "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{resources: {limits: {memory: 7Ei}}}, {resources: {limits: {memory: 7Ei}}}]}",
        "---\nkind: Pod\nspec: {}\n---\nkind: 1\n",
    ];
    let refusals: Vec<_> = cases.iter().map(|text| refusal(text)).collect();
    assert_snapshot!(refusals.join("\n"), @r#"
    [RDT-POD-006] the document is not a mapping
    [RDT-POD-006] the document is not a mapping
    [RDT-POD-005] the document: kind is missing
    [RDT-POD-006] the document: kind is not text (hint: put quotes around the value, as Kubernetes demands it too)
    [RDT-POD-006] Pod without a name: spec is not a mapping
    [RDT-POD-005] Pod x: spec is missing
    [RDT-POD-005] Deployment x: spec.template is missing
    [RDT-POD-005] Deployment x: spec.template.spec is missing
    [RDT-POD-006] Pod x: metadata.annotations["a"] is not text (hint: put quotes around the value, as Kubernetes demands it too)
    [RDT-POD-006] Pod x: metadata.annotations["a"] is not text (hint: put quotes around the value, as Kubernetes demands it too)
    [RDT-POD-006] Pod x: spec.containers is not a list
    [RDT-POD-007] Pod x: spec.containers[0].resources.limits["cpu"] is no usable quantity: expected a number with a unit, such as 500m or 2Gi
    [RDT-POD-007] Pod x: spec.containers[0].resources.limits["cpu"] is no usable quantity: it is negative
    [RDT-POD-006] Pod x: spec.containers[0].resources.limits["memory"] is not a number or a quantity as text
    [RDT-POD-008] Pod x: spec: the sum of the containers' quantities is out of range
    [RDT-POD-006] document 2: kind is not text (hint: put quotes around the value, as Kubernetes demands it too)
    "#);
}

#[test]
fn what_is_not_yaml_is_refused_with_its_place() {
    assert_snapshot!(refusal("kind: Pod\nspec: {containers: [\n"), @r#"
    [RDT-POD-003] Kubernetes manifest is not YAML: unclosed bracket '[' at line 2, column 20 (hint: templates must be rendered first, for example by `helm template`)
    "#);
    assert_snapshot!(refusal("kind: Pod\nspec:\n  cpu: {{ .Values.cpu }}\n"), @r#"
    [RDT-POD-003] Kubernetes manifest is not YAML: expected string scalar at line 3, column 9 (hint: templates must be rendered first, for example by `helm template`)
    "#);
    assert_snapshot!(refusal("kind: Pod\nkind: Pod\nspec: {}\n"), @r#"
    [RDT-POD-003] Kubernetes manifest is not YAML: duplicate mapping key: kind, set DuplicateKeyPolicy in Options if acceptable at line 2, column 1 (hint: templates must be rendered first, for example by `helm template`)
    "#);
    assert_eq!(
        Manifest::parse(b"kind: P\xff"),
        Err(PodError::NotText { offset: 7 })
    );
    assert_eq!(
        Manifest::parse(&vec![b' '; (4 << 20) + 1]),
        Err(PodError::TooLarge)
    );
}

#[test]
fn annotations_beyond_the_limit_of_kubernetes_are_refused() {
    let text = format!(
        "kind: Pod\nmetadata: {{name: x, annotations: {{a: {}}}}}\nspec: {{}}",
        "b".repeat(256 * 1024)
    );
    assert_snapshot!(refusal(&text), @r#"
    [RDT-POD-009] Pod x: metadata.annotations has 262145 bytes, more than the 256 KiB that Kubernetes allows for all annotations
    "#);
}

#[test]
fn too_many_objects_are_refused() {
    let text = format!("kind: List\nitems: [{}]", "{kind: A},".repeat(1025));
    assert_eq!(parse(&text), Err(PodError::TooManyObjects));
}

/// Each level names the one before it nine times.
fn alias_bomb() -> String {
    let mut lines = vec![
        "kind: Pod\nmetadata: {name: x}\nspec: {}".to_owned(),
        "a0: &a0 [x, x, x, x, x, x, x, x, x]".to_owned(),
    ];
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        lines.push(format!("a{level}: &a{level} [{aliases}]"));
    }
    lines.join("\n")
}

#[test]
fn aliases_cannot_make_a_small_file_a_large_one() {
    assert!(matches!(parse(&alias_bomb()), Err(PodError::Yaml { .. })));
    let endless = "kind: &a [*a]\n";
    assert!(parse(endless).is_err());
}

#[test]
fn nesting_is_bounded() {
    let steps: Vec<_> = (1..500).map(|depth| " ".repeat(depth) + "a:").collect();
    for text in [
        format!(
            "kind: Pod\nspec: {}{}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        ),
        format!("kind: Pod\nspec: {}", "{a: ".repeat(1000)),
        format!("kind: Pod\nspec:\n{}", steps.join("\n")),
    ] {
        assert!(matches!(parse(&text), Err(PodError::Yaml { .. })));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::parse(&bytes);
    }

    #[test]
    fn no_text_makes_it_panic(text in "(kind|Pod|List|items|spec|metadata|containers|resources|limits|cpu|[-:{}\\[\\] \n,&*<'\"#!|>%@`]|[0-9]{1,3}|~|---\n){0,60}") {
        let _ = parse(&text);
    }
}
