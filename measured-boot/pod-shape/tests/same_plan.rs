//! A manifest and the OCI specification that containerd makes of it give the same plan.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::PathBuf;

use redoubt_firmware::Firmware;
use redoubt_launch_plan::{
    ConfigSource, Configuration, FirmwareFile, HostFacts, LaunchPlan, MeasuredFile, MeasuredFiles,
    SandboxRequest, plan,
};
use redoubt_pod_shape::Manifest;

const AMDSEV: &[u8] = include_bytes!("../../../firmware/testdata/ovmf_AmdSev_suffix.bin");
const CONFIGURATION: &str = r#"
[hypervisor.qemu]
path = "/q"
kernel = "/k"
initrd = "/i"
firmware = "/f"
confidential_guest = true
enable_annotations = ["kernel_params", "cc_init_data", "default_memory"]
"#;

/// As kubelet and containerd 1.7 write it, less what is the same for every pod.
const OCI_SPEC: &str = r#"{
  "ociVersion": "1.1.0",
  "process": {"user": {"uid": 65535, "gid": 65535}, "args": ["/pause"], "cwd": "/"},
  "root": {"path": "rootfs", "readonly": true},
  "hostname": "web",
  "annotations": {
    "io.katacontainers.config.hypervisor.default_memory": "3072",
    "io.katacontainers.config.hypervisor.kernel_params": "agent.log=debug",
    "io.kubernetes.cri.container-type": "sandbox",
    "io.kubernetes.cri.sandbox-cpu-period": "100000",
    "io.kubernetes.cri.sandbox-cpu-quota": "250000",
    "io.kubernetes.cri.sandbox-cpu-shares": "1280",
    "io.kubernetes.cri.sandbox-id": "abc",
    "io.kubernetes.cri.sandbox-log-directory": "/var/log/pods/shop_web-5c9_1f",
    "io.kubernetes.cri.sandbox-memory": "1610612736",
    "io.kubernetes.cri.sandbox-name": "web-5c9",
    "io.kubernetes.cri.sandbox-namespace": "shop",
    "io.kubernetes.cri.sandbox-uid": "5c0b2a52-0000-4000-8000-000000000000"
  },
  "linux": {"resources": {"cpu": {"shares": 2}}, "cgroupsPath": "kubepods-burstable.slice"}
}"#;

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  template:
    metadata:
      labels: {app: web}
      annotations:
        io.katacontainers.config.hypervisor.kernel_params: agent.log=debug
        io.katacontainers.config.hypervisor.default_memory: '3072'
        prometheus.io/scrape: 'true'
    spec:
      runtimeClassName: kata-qemu-snp
      initContainers:
      - {name: migrate, image: a, resources: {limits: {cpu: 2, memory: 1Gi}}}
      - {name: proxy, image: b, restartPolicy: Always,
         resources: {requests: {cpu: 250m}, limits: {cpu: 500m, memory: 512Mi}}}
      containers:
      - {name: web, image: c, resources: {requests: {cpu: 1}, limits: {cpu: 2, memory: 1Gi}}}
";

fn files() -> MeasuredFiles {
    let file = |path: &str| MeasuredFile {
        path: PathBuf::from(path),
        sha256: [7; 32],
        size_bytes: 4096,
    };
    MeasuredFiles {
        root_disk_bytes: None,
        qemu: PathBuf::from("/q"),
        kernel: file("/k"),
        initrd: file("/i"),
        firmware: Some(FirmwareFile {
            file: file("/f"),
            image: Firmware::parse(AMDSEV),
        }),
    }
}

fn launch(request: &SandboxRequest) -> LaunchPlan {
    let source = ConfigSource {
        name: "configuration.toml".to_owned(),
        text: CONFIGURATION.to_owned(),
    };
    let (configuration, _) = Configuration::from_sources(&[source]).unwrap();
    plan(&configuration, request, &HostFacts::assumed_snp(), &files()).unwrap()
}

fn from_manifest(text: &str) -> LaunchPlan {
    let manifest = Manifest::parse(text.as_bytes()).unwrap();
    launch(&manifest.workloads[0].sandbox_request("abc").unwrap())
}

#[test]
fn a_manifest_and_the_specification_made_of_it_give_the_same_plan() {
    let from_spec = launch(&SandboxRequest::from_oci_spec("abc", OCI_SPEC.as_bytes()).unwrap());
    let from_manifest = from_manifest(MANIFEST);
    assert_eq!(from_manifest, from_spec);
    assert_eq!((from_spec.vcpus, from_spec.memory_mib), (3, 1664));
    assert!(from_spec.cmdline.ends_with("agent.log=debug"));
}

#[test]
fn every_size_of_a_pod_has_a_digest_of_its_own() {
    let pod = |cpu: &str| {
        let limits = format!("{{limits: {{cpu: {cpu}}}}}");
        format!("kind: Pod\nspec: {{containers: [{{name: a, resources: {limits}}}]}}")
    };
    let plans = ["600m", "1600m", "3600m"].map(|cpu| from_manifest(&pod(cpu)));
    assert_eq!(plans.each_ref().map(|plan| plan.vcpus), [1, 2, 4]);
    let [one, two, four] = plans.map(|plan| plan.launch_digest().unwrap());
    assert!(one != two && two != four && one != four);
}
